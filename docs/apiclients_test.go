package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestClientExamples: each example of the page is a part of a program that other tests run.
func TestClientExamples(t *testing.T) {
	t.Parallel()
	_, section, found := strings.Cut(documents(t)["docs/api.md"], "\n## Clients\n")
	if !found {
		t.Fatal("docs/api.md has no section Clients")
	}
	programs := map[string]string{}
	for language, patterns := range map[string][]string{
		"go":     {"../sessions/sessionclient/example_test.go", "../envoy/testdata/apiclients/go/main.go"},
		"ts":     {"../envoy/testdata/apiclients/typescript/*.ts"},
		"python": {"../envoy/testdata/apiclients/python/main.py"},
	} {
		for _, pattern := range patterns {
			files, err := filepath.Glob(pattern)
			if err != nil || len(files) == 0 {
				t.Fatalf("%s: %v, %v", pattern, files, err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				programs[language] += string(text)
			}
		}
	}
	shown := map[string]int{}
	for _, block := range regexp.MustCompile("(?ms)^```(go|ts|python)\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		shown[block[1]]++
		if !strings.Contains(programs[block[1]], "\n"+block[2]) {
			t.Errorf("no program has these lines:\n%s", block[2])
		}
	}
	if shown["go"] < 2 || shown["ts"] < 4 || shown["python"] < 2 {
		t.Errorf("examples: %v", shown)
	}
}
