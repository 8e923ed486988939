package authz

import (
	"errors"
	"fmt"

	"github.com/sessiongate/sessiongate/sessions"
)

// policies chooses the policy of each request: the default one, over it the most
// specific entry of the table, over that the context_extensions of Envoy's route,
// key by key. So a reader of a route in Envoy's configuration sees what holds there;
// for keys that the route does not name, the entry holds.
type policies struct {
	normal Policy
	table  *table
	// entries has normal changed by each entry.
	entries []Policy
}

func newPolicies(cfg Config) (*policies, error) {
	table, err := newTable(cfg.Routes)
	if err != nil {
		return nil, err
	}
	p := &policies{normal: cfg.Default, table: table}
	if p.normal.LoginURL == "" {
		p.normal.LoginURL = cfg.LoginURL
	}
	for i, entry := range cfg.Routes {
		policy, err := p.normal.With(entry.Policy)
		if err != nil {
			return nil, fmt.Errorf("routes[%d]: %w", i, err) // the default has requirements, and both together are too many
		}
		p.entries = append(p.entries, policy)
	}
	return p, nil
}

// choose returns a request's policy and the index of the entry in it, or -1. An
// error, a [*sessions.Denial] or [*PolicyError], means that there is none: then
// nothing may pass.
func (p *policies) choose(r *request, extensions map[string]string) (Policy, int, error) {
	entry, denial := p.table.find(r.method, r.host, r.path)
	if denial != nil {
		return Policy{}, entry, denial
	}
	policy := p.normal
	if entry >= 0 {
		policy = p.entries[entry]
		// Claims, and the time of a sign-in, are a session's: a route of Envoy's that
		// asks for them is not open, whatever an entry says.
		policy.Optional = policy.Optional && !asksOfSession(extensions)
	}
	policy, err := policy.With(extensions)
	return policy, entry, err
}

// refused is the decision about a request that has no policy.
func refused(err error) decision {
	if denial, ok := errors.AsType[*sessions.Denial](err); ok {
		return decision{denial: denial}
	}
	return decision{denial: denyPolicy, fault: err}
}

// asksOfSession says whether any of the keys asks for what only a session has.
func asksOfSession(extensions map[string]string) bool {
	for name := range extensions {
		if key, _ := findPolicyKey(name); key != nil && key.session {
			return true
		}
	}
	return false
}
