package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// The manual page has every command and flag, and groff has no complaint about it.
func TestManual(t *testing.T) {
	t.Parallel()
	page, err := run(t, nil, "man")
	if err != nil {
		t.Fatal(err)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Fatal("this test needs groff: apt-get install groff-base")
	}
	c := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-ww", "-P-cbou", "-rLL=400n")
	c.Stdin = strings.NewReader(page)
	var complaints bytes.Buffer
	c.Stderr = &complaints
	text, err := c.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("groff: %v\n%s", err, complaints.String())
	}
	plain := strings.Join(strings.Fields(string(text)), " ")
	var commands commands
	parser, err := kong.New(&commands, grammar(&commands, process{})...)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(true) {
		for _, want := range []string{"sessiongate " + command.Path(), command.Help, command.Detail} {
			if want = strings.Join(strings.Fields(want), " "); !strings.Contains(plain, want) {
				t.Errorf("%s: the page does not say %q", command.Path(), want)
			}
		}
		for _, flag := range command.Flags {
			if !strings.Contains(plain, "--"+flag.Name) || !strings.Contains(plain, flag.Help) {
				t.Errorf("%s: the page does not say --%s", command.Path(), flag.Name)
			}
		}
	}
}

// No text can become a request or an escape of roff.
func TestRoff(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`.so /etc/passwd`: `\&.so /etc/passwd`,
		"a\n.so b":        "a\n\\&.so b",
		`'so b`:           `\(aqso b`,
		`a\n(x`:           `a\en(x`,
		"--flag `x`":      "\\-\\-flag \\(gax\\(ga",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
