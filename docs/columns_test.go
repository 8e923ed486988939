package docs_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// mayBeLong are the lines that nothing wraps: tables, headings, HTML, and a link that is alone on its
// line, also as an item of a list.
var mayBeLong = regexp.MustCompile(`^\s*(\||#|<)|^\s*([-*>]|\d+\.)?\s*!?\[[^\]]*\](\([^)]*\)|: *\S+)[.,;:]?$|^\s*([-*>]|\d+\.)?\s*<?https?://\S+$`)

// TestColumns holds prose to 100 columns, so that a diff shows the sentence that changed.
func TestColumns(t *testing.T) {
	t.Parallel()
	const most = 100
	for name, text := range documents(t) {
		text = fenced.ReplaceAllStringFunc(text, func(block string) string {
			return strings.Repeat("\n", strings.Count(block, "\n")) // the numbers of the lines stay
		})
		number := 0
		for line := range strings.Lines(text) {
			number++
			line = strings.TrimRight(line, "\n")
			if n := utf8.RuneCountInString(line); n > most && !mayBeLong.MatchString(line) {
				t.Errorf("%s:%d has %d columns: wrap prose at %d", name, number, n, most)
			}
		}
	}
}
