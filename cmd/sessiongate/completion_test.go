package main

import (
	"strings"
	"testing"
)

// What may come next follows from the grammar of the command line, whatever stands before.
func TestComplete(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct{ offered, not string }{
		"":                                  {"serve keys completion", "complete :files --help"},
		"keys ":                             {"new list rotate", "serve"},
		"keys rotate --":                    {"--kind --config --help", "--mode --version=x rotate"},
		"keys rotate --kind ":               {"both signing sealing", "--kind :files"},
		"keys rotate --kind=s":              {"--kind=signing --kind=sealing", "signing"},
		"keys rotate --kind signing --":     {"--config", "--kind"},
		"--config x keys ":                  {"new rotate", "x"},
		"--config ":                         {":files", "serve"},
		"--config=":                         {":files", "serve"},
		"config --":                         {"--reference", ""},
		"config explain --extension a=b --": {"--extension", ""}, // it may be repeated
		"keys new ":                         {":files", ""},
		"keys new one two ":                 {":files", ""},
		"keys digest file ":                 {"", ":files"},
		"envoy patch -w ":                   {":files", ""},
		"envoy patch -- --":                 {":files", "--write"},
		"doctor --envoy ":                   {":files", ""},
		"doctor --url ":                     {"", ":files"},
		"profile ":                          {"cpu trace", ":files"},
		"profile cpu --":                    {"--seconds", "cpu"},
		"profile cpu ":                      {"", "cpu"},
		"completion ":                       {"bash zsh fish", ""},
		"no such --flag ":                   {"", "serve"},
		"keys --unknown=":                   {"", "--unknown= new"},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, nil, append([]string{"complete", "--"}, strings.Split(line, " ")...)...)
			if err != nil {
				t.Fatal(err)
			}
			offered := map[string]bool{}
			for l := range strings.Lines(out) {
				word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
				offered[word] = true
			}
			for word := range strings.FieldsSeq(want.offered) {
				if !offered[word] {
					t.Errorf("%s is not offered:\n%s", word, out)
				}
			}
			for word := range strings.FieldsSeq(want.not) {
				if offered[word] {
					t.Errorf("%s is offered:\n%s", word, out)
				}
			}
		})
	}
}
