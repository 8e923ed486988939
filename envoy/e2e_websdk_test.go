package envoy_test

import (
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
)

// ofRefresh is a header that the pages add to refreshes.
var ofRefresh = map[string]any{"refreshHeaders": map[string]string{"x-of-refresh": "r"}}

// followsFast has the processes follow the clock soon after it moves, which these tests do often.
const followsFast = "SESSIONGATE_FEED_POLL_INTERVAL=50ms"

// everyCall is the mode in which most depends on the SDKs: they have to repeat the token with each call.
const everyCall = "SESSIONGATE_ANTI_CSRF=always"

// TestWebSDK runs each published SDK on a page of the API's own origin, in a real browser.
func TestWebSDK(t *testing.T) {
	t.Parallel()
	needChromium(t)
	pages := frontends(t)
	s := newStack(t, stackOptions{settings: []string{followsFast, everyCall}, edit: editRoutes(func(v *routev3.VirtualHost) error {
		return errors.Join(
			addRoute(v, "api", "/unguarded/", map[string]string{"session": "required", "on_unauthorised": "auto", "anti_csrf": "off"}),
			addRoute(v, "api", "/admin/", map[string]string{"session": "required", "on_unauthorised": "auto", "require.role": "admin"}),
			addRoute(v, "api", "/testers/", map[string]string{"session": "required", "on_unauthorised": "auto", "require.role": "admin|tester"}),
			refuseRefreshes(v, 429, 503),
		)
	})})
	s.app.pages.Handle("GET /static/", pages)
	s.app.pages.HandleFunc("GET /static/form", form)
	s.app.pages.HandleFunc("POST /static/form", s.app.signInByForm)
	for _, k := range sdks {
		t.Run(k.String(), func(t *testing.T) {
			tests := map[string]func(*testing.T, *sdkPage){
				"first visit":       testFirstVisit,
				"expiry":            testExpiry,
				"parallel calls":    testParallel,
				"sign-out":          testSignOut,
				"ended elsewhere":   testEndedElsewhere,
				"anti-CSRF":         testAntiCSRF,
				"refused refreshes": testRefused,
				"superseded":        testSuperseded,
				"no network":        testNoNetwork,
				"claims":            testClaims,
			}
			if k.by == "fetch" { // what an SDK keeps is the same, whatever it intercepts
				maps.Copy(tests, map[string]func(*testing.T, *sdkPage){
					"sign-out after expiry":           testSignOutExpired,
					"session":                         testSession,
					"asked after expiry":              testAsked,
					"foreign bearer token":            testForeignBearer,
					"planted tokens":                  testPlanted,
					"form":                            testForm,
					"form, without the SDK's cookies": testFormAlone,
				})
			}
			s.newProfileFor(t).run(k, s.site(""), s.site(""), ofRefresh).subtests(t, tests)
		})
	}
}

// TestWebSDKInOtherModes: where the browser vouches for the page's calls, the SDKs work the same, and need fewer refreshes.
func TestWebSDKInOtherModes(t *testing.T) {
	t.Parallel()
	needChromium(t)
	pages := frontends(t)
	for _, mode := range []string{"attested", "unsafe", "off"} {
		t.Run(mode, func(t *testing.T) {
			settings := []string{followsFast, "SESSIONGATE_ANTI_CSRF=" + mode}
			if mode == "attested" {
				settings = settings[:1] // the default
			}
			s := newStack(t, stackOptions{settings: settings})
			s.app.pages.Handle("GET /static/", pages)
			s.app.pages.HandleFunc("GET /static/form", form)
			s.app.pages.HandleFunc("POST /static/form", s.app.signInByForm)
			for _, k := range sdks {
				if k.by != "fetch" && mode != "attested" {
					continue // what differs is the answers, not how a page hears of them
				}
				t.Run(k.String(), func(t *testing.T) {
					s.newProfileFor(t).run(k, s.site(""), s.site(""), ofRefresh).subtests(t, map[string]func(*testing.T, *sdkPage){
						"expiry":         testExpiry,
						"parallel calls": testParallel,
						"sign-out":       testSignOut,
						"form, or a lost token": func(t *testing.T, g *sdkPage) {
							g.signInByForm("alice", "")
							want := 0
							if g.is20() {
								want = 1 // where it never looked before, it asks by a refresh whether there is a session
							}
							if n := g.refreshed(func() { g.reached("alice", g.get()) }); n != want {
								t.Errorf("%d refreshes, want %d: the browser vouches for the call", n, want)
							}
						},
					})
				})
			}
		})
	}
}

