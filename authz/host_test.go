package authz

import (
	"fmt"
	"testing"
)

// Envoy joins two Host lines with a comma. Nothing with such a host passes: neither as the request's own origin, nor with an identity.
func TestHostThatIsNone(t *testing.T) {
	g := newGate(t, func(c *Config) { c.Default.AntiCSRF = AntiCSRFAttested })
	asks := map[string]ask{
		"script":     script.cookie(access(g.alice)),
		"navigation": navigation.cookie(access(g.alice)),
		"token":      curl.cookie(access(g.alice)).with("anti-csrf", g.alice.AntiCSRF.Reveal()),
		"bearer":     script.with("authorization", "Bearer "+g.header.Access.Reveal()),
		"old form":   ask{method: "POST", path: "/form"}.with("accept", "text/html").cookie(access(g.alice)),
		"optional":   navigation.under("session", "optional"),
		"login page": {method: "GET", path: "/login"},
		"refresh":    {method: "POST", path: "/auth/session/refresh"},
		"preflight":  ask{method: "OPTIONS", path: "/api"}.with("origin", "https://x.example", "access-control-request-method", "PUT"),
	}
	for _, host := range []string{
		"app.example,evil.example", "evil.example,app.example", "app.example,app.example", "app.example, app.example", "app.example ", "x@app.example",
		"app.example:80:80", "app.example:", "app.example\x00", "app.example/", "[::1", "ä.example", "%61pp.example",
	} {
		for name, a := range asks {
			a.host = host
			if name == "old form" {
				a = a.with("origin", "https://"+host)
			}
			if r := check(t, g.server, a); r.status != 403 || r.user != "" {
				t.Errorf("%s to %q: %d %q", name, host, r.status, r.user)
			}
			if x, err := Explain(testConfig(), a.method, host, a.path, a.policy); err != nil || x.Denial != denyHostForm {
				t.Errorf("%s to %q is explained as %v, %v", name, host, x.Denial, err)
			}
		}
	}
	for _, host := range []string{"app.example", "app.example:8443", "[::1]:80", "192.0.2.1", "a_b.example."} {
		for name, a := range asks {
			if a.host = host; check(t, g.server, a).status != 0 && name != "old form" {
				t.Errorf("%s to %q is denied", name, host)
			}
		}
	}
	// No host at all: an answer, but no pass.
	c := script.cookie(access(g.alice)).raw()
	c.Attributes.Request.Http.Host = ""
	if response, err := g.server.Check(t.Context(), c); err != nil || read(t, response).status != 403 {
		t.Error(fmt.Sprint(response, err))
	}
}
