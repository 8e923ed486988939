package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader fills a Config from the file and the environment and gathers faults.
type reader struct {
	file     string
	variable string // that is read as YAML, instead of the file
	config   *Config
	settings []setting
	origins  origins
	unsound  map[string]bool // keys with a fault of their own
	faults   faults
}

func newReader(file string) *reader {
	config := new(Config)
	r := &reader{file: file, config: config, settings: settings(config), origins: make(origins), unsound: make(map[string]bool)}
	for _, s := range r.settings {
		s.restore()
	}
	return r
}

func (r *reader) find(key string) (setting, bool) {
	i := slices.IndexFunc(r.settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		return setting{}, false
	}
	return r.settings[i], true
}

func (r *reader) at(node *yaml.Node) origin {
	if r.variable != "" {
		return origin{env: r.variable}
	}
	return origin{file: r.file, line: max(1, node.Line)}
}

func (r *reader) report(at origin, key, found, allowed string) {
	r.unsound[key] = true
	r.faults = append(r.faults, fault{at, key, found, allowed})
}

func (r *reader) readFile(content []byte) {
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
		r.report(r.at(&second), "", "a second document", "one document")
	}
	root := document.Content[0]
	r.readSection(root, "")
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// reportSyntax passes on what the parser says, but for those of its messages
// that repeat the file's text, which may be a secret.
func (r *reader) reportSyntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	at := origin{file: r.file, line: 1}
	if m := syntaxLine.FindStringSubmatch(message); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	found := "broken YAML (" + message + ")"
	if strings.Contains(message, "anchor") {
		found = "an alias"
	} else if strings.Contains(message, "cannot decode") {
		found = "a tag that does not fit its value"
	}
	r.report(at, "", found, "one YAML mapping without aliases, anchors and tags")
}

// readSection walks one section; its prefix ends in a dot, or is empty.
func (r *reader) readSection(mapping *yaml.Node, prefix string) {
	section := strings.TrimSuffix(prefix, ".")
	if !r.plain(mapping, section) {
		return
	}
	if mapping.Kind != yaml.MappingNode {
		r.report(r.at(mapping), section, describe(mapping, true), "a mapping of "+r.below(prefix))
		return
	}
	first := make(map[string]int) // lines
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name, value := mapping.Content[i], mapping.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.ShortTag() != tagText {
			found := "a merge key"
			if name.ShortTag() != "!!merge" {
				found = "a key that is no text"
			}
			r.report(r.at(name), section, found, "keys among "+r.below(prefix))
			continue
		}
		if !r.plain(name, section) {
			continue
		}
		key := prefix + name.Value
		_, known := r.find(key)
		if strings.Contains(name.Value, ".") || (!known && !r.isSection(key)) {
			r.reportUnknown(name, prefix)
			continue
		}
		if line, again := first[name.Value]; again {
			r.report(r.at(name), key, fmt.Sprintf("a second value (the first is in line %d)", line), "one value")
			continue
		}
		first[name.Value] = name.Line
		if known {
			r.readSetting(key, value)
		} else {
			r.readSection(value, key+".")
		}
	}
}

// plain refuses what lets YAML say one thing in two ways.
func (r *reader) plain(node *yaml.Node, key string) bool {
	switch {
	case node.Kind == yaml.AliasNode:
		r.report(r.at(node), key, "an alias", "the value itself")
	case node.Anchor != "":
		r.report(r.at(node), key, "an anchor", "a value without one")
	case node.Style&yaml.TaggedStyle != 0:
		r.report(r.at(node), key, "a tag", "a value without one")
	default:
		return true
	}
	return false
}

func (r *reader) readSetting(key string, value *yaml.Node) {
	s, _ := r.find(key)
	r.origins[key] = r.at(value)
	if s.kind.read != nil {
		s.kind.read(r, key, value)
		return
	}
	if !s.kind.list {
		if s.kind.reset(); !r.readScalar(s, value) {
			s.restore()
		}
		return
	}
	if !r.plain(value, key) {
		return
	}
	if value.Kind != yaml.SequenceNode {
		r.report(r.at(value), key, describe(value, s.secret), s.kind.allowed)
		return
	}
	s.kind.reset()
	for _, item := range value.Content {
		r.readScalar(s, item)
	}
}

func (r *reader) readScalar(s setting, node *yaml.Node) bool {
	if !r.plain(node, s.key) {
		return false
	}
	if node.Kind != yaml.ScalarNode || (s.kind.tag != "" && node.ShortTag() != s.kind.tag) || !s.kind.set(node.Value) {
		r.report(r.at(node), s.key, describe(node, s.secret), s.kind.allowed)
		return false
	}
	return true
}

