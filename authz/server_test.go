package authz

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// got is what a test compares of a CheckResponse.
type got struct {
	status  int // 0: passes
	user    string
	body    string
	headers map[string]string
	removed []string
}

// check sends the request both ways Envoy can, checks what every answer
// promises and that both answers are the same, and reads it.
func check(tb testing.TB, s *Server, a ask) got {
	tb.Helper()
	var both [2]got
	for i, c := range []*authv3.CheckRequest{a.raw(), a.mapped()} {
		response, err := s.Check(context.Background(), c)
		if err != nil {
			tb.Fatalf("Check: %v", err)
		}
		if over := onWire(tb, s, c); over != nil && !proto.Equal(over, response) {
			tb.Errorf("over gRPC it is answered %v, else %v", over, response)
		}
		both[i] = read(tb, response)
	}
	if diff := cmp.Diff(both[0], both[1], cmp.AllowUnexported(got{})); diff != "" {
		tb.Errorf("raw and mapped headers are answered differently:\n%s", diff)
	}
	return both[0]
}

// read checks what every CheckResponse promises.
func read(tb testing.TB, response *authv3.CheckResponse) got {
	tb.Helper()
	g := got{headers: map[string]string{}}
	if response.GetStatus() == nil || response.GetHttpResponse() == nil {
		tb.Fatalf("a response without status or HTTP response means ALLOW to Envoy: %v", response)
	}
	options := response.GetOkResponse().GetHeaders()
	if denied := response.GetDeniedResponse(); denied != nil {
		options = denied.GetHeaders()
		g.status, g.body = int(denied.GetStatus().GetCode()), denied.GetBody()
		if g.status < 300 || response.GetStatus().GetCode() == 0 {
			tb.Errorf("denied with HTTP %d, code %d", g.status, response.GetStatus().GetCode())
		}
	} else if response.GetStatus().GetCode() != 0 {
		tb.Errorf("passes with code %d", response.GetStatus().GetCode())
	}
	for _, o := range options {
		name, value := o.GetHeader().GetKey(), o.GetHeader().GetValue()
		if name != strings.ToLower(name) || value == "" || o.GetAppend() == nil || o.GetAppend().GetValue() { //nolint:staticcheck // Envoy reads append
			tb.Errorf("header %v: lower case, a value and append: false are promised", o)
		}
		if _, twice := g.headers[name]; twice || name == "set-cookie" {
			tb.Errorf("header %s is set twice, or a cookie", name)
		}
		g.headers[name] = value
	}
	g.removed = response.GetOkResponse().GetHeadersToRemove()
	for _, name := range g.removed {
		if _, both := g.headers[name]; both {
			tb.Errorf("%s is set and removed", name)
		}
	}
	g.user = g.headers[headerUserID]
	if g.status == 0 && g.user == "" {
		for _, name := range []string{headerUserID, headerHandle, headerClaims} {
			if !strings.Contains(strings.Join(g.removed, " "), name) {
				tb.Errorf("passes without identity, but a client's %s survives", name)
			}
		}
	}
	if g.status != 0 && g.headers["cache-control"] != "no-store" {
		tb.Error("a denial can be cached")
	}
	return g
}

func TestAllowTellsTheIdentity(t *testing.T) {
	g := newGate(t)
	for range 2 { // the second from the cache
		r := check(t, g.server, navigation.cookie(access(g.alice)))
		want := map[string]string{
			headerUserID: "alice",
			headerHandle: g.alice.Session.Handle.String(),
			headerClaims: base64.RawURLEncoding.EncodeToString([]byte(`{"role":"admin","n":[1,{"x":null}]}`)),
		}
		if diff := cmp.Diff(want, r.headers); r.status != 0 || diff != "" || len(r.removed) > 0 {
			t.Errorf("status %d, removed %v, headers:\n%s", r.status, r.removed, diff)
		}
	}
	response, _ := g.server.Check(t.Context(), navigation.cookie(access(g.alice)).raw())
	fields := response.GetDynamicMetadata().AsMap()
	want := map[string]any{
		"user_id": "alice", "outcome": "ALLOW", "rule": "session", "code": "session", "handle": g.alice.Session.Handle.String(),
		"claims": map[string]any{"role": "admin", "n": []any{1.0, map[string]any{"x": nil}}},
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("dynamic metadata:\n%s", diff)
	}
}

