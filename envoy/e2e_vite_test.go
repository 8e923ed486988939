package envoy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	manifest "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// vite builds the app of testdata/vite, with the chunks in a folder of this name.
func vite(t *testing.T, assets string) string {
	t.Helper()
	out := "dist-" + assets
	return appBuild{
		dir: "testdata/vite", module: "src/sessiongate.js", tool: "vite/bin/vite.js", out: out,
		args: []string{"build", "--outDir", out, "--assetsDir", assets},
	}.build(t)
}

// serveVite serves a build as the app's server: each address that is a view of the page is the page.
func (s *stack) serveVite(built string) {
	s.app.pages.HandleFunc("GET /login", loginPage)
	files := http.FileServer(http.Dir(built))
	for _, file := range []string{"/assets/", "/static/", "/icon.svg", "/manifest.webmanifest", "/sw.js"} {
		s.app.pages.Handle("GET "+file, files)
	}
	for _, view := range []string{"/{$}", "/notes", "/about"} {
		s.app.pages.HandleFunc("GET "+view, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, filepath.Join(built, "index.html")) })
	}
}

// openVite opens the page, waits for all that it starts, and gives it a state.
func (p *profile) openVite(path string) *tab {
	p.Helper()
	t := p.openSignedIn(path)
	t.await(`document.body.dataset.worker === "4" && document.body.dataset.serviceWorker && document.body.dataset.fonts === "1" && document.querySelector("main").dataset.view`)
	for range 3 {
		t.click("#count")
	}
	return t
}

// view goes to a view as a person does, and waits until it is shown.
func (t *tab) view(path string) {
	t.Helper()
	t.click(`nav a[href="` + path + `"]`)
	t.await(`document.querySelector("main").dataset.view === "` + path + `"`)
}

