// Package docs_test holds the documents to what can be checked of them: their links, and the tests that they cite.
package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents are all Markdown files of the repository, by their path from its root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules" || entry.Name() == "bin"):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		found[filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 5 {
		t.Fatalf("only %d documents", len(found))
	}
	return found
}

var (
	fenced = regexp.MustCompile("(?ms)^( *)```.*?^ *```$")
	code   = regexp.MustCompile("`[^`\n]*`")
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"`)
	// not are the characters that GitHub leaves out of a heading's anchor.
	not = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]`)
)

// anchors are the names of a document's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(fenced.ReplaceAllString(text, "")) {
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		title = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.TrimSpace(title), "$1")
		name := strings.ReplaceAll(not.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
		for n, again := 1, name; names[name]; n++ {
			name = fmt.Sprintf("%s-%d", again, n)
		}
		names[name] = true
	}
	return names
}

// TestLinks follows each relative link and anchor of each document.
func TestLinks(t *testing.T) {
	t.Parallel()
	all := documents(t)
	followed := 0
	for name, text := range all {
		plain := code.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")
		for _, found := range link.FindAllStringSubmatch(plain, -1) {
			target := found[1] + found[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			followed++
			path, anchor, _ := strings.Cut(target, "#")
			file := name
			if path != "" {
				file = filepath.ToSlash(filepath.Join(filepath.Dir(name), path))
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, target)
				continue
			}
			if anchor == "" {
				continue
			}
			if text, ok := all[file]; !ok || !anchors(text)[anchor] {
				t.Errorf("%s links to %s, and there is no such heading", name, target)
			}
		}
	}
	if followed < 20 {
		t.Errorf("only %d links were found", followed)
	}
}

// citation is a Go file, and tests, subtests or scenarios in it: `sessions/chain_test.go` `TestChain`.
var citation = regexp.MustCompile("`([\\w/]+\\.go)`((?:,?\\s`[^`\n.]+`)+)")

// TestCitedTestsExist looks for each test that a document names as what shows a promise.
func TestCitedTestsExist(t *testing.T) {
	t.Parallel()
	all, cited := documents(t), map[string]int{}
	for name, text := range all {
		for _, found := range citation.FindAllStringSubmatch(text, -1) {
			if !strings.HasSuffix(found[1], "_test.go") && !strings.HasSuffix(found[1], "scenarios.go") {
				continue
			}
			source, err := os.ReadFile(filepath.Join("..", found[1]))
			if err != nil {
				t.Errorf("%s cites %s: %v", name, found[1], err)
				continue
			}
			for _, cite := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(found[2], -1) {
				cited[name]++
				test := regexp.QuoteMeta(cite[1])
				// A test; a subtest; a scenario of the table.
				if !regexp.MustCompile(`(?m)^func ` + test + `\(t |t\.Run\("` + test + `"|^\t+"` + test + `": `).Match(source) {
					t.Errorf("%s cites %q of %s, which has no such test", name, cite[1], found[1])
				}
			}
		}
	}
	for _, name := range []string{"docs/security.md", "docs/refresh.md", "docs/coming-from.md"} {
		if cited[name] < 10 {
			t.Errorf("%s cites %d tests: is it still read?", name, cited[name])
		}
	}
}

// TestRunbooks: each alert's runbook is a heading of the operations page, and the
// page explains no alert that there is not.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page := documents(t)["docs/operations.md"]
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	for _, alert := range alerts {
		if !strings.Contains(page, "\n### "+alert[1]+"\n") {
			t.Errorf("docs/operations.md does not explain %s", alert[1])
		}
		if !strings.Contains(string(rules), "/docs/operations.md#"+strings.ToLower(alert[1])+"\n") {
			t.Errorf("%s has no runbook", alert[1])
		}
	}
	if n := strings.Count(page, "\n### Sessiongate"); n != len(alerts) || n == 0 {
		t.Errorf("%d explained, %d alerts", n, len(alerts))
	}
}