// The outcome table of docs/protocol.md, "What the client sees".
func TestOutcomes(t *testing.T) {
	g := newGate(t)
	const plain = "text/plain; charset=utf-8"
	expired, foreign := access(g.expired), "https://evil.example"
	head := ask{method: "HEAD", path: "/page"}.with("accept", "text/html")
	tests := []struct {
		name     string
		ask      ask
		status   int
		body     string // "page": the refresh page
		kind     string
		location string
	}{
		{"try refresh, navigation", navigation.cookie(expired), 440, "page", "text/html; charset=utf-8", ""},
		{"try refresh, old browser", oldBrowser.cookie(expired), 440, "page", "text/html; charset=utf-8", ""},
		{"try refresh, HEAD navigation", head.cookie(expired), 440, "page", "text/html; charset=utf-8", ""},
		{"try refresh, form", formPost.cookie(expired), 440, "page", "text/html; charset=utf-8", ""},
		{"try refresh, script", script.cookie(expired), 440, pleaseRefresh, plain, ""},
		{"try refresh, HEAD script", ask{method: "HEAD", path: "/api"}.with("sec-fetch-mode", "cors").cookie(expired), 440, pleaseRefresh, plain, ""},
		{"try refresh, curl", curl.cookie(expired), 440, pleaseRefresh, plain, ""},
		{"try refresh, script that accepts HTML", oldBrowser.with("rid", "anti-csrf").cookie(expired), 440, pleaseRefresh, plain, ""},
		{"unauthorised, navigation", navigation, 302, "", plain, "/login"},
		{"unauthorised, script", script, 302, "", plain, "/login"},
		{"unauthorised, auto, navigation", navigation.under("on_unauthorised", "auto"), 302, "", plain, "/login"},
		{"unauthorised, auto, curl", curl.under("on_unauthorised", "auto"), 302, "", plain, "/login"},
		{"unauthorised, auto, script", script.under("on_unauthorised", "auto"), 401, `{"message":"unauthorised"}`, "application/json", ""},
		{"unauthorised, auto, JSON client", ask{method: "GET", path: "/"}.with("accept", "application/json").under("on_unauthorised", "auto"), 401, `{"message":"unauthorised"}`, "application/json", ""},
		{"unauthorised, 440, script", script.under("on_unauthorised", "440"), 440, `{"message":"unauthorised"}`, "application/json", ""},
		{"unauthorised, 440, navigation", navigation.under("on_unauthorised", "440"), 440, `{"message":"unauthorised"}`, "application/json", ""},
		{"try refresh, XMLHttpRequest that accepts HTML", oldBrowser.with("x-requested-with", "XMLHttpRequest").cookie(expired), 440, pleaseRefresh, plain, ""},
		{"try refresh, WebView", oldBrowser.with("x-requested-with", "com.example.app").cookie(expired), 440, "page", "text/html; charset=utf-8", ""},
		{"try refresh, no anti-CSRF token", curl.cookie(access(g.alice)), 440, pleaseRefresh + browser.TokenMissing, plain, ""},
		{"unauthorised, 401, navigation", navigation.under("on_unauthorised", "401"), 401, `{"message":"unauthorised"}`, "application/json", ""},
		{"unauthorised, 403, script", script.under("on_unauthorised", "403"), 403, `{"message":"unauthorised"}`, "application/json", ""},
		{"unauthorised, other login", navigation.under("login_url", "https://id.example/in?a=1"), 302, "", plain, "https://id.example/in?a=1"},
		{"unauthorised, ended", navigation.cookie(access(g.ended)), 302, "", plain, "/login"},
		{"unauthorised, return_to", navigation.under("return_to", "true"), 302, "", plain, "/login?return_to=%2Fpage%3Fq%3D1"},
		{"unauthorised, return_to beside a query", navigation.under("return_to", "true", "login_url", "/in?a=1"), 302, "", plain, "/in?a=1&return_to=%2Fpage%3Fq%3D1"},
		{"unauthorised, return_to, script", script.under("return_to", "true"), 302, "", plain, "/login"},
		{"unauthorised, return_to, form", formPost.under("return_to", "true"), 302, "", plain, "/login"},
		{"forbidden, navigation", formPost.with("origin", foreign).cookie(access(g.alice)), 403, "Forbidden: a page of another site sent this. Open the page here, and try again.", plain, ""},
		{"forbidden, script", socket.with("origin", foreign).cookie(access(g.alice)), 403, `{"message":"forbidden"}`, "application/json", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := check(t, g.server, tt.ask)
			body := r.body
			if strings.HasPrefix(body, "<!doctype html>") && strings.Contains(body, pleaseRefresh) {
				body = "page"
			}
			if r.status != tt.status || body != tt.body || r.headers["content-type"] != tt.kind || r.headers["location"] != tt.location {
				t.Errorf("got %d %q %v", r.status, r.body, r.headers)
			}
		})
	}
}

func TestUnavailable(t *testing.T) {
	for _, a := range []ask{navigation, script, navigation.under("session", "optional")} {
		s, err := New(denying(sessions.DenyStarting), testConfig())
		if err != nil {
			t.Fatal(err)
		}
		if r := check(t, s, a); r.status != 503 || r.headers["retry-after"] == "" || r.body == "" {
			t.Errorf("got %d %v", r.status, r.headers)
		}
	}
}

// A sign-in that is too long ago counts as none, and the login page is told why.
func TestMaxAge(t *testing.T) {
	g := newGate(t)
	asScript := script.cookie(access(g.alice)).with("anti-csrf", g.alice.AntiCSRF.Reveal())
	page := navigation.cookie(access(g.alice))
	for _, tt := range []struct {
		name     string
		ask      ask
		ago      time.Duration
		status   int
		location string
	}{
		{"young enough", page.under("max_age", "900"), 15*time.Minute - 5*time.Second, 0, ""},
		{"too old", page.under("max_age", "900"), 15*time.Minute + 5*time.Second, 302, "/login?reauth=1"},
		{"too old, with return_to", page.under("max_age", "900", "return_to", "true"), time.Hour, 302, "/login?return_to=%2Fpage%3Fq%3D1&reauth=1"},
		{"too old, login address with a query", page.under("max_age", "900", "login_url", "/in?a=b"), time.Hour, 302, "/in?a=b&reauth=1"},
		{"too old, script", asScript.under("max_age", "900", "on_unauthorised", "auto"), time.Hour, 401, ""},
		{"too old, optional route", page.under("max_age", "900", "session", "optional"), time.Hour, 0, ""},
		{"no limit", page, time.Hour, 0, ""},
		{"no session", navigation.under("max_age", "900"), 0, 302, "/login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(aged{Engine: g.engine, by: tt.ago}, testConfig())
			if err != nil {
				t.Fatal(err)
			}
			r := check(t, s, tt.ask)
			if r.status != tt.status || r.headers["location"] != tt.location {
				t.Errorf("got %d %s", r.status, r.headers["location"])
			}
			if optional := tt.ask.policy["session"] == "optional"; r.status == 0 && (r.user == "") != optional {
				t.Errorf("passes as %q", r.user)
			}
		})
	}
}

// Only a strict route asks for confirmation, and then it counts.
func TestStrict(t *testing.T) {
	g := newGate(t)
	for _, tt := range []struct {
		name       string
		checkStore *sessions.Denial
		policy     []string
		status     int
		user       string
	}{
		{"confirmed", nil, []string{"strict", "true"}, 0, "alice"},
		{"ended", sessions.DenyEnded, []string{"strict", "true"}, 302, ""},
		{"ended, optional route", sessions.DenyEnded, []string{"strict", "true", "session", "optional"}, 0, ""},
		{"claims changed", sessions.DenyVersion, []string{"strict", "true"}, 440, ""},
		{"cannot be told", sessions.DenyUnconfirmed, []string{"strict", "true"}, 503, ""},
		{"cannot be told, optional route", sessions.DenyUnconfirmed, []string{"strict", "true", "session", "optional"}, 503, ""},
		{"not strict", sessions.DenyUnconfirmed, nil, 0, "alice"},
		{"not strict, said so", sessions.DenyUnconfirmed, []string{"strict", "false"}, 0, "alice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(aged{Engine: g.engine, checkStore: tt.checkStore}, testConfig())
			if err != nil {
				t.Fatal(err)
			}
			if r := check(t, s, navigation.cookie(access(g.alice)).under(tt.policy...)); r.status != tt.status || r.user != tt.user {
				t.Errorf("got %d %q", r.status, r.user)
			}
		})
	}
}

