package authz

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPolicy(t *testing.T) {
	base := Policy{LoginURL: "/login"}
	for _, tt := range []struct {
		settings map[string]string
		want     Policy
	}{
		{nil, base},
		{map[string]string{"session": "required", "anti_csrf": "always", "on_unauthorised": "redirect", "return_to": "false"}, base},
		{
			map[string]string{"session": "optional", "anti_csrf": "unsafe", "on_unauthorised": "auto", "return_to": "true", "login_url": "https://id.example/?a=b"},
			Policy{Optional: true, AntiCSRF: AntiCSRFUnsafe, OnUnauthorised: UnauthorisedAuto, ReturnTo: true, LoginURL: "https://id.example/?a=b"},
		},
		{map[string]string{"anti_csrf": "off", "on_unauthorised": "401"}, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFOff, OnUnauthorised: Unauthorised401}},
		{map[string]string{"max_age": "900", "strict": "true"}, Policy{LoginURL: "/login", MaxAge: 15 * time.Minute, Strict: true}},
		{map[string]string{"strict": "false", "max_age": "3155760000"}, Policy{LoginURL: "/login", MaxAge: 3155760000 * time.Second}},
		{map[string]string{"bound": "true"}, Policy{LoginURL: "/login", Bound: true}},
		{map[string]string{"bound": "false"}, base},
		{map[string]string{"on_unauthorised": "403"}, Policy{LoginURL: "/login", OnUnauthorised: Unauthorised403}},
	} {
		got, err := base.With(tt.settings)
		if err != nil || !cmp.Equal(got, tt.want) {
			t.Errorf("%v: %v %s", tt.settings, err, cmp.Diff(tt.want, got))
		}
	}
	// A route can be stricter than a default that is not.
	lax := Policy{Optional: true, AntiCSRF: AntiCSRFOff, ReturnTo: true}
	if got, err := lax.With(map[string]string{"session": "required", "anti_csrf": "always", "return_to": "false"}); err != nil || !cmp.Equal(got, Policy{}) {
		t.Errorf("%+v %v", got, err)
	}
}

// A typo never opens a route.
func TestUnknownPolicyDenies(t *testing.T) {
	g := newGate(t)
	for _, s := range [][2]string{
		{"session", ""},
		{"session", "Optional"},
		{"session", "optional "},
		{"session", "off"},
		{"Session", "optional"},
		{"sesion", "optional"},
		{"", ""},
		{"anti_csrf", "none"},
		{"on_unauthorised", "200"},
		{"on_unauthorized", "401"},
		{"return_to", "yes"},
		{"strict", ""},
		{"strict", "yes"},
		{"bound", ""},
		{"bound", "True"},
		{"bound", "1"},
		{"max_age", ""},
		{"max_age", "0"},
		{"max_age", "-1"},
		{"max_age", "+1"},
		{"max_age", "015"},
		{"max_age", "1.5"},
		{"max_age", "15m"},
		{"max_age", "3155760001"},
		{"max_age", "99999999999999999999"},
		{"login_url", ""},
		{"login_url", "login"},
		{"login_url", "//evil.example"},
		{"login_url", `/\evil.example`},
		{"login_url", "javascript:alert(1)"},
		{"login_url", "https:///x"},
		{"login_url", "https://"},
		{"login_url", "/a\r\nset-cookie: x"},
		{"login_url", "/a#b"},
	} {
		var fault *PolicyError
		if _, err := (Policy{}).With(map[string]string{s[0]: s[1]}); !errors.As(err, &fault) {
			t.Errorf("%q is accepted", s)
		}
		for _, a := range []ask{navigation.cookie(access(g.alice)), script, {method: "GET", path: "/login"}} {
			if r := check(t, g.server, a.under(s[0], s[1])); r.status != 503 {
				t.Errorf("%q: %d", s, r.status)
			}
		}
	}
}

func TestPolicyAllocatesNothing(t *testing.T) {
	settings := map[string]string{"session": "required", "anti_csrf": "unsafe", "login_url": "/in"}
	if n := testing.AllocsPerRun(100, func() { _, _ = (Policy{}).With(settings) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add("session", "optional")
	f.Add("login_url", "/login?a")
	f.Add("login_url", "https://id.example")
	f.Fuzz(func(t *testing.T, key, value string) {
		p, err := (Policy{}).With(map[string]string{key: value})
		if err != nil {
			if !cmp.Equal(p, Policy{}) {
				t.Errorf("an unknown setting changed the policy: %+v", p)
			}
			return
		}
		if p.LoginURL != "" && (!isVisible(p.LoginURL) || p.LoginURL[0] != '/' && p.LoginURL[:4] != "http") {
			t.Errorf("login address %q", p.LoginURL)
		}
		if p.Optional != (key == "session" && value == "optional") {
			t.Errorf("%q %q opened the route", key, value)
		}
	})
}

// docs/policy.md has a row for each key of a policy.
func TestPolicyKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range PolicyKeys() {
		if !strings.Contains(string(page), "\n| `"+key+"` |") && !strings.Contains(string(page), "\n| [`"+key+"`](") {
			t.Errorf("no row of %s", key)
		}
	}
}
