package settings

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Reference is the part of a reference page that describes each setting, in Markdown.
func (t *Table) Reference() string {
	var b strings.Builder
	section := "-"
	for _, s := range t.Settings {
		group, _, nested := strings.Cut(s.Key, ".")
		if !nested {
			group = ""
		}
		if group != section {
			section = group
			heading := "`" + group + "`"
			if group == "" {
				heading = "Top level"
			}
			fmt.Fprintf(&b, "\n## %s\n", heading)
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n", s.Key, Wrap(s.Doc, ""))
		def := "none"
		if texts := s.defaults(); strings.Join(texts, "") != "" {
			def = "`" + strings.Join(texts, ",") + "`"
		}
		reload := s.Reload
		if reload == "" {
			reload = "at the next start"
		}
		items := []string{"Default: " + def, "Environment variable: `" + t.Env(s) + "`", "Allowed: " + literal.Replace(s.Kind.Allowed), "A change counts: " + reload}
		if s.Secret {
			items = append(items, "**Secret**: no output shows it")
		}
		b.WriteString("\n")
		for _, item := range items {
			fmt.Fprintf(&b, "- %s\n", Wrap(item, "  "))
		}
	}
	return b.String()
}

// literal keeps Markdown from reading marks into a text.
var literal = strings.NewReplacer("*", `\*`, "_", `\_`, "~", `\~`, "[", `\[`, "<", `\<`)

// width is the longest line of a page.
const width = 100

// Wrap breaks Markdown prose into lines, of which all but the first begin with indent. It
// breaks no code span, and begins no line with what would make a list or a heading.
func Wrap(text, indent string) string {
	var b strings.Builder
	column := len(indent)
	for i, word := range words(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width && !strings.ContainsAny(word[:1], "-+#>*0123456789"):
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// words splits at spaces outside code spans. What may not begin a line stays with the word
// before it.
func words(text string) []string {
	var all []string
	for part := range strings.SplitSeq(text, " ") {
		last := len(all) - 1
		if last >= 0 && (strings.Count(all[last], "`")%2 == 1 || part == "" || part == "-" || part == "+") {
			all[last] += " " + part
			continue
		}
		all = append(all, part)
	}
	return all
}
