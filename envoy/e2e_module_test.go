package envoy_test

// docs/web/sessiongate.js, the module for pages without an SDK, served as it stands to a real browser.

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
)

const moduleDir = "../docs/web"

// modulePage imports the module as any page would, with the options that its address names.
const modulePage = `<!doctype html><meta charset="utf-8"><title>module</title><link rel="icon" href="data:,">
<script type="module">
import { sessionFetch } from "./sessiongate.js";
window.told = 0;
window.call = sessionFetch({ ...JSON.parse(new URLSearchParams(location.search).get("options")), onSignedOut: () => window.told++ });
window.send = (...request) => call(...request).then(async (r) => ({ status: r.status, body: await r.text() }), (e) => ({ message: e.name }));
</script>`

// serveModule adds the module and its page to an app.
func serveModule(t *testing.T, mux *http.ServeMux) {
	t.Helper()
	module, err := os.ReadFile(filepath.Join(moduleDir, "sessiongate.js"))
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("GET /static/sessiongate.js", serveScript(module))
	mux.HandleFunc("GET /static/module", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, modulePage)
	})
}

// moduleTab is a tab with the page of the module.
type moduleTab struct {
	*tab

	site, api string
}

// patientPage is for a busy machine: what takes long there is not taken for a server that hangs, nor for a tab that missed the news; and a
// pause before a second try, of a second, lasts as long as the test holds it.
const patientPage = `{
  const real = setTimeout;
  const resume = (act) => window.holding ? real(resume, 10, act) : act();
  window.setTimeout = (act, ms) => ms >= 5000 ? 0 : ms === 1000 ? real(resume, ms, act) : real(act, ms === 200 ? 1000 : ms);
}`

// module opens the page of the module, after the scripts that are given, or patientPage.
func (p *profile) module(site, api string, options map[string]any, scripts ...string) *moduleTab {
	p.Helper()
	m := &moduleTab{p.newTab(), site, api}
	if len(scripts) == 0 {
		scripts = []string{patientPage}
	}
	for _, script := range scripts {
		m.onEveryPage(script)
	}
	m.open(options)
	return m
}

func (m *moduleTab) open(options map[string]any) {
	m.Helper()
	if m.site != m.api {
		options = maps.Clone(options)
		if options == nil {
			options = map[string]any{}
		}
		options["api"] = m.api
	}
	text, err := json.Marshal(options)
	if err != nil {
		m.Fatal(err)
	}
	m.goTo(m.site + "/static/module?options=" + url.QueryEscape(string(text)))
	m.await("window.send")
}

// signIn signs in by the module, and returns the session's handle.
func (m *moduleTab) signIn(user string) string {
	m.Helper()
	if r := m.send("POST", "/login", user); r.Status != http.StatusNoContent {
		m.Fatalf("sign-in: %s", r)
	}
	m.secrets.add(m.token())
	return m.call("/api/call", user).Header.Get("X-Session-Handle")
}

func (m *moduleTab) token() string {
	m.Helper()
	return eval[string](m.tab, `(() => { try { return localStorage.getItem("sessiongate.anti-csrf") ?? "" } catch { return "" } })()`)
}

func (m *moduleTab) sending(method, path, body string) string {
	if body == "" {
		return fmt.Sprintf(`send(%q, { method: %q })`, m.api+path, method)
	}
	return fmt.Sprintf(`send(%q, { method: %q, body: %q })`, m.api+path, method, body)
}

func (m *moduleTab) send(method, path, body string) reply {
	m.Helper()
	return eval[reply](m.tab, m.sending(method, path, body))
}

func (m *moduleTab) get(path string) reply {
	m.Helper()
	return m.send("GET", path, "")
}

// call is a call that must reach the app as the user's.
func (m *moduleTab) call(path, user string) seen {
	m.Helper()
	r := m.get(path)
	var saw seen
	if r.Status != http.StatusOK || json.Unmarshal([]byte(r.Body), &saw) != nil || saw.Header.Get("X-Session-User-Id") != user {
		m.Fatalf("a call: %s as %q, want 200 as %s", r, saw.Header.Get("X-Session-User-Id"), user)
	}
	return saw
}

// start begins a request whose answer finish waits for.
func (m *moduleTab) start(expression string) {
	m.Helper()
	eval[any](m.tab, fmt.Sprintf(`(window.started = %s, 0)`, expression))
}

