package settings

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/internal/nearest"
)

// Plain reports and refuses what lets YAML say one thing in two ways.
func (r *Reader) Plain(node *yaml.Node, key string) bool {
	switch {
	case node.Kind == yaml.AliasNode:
		r.Report(r.At(node), key, "an alias", "the value itself")
	case node.Anchor != "":
		r.Report(r.At(node), key, "an anchor", "a value without one")
	case node.Style&yaml.TaggedStyle != 0:
		r.Report(r.At(node), key, "a tag", "a value without one")
	default:
		return true
	}
	return false
}

// Pairs are the keys and values of a mapping, except for those that are faults. A key that is
// not among names is one. Without names any key may stand there; allowed then says which.
func (r *Reader) Pairs(mapping *yaml.Node, at string, names []string, allowed string) iter.Seq2[string, *yaml.Node] {
	if names != nil {
		allowed = "keys among " + strings.Join(names, ", ")
	}
	return func(yield func(string, *yaml.Node) bool) {
		first := make(map[string]int) // lines
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			key, value := mapping.Content[i], mapping.Content[i+1]
			if !r.Plain(key, at) {
				continue
			}
			if key.Kind != yaml.ScalarNode || key.ShortTag() != TagText {
				r.Report(r.At(key), at, "a key that is no text", allowed)
				continue
			}
			if names != nil && !slices.Contains(names, key.Value) {
				r.Report(r.At(key), at, FoundUnknown(key.Value, nearest.Name(key.Value, names)), allowed)
				continue
			}
			if line, again := first[key.Value]; again {
				r.Report(r.At(key), at+"."+key.Value, fmt.Sprintf("a second value (the first is in line %d)", line), "one value")
				continue
			}
			first[key.Value] = key.Line
			if !yield(key.Value, value) {
				return
			}
		}
	}
}

// Text is a text that is not empty. Anything else is reported as a fault of field.
func (r *Reader) Text(node *yaml.Node, field, allowed string) string {
	if !r.Plain(node, field) {
		return ""
	}
	if node.Kind != yaml.ScalarNode || node.ShortTag() != TagText || node.Value == "" {
		r.Report(r.At(node), field, Describe(node, false), allowed)
		return ""
	}
	return node.Value
}

// ScalarText is what a scalar of YAML says, where that is the same to every reader: off, 600
// and true are what they look like. 0x10, 1_0, 1e3, True and no value at all are not.
func ScalarText(node *yaml.Node) (string, bool) {
	text := node.Value
	if node.Kind != yaml.ScalarNode {
		return "", false
	}
	switch node.ShortTag() {
	case TagText:
		return text, true
	case TagBoolean:
		return text, text == "true" || text == "false"
	case TagInteger:
		n, err := strconv.ParseInt(text, 10, 64)
		return text, err == nil && strconv.FormatInt(n, 10) == text
	case "!!float":
		f, err := strconv.ParseFloat(text, 64)
		return text, err == nil && strconv.FormatFloat(f, 'f', -1, 64) == text
	default:
		return "", false
	}
}

// Describe says what a node is. It never shows the text if that is secret, or if the text may
// have been meant for another place.
func Describe(node *yaml.Node, secret bool) string {
	switch node.Kind { //nolint:exhaustive // Plain has refused aliases; the rest are scalars
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	tags := map[string]string{
		TagText: "the text", TagInteger: "the number", "!!float": "the number", TagBoolean: "the truth value",
		"!!null": "nothing", "!!timestamp": "the date", "!!merge": "the merge key",
	}
	what, ok := tags[node.ShortTag()]
	switch {
	case what == "nothing":
		return what
	case !ok:
		what = "the value"
	}
	if secret {
		return strings.Replace(what, "the ", "a ", 1) + " (not shown)"
	}
	if node.ShortTag() == TagText {
		return what + " " + Quoted(node.Value)
	}
	return what + " " + strings.Trim(Quoted(node.Value), `"`)
}
