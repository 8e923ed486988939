package envoy_test

// What the pages in docs/frontends say of browsers, seen in a real one.

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// addDocumented puts the routes that a page shows before all others.
func addDocumented(v *routev3.VirtualHost, text string) error {
	found := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	if len(found) != 1 {
		return fmt.Errorf("the page shows %d lists of routes, want one", len(found))
	}
	var tree []any
	if err := yaml.Unmarshal([]byte(found[0][1]), &tree); err != nil {
		return err
	}
	var routes []*routev3.Route
	for _, item := range tree {
		asJSON, err := json.Marshal(item)
		if err != nil {
			return err
		}
		r := new(routev3.Route)
		if err := protojson.Unmarshal(asJSON, r); err != nil {
			return err
		}
		routes = append(routes, r)
	}
	v.Routes = slices.Concat(routes, v.GetRoutes())
	return nil
}

// serveHTML serves a page that is nothing but text.
func serveHTML(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,">`+text)
	}
}

// events serves an event stream that tells its user, and ends when the test says so.
func (a *app) events(ended <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "retry: 1\n\ndata: %s\n\n", r.Header.Get("X-Session-User-Id"))
		if r.Method == http.MethodHead || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-ended:
		case <-r.Context().Done():
		}
	}
}

// tryStream: EventSource is refused once and closed; the page's script opens it again, with one refresh.
func tryStream(t *testing.T, s *stack, path string) {
	ended := make(chan struct{})
	s.app.pages.HandleFunc("GET /api/events", s.app.events(ended))
	p := s.newProfileFor(t)
	tab := p.signedIn("alice")
	tab.onEveryPage(stopClock)
	tab.goTo(path)
	tab.await("window.listen")
	eval[any](tab, `(window.heard = [], window.sources = [], window.EventSource = class extends EventSource { constructor(url) { super(url); sources.push(this); } }, 0)`)
	eval[any](tab, `void listen("/api/events", (event) => heard.push(event.data))`)
	tab.await(`heard.length === 1`)
	s.advance(accessLife)
	ended <- struct{}{} // the browser connects again by itself, and is refused
	tab.await(`sources[0].readyState === EventSource.CLOSED`)
	const pause = `timers.findIndex(({ ms }) => ms >= 1000 && ms < 5000)`
	tab.await(pause + ` >= 0`)
	if n := refreshes(tab); n != 0 {
		t.Errorf("%d refreshes by an event stream", n)
	}
	eval[any](tab, `timers.splice(`+pause+`, 1)[0].act()`)
	tab.await(`heard.length === 2 && heard.every((user) => user === "alice")`)
	if n := refreshes(tab); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}

	// A WebSocket that is refused.
	s.advance(accessLife)
	code := eval[int](tab, `new Promise((done) => { new WebSocket("/api/socket").onclose = (event) => done(event.code); })`)
	if code != 1006 {
		t.Errorf("a WebSocket that is refused closes with the code %d, want 1006", code)
	}

	eval[any](tab, `timers.filter(({ ms }) => ms === 200).forEach(({ act }) => act())`) // the module lets go of its lock

	// the session has ended: the script gives up, and the page goes to the login page.
	if status, _ := s.processes[0].api(http.MethodDelete, "/v1/users/alice/sessions", nil, nil); status != http.StatusOK {
		t.Fatalf("ending: %d", status)
	}
	s.advance(accessLife)
	ended <- struct{}{}
	tab.await(`sources[1].readyState === EventSource.CLOSED && ` + pause + ` >= 0`)
	eval[any](tab, `timers.splice(`+pause+`, 1)[0].act()`)
	tab.awaitPath("/login")
}