// refuseRefreshes makes Envoy answer a refresh with a status while the page has a cookie that names it.
func refuseRefreshes(v *routev3.VirtualHost, statuses ...uint32) error {
	for _, r := range v.GetRoutes() {
		if r.GetName() != "auth" {
			continue
		}
		for _, status := range statuses {
			refusal := proto.CloneOf(r)
			refusal.Name = fmt.Sprintf("refuse-%d", status)
			refusal.Match = &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_Path{Path: refreshPath},
				Headers: []*routev3.HeaderMatcher{{Name: "cookie", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
					MatchPattern: &matcherv3.StringMatcher_Contains{Contains: fmt.Sprintf("refuse=%d", status)},
				}}}},
			}
			refusal.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}}
			refusal.ResponseHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "retry-after", Value: "1"}}}
			v.Routes = append([]*routev3.Route{refusal}, v.GetRoutes()...)
		}
		return nil
	}
	return errors.New("there is no route auth")
}

// testFirstVisit: no one is signed in yet, and nothing loops.
func testFirstVisit(t *testing.T, g *sdkPage) {
	want := 0
	if g.is20() {
		want = 1 // it asks once, without tokens, whether there is a session, and remembers the answer
	}
	n := g.refreshed(func() {
		for range 2 {
			if g.exists() {
				t.Error("the SDK sees a session")
			}
			if r := g.get(); r.Status != http.StatusUnauthorized {
				t.Errorf("a call: %s, want 401", r)
			}
			g.load()
		}
	})
	if n != want {
		t.Errorf("%d refreshes, want %d", n, want)
	}
	g.signIn("alice")
	if !g.exists() {
		t.Error("the SDK sees no session after the sign-in")
	}
}

// testSession: what the SDK knows of a session, in this page and the next.
func testSession(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	n := g.refreshed(func() {
		for range 2 {
			if !g.exists() {
				t.Error("the SDK sees no session")
			}
			g.call("alice")
			if g.is20() {
				if user := eval[string](g.tab, `frontend.user()`); user != "alice" {
					t.Errorf("the SDK says user %q", user)
				}
				payload := eval[map[string]any](g.tab, `frontend.payload()`)
				iat, ok1 := payload["iat"].(float64)
				exp, ok2 := payload["exp"].(float64)
				if payload["sub"] != "alice" || payload["role"] != "tester" || !ok1 || !ok2 || exp-iat != accessLife.Seconds() {
					t.Errorf("the SDK reads the payload of %v: role %v, iat %v, exp %v", payload["sub"], payload["role"], payload["iat"], payload["exp"])
				}
			}
			g.load()
		}
	})
	if n != 0 {
		t.Errorf("%d refreshes, want none", n)
	}
}

// testExpiry: one refresh, unseen by the page's code, and the call is repeated with all that was its own.
func testExpiry(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	for range 2 { // a refresh is no sign-in: the second one starts from what the first one left
		g.advance(accessLife)
		var saw seen
		n := g.refreshed(func() {
			saw = g.reached("alice", eval[reply](g.tab, g.sending("POST", callPath, map[string]string{"x-of-call": "c"}, "text")))
		})
		if n != 1 || g.sent("POST", callPath)%2 != 0 {
			t.Errorf("%d refreshes and %d calls, want one, and the call twice", n, g.sent("POST", callPath))
		}
		if saw.Method != "POST" || saw.Header.Get("X-Of-Call") != "c" || saw.Header.Get("Content-Length") != "4" {
			t.Errorf("the repeated call reaches the app as %s with the header %q and %s bytes", saw.Method, saw.Header.Get("X-Of-Call"), saw.Header.Get("Content-Length"))
		}
		if got := g.header(refreshPath, "x-of-refresh"); got != "r" {
			t.Errorf("the refresh has the page's own header as %q", got)
		}
	}
	if got := g.mishaps(); len(got) > 0 {
		t.Error(got)
	}
}

