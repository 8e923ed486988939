package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

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
	if err := encoded(text); err != nil {
		return nil, err
	}
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	d := &document{size: len(text)}
	if err := decoder.Decode(&root); err == nil {
		d.root = root.Content[0]
	} else if json.Valid(text) { // JSON's escapes \/ and \ud83d\ude00 are none of YAML's
		d.root = (&jsonReader{decoder: json.NewDecoder(bytes.NewReader(text)), text: text, line: 1}).node()
		return d, d.sound()
	} else {
		return nil, fmt.Errorf("%w: %w", errNoTree, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: there is a second document in it", errNoTree)
	}
	return d, d.sound()
}

// sound says whether the document is a mapping that all readers read alike.
func (d *document) sound() error {
	if d.root.Kind != yaml.MappingNode {
		return errNoTree
	}
	return unambiguous(d.root, ofFields)
}

// encoded says where a text is not UTF-8.
func encoded(text []byte) error {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return errors.New("it is written in UTF-16: write it in UTF-8")
	}
	number := 0
	for line := range bytes.Lines(text) {
		if number++; !utf8.Valid(line) {
			return fmt.Errorf("line %d: it is not written in UTF-8", number)
		}
	}
	return nil
}

// jsonReader makes a tree of valid JSON as the reader of YAML would.
type jsonReader struct {
	decoder      *json.Decoder
	text         []byte
	at           int // the offset up to which lines are counted
	line, column int
}

func (r *jsonReader) node() *yaml.Node {
	from := int(r.decoder.InputOffset())
	from += len(r.text[from:]) - len(bytes.TrimLeft(r.text[from:], " \t\r\n,:"))
	passed := r.text[r.at:from]
	if last := bytes.LastIndexByte(passed, '\n'); last >= 0 {
		r.line, r.column, passed = r.line+bytes.Count(passed, []byte("\n")), 0, passed[last+1:]
	}
	r.at, r.column = from, r.column+utf8.RuneCount(passed)
	r.decoder.UseNumber()
	token, _ := r.decoder.Token() // the text is valid
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line, Column: r.column + 1}
	switch token := token.(type) {
	case json.Delim:
		n.Kind, n.Tag, n.Style = yaml.MappingNode, "!!map", yaml.FlowStyle
		if token == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for r.decoder.More() {
			n.Content = append(n.Content, r.node())
		}
		_, _ = r.decoder.Token() // its end
	case string:
		n.Tag, n.Style, n.Value = "!!str", yaml.DoubleQuotedStyle, token
	case json.Number:
		n.Tag, n.Value = "!!int", token.String()
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(token)
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n
}

// The keys of these are a user's own, and no fields: of a map alone, or of all that is in it as well.
var (
	ownKeys    = []string{"typed_per_filter_config", "typed_extension_protocol_options", "typed_filter_metadata", "context_extensions"}
	ownKeysAll = []string{"metadata", "filter_metadata", "static_layer", "json_format", "typed_json_format"}
)

// keys says what the keys of a mapping are.
type keys int

const (
	ofFields keys = iota
	ofMap         // the keys of what is in it are fields again
	ofMaps
)

// unambiguous refuses what Envoy refuses, too, and what would make two readers see two files: a key
// that is there twice, and a merge key, which Envoy does not know. Of one field in both its spellings,
// failureModeAllow and failure_mode_allow, Envoy believes one: a reviewer may have read the other.
func unambiguous(n *yaml.Node, are keys) error {
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content { // an alias has no content of its own
			if err := unambiguous(child, are); err != nil {
				return err
			}
		}
		return nil
	}
	seen := make(map[string]string, len(n.Content)/2)
	for i := 0; i < len(n.Content); i += 2 {
		key, name := n.Content[i], n.Content[i].Value
		if key.Tag == "!!merge" {
			return fmt.Errorf("line %d: Envoy knows no merge keys (<<)", key.Line)
		}
		if are == ofFields {
			name = camel(name)
		}
		switch other, again := seen[name]; {
		case again && other == key.Value:
			return fmt.Errorf("line %d: the key %q is there twice", key.Line, key.Value)
		case again:
			return fmt.Errorf("line %d: the field %q is there twice, the first time as %q", key.Line, key.Value, other)
		}
		seen[name] = key.Value
		below := ofFields
		if is := func(field string) bool { return named(key.Value, field) }; are == ofMaps || slices.ContainsFunc(ownKeysAll, is) {
			below = ofMaps
		} else if slices.ContainsFunc(ownKeys, is) {
			below = ofMap
		}
		if err := unambiguous(n.Content[i+1], below); err != nil {
			return err
		}
	}
	return nil
}

// camel is a field's name as protobuf's JSON has it.
func camel(name string) string {
	if !strings.Contains(name, "_") {
		return name
	}
	var b strings.Builder
	upper := false
	for i := range len(name) {
		c := name[i]
		if c == '_' {
			upper = true
			continue
		}
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = false
		b.WriteByte(c)
	}
	return b.String()
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

// isTrue reads a boolean as Envoy does. Its reader of YAML is one of YAML 1.1, where "on" is true without
// quotes, and protobuf takes more words, in any case and in quotes: "yes" opens as "true" does.
func (v value) isTrue() bool {
	switch text := v.text(); strings.ToLower(text) {
	case "true", "t", "yes", "y", "1":
		return true
	case "on":
		return v.plain() && text != "oN"
	default:
		return false
	}
}

// plain says whether a scalar is without quotes, so that it may be more than a text.
func (v value) plain() bool {
	return v.node != nil && (v.node.Style&yaml.TaggedStyle != 0 ||
		v.node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0)
}

// number is a number, or a default where there is none. Without quotes 0100 is 64, as in YAML 1.1: a
// numerator of 0100 is not all.
func (v value) number(without int) int {
	text, base := v.text(), 10
	if unsigned := strings.TrimLeft(text, "+-"); v.plain() && strings.HasPrefix(unsigned, "0") {
		base = 0
	}
	if n, err := strconv.ParseInt(text, base, 0); err == nil {
		return int(n)
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f == float64(int(f)) {
		return int(f)
	}
	return without
}

// is says whether an enum has one of the values. Protobuf's JSON has its name or its number.
func (v value) is(names ...string) bool { return slices.Contains(names, v.text()) }

// duration is a google.protobuf.Duration, or a default where there is none.
func (v value) duration(without time.Duration) time.Duration {
	if names, _ := v.entries(); v.node != nil && v.node.Kind == yaml.MappingNode && // as a message: { seconds: 5 }
		!slices.ContainsFunc(names, func(name string) bool { return name != "seconds" && name != "nanos" }) {
		seconds := value{node: &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.Itoa(v.field("seconds").number(0)) + "s"}}
		return seconds.duration(without) + time.Duration(v.field("nanos").number(0))
	}
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
