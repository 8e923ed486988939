package sessiondev

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// methods are those that Envoy's parser of HTTP/1 knows. It refuses all others, and lower case.
var methods = strings.Fields("ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE MSEARCH NOTIFY OPTIONS " +
	"PATCH POST PROPFIND PROPPATCH PURGE PUT REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE")

// allowedHeaders and allowedPrefix are allowed_headers of envoy.yaml: what a check is told. A test
// holds them to the file.
var allowedHeaders = []string{
	"cookie", "authorization", "anti-csrf", "origin", "access-control-request-method", "accept", "sec-purpose", "referer", "rid",
	"st-auth-mode", "supertokens-sdk-name", "x-requested-with", "upgrade", "x-request-id", "x-forwarded-proto", "traceparent",
}

const allowedPrefix = "sec-fetch-"

func isAllowed(name string) bool {
	return slices.Contains(allowedHeaders, name) || strings.HasPrefix(name, allowedPrefix)
}

// identity is the regular expression of envoy.yaml: what a client claims about its own identity,
// with any sign between the words. A test holds it to the file.
var identity = regexp.MustCompile("^(?:" + identityPattern + ")$")

const identityPattern = "x[^a-z0-9]session[^a-z0-9](user[^a-z0-9]id|handle|claims)"

// removedHeaders go on every route, as envoy.yaml says. By the first two some frameworks route past
// the policy of the path that was checked; the third is sessiongate's own.
var removedHeaders = []string{"x-original-url", "x-rewrite-url", "x-sessiongate-peer"}

// internalHeaders steer Envoy. It takes them from no client, for none is internal.
var internalHeaders = []string{
	"x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node", "x-envoy-expected-rq-timeout-ms",
	"x-envoy-force-trace", "x-envoy-hedge-on-per-try-timeout", "x-envoy-internal", "x-envoy-ip-tags", "x-envoy-is-timeout-retry",
	"x-envoy-max-retries", "x-envoy-original-path", "x-envoy-original-url", "x-envoy-retriable-header-names", "x-envoy-retriable-status-codes",
	"x-envoy-retry-grpc-on", "x-envoy-retry-on", "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-per-try-timeout-ms",
	"x-envoy-upstream-rq-timeout-alt-response", "x-envoy-upstream-rq-timeout-ms",
}

// joinedHeaders are those that Envoy joins to one line.
var joinedHeaders = []string{
	"Accept", "Accept-Encoding", "Access-Control-Request-Headers", "Access-Control-Request-Method", "Authorization", "Cache-Control", "Content-Type",
	"Grpc-Timeout", "If-None-Match", "Origin", "Pragma", "Referer", "User-Agent", "Via", "X-Forwarded-Host",
}

const (
	// nominatedMax is from how many names in Connection on Envoy refuses.
	nominatedMax = 10
	// roomHeaders and roomBytes are those of the filter header_room of envoy.yaml: with them, what
	// sessiongate adds always fits. A test holds them to the file.
	roomHeaders, roomBytes = 97, 60 << 10
	// linesMax and bytesMax are Envoy's own limits there.
	linesMax, bytesMax = 500, 96 << 10
)

// clean makes of a client's headers those that come to Envoy's filters. upgrade is the protocol
// that the client asks for. status is not 0 where Envoy refuses.
func clean(h http.Header) (upgrade string, status int) {
	lines := 0
	for name, values := range h {
		if strings.Contains(name, "_") { // many servers read it as -
			return "", http.StatusBadRequest
		}
		lines += len(values)
	}
	if lines > linesMax {
		return "", http.StatusRequestHeaderFieldsTooLarge
	}
	upgrade, status = cleanConnection(h)
	if status != 0 {
		return "", status
	}
	for _, name := range joinedHeaders {
		if values := h[name]; len(values) > 1 {
			h[name] = []string{strings.Join(values, ",")}
		}
	}
	for _, name := range slices.Concat(internalHeaders, removedHeaders, []string{"keep-alive", "proxy-connection"}) {
		h.Del(name)
	}
	if te := strings.Join(h.Values("TE"), ","); te != "" {
		h.Del("TE")
		if names(te, "trailers") {
			h.Set("TE", "trailers")
		}
	}
	if !isReferer(h.Get("Referer")) {
		h.Del("Referer")
	}
	for name := range h {
		if identity.MatchString(strings.ToLower(name)) {
			delete(h, name)
		}
	}
	return upgrade, 0
}

// isReferer says whether Envoy keeps a Referer: it is an address without user and fragment, or a
// relative one.
func isReferer(text string) bool {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return false
	}
	if at, err := url.Parse(text); err == nil && at.Scheme != "" && browser.IsHost(at.Host) {
		return at.User == nil && !strings.Contains(text, "#")
	}
	before, _, _ := strings.Cut(text, "/")
	return !strings.Contains(before, ":") && !strings.ContainsAny(text, "\"<>\\^`{|}")
}

// cleanConnection removes what is meant for one hop alone (RFC 9110 §7.6.1): Connection, and the
// headers that it names. Of an upgrade, only these two lines stay: else a client could have a proxy
// behind this one drop x-session-user-id.
func cleanConnection(h http.Header) (upgrade string, status int) {
	connection := strings.Join(h.Values("Connection"), ",")
	upgrade = strings.Join(h.Values("Upgrade"), ",")
	h.Del("Connection")
	h.Del("Upgrade")
	if strings.EqualFold(upgrade, "h2c") {
		upgrade = ""
		h.Del("HTTP2-Settings")
	}
	if upgrade != "" && names(connection, "upgrade") {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", upgrade)
		return upgrade, 0
	}
	if connection == "" {
		return "", 0
	}
	named := strings.Split(connection, ",")
	if len(named) >= nominatedMax {
		return "", http.StatusBadRequest
	}
	for _, name := range named {
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case name == "host", name == "x-forwarded-for", name == "x-forwarded-host", name == "x-forwarded-proto", strings.HasPrefix(name, ":"):
			return "", http.StatusBadRequest
		case name != "te": // judged by itself
			h.Del(name)
		}
	}
	return "", 0
}

// names says whether a list in a header has a name.
func names(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(item), name) {
			return true
		}
	}
	return false
}

// hasRoom says whether the check may add its headers. Envoy counts each name once, and the four
// that stand for the request line and Host, too.
func hasRoom(r *request) bool {
	pseudo := [][2]string{{":authority", r.host}, {":method", r.method}, {":path", r.target.String()}, {":scheme", scheme}}
	count, size := len(pseudo)+len(r.header), 0
	for _, h := range pseudo {
		size += len(h[0]) + len(h[1])
	}
	for name, values := range r.header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	return count <= roomHeaders && size <= roomBytes
}