// testParallel: many calls at once in two tabs take one refresh.
func testParallel(t *testing.T, g *sdkPage) {
	handle := g.signIn("alice")
	tabs := []*sdkPage{g, g.another()}
	g.advance(accessLife)
	before := refreshes(tabs[0].tab, tabs[1].tab)
	for _, h := range tabs {
		eval[any](h.tab, fmt.Sprintf(`(window.calls = Promise.all(Array.from({ length: 10 }, () => %s)), 0)`, h.sending("GET", callPath, nil, nil)))
	}
	for _, h := range tabs {
		for _, r := range eval[[]reply](h.tab, `calls`) {
			h.reached("alice", r)
		}
	}
	// With axios, 4.x looks at its marker only when it handles a 440: one that comes after another call's refresh makes it refresh again.
	if n := refreshes(tabs[0].tab, tabs[1].tab) - before; n < 1 || n > 1 && (g.is20() || g.by != "axios") {
		t.Errorf("%d refreshes, want 1", n)
	}
	if n := g.issues(handle); n > 1 {
		t.Errorf("%d issues, want 1", n)
	}
}

// testSignOut: the session has ended here and there, and the SDK asks for none afterwards.
func testSignOut(t *testing.T, g *sdkPage) {
	handle := g.signIn("alice")
	other := g.another()
	if !other.exists() {
		t.Error("the other tab sees no session")
	}
	g.signOut()
	for _, h := range []*sdkPage{g, other} {
		n := h.refreshed(func() {
			if h.exists() {
				t.Error("the SDK sees a session")
			}
			if r := h.get(); r.Status != http.StatusUnauthorized {
				t.Errorf("a call: %s, want 401", r)
			}
		})
		if n != 0 {
			t.Errorf("%d refreshes, want none", n)
		}
	}
	if n := g.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = $1`, handleBytes(handle)); n != 0 {
		t.Error("the session is still there")
	}
	for _, name := range []string{"sAccessToken", "sRefreshToken", "sIRTFrontend", "sFrontToken", "sAntiCsrf", "st-access-token", "st-refresh-token"} {
		if g.cookie(name) != "" {
			t.Errorf("the browser still has %s", name)
		}
	}
	if g.is20() && !slices.Contains(g.events(), "SIGN_OUT") {
		t.Errorf("events %q", g.events())
	}
}

// testSignOutExpired: a session whose access token has expired can be left, too.
func testSignOutExpired(t *testing.T, g *sdkPage) {
	handle := g.signIn("alice")
	g.advance(accessLife)
	g.signOut()
	if n := g.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = $1`, handleBytes(handle)); n != 0 {
		t.Error("the session is still there")
	}
	if g.exists() {
		t.Error("the SDK sees a session")
	}
}

// endElsewhere ends the page's session by the API, and waits until no process allows it.
func (g *sdkPage) endElsewhere(handle string) {
	g.Helper()
	access, antiCSRF, bearer := g.cookie("sAccessToken"), g.header(callPath, "anti-csrf"), g.header(callPath, "authorization")
	g.processes[0].api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil)
	if bearer == "" {
		g.denied(access, antiCSRF)
		return
	}
	ask := checkRequest("", "")
	ask.Attributes.Request.Http.Headers["authorization"] = bearer
	for _, p := range g.processes {
		g.eventually(p.name+" denies", func() bool {
			response, err := p.gate.Check(g.Context(), ask)
			return err == nil && response.GetDeniedResponse().GetStatus().GetCode() == http.StatusUnauthorized
		})
	}
}

