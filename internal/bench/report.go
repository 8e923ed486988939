package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/envoy"
)

// report writes into the pages of the parts: one section for each part, between <!-- bench: PART --> and
// <!-- /bench: PART -->. So one part can be measured again without the others.
type report struct{ machine string }

// machine names the machine, as it is at the start of a run.
func machine(ctx context.Context, b *bench) string {
	facts := append(describe(), runtime.Version(), "Envoy "+envoy.Version)
	// Of the newest in a distribution's folder, which is the one that is started.
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) > 0 {
		if text, err := exec.CommandContext(ctx, found[len(found)-1], "--version").Output(); err == nil {
			facts = append(facts, "Postgres "+strings.Fields(string(text))[2])
		}
	}
	facts = append(facts, time.Now().UTC().Format(time.DateOnly), fmt.Sprintf("%d rounds of %s", b.rounds, b.turn))
	return strings.Join(facts, "; ")
}

// write puts a part's section into the page, and its plots beside it. A page without the part's markers
// is an error.
func (r report) write(dir string, p part, results []result) error {
	page := filepath.Join(dir, p.page)
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	open, end := "<!-- bench: "+p.name+" -->\n", "<!-- /bench: "+p.name+" -->"
	before, rest, found := strings.Cut(string(text), open)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("writing the report: %s has no lines %q and %q", page, strings.TrimSpace(open), end)
	}
	plots := filepath.Join(dir, "performance")
	if err := os.MkdirAll(plots, 0o755); err != nil { //nolint:gosec // pages are for all
		return fmt.Errorf("writing the report: %w", err)
	}
	var body strings.Builder
	body.WriteString("\n" + wrapped(r.machine+".") + "\n\n")
	for _, result := range results {
		body.WriteString(result.markdown() + "\n")
		if len(result.bars) == 0 {
			continue
		}
		name := p.name + "-" + slug(result.title) + ".svg"
		if err := os.WriteFile(filepath.Join(plots, name), []byte(result.svg()), 0o644); err != nil { //nolint:gosec // pages are for all
			return fmt.Errorf("writing the report: %w", err)
		}
		body.WriteString("![" + result.title + ": " + result.unit + "](performance/" + name + ")\n\n")
	}
	if err := os.WriteFile(page, []byte(before+open+body.String()+end+after), 0o644); err != nil { //nolint:gosec // pages are for all
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

var notInSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slug is a title as a part of a file's name.
func slug(title string) string {
	return strings.Trim(notInSlug.ReplaceAllString(strings.ToLower(title), "-"), "-")
}

// wrapped is prose in lines of at most 100 columns, as the project's pages have it.
func wrapped(text string) string {
	const most = 100
	var out strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch size := len([]rune(word)); {
		case column == 0:
			column = size
		case column+1+size > most:
			out.WriteByte('\n')
			column = size
		default:
			out.WriteByte(' ')
			column += 1 + size
		}
		out.WriteString(word)
	}
	return out.String()
}

// markdown is the table of a result.
func (r result) markdown() string {
	var text strings.Builder
	text.WriteString("### " + r.title + "\n\n" + wrapped(r.why) + "\n\n")
	line := func(cells []string) { text.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(r.head)
	under := make([]string, len(r.head))
	for i := range under {
		under[i] = "---:"
	}
	if r.head[0] == "" {
		under[0] = "---" // names
	}
	line(under)
	for _, row := range r.rows {
		line(row)
	}
	return text.String()
}
