// Package settings reads a process's configuration from a YAML file and from environment
// variables, as a table describes it. It reports every fault at once, with the file and line
// or the variable. The same table prints the values in effect, a reference page and a JSON
// Schema. The package knows nothing of what the settings mean.
package settings

import (
	"slices"
	"strings"
)

// Table describes all settings of a process.
type Table struct {
	// Prefix begins the name of every environment variable, such as "APP_". Prefix + "CONFIG"
	// names the file; it is no setting.
	Prefix string
	// Listing is the command that lists all variables, for faults.
	Listing  string
	Settings []Setting
}

// Setting is one line of the table.
type Setting struct {
	// Key is dotted, as it nests in the file: at most one dot.
	Key string
	// Default is what the environment variable would say. Empty: what the field holds to which
	// Kind is bound, before anything is read.
	Default string
	// Doc is what the reference page says: sentences, with the unit.
	Doc string
	// Secret values appear in no output.
	Secret bool
	// Public is the part of a secret that may appear, and what to say of the rest. nil: no
	// part may appear.
	Public func() (text, rest string)
	// Reload says when a change takes effect without a restart. Empty: never.
	Reload string
	// Field is how a fault of the package that owns the bound field names it. Empty: no such
	// fault names it.
	Field string
	Kind  Kind
}

// Env is the name of the setting's environment variable.
func (t *Table) Env(s Setting) string {
	return t.Prefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// ConfigEnv is the variable that names the file where no flag does.
func (t *Table) ConfigEnv() string { return t.Prefix + "CONFIG" }

// Find returns the setting of this key.
func (t *Table) Find(key string) (Setting, bool) {
	return t.first(func(s Setting) bool { return s.Key == key })
}

// OfField returns the setting that a package's faults call so.
func (t *Table) OfField(field string) (Setting, bool) {
	return t.first(func(s Setting) bool { return s.Field == field })
}

func (t *Table) first(is func(Setting) bool) (Setting, bool) {
	i := slices.IndexFunc(t.Settings, is)
	if i < 0 {
		return Setting{}, false
	}
	return t.Settings[i], true
}

func (t *Table) isSection(key string) bool {
	return slices.ContainsFunc(t.Settings, func(s Setting) bool { return strings.HasPrefix(s.Key, key+".") })
}

// names are the keys that may stand in a section.
func (t *Table) names(prefix string) []string {
	var names []string
	for _, s := range t.Settings {
		if rest, ok := strings.CutPrefix(s.Key, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (t *Table) below(prefix string) string { return strings.Join(t.names(prefix), ", ") }

// defaults are the texts of the value that the setting has before anything is read. It sets
// the field where the default stands in the table.
func (s Setting) defaults() []string {
	if s.Default != "" {
		s.Kind.Reset()
		texts := []string{s.Default}
		if s.Kind.List {
			texts = strings.Split(s.Default, ",")
		}
		s.put(texts)
	}
	return s.Kind.Texts()
}

func (s Setting) put(texts []string) {
	for _, text := range texts {
		s.Kind.Set(text)
	}
}