// testEndedElsewhere: the SDK believes in the session until its access token has expired. Then the refresh fails, and it knows.
func testEndedElsewhere(t *testing.T, g *sdkPage) {
	g.endElsewhere(g.signIn("alice"))
	n := g.refreshed(func() {
		if r := g.get(); r.Status != http.StatusUnauthorized {
			t.Errorf("a call: %s, want 401", r)
		}
	})
	if n != 0 || !g.exists() {
		t.Errorf("%d refreshes; the SDK sees a session: %t; want none, and that it still does", n, g.exists())
	}
	g.advance(accessLife)
	n = g.refreshed(func() {
		for _, status := range []int{440, http.StatusUnauthorized} {
			if r := g.get(); r.Status != status {
				t.Errorf("a call: %s, want %d", r, status)
			}
		}
	})
	if n != 1 || g.exists() {
		t.Errorf("%d refreshes; the SDK sees a session: %t; want one, and that it sees none", n, g.exists())
	}
	if g.is20() && !slices.Contains(g.events(), "UNAUTHORISED") {
		t.Errorf("events %q", g.events())
	}
	g.signIn("bob") // all is well again
}

// testAsked: 20.x knows from the payload when the access token expires, and refreshes before it answers.
func testAsked(t *testing.T, g *sdkPage) {
	if !g.is20() {
		return // has no such question
	}
	handle := g.signIn("alice")
	hourLater := func() {
		g.advance(accessLife)
		eval[any](g.tab, fmt.Sprintf(`(Date.now = ((now) => () => now() + %d)(Date.now), 0)`, accessLife.Milliseconds()))
	}
	issued := func() float64 { return eval[float64](g.tab, `frontend.payload().then((p) => p.iat)`) }
	before := issued()
	hourLater()
	if n := g.refreshed(func() {
		if after := issued(); after < before+accessLife.Seconds() {
			t.Errorf("the payload is of %v, want of an hour after %v", after, before)
		}
	}); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	g.call("alice")
	g.endElsewhere(handle)
	hourLater()
	if n := g.refreshed(func() {
		if g.exists() {
			t.Error("the SDK sees a session")
		}
	}); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

// testAntiCSRF: the token is sent with every call, required, and got again where it was lost.
func testAntiCSRF(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	g.call("alice")
	if g.header(callPath, "anti-csrf") == "" {
		t.Error("a call has no anti-CSRF token")
	}
	eval[any](g.tab, `(localStorage.removeItem("anti-csrf-localstorage"), document.cookie = "sAntiCsrf=; path=/; max-age=0", 0)`)
	g.load()
	if n := g.refreshed(func() { g.reached("alice", g.send("GET", "/unguarded/call")) }); n != 0 {
		t.Errorf("%d refreshes where no anti-CSRF token is required, want none", n)
	}
	if g.header("/unguarded/call", "anti-csrf") != "" {
		t.Error("the token was not lost")
	}
	if n := g.refreshed(func() { g.call("alice") }); n != 1 {
		t.Errorf("%d refreshes for the lost token, want 1", n)
	}
	calls := g.seen(func(x *exchange) bool { return x.path == callPath })
	if last := calls[len(calls)-2:]; last[0].status != 440 || last[0].requestHeaders["anti-csrf"] != "" || last[1].requestHeaders["anti-csrf"] == "" {
		t.Errorf("the call without the token: %d, want 440, and then one with it", last[0].status)
	}
}

// survives holds the SDK to keep the session through a refresh that gave nothing, and to go on once refreshes work.
func (g *sdkPage) survives(t *testing.T, status int, mend func()) {
	t.Helper()
	n := g.refreshed(func() {
		// The page's code is handed the refresh's answer: by 20.x as if it were its own request's, by 4.x as an exception.
		if r := g.get(); r.Status != status || r.Thrown == (g.is20() && status != 0) {
			t.Errorf("a call: %s, want %d", r, status)
		}
	})
	if n != 1 {
		t.Errorf("%d refreshes, want 1: none is repeated by itself", n)
	}
	if !g.exists() {
		t.Errorf("after %d the SDK sees no session", status)
	}
	mend()
	if n := g.refreshed(func() { g.call("alice") }); n != 1 {
		t.Errorf("%d refreshes after %d, want 1", n, status)
	}
}

// testRefused: a 429 or 503 for a refresh ends nothing.
func testRefused(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	for _, status := range []int{429, 503} {
		g.advance(accessLife)
		eval[any](g.tab, fmt.Sprintf(`document.cookie = "refuse=%d; path=/"`, status))
		g.survives(t, status, func() { eval[any](g.tab, `document.cookie = "refuse=; path=/; max-age=0"`) })
	}
}

// testSuperseded: a 409, because another client was handed the child.
func testSuperseded(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	g.advance(accessLife)
	other := g.newBrowser(networkX)
	other.jar[cookieKey{"sRefreshToken", "", "/auth"}] = g.cookie("sRefreshToken")
	other.mustRefresh(t)
	g.survives(t, 409, func() { g.advance(repeat) })
}

// testNoNetwork: a refresh without any answer ends nothing.
func testNoNetwork(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	g.advance(accessLife)
	g.block("*://*:*" + refreshPath)
	g.survives(t, 0, func() { g.block() })
}

// testClaims: a claim that a route requires and the session has not is a 403, which 20.x tells the page of.
func testClaims(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	g.reached("alice", g.send("GET", "/testers/call"))
	n := g.refreshed(func() {
		if r := g.send("GET", "/admin/call"); r.Status != http.StatusForbidden || r.Thrown {
			t.Errorf("a call: %s, want 403", r)
		}
	})
	if n != 0 || !g.exists() {
		t.Errorf("%d refreshes; the SDK sees a session: %t", n, g.exists())
	}
	if g.is20() {
		ids := eval[[]string](g.tab, `frontend.events.filter((e) => e.action === "API_INVALID_CLAIM").flatMap((e) => e.claimValidationErrors.map((c) => c.id))`)
		if !slices.Equal(ids, []string{"role"}) {
			t.Errorf("the SDK tells of the claims %q, want role", ids)
		}
	}
}

// testForeignBearer: a bearer token of another system goes to the app, and does not touch the session.
func testForeignBearer(t *testing.T, g *sdkPage) {
	const foreign = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ." // of bob, with no signature
	g.signIn("alice")
	call := func() seen {
		return g.reached("alice", eval[reply](g.tab, g.sending("GET", callPath, map[string]string{"authorization": foreign}, nil)))
	}
	for range 2 {
		if got := call().Header.Get("Authorization"); got != foreign {
			t.Errorf("the app sees the authorization %q", got)
		}
		g.advance(accessLife)
	}
}

// testPlanted: a sibling host's cookies make 20.x send the tokens of the sibling's session along. The user stays the same.
func testPlanted(t *testing.T, g *sdkPage) {
	if !g.is20() {
		return // has no header transport
	}
	g.signIn("alice")
	var c created
	if status, _ := g.processes[0].api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "mallory", "transport": "header"}, &c); status != http.StatusCreated {
		t.Fatalf("creating a session: %d", status)
	}
	g.secrets.add(c.Tokens.Access, c.Tokens.Refresh)
	for name, value := range map[string]string{"st-access-token": c.Tokens.Access, "st-refresh-token": c.Tokens.Refresh} {
		if _, err := chromedp.Call(g.ctx, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: g.site}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		g.call("alice")
		if g.header(callPath, "authorization") == "" {
			t.Error("the SDK sends no bearer token: this test tries nothing")
		}
		g.advance(accessLife)
		g.call("alice")
	}
}

