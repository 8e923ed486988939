package envoy_test

// Pages of a system without any SDK, in a real browser: what a person sees whose access token expired. The page under test is
// authz/page.html.

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Hosts below localhost at which Envoy makes the auth path misbehave.
const (
	forgetfulHost = "forgetful.localhost" // the refresh's cookies get lost
	busyHost      = "busy.localhost"      // 429, and come back in 116 days
	strictHost    = "strict.localhost"    // a Content-Security-Policy of the operator's on every answer
)

// pageRoutes are routes of an operator beside the shipped ones.
var pageRoutes = editRoutes(func(v *routev3.VirtualHost) error {
	for prefix, policy := range map[string]map[string]string{
		"/unsafe":      {"session": "required", "anti_csrf": "unsafe"},
		"/always":      {"session": "required", "anti_csrf": "always"},
		"/with-return": {"session": "required", "return_to": "true"},
	} {
		if err := addRoute(v, "default", prefix, policy); err != nil {
			return err
		}
	}
	forgetful := proto.CloneOf(named(v, "auth"))
	forgetful.ResponseHeadersToRemove = []string{"set-cookie"}
	forgetful.Match.Headers = atHost(forgetfulHost)

	busy := proto.CloneOf(named(v, "auth"))
	busy.Match.Headers = atHost(busyHost)
	busy.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: http.StatusTooManyRequests}}
	busy.ResponseHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "retry-after", Value: "9999999"}}}

	// Not by the route's response_headers_to_add, which does not reach denials.
	policy, err := anypb.New(&headermutationv3.HeaderMutationPerRoute{Mutations: &headermutationv3.Mutations{
		ResponseMutations: []*mutationrulesv3.HeaderMutation{{Action: &mutationrulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: "content-security-policy", Value: "default-src 'none'"},
		}}}},
	}})
	if err != nil {
		return err
	}
	strict := proto.CloneOf(named(v, "default"))
	strict.Match.Headers = atHost(strictHost)
	strict.TypedPerFilterConfig["envoy.filters.http.header_mutation"] = policy

	v.Routes = append([]*routev3.Route{busy, forgetful}, v.GetRoutes()...)
	v.Routes = slices.Insert(v.Routes, len(v.GetRoutes())-1, strict)
	return nil
})

func named(v *routev3.VirtualHost, name string) *routev3.Route {
	for _, r := range v.GetRoutes() {
		if r.GetName() == name {
			return r
		}
	}
	return nil
}

func atHost(name string) []*routev3.HeaderMatcher {
	return []*routev3.HeaderMatcher{{Name: ":authority", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: name + ":"}},
	}}}
}

// newPageStack has an app with pages. Each tells its user.
func newPageStack(t *testing.T, settings ...string) *stack {
	t.Helper()
	s := newStack(t, stackOptions{settings: settings, edit: pageRoutes})
	for _, path := range []string{"/page", "/other", "/unsafe/page", "/always/page", "/with-return/page", "/optional/page"} {
		s.app.pages.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Security-Policy", "frame-ancestors *")
			_, _ = fmt.Fprintf(w, "<!doctype html><title>app</title><h1 id=user>%s</h1>", r.Header.Get("X-Session-User-Id"))
		})
	}
	s.app.pages.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>sign in</title>")
	})
	return s
}

const (
	// onApp holds on a page of the app, for any user; onLogin on the sign-in page.
	onApp   = `document.title === "app" && document.readyState === "complete"`
	onLogin = `document.title === "sign in" && document.readyState === "complete"`
	// told is what the page under test says.
	told = `document.getElementById("status").textContent`
)

// expired signs a user in and lets the access token expire. The refresh token is then beyond G.
func (p *profile) expired(name, user string) *tab {
	p.Helper()
	t := p.signedInAt(name, user)
	p.advance(accessLife)
	return t
}

// one is the name of the shared stack's ordinary host.
const one = "app.localhost"

