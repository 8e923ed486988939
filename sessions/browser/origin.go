package browser

import "strings"

// Origin is a tuple origin (RFC 6454 §4): its scheme, and its host with the port unless that is the
// scheme's default. The zero value is no origin, and equals no origin that was parsed.
type Origin struct{ scheme, host string }

// ParseOrigin reads the value of an Origin header. It returns false for null (a sandboxed frame, or
// a redirect from another site), for every scheme but http and https, and for text that is more
// than an origin.
func ParseOrigin(text string) (Origin, bool) {
	scheme, host, ok := strings.Cut(text, "://")
	if !ok || strings.ContainsAny(host, "/?#@\\ ,") {
		return Origin{}, false
	}
	return NewOrigin(scheme, host)
}

// NewOrigin is the origin at which a request reached us: the scheme that the browser used and the
// Host that it sent. It returns false if the Host is not valid ([IsHost]): two Host lines have no
// origin.
func NewOrigin(scheme, host string) (Origin, bool) {
	if !IsHost(host) {
		return Origin{}, false
	}
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	default:
		return Origin{}, false
	}
	return Origin{scheme, host}, true
}
