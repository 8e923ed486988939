package authz

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestExplain(t *testing.T) {
	cfg := testConfig()
	cfg.Routes = []Route{
		0: {PathPrefix: "/admin", Policy: map[string]string{"require.role": "admin"}},
		1: {PathPrefix: "/", Policy: map[string]string{"session": "optional"}},
		2: {Host: "*.a.test", Methods: []string{"POST"}, Policy: noPolicy},
		3: {Path: "/admin", Policy: map[string]string{"login_url": "/admin/in"}},
		4: {Host: "x.a.test", Path: "/admin", Policy: noPolicy},
	}
	const less = "fits, but is less specific"
	for _, tt := range []struct {
		method, host, path string
		entry              int
		whys               map[int]string
		passes             Passes
		rule               string
	}{
		{"GET", "x", "/admin", 3, map[int]string{4: "another host", 2: "another host", 0: less, 1: less}, "", ""},
		{"GET", "X.a.test:1", "/admin", 4, map[int]string{2: "another method", 3: less, 0: less, 1: less}, "", ""},
		{"POST", "y.a.test", "/x", 2, map[int]string{4: "another host", 3: "another path", 0: "another path", 1: less}, "", ""},
		{"GET", "x", "/%61dmin/x", -1, map[int]string{4: "another host", 2: "another host", 3: "another path", 0: "its path, to some servers, but not as it is spelt", 1: "fits, but the request is denied"}, "", "path"},
		{"GET", "x", "/..", -1, map[int]string{4: "another host", 2: "another host", 3: "another path", 0: "another path", 1: "fits, but the request is denied"}, "", "path"},
		{"GET", "/", "/x", -1, map[int]string{4: "another host", 2: "another host", 3: "another path", 0: "another path", 1: "fits, but the request is denied"}, "", "host"},
		{"POST", "x", "/auth/session/refresh", 1, nil, PassesRefresh, ""},
		{"POST", "x", "/auth/signout", 1, nil, PassesSignout, ""},
		{"POST", "x", "/auth/session/bind", 1, nil, PassesBind, ""},
		{"POST", "x", "/auth/session/bound", 1, nil, PassesBound, ""},
		{"GET", "x", "/auth/session/bound", 1, nil, "", ""},
		{"GET", "x", "/auth/signout", 1, nil, "", ""},
		{"GET", "x", "/login", 1, nil, PassesLogin, ""},
		{"GET", "x", "/admin/in", 0, nil, "", ""}, // the login page of another entry
	} {
		x, err := Explain(cfg, tt.method, tt.host, tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		rule := ""
		if x.Denial != nil {
			rule = x.Denial.Rule
		}
		if x.Entry != tt.entry || x.Passes != tt.passes || rule != tt.rule {
			t.Errorf("%s %s%s: entry %d, passes %q, rule %q", tt.method, tt.host, tt.path, x.Entry, x.Passes, rule)
		}
		whys := map[int]string{}
		for _, e := range x.Entries {
			if e.Index != x.Entry {
				whys[e.Index] = e.Why
			}
		}
		if diff := cmp.Diff(tt.whys, whys); tt.whys != nil && diff != "" {
			t.Errorf("%s %s%s:\n%s", tt.method, tt.host, tt.path, diff)
		}
	}
	x, err := Explain(cfg, "GET", "x", "/open", map[string]string{"max_age": "5", "anti_csrf": "off"})
	if err != nil || x.Policy.Optional || x.Policy.AntiCSRF != AntiCSRFOff || x.Policy.MaxAge != 5e9 {
		t.Errorf("%+v, %v", x, err)
	}
	if x, err = Explain(cfg, "GET", "x", "/open", map[string]string{"x": "y"}); err != nil || x.Denial == nil || x.Denial.Rule != "policy" {
		t.Errorf("%+v, %v", x, err)
	}
	cfg.Routes = append(cfg.Routes, Route{Policy: noPolicy})
	if _, err := Explain(cfg, "GET", "x", "/", nil); err == nil {
		t.Error("a tie is explained away")
	}
}

// The explanation's own order and words agree with what applies.
func TestExplanationAgrees(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "c", "a.b"})
	rapid.Check(t, func(t *rapid.T) {
		cfg := testConfig()
		cfg.Routes = randomTable(t)
		host := rapid.SampledFrom([]string{"a.test", "B.a.test:80", "test.", "x"}).Draw(t, "host")
		path := "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, "path"), "/")
		x, err := Explain(cfg, rapid.SampledFrom([]string{"GET", "HEAD", "POST"}).Draw(t, "method"), host, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if x.Denial != nil {
			return // /A is an entry
		}
		first := -1
		for _, e := range x.Entries {
			if e.Why == "" || strings.HasPrefix(e.Why, "fits") {
				first = e.Index
				break
			}
		}
		if first != x.Entry || len(x.Entries) != len(cfg.Routes) {
			t.Fatalf("entry %d applies, but the first that fits is %d: %+v of %+v", x.Entry, first, x.Entries, cfg.Routes)
		}
	})
}

func TestPolicySettingsAreThePolicy(t *testing.T) {
	for _, p := range []Policy{
		{LoginURL: "/login"},
		{Optional: true, AntiCSRF: AntiCSRFUnsafe, OnUnauthorised: UnauthorisedAuto, LoginURL: "/in", ReturnTo: true, MaxAge: 9e9, Strict: true, Require: []Requirement{{Claim: "a"}, {"b", []string{"x", "y"}}}},
		{AntiCSRF: AntiCSRFOff, OnUnauthorised: Unauthorised401, LoginURL: "/in"},
		{OnUnauthorised: Unauthorised403, LoginURL: "/in"},
	} {
		settings := map[string]string{}
		for _, s := range p.Settings() {
			settings[s.Key] = s.Value
		}
		if got, err := (Policy{}).With(settings); err != nil || !cmp.Equal(got, p) {
			t.Errorf("%v: %v %s", settings, err, cmp.Diff(p, got))
		}
	}
}
