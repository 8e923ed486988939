package settings

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Reader fills the fields of a table from the file and the environment and gathers faults.
type Reader struct {
	Table   *Table
	Origins Origins
	Faults  Faults

	file     string
	variable string // that is read as YAML, instead of the file
	defaults map[string][]string
	unsound  map[string]bool // keys with a fault of their own
	unread   bool            // the file could not be read, so no value is known
}

// MaxFile bounds the file; the longest sensible one is a hundredth of it.
const MaxFile = 1 << 20

// Load reads the file, if file or the table's variable names one, and the environment, which
// wins. The fields get their defaults first. If the file cannot be read, that is the only fault:
// no rule can be judged, and nothing is known to be missing.
func (t *Table) Load(file string, environ []string) *Reader {
	if file == "" {
		for _, e := range environ {
			if value, ok := strings.CutPrefix(e, t.ConfigEnv()+"="); ok {
				file = value
			}
		}
	}
	if file == "" {
		return t.Parse("", nil, environ)
	}
	content, err := ReadFile(file, MaxFile)
	if err != nil {
		r := t.Parse("", nil, nil)
		r.unread = true
		r.Faults = Faults{{At: Origin{File: file}, Found: Reason(err).Error(), Allowed: "a readable file of at most 1MiB"}}
		return r
	}
	return t.Parse(file, content, environ)
}

// Parse reads a file's content and the environment.
func (t *Table) Parse(file string, content []byte, environ []string) *Reader {
	r := &Reader{
		Table: t, Origins: make(Origins), file: file,
		defaults: make(map[string][]string, len(t.Settings)), unsound: make(map[string]bool),
	}
	for _, s := range t.Settings {
		r.defaults[s.Key] = s.defaults()
	}
	r.readFile(content)
	r.readEnviron(environ)
	return r
}

// Err is all faults in their order, as [Faults]; nil where there is none.
func (r *Reader) Err() error {
	if len(r.Faults) == 0 {
		return nil
	}
	return r.Faults.sorted()
}

// Need adds faults about what is missing, except for keys that have a fault already.
func (r *Reader) Need(missing Faults) {
	if r.unread {
		return
	}
	for _, m := range missing {
		if !slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Key == m.Key }) {
			r.Faults = append(r.Faults, m)
		}
	}
}

// Broken reports that a rule which joins several settings does not hold, at the first of its
// keys that was set. It reports nothing where one of them is unsound by itself.
func (r *Reader) Broken(keys []string, allowed string) {
	if r.unread {
		return
	}
	var at Origin
	var values []string
	for _, key := range keys {
		if r.unsound[key] {
			return
		}
		if at == (Origin{}) {
			at = r.Origins[key]
		}
		s, _ := r.Table.Find(key)
		values = append(values, key+" "+s.shown())
	}
	r.Faults = append(r.Faults, Fault{at, keys[0], strings.Join(values, ", "), allowed})
}

// BrokenFields is Broken for a rule of a package, whose words are names of fields of its
// Config. Each becomes the key of its setting. A rule with a field that no setting fills is
// left to the package itself.
func (r *Reader) BrokenFields(fields []string, allowed string) {
	var keys []string
	for _, field := range fields {
		s, ok := r.Table.OfField(field)
		if !ok {
			return
		}
		keys = append(keys, s.Key)
		allowed = replaceWord(allowed, field, s.Key)
	}
	r.Broken(keys, allowed)
}

// Report adds a fault of a key, which then takes part in no rule.
func (r *Reader) Report(at Origin, key, found, allowed string) {
	r.Unsound(key)
	r.Faults = append(r.Faults, Fault{at, key, found, allowed})
}

// Unsound keeps a key out of all rules.
func (r *Reader) Unsound(key string) { r.unsound[key] = true }

// At is where a node stands.
func (r *Reader) At(node *yaml.Node) Origin {
	if r.variable != "" {
		return Origin{Env: r.variable}
	}
	return Origin{File: r.file, Line: max(1, node.Line)}
}

// restore puts the default back.
func (r *Reader) restore(s Setting) {
	s.Kind.Reset()
	s.put(r.defaults[s.Key])
}

// replaceWord puts to in the place of word, but of no longer word that contains it.
func replaceWord(text, word, to string) string {
	words := strings.Split(text, " ")
	for i, w := range words {
		bare := strings.TrimRight(w, ",.:;")
		if bare == word {
			words[i] = to + strings.TrimPrefix(w, bare)
		}
	}
	return strings.Join(words, " ")
}

func (s Setting) foundText(text string) string {
	if s.Secret {
		return "a value (not shown)"
	}
	return "the text " + Quoted(text)
}

// shown is the value for a fault's text.
func (s Setting) shown() string {
	texts := s.Kind.Texts()
	if s.Secret {
		return "(not shown)"
	}
	if s.Kind.List {
		return "[" + strings.Join(texts, ", ") + "]"
	}
	if texts[0] == "" {
		return `""`
	}
	return texts[0]
}