func (m *moduleTab) finish() reply {
	m.Helper()
	return eval[reply](m.tab, `started`)
}

// told is how often the page was told that no one is signed in.
func (m *moduleTab) told(want int) {
	m.Helper()
	if n := eval[int](m.tab, `told`); n != want {
		m.Errorf("told %d times that no one is signed in, want %d", n, want)
	}
}

// takes holds what is done to so many requests for a path and so many refreshes.
func (m *moduleTab) takes(path string, requests, refreshed int, do func()) {
	m.Helper()
	count := func() int {
		return len(m.seen(func(x *exchange) bool { return x.path == path && x.kind != "Preflight" }))
	}
	before, beforeRefreshes := count(), refreshes(m.tab)
	do()
	if n, r := count()-before, refreshes(m.tab)-beforeRefreshes; n != requests || r != refreshed {
		m.Errorf("%d requests and %d refreshes, want %d and %d", n, r, requests, refreshed)
	}
}

// lapse lets a timer of the page's that waits for so many ms end. stopClock holds them back.
func (m *moduleTab) lapse(least, most int) {
	m.Helper()
	const due = `timers.findIndex(({ ms, done }) => !done && ms >= %d && ms <= %d)`
	m.await(fmt.Sprintf(due+` >= 0`, least, most))
	eval[any](m.tab, fmt.Sprintf(`((t) => { t.done = true; t.act(); })(timers[`+due+`])`, least, most))
}

// refuse makes Envoy answer the page's refreshes as a route of refusals says from now on; "": no more.
func (m *moduleTab) refuse(name string) {
	m.Helper()
	if name == "" {
		eval[any](m.tab, `document.cookie = "refuse=; path=/; max-age=0"`)
		return
	}
	eval[any](m.tab, fmt.Sprintf(`document.cookie = "refuse=%s; path=/"`, name))
}

// answered makes Envoy answer refreshes with a status and Retry-After while the page has a cookie that names it.
func answered(v *routev3.VirtualHost, name string, status uint32, retryAfter string) {
	refusal := proto.CloneOf(named(v, "auth"))
	refusal.Name = "refuse-" + name
	refusal.Match = &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Path{Path: refreshPath},
		Headers: []*routev3.HeaderMatcher{{Name: "cookie", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Contains{Contains: "refuse=" + name},
		}}}},
	}
	refusal.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}}
	if retryAfter != "" {
		refusal.ResponseHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "retry-after", Value: retryAfter}}}
	}
	v.Routes = append([]*routev3.Route{refusal}, v.GetRoutes()...)
}

// refusals are what a refresh may be answered with beside tokens and "ended". after is how many ms the module then waits; 0: it gives up.
var refusals = []struct {
	name       string
	status     uint32
	retryAfter string
	after      int
}{
	{"forbidden", 403, "", 1000},
	{"limited", 429, "3", 3000},
	{"busy", 429, "9999999", 0},
	{"broken", 500, "", 1000},
	{"away", 503, "1", 1000},
	{"dated", 503, "Fri, 31 Dec 2100 23:59:59 GMT", 1000},
}

// moduleAttempt is D of TestModule: what waits for a locked row waits until the test lets it go.
const moduleAttempt = time.Minute