// A route with the key bound takes an access token that a proof brought (B11), and no other one. What
// the device proved is told to Envoy's filters, and refreshing does not help a session that is not
// bound.
func TestBound(t *testing.T) {
	g := newGate(t)
	for _, tt := range []struct {
		name   string
		bound  bool
		policy []string
		status int
		user   string
	}{
		{"bound", true, []string{"bound", "true"}, 0, "alice"},
		{"bound, optional route", true, []string{"bound", "true", "session", "optional"}, 0, "alice"},
		{"bound, any route", true, nil, 0, "alice"},
		{"unbound", false, []string{"bound", "true"}, 403, ""},
		{"unbound, optional route", false, []string{"bound", "true", "session", "optional"}, 403, ""},
		{"unbound, said so", false, []string{"bound", "false"}, 0, "alice"},
		{"unbound, any route", false, nil, 0, "alice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(verifierFunc(func(tokens []string) (*sessions.Access, *sessions.Denial) {
				a, d := g.engine.Verify(sessions.TransportCookie, tokens)
				if d != nil {
					return nil, d
				}
				return &sessions.Access{
					Handle: a.Handle, UserID: a.UserID, Transport: a.Transport, AuthTime: a.AuthTime, IssuedAt: a.IssuedAt, Expires: a.Expires,
					Claims: a.Claims, EncodedClaims: a.EncodedClaims, Bound: tt.bound,
				}, nil
			}), testConfig())
			if err != nil {
				t.Fatal(err)
			}
			request := navigation.cookie(access(g.alice)).under(tt.policy...)
			if r := check(t, s, request); r.status != tt.status || r.user != tt.user {
				t.Errorf("got %d %q", r.status, r.user)
			}
			response, err := s.Check(t.Context(), request.raw())
			if err != nil {
				t.Fatal(err)
			}
			if told, ok := response.GetDynamicMetadata().AsMap()["bound"]; ok != (tt.bound && tt.status == 0) || ok && told != true {
				t.Errorf("told Envoy %v, %v", told, ok)
			}
		})
	}
}

func TestSessionExpiredStatus(t *testing.T) {
	g := newGate(t, func(c *Config) { c.SessionExpiredStatus = 401 })
	if r := check(t, g.server, script.cookie(access(g.expired))); r.status != 401 || r.body != pleaseRefresh {
		t.Errorf("got %d %q", r.status, r.body)
	}
}

func TestReturnToStaysHere(t *testing.T) {
	g := newGate(t)
	for _, path := range []string{"//evil.example", `/\evil.example`, `/a\b`, "", "*", "https://evil.example/", "/\t/evil", "/a b", "/é", "/" + strings.Repeat("a", 4096)} {
		a := navigation.under("return_to", "true")
		a.path = path
		if r := check(t, g.server, a); r.status != 302 || r.headers["location"] != "/login" {
			t.Errorf("%q: %d %s", path, r.status, r.headers["location"])
		}
	}
}

// Which tokens a request is judged by.
func TestTokens(t *testing.T) {
	g := newGate(t)
	alice, bob := access(g.alice), access(g.bob)
	tests := []struct {
		name   string
		ask    ask
		status int
		user   string
	}{
		{"among others", navigation.cookie("a=1; " + alice + "; b=2"), 0, "alice"},
		{"after a value with commas", navigation.cookie("a=1,2; " + alice), 0, "alice"},
		{"the same twice", navigation.cookie(alice + "; " + alice), 0, "alice"},
		{"beside garbage", navigation.cookie("sAccessToken=x; " + alice), 0, "alice"},
		{"several sessions", navigation.cookie(alice + "; " + bob), 440, ""},
		{"broken", navigation.cookie(alice + "x"), 440, ""},
		{"empty", navigation.cookie("sAccessToken="), 440, ""},
		{"other case", navigation.cookie(strings.Replace(alice, "sAccess", "SACCESS", 1)), 302, ""},
		{"longer name", navigation.cookie("x" + alice), 302, ""},
		{"header transport's, in a cookie", navigation.cookie(access(g.header)), 440, ""},
		{"older backend's cookie", navigation.cookie("sIdRefreshToken=x"), 440, ""},
		{"older backend's cookie beside a token", navigation.cookie("sIdRefreshToken=x; " + alice), 0, "alice"},
		{"none", navigation.cookie("a=1"), 302, ""},
		{"refresh token as access token", navigation.cookie("sAccessToken=" + g.alice.Refresh.Reveal()), 440, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if r := check(t, g.server, tt.ask); r.status != tt.status || r.user != tt.user {
				t.Errorf("got %d %q", r.status, r.user)
			}
		})
	}
}

