package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestREADMEShowsTheDemo plays the whole demo, and holds the README to what it prints.
func TestREADMEShowsTheDemo(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- demo -->\n```text\n", "```\n<!-- /demo -->\n"
	_, rest, found := strings.Cut(string(readme), begin)
	shown, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("README.md has no block between %q and %q", begin, end)
	}

	cmd := demo(t, "--once")
	var failure strings.Builder
	cmd.Stderr = &failure
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("demo --once: %v\n%s%s", err, printed, failure.String())
	}
	if diff := cmp.Diff(strings.Split(string(printed), "\n"), strings.Split(shown, "\n")); diff != "" {
		t.Errorf("README.md shows another demo (-printed +README):\n%s\nThe block should hold:\n%s", diff, printed)
	}
}