// form is a page without any script.
func form(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = fmt.Fprintf(w, `<!doctype html><title>sign in</title><link rel="icon" href="data:,"><form method="post" action="%s"><input name="user"></form>`,
		html.EscapeString(r.URL.RequestURI()))
}

// signInByForm is a login handler for it: it leads on to a page, and issues the SDKs' cookies where the address says so.
func (a *app) signInByForm(w http.ResponseWriter, r *http.Request) {
	var c struct {
		SetCookie  []string `json:"set_cookie"`
		SDKCookies []string `json:"sdk_cookies"`
	}
	status, _ := a.stack.processes[0].api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": r.FormValue("user"), "claims": map[string]any{"role": "tester"}, "host": r.Host}, &c)
	if status != http.StatusCreated {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	lines := c.SetCookie
	if r.URL.Query().Has("sdk_cookies") {
		lines = append(lines, c.SDKCookies...)
	}
	for _, line := range lines {
		w.Header().Add("Set-Cookie", line)
	}
	http.Redirect(w, r, r.URL.Query().Get("next"), http.StatusSeeOther)
}

// signInByForm signs a user in by the form, which leads to the page of the SDK.
func (g *sdkPage) signInByForm(user, query string) {
	g.Helper()
	next := g.site + "/static/" + g.bundle
	g.goTo(g.api + "/static/form?next=" + url.QueryEscape(next) + query)
	eval[any](g.tab, fmt.Sprintf(`(document.forms[0].user.value = %q, document.forms[0].submit())`, user))
	g.await(fmt.Sprintf(`location.href === %q && document.readyState === "complete"`, next))
	g.start()
}

// testForm: the SDK sees a session that began by a form's answer, which no script read, by the cookies that came with it; and ends it.
func testForm(t *testing.T, g *sdkPage) {
	if g.exists() {
		t.Error("the SDK sees a session before the sign-in")
	}
	g.signInByForm("alice", "&sdk_cookies")
	if !g.exists() {
		t.Error("the SDK sees no session")
	}
	n := g.refreshed(func() { g.call("alice") })
	want := 1 // 4.x keeps the anti-CSRF token where no answer can put it: its first call gets it by a refresh
	if g.is20() {
		want = 0
		if user := eval[string](g.tab, `frontend.user()`); user != "alice" {
			t.Errorf("the SDK says user %q", user)
		}
		if role := eval[string](g.tab, `frontend.payload().then((p) => p.role)`); role != "tester" {
			t.Errorf("the SDK reads the role %q", role)
		}
	}
	if n != want {
		t.Errorf("%d refreshes, want %d", n, want)
	}
	g.advance(accessLife)
	if n := g.refreshed(func() { g.call("alice") }); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	names := eval[[]string](g.tab, `document.cookie.split("; ").map((pair) => pair.split("=")[0])`)
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("the SDK has set a cookie beside the one that came: %q", names)
	}
	g.signOut()
	if g.exists() {
		t.Error("the SDK sees a session after the sign-out")
	}
}

