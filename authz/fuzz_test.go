package authz

import (
	"context"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// FuzzCheck: whatever a request holds, the answer is well formed, and no request gets an
// identity whose token was not in the Cookie or Authorization header.
func FuzzCheck(f *testing.F) {
	g := newGate(f, func(c *Config) { c.StripCookies = true })
	for _, a := range []ask{
		navigation, script, formPost, socket, events, image, curl,
		navigation.cookie(access(g.alice)), script.cookie(access(g.alice)).with("anti-csrf", g.alice.AntiCSRF.Reveal()),
		script.with("authorization", "Bearer "+g.header.Access.Reveal()).cookie(access(g.alice)),
		navigation.cookie(access(g.expired)).under("session", "optional"), navigation.under("login_url", "/x", "return_to", "true"),
		{method: "POST", path: "/auth/session/refresh"},
		ask{method: "OPTIONS", path: "/"}.with("origin", "null", "access-control-request-method", "GET"),
	} {
		for _, c := range []*authv3.CheckRequest{a.raw(), a.mapped()} {
			wire, err := proto.Marshal(c)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		c := &authv3.CheckRequest{}
		if proto.Unmarshal(wire, c) != nil {
			return
		}
		response, err := g.server.Check(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		r := read(t, response)
		q := readRequest(c)
		switch {
		case r.status != 0:
		case r.user != "":
			if !strings.Contains(q.cookie, g.alice.Access.Reveal()) && !strings.Contains(q.authorization, g.header.Access.Reveal()) {
				t.Errorf("%q is let in without its token", r.user)
			}
		default:
			p, _, err := g.server.policies.choose(&q, c.GetAttributes().GetContextExtensions())
			exempt := q.method == "POST" && (q.path == "/auth/session/refresh" || q.path == "/auth/signout") ||
				q.method == "OPTIONS" && q.origin != "" || q.path == "/login" || isPathOf(p.LoginURL, q.path) || p.Optional
			if err != nil || !exempt {
				t.Errorf("passes without a session: %+v", q)
			}
		}
	})
}
