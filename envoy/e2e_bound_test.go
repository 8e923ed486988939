package envoy_test

// Device-bound sessions, in a real Chromium that binds: with software keys, over TLS, through the real Envoy.

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sessiongate/sessiongate/internal/authority"
	"github.com/sessiongate/sessiongate/internal/cluster"
)

const (
	boundHost   = "app.example.test"
	sameSite    = "web.example.test"
	foreignHost = "other.partner.test"
	boundPath   = "/auth/session/bound"
	// boundLife is that of an access token of a bound session.
	boundLife = 10 * time.Minute
)

// boundCertificate is that of all bound sites of this run.
var boundCertificate = sync.OnceValues(func() (authority.Pair, error) {
	ours, err := authority.New("ours")
	if err != nil {
		return authority.Pair{}, err
	}
	return ours.IssueTo(authority.Subject{CommonName: boundHost, DNSNames: []string{boundHost, sameSite, foreignHost}}, time.Hour)
})

// binding are the flags with which Chromium binds on this system, and trusts the certificate. A flag is given once: chromedp's own features
// are repeated. A blanket trust in certificates would switch binding off.
func binding(quota bool) ([]chromedp.ExecAllocatorOption, error) {
	pair, err := boundCertificate()
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(pair.Cert)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	pin := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	feature := "DeviceBoundSessions:RefreshQuota/false"
	if quota {
		feature = "DeviceBoundSessions"
	}
	return []chromedp.ExecAllocatorOption{
		chromedp.Flag("enable-features", "NetworkService,NetworkServiceInProcess,"+feature+",EnableBoundSessionCredentialsSoftwareKeysForManualTesting"),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(pin[:])),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"),
	}, nil
}

// boundChromium is the browser process that binds.
var boundChromium = sync.OnceValues(func() (context.Context, error) {
	flags, err := binding(false)
	if err != nil {
		return nil, err
	}
	return startChromium("", flags...)
})

// newBoundSite is a deployment behind TLS whose sign-ins offer to bind.
func newBoundSite(t *testing.T, o stackOptions) *stack {
	t.Helper()
	needChromium(t)
	pair, err := boundCertificate()
	if err != nil {
		t.Fatal(err)
	}
	edit := o.edit
	if edit == nil {
		edit = func(*bootstrapv3.Bootstrap) error { return nil }
	}
	o.settings = append([]string{"SESSIONGATE_BINDING_MODE=offer", followsFast}, o.settings...)
	o.edit = endTLS(t, pair, edit, "h2", "http/1.1")
	s := newStack(t, o)
	s.scheme, s.host = "https", boundHost
	s.app.pages.HandleFunc("GET /static/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>page</title><link rel="icon" href="data:,">`))
	})
	s.app.pages.HandleFunc("GET /static/form", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>sign in</title><link rel="icon" href="data:,"><form method="post" action="https://%s/static/form"><input name="user" value="alice"></form>`,
			html.EscapeString(boundHost+r.Host[strings.IndexByte(r.Host, ':'):]))
	})
	s.app.pages.HandleFunc("POST /static/form", func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.app.copySession(w, map[string]any{"user_id": r.FormValue("user"), "host": r.Host}); ok {
			s.secrets.addFrom(w.Header())
			http.Redirect(w, r, "/page", http.StatusSeeOther)
		}
	})
	s.app.pages.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>%s</title><link rel="icon" href="data:,">`, html.EscapeString(r.Header.Get("X-Session-User-Id")))
	})
	s.app.pages.HandleFunc("GET /api/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: x\n\n"))
	})
	s.app.pages.HandleFunc("GET /api/image", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		_, _ = w.Write([]byte(`<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>`))
	})
	return s
}

// bound is a tab of a browser that binds, and what the browser tells of its device sessions.
type bound struct {
	*tab

	mu     sync.Mutex
	events []*network.EventDeviceBoundSessionEventOccurred
}

