package main

import (
	"context"
	"strings"
)

type report struct{}

func newReport(context.Context, *bench) *report { return &report{} }

func (*report) add(part, []result) {}

func (*report) write(string) error { return nil }

// markdown is the table of a result.
func (r result) markdown() string {
	var text strings.Builder
	text.WriteString("### " + r.title + "\n\n" + r.why + "\n\n")
	line := func(cells []string) { text.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(r.head)
	line(append([]string{"---"}, strings.Split(strings.Repeat("--:,", len(r.head)-1), ",")[:len(r.head)-1]...))
	for _, row := range r.rows {
		line(row)
	}
	return text.String()
}
