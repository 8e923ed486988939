package settings

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/internal/nearest"
)

var serviceLink = regexp.MustCompile(`^([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// IsServiceLink says whether a variable is one that Kubernetes puts into every container of a
// namespace with a service whose name begins like the variables. Such a variable is no fault.
func (t *Table) IsServiceLink(name string) bool {
	rest, ok := strings.CutPrefix(name, t.Prefix)
	return ok && serviceLink.MatchString(rest)
}

func (r *Reader) readEnviron(environ []string) {
	t := r.Table
	byName := make(map[string]Setting, len(t.Settings))
	names := make([]string, 0, len(t.Settings)+1)
	names = append(names, strings.TrimPrefix(t.ConfigEnv(), t.Prefix))
	for _, s := range t.Settings {
		byName[t.Env(s)] = s
		names = append(names, strings.TrimPrefix(t.Env(s), t.Prefix))
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, t.Prefix) || name == t.ConfigEnv() || t.IsServiceLink(name) {
			continue
		}
		s, known := byName[name]
		if !known {
			found := "an unknown variable"
			if near := nearest.Name(strings.TrimPrefix(name, t.Prefix), names); near != "" {
				found += fmt.Sprintf(" (did you mean %s?)", t.Prefix+near)
			}
			r.Faults = append(r.Faults, Fault{Origin{Env: QuoteUnlessPlain(name)}, "", found, "the variables that `" + t.Listing + "` lists"})
			continue
		}
		r.Origins[s.Key] = Origin{Env: name}
		if s.Kind.Read != nil {
			r.readYAML(s, name, value)
			continue
		}
		r.readVariable(s, name, value)
	}
}

func (r *Reader) readVariable(s Setting, name, value string) {
	texts := []string{value}
	if s.Kind.List {
		texts = nil
		if value != "" {
			texts = strings.Split(value, ",")
		}
	}
	s.Kind.Reset()
	for _, text := range texts {
		if !s.Kind.Set(text) {
			r.Report(Origin{Env: name}, s.Key, s.foundText(text), s.Kind.Allowed)
			r.restore(s)
		}
	}
}

// readYAML reads the value of a variable as it would stand in the file.
func (r *Reader) readYAML(s Setting, variable, value string) {
	r.variable = variable
	defer func() { r.variable = "" }()
	documents := yaml.NewDecoder(strings.NewReader(value))
	var document, second yaml.Node
	err := documents.Decode(&document)
	if errors.Is(err, io.EOF) { // empty
		s.Kind.Reset()
		return
	}
	if err == nil {
		err = documents.Decode(&second)
	}
	if !errors.Is(err, io.EOF) {
		r.Report(Origin{Env: variable}, s.Key, s.foundText(value), s.Kind.Allowed)
		return
	}
	s.Kind.Read(r, s.Key, document.Content[0])
}
