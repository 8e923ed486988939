package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	// sizeMax bounds what is read: the dump of a large mesh has some tens of MiB.
	sizeMax = 64 << 20
	// visitsMax bounds how many elements one rule looks at, an aliased one each time, and perByte what it may look at
	// beyond that for each byte of a file. It stops the file whose anchors name each other until a kilobyte stands
	// for a billion routes.
	visitsMax = 4 << 20
	perByte   = 8
	// nestingMax bounds what may contain itself: a filter of filters, by an alias of its own.
	nestingMax = 64
)

var (
	errTooLarge = fmt.Errorf("it is larger than %d MiB, or its aliases make it so", sizeMax>>20)
	errNoTree   = errors.New("it is neither YAML nor JSON with a mapping at its top")
)

// document is a file of YAML or JSON, which is YAML too, with the lines on which everything stands.
type document struct {
	root   *yaml.Node
	size   int
	visits int
}

func (d *document) visitsMax() int { return visitsMax + perByte*d.size }

func readDocument(text []byte) (*document, error) {
	if len(text) > sizeMax {
		return nil, errTooLarge
	}
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTree, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: there is a second document in it", errNoTree)
	}
	d := &document{root: root.Content[0], size: len(text)}
	if d.root.Kind != yaml.MappingNode {
		return nil, errNoTree
	}
	if err := unambiguous(d.root); err != nil {
		return nil, err
	}
	return d, nil
}

// unambiguous refuses what Envoy refuses, too, and what would make two readers see two files: a key
// that is there twice, and a merge key, which Envoy does not know.
func unambiguous(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Tag == "!!merge" {
				return fmt.Errorf("line %d: Envoy knows no merge keys (<<)", key.Line)
			}
			if seen[key.Value] {
				return fmt.Errorf("line %d: the key %q is there twice", key.Line, key.Value)
			}
			seen[key.Value] = true
		}
	}
	for _, child := range n.Content { // an alias has no content of its own
		if err := unambiguous(child); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) top() value { return value{doc: d, node: d.root} }

// value is a part of a document and its path from the top. The zero value is a part that is not there;
// asking it for its parts gives more such.
type value struct {
	doc  *document
	node *yaml.Node
	path string
	// lineOf is the line of what it is the value of, where that says more than its own.
	lineOf int
}

func (v value) exists() bool { return v.node != nil && v.node.Tag != "!!null" }

// line is where the value's key stands, or for a list's element, where it begins.
func (v value) line() int {
	switch {
	case v.lineOf != 0:
		return v.lineOf
	case v.node != nil:
		return v.node.Line
	default:
		return 0
	}
}

func (v value) child(n *yaml.Node, step string, line int) value {
	if v.doc.visits++; v.doc.visits > v.doc.visitsMax() {
		return value{}
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return value{doc: v.doc, node: n, path: strings.TrimPrefix(v.path+step, "."), lineOf: line}
}

// field is a field of a message: its name is in snake_case or in camelCase, Envoy takes both.
func (v value) field(names ...string) value {
	for _, name := range names {
		v = v.one(name, named)
	}
	return v
}

// entry is the entry of a map, by its exact key.
func (v value) entry(key string) value {
	return v.one(key, func(a, b string) bool { return a == b })
}

func (v value) one(name string, is func(key, name string) bool) value {
	if v.node == nil || v.node.Kind != yaml.MappingNode {
		return value{}
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if key := v.node.Content[i]; is(key.Value, name) {
			return v.child(v.node.Content[i+1], pathStep(key.Value), key.Line)
		}
	}
	return value{}
}

// pathStep is a key as a step of a path: one with dots in it is in brackets.
func pathStep(key string) string {
	if strings.ContainsAny(key, ".@/ ") {
		return "[" + strconv.Quote(key) + "]"
	}
	return "." + key
}

// items are the elements of a list.
func (v value) items() []value {
	if v.node == nil || v.node.Kind != yaml.SequenceNode {
		return nil
	}
	all := make([]value, 0, min(len(v.node.Content), visitsMax))
	for i, n := range v.node.Content {
		if item := v.child(n, "["+strconv.Itoa(i)+"]", n.Line); item.node != nil {
			all = append(all, item)
		}
	}
	return all
}

// entries are the keys and values of a map, in their order.
func (v value) entries() (keys []string, values []value) {
	if v.node == nil || v.node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.node.Content[i]
		if item := v.child(v.node.Content[i+1], pathStep(key.Value), key.Line); item.node != nil {
			keys, values = append(keys, key.Value), append(values, item)
		}
	}
	return keys, values
}

// text is a scalar as it is written, "" where there is none.
func (v value) text() string {
	if v.node == nil || v.node.Kind != yaml.ScalarNode || v.node.Tag == "!!null" {
		return ""
	}
	return v.node.Value
}

func (v value) isTrue() bool { return strings.EqualFold(v.text(), "true") }

// number is a number, or a default where there is none.
func (v value) number(without int) int {
	if n, err := strconv.Atoi(v.text()); err == nil {
		return n
	}
	return without
}

// is says whether an enum has one of the values. Protobuf's JSON has its name or its number.
func (v value) is(names ...string) bool { return slices.Contains(names, v.text()) }

// duration is a google.protobuf.Duration, or a default where there is none.
func (v value) duration(without time.Duration) time.Duration {
	if d, err := time.ParseDuration(v.text()); err == nil {
		return d
	}
	return without
}

// typed takes an Any apart: the name of its type, without what is before the last slash, and its message.
// A TypedStruct is what it stands for.
func (v value) typed() (name string, message value) {
	name = typeName(v.entry("@type").text())
	if name == "xds.type.v3.TypedStruct" || name == "udpa.type.v1.TypedStruct" {
		return typeName(v.field("type_url").text()), v.field("value")
	}
	return name, v
}

func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// named says whether a key is a field's name: as it is, or in camelCase as protobuf's JSON has it.
func named(key, field string) bool {
	if key == field {
		return true
	}
	upper := false
	for i := range len(field) {
		c := field[i]
		if c == '_' {
			upper = i > 0
			continue
		}
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = false
		if key == "" || key[0] != c {
			return false
		}
		key = key[1:]
	}
	return key == ""
}
