package settings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Origin is where a value came from. The zero Origin is the default.
type Origin struct {
	File string
	Line int
	Env  string
}

func (o Origin) String() string {
	switch {
	case o.Env != "":
		return o.Env
	case o.Line > 0:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case o.File != "":
		return o.File
	default:
		return "default"
	}
}

// Origins has an entry for each key that is not at its default.
type Origins map[string]Origin

// Fault is one thing wrong with the configuration. It never holds a secret.
type Fault struct {
	At      Origin
	Key     string // "" if it concerns none
	Found   string
	Allowed string
}

func (f Fault) Error() string {
	var b strings.Builder
	if f.At != (Origin{}) {
		fmt.Fprintf(&b, "%s: ", f.At)
	}
	if f.Key != "" {
		fmt.Fprintf(&b, "%s: ", f.Key)
	}
	fmt.Fprintf(&b, "found %s; allowed: %s", f.Found, f.Allowed)
	return b.String()
}

// Faults are all that is wrong, one a line: the file's in its order, then those of the
// environment by name.
type Faults []Fault

func (all Faults) Error() string {
	lines := make([]string, len(all))
	for i, f := range all {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

func (all Faults) sorted() Faults {
	slices.SortStableFunc(all, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.At.Env, b.At.Env), cmp.Compare(a.At.Line, b.At.Line), cmp.Compare(a.Key, b.Key))
	})
	return all
}