// testFormAlone: without those cookies 4.x does not see the session. Neither does 20.x, unless it never looked before: then it asks.
func testFormAlone(t *testing.T, g *sdkPage) {
	blind := func(when string) {
		n := g.refreshed(func() {
			if r := g.get(); g.exists() || r.Status != 440 {
				t.Errorf("%s the SDK sees a session: %t; a call: %s, want 440", when, g.exists(), r)
			}
		})
		if n != 0 {
			t.Errorf("%s %d refreshes, want none", when, n)
		}
	}
	g.signInByForm("alice", "")
	if !g.is20() {
		blind("at first")
		return
	}
	if n := g.refreshed(func() { g.call("alice") }); n != 1 || !g.exists() {
		t.Errorf("%d refreshes; the SDK sees a session: %t; want one, and that it does", n, g.exists())
	}
	g.signOut()
	g.signInByForm("bob", "")
	blind("afterwards")
}

// TestWebSDKDefaultStatus runs the SDKs as they come, on 401, where sessiongate is set to it.
func TestWebSDKDefaultStatus(t *testing.T) {
	t.Parallel()
	needChromium(t)
	pages := frontends(t)
	s := newStack(t, stackOptions{settings: []string{followsFast, everyCall, "SESSIONGATE_RESPONSES_SESSION_EXPIRED_STATUS=401"}})
	s.app.pages.Handle("GET /static/", pages)
	more := maps.Clone(ofRefresh)
	more["sessionExpiredStatusCode"] = nil
	for _, k := range sdks {
		t.Run(k.String(), func(t *testing.T) {
			tests := map[string]func(*testing.T, *sdkPage){
				"expiry":          testExpiry,
				"ended elsewhere": testEndedElsewhereAtOnce,
			}
			if k.by == "fetch" {
				tests["first visit"], tests["sign-out"] = testFirstVisit, testSignOut
			}
			s.newProfileFor(t).run(k, s.site(""), s.site(""), more).subtests(t, tests)
		})
	}
}

