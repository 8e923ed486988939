package envoy_test

// The ways by which a browser comes to an expired page other than a plain navigation.

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/preload"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

func testExpiredForm(t *testing.T, s *stack) {
	var received atomic.Int64
	s.app.pages.HandleFunc("GET /form", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><title>app</title>
			<form id=form method=post action="/sent?to=x"><input name=text id=text></form>`)
	})
	s.app.pages.HandleFunc("POST /sent", func(w http.ResponseWriter, r *http.Request) {
		received.Add(1)
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, "<!doctype html><title>app</title><p id=sent>%s</p>", r.PostFormValue("text"))
	})
	fill := `document.getElementById("text").value = "typed", document.getElementById("form").submit()`
	write := func(t *testing.T, user string) *tab {
		p := s.newProfileFor(t)
		tab := p.signedIn(user)
		tab.goTo("/form")
		tab.awaitPath("/form")
		p.advance(accessLife)
		received.Store(0)
		return tab
	}

	t.Run("is not sent by itself, and what was typed is kept", func(t *testing.T) {
		tab := write(t, "form")
		eval[any](tab, fill)
		tab.await(told + `.includes("send it again")`)
		tab.want(1, 3)
		if n := received.Load(); n != 0 || tab.sent("POST", "/sent") != 1 {
			t.Errorf("received %d times, sent %d times, before the person sent it again", n, tab.sent("POST", "/sent"))
		}
		tab.press("Go back")
		tab.awaitPath("/form")
		if text := eval[string](tab, `document.getElementById("text").value`); text != "typed" {
			t.Errorf("the form has %q, want what was typed", text)
		}
		eval[any](tab, `document.getElementById("form").submit()`)
		tab.await(`document.getElementById("sent")?.textContent === "typed"`)
		if n := received.Load(); n != 1 || refreshes(tab) != 1 {
			t.Errorf("received %d times after %d refreshes, want once", n, refreshes(tab))
		}
		tab.quiet()
	})

	t.Run("that opens a tab", func(t *testing.T) {
		tab := write(t, "blank")
		opened := chromedp.WaitNewTarget(tab.ctx, func(*target.Info) bool { return true })
		eval[any](tab, `document.getElementById("form").target = "_blank", `+fill)
		other := tab.attach(<-opened)
		other.await(told + `.includes("send it again")`)
		closed, err := chromedp.Detached(other.ctx)
		if err != nil {
			t.Fatal(err)
		}
		other.press("Close this tab")
		<-closed
		if text := eval[string](tab, `location.pathname + " " + document.getElementById("text").value`); text != "/form typed" {
			t.Errorf("the tab behind it shows %q", text)
		}
		eval[any](tab, `document.getElementById("form").target = "", document.getElementById("form").submit()`)
		tab.await(`document.getElementById("sent")?.textContent === "typed"`)
		if n := received.Load(); n != 1 {
			t.Errorf("received %d times, want once", n)
		}
	})

	t.Run("of an ended session goes to the sign-in page, and back", func(t *testing.T) {
		tab := write(t, "formended")
		tab.processes[0].api(http.MethodDelete, "/v1/users/formended/sessions", nil, nil)
		tab.advance(2*attempt + moment)
		eval[any](tab, fill)
		tab.await(onLogin)
		if n := received.Load(); n != 0 || refreshes(tab) != 1 {
			t.Errorf("received %d times after %d refreshes", n, refreshes(tab))
		}
		eval[any](tab, `history.back()`)
		tab.awaitPath("/form")
		if text := eval[string](tab, `document.getElementById("text").value`); text != "typed" {
			t.Errorf("the form has %q, want what was typed", text)
		}
	})
}

func testExpiredFrames(t *testing.T, s *stack) {
	frame := func(address string) string {
		return fmt.Sprintf(`document.body.append(Object.assign(document.createElement("iframe"), { src: %s })), 0`, quote(address))
	}
	t.Run("of the same origin renew themselves alone", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("frames")
		tab.goTo("/page?top")
		tab.onEveryPage(stopClock) // none may have to wait for another
		p.advance(accessLife)
		all := make([]string, 7)
		for i := range all {
			all[i] = frame(fmt.Sprintf("/page?frame=%d#x", i))
		}
		eval[int](tab, strings.Join(all, ", "))
		for i := range 7 {
			tab.await(fmt.Sprintf(`frames[%d].location.href.endsWith("/page?frame=%d#x") && frames[%d].document.title === "app"`, i, i, i))
		}
		if n := refreshes(tab); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
		if n := tab.sent("GET", "/page"); n > 1+7*2 {
			t.Errorf("%d requests for 8 pages: a frame was loaded more than twice", n)
		}
		if n := len(tab.seen(func(x *exchange) bool { return x.path == "/page?top" })); n != 1 || eval[string](tab, `location.search`) != "?top" {
			t.Error("the page around the frames was loaded again")
		}
		if at, paths := tab.entries(); at != 2 || len(paths) != 3 {
			t.Errorf("history: %d of %q", at, paths)
		}
		p.survived("frames")
	})
	t.Run("of an ended session show the sign-in page in the frame", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("framesended")
		tab.goTo("/page?top")
		p.advance(accessLife)
		p.processes[0].api(http.MethodDelete, "/v1/users/framesended/sessions", nil, nil)
		p.advance(2*attempt + moment)
		eval[int](tab, frame("/page?frame"))
		tab.await(`frames[0].document.title === "sign in"`)
		tab.want(1, 2+2)
		if eval[string](tab, `location.search`) != "?top" {
			t.Error("the frame navigated the page around it")
		}
	})
	t.Run("of another origin are refused", func(t *testing.T) {
		var framed atomic.Int64
		s.app.pages.HandleFunc("GET /framed", func(http.ResponseWriter, *http.Request) { framed.Add(1) })
		p := s.newProfileFor(t)
		tab := p.signedIn("foreign")
		tab.goTo(p.siteAt("b.app.localhost", "/login"))
		tab.addFrame(p.site("/framed?living"))
		// The cookies do reach the frame, of a sibling host, but the page in it would be shown to the author of the page around it.
		if x := tab.seen(func(x *exchange) bool { return x.path == "/framed?living" }); len(x) != 1 || x[0].status != http.StatusForbidden || framed.Load() != 0 {
			t.Fatalf("a frame of another origin: %+v, and the app was asked %d times", x, framed.Load())
		}
		p.advance(accessLife)
		tab.addFrame(p.site("/framed?expired"))
		tab.await(`frames.length === 2`)
		tab.eventually("the browser refuses it", func() bool {
			return slices.ContainsFunc(tab.mishaps(), func(fault string) bool { return strings.Contains(fault, "frame-ancestors 'self'") })
		})
		if n := refreshes(tab); n != 0 {
			t.Errorf("%d refreshes: the page ran in a frame of another origin", n)
		}
		if host := eval[string](tab, `location.host`); !strings.HasPrefix(host, "b.app.localhost") {
			t.Errorf("the page around the frame went to %s", host)
		}
		tab.goTo("/page") // by itself it works
		tab.await(onApp)
		p.survived("foreign")
	})
	t.Run("of no origin say so", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("sandboxed")
		tab.goTo("/page?top")
		p.advance(accessLife)
		eval[int](tab, `new Promise((loaded) => {
			const frame = Object.assign(document.createElement("iframe"), { src: "/page?sandboxed", onload: () => loaded(0) });
			frame.sandbox = "allow-scripts";
			document.body.append(frame);
		})`)
		p.frame("sandboxed").await(`document.getElementById("status").textContent === "Please reload the page that this frame is in."`)
		tab.goTo("/page?top")
		tab.await(onApp)
		p.survived("sandboxed")
	})
}

// testKept: a way back through pages that the browser keeps. It says whether it kept them.
func testKept(t *testing.T, s *stack) bool {
	t.Helper()
	p := s.newProfileFor(t)
	tab := p.signedIn("back")
	tab.onEveryPage(`addEventListener("pageshow", (event) => { window.persisted = event.persisted; })`)
	tab.goTo("/other?1")
	p.advance(accessLife)
	tab.goTo("/page?2#x")
	tab.awaitPath("/page?2#x")
	tab.await(onApp)
	if at, paths := tab.entries(); at != len(paths)-1 || !slices.Equal(paths[1:], []string{"/login", "/other?1", "/page?2#x"}) {
		t.Errorf("history: %d of %q", at, paths)
	}
	tab.want(1, 4)
	// The page before is shown as it was, though the token that it was loaded with has long expired: once more, too.
	p.advance(accessLife)
	for _, step := range []struct{ script, path string }{
		{`history.back()`, "/other?1"}, {`history.forward()`, "/page?2#x"}, {`history.back()`, "/other?1"},
	} {
		eval[any](tab, step.script)
		tab.awaitPath(step.path)
		tab.await(onApp)
		if !eval[bool](tab, `window.persisted`) {
			return false
		}
	}
	tab.want(1, 4)
	tab.quiet()
	return true
}

func testHistory(t *testing.T, s *stack) {
	s.app.pages.HandleFunc("GET /never-kept", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "<!doctype html><title>app</title><script>onunload = () => {}</script>")
	})
	t.Run("has no entry for the renewal", func(t *testing.T) {
		for range 3 { // a browser may drop a page that it keeps
			if testKept(t, s) {
				return
			}
		}
		t.Fatal("pages were loaded again: this test shows nothing")
	})
	t.Run("leads to an expired page, and goes on from there", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.signedIn("revisiting")
		tab.goTo("/never-kept?1#x")
		tab.goTo("/never-kept?2")
		p.advance(accessLife)
		eval[any](tab, `history.back()`)
		tab.awaitPath("/never-kept?1#x")
		tab.await(onApp)
		tab.want(1, 5)
		if at, paths := tab.entries(); at != 2 || !slices.Equal(paths[1:], []string{"/login", "/never-kept?1#x", "/never-kept?2"}) {
			t.Errorf("history: %d of %q", at, paths)
		}
		eval[any](tab, `history.forward()`)
		tab.awaitPath("/never-kept?2")
		tab.await(onApp)
		tab.want(1, 6)
	})
	t.Run("a renewal that is left alone is not come back to", func(t *testing.T) {
		p := s.newProfileFor(t)
		tab := p.expired(one, "left")
		p.outage()
		tab.goTo("/page?left")
		tab.await(told + `.includes("cannot be reached")`)
		tab.goTo("/login")
		p.recovery()
		tab.goTo("/page?elsewhere")
		tab.await(onApp)
		n, m := refreshes(tab), tab.documents()
		eval[any](tab, `history.go(-2)`)
		tab.awaitPath("/page?left")
		tab.await(onApp)
		tab.want(n, m+1)
	})
}

func testPrefetch(t *testing.T, s *stack) {
	var purposes, modes atomic.Value
	s.app.pages.HandleFunc("GET /fetched", func(w http.ResponseWriter, r *http.Request) {
		purposes.Store(r.Header.Get("Sec-Purpose"))
		modes.Store(r.Header.Get("Sec-Fetch-Mode"))
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>app</title>")
	})
	link := func(path string) string {
		return fmt.Sprintf(`new Promise((done) => document.head.append(Object.assign(document.createElement("link"),
			{ rel: "prefetch", href: %s, onload: () => done("loaded"), onerror: () => done("failed") })))`, quote(path))
	}
	rules := func(action, path string) string {
		return fmt.Sprintf(`document.head.append(Object.assign(document.createElement("script"), { type: "speculationrules",
			textContent: JSON.stringify({ %s: [{ source: "list", urls: [%s], eagerness: "immediate" }] }) })), 0`, action, quote(path))
	}
	// follow follows a link of the page, as a person does.
	follow := func(tab *tab, path string) {
		eval[any](tab, fmt.Sprintf(`void Object.assign(document.createElement("a"), { href: %s }).click()`, quote(path)))
		tab.awaitPath(path)
		tab.await(onApp)
	}
	for _, way := range []struct {
		name, purpose, mode string
		do                  func(*tab, string)
	}{
		{"by a link", "prefetch", "no-cors", func(tab *tab, path string) { eval[string](tab, link(path)) }},
		{"by a speculation rule", "prefetch", "navigate", func(tab *tab, path string) {
			awaitEvent(tab, preload.PrefetchStatusUpdated, func(e preload.EventPrefetchStatusUpdated) bool {
				return e.Status == preload.IngStatusReady || e.Status == preload.IngStatusFailure
			}, func() { eval[int](tab, rules("prefetch", path)) })
		}},
		{"by a prerendering", "prefetch;prerender", "navigate", func(tab *tab, path string) {
			awaitEvent(tab, preload.PrerenderStatusUpdated, func(e preload.EventPrerenderStatusUpdated) bool {
				return e.Status == preload.IngStatusReady || e.Status == preload.IngStatusFailure
			}, func() { eval[int](tab, rules("prerender", path)) })
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			p := s.newProfileFor(t)
			user := "prefetch" + strings.ReplaceAll(way.name, " ", "")
			tab := p.signedIn(user)
			tab.goTo("/other")
			if _, err := chromedp.Call(tab.ctx, preload.Enable, cdp.Empty{}); err != nil {
				t.Fatal(err)
			}
			purposes.Store("")
			way.do(tab, "/fetched?living")
			s.eventually("the app is asked", func() bool { return purposes.Load() != "" })
			if purposes.Load() != way.purpose || modes.Load() != way.mode {
				t.Errorf("Chromium asked with Sec-Purpose %q and mode %q", purposes.Load(), modes.Load())
			}
			p.advance(accessLife)
			way.do(tab, "/fetched?expired")
			if n := refreshes(tab); n != 0 {
				t.Errorf("%d refreshes for a page that no one looks at", n)
			}
			follow(tab, "/fetched?expired")
			if n := refreshes(tab); n != 1 {
				t.Errorf("%d refreshes, want 1", n)
			}
			tab.quiet()
			p.survived(user)
		})
	}
}

// awaitEvent does something that makes an event happen.
func awaitEvent[E any](t *tab, event cdp.Event[E], match func(E) bool, do func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.WaitEvent(event, match, chromedp.Func(func(context.Context, *chromedp.Target) error {
		do()
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
}

func testServiceWorkers(t *testing.T, s *stack) {
	for name, code := range map[string]string{
		"passing": `fetch(event.request)`,
		"again":   `fetch(event.request.url, { headers: event.request.headers })`,
		"bare":    `fetch(event.request.url)`,
	} {
		s.app.pages.HandleFunc("GET /static/"+name+".js", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			w.Header().Set("Service-Worker-Allowed", "/")
			_, _ = fmt.Fprintf(w, `addEventListener("fetch", (event) => { if (event.request.mode === "navigate" || %t) event.respondWith(%s); });`, name == "passing", code)
		})
	}
	under := func(t *testing.T, user, worker, scope string) *tab {
		p := s.newProfileFor(t)
		tab := p.signedIn(user)
		tab.goTo(scope + "page")
		tab.await(onApp)
		eval[any](tab, fmt.Sprintf(`navigator.serviceWorker.register("/static/%s.js", { scope: %s }).then(() => navigator.serviceWorker.ready).then(() => 0)`, worker, quote(scope)))
		return tab
	}
	for _, worker := range []string{"passing", "again"} {
		t.Run(worker, func(t *testing.T) {
			tab := under(t, worker, worker, "/unsafe/")
			tab.goTo("/unsafe/page?a=1")
			tab.await(onApp + ` && navigator.serviceWorker.controller`)
			tab.advance(accessLife)
			tab.goTo("/unsafe/page?a=2#here")
			tab.awaitPath("/unsafe/page?a=2#here")
			tab.await(onApp)
			if n := refreshes(tab); n != 1 {
				t.Errorf("%d refreshes, want 1", n)
			}
			tab.quiet()
			tab.survived(worker)
		})
	}
	t.Run("that hides what it asks for", func(t *testing.T) {
		tab := under(t, "bare", "bare", "/unsafe/")
		tab.advance(accessLife)
		tab.goTo("/unsafe/page?a=2")
		if text := eval[string](tab, `document.body.innerText`); text != "Please call the refresh token endpoint" {
			t.Errorf("the person sees %q", text)
		}
		tab.want(0, 3)
	})
	t.Run("that asks for pages without an anti-CSRF token ends, and says so", func(t *testing.T) {
		tab := under(t, "tokenless", "again", "/always/")
		tab.onEveryPage(stopClock)
		tab.goTo("/always/page?a=1")
		for range 4 {
			tab.pass()
		}
		tab.await(told + `.includes("could not be renewed")`)
		tab.want(6, 2+6)
		tab.survived("tokenless")
	})
}