// tryDownload: a link with download fails after expiry; one without leaves sessiongate's page on the screen; the page's script gets the file.
func tryDownload(t *testing.T, s *stack, path string) {
	s.app.pages.HandleFunc("GET /api/report", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		w.Header().Set("Content-Disposition", `attachment; filename="report.csv"`)
		_, _ = io.WriteString(w, r.Header.Get("X-Session-User-Id"))
	})
	p := s.newProfileFor(t)
	tab := p.signedIn("alice")
	dir := t.TempDir()
	ended := make(chan cdpbrowser.DownloadProgressState, 10) // downloads, as the person sees it
	if err := chromedp.ListenBrowser(tab.ctx, func(event any) {
		if e, ok := event.(*cdpbrowser.EventDownloadProgress); ok && e.State != cdpbrowser.DownloadProgressStateInProgress {
			ended <- e.State
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.CallBrowser(tab.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, BrowserContextID: chromedp.FromContext(tab.ctx).BrowserContextID, EventsEnabled: new(true),
	}); err != nil {
		t.Fatal(err)
	}
	await := func(what string, want cdpbrowser.DownloadProgressState) {
		t.Helper()
		select {
		case got := <-ended:
			if text, err := os.ReadFile(filepath.Join(dir, "report.csv")); got != want || got == cdpbrowser.DownloadProgressStateCompleted && string(text) != "alice" {
				t.Errorf("%s: %s, with the file %q (%v)", what, got, text, err)
			}
			_ = os.Remove(filepath.Join(dir, "report.csv"))
		case <-time.After(patience):
			t.Fatalf("%s: nothing happens", what)
		}
	}
	tab.goTo(path)
	tab.await("window.download")
	click := func(download string) {
		eval[any](tab, fmt.Sprintf(`(document.body.innerHTML = '<a %s href="/api/report">report</a>', document.querySelector("a").click(), 0)`, download))
	}
	click("download")
	await("while the session lives", cdpbrowser.DownloadProgressStateCompleted)

	s.advance(accessLife)
	asked := s.app.requests.Load()
	click("download")
	await("a link with download after expiry", cdpbrowser.DownloadProgressStateCanceled)
	if n := s.app.requests.Load(); n != asked || refreshes(tab) != 0 {
		t.Errorf("%d requests reach the app, and %d refreshes", n-asked, refreshes(tab))
	}
	if !eval[bool](tab, `download("/api/report")`) || refreshes(tab) != 1 {
		t.Errorf("the script fails, or takes %d refreshes", refreshes(tab))
	}
	await("by the script", cdpbrowser.DownloadProgressStateCompleted)

	s.advance(accessLife)
	click("")
	await("by sessiongate's page", cdpbrowser.DownloadProgressStateCompleted)
	tab.await(`document.title === "One moment"`)
}

// TestReturns: what docs/frontends/returns.md says of a POST from another site, for each SameSite.
func TestReturns(t *testing.T) {
	t.Parallel()
	needChromium(t)
	for _, c := range []struct {
		sameSite, guarded string
	}{
		{"lax", "login"}, {"strict", "login"}, {"none", "403"},
	} {
		t.Run(c.sameSite, func(t *testing.T) {
			s := newStack(t, stackOptions{settings: []string{"SESSIONGATE_COOKIES_SAME_SITE=" + c.sameSite}, edit: editRoutes(func(v *routev3.VirtualHost) error {
				return addDocumented(v, document(t, "frontends/returns.md"))
			})})
			landed := make(chan http.Header, 1)
			s.app.pages.HandleFunc("POST /payment/return", func(w http.ResponseWriter, r *http.Request) {
				landed <- r.Header
				http.Redirect(w, r, "/orders/"+r.FormValue("order"), http.StatusSeeOther)
			})
			s.app.pages.HandleFunc("POST /orders/", func(http.ResponseWriter, *http.Request) { t.Error("a foreign POST reaches the guarded page") })
			s.app.pages.HandleFunc("GET /orders/", func(w http.ResponseWriter, r *http.Request) {
				serveHTML("<h1>"+r.Header.Get("X-Session-User-Id")+"</h1>")(w, r)
			})
			s.app.pages.HandleFunc("GET /login", serveHTML("<h1>login</h1>"))
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				serveHTML(fmt.Sprintf(`<form method="post" action=%q><input name="order" value="7"></form><a href=%[1]q>back</a>`, s.site(r.URL.Path)))(w, r)
			}))
			t.Cleanup(provider.Close)
			at := originOf(t, provider, "pay.localhost")
			const shown = `document.querySelector("h1")?.textContent`
			p := s.newProfileFor(t)
			tab := p.signedIn("alice")

			tab.goTo(at + "/orders/7")
			eval[any](tab, `document.querySelector("a").click()`)
			tab.await(shown + ` === "alice"`)

			tab.goTo(at + "/payment/return")
			eval[any](tab, `document.forms[0].submit()`)
			header := <-landed
			if site := header.Get("Sec-Fetch-Site"); site != "cross-site" {
				t.Errorf("the POST is %q: this test tries nothing", site)
			}
			if with := strings.Contains(header.Get("Cookie"), "sAccessToken="); with != (c.sameSite == "none") || header.Get("X-Session-User-Id") != "" {
				t.Errorf("the POST comes with cookies: %t, and as %q", with, header.Get("X-Session-User-Id"))
			}
			tab.await(`location.pathname === "/orders/7" && ` + shown + ` === "alice"`)

			tab.goTo(at + "/orders/7")
			eval[any](tab, `document.forms[0].submit()`)
			if c.guarded == "login" {
				tab.awaitPath("/login")
			} else {
				tab.await(`location.pathname === "/orders/7" && document.body.textContent.includes("another site")`)
			}
		})
	}
}