// testEndedElsewhereAtOnce: where "not signed in" is 401 too, the SDK refreshes on it, and knows at once.
func testEndedElsewhereAtOnce(t *testing.T, g *sdkPage) {
	g.endElsewhere(g.signIn("alice"))
	n := g.refreshed(func() {
		for range 2 {
			if r := g.get(); r.Status != http.StatusUnauthorized {
				t.Errorf("a call: %s, want 401", r)
			}
		}
	})
	if n != 1 || g.exists() {
		t.Errorf("%d refreshes; the SDK sees a session: %t; want one, and that it sees none", n, g.exists())
	}
}

// TestWebSDKCrossOrigin runs the SDKs on a page of another origin than the API's, but of its site.
func TestWebSDKCrossOrigin(t *testing.T) {
	t.Parallel()
	needChromium(t)
	web := httptest.NewServer(frontends(t))
	t.Cleanup(web.Close)
	origin := originOf(t, web, "web.app.localhost")
	s := newStack(t, stackOptions{
		settings: []string{followsFast, everyCall, "SESSIONGATE_ALLOWED_ORIGINS=" + origin, "SESSIONGATE_COOKIES_FRONTEND_DOMAIN=app.localhost"},
		edit:     editRoutes(func(v *routev3.VirtualHost) error { return allowOrigins(v, origin) }),
	})
	s.app.pages.HandleFunc("GET /static/form", form)
	s.app.pages.HandleFunc("POST /static/form", s.app.signInByForm)
	more := maps.Clone(ofRefresh)
	more["websiteRootDomain"], more["sessionTokenFrontendDomain"] = "app.localhost", "app.localhost"
	for _, k := range sdks {
		t.Run(k.String(), func(t *testing.T) {
			tests := map[string]func(*testing.T, *sdkPage){
				"expiry": func(t *testing.T, g *sdkPage) {
					testExpiry(t, g)
					for _, path := range []string{"/login", callPath, refreshPath} {
						if !g.preflighted(path) {
							t.Errorf("no preflight for %s", path)
						}
					}
				},
				"sign-out": testSignOut,
			}
			if k.by == "fetch" {
				tests["first visit"], tests["session"], tests["form"] = testFirstVisit, testSession, testForm
			}
			s.newProfileFor(t).run(k, origin, s.site(""), more).subtests(t, tests)
			t.Run("an origin that is not listed", func(t *testing.T) {
				g := s.newProfileFor(t).run(k, originOf(t, web, "other.app.localhost"), s.site(""), nil)
				if r := eval[reply](g.tab, g.sending("POST", "/login", nil, "alice")); r.Status != 0 || r.Message == "" {
					t.Errorf("a sign-in: %s, want none", r)
				}
				if g.exists() {
					t.Error("the SDK sees a session")
				}
			})
		})
	}
}

// preflighted says whether a preflight for a path has been answered.
func (g *sdkPage) preflighted(path string) bool {
	return len(g.seen(func(x *exchange) bool {
		return x.method == http.MethodOptions && x.path == path && x.status == http.StatusOK
	})) > 0
}

// originOf is the origin of a server by another name of this machine.
func originOf(t *testing.T, server *httptest.Server, name string) string {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + name + ":" + u.Port()
}