// A bearer token of sessiongate is the session that a script means, whatever cookies came with it;
// nothing more is asked of the script, for no other site can make a browser send
// it. Bearer tokens of other systems are the upstream's.
func TestBearerTokens(t *testing.T) {
	g := newGate(t)
	carol, alice := g.header.Access.Reveal(), access(g.alice)
	bearer := func(a ask, token string) ask { return a.with("authorization", "Bearer "+token) }
	post := ask{method: "POST", path: "/api"}
	foreign := "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln"
	tests := []struct {
		name   string
		ask    ask
		status int
		user   string
	}{
		{"alone", bearer(script, carol), 0, "carol"},
		{"from no browser", bearer(post, carol), 0, "carol"},
		{"from another origin", bearer(post, carol).with("origin", "https://elsewhere.example", "sec-fetch-site", "cross-site", "sec-fetch-mode", "cors"), 0, "carol"},
		{"scheme in lower case", post.with("authorization", "bearer "+carol), 0, "carol"},
		{"beside another session's cookie", bearer(script, carol).cookie(alice), 0, "carol"},
		{"beside an expired cookie", bearer(script, carol).cookie(access(g.expired)), 0, "carol"},
		{"the cookie transport's", bearer(script, g.alice.Access.Reveal()), 440, ""},
		{"the cookie transport's, beside itself", bearer(script, g.alice.Access.Reveal()).cookie(alice), 440, ""},
		{"the cookie transport's, optional route", bearer(script, g.alice.Access.Reveal()).under("session", "optional"), 0, ""},
		{"broken", bearer(script, carol+"x"), 440, ""},
		{"broken, beside a cookie", bearer(navigation, carol+"x").cookie(alice), 440, ""},
		{"sessiongate's token twice", bearer(bearer(script, carol), carol), 440, ""},
		{"sessiongate's token after a foreign one", bearer(bearer(script, foreign), carol), 302, ""},
		{"other scheme", script.with("authorization", "Basic "+carol), 302, ""},
		{"no scheme", script.with("authorization", carol), 302, ""},
		{"empty", script.with("authorization", "Bearer "), 302, ""},
		{"another system's", bearer(script, foreign), 302, ""},
		{"another system's, beside a cookie", bearer(navigation, foreign).cookie(alice), 0, "alice"},
		{"another system's, beside a cookie, script without anti-CSRF", bearer(script, foreign).cookie(alice), 440, ""},
		{"opaque, beside a cookie", bearer(navigation, "opaque").cookie(alice), 0, "alice"},
		{"a refresh token", bearer(script, g.header.Refresh.Reveal()), 302, ""},
		{"planted beside a cookie, page keeps to cookies", bearer(script, carol).with("st-auth-mode", "cookie", "anti-csrf", g.alice.AntiCSRF.Reveal()).cookie(alice), 0, "alice"},
		{"planted, page keeps to cookies", bearer(script, carol).with("st-auth-mode", "cookie"), 302, ""},
		{"page keeps to headers", bearer(script, carol).with("st-auth-mode", "header").cookie(alice), 0, "carol"},
		{"marks a script", bearer(ask{method: "GET", path: "/", headers: [][2]string{{"accept", "text/html"}}}, g.headerEnded.Access.Reveal()).under("on_unauthorised", "auto"), 401, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for how, request := range map[string]*authv3.CheckRequest{"raw": tt.ask.raw(), "mapped": tt.ask.mapped()} {
				response, _ := g.server.Check(t.Context(), request)
				if r := read(t, response); r.status != tt.status || r.user != tt.user {
					t.Errorf("%s: got %d %q", how, r.status, r.user)
				}
			}
		})
	}
}

// A token of sessiongate that was not judged does not go upstream, where it might be taken
// for the session; nor, with strip_cookies, does any.
func TestAuthorizationIsStripped(t *testing.T) {
	for _, strip := range []bool{false, true} {
		g := newGate(t, func(c *Config) { c.StripCookies = strip })
		alice := navigation.cookie(access(g.alice))
		at, rt := g.header.Access.Reveal(), g.header.Refresh.Reveal()
		for name, tt := range map[string]struct {
			ask     ask
			removed bool
		}{
			"judged":                         {script.with("authorization", "Bearer "+at), strip},
			"beside it, page keeps cookies":  {alice.with("authorization", "Bearer "+at, "st-auth-mode", "cookie"), true},
			"a refresh token":                {alice.with("authorization", "Bearer "+rt), true},
			"a refresh token, no session":    {script.with("authorization", "Bearer "+rt).under("session", "optional"), true},
			"after a foreign one":            {alice.with("authorization", "Bearer foreign, Bearer "+at), true},
			"after a foreign one, two lines": {alice.with("authorization", "Bearer foreign").with("authorization", "Bearer "+at), true},
			"after another scheme":           {alice.with("authorization", "Basic eDp5, bearer "+rt), true},
			"after a tab":                    {alice.with("authorization", "Bearer\t"+at), true},
			"foreign":                        {alice.with("authorization", "Bearer foreign"), false},
			"another scheme":                 {alice.with("authorization", "Basic eDp5"), false},
		} {
			r := check(t, g.server, tt.ask)
			if got := slices.Contains(r.removed, "authorization"); r.status != 0 || got != tt.removed {
				t.Errorf("strip_cookies %t, %s: status %d, removed %t", strip, name, r.status, got)
			}
		}
	}
}

// The web SDKs keep tokens of header transport in cookies, too. Those never go
// upstream: one is a refresh token.
func TestSDKCopiesAreStripped(t *testing.T) {
	copies := "st-access-token=a; st-refresh-token=r"
	for _, strip := range []bool{false, true} {
		g := newGate(t, func(c *Config) { c.StripCookies = strip })
		bearer := script.with("authorization", "Bearer "+g.header.Access.Reveal())
		for name, tt := range map[string]struct {
			ask     ask
			kept    string
			removed []string
		}{
			"the copies":                  {bearer.cookie("a=1; " + copies + "; sFrontToken=f"), "a=1; sFrontToken=f", nil},
			"nothing else":                {bearer.cookie(copies), "", []string{"cookie"}},
			"one of them":                 {bearer.cookie("st-refresh-token=r; a=1"), "a=1", nil},
			"the other":                   {bearer.cookie("st-access-token=r; a=1"), "a=1", nil},
			"beside a cookie session":     {navigation.cookie("a=1; st-refresh-token=r; " + access(g.alice)), "a=1", nil},
			"on an optional route":        {navigation.cookie("a=1; "+copies).under("session", "optional"), "a=1", nil},
			"a value that sounds like it": {bearer.cookie("a=st-refresh-token"), "", nil},
		} {
			if strip && tt.ask.header("authorization") {
				tt.removed = append([]string{"authorization"}, tt.removed...)
			}
			kept := tt.kept
			if !strip && name == "beside a cookie session" {
				kept += "; " + access(g.alice)
			}
			r := check(t, g.server, tt.ask)
			removed := slices.DeleteFunc(r.removed, func(name string) bool { return strings.HasPrefix(name, "x-session-") })
			if r.status != 0 || r.headers["cookie"] != kept || !slices.Equal(removed, tt.removed) {
				t.Errorf("strip_cookies %t, %s: %d, cookie %q, removed %v", strip, name, r.status, r.headers["cookie"], removed)
			}
		}
	}
}

