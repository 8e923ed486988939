package main

import (
	"regexp"
	"strings"
	"testing"
)

var describedRange = regexp.MustCompile(`from (\S+?) to (\S+?)(,|$)`)

// What a fault calls allowed must be.
func TestDescribedRangesAreTaken(t *testing.T) {
	t.Parallel()
	ranges := 0
	for _, s := range table(new(Config)).Settings {
		m := describedRange.FindStringSubmatch(s.Kind.Allowed)
		if m == nil {
			continue
		}
		ranges++
		for _, end := range m[1:3] {
			if !s.Kind.Set(end) || s.Kind.Texts()[0] != end {
				t.Errorf("%s: %s is refused, or printed as %s", s.Key, end, s.Kind.Texts()[0])
			}
		}
	}
	if ranges < 20 {
		t.Errorf("only %d ranges found", ranges)
	}
}

func TestDescribedChoicesAreTaken(t *testing.T) {
	t.Parallel()
	for _, s := range table(new(Config)).Settings {
		choices, ok := strings.CutPrefix(s.Kind.Allowed, "one of ")
		if !ok {
			continue
		}
		for c := range strings.SplitSeq(choices, ", ") {
			if content, _ := nested(s.Key, c); !s.Kind.Set(c) {
				t.Errorf("%s: %s is refused", s.Key, c)
			} else if _, _, err := parse("", []byte(content), nil); err != nil {
				t.Errorf("%s: %s is refused in YAML: %v", s.Key, c, err)
			}
		}
	}
}