// allowOrigins is what the shipped configuration asks for at CHANGE, and the headers that the pages send of their own.
func allowOrigins(v *routev3.VirtualHost, origins ...string) error {
	packed := v.GetTypedPerFilterConfig()["envoy.filters.http.cors"]
	policy := new(corsv3.CorsPolicy)
	if err := packed.UnmarshalTo(policy); err != nil {
		return err
	}
	policy.AllowOriginStringMatch = nil
	for _, origin := range origins {
		policy.AllowOriginStringMatch = append(policy.AllowOriginStringMatch, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: origin}})
	}
	policy.AllowHeaders += ", x-of-call, x-of-refresh"
	return packed.MarshalFrom(policy)
}

// TestWebSDKHeaders runs 20.x with tokens in headers: on a page of another site, where no cookie of the API's goes, and on the API's own.
func TestWebSDKHeaders(t *testing.T) {
	t.Parallel()
	needChromium(t)
	pages := frontends(t)
	web := httptest.NewServer(pages)
	t.Cleanup(web.Close)
	origin := originOf(t, web, "web.localhost")
	s := newStack(t, stackOptions{
		settings: []string{followsFast, "SESSIONGATE_ALLOWED_ORIGINS=" + origin},
		edit: editRoutes(func(v *routev3.VirtualHost) error {
			return errors.Join(allowOrigins(v, origin), refuseRefreshes(v, 429, 503))
		}),
	})
	s.app.pages.Handle("GET /static/", pages)
	more := maps.Clone(ofRefresh)
	more["tokenTransferMethod"] = "header"
	for _, k := range sdks {
		if !k.is20() {
			continue
		}
		t.Run(k.by+" of another site", func(t *testing.T) {
			tests := map[string]func(*testing.T, *sdkPage){
				"session in headers": testHeaders,
				"expiry":             testExpiry,
				"sign-out":           testSignOut,
			}
			if k.by == "fetch" {
				tests["first visit"], tests["session"] = testFirstVisit, testSession
				tests["parallel calls"], tests["ended elsewhere"] = testParallel, testEndedElsewhere
			}
			s.newProfileFor(t).run(k, origin, s.site(""), more).subtests(t, tests)
		})
		t.Run(k.by+" of the same origin", func(t *testing.T) {
			s.newProfileFor(t).run(k, s.site(""), s.site(""), more).subtests(t, map[string]func(*testing.T, *sdkPage){
				"session in headers":    testHeaders,
				"sign-out after expiry": testSignOutExpired,
				"refused refreshes":     testRefused,
			})
		})
	}
}

// testHeaders: tokens come and go in headers, no cookie and no anti-CSRF token does, and the SDK's own copies stay away from the app.
func testHeaders(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	for range 2 {
		for _, line := range g.call("alice").Header.Values("Cookie") {
			cookies, err := http.ParseCookie(line)
			if err != nil {
				t.Error(err)
			}
			for _, c := range cookies {
				if slices.Contains([]string{"st-access-token", "st-refresh-token", "sAccessToken", "sRefreshToken"}, c.Name) {
					t.Errorf("the app is sent the cookie %s", c.Name)
				}
			}
		}
		if g.cookie("sAccessToken") != "" || g.cookie("sRefreshToken") != "" {
			t.Error("the browser has a cookie of the session")
		}
		if !strings.HasPrefix(g.header(callPath, "authorization"), "Bearer ey") || g.header(callPath, "anti-csrf") != "" {
			t.Error("a call has no bearer token, or an anti-CSRF token")
		}
		if token := eval[string](g.tab, `frontend.accessToken()`); "Bearer "+token != g.header(callPath, "authorization") {
			t.Error("the SDK's access token is not the one that it sends")
		}
		g.advance(accessLife)
		g.call("alice")
		if !strings.HasPrefix(g.header(refreshPath, "authorization"), "Bearer sgr") {
			t.Error("a refresh has no refresh token")
		}
	}
}