// TestModule runs the module on a page of the API's own origin.
func TestModule(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s := newStack(t, stackOptions{
		settings: []string{
			followsFast, "SESSIONGATE_RESPONSES_DENIAL_HEADER=true",
			"SESSIONGATE_SESSION_REFRESH_ATTEMPT_MAX=" + moduleAttempt.String(), "SESSIONGATE_DATABASE_STATEMENT_TIMEOUT=" + moduleAttempt.String(),
		},
		edit: editRoutes(func(v *routev3.VirtualHost) error {
			for _, r := range refusals {
				answered(v, r.name, r.status, r.retryAfter)
			}
			stuck := proto.CloneOf(named(v, "login"))
			stuck.Name, stuck.Match = "stuck", &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/api/stuck"}}
			stuck.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 440}}
			v.Routes = append([]*routev3.Route{stuck}, v.GetRoutes()...)
			return errors.Join(
				addRoute(v, "api", "/always/", map[string]string{"session": "required", "on_unauthorised": "auto", "anti_csrf": "always"}),
				addRoute(v, "api", "/as-backends/", map[string]string{"session": "required", "on_unauthorised": "440"}),
			)
		}),
	})
	serveModule(t, &s.app.pages)
	s.app.pages.HandleFunc("POST /api/echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	slow := make(chan struct{})
	s.app.pages.HandleFunc("GET /api/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-slow:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(slow) })
	start := func(t *testing.T) *moduleTab {
		t.Helper()
		return s.newProfileFor(t).module(s.site(""), s.site(""), nil)
	}
	// held has the time in its hands.
	held := func(t *testing.T, scripts ...string) *moduleTab {
		t.Helper()
		return s.newProfileFor(t).module(s.site(""), s.site(""), nil, append(scripts, stopClock)...)
	}

	t.Run("sign-in, calls, sign-out", func(t *testing.T) {
		m := start(t)
		m.takes("/api/call", 1, 0, func() {
			if r := m.get("/api/call"); r.Status != http.StatusUnauthorized {
				t.Errorf("a call without a session: %s", r)
			}
		})
		m.told(1)
		handle := m.signIn("alice")
		for _, path := range []string{"/api/call", "/always/call"} {
			m.takes(path, 1, 0, func() {
				if saw := m.call(path, "alice"); saw.Header.Get("Anti-Csrf") != m.token() || m.token() == "" {
					t.Error("a call is without the token")
				}
			})
		}
		m.takes("/auth/signout", 1, 0, func() {
			if r := m.send("POST", "/auth/signout", ""); r.Status != http.StatusOK {
				t.Errorf("sign-out: %s", r)
			}
		})
		if n := s.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = $1`, handleBytes(handle)); n != 0 {
			t.Error("the session is still there")
		}
		m.takes("/api/call", 2, 0, func() { m.get("/api/call"); m.get("/api/call") })
		m.told(2)
		m.quiet()
	})

	t.Run("a sign-in that the module did not see", func(t *testing.T) {
		m := start(t)
		m.get("/api/call")
		m.told(1)
		handle := eval[string](m.tab, `fetch("/login", { method: "POST", body: "alice" }).then((answer) => answer.headers.get("x-handle"))`)
		m.call("/api/call", "alice")
		s.processes[0].api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil)
		m.eventually("the session's end is known", func() bool { return m.get("/api/call").Status == http.StatusUnauthorized })
		m.told(2)
	})

	t.Run("expiry", func(t *testing.T) {
		m := start(t)
		m.signIn("alice")
		for range 2 {
			s.advance(accessLife)
			m.takes("/api/call", 2, 1, func() { m.call("/api/call", "alice") })
			m.takes("/api/call", 1, 0, func() { m.call("/api/call", "alice") })
		}
		s.advance(accessLife)
		// sessiongate's own page reads the stamp, too.
		if !eval[bool](m.tab, `Number(localStorage.getItem("sessiongate.refreshed")) > 0 && Number(localStorage.getItem("sessiongate.refreshed")) <= Date.now()`) {
			t.Error("there is no time of a refresh in the storage")
		}
		m.takes("/auth/signout", 1, 0, func() { m.send("POST", "/auth/signout", "") })
		m.told(0)
		m.quiet()
	})

	t.Run("what was sent is sent again", func(t *testing.T) {
		m := start(t)
		m.signIn("alice")
		const large = 3_000_000
		for what, sending := range map[string]string{
			"text":                 `send("/api/echo", { method: "POST", body: "sent" })`,
			"a Request":            `send(new Request("/api/echo", { method: "POST", body: "sent" }))`,
			"an address":           `send(new URL("/api/echo", location), { method: "POST", body: "sent" })`,
			"search parameters":    `send("/api/echo", { method: "POST", body: new URLSearchParams({ sent: "" }) })`,
			"a large file":         fmt.Sprintf(`send("/api/echo", { method: "POST", body: new File(["sent", new Uint8Array(%d)], "f") }).then((r) => ({ ...r, body: r.body.length }))`, large-4),
			"a form with a file":   `(() => { const f = new FormData(); f.set("f", new File(["sent"], "f")); return send("/api/echo", { method: "POST", body: f }); })()`,
			"bytes":                `send("/api/echo", { method: "POST", body: new TextEncoder().encode("sent") })`,
			"relative to the base": `(() => { document.head.insertAdjacentHTML("beforeend", "<base href=/api/>"); return send("echo", { method: "POST", body: "sent" }); })()`,
		} {
			s.advance(accessLife)
			m.takes("/api/echo", 2, 1, func() {
				r := eval[struct {
					Status  int
					Body    any
					Message string
				}](m.tab, sending)
				if text, _ := r.Body.(string); r.Status != http.StatusOK || !strings.Contains(text, "sent") && r.Body != float64(large) {
					t.Errorf("%s: %d %s, and not what was sent", what, r.Status, r.Message)
				}
			})
		}
		// A stream needs HTTP/2. Its body is gone once it was sent: the session is refreshed, and the page is told to send it again.
		got := eval[string](m.tab, `(async () => {
			const asked = [], real = fetch;
			const { sessionFetch } = await import("/static/sessiongate.js");
			window.fetch = async (request) => { asked.push(new URL(request.url).pathname); return new Response(null, { status: asked.length === 1 ? 440 : 200 }); };
			const answer = await sessionFetch()("/api/echo", { method: "POST", duplex: "half", body: new Blob(["sent"]).stream() });
			window.fetch = real;
			return [answer.status, ...asked].join(" ");
		})()`)
		if got != "440 /api/echo "+refreshPath {
			t.Errorf("a stream: %s", got)
		}
	})

	t.Run("many calls at once in two tabs", func(t *testing.T) {
		one := start(t)
		handle := one.signIn("alice")
		other := one.module(one.site, one.api, nil)
		s.advance(accessLife)
		before := refreshes(one.tab, other.tab)
		for _, m := range []*moduleTab{one, other} {
			m.start(`Promise.all(Array.from({ length: 10 }, () => send("/api/call")))`)
		}
		for _, m := range []*moduleTab{one, other} {
			for _, r := range eval[[]reply](m.tab, `started`) {
				if r.Status != http.StatusOK {
					t.Errorf("one of many: %s", r)
				}
			}
			m.told(0)
		}
		if n := refreshes(one.tab, other.tab) - before; n != 1 || s.issues(handle) > 1 {
			t.Errorf("%d refreshes and %d issues, want one", n, s.issues(handle))
		}
	})

	for _, r := range refusals {
		t.Run("a refresh that is "+r.name, func(t *testing.T) {
			m := held(t)
			m.signIn("alice")
			s.advance(accessLife)
			m.refuse(r.name)
			tries := 1
			if r.after > 0 {
				tries = 2
			}
			m.takes("/api/call", 1, tries, func() {
				m.start(m.sending("GET", "/api/call", ""))
				if r.after > 0 {
					m.lapse(r.after, r.after)
				}
				if r := m.finish(); r.Status != 440 {
					t.Errorf("a call: %s, want 440", r)
				}
			})
			if r.after > 0 { // and one that works then
				m.takes("/api/call", 2, 2, func() {
					m.start(m.sending("GET", "/api/call", ""))
					m.await(fmt.Sprintf(`timers.some(({ ms, done }) => !done && ms === %d)`, r.after))
					m.refuse("")
					m.lapse(r.after, r.after)
					if r := m.finish(); r.Status != http.StatusOK {
						t.Errorf("a call: %s", r)
					}
				})
			}
			m.told(0) // nothing is lost
		})
	}

	t.Run("no network, and then one that hangs", func(t *testing.T) {
		m := held(t)
		m.signIn("hangs")
		s.advance(accessLife)
		m.blocked("*://*:*" + refreshPath)
		m.takes("/api/call", 1, 2, func() {
			m.start(m.sending("GET", "/api/call", ""))
			m.lapse(1000, 1000)
			if r := m.finish(); r.Status != 440 {
				t.Errorf("a call: %s, want 440", r)
			}
		})
		m.blocked()
		release := s.lockSessions(`user_id = 'hangs'`)
		m.takes("/api/call", 2, 2, func() {
			asked := refreshes(m.tab)
			m.start(m.sending("GET", "/api/call", ""))
			m.eventually("it refreshes", func() bool { return refreshes(m.tab) > asked })
			eval[any](m.tab, `timers.filter(({ ms }) => ms === 5000).forEach((t) => { t.done = true; t.act(); })`)
			m.eventually("it gives the refresh up", func() bool {
				return len(m.seen(func(x *exchange) bool { return x.path == refreshPath && x.failed == "net::ERR_ABORTED" })) == 1
			})
			m.await(`timers.some(({ ms, done }) => !done && ms === 1000)`)
			release()
			m.lapse(1000, 1000)
			if r := m.finish(); r.Status != http.StatusOK {
				t.Errorf("a call: %s", r)
			}
		})
		m.told(0)
	})

	t.Run("a tab that is frozen while it has the lock", func(t *testing.T) {
		m := held(t)
		m.signIn("alice")
		frozen := m.newTab()
		frozen.goTo("/login")
		eval[any](frozen, `new Promise((has) => navigator.locks.request("sessiongate.refresh", () => { has(0); return new Promise(() => {}); }))`)
		s.advance(accessLife)
		m.takes("/api/call", 2, 1, func() {
			m.start(m.sending("GET", "/api/call", ""))
			m.await(`timers.some(({ ms }) => ms === 10000)`)
			if n := refreshes(m.tab); n != 0 {
				t.Errorf("%d refreshes while another tab has the lock", n)
			}
			m.lapse(10000, 10000)
			if r := m.finish(); r.Status != http.StatusOK {
				t.Errorf("a call: %s", r)
			}
		})
	})

	t.Run("without storage and without locks", func(t *testing.T) {
		m := held(t, `Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
			Object.defineProperty(Navigator.prototype, "locks", { value: undefined });`)
		m.signIn("alice")
		m.takes("/always/call", 1, 0, func() { m.call("/always/call", "alice") })
		s.advance(accessLife)
		before := refreshes(m.tab)
		for _, r := range eval[[]reply](m.tab, `Promise.all(Array.from({ length: 10 }, () => send("/always/call")))`) {
			if r.Status != http.StatusOK {
				t.Errorf("one of many: %s", r)
			}
		}
		if n := refreshes(m.tab) - before; n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
	})

	t.Run("superseded", func(t *testing.T) {
		m := start(t)
		m.signIn("alice")
		s.advance(accessLife)
		elsewhere := m.newBrowser(networkX)
		elsewhere.jar[cookieKey{"sRefreshToken", "", "/auth"}] = m.held("sRefreshToken", m.tab.site(refreshPath))
		elsewhere.mustRefresh(t)
		m.takes("/api/call", 2, 1, func() {
			if r := m.get("/api/call"); r.Status != 440 {
				t.Errorf("a call: %s, want 440", r)
			}
		})
		m.told(0)
		s.advance(moduleAttempt * 5 / 2) // W
		m.takes("/api/call", 2, 1, func() { m.call("/api/call", "alice") })
	})

	t.Run("ended elsewhere", func(t *testing.T) {
		m := start(t)
		for i, path := range []string{"/api/call", "/as-backends/call"} {
			m.ended(m.signIn("alice"))
			for range 2 {
				for _, r := range eval[[]reply](m.tab, fmt.Sprintf(`Promise.all(Array.from({ length: 10 }, () => send(%q)))`, path)) {
					if r.Status != http.StatusUnauthorized && r.Status != 440 {
						t.Errorf("one of many: %s", r)
					}
				}
			}
			m.told(1 + i)
		}
		m.ended(m.signIn("alice"))
		s.advance(accessLife)
		m.takes("/api/call", 1, 1, func() {
			if r := m.get("/api/call"); r.Status != 440 {
				t.Errorf("a call: %s, want 440", r)
			}
		})
		m.takes("/api/call", 1, 0, func() {
			if r := m.get("/api/call"); r.Status != http.StatusUnauthorized {
				t.Errorf("a call: %s, want 401", r)
			}
		})
		m.told(3)
	})

	t.Run("given up by the caller", func(t *testing.T) {
		m := start(t)
		m.signIn("impatient")
		m.start(`(window.stop = new AbortController(), send("/api/slow", { signal: stop.signal }))`)
		m.eventually("the call is sent", func() bool { return m.sent("GET", "/api/slow") == 1 })
		eval[any](m.tab, `stop.abort()`)
		if r := m.finish(); r.Message != "AbortError" {
			t.Errorf("%s, want an AbortError", r)
		}
		s.advance(accessLife)
		release := s.lockSessions(`user_id = 'impatient'`)
		m.takes("/api/call", 3, 1, func() {
			m.start(`(window.stop = new AbortController(), window.stays = send("/api/call"), send("/api/call", { signal: stop.signal }))`)
			m.eventually("it refreshes", func() bool { return refreshes(m.tab) == 1 })
			m.eventually("both were answered", func() bool {
				return len(m.seen(func(x *exchange) bool { return x.path == "/api/call" && x.status == 440 })) == 2
			})
			eval[any](m.tab, `stop.abort()`)
			if r := m.finish(); r.Message != "AbortError" {
				t.Errorf("%s, want an AbortError", r)
			}
			release()
			if r := eval[reply](m.tab, `stays`); r.Status != http.StatusOK {
				t.Errorf("the other call, which waits for the same refresh: %s", r)
			}
		})
	})

	t.Run("each 440 ends", func(t *testing.T) { testModuleEnds(t, s, start) })
	t.Run("no token for others", func(t *testing.T) { testModuleForeign(t, start(t)) })
}

// blocked makes the tab's requests for addresses fail, as without a network.
func (m *moduleTab) blocked(patterns ...string) {
	m.Helper()
	g := &sdkPage{tab: m.tab}
	g.block(patterns...)
}

// ended ends a session by the API, and waits until no process allows it.
func (m *moduleTab) ended(handle string) {
	m.Helper()
	access, token := m.held("sAccessToken", m.api+"/"), m.token()
	m.processes[0].api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil)
	m.denied(access, token)
}

// testModuleEnds: whatever the 440 is for, the module asks twice at most, and refreshes once. Where a refresh mends it, it is mended.
func testModuleEnds(t *testing.T, s *stack, start func(*testing.T) *moduleTab) {
	plant := func(m *moduleTab, name, value, path string) {
		s.secrets.add(value)
		m.setCookie(name, value, path)
	}
	access := func(m *moduleTab) string { return m.held("sAccessToken", m.api+"/") }
	for _, c := range []struct {
		code, path       string
		requests, status int
		told             int
		cause            func(m *moduleTab, handle string)
	}{
		{"expired", "/api/call", 2, 200, 0, func(*moduleTab, string) { s.advance(accessLife) }},
		{"malformed", "/api/call", 2, 200, 0, func(m *moduleTab, _ string) { plant(m, "sAccessToken", "dead", "/") }},
		{"bad_signature", "/api/call", 2, 200, 0, func(m *moduleTab, _ string) {
			token := access(m)
			at := len(token) - 10
			other := "A"
			if token[at:at+1] == other {
				other = "B"
			}
			plant(m, "sAccessToken", token[:at]+other+token[at+1:], "/")
		}},
		{"unknown_key", "/api/call", 2, 200, 0, func(m *moduleTab, _ string) {
			header, rest, _ := strings.Cut(access(m), ".")
			text, err := base64.RawURLEncoding.DecodeString(header)
			if err != nil {
				t.Fatal(err)
			}
			_, id, _ := strings.Cut(string(text), `"kid":"`)
			id, _, _ = strings.Cut(id, `"`)
			other := strings.Replace(string(text), id, strings.Repeat("A", len(id)), 1)
			plant(m, "sAccessToken", base64.RawURLEncoding.EncodeToString([]byte(other))+"."+rest, "/")
		}},
		{"wrong_transport", "/api/call", 2, 200, 0, func(m *moduleTab, _ string) {
			var c created
			m.processes[0].api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "other", "transport": "header"}, &c)
			plant(m, "sAccessToken", c.Tokens.Access, "/")
		}},
		// A refresh cannot take away what was planted at another path.
		{"several_sessions", "/api/call", 2, 440, 0, func(m *moduleTab, _ string) {
			plant(m, "sAccessToken", m.processes[0].create("other").Tokens.Access, "/api")
		}},
		{"claims_changed", "/api/call", 2, 200, 0, func(m *moduleTab, handle string) {
			m.processes[0].api(http.MethodPatch, "/v1/sessions/"+handle, map[string]any{"claims": map[string]any{"role": "admin"}}, nil)
			token, anti := access(m), m.token()
			for _, p := range m.processes {
				m.eventually("the change is known", func() bool { return p.check(token, anti) == 440 })
			}
		}},
		{"legacy_cookie", "/api/call", 2, 200, 0, func(m *moduleTab, _ string) {
			if _, err := chromedp.Call(m.ctx, network.DeleteCookies, network.DeleteCookiesParams{Name: "sAccessToken", URL: m.api + "/"}); err != nil {
				t.Fatal(err)
			}
			plant(m, "sIdRefreshToken", "legacy", "/")
		}},
		{"anti_csrf", "/always/call", 2, 200, 0, func(m *moduleTab, _ string) {
			eval[any](m.tab, `localStorage.setItem("sessiongate.anti-csrf", "stale")`)
		}},
		// The other child of one token was used. That is theft, and the session has ended.
		{"lost", "/api/call", 1, 440, 1, func(m *moduleTab, handle string) {
			s.advance(accessLife)
			elsewhere := m.newBrowser(networkX)
			elsewhere.jar[cookieKey{"sRefreshToken", "", "/auth"}] = m.held("sRefreshToken", m.tab.site(refreshPath))
			elsewhere.mustRefresh(t)
			s.advance(moduleAttempt * 5 / 2) // W
			if status := eval[int](m.tab, `fetch("/auth/session/refresh", { method: "POST" }).then((r) => r.status)`); status != http.StatusOK {
				t.Fatalf("a second child: %d", status)
			}
			elsewhere.use(handle)
			// The browser's own child, if it is asked for, is denied: its hash is on the feed.
			token, anti := access(m), m.token()
			for _, p := range m.processes {
				m.eventually("it is known as lost", func() bool { return p.check(token, anti) == 440 })
			}
			s.advance(moduleAttempt) // G
		}},
		{"", "/api/stuck", 2, 440, 0, func(*moduleTab, string) {}}, // whatever comes, and however often
	} {
		t.Run("code "+c.code, func(t *testing.T) {
			m := start(t)
			handle := m.signIn("alice")
			c.cause(m, handle)
			m.takes(c.path, c.requests, 1, func() {
				if r := m.get(c.path); r.Status != c.status {
					t.Errorf("a call: %s, want %d", r, c.status)
				}
			})
			m.told(c.told)
			asked := m.seen(func(x *exchange) bool { return x.path == c.path })
			if first := asked[len(asked)-c.requests]; first.status != 440 || first.headers["x-sessiongate-denial"] != c.code {
				t.Errorf("at first %d, code %q", first.status, first.headers["x-sessiongate-denial"])
			}
		})
	}
}

