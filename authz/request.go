package authz

import (
	"strings"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// request is what the rules need of a CheckRequest. The values of a header that came
// several times are joined (RFC 9110 §5.3). A rule that asks for one value does not know
// the joined one, and fails closed.
type request struct {
	method, path, query, host, scheme, id string

	forwardedProto, requestID                 string
	cookie, antiCSRF, origin, accept, upgrade string
	authorization, authMode, requestedWith    string
	traceparent                               string // for the log, as it came
	bearer                                    string // sessiongate's access token in authorization, to be judged
	holdsOurs                                 bool   // any of sessiongate's tokens in authorization, judged or not
	fetchMode, fetchSite, fetchDest           string
	purpose, referer, preflightMethod         string

	fetchMetadata bool // any Sec-Fetch header
	scriptHeader  bool // any header that only scripts send
	repeats       bool // a header came more often than linesMax

	found [sessions.TokensMax + 1]string // room for the values of a cookie
}

// linesMax bounds how often one header may come. Envoy by default takes 100 headers
// in all. An honest client repeats only Cookie, and that a few times.
const linesMax = 64

// varied are the headers on which an answer depends, for Vary: all that field knows but
// those for the log. A cache must not give one client the denial of another.
const varied = "Cookie, Authorization, Anti-CSRF, Origin, Accept, Upgrade, Access-Control-Request-Method, " +
	"Sec-Fetch-Mode, Sec-Fetch-Site, Sec-Fetch-Dest, Sec-Fetch-User, Sec-Purpose, Referer, " +
	"St-Auth-Mode, RID, SuperTokens-SDK-Name, X-Requested-With, X-Forwarded-Proto"

func readRequest(c *authv3.CheckRequest) request {
	attributes := c.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	r := request{method: http.GetMethod(), host: http.GetHost(), scheme: http.GetScheme(), id: http.GetId()}
	r.setTarget(http.GetPath())
	// Envoy sends one or the other, by encode_raw_headers.
	var more repeated
	for name, value := range http.GetHeaders() {
		r.add(&more, name, value)
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		if raw := h.GetRawValue(); len(raw) > 0 {
			r.add(&more, h.GetKey(), string(raw))
		} else {
			r.add(&more, h.GetKey(), h.GetValue())
		}
	}
	r.join(more)
	r.finish()
	return r
}

// setTarget takes Envoy's path, which has the query.
func (r *request) setTarget(target string) { r.path, r.query, _ = strings.Cut(target, "?") }

// finish derives what the rules ask from the headers.
func (r *request) finish() {
	r.scheme = strings.ToLower(r.scheme)
	if r.forwardedProto == "http" || r.forwardedProto == "https" {
		r.scheme = r.forwardedProto // the browser's scheme, where TLS ended before Envoy
	}
	if strings.EqualFold(r.requestedWith, "XMLHttpRequest") { // a WebView has its app's name there, on every request
		r.scriptHeader = true
	}
	if r.authorization != "" {
		r.readBearer()
	}
}

// field is where a header's value goes, and what separates several values. It is nil for
// a header whose value is not needed.
func (r *request) field(name string) (field *string, separator string) {
	switch strings.ToLower(name) {
	case "cookie":
		return &r.cookie, "; "
	case "authorization":
		return &r.authorization, ","
	case "anti-csrf":
		r.scriptHeader = true
		return &r.antiCSRF, ","
	case "origin":
		return &r.origin, ","
	case "accept":
		return &r.accept, ","
	case "upgrade":
		return &r.upgrade, ","
	case "access-control-request-method":
		return &r.preflightMethod, ","
	case "sec-fetch-mode":
		r.fetchMetadata = true
		return &r.fetchMode, ","
	case "sec-fetch-site":
		r.fetchMetadata = true
		return &r.fetchSite, ","
	case "sec-fetch-dest":
		r.fetchMetadata = true
		return &r.fetchDest, ","
	case "sec-fetch-user":
		r.fetchMetadata = true
	case "sec-purpose":
		return &r.purpose, ","
	case "referer":
		return &r.referer, ","
	case "st-auth-mode":
		r.scriptHeader = true
		return &r.authMode, ","
	case "rid", "supertokens-sdk-name":
		r.scriptHeader = true
	case "x-requested-with":
		return &r.requestedWith, ","
	case "x-forwarded-proto":
		return &r.forwardedProto, ","
	case "x-request-id":
		return &r.requestID, ","
	case "traceparent":
		return &r.traceparent, ","
	}
	return nil, ""
}

// repeated has the values of the headers that came more than once, by name.
type repeated map[string][]string

// add takes one header. The values of a header that comes several times are kept in more
// and joined at the end, all at once: a client chooses how many there are, and joining
// them one by one would cost the square of that.
func (r *request) add(more *repeated, name, value string) {
	field, _ := r.field(name)
	switch {
	case field == nil:
	case *field == "":
		*field = value
	default:
		name = strings.ToLower(name)
		if *more == nil {
			*more = repeated{}
		}
		values := (*more)[name]
		switch {
		case values == nil:
			values = []string{*field}
		case len(values) == linesMax:
			r.repeats = true
			return
		}
		(*more)[name] = append(values, value)
	}
}

// join joins the values of the headers that came several times.
func (r *request) join(more repeated) {
	for name, values := range more {
		field, separator := r.field(name)
		*field = strings.Join(values, separator)
	}
}

// readBearer finds sessiongate's access token in Authorization (RFC 6750 §2.1). Other
// bearer tokens and other schemes are for the upstream. sessiongate's token is not judged
// where the script says that it keeps its session in cookies.
func (r *request) readBearer() {
	if token := browser.SessionBearer(r.authorization, r.authMode); sessions.IsAccessToken(token) {
		r.bearer, r.scriptHeader, r.holdsOurs = token, true, true
		return
	}
	for line := range strings.SplitSeq(r.authorization, ",") { // Envoy joins several, also where it sends raw headers
		token := browser.Bearer(strings.ReplaceAll(line, "\t", " "))
		r.holdsOurs = r.holdsOurs || sessions.IsAccessToken(token) || sessions.IsRefreshToken(token)
	}
}

// cookies returns the values of a cookie, each once. They are good until it is called again.
// Where Envoy sends headers as a map, two Cookie lines of HTTP/1 (browsers send one) come
// joined with a comma. They are not split there. This stops a sibling host that plants a cookie whose value has a comma and
// then a session cookie's name: it would evade what __Host- promises.
func (r *request) cookies(name string) []string {
	return browser.AppendCookies(r.found[:0], r.cookie, name)
}

// withoutCookies is the Cookie header without the named cookies, and whether any was
// there. Unlike cookies, it splits joined lines: a planted cookie may lose a part, but no
// upstream sees a token.
func (r *request) withoutCookies(names []string) (string, bool) {
	rest, stripped := browser.StripCookies(r.cookie, names...)
	if stripped && !utf8.ValidString(rest) {
		rest = validPairs(rest) // protobuf carries only UTF-8: with other bytes there would be no answer
	}
	return rest, stripped
}

// validPairs is a Cookie header without the pairs that are not UTF-8. It searches for
// the invalid bytes and does not look at each pair: a client chooses how many there are.
func validPairs(header string) string {
	var kept []string
	keep := func(pairs string) {
		if pairs = strings.Trim(pairs, "; \t"); pairs != "" {
			kept = append(kept, pairs)
		}
	}
	from := 0 // where the part begins that is neither kept nor left out yet
	for at, r := range header {
		if r != utf8.RuneError || at < from || strings.HasPrefix(header[at:], string(utf8.RuneError)) {
			continue
		}
		keep(header[from : from+strings.LastIndexByte(header[from:at], ';')+1])
		if from = strings.IndexByte(header[at:], ';'); from < 0 {
			return strings.Join(kept, "; ")
		}
		from += at
	}
	keep(header[from:])
	return strings.Join(kept, "; ")
}

// modeNavigate is the Sec-Fetch-Mode (W3C Fetch Metadata) of a request that follows a
// link, a typed address or a sent form. No script can set it.
const modeNavigate = "navigate"

func (r *request) reads() bool { return r.method == "GET" || r.method == "HEAD" }

// navigates says whether a person waits for a page. Scripts cannot set Sec-Fetch headers.
// Without them, the answer is a guess.
func (r *request) navigates() bool {
	if r.fetchMetadata {
		return r.fetchMode == modeNavigate
	}
	return r.reads() && accepts(r.accept, "text/html") && !r.scripted()
}

// wantsPage says whether a person will see the answer: to a navigation, or to the request
// that a service worker made from one. By its Sec-Fetch-Mode the latter is a script's; its
// Accept header is one that only navigations have. wantsPage chooses between two forms of a
// denial. It must not decide what passes, for scripts can set Accept.
func (r *request) wantsPage() bool {
	return r.navigates() || r.reads() && !r.scriptHeader && accepts(r.accept, "text/html") && accepts(r.accept, "*/*")
}

// scripted says whether the request is plainly a script's.
func (r *request) scripted() bool {
	switch {
	case r.fetchMode == modeNavigate:
		return false
	case r.fetchMode != "", r.scriptHeader:
		return true
	default:
		return r.accept != "" && !accepts(r.accept, "text/html") && !accepts(r.accept, "*/*")
	}
}

// accepts says whether an Accept header (RFC 9110 §12.5.1) lists a media range.
func accepts(header, mediaRange string) bool {
	for item := range strings.SplitSeq(header, ",") {
		item, _, _ = strings.Cut(item, ";")
		if strings.EqualFold(strings.Trim(item, " \t"), mediaRange) {
			return true
		}
	}
	return false
}

// evidence is what r says of the page that made the browser send it.
func (r *request) evidence() browser.Evidence {
	return browser.Evidence{
		Reads: r.reads(), Scheme: r.scheme, Host: r.host, Origin: r.origin, Referer: r.referer,
		Site: r.fetchSite, Mode: r.fetchMode, Dest: r.fetchDest, Purpose: r.purpose,
	}
}

// arrives says whether r is a link that a person followed from another site. Then the
// browser keeps strict cookies back, and sends them with the next request of the page.
func (r *request) arrives(from browser.Initiator) bool {
	opens := (r.fetchDest == "document" || r.fetchDest == "") && from == browser.InitiatorUser
	return r.method == "GET" && r.fetchSite == "cross-site" && (opens || r.fromWorker())
}

// fromWorker says whether r may be a link of another site that a service worker of this
// site passed on. The browser then says "empty" both of a link and of a frame's page.
func (r *request) fromWorker() bool {
	return r.method == "GET" && r.fetchMode == modeNavigate && r.fetchDest == "empty" && r.purpose == ""
}

// canCarryToken says whether the sender of r could have added a header. A script can. A
// link, a form, an image or an event stream cannot.
func (r *request) canCarryToken() bool {
	loads := r.fetchMode == "no-cors" && r.fetchSite == "same-origin"
	return !r.isForm() && (!r.reads() || !r.navigates() && !r.isStream() && !loads)
}

// isStream says whether the answer to r is a stream that a page reads while it lasts.
func (r *request) isStream() bool { return r.isSocket() || r.isEventSource() }

// isSocket says whether r is a WebSocket upgrade (RFC 6455 §4.1; Envoy turns the extended
// CONNECT of HTTP/2 into this form).
func (r *request) isSocket() bool {
	return r.upgrade != "" && strings.Contains(strings.ToLower(r.upgrade), "websocket")
}

// isEventSource says whether r accepts what HTML's EventSource always asks for.
func (r *request) isEventSource() bool { return accepts(r.accept, "text/event-stream") }

// isForm says whether r is a form that was sent by navigating.
func (r *request) isForm() bool { return r.method == "POST" && r.fetchMode == modeNavigate }

// isPreflight says whether r is a CORS preflight (Fetch standard). It carries no
// credentials, and signing in would not help it.
func (r *request) isPreflight() bool {
	return r.method == "OPTIONS" && r.origin != "" && r.preflightMethod != "" && (r.fetchMode == "" || r.fetchMode == "cors")
}