// bindingTab opens a page that anybody may see, in a profile of its own.
func (s *stack) bindingTab(t *testing.T) *bound {
	t.Helper()
	browser, err := boundChromium()
	if err != nil {
		t.Fatal(err)
	}
	return s.newProfileIn(browser, t).binding()
}

func (p *profile) binding() *bound {
	p.Helper()
	b := p.newTab().binding()
	b.goTo("/static/page")
	return b
}

// binding begins to hear what the browser tells.
func (t *tab) binding() *bound {
	t.Helper()
	b := &bound{tab: t}
	if err := chromedp.Listen(b.ctx, func(event any) {
		if e, ok := event.(*network.EventDeviceBoundSessionEventOccurred); ok {
			b.mu.Lock()
			b.events = append(b.events, e)
			b.mu.Unlock()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, network.EnableDeviceBoundSessions, network.EnableDeviceBoundSessionsParams{Enable: true}); err != nil {
		t.Fatal(err)
	}
	return b
}

// told counts what the browser told so far.
func (b *bound) told(which func(*network.EventDeviceBoundSessionEventOccurred) bool) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if which(e) {
			n++
		}
	}
	return n
}

func registered(e *network.EventDeviceBoundSessionEventOccurred) bool {
	return e.CreationEventDetails != nil && e.Succeeded && e.CreationEventDetails.FetchResult == network.DeviceBoundSessionFetchResultSuccess
}

// deviceSession is the identifier of the one that was registered last.
func (b *bound) deviceSession() (id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if registered(e) {
			id = e.SessionID
		}
	}
	return id
}

func terminated(e *network.EventDeviceBoundSessionEventOccurred) bool {
	return e.TerminationEventDetails != nil
}

// signIn signs a user in by a script, and returns the session's handle once the browser has registered its key.
func (b *bound) signIn(user string) (handle string) {
	b.Helper()
	before := b.told(registered)
	if status := eval[int](b.tab, fmt.Sprintf(`fetch("/login", { method: "POST", body: %s }).then((r) => r.status)`, quote(user))); status != http.StatusNoContent {
		b.Fatalf("sign-in: %d", status)
	}
	b.eventually("the browser registers its key", func() bool { return b.told(registered) == before+1 })
	return b.call(user)
}

// call calls the app, and returns the session's handle.
func (b *bound) call(user string) (handle string) {
	b.Helper()
	saw := eval[seen](b.tab, `fetch("/api/call").then(async (r) => r.ok ? r.json() : Promise.reject(new Error(r.status + " " + await r.text())))`)
	if got := saw.Header.Get("X-Session-User-Id"); got != user {
		b.Fatalf("the app sees %q, want %q", got, user)
	}
	return saw.Header.Get("X-Session-Handle")
}

func (b *bound) status(method, path string) int {
	b.Helper()
	return eval[int](b.tab, fmt.Sprintf(`fetch(%s, { method: %s }).then((r) => r.status)`, quote(path), quote(method)))
}

// expire ends the bound cookie, as time does.
func (b *bound) expire() {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, network.DeleteCookies, network.DeleteCookiesParams{Name: "sBound", URL: b.site("/")}); err != nil {
		b.Fatal(err)
	}
}

// outlive lets the access token end, and the bound cookie with it.
func (b *bound) outlive() {
	b.Helper()
	b.advance(boundLife)
	b.expire()
}

