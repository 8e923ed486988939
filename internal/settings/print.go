package settings

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// yaml is the value as YAML, and a note on what is left out; false if it is a secret without
// a public part.
func (s Setting) yaml() (value, note string, ok bool) {
	texts := s.Kind.Texts()
	if s.Secret && strings.Join(texts, "") != "" {
		if s.Public == nil {
			return Redacted, "", false
		}
		text, rest := s.Public()
		texts, note = []string{text}, rest
	}
	if s.Kind.Tag == TagText {
		for i, t := range texts {
			texts[i] = strconv.Quote(t)
		}
	}
	if s.Kind.List {
		return "[" + strings.Join(texts, ", ") + "]", note, true
	}
	return texts[0], note, true
}

// Print writes the values as YAML that Load reads again, each line with the place its value
// came from. Secrets stand in comments, as [Redacted].
func (t *Table) Print(w io.Writer, from Origins) error {
	var b strings.Builder
	section := ""
	for _, s := range t.Settings {
		name, indent := s.Key, ""
		if group, rest, nested := strings.Cut(s.Key, "."); nested {
			if group != section {
				fmt.Fprintf(&b, "\n%s:\n", group)
				section = group
			}
			name, indent = rest, "  "
		}
		if s.Kind.Read != nil {
			s.printItems(&b, from)
			continue
		}
		value, note, ok := s.yaml()
		comment := QuoteUnlessPlain(from[s.Key].String())
		if !ok {
			indent += "# "
		} else if note != "" {
			comment += ", " + note
		}
		fmt.Fprintf(&b, "%s%s: %s # %s\n", indent, name, value, comment)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printItems prints one item a line, each with its own place.
func (s Setting) printItems(b *strings.Builder, from Origins) {
	fmt.Fprintf(b, "%s: ", s.Key)
	texts := s.Kind.Texts()
	if len(texts) == 0 {
		b.WriteString("[] ")
	}
	fmt.Fprintf(b, "# %s\n", QuoteUnlessPlain(from[s.Key].String()))
	for i, text := range texts {
		fmt.Fprintf(b, "  - %s # %s\n", text, QuoteUnlessPlain(from[fmt.Sprintf("%s[%d]", s.Key, i)].String()))
	}
}

// JSON is the values by key, for logs. Secrets stand there as [Redacted].
func (t *Table) JSON() ([]byte, error) {
	values := make(map[string]string, len(t.Settings))
	for _, s := range t.Settings {
		if s.Kind.Read != nil {
			values[s.Key] = "[" + strings.Join(s.Kind.Texts(), ", ") + "]"
			continue
		}
		value, note, _ := s.yaml()
		if note != "" {
			value += ", " + note
		}
		values[s.Key] = value
	}
	return json.Marshal(values)
}