// testModuleForeign: the token goes to the API's origin, also where the API sends the browser elsewhere, to a host that would take it.
func testModuleForeign(t *testing.T, m *moduleTab) {
	var mu sync.Mutex
	var asked []http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Header)
		mu.Unlock()
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Allow-Headers", "anti-csrf")
		w.WriteHeader(440)
	}))
	t.Cleanup(other.Close)
	origin := originOf(t, other, "other.localhost")
	m.app.pages.HandleFunc("GET /api/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, origin+"/", http.StatusFound)
	})
	m.app.pages.HandleFunc("GET /api/near", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/api/call", http.StatusFound)
	})
	m.signIn("alice")
	n := refreshes(m.tab)
	if r := eval[reply](m.tab, fmt.Sprintf(`send(%q)`, origin+"/")); r.Status != 440 {
		t.Errorf("a call to another origin: %s", r)
	}
	if r := m.get("/api/away"); r.Message != "TypeError" {
		t.Errorf("a call that is sent elsewhere: %s, want none", r)
	}
	m.call("/api/near", "alice")
	mu.Lock()
	defer mu.Unlock()
	if len(asked) == 0 {
		t.Error("the other origin was not asked")
	}
	for _, header := range asked {
		if header.Get("Anti-Csrf") != "" || strings.Contains(header.Get("Access-Control-Request-Headers"), "anti-csrf") {
			t.Error("the other origin gets the token")
		}
	}
	if refreshes(m.tab) != n {
		t.Error("the answer of another origin leads to a refresh")
	}
}

