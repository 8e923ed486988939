package sessionhttp

import (
	"net/http"
	"strings"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// checkInitiator refuses a request that a page of a foreign origin made a browser
// send. It stops cross-site request forgery: refresh asks for no anti-CSRF token, for
// a page that lost it could never get a new one.
//
// Where nothing attests anything it is no browser, and has no ambient cookies that
// a page could use; a browser always says one of it with a POST.
func (s *server) checkInitiator(r *http.Request) error {
	if !browser.IsHost(r.Host) {
		return errHost // two Host lines, for one: whose page is "same-origin"?
	}
	if evidence(r).Initiator(s.trust) == browser.InitiatorForeign {
		return errForeignOrigin
	}
	return nil
}

func evidence(r *http.Request) browser.Evidence {
	all := func(name string) string { return strings.Join(r.Header.Values(name), ",") }
	origin := all("Origin")
	if origin == "" && len(r.Header.Values("Origin")) > 0 {
		origin = "null" // said, but nothing: no browser does that
	}
	// The scheme is the browser's, which Envoy says. Without a proxy it is ours,
	// which knows no TLS.
	scheme := all("X-Forwarded-Proto")
	if scheme == "" {
		scheme = "http"
	}
	return browser.Evidence{
		Reads: r.Method == http.MethodGet || r.Method == http.MethodHead, Scheme: scheme, Host: r.Host, Origin: origin, Referer: all("Referer"),
		Site: all("Sec-Fetch-Site"), Mode: all("Sec-Fetch-Mode"), Dest: all("Sec-Fetch-Dest"), Purpose: all("Sec-Purpose"),
	}
}