// Several Cookie lines are told apart where Envoy sends raw headers. As a map they
// come joined with a comma, and then no session is accepted: the text that looks like a
// second line may be the value of a cookie that a sibling host planted.
func TestCookieLines(t *testing.T) {
	g := newGate(t)
	alice, bob := access(g.alice), access(g.bob)
	for name, tt := range map[string]struct {
		ask    ask
		raw    int
		mapped int
	}{
		"second line":             {navigation.cookie("a=1").cookie(alice), 0, 302},
		"first line":              {navigation.cookie(alice).cookie("a=1"), 0, 440},
		"crumbs":                  {navigation.cookie(alice).cookie("a=1").cookie("b=2,3"), 0, 440},
		"several sessions":        {navigation.cookie(alice).cookie(bob), 440, 440},
		"planted after a comma":   {navigation.cookie("a=1," + bob), 302, 302},
		"planted, beside a token": {navigation.cookie("a=1," + bob + "; " + alice), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for how, part := range map[string]struct {
				request *authv3.CheckRequest
				want    int
			}{"raw": {tt.ask.raw(), tt.raw}, "mapped": {tt.ask.mapped(), tt.mapped}} {
				response, _ := g.server.Check(t.Context(), part.request)
				if r := read(t, response); r.status != part.want || r.status == 0 && r.user != "alice" {
					t.Errorf("%s: got %d %q, want %d", how, r.status, r.user, part.want)
				}
			}
		})
	}
}

func TestHostPrefix(t *testing.T) {
	g := newGate(t, func(c *Config) { c.Cookies.HostPrefix = true })
	if r := check(t, g.server, navigation.cookie("__Host-"+access(g.alice))); r.user != "alice" {
		t.Errorf("got %d", r.status)
	}
	if r := check(t, g.server, navigation.cookie(access(g.alice))); r.status != 302 {
		t.Errorf("a cookie that a sibling host can plant counts: %d", r.status)
	}
}

func TestOptional(t *testing.T) {
	for _, tt := range []struct {
		denial *sessions.Denial
		status int
	}{
		{sessions.DenyNoToken, 0},
		{sessions.DenyMalformed, 0},
		{sessions.DenySignature, 0},
		{sessions.DenyUnknownKey, 0},
		{sessions.DenyClaims, 0},
		{sessions.DenyEnded, 0},
		{sessions.DenyExpired, 440},
		{sessions.DenyLost, 440},
		{sessions.DenyVersion, 440},
		{sessions.DenySeveral, 440},
		{sessions.DenyStaleKeys, 503},
		{sessions.DenyStarting, 503},
		{&sessions.Denial{Outcome: sessions.Forbidden}, 403},
		{&sessions.Denial{}, 503},
	} {
		s, err := New(denying(tt.denial), testConfig())
		if err != nil {
			t.Fatal(err)
		}
		if r := check(t, s, script.cookie("sAccessToken=x").under("session", "optional")); r.status != tt.status {
			t.Errorf("%v: got %d, want %d", tt.denial, r.status, tt.status)
		}
	}
	g := newGate(t)
	optional := func(a ask) ask { return a.under("session", "optional") }
	if r := check(t, g.server, optional(navigation.cookie(access(g.alice)))); r.user != "alice" {
		t.Errorf("a session on an optional route: %d %q", r.status, r.user)
	}
	if r := check(t, g.server, optional(script.cookie(access(g.alice)))); r.status != 440 {
		t.Errorf("without anti-CSRF token: %d", r.status)
	}
	if r := check(t, g.server, optional(navigation.cookie(access(g.header)))); r.status != 0 || r.user != "" {
		t.Errorf("header transport's token in a cookie: %d %q", r.status, r.user)
	}
}