// survived fails the test unless the user has one session, and no theft was seen.
func (p *profile) survived(user string) {
	p.Helper()
	if n := p.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE user_id = $1`, user); n != 1 {
		p.Errorf("%d sessions of %s, want 1", n, user)
	}
	if n := p.count(`SELECT count(*) FROM sessiongate.audit_events WHERE reason IN ('theft', 'refresh_abuse', 'rolled_back')`); n != 0 {
		p.Errorf("%d sessions ended as stolen or abused", n)
	}
}

// atOnce navigates each tab to its address at the same time, as a browser does that restores them.
func (p *profile) atOnce(tabs []*tab, address func(int) string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	faults := make([]error, len(tabs))
	for i, t := range tabs {
		all.Go(func() {
			tabCtx, stop := context.WithCancel(t.ctx)
			defer stop()
			defer context.AfterFunc(ctx, stop)()
			_, faults[i] = chromedp.Call(tabCtx, cdppage.Navigate, cdppage.NavigateParams{URL: address(i)})
		})
	}
	all.Wait()
	for _, err := range faults {
		if err != nil {
			p.Fatal(err)
		}
	}
}

// do carries actions out.
func (t *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// onEveryPage runs a script in each document of the tab before its own scripts.
func (t *tab) onEveryPage(script string) {
	t.Helper()
	if _, err := chromedp.Call(t.ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: script}); err != nil {
		t.Fatal(err)
	}
}

// stopClock holds back whatever the tab's pages set a timer for. pass() then lets the time pass that the eldest timer waits for, and
// gives its milliseconds; the clock goes on from there on the next page. limits are those of what may take too long, which abort() ends.
const stopClock = `{
  const memory = sessionStorage, key = "test.clock", now = Date.now, moved = () => Number(memory.getItem(key));
  Date.now = () => now() + moved();
  window.timers = [];
  window.setTimeout = (act, ms) => timers.push({ act, ms });
  window.pass = () => {
    const { act, ms } = timers.shift();
    memory.setItem(key, moved() + Math.max(0, ms));
    act();
    return ms;
  };
  window.limits = [];
  AbortSignal.timeout = (ms) => {
    const controller = new AbortController();
    limits.push({ ms, abort: () => controller.abort(new DOMException("", "TimeoutError")) });
    return controller.signal;
  };
}`

// pass waits until the page waits, and lets that time pass.
func (t *tab) pass() (ms float64) {
	t.Helper()
	t.await(`window.timers?.length > 0`)
	return eval[float64](t, `pass()`)
}

// documents counts the navigations so far, those in frames included.
func (t *tab) documents() int {
	return len(t.seen(func(x *exchange) bool { return x.kind == "Document" }))
}

// entries are the addresses of the tab's history, and which one is shown.
func (t *tab) entries() (current int, paths []string) {
	t.Helper()
	history, err := chromedp.Run(t.ctx, chromedp.NavigationEntries())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range history.Entries {
		paths = append(paths, pathOf(e.URL))
	}
	return int(history.CurrentIndex), paths
}

// quiet fails the test where a page complained.
func (t *tab) quiet() {
	t.Helper()
	if faults := t.mishaps(); len(faults) > 0 {
		t.Error(faults)
	}
}

// want fails the test unless there were so many refreshes and navigations.
func (t *tab) want(refreshed, loaded int) {
	t.Helper()
	if n, m := refreshes(t), t.documents(); n != refreshed || m != loaded {
		t.Errorf("%d refreshes and %d documents, want %d and %d", n, m, refreshed, loaded)
	}
}

func (p *profile) setCookie(name, value, path string) {
	p.Helper()
	if _, err := chromedp.Call(p.ctx, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: p.site(path), Path: path, HTTPOnly: new(true)}); err != nil {
		p.Fatal(err)
	}
}

func TestRefreshPage(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s := newPageStack(t)

	t.Run("an expired navigation comes back to its address after one refresh", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.expired(one, "alice")
		tab.goTo("/page?a=1&b=%20&a=2#here")
		tab.awaitPath("/page?a=1&b=%20&a=2#here")
		tab.await(`document.getElementById("user")?.textContent === "alice"`)
		tab.want(1, 3) // the login page, the page under test, the app's
		tab.quiet()
		p.survived("alice")
	})

	t.Run("ten tabs restored at once", func(t *testing.T) {
		p := s.newProfileFor(t)
		tabs := []*tab{p.expired(one, "tabs")}
		for range 9 {
			tabs = append(tabs, p.newTab())
		}
		path := func(i int) string { return fmt.Sprintf("/page?tab=%d#%d", i, i) }
		p.atOnce(tabs, func(i int) string { return p.site(path(i)) })
		for i, tab := range tabs {
			tab.awaitPath(path(i))
			tab.await(onApp)
			tab.quiet()
		}
		if n := refreshes(tabs...); n != 1 {
			t.Errorf("%d refreshes, want 1: the tabs have a lock", n)
		}
		p.survived("tabs")
	})

	t.Run("an ended session", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.expired(one, "ended")
		if status, _ := p.processes[0].api(http.MethodDelete, "/v1/users/ended/sessions", nil, nil); status != http.StatusOK {
			t.Fatalf("ending: %d", status)
		}
		p.advance(2*attempt + moment) // before, a refresh answers 409
		tab.goTo("/page")
		tab.await(onLogin)
		tab.want(1, 3)
		if at, paths := tab.entries(); at != len(paths)-1 || paths[at] != "/login" || slices.Contains(paths, "/page") {
			t.Errorf("history: %q", paths)
		}
		tab.goTo("/page") // no session
		tab.await(onLogin)
		if n := refreshes(tab); n != 1 {
			t.Errorf("%d refreshes: the first one took the cookies", n)
		}
		tab.quiet()
	})

	t.Run("the sign-in page leads back where the route wants that", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.open("/login")
		p.setCookie("sAccessToken", "dead", "/")
		tab.goTo("/with-return/page?a=1")
		tab.awaitPath("/login?return_to=%2Fwith-return%2Fpage%3Fa%3D1")
		tab.want(1, 3)
	})

	t.Run("both tokens dead", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.open("/login")
		p.setCookie("sAccessToken", "dead", "/")
		p.setCookie("sRefreshToken", "dead", "/auth")
		tab.goTo("/page")
		tab.await(onLogin)
		tab.want(1, 3)
		if cookies, err := chromedp.Call(p.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{p.site("/auth/x")}}); err != nil || len(cookies.Cookies) > 0 {
			t.Errorf("%d cookies are left (%v)", len(cookies.Cookies), err)
		}
	})

	t.Run("a route that can do without a session", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.expired(one, "optional")
		tab.goTo("/optional/page")
		tab.await(onApp)
		if user := eval[string](tab, `document.getElementById("user").textContent`); user != "optional" {
			t.Errorf("shown as %q", user)
		}
		tab.want(1, 3)

		p = s.newProfileFor(t)
		tab = p.expired(one, "optional2")
		p.processes[0].api(http.MethodDelete, "/v1/users/optional2/sessions", nil, nil)
		p.advance(2*attempt + moment)
		tab.goTo("/optional/page?x#y")
		tab.awaitPath("/optional/page?x#y")
		tab.await(onApp + ` && document.getElementById("user").textContent === ""`)
		tab.want(1, 3)
		tab.quiet()
	})

	t.Run("a form", func(t *testing.T) { testExpiredForm(t, s) })
	t.Run("frames", func(t *testing.T) { testExpiredFrames(t, s) })
	t.Run("history", func(t *testing.T) { testHistory(t, s) })
	t.Run("prefetch", func(t *testing.T) { testPrefetch(t, s) })
	t.Run("service workers", func(t *testing.T) { testServiceWorkers(t, s) })
	t.Run("trouble", func(t *testing.T) { testTrouble(t, s) })
	t.Run("looks", func(t *testing.T) { testLooks(t, s) })
}

// TestRefreshPageWithoutLocks: plain HTTP beyond loopback is no secure context, so there are no Web Locks; and the cookies are of a domain.
func TestRefreshPageWithoutLocks(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s := newPageStack(t, "SESSIONGATE_COOKIES_SECURE=false", "SESSIONGATE_COOKIES_DOMAIN=example.test")
	restore := func(t *testing.T, user string, names ...string) {
		t.Helper()
		p := s.newProfileFor(t)
		tabs := []*tab{p.expired(names[0], user)}
		for range 9 {
			tabs = append(tabs, p.newTab())
		}
		path := func(i int) string { return fmt.Sprintf("/page?tab=%d#%d", i, i) }
		p.atOnce(tabs, func(i int) string { return p.siteAt(names[i%len(names)], path(i)) })
		for i, tab := range tabs {
			tab.awaitPath(path(i))
			tab.await(onApp)
			tab.quiet()
			if eval[bool](tab, `isSecureContext`) {
				t.Error("a secure context: there are locks")
			}
			if host := eval[string](tab, `location.hostname`); host != names[i%len(names)] {
				t.Errorf("a tab of %s ended at %s", names[i%len(names)], host)
			}
			if n := tab.documents(); n > 3 {
				t.Errorf("a tab took %d documents", n)
			}
		}
		if n := refreshes(tabs...); n < 1 || n > 10 {
			t.Errorf("%d refreshes", n)
		}
		p.survived(user)
		// All have the same, living session.
		p.advance(accessLife)
		for i, tab := range tabs[:len(names)] {
			tab.goTo(p.siteAt(names[i], "/page?again"))
			tab.awaitPath("/page?again")
			tab.await(onApp)
		}
		p.survived(user)
	}
	t.Run("ten tabs", func(t *testing.T) { restore(t, "tabs", "a.example.test") })
	t.Run("two origins", func(t *testing.T) { restore(t, "origins", "a.example.test", "b.example.test") })
}

// TestRefreshPageOfTwoOrigins: they share the cookies, but neither a lock nor a stamp.
func TestRefreshPageOfTwoOrigins(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s := newPageStack(t, "SESSIONGATE_COOKIES_DOMAIN=app.localhost")
	names := []string{"a.app.localhost", "b.app.localhost"}
	p := s.newProfile()
	tabs := []*tab{p.expired(names[0], "alice")}
	for range 9 {
		tabs = append(tabs, p.newTab())
	}
	p.atOnce(tabs, func(i int) string { return p.siteAt(names[i%2], fmt.Sprintf("/page?tab=%d", i)) })
	for i, tab := range tabs {
		tab.awaitPath(fmt.Sprintf("/page?tab=%d", i))
		tab.await(onApp)
		if host := eval[string](tab, `location.hostname`); host != names[i%2] {
			t.Errorf("a tab of %s ended at %s", names[i%2], host)
		}
	}
	if n := refreshes(tabs...); n < 1 || n > 2 {
		t.Errorf("%d refreshes, want one for each origin at most", n)
	}
	p.survived("alice")
}

// attach takes a tab that a page opened.
func (t *tab) attach(id target.ID) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(t.ctx, chromedp.WithTargetID(id))
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return &tab{profile: t.profile, ctx: ctx}
}

// press clicks the button of the page under test, which must have that label.
func (t *tab) press(label string) {
	t.Helper()
	t.await(`!document.getElementById("action")?.hidden`)
	if text := eval[string](t, `document.querySelector("button").textContent`); text != label {
		t.Fatalf("the button says %q, want %q", text, label)
	}
	eval[any](t, `void document.querySelector("button").click()`)
}

// outage makes every refresh fail, as one of the database does: 503. Access tokens are still good.
func (p *profile) outage() {
	p.Helper()
	p.exec(`ALTER TABLE sessiongate.active_sessions RENAME TO away`)
}

func (p *profile) recovery() {
	p.Helper()
	p.exec(`ALTER TABLE sessiongate.away RENAME TO active_sessions`)
}