// TestBuildFiles: what single-page.md says of the files of a build on guarded and on open routes, and open-routes.md of the routes it shows.
func TestBuildFiles(t *testing.T) {
	needChromium(t)
	s := newStack(t, stackOptions{settings: []string{followsFast}, edit: editRoutes(func(v *routev3.VirtualHost) error {
		return addDocumented(v, document(t, "frontends/open-routes.md"))
	})})
	for _, dir := range []string{"assets", "guarded"} {
		s.app.pages.HandleFunc("GET /"+dir+"/", serveScript([]byte("export default 1;")))
	}
	s.app.pages.HandleFunc("GET /app", serveHTML(""))
	t.Run("lazy chunks", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("alice")
		load := func(path string) bool {
			return eval[bool](tab, fmt.Sprintf(`import(%q).then(() => true, () => false)`, path))
		}
		tab.goTo("/app")
		if !load("/guarded/a.js") || !load("/assets/a.js") {
			t.Error("a chunk is refused while the session lives")
		}
		s.advance(accessLife)
		if load("/guarded/b.js") || !load("/assets/b.js") {
			t.Error("after expiry a guarded chunk loads, or an open one does not")
		}
		if status := eval[int](tab, `fetch("/auth/session/refresh", { method: "POST" }).then((r) => r.status)`); status != http.StatusOK {
			t.Fatalf("refresh: %d", status)
		}
		if !load("/guarded/c.js") {
			t.Error("after the refresh a chunk is refused")
		}
		if !load("/guarded/b.js") {
			t.Error("the browser remembers that a chunk failed")
		}
		s.advance(accessLife)
		if load("/guarded/d.js") {
			t.Error("after expiry a guarded chunk loads")
		}
		eval[any](tab, `void location.reload()`)
		tab.await(`document.title === "page" && performance.getEntriesByType("navigation")[0].type === "reload"`)
		if !load("/guarded/d.js") {
			t.Error("after the reload a chunk is refused")
		}
	})
	t.Run("open to all, and nothing else", func(t *testing.T) {
		b := s.newBrowser(networkV)
		for path, open := range map[string]bool{
			"/healthz": true, "/.well-known/acme-challenge/token": true, "/favicon.ico": true, "/robots.txt": true, "/manifest.webmanifest": true,
			"/.well-known/apple-app-site-association": true, "/assets/index.js": true,
			"/healthz/": false, "/healthzz": false, "/robots.txt/admin": false, "/.well-known/acme-challenge": false, "/assets": false, "/assets/../app": false, "/.well-known/other": false,
		} {
			a := b.send(http.MethodGet, path, with("X-Session-User-Id", "root"))
			if open && a.status != http.StatusOK || !open && a.status != http.StatusFound {
				t.Errorf("%s: %d, open: %t", path, a.status, open)
			}
			if a.app != nil && a.app.Header.Get("X-Session-User-Id") != "" {
				t.Errorf("%s: a client's own identity reaches the app", path)
			}
		}
	})
	t.Run("manifest", func(t *testing.T) {
		asked := make(chan string, 10)
		s.app.pages.HandleFunc("GET /guarded.webmanifest", func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Header.Get("X-Session-User-Id")
			_, _ = io.WriteString(w, `{"name":"app"}`)
		})
		s.app.pages.HandleFunc("GET /login", serveHTML(""))
		for kind, want := range map[string]int{"": 0, `crossorigin="use-credentials"`: 1} {
			s.app.pages.HandleFunc(fmt.Sprintf("GET /static/manifest%d", want), serveHTML(`<link rel="manifest" href="/guarded.webmanifest" `+kind+`>`))
			tab := s.newProfileFor(t).signedIn("alice")
			tab.goTo(fmt.Sprintf("/static/manifest%d", want))
			if _, err := chromedp.Call(tab.ctx, cdppage.GetAppManifest, cdppage.GetAppManifestParams{}); err != nil {
				t.Fatal(err)
			}
			if len(asked) != want {
				t.Errorf("the manifest with %q is got %d times, want %d", kind, len(asked), want)
			}
			for len(asked) > 0 {
				if user := <-asked; user != "alice" {
					t.Errorf("the manifest is got as %q", user)
				}
			}
		}
	})
}

