package envoy_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// documented are the scripts of docs/frontends.md, in their order: which bundle has the SDK that they import, and how they then call.
var documented = []struct{ name, bundle, call string }{
	{"4.x", "websdk-4", byFetch},
	{"4.x with axios", "websdk-4", byAxios},
	{"20.x", "websdk-20", byFetch},
	{"20.x with headers", "websdk-20", byFetch},
	{"no SDK", "", `(method, path, body) => call(path, { method, body })`},
}

const (
	byFetch = `(method, path, body) => fetch(path, { method, body })`
	byAxios = `(method, url, data) => axios.request({ method, url, data, validateStatus: (status) => status < 300 }).catch((e) => e.response)`
)

// TestFrontendScripts runs each script of docs/frontends.md as it stands there.
func TestFrontendScripts(t *testing.T) {
	needChromium(t)
	text, err := os.ReadFile("../docs/frontends.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts := regexp.MustCompile("(?ms)^```js\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(scripts) != len(documented) {
		t.Fatalf("docs/frontends.md has %d scripts, want %d", len(scripts), len(documented))
	}
	var bundled [][]byte
	for i, d := range documented {
		var args []string
		if d.bundle != "" {
			args = []string{"--alias:supertokens-website=" + d.bundle}
		}
		script, err := bundle(scripts[i][1]+"\nwindow.send = (...request) => ("+d.call+")(...request).then((r) => r.status);", args...)
		if err != nil {
			t.Fatal(err)
		}
		bundled = append(bundled, script)
	}
	s := newStack(t, stackOptions{settings: []string{followsFast}, edit: editRoutes(func(v *routev3.VirtualHost) error { return refuseRefreshes(v, 429, 503) })})
	for i, d := range documented {
		path := fmt.Sprintf("/static/documented-%d", i)
		s.app.pages.HandleFunc("GET "+path+".js", serveScript(bundled[i]))
		s.app.pages.HandleFunc("GET "+path, servePage(path+".js"))
		t.Run(d.name, func(t *testing.T) {
			p := s.newProfileFor(t)
			tab := p.open(path)
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
				s.advance(accessLife)
			}
			if d.bundle == "" {
				testNoSDK(t, tab, p.open(path))
			}
		})
	}
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
		eval[any](one, `(window.waiting = send("GET", "/api/call"), 0)`)
		one.eventually("the script refreshes", func() bool { return refreshes(one) > before })
		eval[any](one, `document.cookie = "refuse=; path=/; max-age=0"`)
		if got := eval[int](one, `waiting`); got != http.StatusOK {
			t.Errorf("the call that waited after %d: %d", status, got)
		}
	}
	one.eventually("the child is promoted before the clock moves", func() bool {
		return one.count(`SELECT count(*) FROM sessiongate.sessions WHERE next_nonce IS NOT NULL`) == 0
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
