package sessionhttp

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// peerHeader is the client's address as Envoy, which overwrites it, reports it.
const peerHeader = "X-Sessiongate-Peer"

// sessionBearer is the bearer token of r that may be a session's, or "".
func sessionBearer(r *http.Request) string {
	return browser.SessionBearer(authorization(r), strings.Join(r.Header.Values("St-Auth-Mode"), ","))
}

// authorization is the Authorization header of r. Two count as none.
func authorization(r *http.Request) string {
	lines := r.Header.Values("Authorization")
	if len(lines) != 1 {
		return ""
	}
	return lines[0]
}

// cookieValues are the values of the cookies called name, over all Cookie lines.
func cookieValues(r *http.Request, name string) []string {
	var values []string
	for _, line := range r.Header.Values("Cookie") {
		values = browser.AppendCookies(values, line, name)
	}
	return values
}

// peerOf is the address that r comes from. A peer header that is repeated or holds no
// address is not Envoy's, and counts as none.
func peerOf(r *http.Request) netip.Addr {
	lines := r.Header.Values(peerHeader)
	if len(lines) != 1 {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(lines[0]) // the zero one where it is none
	return addr
}

func addCookies(w http.ResponseWriter, lines []string) {
	for _, line := range lines {
		w.Header().Add("Set-Cookie", line)
	}
}

func setHeaders(w http.ResponseWriter, headers []browser.Header) {
	for _, h := range headers {
		w.Header().Set(h.Name, h.Value)
	}
}
