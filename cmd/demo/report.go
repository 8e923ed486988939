package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// The colours of a terminal (ECMA-48 SGR).
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// report prints the demo for a reader.
type report struct {
	w      io.Writer
	colour bool
	number int // of the last step
}

// newReport uses colours where a person looks on and did not ask for none
// (no-color.org).
func newReport(f *os.File) *report {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &report{w: f, colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (r *report) linef(format string, args ...any) {
	// Without a reader the demo goes on: its exit code is an answer, too.
	_, _ = fmt.Fprintln(r.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (r *report) in(colour, text string) string {
	if !r.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// part says what is being started.
func (r *report) part(name, what string) {
	r.linef("%-12s %s", name, r.in(dim, what))
}

func (r *report) chapter(title string) {
	r.linef("\n%s", r.in(bold, title))
}

// note tells what happens between two requests.
func (r *report) note(text string) {
	r.linef("%s", r.in(dim, "  ..  "+text))
}

// step prints one request and its answer; err is how it differs from what was promised.
func (r *report) step(s step, status int, err error) {
	r.number++
	path := s.path
	if len(s.all) > 0 {
		path += fmt.Sprintf(" x%d", len(s.all))
	}
	number, says, colour := fmt.Sprintf("%4d", r.number), s.says, green
	if err != nil {
		says, colour = r.in(red, "FAILED: "+err.Error()), red
	}
	code := "---" // no answer at all
	if status != 0 {
		code = fmt.Sprintf("%03d", status)
	}
	if err == nil && s.denial != "" {
		says += " " + r.in(dim, "["+s.denial+"]")
	}
	r.linef("%s  %-4s %-25s %s  %s", r.in(dim, number), s.method, path, r.in(colour, code), says)
}
