package authz

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Strict cookies do not come along on a link from another site: its page asks for itself once, and what comes then is judged.
func TestHop(t *testing.T) {
	strict := newGate(t, func(c *Config) { c.Cookies.SameSite = http.SameSiteStrictMode })
	lax := newGate(t)
	link := ask{method: "GET", path: "/page"}.with("accept", "text/html", "sec-fetch-mode", "navigate", "sec-fetch-dest", "document", "sec-fetch-site", "cross-site")
	again := ask{method: "GET", path: "/page"}.with("accept", "text/html", "sec-fetch-mode", "navigate", "sec-fetch-dest", "document", "sec-fetch-site", "same-origin")
	isHop := func(a got) bool { return a.status == 401 && strings.Contains(a.body, "location.reload()") }
	// Passed on by a service worker, a link and the page of a frame look the same.
	byWorker := ask{method: "GET", path: "/page"}.with("accept", "text/html", "sec-fetch-mode", "navigate", "sec-fetch-dest", "empty", "sec-fetch-site", "cross-site")
	for name, a := range map[string]ask{
		"guarded": link, "optional": link.under("session", "optional"), "401": link.under("on_unauthorised", "401"), "passed on": byWorker,
	} {
		if r := check(t, strict.server, a); !isHop(r) || r.user != "" || !strings.Contains(r.headers["content-security-policy"], "'sha256-") {
			t.Errorf("%s: %d %q %v", name, r.status, r.body, r.headers)
		}
	}
	if r := check(t, lax.server, byWorker.cookie(access(lax.alice))); !isHop(r) || r.user != "" || !strings.Contains(r.headers["content-security-policy"], "frame-ancestors 'none'") {
		t.Errorf("lax cookies, passed on: %d %q %v", r.status, r.body, r.headers)
	}
	for name, tt := range map[string]struct {
		gate   *gate
		ask    ask
		status int
	}{
		"what the page asks then":   {strict, again, 302},
		"with a session":            {strict, again.cookie(access(strict.alice)), 0},
		"cookies came all the same": {strict, link.cookie(access(strict.alice)), 0},
		"an expired token":          {strict, link.cookie(access(strict.expired)), 440},
		"the login page":            {strict, ask{method: "GET", path: "/login"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "cross-site"), 0},
		"a script":                  {strict, ask{method: "GET", path: "/page"}.with("sec-fetch-mode", "cors", "sec-fetch-site", "cross-site"), 302},
		"a form":                    {strict, ask{method: "POST", path: "/page"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "cross-site"), 302},
		"in advance":                {strict, link.with("sec-purpose", "prefetch"), 302},
		"a sibling host's link":     {strict, ask{method: "GET", path: "/page"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "same-site"), 302},
		"no evidence":               {strict, oldBrowser, 302},
		"lax cookies":               {lax, link, 302},
		"passed on, no session":     {lax, byWorker, 302},
		"passed on, expired":        {lax, byWorker.cookie(access(lax.expired)), 440},
		"passed on, optional":       {lax, byWorker.cookie(access(lax.alice)).under("session", "optional"), 0},
		"passed on, in advance":     {lax, byWorker.with("sec-purpose", "prefetch").cookie(access(lax.alice)), 403},
		"passed on, a form":         {lax, ask{method: "POST", path: "/page"}.with("sec-fetch-mode", "navigate", "sec-fetch-dest", "empty", "sec-fetch-site", "cross-site").cookie(access(lax.alice)), 403},
		"passed on, again":          {lax, ask{method: "GET", path: "/page"}.with("sec-fetch-mode", "navigate", "sec-fetch-dest", "empty", "sec-fetch-site", "same-origin").cookie(access(lax.alice)), 0},
		"a foreign script":          {lax, ask{method: "GET", path: "/page"}.with("sec-fetch-mode", "cors", "sec-fetch-dest", "empty", "sec-fetch-site", "cross-site").cookie(access(lax.alice)), 403},
	} {
		if r := check(t, tt.gate.server, tt.ask); r.status != tt.status {
			t.Errorf("%s: %d, want %d", name, r.status, tt.status)
		}
	}
}

// Every denial tells the client its code with DenialHeader, and without it no denial does.
func TestDenialHeader(t *testing.T) {
	telling := newGate(t, func(c *Config) { c.DenialHeader = true })
	silent := newGate(t)
	for code, of := range map[string]func(*gate) ask{
		"no_token":       func(*gate) ask { return navigation },
		"expired":        func(g *gate) ask { return script.cookie(access(g.expired)) },
		"ended":          func(g *gate) ask { return script.cookie(access(g.ended)) },
		"malformed":      func(*gate) ask { return script.cookie("sAccessToken=x") },
		"anti_csrf":      func(g *gate) ask { return curl.cookie(access(g.alice)) },
		"foreign_origin": func(g *gate) ask { return formPost.with("origin", "https://evil.example").cookie(access(g.alice)) },
		"claim":          func(g *gate) ask { return navigation.cookie(access(g.alice)).under("require.role", "x") },
		"policy":         func(*gate) ask { return navigation.under("sesion", "x") },
	} {
		if r := check(t, telling.server, of(telling)); r.headers[browser.HeaderDenial] != code {
			t.Errorf("%s: told %q", code, r.headers[browser.HeaderDenial])
		}
		if r := check(t, silent.server, of(silent)); r.headers[browser.HeaderDenial] != "" {
			t.Errorf("%s: told %q without DenialHeader", code, r.headers[browser.HeaderDenial])
		}
	}
	if r := check(t, telling.server, navigation.cookie(access(telling.alice))); r.headers[browser.HeaderDenial] != "" {
		t.Errorf("an allow is told %q", r.headers[browser.HeaderDenial])
	}
}
