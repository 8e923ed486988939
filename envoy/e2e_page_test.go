package envoy_test

import (
	"io"
	"net/http"
	"testing"
)

// TestRefreshPage opens pages of a system without any SDK in a real browser.
func TestRefreshPage(t *testing.T) {
	s := newStack(t, stackOptions{})
	s.app.pages.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>page</title><h1 id=user>"+r.Header.Get("X-Session-User-Id")+"</h1>")
	})
	s.app.pages.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>sign in</title>")
	})

	t.Run("an expired navigation comes back to its address after one refresh", func(t *testing.T) {
		p := s.newProfile()
		tab := p.signedIn("alice")
		s.advance(accessLife)
		tab.goTo("/page?a=1&b=2#here")
		tab.awaitPath("/page?a=1&b=2#here")
		tab.await(`document.getElementById("user")?.textContent === "alice"`)
		if n := refreshes(tab); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
		if faults := tab.mishaps(); len(faults) > 0 {
			t.Error(faults)
		}
	})
}
