package sessions

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A denial that is not in the list is counted as "other", and its cause is lost.
func TestDenialsAreAll(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, d := range Denials() {
		listed[d.Message] = true
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	literal := regexp.MustCompile(`&Denial\{\w+, "[^"]*", "([^"]*)"\}`)
	made := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		made += strings.Count(string(source), "&Denial{")
		for _, m := range literal.FindAllStringSubmatch(string(source), -1) {
			if !listed[m[1]] {
				t.Errorf("%s: %q is not in Denials", f.Name(), m[1])
			}
		}
	}
	if made != len(listed) {
		t.Errorf("%d are made, %d listed", made, len(listed))
	}
	if slices.Contains(Denials(), nil) {
		t.Error("nil is no denial")
	}
}