// TestVite runs a page as Vite builds it, all of it behind the shipped default route.
func TestVite(t *testing.T) {
	needChromium(t)
	built := vite(t, "assets")
	index, err := os.ReadFile(filepath.Join(built, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{`<script type="module" crossorigin src="/assets/`, `<link rel="stylesheet" crossorigin href="/assets/`} {
		if !strings.Contains(string(index), tag) {
			t.Errorf("the build has no %s", tag)
		}
	}
	s := newStack(t, stackOptions{settings: []string{followsFast}})
	s.serveVite(built)

	p := s.newProfile()
	tab := p.openVite("/")
	if _, err := chromedp.Call(tab.ctx, manifest.GetAppManifest, manifest.GetAppManifestParams{}); err != nil {
		t.Fatal(err)
	}
	tab.view("/notes")
	tab.view("/about")
	tab.await(`[...document.images].every((i) => i.complete && i.naturalWidth)`)
	tab.view("/notes")
	if notes, count := tab.text(".notes"), tab.text("#count"); notes != "200 alice" || count != "3" {
		t.Errorf("the view says %q, and the page's state is %q, want 3", notes, count)
	}
	if refused, complaints := s.refused(), tab.complaints(); len(refused) > 0 || len(complaints) > 0 {
		t.Errorf("not answered by 200: %v; on the console: %q", refused, complaints)
	}
	traffic := s.traffic()
	for _, loaded := range []string{
		"/assets/index-*.js", "/assets/index-*.css", "/assets/inter-*.woff2", "/assets/worker-*.js", "/assets/double-*.js", "/sw.js", "/icon.svg",
		"/manifest.webmanifest", "/assets/notes-*.js", "/assets/notes-*.css", "/assets/about-*.js", "/assets/about-*.svg", "/assets/mask-*.svg", "/api/notes",
	} {
		if !slices.ContainsFunc(traffic, func(l logged) bool { ok, _ := filepath.Match(loaded, l.Path); return ok }) {
			t.Errorf("the page did not load %s", loaded)
		}
	}
	if n := tab.documents(); n != 1 {
		t.Errorf("%d pages were loaded, want 1", n)
	}

	t.Run("a call after expiry", func(t *testing.T) {
		s.advance(accessLife)
		before := refreshes(tab)
		tab.view("/")
		tab.view("/notes")
		if notes, count := tab.text(".notes"), tab.text("#count"); notes != "200 alice" || count != "3" {
			t.Errorf("the view says %q, and the page's state is %q, want 3", notes, count)
		}
		if n := refreshes(tab) - before; n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
	})
	t.Run("a navigation after expiry", func(*testing.T) {
		s.advance(accessLife)
		tab.goTo("/notes")
		tab.await(`document.querySelector("main")?.dataset.view === "/notes"`)
	})
	if mishaps := tab.mishaps(); len(mishaps) > 0 {
		t.Errorf("on the console: %q", mishaps)
	}
}

// TestViteChunksAfterExpiry: a chunk that is asked for after the access token has expired. On a guarded route the page is loaded again, and
// is then mended; on an open one no one notices.
func TestViteChunksAfterExpiry(t *testing.T) {
	needChromium(t)
	for _, route := range []struct {
		name, assets, count string
		refreshes           int
	}{
		{"guarded", "assets", "0", 1},
		{"open", "static", "3", 0},
	} {
		t.Run(route.name, func(t *testing.T) {
			s := newStack(t, stackOptions{settings: []string{followsFast}})
			s.serveVite(vite(t, route.assets))
			tab := s.newProfile().openVite("/")
			s.advance(accessLife)
			tab.click(`nav a[href="/about"]`)
			tab.await(`location.pathname === "/about" && document.querySelector("main")?.dataset.view === "/about"`)
			if count := tab.text("#count"); count != route.count {
				t.Errorf("the page's state is %q, want %q", count, route.count)
			}
			if n := refreshes(tab); n != route.refreshes {
				t.Errorf("%d refreshes, want %d", n, route.refreshes)
			}
		})
	}
}

// TestViteServiceWorker: the page's service worker hands on each navigation, also those of other sites' pages. A link leads to the user's page;
// a form and a frame have nothing of the user, also where the browser sends the cookies along.
func TestViteServiceWorker(t *testing.T) {
	t.Parallel()
	needChromium(t)
	for sameSite, form := range map[string]int{"none": 403, "strict": 302} {
		t.Run(sameSite, func(t *testing.T) { testServiceWorker(t, sameSite, form) })
	}
}

func testServiceWorker(t *testing.T, sameSite string, form int) {
	s := newStack(t, stackOptions{settings: []string{followsFast, "SESSIONGATE_COOKIES_SAME_SITE=" + sameSite}})
	s.serveVite(vite(t, "assets"))
	s.app.pages.HandleFunc("/foreign", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><title>%s</title>`, r.Header.Get("X-Session-User-Id"))
	})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><a href="%[1]s?link">Link</a><iframe src="%[1]s?frame"></iframe>
			<form method="post" action="%[1]s?form"><button>Send</button></form>`, s.site("/foreign"))
	}))
	t.Cleanup(web.Close)
	p := s.newProfile()
	p.openVite("/")
	for _, by := range []struct {
		host, name, selector string
		answers              []int
	}{
		{"web.localhost", "link", "a", []int{401, 200}},
		{"web.localhost", "form", "button", []int{form}},
		{"web.localhost", "frame", "", []int{302}}, // the browser keeps the cookies back
		{"sibling.app.localhost", "link", "a", []int{401, 200}},
		{"sibling.app.localhost", "form", "button", []int{403}},
		{"sibling.app.localhost", "frame", "", []int{401}},
	} {
		tab := p.open(originOf(t, web, by.host))
		if by.selector != "" {
			tab.click(by.selector)
		}
		answers := func() (statuses []int) {
			for _, x := range tab.seen(func(x *exchange) bool { return x.path == "/foreign?"+by.name && x.status != 0 }) {
				statuses = append(statuses, x.status)
			}
			return statuses
		}
		tab.eventually("the answers to the "+by.name, func() bool { return len(answers()) >= len(by.answers) })
		if by.name == "link" {
			tab.await(`document.title === "alice"`)
		}
		if got := answers(); !slices.Equal(got, by.answers) {
			t.Errorf("a %s of %s: %d, want %d", by.name, by.host, got, by.answers)
		}
	}
}