// isBound says whether the session was proven.
func (s *stack) isBound(handle string) bool {
	s.Helper()
	return s.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = $1 AND bound_at IS NOT NULL`, handleBytes(handle)) == 1
}

// proofs counts what the browser sent by itself so far: requests without a proof, which get a challenge, and all others.
func (s *stack) proofs() (challenged, others int) {
	s.Helper()
	for _, l := range s.traffic() {
		switch {
		case l.Path != boundPath:
		case l.Status == http.StatusForbidden:
			challenged++
		default:
			others++
		}
	}
	return challenged, others
}

// proves wants do to make the browser prove once.
func (b *bound) proves(t *testing.T, do func()) {
	t.Helper()
	challenged, others := b.proofs()
	do()
	c, o := b.proofs()
	if c != challenged+1 || o != others+1 {
		t.Errorf("%d requests without a proof and %d others, want one of each", c-challenged, o-others)
	}
}

// cookies are all that the profile has, the refresh token included.
func (b *bound) cookies() []*network.CookieParam {
	b.Helper()
	got, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{b.site("/"), b.site(refreshPath)}})
	if err != nil {
		b.Fatal(err)
	}
	var params []*network.CookieParam
	for _, c := range got.Cookies {
		params = append(params, &network.CookieParam{
			Name: c.Name, Value: c.Value, URL: b.site(c.Path), Path: c.Path, Secure: c.Secure, HTTPOnly: c.HTTPOnly, SameSite: c.SameSite,
		})
	}
	return params
}

// TestBound: a browser binds its session, and the session lives on with everything that a browser does.
func TestBound(t *testing.T) {
	t.Parallel()
	origin := serveSameSite(t)
	s := newBoundSite(t, stackOptions{
		settings: []string{"SESSIONGATE_ALLOWED_ORIGINS=" + origin},
		edit: editRoutes(func(v *routev3.VirtualHost) error {
			return errors.Join(allowOrigins(v, origin), addRoute(v, "api", "/bound/", map[string]string{"session": "required", "on_unauthorised": "auto", "bound": "true"}))
		}),
	})

	t.Run("a sign-in by a script", func(t *testing.T) {
		b := s.bindingTab(t)
		handle := b.signIn("alice")
		if !s.isBound(handle) {
			t.Error("the first request after the registration did not prove the key")
		}
		if status := b.status("GET", "/bound/x"); status != http.StatusOK {
			t.Errorf("a route for bound sessions: %d", status)
		}
		b.proves(t, func() { b.outlive(); b.call("alice") })
		b.proves(t, func() {
			b.outlive()
			n := eval[int](b.tab, `Promise.all(Array.from({ length: 10 }, () => fetch("/api/call"))).then((all) => all.filter((r) => r.ok).length)`)
			if n != 10 {
				t.Errorf("%d of ten requests at once were answered", n)
			}
		})
	})

	for name, page := range map[string]string{
		"a sign-in by a form":                       s.site("/static/form"),
		"a sign-in that another site's page begins": s.siteAt(foreignHost, "/static/form"), // the browser registers without cookies then
	} {
		t.Run(name, func(t *testing.T) {
			b := s.bindingTab(t)
			b.goTo(page)
			eval[any](b.tab, `void document.forms[0].submit()`)
			b.await(`location.pathname === "/page" && document.title === "alice"`)
			b.eventually("the browser registers its key", func() bool { return b.told(registered) == 1 })
			if handle := b.call("alice"); !s.isBound(handle) {
				t.Error("the session is not bound")
			}
			b.proves(t, func() { b.outlive(); b.call("alice") })
		})
	}

	t.Run("every kind of request", func(t *testing.T) {
		b := s.bindingTab(t)
		b.signIn("alice")
		for kind, works := range map[string]string{
			"fetch":       `fetch("/api/call").then((r) => r.ok)`,
			"XHR":         `new Promise((done) => { const x = new XMLHttpRequest(); x.onloadend = () => done(x.status === 200); x.open("POST", "/api/call"); x.send("x"); })`,
			"image":       `new Promise((done) => { const i = new Image(); i.onload = () => done(true); i.onerror = () => done(false); i.src = "/api/image"; })`,
			"EventSource": `new Promise((done) => { const e = new EventSource("/api/events"); e.onmessage = () => { e.close(); done(true); }; e.onerror = () => { e.close(); done(false); }; })`,
			"frame":       `new Promise((done) => { const f = Object.assign(document.createElement("iframe"), { src: "/page", onload: () => done(f.contentDocument.title === "alice") }); document.body.append(f); })`,
		} {
			b.proves(t, func() {
				b.outlive()
				if !eval[bool](b.tab, works) {
					t.Errorf("%s was not answered", kind)
				}
			})
		}
		b.proves(t, func() {
			b.outlive()
			b.goTo("/page")
			b.await(`document.title === "alice"`)
		})
		// The app of this test speaks no WebSocket: a refusal of the check has another status than its answer.
		b.proves(t, func() {
			b.outlive()
			eval[any](b.tab, `new Promise((done) => { new WebSocket("/api/socket").onclose = done; }).then(() => 0)`)
		})
		if n := len(slices.DeleteFunc(s.traffic(), func(l logged) bool { return l.Path != "/api/socket" || l.Status == http.StatusOK })); n != 0 {
			t.Errorf("the WebSocket was refused %d times", n)
		}
	})

	// A script that knows nothing of all this refreshes as it always did.
	t.Run("a plain refresh", func(t *testing.T) {
		b := s.bindingTab(t)
		handle := b.signIn("alice")
		s.advance(boundLife) // the bound cookie is still there
		if status := b.status("GET", callPath); status != 440 {
			t.Errorf("a call after the access token's end: %d", status)
		}
		b.proves(t, func() {
			if status := b.status("POST", refreshPath); status != http.StatusOK {
				t.Errorf("a refresh: %d", status)
			}
		})
		b.call("alice")
		b.proves(t, func() { // before its end, and before any claim that it has ended
			s.advance(time.Minute)
			if status := b.status("POST", refreshPath); status != http.StatusOK {
				t.Errorf("an early refresh: %d", status)
			}
		})
		// New claims ask for a refresh, too.
		s.processes[0].api(http.MethodPatch, "/v1/sessions/"+handle, map[string]any{"claims": map[string]any{"role": "admin"}}, nil)
		b.eventually("the claims are known", func() bool { return b.status("GET", callPath) == 440 })
		if status := b.status("POST", refreshPath); status != http.StatusOK {
			t.Errorf("a refresh for new claims: %d", status)
		}
		b.call("alice")
	})

	t.Run("a link of another site", func(t *testing.T) {
		b := s.bindingTab(t)
		b.signIn("alice")
		b.outlive()
		b.goTo(s.siteAt(foreignHost, "/static/page"))
		eval[any](b.tab, fmt.Sprintf(`void Object.assign(document.createElement("a"), { href: %s }).click()`, quote(s.site("/page"))))
		b.await(`location.pathname === "/page" && document.title === "alice"`)
		b.call("alice")
		if n := b.told(terminated); n != 0 {
			t.Errorf("%d device sessions ended", n)
		}
	})

	t.Run("a page of the same site", func(t *testing.T) {
		b := s.bindingTab(t)
		b.signIn("alice")
		b.goTo(origin)
		call := fmt.Sprintf(`fetch(%s, { credentials: "include" }).then((r) => r.status)`, quote(s.site(callPath)))
		b.proves(t, func() {
			b.outlive()
			if status := eval[int](b.tab, call); status != http.StatusOK {
				t.Errorf("a call: %d", status)
			}
		})
	})

	t.Run("sign-out", func(t *testing.T) {
		b := s.bindingTab(t)
		handle := b.signIn("alice")
		b.outlive()
		if status := b.status("POST", "/auth/signout"); status != http.StatusOK {
			t.Fatalf("%d", status)
		}
		if n := s.endedFor(handle, "signed_out"); n != 1 {
			t.Errorf("%d sessions ended", n)
		}
		b.eventually("the session's end is known", func() bool { return b.status("GET", callPath) == http.StatusUnauthorized })
		b.eventually("the device session ends", func() bool { return b.told(terminated) == 1 })
		challenged, others := s.proofs()
		b.status("GET", callPath)
		if c, o := s.proofs(); c != challenged || o != others {
			t.Error("the browser still proves")
		}
	})

	t.Run("a second sign-in", func(t *testing.T) {
		b := s.bindingTab(t)
		first := b.signIn("alice")
		second := b.signIn("bob")
		if first == second || !s.isBound(second) {
			t.Error("the second session is not bound")
		}
		for range 2 {
			b.outlive()
			b.call("bob")
		}
	})

	t.Run("two tabs of different ages", func(t *testing.T) {
		b := s.bindingTab(t)
		b.signIn("alice")
		other := b.binding()
		b.outlive()
		other.call("alice")
		b.call("alice")
		b.outlive()
		both := []*bound{b, other}
		for _, tab := range both {
			eval[any](tab.tab, `(window.answer = fetch("/api/call").then((r) => r.status), 0)`)
		}
		for _, tab := range both {
			if status := eval[int](tab.tab, `window.answer`); status != http.StatusOK {
				t.Errorf("%d", status)
			}
		}
	})

	// Everything that the browser stores was copied, but not the key.
	t.Run("stolen cookies", func(t *testing.T) {
		owner := s.bindingTab(t)
		handle := owner.signIn("alice")
		thief := s.bindingTab(t)
		if _, err := chromedp.Call(thief.ctx, network.SetCookies, network.SetCookiesParams{Cookies: owner.cookies()}); err != nil {
			t.Fatal(err)
		}
		thief.call("alice") // for the life of the access token
		owner.outlive()
		thief.expire()
		jar := thief.cookies()
		for range 3 {
			if status := thief.status("GET", callPath); status != 440 {
				t.Errorf("the thief's call: %d", status)
			}
			if status := thief.status("POST", refreshPath); status != http.StatusServiceUnavailable && status != 440 { // in the end it is told to sign in
				t.Errorf("the thief's refresh: %d", status)
			}
			owner.call("alice")
			owner.outlive()
			if _, err := chromedp.Call(thief.ctx, network.SetCookies, network.SetCookiesParams{Cookies: jar}); err != nil {
				t.Fatal(err)
			}
		}
		if status := thief.status("POST", "/auth/signout"); status != http.StatusOK {
			t.Errorf("the thief's sign-out: %d", status)
		}
		if handle != owner.call("alice") || owner.told(terminated) != 0 {
			t.Error("the owner notices something")
		}
		if s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE handle = $1 AND kind = 'ended'`, handleBytes(handle)) != 0 {
			t.Error("the session ended")
		}
	})

	t.Run("a lost key", func(t *testing.T) {
		b := s.bindingTab(t)
		b.signIn("alice")
		if _, err := chromedp.Call(b.ctx, network.DeleteDeviceBoundSession, network.DeleteDeviceBoundSessionParams{
			Key: &network.DeviceBoundSessionKey{Site: "https://example.test", ID: b.deviceSession()},
		}); err != nil {
			t.Fatal(err)
		}
		b.outlive()
		for range 2 {
			if status := b.status("POST", refreshPath); status != http.StatusServiceUnavailable {
				t.Errorf("%d, want 503: it may be a misfortune", status)
			}
		}
		s.advance(10 * time.Minute)
		if status := b.status("POST", refreshPath); status != 440 {
			t.Errorf("%d, want 440", status)
		}
		if status := b.status("GET", callPath); status != http.StatusUnauthorized {
			t.Errorf("%d, want 401: the user signs in", status)
		}
		b.signIn("alice")
	})
}

