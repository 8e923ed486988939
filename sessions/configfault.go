package sessions

import (
	"errors"
)

// ConfigFault is a rule that the values of a Config break, of this package or of one that builds
// on it.
type ConfigFault struct {
	// Fields are the fields that the rule joins. The first is the one to change.
	Fields []string
	// Allowed continues "allowed: ", and names other fields as Fields does.
	Allowed string
}

// ConfigFaults are all rules that a Config breaks.
type ConfigFaults []ConfigFault

// Unless adds a fault where ok is false.
func (all ConfigFaults) Unless(ok bool, allowed string, fields ...string) ConfigFaults {
	if ok {
		return all
	}
	return append(all, ConfigFault{fields, allowed})
}

// Err is all faults as one error, each an [InvalidError]; nil where there is none.
func (all ConfigFaults) Err() error {
	errs := make([]error, len(all))
	for i, f := range all {
		errs[i] = &InvalidError{f.Fields[0], "allowed: " + f.Allowed}
	}
	return errors.Join(errs...)
}