// TestModuleElsewhere runs the module on a page of another origin than the API's, in mode always, with the status 401.
func TestModuleElsewhere(t *testing.T) {
	t.Parallel()
	needChromium(t)
	mux := http.NewServeMux()
	serveModule(t, mux)
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	origin := originOf(t, web, "web.app.localhost")
	s := newStack(t, stackOptions{
		settings: []string{followsFast, "SESSIONGATE_ALLOWED_ORIGINS=" + origin, "SESSIONGATE_ANTI_CSRF=always", "SESSIONGATE_RESPONSES_SESSION_EXPIRED_STATUS=401"},
		edit:     editRoutes(func(v *routev3.VirtualHost) error { return allowOrigins(v, origin) }),
	})
	s.app.pages.HandleFunc("GET /api/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, origin+"/static/module", http.StatusFound)
	})
	m := s.newProfileFor(t).module(origin, s.site(""), map[string]any{"expired": 401})
	m.takes("/api/call", 1, 1, func() {
		if r := m.get("/api/call"); r.Status != http.StatusUnauthorized {
			t.Errorf("a call without a session: %s", r)
		}
	})
	m.told(1)
	m.signIn("alice")
	for range 2 {
		s.advance(accessLife)
		m.takes("/api/call", 2, 1, func() { m.call("/api/call", "alice") })
		m.takes("/api/call", 1, 0, func() { m.call("/api/call", "alice") })
	}
	if r := m.get("/api/away"); r.Message != "TypeError" {
		t.Errorf("a call that is sent elsewhere: %s, want none", r)
	}
	names := eval[[]string](m.tab, `Object.keys(localStorage)`)
	slices.Sort(names)
	if want := []string{"sessiongate.anti-csrf " + s.site(""), "sessiongate.refreshed " + s.site("")}; !slices.Equal(names, want) {
		t.Errorf("the page keeps %q, want %q: those of its own origin are another API's", names, want)
	}
	if status, _ := s.processes[0].api(http.MethodDelete, "/v1/users/alice/sessions", nil, nil); status != http.StatusOK {
		t.Fatal(status)
	}
	s.advance(accessLife)
	m.takes("/api/call", 1, 1, func() { m.get("/api/call") })
	m.told(2)
}