func TestAntiCSRF(t *testing.T) {
	g := newGate(t)
	token, other := g.alice.AntiCSRF.Reveal(), g.bob.AntiCSRF.Reveal()
	post := ask{method: "POST", path: "/api"}.with("sec-fetch-mode", "cors", "sec-fetch-site", "same-origin", "origin", "https://app.example")
	options := ask{method: "OPTIONS", path: "/api"}
	crossNavigation := ask{method: "GET", path: "/"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "cross-site")
	formWithout := ask{method: "POST", path: "/form"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "same-origin")
	crossImage := ask{method: "GET", path: "/i"}.with("sec-fetch-mode", "no-cors", "sec-fetch-site", "cross-site")
	sameSiteImage := ask{method: "GET", path: "/i"}.with("sec-fetch-mode", "no-cors", "sec-fetch-site", "same-site")
	noCorsPost := ask{method: "POST", path: "/i"}.with("sec-fetch-mode", "no-cors", "sec-fetch-site", "same-origin")
	attested := socket.with("sec-fetch-mode", "websocket", "sec-fetch-site", "same-origin")
	own := "https://app.example"
	const ok, again, never = 0, 440, 403
	foreign := script.with("sec-fetch-site", "cross-site") // twice, with the own one
	foreign.headers = [][2]string{{"sec-fetch-mode", "cors"}, {"sec-fetch-site", "cross-site"}, {"origin", "https://evil.example"}}
	nullForm := formWithout.with("origin", "null")
	tests := []struct {
		name                          string
		ask                           ask
		attested, always, unsafe, off int
	}{
		{"script, none", script, ok, again, ok, ok},
		{"script, right", script.with("anti-csrf", token), ok, ok, ok, ok},
		{"script, another session's", script.with("anti-csrf", other), ok, again, ok, ok},
		{"script, empty", script.with("anti-csrf", ""), ok, again, ok, ok},
		{"script of another site", foreign, never, never, ok, ok},
		{"script of another site that knows the token", foreign.with("anti-csrf", token), ok, ok, ok, ok},
		{"script of an allowed origin", ask{method: "GET", path: "/"}.with("sec-fetch-mode", "cors", "sec-fetch-site", "cross-site", "origin", "https://partner.example"), ok, again, ok, ok},
		{"curl, none", curl, again, again, ok, ok},
		{"curl, right", curl.with("anti-csrf", token), ok, ok, ok, ok},
		{"POST, none", post, ok, again, ok, ok},
		{"POST, nothing attested", ask{method: "POST", path: "/api"}, again, again, again, ok},
		{"POST, own Origin alone", ask{method: "POST", path: "/api"}.with("origin", own), ok, again, ok, ok},
		{"POST, right", post.with("anti-csrf", token), ok, ok, ok, ok},
		{"POST, wrong", post.with("anti-csrf", other), ok, again, ok, ok},
		{"POST, right and wrong", ask{method: "POST", path: "/"}.with("anti-csrf", token, "anti-csrf", other), again, again, again, ok},
		{"POST, right twice", ask{method: "POST", path: "/"}.with("anti-csrf", token, "anti-csrf", token), again, again, again, ok},
		{"POST, right, joined", ask{method: "POST", path: "/"}.with("anti-csrf", token+","+token), again, again, again, ok},
		{"OPTIONS, none", options, again, again, ok, ok},
		{"DELETE, none", ask{method: "DELETE", path: "/"}, again, again, again, ok},
		{"unknown method, none", ask{method: "get", path: "/"}, again, again, again, ok},
		{"navigation", navigation, ok, ok, ok, ok},
		{"navigation from another site", crossNavigation, ok, ok, ok, ok},
		{"navigation of a frame of another site", crossNavigation.with("sec-fetch-dest", "iframe"), never, never, ok, ok},
		{"navigation of a frame of an allowed origin", crossNavigation.with("sec-fetch-dest", "iframe", "referer", "https://partner.example/"), ok, ok, ok, ok},
		{"prerendering by another site", crossNavigation.with("sec-purpose", "prefetch;prerender"), never, never, ok, ok},
		{"prerendering by an unknown page", navigation.with("sec-purpose", "prefetch;prerender"), never, never, ok, ok},
		{"prerendering by the own page", navigation.with("sec-purpose", "prefetch;prerender", "referer", own+"/page"), ok, ok, ok, ok},
		{"navigation, old browser", oldBrowser, ok, ok, ok, ok},
		{"an extension's script", ask{method: "GET", path: "/"}.with("sec-fetch-mode", "cors", "sec-fetch-site", "none"), again, again, ok, ok},
		{"Accept of a navigation, but Sec-Fetch-Site alone", oldBrowser.with("sec-fetch-site", "same-origin"), ok, again, ok, ok},
		{"Sec-Fetch-Mode twice", ask{method: "GET", path: "/"}.with("sec-fetch-mode", "navigate", "sec-fetch-mode", "navigate"), again, again, ok, ok},
		{"Sec-Fetch-Site twice", ask{method: "GET", path: "/"}.with("sec-fetch-site", "same-origin", "sec-fetch-site", "same-origin"), never, never, ok, ok},
		{"image", image, ok, ok, ok, ok},
		{"image from another site", crossImage, never, never, ok, ok},
		{"image from a sibling host", sameSiteImage, never, never, ok, ok},
		{"no-cors POST", noCorsPost, ok, again, ok, ok},
		{"no-cors POST from another site", ask{method: "POST", path: "/i"}.with("sec-fetch-mode", "no-cors", "sec-fetch-site", "cross-site", "origin", "https://evil.example"), never, never, never, ok},
		{"form, own origin", formPost, ok, ok, ok, ok},
		{"form, foreign origin", formWithout.with("origin", "https://evil.example"), never, never, never, ok},
		{"form, null origin, of a page that hides its own", nullForm, ok, ok, ok, ok},
		{"form, null origin, of a sandboxed frame", ask{method: "POST", path: "/form"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "cross-site", "origin", "null"), never, never, never, ok},
		{"form, null origin, old browser", ask{method: "POST", path: "/form"}.with("origin", "null"), never, never, never, ok},
		{"form, two origins", formWithout.with("origin", own, "origin", own), never, never, never, ok},
		{"form, allowed origin", formWithout.with("origin", "https://partner.example"), ok, ok, ok, ok},
		{"form, no origin", formWithout, ok, ok, ok, ok},
		{"form of the same host, but by http", formWithout.with("origin", "http://app.example"), never, never, never, ok},
		{"PUT by navigating", ask{method: "PUT", path: "/"}.with("sec-fetch-mode", "navigate", "origin", own), ok, again, ok, ok},
		{"EventSource", events, ok, ok, ok, ok},
		{"EventSource, own origin", events.with("origin", own), ok, ok, ok, ok},
		{"EventSource, foreign origin", events.with("origin", "https://evil.example"), never, never, never, never},
		{"EventSource, null origin, of a page that hides its own", events.with("origin", "null"), ok, ok, ok, ok},
		{"EventSource, null origin", ask{method: "GET", path: "/"}.with("accept", "text/event-stream", "origin", "null"), never, never, never, never},
		{"EventSource, allowed origin", events.with("origin", "https://partner.example"), ok, ok, ok, ok},
		{"EventSource's Accept, nothing attested", ask{method: "GET", path: "/"}.with("accept", "text/event-stream"), again, again, ok, ok},
		{"EventSource's Accept from another site", ask{method: "GET", path: "/"}.with("accept", "text/event-stream", "sec-fetch-site", "cross-site", "sec-fetch-mode", "no-cors"), never, never, never, never},
		{"EventSource's Accept in a POST", ask{method: "POST", path: "/"}.with("accept", "text/event-stream", "sec-fetch-site", "same-origin", "sec-fetch-mode", "cors", "origin", own), ok, again, ok, ok},
		{"WebSocket, attested", attested.with("origin", own), ok, ok, ok, ok},
		{"WebSocket, own origin", socket.with("origin", own), ok, ok, ok, ok},
		{"WebSocket, allowed origin", socket.with("origin", "https://partner.example"), ok, ok, ok, ok},
		{"WebSocket, foreign origin", socket.with("origin", "https://evil.example"), never, never, never, never},
		{"WebSocket, foreign origin with the token", socket.with("origin", "https://evil.example", "anti-csrf", token), never, never, never, never},
		{"WebSocket, other case", ask{method: "GET", path: "/"}.with("upgrade", "WebSocket", "origin", "https://evil.example"), never, never, never, never},
		{"WebSocket, no origin", socket, again, again, ok, ok},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for mode, want := range map[string]int{"attested": tt.attested, "always": tt.always, "unsafe": tt.unsafe, "off": tt.off} {
				r := check(t, g.server, tt.ask.cookie(access(g.alice)).under("anti_csrf", mode))
				if r.status != want || (r.user == "alice") != (want == 0) {
					t.Errorf("%s: got %d %q, want %d", mode, r.status, r.user, want)
				}
				// Without a session nothing passes, whichever page sent it.
				if r := check(t, g.server, tt.ask.under("anti_csrf", mode)); r.status == 0 {
					t.Errorf("%s: passes without a session", mode)
				}
				// Where no session is needed, another site's page gets the answer to a request without one.
				r = check(t, g.server, tt.ask.cookie(access(g.alice)).under("anti_csrf", mode, "session", "optional"))
				if bare := check(t, g.server, tt.ask.under("anti_csrf", mode, "session", "optional")); want == never && (r.status != bare.status || r.status != 0 || r.user != "") {
					t.Errorf("%s, optional: got %d %q, without a session %d", mode, r.status, r.user, bare.status)
				}
			}
		})
	}
}

