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
// A request without any attestation is not a browser's, and has no ambient cookies that a
// page could use: with a POST, a browser always sends at least one of the headers.
func (s *server) checkInitiator(r *http.Request) error {
	if !browser.IsHost(r.Host) {
		return denyHostForm // of two Host lines it is unclear whose pages are "same-origin"
	}
	if evidence(r).Initiator(s.trust) == browser.InitiatorForeign {
		return denyForeignOrigin
	}
	return nil
}

func evidence(r *http.Request) browser.Evidence {
	all := func(name string) string { return strings.Join(r.Header.Values(name), ",") }
	origin := all("Origin")
	if origin == "" && len(r.Header.Values("Origin")) > 0 {
		origin = "null" // an empty header, which no browser sends
	}
	// The scheme is the browser's, as Envoy reports it. Without a proxy it is that of this
	// listener, which has no TLS.
	scheme := all("X-Forwarded-Proto")
	if scheme == "" {
		scheme = "http"
	}
	return browser.Evidence{
		Reads: r.Method == http.MethodGet || r.Method == http.MethodHead, Scheme: scheme, Host: r.Host, Origin: origin, Referer: all("Referer"),
		Site: all("Sec-Fetch-Site"), Mode: all("Sec-Fetch-Mode"), Dest: all("Sec-Fetch-Dest"), Purpose: all("Sec-Purpose"),
	}
}