// TestModuleFile: small, typed, without dependencies, and nothing happens where it is imported on a server.
func TestModuleFile(t *testing.T) {
	file, err := filepath.Abs(filepath.Join(moduleDir, "sessiongate.js"))
	if err != nil {
		t.Fatal(err)
	}
	small, err := bundle("", "--minify", "--format=esm", file)
	if err != nil {
		t.Fatal(err)
	}
	if len(small) >= 2048 {
		t.Errorf("%d bytes minified, want less than 2 KiB", len(small))
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(source), "import ") || strings.Contains(string(source), "import(") {
		t.Error("it depends on something")
	}

	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As a package, by its name.
	for _, name := range []string{"package.json", "sessiongate.js", "sessiongate.d.ts"} {
		text, err := os.ReadFile(filepath.Join(moduleDir, name))
		if err != nil {
			t.Fatal(err)
		}
		write("node_modules/sessiongate/"+name, string(text))
	}
	run := func(args ...string) (string, error) {
		command := exec.Command("node", args...)
		command.Dir = dir
		out, err := command.CombinedOutput()
		return string(out), err
	}
	write("server.mjs", `import http from "node:http";
import { sessionFetch } from "sessiongate";
const server = http.createServer((request, response) => {
  response.writeHead(200, { "anti-csrf": "one user's" }).end(request.method + " " + request.headers["anti-csrf"]);
}).listen(0, "127.0.0.1", async () => {
  const api = "http://127.0.0.1:" + server.address().port;
  const call = sessionFetch({ api, onSignedOut() {} });
  for (let user = 0; user < 2; user++) console.log(await (await call(api)).text());
  server.close();
});`)
	if out, err := run("server.mjs"); err != nil || strings.TrimSpace(out) != "GET undefined\nGET undefined" {
		t.Errorf("on a server: %v\n%s\nwant two plain requests, and that no user's token is kept", err, out)
	}

	tsc, err := filepath.Abs(filepath.Join(websdk, "node_modules", "typescript", "bin", "tsc"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tsc); err != nil {
		t.Fatal("TypeScript is not installed: run make websdk (npm ci in envoy/" + websdk + ")")
	}
	check := []string{tsc, "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"}
	write("good.mts", `import { sessionFetch, type Options } from "sessiongate";
const options: Options = { api: "https://api.example.com", refresh: "/r", expired: 401, limit: 5000, onSignedOut: () => {} };
const call: typeof fetch = sessionFetch(options);
sessionFetch();
export const user: Promise<unknown> = call(new URL("https://api.example.com/me"), { method: "POST", signal: AbortSignal.timeout(1) }).then((r) => r.json());`)
	if out, err := run(append(check, "good.mts")...); err != nil {
		t.Errorf("types: %v\n%s", err, out)
	}
	write("bad.mts", `import { sessionFetch } from "sessiongate";
sessionFetch({ expired: "440" });
sessionFetch({ retries: 3 });
sessionFetch()(1);`)
	out, err := run(append(check, "bad.mts")...)
	if n := strings.Count(out, "error TS"); err == nil || n != 3 {
		t.Errorf("%d faults found, want 3\n%s", n, out)
	}
}