// On a route for everybody, another site's page does not even learn that there is a session, whatever state it is in.
func TestForeignOnOptional(t *testing.T) {
	g := newGate(t)
	foreign := ask{method: "GET", path: "/i"}.with("sec-fetch-mode", "no-cors", "sec-fetch-site", "cross-site").under("session", "optional")
	for name, cookie := range map[string]string{
		"none": "", "valid": access(g.alice), "expired": access(g.expired), "ended": access(g.ended), "broken": "sAccessToken=x",
		"of two": access(g.alice) + "; " + access(g.bob), "legacy": browser.LegacyCookie + "=x",
	} {
		if r := check(t, g.server, foreign.cookie(cookie)); r.status != 0 || r.user != "" {
			t.Errorf("%s: got %d %q", name, r.status, r.user)
		}
	}
}

func TestOwnOrigin(t *testing.T) {
	tests := []struct {
		scheme, host, origin string
		own                  bool
	}{
		{"https", "app.example", "https://app.example", true},
		{"https", "app.example:443", "https://app.example", true},
		{"https", "app.example", "https://app.example:443", true},
		{"https", "APP.example", "https://app.example", true},
		{"http", "app.example:80", "http://app.example", true},
		{"http", "app.example:8080", "http://app.example:8080", true},
		{"http", "[::1]:80", "http://[::1]", true},
		{"https", "app.example", "http://app.example", false},
		{"http", "app.example", "https://app.example", false},
		{"https", "app.example:80", "https://app.example", false},
		{"https", "app.example:8443", "https://app.example", false},
		{"https", "app.example", "https://app.example.evil.example", false},
		{"https", "app.example", "https://evil.example", false},
		{"https", "app.example", "https://app.example/", false},
		{"https", "app.example", "null", false},
		{"https", "app.example", "https://", false},
		{"https", "", "https://", false},
		{"", "app.example", "https://app.example", false},
		{"ftp", "app.example", "ftp://app.example", false},
	}
	for _, tt := range tests {
		r := request{method: "POST", scheme: tt.scheme, host: tt.host, origin: tt.origin}
		if got := r.evidence().Initiator(browser.Trust{}); (got == browser.InitiatorOwn) != tt.own || !tt.own && got != browser.InitiatorForeign {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	g := newGate(t)
	behindTLS := formPost.cookie(access(g.alice))
	behindTLS.scheme = "http"
	if r := check(t, g.server, behindTLS); r.status != 403 {
		t.Errorf("an http request with an https Origin: %d", r.status)
	}
	if r := check(t, g.server, behindTLS.with("x-forwarded-proto", "https")); r.status != 0 {
		t.Errorf("TLS ended before Envoy: %d", r.status)
	}
}

func TestWhatPassesWithoutSession(t *testing.T) {
	g := newGate(t, func(c *Config) { c.StripCookies = true })
	preflight := ask{method: "OPTIONS", path: "/api"}.with("origin", "https://x.example", "access-control-request-method", "PUT")
	cookies := "sRefreshToken=r; " + access(g.expired)
	at := func(method, path string) ask { return ask{method: method, path: path}.with("sec-fetch-mode", "cors") }
	tests := []struct {
		name   string
		ask    ask
		passes bool
	}{
		{"refresh", at("POST", "/auth/session/refresh"), true},
		{"refresh, query", at("POST", "/auth/session/refresh?x"), true},
		{"refresh, GET", at("GET", "/auth/session/refresh"), false},
		{"refresh, slash after it", at("POST", "/auth/session/refresh/"), false},
		{"refresh, in front", at("POST", "/x/auth/session/refresh"), false},
		{"refresh, in the query", at("POST", "/api?/auth/session/refresh"), false},
		{"refresh, encoded", at("POST", "/auth/session/%72efresh"), false},
		{"signout", at("POST", "/auth/signout"), true},
		{"signout, GET", at("GET", "/auth/signout"), false},
		{"a key's registration", at("POST", "/auth/session/bind"), true},
		{"a key's proof", at("POST", "/auth/session/bound"), true},
		{"a key's proof, whatever the route says", at("POST", "/auth/session/bound").under("bound", "true"), true},
		{"a key's proof, GET", at("GET", "/auth/session/bound"), false},
		{"a key's proof, slash after it", at("POST", "/auth/session/bound/"), false},
		{"a key's proof, encoded", at("POST", "/auth/session/boun%64"), false},
		{"preflight", preflight, true},
		{"preflight without method", ask{method: "OPTIONS", path: "/"}.with("origin", "https://x.example"), false},
		{"preflight without origin", ask{method: "OPTIONS", path: "/"}.with("access-control-request-method", "PUT"), false},
		{"preflight that is a navigation", preflight.with("sec-fetch-mode", "navigate"), false},
		{"preflight's headers on a GET", ask{method: "GET", path: "/"}.with("origin", "https://x.example", "access-control-request-method", "PUT"), false},
		{"login page", at("GET", "/login"), true},
		{"login page, query", at("GET", "/login?return_to=%2F"), true},
		{"login page, sign-in", at("POST", "/login"), true},
		{"below the login page", at("GET", "/login/x"), false},
		{"route's login page", at("GET", "/in").under("login_url", "/in?x=1"), true},
		{"login elsewhere", at("GET", "https://id.example/").under("login_url", "https://id.example/"), false},
		{"no path, login elsewhere", at("GET", "").under("login_url", "https://id.example/"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := check(t, g.server, tt.ask.cookie(cookies))
			if (r.status == 0) != tt.passes || r.user != "" {
				t.Errorf("got %d %q", r.status, r.user)
			}
			untouched := len(r.removed) == 3 && len(r.headers) == 0
			if tt.passes && untouched == strings.Contains(tt.name, "login") {
				t.Errorf("cookies: removed %v, set %v", r.removed, r.headers)
			}
		})
	}
	if r := check(t, g.server, ask{method: "GET", path: "/login"}.with("sec-fetch-mode", "navigate").cookie(access(g.alice))); r.user != "alice" {
		t.Errorf("the login page does not learn which user is signed in: %d %q", r.status, r.user)
	}
	for _, d := range []*sessions.Denial{sessions.DenyStarting, sessions.DenyEnded, sessions.DenyExpired} {
		s, err := New(denying(d), testConfig())
		if err != nil {
			t.Fatal(err)
		}
		if r := check(t, s, ask{method: "GET", path: "/login"}); r.status != 0 {
			t.Errorf("login page, %v: %d", d, r.status)
		}
	}
}

func TestStripCookies(t *testing.T) {
	g := newGate(t, func(c *Config) { c.StripCookies = true })
	alice := access(g.alice)
	tests := []struct {
		name      string
		cookies   []string
		kept      string // "": unchanged or removed
		untouched bool
	}{
		{"alone", []string{alice}, "", false},
		{"all session cookies", []string{alice + "; sRefreshToken=r; sIdRefreshToken=i; st-access-token=a; st-refresh-token=b; sAntiCsrf=c"}, "", false},
		{"among others", []string{"a=1; " + alice + "; b=x=y"}, "a=1; b=x=y", false},
		{"commas of others", []string{"a=1,2; " + alice + "; b=3"}, "a=1,2; b=3", false},
		{"not UTF-8", []string{"a=1; " + alice + "; b=\xff; c=3"}, "a=1; c=3", false},
		{"nothing but not UTF-8", []string{alice + "; b=\xff"}, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := navigation
			for _, c := range tt.cookies {
				a = a.cookie(c)
			}
			r := check(t, g.server, a)
			removed := cmp.Equal(r.removed, []string{"cookie"})
			if r.user != "alice" || r.headers["cookie"] != tt.kept || removed != (tt.kept == "") {
				t.Errorf("cookie %q, removed %v", r.headers["cookie"], r.removed)
			}
		})
	}
	// Two lines reach us in two ways; no token may be left in either.
	lines := navigation.cookie("a=1").cookie(alice)
	for _, c := range []*authv3.CheckRequest{lines.raw(), lines.under("session", "optional").mapped()} {
		response, _ := g.server.Check(t.Context(), c)
		if r := read(t, response); r.status != 0 || r.headers["cookie"] != "a=1" {
			t.Errorf("%d %v", r.status, r.headers)
		}
	}
	// An optional route sees no broken token either.
	r := check(t, g.server, navigation.cookie("a=1; sAccessToken=x").under("session", "optional"))
	if r.status != 0 || r.headers["cookie"] != "a=1" {
		t.Errorf("optional: %d %v", r.status, r.headers)
	}
}

func TestLogTellsWhyButNoSecret(t *testing.T) {
	var log bytes.Buffer
	g := newGate(t, func(c *Config) { c.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
	secret := g.expired.Access.Reveal()
	a := ask{method: "GET", path: "/a/" + strings.Repeat("b", 1000) + "?token=hush"}.
		with("x-request-id", "0af76519-16cd-43dd-8448-eb211c80319c", "anti-csrf", "hush", "authorization", "hush").cookie("sAccessToken=" + secret)
	_, _ = g.server.Check(t.Context(), a.raw())
	line := log.String()
	for _, want := range []string{`"outcome":"TRY_REFRESH"`, `"rule":"V1"`, sessions.DenyExpired.Message, `"method":"GET"`, `"path":"/a/bbb`, `"request_id":"0af76519-16cd-43dd-8448-eb211c80319c"`, `"level":"INFO"`} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	if strings.Contains(line, "hush") || strings.Contains(line, secret) || len(line) > 1000 || strings.Count(line, "\n") != 1 {
		t.Errorf("log: %s", line)
	}
	log.Reset()
	_, _ = g.server.Check(t.Context(), navigation.cookie(access(g.alice)).raw())
	if log.Len() > 0 {
		t.Errorf("ALLOW at info: %s", log.String())
	}
}

func TestPanicDenies(t *testing.T) {
	var log bytes.Buffer
	cfg := testConfig()
	cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
	s, err := New(verifierFunc(func(tokens []string) (*sessions.Access, *sessions.Denial) { panic("token " + tokens[0]) }), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r := check(t, s, script.cookie("sAccessToken=hush")); r.status != http.StatusServiceUnavailable {
		t.Errorf("got %d", r.status)
	}
	if !strings.Contains(log.String(), "server_test.go") || strings.Contains(log.String(), "hush") {
		t.Errorf("log: %s", log.String())
	}
}

// Claims that Envoy cannot be told of are claims that RBAC would not see.
func TestIdentityOrNothing(t *testing.T) {
	s, err := New(verifierFunc(func([]string) (*sessions.Access, *sessions.Denial) {
		return &sessions.Access{UserID: "u", Transport: sessions.TransportCookie, Claims: []byte(`{"n":1e999}`), EncodedClaims: "x"}, nil
	}), testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if r := check(t, s, navigation.cookie("sAccessToken=x")); r.status != 503 {
		t.Errorf("got %d", r.status)
	}
}

func TestCheckOfNothing(t *testing.T) {
	g := newGate(t)
	for _, c := range []*authv3.CheckRequest{nil, {}, {Attributes: &authv3.AttributeContext{}}} {
		response, err := g.server.Check(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if r := read(t, response); r.status != 302 {
			t.Errorf("got %d", r.status)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"cookie name":   func(c *Config) { c.Cookies.AccessName = "" },
		"login":         func(c *Config) { c.LoginURL = "//evil.example" },
		"default login": func(c *Config) { c.Default.LoginURL = "javascript:x" },
		"refresh path":  func(c *Config) { c.RefreshPath = "" },
		"status":        func(c *Config) { c.SessionExpiredStatus = 200 },
		"status 409":    func(c *Config) { c.SessionExpiredStatus = 409 },
		"D":             func(c *Config) { c.RefreshAttemptMax = 0 },
		"origin":        func(c *Config) { c.AllowedOrigins = []string{"partner.example"} },
	} {
		cfg := testConfig()
		spoil(&cfg)
		if _, err := New(denying(sessions.DenyNoToken), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(nil, testConfig()); err == nil {
		t.Error("no verifier: accepted")
	}
}
