package envoy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
)

// TestPartitionedCookies: an app in a frame of another site's page, in a browser that sends no third-party cookies.
func TestPartitionedCookies(t *testing.T) {
	t.Parallel()
	needChromium(t)
	partners := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>partner</title>"))
	}))
	defer partners.Close()
	address, err := url.Parse(partners.URL)
	if err != nil {
		t.Fatal(err)
	}
	frameAt := func(s *stack, p *profile, site string) (page *tab, frame framed) {
		t.Helper()
		page = p.open("http://" + site + ":" + address.Port() + "/")
		page.addFrame(s.site("/static/app?in=" + site))
		return page, framed{page, `document.querySelector("iframe").contentWindow`}
	}
	stackWith := func(settings ...string) *stack {
		s := newStack(t, stackOptions{settings: append(settings, "SESSIONGATE_COOKIES_SAME_SITE=none", followsFast)})
		s.app.pages.HandleFunc("GET /static/app", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(`<!doctype html><title>app</title><link rel="icon" href="data:,"><script>
				onmessage = async (e) => {
					if (!e.data.path) return;
					const answer = await fetch(e.data.path, e.data);
					e.source.postMessage({ status: answer.status, body: await answer.text() }, "*");
				};
			</script>`))
		})
		return s
	}

	t.Run("off", func(t *testing.T) {
		s := stackWith()
		_, frame := frameAt(s, s.newProfileFor(t), "www.example.test")
		frame.must(http.StatusNoContent, "POST", "/login")
		frame.must(http.StatusUnauthorized, "GET", callPath)
	})

	s := stackWith("SESSIONGATE_COOKIES_PARTITIONED=true")
	t.Run("on", func(t *testing.T) {
		p := s.newProfileFor(t)
		page, frame := frameAt(s, p, "www.example.test")
		frame.must(http.StatusNoContent, "POST", "/login")
		frame.must(http.StatusOK, "GET", callPath)

		// Another site has a jar of its own.
		_, other := frameAt(s, p, "partner.localhost")
		other.must(http.StatusUnauthorized, "GET", callPath)
		other.must(http.StatusNoContent, "POST", "/login")
		other.must(http.StatusOK, "POST", "/auth/signout")
		other.must(http.StatusUnauthorized, "GET", callPath)

		s.advance(accessLife)
		frame.must(440, "GET", callPath)
		frame.must(http.StatusOK, "POST", refreshPath)
		frame.must(http.StatusOK, "GET", callPath)

		// The frame may go on to a page with a check.
		var user atomic.Value
		s.app.pages.HandleFunc("GET /inside", func(_ http.ResponseWriter, r *http.Request) { user.Store(r.Header.Get("X-Session-User-Id")) })
		eval[any](page, `(document.querySelector("iframe").src = `+quote(s.site("/inside"))+`, 0)`)
		page.eventually("the frame shows the page", func() bool { return user.Load() == frameUser })

		// After expiry, the page of the 440 refreshes in the frame and gives way to it.
		s.advance(accessLife)
		user.Store("")
		eval[any](page, `(document.querySelector("iframe").src = `+quote(s.site("/inside?again"))+`, 0)`)
		page.eventually("the frame refreshes and shows the page", func() bool { return user.Load() == frameUser })
	})

	t.Run("what was there without", func(t *testing.T) {
		p := s.newProfileFor(t)
		app := framed{p.open("/static/app"), "window"}
		for name, path := range map[string]string{"sAccessToken": "/", "sRefreshToken": "/auth"} {
			p.setCookie(name, "leftover", path)
		}
		app.must(http.StatusNoContent, "POST", "/login")
		app.sends(1)
		s.advance(accessLife)
		app.must(http.StatusOK, "POST", refreshPath) // with one refresh token
		app.sends(1)
		p.setCookie("sAccessToken", "leftover", "/")
		app.must(http.StatusOK, "POST", "/auth/signout")
		app.sends(0)
	})
}

// framed is a page of the app that does what messages from the tab's page ask for.
type framed struct {
	*tab

	window string
}

const frameUser = "framed"

func (f framed) ask(method, path string) reply {
	f.Helper()
	request := map[string]string{"method": method, "path": path}
	if method == http.MethodPost {
		request["body"] = frameUser
	}
	return eval[reply](f.tab, fmt.Sprintf(`new Promise((answered) => {
		addEventListener("message", function listen(e) {
			if (!("status" in e.data)) return;
			removeEventListener("message", listen);
			answered(e.data);
		});
		%s.postMessage(%s, "*");
	})`, f.window, literal(request)))
}

func (f framed) must(status int, method, path string) reply {
	f.Helper()
	r := f.ask(method, path)
	if r.Status != status {
		f.Fatalf("%s %s: %s, want %d", method, path, r, status)
	}
	return r
}

// sends says how many access tokens the browser sends beside each other.
func (f framed) sends(want int) {
	f.Helper()
	var saw seen
	if err := json.Unmarshal([]byte(f.must(http.StatusOK, "GET", "/static/x").Body), &saw); err != nil {
		f.Fatal(err)
	}
	cookies := (&http.Request{Header: saw.Header}).Cookies()
	if got := len(slices.DeleteFunc(cookies, func(c *http.Cookie) bool { return c.Name != "sAccessToken" })); got != want {
		f.Errorf("the browser sends %d access tokens, want %d", got, want)
	}
}