// TestPlainHTTP: what single-page.md says of browsers that attest nothing. On plain http of any host but localhost Chromium is one.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s := newStack(t, stackOptions{settings: []string{followsFast, "SESSIONGATE_COOKIES_SECURE=false", "SESSIONGATE_RESPONSES_DENIAL_HEADER=true"}, edit: editRoutes(func(v *routev3.VirtualHost) error {
		return addRoute(v, "api", "/unsafe/", map[string]string{"session": "required", "on_unauthorised": "auto", "anti_csrf": "unsafe"})
	})})
	serveModule(t, &s.app.pages)
	for _, dir := range []string{"api", "unsafe"} {
		s.app.pages.HandleFunc("GET /"+dir+"/image", func(w http.ResponseWriter, r *http.Request) {
			if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
				t.Errorf("the browser attests %q: this test tries nothing", site)
			}
			w.Header().Set("Content-Type", "image/svg+xml")
			_, _ = io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>`)
		})
		s.app.pages.HandleFunc("GET /"+dir+"/script", serveScript([]byte("")))
		s.app.pages.HandleFunc("GET /"+dir+"/style", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/css") })
		ended := make(chan struct{})
		close(ended)
		s.app.pages.HandleFunc("GET /"+dir+"/events", s.app.events(ended))
		s.app.pages.HandleFunc("GET /"+dir+"/page", serveHTML("<h1>page</h1>"))
		s.app.pages.HandleFunc("POST /"+dir+"/page", serveHTML("<h1>posted</h1>"))
	}
	site := s.siteAt("app.example.test", "")
	m := s.newProfileFor(t).module(site, site, nil)
	if eval[bool](m.tab, `"locks" in navigator || isSecureContext`) {
		t.Error("it is a secure context: this test tries nothing")
	}
	m.signIn("alice")
	s.advance(accessLife)
	m.takes("/api/call", 2, 1, func() { m.call("/api/call", "alice") })

	plain := func(method, path string) int {
		return eval[int](m.tab, fmt.Sprintf(`fetch(%q, { method: %q }).then((r) => r.status)`, path, method))
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		if status := plain(method, "/api/call"); status != http.StatusOK {
			t.Errorf("a plain %s: %d", method, status)
		}
	}
	for dir, status := range map[string]int{"/api": 440, "/unsafe": http.StatusOK} {
		for _, method := range []string{"GET", "HEAD"} {
			if got := plain(method, dir+"/call"); got != status {
				t.Errorf("a plain %s of %s: %d, want %d", method, dir, got, status)
			}
		}
		for what, loads := range map[string]string{
			"image":  `Object.assign(new Image(), { onload: () => done(true), onerror: () => done(false), src: %q })`,
			"script": `document.head.append(Object.assign(document.createElement("script"), { onload: () => done(true), onerror: () => done(false), src: %q }))`,
			"style":  `document.head.append(Object.assign(document.createElement("link"), { onload: () => done(true), onerror: () => done(false), rel: "stylesheet", href: %q }))`,
			"events": `((source) => { source.onopen = () => { source.close(); done(true); }; source.onerror = () => done(false); })(new EventSource(%q))`,
		} {
			if got := eval[bool](m.tab, fmt.Sprintf(`new Promise((done) => { `+loads+`; })`, dir+"/"+what)); got != (status == http.StatusOK) {
				t.Errorf("%s of %s loads: %t", what, dir, got)
			}
		}
		m.goTo(site + dir + "/page")
		m.await(`document.querySelector("h1").textContent === "page"`)
		eval[any](m.tab, `document.body.insertAdjacentHTML("beforeend", "<form method=post></form>")`)
		eval[any](m.tab, `document.forms[0].submit()`)
		m.await(`document.querySelector("h1")?.textContent === "posted"`)
		m.open(nil)
	}
	refused := m.seen(func(x *exchange) bool { return x.path == "/api/image" })
	if len(refused) != 1 || refused[0].headers["x-sessiongate-denial"] != "anti_csrf" {
		t.Errorf("the image: %d requests", len(refused))
	}
}

// TestDevServer: what local-development.md says of a dev server that forwards to Envoy, with the Host as it came and with another.
func TestDevServer(t *testing.T) {
	needChromium(t)
	s := newStack(t, stackOptions{settings: []string{followsFast, "SESSIONGATE_RESPONSES_DENIAL_HEADER=true"}})
	target, err := url.Parse(s.proxy.URL("ingress"))
	if err != nil {
		t.Fatal(err)
	}
	for _, changeOrigin := range []bool{false, true} {
		t.Run(fmt.Sprintf("changeOrigin %t", changeOrigin), func(t *testing.T) {
			mux := http.NewServeMux()
			serveModule(t, mux)
			mux.Handle("/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				if !changeOrigin {
					r.Out.Host = r.In.Host
				}
			}})
			dev := httptest.NewServer(mux)
			t.Cleanup(dev.Close)
			origin := originOf(t, dev, "localhost")
			m := s.newProfileFor(t).module(origin, origin, nil)
			m.signIn("alice")
			post := m.send("POST", "/api/call", "text")
			s.advance(accessLife)
			if !changeOrigin {
				if post.Status != http.StatusOK {
					t.Errorf("a POST: %s", post)
				}
				m.takes("/api/call", 2, 1, func() { m.call("/api/call", "alice") })
				return
			}
			// The token of the module lets a POST pass. Nothing lets a refresh.
			if status := eval[int](m.tab, `fetch("/auth/session/refresh", { method: "POST" }).then((r) => r.status)`); status != http.StatusForbidden {
				t.Errorf("a refresh: %d, want 403", status)
			}
			refused := m.seen(func(x *exchange) bool { return x.path == refreshPath })
			if code := refused[0].headers["x-sessiongate-denial"]; code != "foreign_origin" {
				t.Errorf("the refresh is refused as %q", code)
			}
		})
	}
}

// TestMobileExchange runs the lines of mobile.md, with an expiry in the middle and without.
func TestMobileExchange(t *testing.T) {
	s := newStack(t, stackOptions{settings: []string{followsFast}})
	found := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(document(t, "frontends/mobile.md"), -1)
	if len(found) != 1 {
		t.Fatalf("%d exchanges, want one", len(found))
	}
	const here = "# Call."
	if strings.Count(found[0][1], here) != 1 {
		t.Fatalf("the exchange has no %q", here)
	}
	for name, expires := range map[string]bool{"at once": false, "after expiry": true} {
		t.Run(name, func(t *testing.T) {
			reached, goOn := make(chan struct{}), make(chan struct{})
			pause := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				reached <- struct{}{}
				<-goOn
			}))
			t.Cleanup(pause.Close)
			script := strings.Replace(found[0][1], here, "curl -sS "+pause.URL+"\n"+here, 1)
			command := exec.Command("sh", "-eu", "-c", script)
			command.Dir = t.TempDir()
			command.Env = []string{"PATH=" + os.Getenv("PATH"), "APP=" + s.proxy.URL("ingress")}
			var said strings.Builder
			command.Stdout, command.Stderr = &said, &said
			before := s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE reason = 'signed_out'`)
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			<-reached
			if expires {
				s.advance(accessLife)
			}
			close(goOn)
			if err := command.Wait(); err != nil {
				t.Fatal(err)
			}
			if want := "sign-in: 204\ncall: 200\nsign-out: 200\n"; said.String() != want {
				t.Errorf("the exchange says %q, want %q", said.String(), want)
			}
			if n := s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE reason = 'signed_out'`); n != before+1 {
				t.Errorf("%d sessions are left by sign-out, want 1", n-before)
			}
		})
	}
}
