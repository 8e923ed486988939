package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/internal/nearest"
)

func (r *Reader) readFile(content []byte) {
	documents := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	switch err := documents.Decode(&document); {
	case errors.Is(err, io.EOF):
		return // empty, or comments only
	case err != nil:
		r.reportSyntax(err)
		return
	}
	switch err := documents.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.reportSyntax(err)
	default:
		r.Report(r.At(&second), "", "a second document", "one document")
	}
	r.readSection(document.Content[0], "")
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// reportSyntax passes on what the parser says, except for messages that repeat the file's
// text, which may be a secret.
func (r *Reader) reportSyntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	at := Origin{File: r.file, Line: 1}
	if m := syntaxLine.FindStringSubmatch(message); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	found := "broken YAML (" + message + ")"
	if strings.Contains(message, "anchor") {
		found = "an alias"
	} else if strings.Contains(message, "cannot decode") {
		found = "a tag that does not fit its value"
	}
	r.Report(at, "", found, "one YAML mapping without aliases, anchors and tags")
}

// readSection walks one section; its prefix ends in a dot, or is empty.
func (r *Reader) readSection(mapping *yaml.Node, prefix string) {
	section := strings.TrimSuffix(prefix, ".")
	if !r.Plain(mapping, section) {
		return
	}
	if mapping.Kind != yaml.MappingNode {
		r.Report(r.At(mapping), section, Describe(mapping, true), "a mapping of "+r.Table.below(prefix))
		return
	}
	first := make(map[string]int) // lines
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name, value := mapping.Content[i], mapping.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.ShortTag() != TagText {
			found := "a merge key"
			if name.ShortTag() != "!!merge" {
				found = "a key that is no text"
			}
			r.Report(r.At(name), section, found, "keys among "+r.Table.below(prefix))
			continue
		}
		if !r.Plain(name, section) {
			continue
		}
		key := prefix + name.Value
		s, known := r.Table.Find(key)
		if strings.Contains(name.Value, ".") || (!known && !r.Table.isSection(key)) {
			r.reportUnknown(name, prefix)
			continue
		}
		if line, again := first[name.Value]; again {
			r.Report(r.At(name), key, fmt.Sprintf("a second value (the first is in line %d)", line), "one value")
			continue
		}
		first[name.Value] = name.Line
		if known {
			r.readSetting(s, value)
		} else {
			r.readSection(value, key+".")
		}
	}
}

func (r *Reader) readSetting(s Setting, value *yaml.Node) {
	r.Origins[s.Key] = r.At(value)
	if s.Kind.Read != nil {
		s.Kind.Read(r, s.Key, value)
		return
	}
	if !s.Kind.List {
		if s.Kind.Reset(); !r.readScalar(s, value) {
			r.restore(s)
		}
		return
	}
	if !r.Plain(value, s.Key) {
		return
	}
	if value.Kind != yaml.SequenceNode {
		r.Report(r.At(value), s.Key, Describe(value, s.Secret), s.Kind.Allowed)
		return
	}
	s.Kind.Reset()
	for _, item := range value.Content {
		r.readScalar(s, item)
	}
}

func (r *Reader) readScalar(s Setting, node *yaml.Node) bool {
	if !r.Plain(node, s.Key) {
		return false
	}
	if node.Kind != yaml.ScalarNode || (s.Kind.Tag != "" && node.ShortTag() != s.Kind.Tag) || !s.Kind.Set(node.Value) {
		r.Report(r.At(node), s.Key, Describe(node, s.Secret), s.Kind.Allowed)
		return false
	}
	return true
}

func (r *Reader) reportUnknown(name *yaml.Node, prefix string) {
	found := FoundUnknown(name.Value, cmp.Or(r.elsewhere(name.Value), nearest.Name(name.Value, r.Table.names(prefix))))
	// Not unsound: no setting has this key.
	r.Faults = append(r.Faults, Fault{r.At(name), strings.TrimSuffix(prefix, "."), found, r.Table.below(prefix)})
}

// elsewhere looks for a key of this name in other sections, or written with dots.
func (r *Reader) elsewhere(name string) string {
	for _, s := range r.Table.Settings {
		if s.Key == name {
			section, rest, _ := strings.Cut(name, ".")
			return rest + " in the mapping " + section
		}
		if strings.HasSuffix(s.Key, "."+name) {
			return s.Key
		}
	}
	return ""
}