// serveSameSite serves an empty page of another origin of the same site, and returns the origin.
func serveSameSite(t *testing.T) (origin string) {
	t.Helper()
	pair, err := boundCertificate()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>page</title><link rel="icon" href="data:,">`))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	return "https://" + sameSite + ":" + port
}

// TestBoundSDK: the published SDKs work as ever where the browser binds.
func TestBoundSDK(t *testing.T) {
	t.Parallel()
	pages := frontends(t)
	s := newBoundSite(t, stackOptions{settings: []string{everyCall}})
	s.app.pages.Handle("GET /static/", pages)
	browser, err := boundChromium()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range sdks {
		t.Run(k.String(), func(t *testing.T) {
			s.newProfileIn(browser, t).run(k, s.site(""), s.site(""), ofRefresh).subtests(t, map[string]func(*testing.T, *sdkPage){
				"first visit":    testFirstVisit,
				"expiry":         testBoundExpiry,
				"parallel calls": testParallel,
				"sign-out":       testSignOut,
			})
		})
	}
}

// testBoundExpiry: the SDK refreshes as ever, and the browser proves on the way.
func testBoundExpiry(t *testing.T, g *sdkPage) {
	g.signIn("alice")
	for range 2 {
		g.advance(boundLife) // the bound cookie is still there, so the browser asks before it proves
		if n := g.refreshed(func() { g.reached("alice", g.get()) }); n != 1 {
			t.Errorf("%d refreshes, want one", n)
		}
		if n := g.refreshed(func() { g.reached("alice", g.get()) }); n != 0 {
			t.Errorf("%d refreshes, want none", n)
		}
	}
	if got := g.mishaps(); len(got) > 0 {
		t.Error(got)
	}
}

// TestBoundOutage: an outage of Postgres signs no user out. The browser tries again by itself.
func TestBoundOutage(t *testing.T) {
	t.Parallel()
	c, err := cluster.Start(t.Context(), clusterOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	s := newBoundSite(t, stackOptions{cluster: c})
	b := s.bindingTab(t)
	handle := b.signIn("alice")
	s.advance(boundLife)
	c.Kill()
	b.expire()
	if status := b.status("GET", callPath); status != 440 {
		t.Errorf("a call, whose access token has ended: %d", status)
	}
	for range 2 {
		if status := b.status("POST", refreshPath); status != http.StatusServiceUnavailable {
			t.Errorf("a refresh: %d", status)
		}
	}
	s.must(c.Restart(t.Context()))
	s.reconnect()
	b.eventually("the browser proves again", func() bool { return b.status("GET", callPath) == http.StatusOK })
	if got := b.call("alice"); got != handle || b.told(terminated) != 0 {
		t.Error("the session or the device session has ended")
	}
}

// TestBoundQuota: a browser that may not sign any more says so, and the session lives.
func TestBoundQuota(t *testing.T) {
	t.Parallel()
	s := newBoundSite(t, stackOptions{})
	flags, err := binding(true)
	if err != nil {
		t.Fatal(err)
	}
	browser, err := startChromium("", flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = chromedp.Call(browser, cdpbrowser.Close, struct{}{}) }) // it answers, or is gone before
	b := s.newProfileIn(browser, t).binding()
	handle := b.signIn("alice")
	exceeded := func(e *network.EventDeviceBoundSessionEventOccurred) bool {
		return e.RefreshEventDetails != nil && e.RefreshEventDetails.RefreshResult == network.RefreshEventDetailsRefreshResultSigningQuotaExceeded
	}
	b.eventually("the quota is exceeded", func() bool {
		b.expire()
		b.call("alice") // the access token is good
		return b.told(exceeded) > 0
	})
	// The quota is back after minutes, for which this test does not wait. Until then the browser says that it could not prove: it is not
	// one that has lost its key.
	for range 3 {
		s.advance(boundLife)
		if status := b.status("POST", refreshPath); status != http.StatusServiceUnavailable {
			t.Errorf("a refresh: %d", status)
		}
	}
	if status := b.status("GET", callPath); status != 440 || b.told(terminated) != 0 || !s.isBound(handle) {
		t.Errorf("the session or the device session has ended: %d", status)
	}
}

// TestBoundRestart: keys and device sessions are in the browser's profile.
func TestBoundRestart(t *testing.T) {
	t.Parallel()
	s := newBoundSite(t, stackOptions{})
	flags, err := binding(false)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sge2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	run := func(do func(*bound)) {
		browser, err := startChromium("", append(flags, chromedp.UserDataDir(dir))...)
		if err != nil {
			t.Fatal(err)
		}
		do((&profile{s, t, browser}).binding())
		if err := chromedp.Cancel(browser); err != nil { // waits: while it runs, the profile is its own
			t.Fatal(err)
		}
	}
	run(func(b *bound) { b.signIn("alice") })
	s.advance(boundLife)
	run(func(b *bound) { b.expire(); b.proves(t, func() { b.call("alice") }) })
}
