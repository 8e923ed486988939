package authz

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Explanation says which policy a request meets, and why.
type Explanation struct {
	// Entry is the index of the entry that applies, or -1.
	Entry int
	// Entries are all of the table, the most specific first.
	Entries []ExplainedEntry
	// Denial is why the request is denied whichever client sends it, or nil. Where it is
	// not nil, the fields below mean nothing.
	Denial *sessions.Denial
	// Policy is what holds.
	Policy Policy
	// Passes says why the request passes without a session, or is empty.
	Passes Passes
}

// ExplainedEntry is an entry, by its index, and why it does not apply. Why is empty for
// the one that applies.
type ExplainedEntry struct {
	Index int
	Why   string
}

// Passes is why a request passes without a session.
type Passes string

// The requests that pass without a session, whatever their policy.
const (
	PassesRefresh Passes = "refresh"
	PassesSignout Passes = "sign-out"
	PassesBind    Passes = "registration of the device's key"
	PassesBound   Passes = "proof of the device's key" //nolint:gosec // no credential (G101)
	PassesLogin   Passes = "login page"
)

// Explain says which policy a request has by its method, host, path (without query) and
// context_extensions. It chooses by the code that Check uses.
func Explain(cfg Config, method, host, path string, extensions map[string]string) (Explanation, error) {
	if _, err := cfg.check(); err != nil {
		return Explanation{}, err
	}
	p, err := newPolicies(cfg)
	if err != nil {
		return Explanation{}, err
	}
	r := request{method: method, host: host, path: path}
	var x Explanation
	if x.Policy, x.Entry, err = p.choose(&r, extensions); err != nil {
		d := refused(err)
		if x.Denial = d.denial; d.fault != nil {
			named := *d.denial
			named.Message = d.fault.Error()
			x.Denial = &named
		}
	}
	if x.Denial == nil && !browser.IsHost(host) {
		x.Denial = denyHostForm
	}
	x.Entries = p.table.explain(&r, x.Entry, x.Denial == denyPathSpelling)
	switch {
	case cfg.isAuthPath(&r) && path == cfg.RefreshPath:
		x.Passes = PassesRefresh
	case cfg.isAuthPath(&r) && path == cfg.BindPath:
		x.Passes = PassesBind
	case cfg.isAuthPath(&r) && path == cfg.BoundPath:
		x.Passes = PassesBound
	case cfg.isAuthPath(&r):
		x.Passes = PassesSignout
	case cfg.isLoginPage(&r, x.Policy):
		x.Passes = PassesLogin
	}
	return x, nil
}

func (t *table) explain(r *request, applies int, misspelt bool) []ExplainedEntry {
	order := make([]int, len(t.entries))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return t.entries[i].compare(&t.entries[j]) })
	meant := -1
	if misspelt {
		meant, _ = t.findLoosely(r.method, r.host, r.path)
	}
	var buf [browser.HostMax]byte
	name, _ := browser.AppendHost(buf[:0], r.host)
	entries := make([]ExplainedEntry, len(order))
	for k, i := range order {
		why := "fits, but is less specific"
		switch e := &t.entries[i]; {
		case i == applies:
			why = ""
		case i == meant:
			why = "its path, to some servers, but not as it is spelt"
		case !e.fitsHost(string(name)):
			why = "another host"
		case !e.fitsPath(r.path):
			why = "another path"
		case !e.fitsMethod(r.method):
			why = "another method"
		case applies < 0:
			why = "fits, but the request is denied"
		}
		entries[k] = ExplainedEntry{i, why}
	}
	return entries
}

// compare puts the more specific of two entries first.
func (e *Route) compare(o *Route) int {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		default:
			return 1
		}
	}
	return cmp.Or(
		first(e.Host != "" && !strings.HasPrefix(e.Host, "*"), o.Host != "" && !strings.HasPrefix(o.Host, "*")),
		cmp.Compare(len(o.Host), len(e.Host)),
		first(e.Path != "", o.Path != ""),
		cmp.Compare(len(o.spelling()), len(e.spelling())),
		first(e.Methods != nil, o.Methods != nil),
	)
}

func (e *Route) fitsHost(name string) bool {
	suffix, wild := strings.CutPrefix(e.Host, "*")
	return e.Host == "" || name == e.Host || wild && strings.HasSuffix(name, suffix)
}