// showable is what may be repeated of an unknown key: it looks like a name, and
// is shorter than any key of ours that a slip could have put in its place.
var showable = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,30}$`)

func (r *reader) reportUnknown(name *yaml.Node, prefix string) {
	found := foundUnknown(name.Value, cmp.Or(r.elsewhere(name.Value), nearest(name.Value, r.names(prefix))))
	// Not unsound: no setting has this key.
	r.faults = append(r.faults, fault{r.at(name), strings.TrimSuffix(prefix, "."), found, r.below(prefix)})
}

// foundUnknown tells of a key that nobody knows, and of the one that may be meant, if any.
func foundUnknown(name, meant string) string {
	switch {
	case !showable.MatchString(name):
		return "an unknown key (not shown)"
	case meant != "":
		return fmt.Sprintf("the unknown key %s (did you mean %s?)", name, meant)
	default:
		return "the unknown key " + name
	}
}

// elsewhere looks for a key of this name in other sections, or written with dots.
func (r *reader) elsewhere(name string) string {
	for _, s := range r.settings {
		if s.key == name {
			section, rest, _ := strings.Cut(name, ".")
			return rest + " in the mapping " + section
		}
		if strings.HasSuffix(s.key, "."+name) {
			return s.key
		}
	}
	return ""
}

func (r *reader) isSection(key string) bool {
	return slices.ContainsFunc(r.settings, func(s setting) bool { return strings.HasPrefix(s.key, key+".") })
}

// names are the keys that may stand in a section.
func (r *reader) names(prefix string) []string {
	var names []string
	for _, s := range r.settings {
		if rest, ok := strings.CutPrefix(s.key, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (r *reader) below(prefix string) string { return strings.Join(r.names(prefix), ", ") }

// kubernetesLink matches what Kubernetes puts into every container of a
// namespace that has a service called sessiongate or sessiongate-ANYTHING.
var kubernetesLink = regexp.MustCompile(`^SESSIONGATE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func (r *reader) readEnviron(environ []string) {
	byName := make(map[string]setting, len(r.settings))
	names := make([]string, 0, len(r.settings)+1)
	names = append(names, strings.TrimPrefix(envConfig, envPrefix))
	for _, s := range r.settings {
		byName[s.env()] = s
		names = append(names, strings.TrimPrefix(s.env(), envPrefix))
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envConfig || kubernetesLink.MatchString(name) {
			continue
		}
		s, known := byName[name]
		if !known {
			at := origin{env: quoteUnlessPlain(name)}
			found := "an unknown variable"
			if near := nearest(strings.TrimPrefix(name, envPrefix), names); near != "" {
				found += fmt.Sprintf(" (did you mean %s?)", envPrefix+near)
			}
			r.faults = append(r.faults, fault{at, "", found, "the variables that `sessiongate config --reference` lists"})
			continue
		}
		at := origin{env: name}
		r.origins[s.key] = at
		if s.kind.read != nil {
			r.readYAML(s, name, value)
			continue
		}
		texts := []string{value}
		if s.kind.list {
			texts = nil
			if value != "" {
				texts = strings.Split(value, ",")
			}
		}
		s.kind.reset()
		for _, text := range texts {
			if !s.kind.set(text) {
				found := "a value (not shown)"
				if !s.secret {
					found = "the text " + quoted(text)
				}
				r.report(at, s.key, found, s.kind.allowed)
				s.restore()
			}
		}
	}
}

// check reports a broken rule at the first of its keys that somebody set.
func (r *reader) check(rule rule) {
	if rule.ok {
		return
	}
	var at origin
	var values []string
	for _, key := range rule.keys {
		if r.unsound[key] {
			return
		}
		if at == (origin{}) {
			at = r.origins[key]
		}
		s, _ := r.find(key)
		values = append(values, key+" "+s.shown())
	}
	r.faults = append(r.faults, fault{at, rule.keys[0], strings.Join(values, ", "), rule.must})
}

// describe says what a node is; never its text if secret, nor if nobody
// knows what the text was meant to be.
func describe(node *yaml.Node, secret bool) string {
	switch node.Kind { //nolint:exhaustive // plain has refused aliases; the rest are scalars
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	tags := map[string]string{
		tagText: "the text", tagInteger: "the number", "!!float": "the number", tagBoolean: "the truth value",
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
	if node.ShortTag() == tagText {
		return what + " " + quoted(node.Value)
	}
	return what + " " + strings.Trim(quoted(node.Value), `"`)
}

// quoted shows at most 100 bytes of s, and says so where there are more.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q and %d bytes more", s[:most], len(s)-most)
	}
	return strconv.Quote(s)
}

func quoteUnlessPlain(s string) string {
	if isText(s) {
		return s
	}
	return strconv.Quote(s)
}

// nearest is the closest of names to name, "" if none is close.
func nearest(name string, names []string) string {
	best, least := "", len(name)/3+2
	for _, n := range names {
		if d := editDistance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitution, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
