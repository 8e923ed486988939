package authz

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Explanation says which policy a request meets, and why.
type Explanation struct {
	// Entry is the index of the entry that applies, or -1.
	Entry int
	// Entries are all of the table, the most specific first.
	Entries []ExplainedEntry
	// Denial is why the request is denied whoever sends it, or nil. Then what
	// follows means nothing.
	Denial *sessions.Denial
	// Policy is what holds.
	Policy Policy
	// Passes says that the request passes whoever sends it, or is empty.
	Passes Passes
}

// ExplainedEntry is an entry, by its index, and why it does not apply: empty for
// the one that does.
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
	PassesLogin   Passes = "login page"
)

// Explain says what Check would make of a request's method, host, path (without
// query) and context_extensions. It chooses by the code that Check uses.
func Explain(cfg Config, method, host, path string, extensions map[string]string) (Explanation, error) {
	if err := cfg.check(); err != nil {
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

// PolicySetting is a key of context_extensions and its value.
type PolicySetting struct{ Key, Value string }

// Settings are p as context_extensions would say it, in the order of
// docs/policy.md: With them, any policy becomes p. Without a limit of age there
// is no max_age.
func (p Policy) Settings() []PolicySetting {
	session := "required"
	if p.Optional {
		session = "optional"
	}
	settings := []PolicySetting{
		{"session", session},
		{"anti_csrf", AntiCSRFModes()[p.AntiCSRF]},
		{"on_unauthorised", OnUnauthorisedNames()[p.OnUnauthorised]},
		{"login_url", p.LoginURL},
		{"return_to", strconv.FormatBool(p.ReturnTo)},
	}
	if p.MaxAge > 0 {
		settings = append(settings, PolicySetting{"max_age", strconv.FormatInt(int64(p.MaxAge/time.Second), 10)})
	}
	settings = append(settings, PolicySetting{"strict", strconv.FormatBool(p.Strict)})
	for _, q := range p.Require {
		value := anyValue
		if q.OneOf != nil {
			value = strings.Join(q.OneOf, "|")
		}
		settings = append(settings, PolicySetting{requirePrefix + q.Claim, value})
	}
	return settings
}
