package envoy_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRefreshPageInFramesOfOtherOrigins: a page of an allowed origin may hold the one of TRY_REFRESH in a frame, where it refreshes and gives way to
// the app's. A page of any other origin may not: it could lay something over it.
func TestRefreshPageInFramesOfOtherOrigins(t *testing.T) {
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
	// Of one site with the app, or its cookies would not reach the frame.
	partner := func(name string) string { return "http://" + name + ".app.localhost:" + address.Port() }
	s := newPageStack(t, "SESSIONGATE_ALLOWED_ORIGINS="+partner("allowed"))
	var framed atomic.Int64
	s.app.pages.HandleFunc("GET /framed", func(http.ResponseWriter, *http.Request) { framed.Add(1) })
	for name, allowed := range map[string]bool{"allowed": true, "other": false} {
		t.Run(name, func(t *testing.T) {
			p := s.newProfileFor(t)
			tab := p.signedIn(name)
			tab.goTo(partner(name) + "/")
			before := framed.Load()
			tab.addFrame(p.site("/framed?living"))
			// The cookies reach either frame: without a session there would be 302. Where the page is not allowed, there is 403: it could lay
			// something over the app's page.
			living := tab.seen(func(x *exchange) bool { return x.path == "/framed?living" })
			status, reached := http.StatusForbidden, before
			if allowed {
				status, reached = http.StatusOK, before+1
			}
			if len(living) != 1 || living[0].status != status || framed.Load() != reached {
				t.Fatalf("in a frame: %+v, and the app was asked %d times", living, framed.Load()-before)
			}
			p.advance(accessLife)
			tab.addFrame(p.site("/framed?expired"))
			if allowed {
				tab.eventually("the frame shows the app", func() bool { return framed.Load() == before+2 })
				if n := refreshes(tab); n != 1 {
					t.Errorf("%d refreshes, want 1", n)
				}
			} else {
				tab.eventually("the browser refuses the frame", func() bool {
					return slices.ContainsFunc(tab.mishaps(), func(fault string) bool { return strings.Contains(fault, "frame-ancestors 'self' "+partner("allowed")) })
				})
				if n := refreshes(tab); n != 0 || framed.Load() != before {
					t.Errorf("%d refreshes in a frame of an origin that is not allowed", n)
				}
			}
			if host := eval[string](tab, `location.hostname`); host != name+".app.localhost" {
				t.Errorf("the page around the frame went to %s", host)
			}
		})
	}
}
