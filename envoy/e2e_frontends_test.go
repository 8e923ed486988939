package envoy_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// documented are the scripts of the frontends' pages, in their order: which bundle has the SDK that they import, or "" where it is the
// module; what a page does with them; and how they are tried.
var documented = []struct {
	page, name, bundle, use string
	try                     func(*testing.T, *stack, string)
}{
	{"frontends.md", "4.x", "websdk-4", byFetch, tryCalls},
	{"frontends.md", "4.x with axios", "websdk-4", byAxios, tryCalls},
	{"frontends.md", "20.x", "websdk-20", byFetch, tryCalls},
	{"frontends.md", "20.x with headers", "websdk-20", byFetch, tryCalls},
	{"frontends/single-page.md", "module", "", `window.send = (method, path, body) => call(path, { method, body }).then((r) => r.status);`, tryModule},
	{"frontends/streams.md", "event stream", "", `window.listen = listen;`, tryStream},
	{"frontends/streams.md", "download", "", `window.download = download;`, tryDownload},
}

const (
	byFetch = `window.send = (method, path, body) => fetch(path, { method, body }).then((r) => r.status);`
	byAxios = `window.send = (method, url, data) => axios.request({ method, url, data, validateStatus: (status) => status < 300 }).catch((e) => e.response).then((r) => r.status);`
)

var documentedScript = regexp.MustCompile("(?ms)^```js\n(.*?)^```$")

// TestFrontendScripts runs each script of the frontends' pages as it stands there.
func TestFrontendScripts(t *testing.T) {
	t.Parallel()
	needChromium(t)
	scripts := map[string][]string{}
	for _, d := range documented {
		if _, read := scripts[d.page]; read {
			continue
		}
		for _, found := range documentedScript.FindAllStringSubmatch(document(t, d.page), -1) {
			scripts[d.page] = append(scripts[d.page], found[1])
		}
	}
	s := newStack(t, stackOptions{settings: []string{followsFast}, edit: editRoutes(func(v *routev3.VirtualHost) error { return refuseRefreshes(v, 429, 503) })})
	serveModule(t, &s.app.pages)
	for i, d := range documented {
		if len(scripts[d.page]) == 0 {
			t.Fatalf("docs/%s has not the script of %s", d.page, d.name)
		}
		text := scripts[d.page][0] + "\n" + d.use
		scripts[d.page] = scripts[d.page][1:]
		script, kind := []byte(text), ` type="module"`
		if d.bundle != "" {
			var err error
			if script, err = bundle(text, "--alias:supertokens-website="+d.bundle); err != nil {
				t.Fatal(err)
			}
			kind = ""
		}
		path := fmt.Sprintf("/static/documented-%d", i)
		s.app.pages.HandleFunc("GET "+path+".js", serveScript(script))
		s.app.pages.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprintf(w, `<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,"><script%s src="%s.js"></script>`, kind, path)
		})
		t.Run(d.name, func(t *testing.T) { d.try(t, s, path) })
	}
	for page, rest := range scripts {
		if len(rest) > 0 {
			t.Errorf("docs/%s has %d more scripts that no one runs", page, len(rest))
		}
	}
}

// document is the text of a page below docs.
func document(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tryCalls: sign-in, calls, expiry.
func tryCalls(t *testing.T, s *stack, path string) { tryCallsIn(t, s.newProfileFor(t).open(path)) }

func tryCallsIn(t *testing.T, tab *tab) {
	t.Helper()
	if status := eval[int](tab, `send("POST", "/login", "alice")`); status != http.StatusNoContent {
		t.Fatalf("sign-in: %d", status)
	}
	for _, want := range []int{0, 1} {
		before := refreshes(tab)
		if status := eval[int](tab, `send("GET", "/api/call")`); status != http.StatusOK {
			t.Errorf("a call: %d", status)
		}
		if n := refreshes(tab) - before; n != want {
			t.Errorf("%d refreshes, want %d", n, want)
		}
		tab.advance(accessLife)
	}
}

// tryModule: and what the page promises of many tabs, of refreshes that give nothing, and of a session that has ended.
func tryModule(t *testing.T, s *stack, path string) {
	p := s.newProfileFor(t)
	open := func() *tab {
		tab := p.newTab()
		tab.onEveryPage(patientPage)
		tab.goTo(path)
		return tab
	}
	one := open()
	tryCallsIn(t, one)
	testNoSDK(t, one, open())
	if status, _ := s.processes[0].api(http.MethodDelete, "/v1/users/alice/sessions", nil, nil); status != http.StatusOK {
		t.Fatalf("ending: %d", status)
	}
	s.advance(accessLife)
	eval[any](one, `void send("GET", "/api/call")`)
	one.awaitPath("/login")
}

// testNoSDK: many calls at once in two tabs, and refreshes that give nothing. The script gives up after a while, and the next call goes on.
func testNoSDK(t *testing.T, one, other *tab) {
	before := refreshes(one, other)
	for _, tab := range []*tab{one, other} {
		eval[any](tab, `(window.calls = Promise.all(Array.from({ length: 10 }, () => send("GET", "/api/call"))), 0)`)
	}
	for _, tab := range []*tab{one, other} {
		for _, status := range eval[[]int](tab, `calls`) {
			if status != http.StatusOK {
				t.Errorf("one of many calls: %d", status)
			}
		}
	}
	if n := refreshes(one, other) - before; n != 1 {
		t.Errorf("%d refreshes for many calls, want 1", n)
	}

	call := func() int { return eval[int](one, `send("GET", "/api/call")`) }
	for _, status := range []int{429, 503} {
		one.advance(accessLife)
		eval[any](one, fmt.Sprintf(`document.cookie = "refuse=%d; path=/"`, status))
		before := refreshes(one)
		eval[any](one, `(window.holding = true, window.waiting = send("GET", "/api/call"), 0)`)
		one.eventually("the script refreshes", func() bool { return refreshes(one) > before })
		eval[any](one, `(document.cookie = "refuse=; path=/; max-age=0", window.holding = false)`)
		if got := eval[int](one, `waiting`); got != http.StatusOK {
			t.Errorf("the call that waited after %d: %d", status, got)
		}
	}
	one.eventually("the child is promoted before the clock moves", func() bool {
		return one.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE next_nonce IS NOT NULL`) == 0
	})
	one.advance(accessLife)
	elsewhere := one.newBrowser(networkX)
	elsewhere.jar[cookieKey{"sRefreshToken", "", "/auth"}] = one.held("sRefreshToken", one.site(refreshPath))
	elsewhere.mustRefresh(t)
	if got := call(); got != 440 {
		t.Errorf("a call while another client has the child: %d, want 440", got)
	}
	one.advance(repeat)
	if got := call(); got != http.StatusOK {
		t.Errorf("a call afterwards: %d", got)
	}
}
