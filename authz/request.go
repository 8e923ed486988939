package authz

import (
	"strings"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// request is what the rules need of a CheckRequest. A header that came several
// times has its values joined, as RFC 9110 §5.3 has it: where one value is
// asked for, a joined one is none of the known, and the rule fails closed.
type request struct {
	method, path, query, host, scheme, id string

	forwardedProto, requestID                 string
	cookie, antiCSRF, origin, accept, upgrade string
	authorization, authMode, requestedWith    string
	traceparent                               string // for the log, as it came
	bearer                                    string // the access token of ours in it that is judged
	holdsOurs                                 bool   // any token of ours in it, judged or not
	fetchMode, fetchSite, fetchDest           string
	purpose, referer, preflightMethod         string

	fetchMetadata bool // any Sec-Fetch header
	scriptHeader  bool // any header that only scripts send
	repeats       bool // a header more often than linesMax
}

// linesMax bounds how often one header may come. Envoy by default takes 100 headers
// in all; a client that means well repeats none but Cookie, and that a few times.
const linesMax = 64

// varied are the headers on which an answer depends, for Vary: all that field knows
// but those for the log. A cache must not give one client another's denial.
const varied = "Cookie, Authorization, Anti-CSRF, Origin, Accept, Upgrade, Access-Control-Request-Method, " +
	"Sec-Fetch-Mode, Sec-Fetch-Site, Sec-Fetch-Dest, Sec-Fetch-User, Sec-Purpose, Referer, " +
	"St-Auth-Mode, RID, SuperTokens-SDK-Name, X-Requested-With, X-Forwarded-Proto"

func readRequest(c *authv3.CheckRequest) request {
	attributes := c.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	r := request{method: http.GetMethod(), host: http.GetHost(), scheme: strings.ToLower(http.GetScheme()), id: http.GetId()}
	r.path, r.query, _ = strings.Cut(http.GetPath(), "?")
	// Envoy sends one or the other, as encode_raw_headers says.
	var again repeated
	for name, value := range http.GetHeaders() {
		r.add(&again, name, value)
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		if raw := h.GetRawValue(); len(raw) > 0 {
			r.add(&again, h.GetKey(), string(raw))
		} else {
			r.add(&again, h.GetKey(), h.GetValue())
		}
	}
	for name, values := range again {
		field, joint := r.field(name)
		*field = strings.Join(values, joint)
	}
	if r.forwardedProto == "http" || r.forwardedProto == "https" {
		r.scheme = r.forwardedProto // what the browser used, where TLS ended before Envoy
	}
	if browser.IsRequestID(r.requestID) {
		r.id = r.requestID
	}
	if strings.EqualFold(r.requestedWith, "XMLHttpRequest") { // a WebView has its app's name there, on every request
		r.scriptHeader = true
	}
	if r.authorization != "" {
		r.readBearer()
	}
	return r
}

// field is where a header's value goes, and what joins several; nil for a
// header whose value is not needed.
func (r *request) field(name string) (field *string, joint string) {
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

// add takes one header. Those that come again are joined at the end, all at once: a
// client chooses how many there are, and joining each to what is there already
// costs the square of that.
func (r *request) add(again *repeated, name, value string) {
	field, _ := r.field(name)
	switch {
	case field == nil:
	case *field == "":
		*field = value
	default:
		name = strings.ToLower(name)
		if *again == nil {
			*again = repeated{}
		}
		values := (*again)[name]
		switch {
		case values == nil:
			values = []string{*field}
		case len(values) == linesMax:
			r.repeats = true
			return
		}
		(*again)[name] = append(values, value)
	}
}

// readBearer finds an access token of ours (RFC 6750 §2.1). Other bearer tokens,
// and other schemes, are the upstream's business; so is one of ours where the
// script says that it keeps its session in cookies.
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

// cookies returns the values of a cookie, each once. Where Envoy sends headers as
// a map, two Cookie lines of HTTP/1 (browsers send one) come joined with a comma.
// They are not cut there: a sibling host may plant a cookie whose value has a
// comma and a session cookie's name behind it, past what __Host- promises.
func (r *request) cookies(name string) []string {
	return browser.AppendCookies(nil, r.cookie, name)
}

// withoutCookies is the Cookie header without the named ones, and whether there
// was one. Here joined lines are told apart, as cookies does not: rather a planted
// cookie loses a part than an upstream sees a token.
func (r *request) withoutCookies(names []string) (string, bool) {
	rest, stripped := browser.StripCookies(r.cookie, names...)
	if stripped && !utf8.ValidString(rest) {
		rest = validPairs(rest) // protobuf carries no others, and would answer nothing at all
	}
	return rest, stripped
}

// validPairs is a Cookie header without the pairs that are not UTF-8. It looks for
// those, not at each pair: a client chooses how many there are.
func validPairs(header string) string {
	var kept []string
	keep := func(pairs string) {
		if pairs = strings.Trim(pairs, "; \t"); pairs != "" {
			kept = append(kept, pairs)
		}
	}
	from := 0 // of what is not yet kept or left out
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

// modeNavigate is the Sec-Fetch-Mode (W3C Fetch Metadata) of following a link,
// typing an address or sending a form. No script can set it.
const modeNavigate = "navigate"

func (r *request) reads() bool { return r.method == "GET" || r.method == "HEAD" }

// navigates says whether a person waits for a page. Scripts cannot set
// Sec-Fetch headers; without them a guess is made.
func (r *request) navigates() bool {
	if r.fetchMetadata {
		return r.fetchMode == modeNavigate
	}
	return r.reads() && accepts(r.accept, "text/html") && !r.scripted()
}

// wantsPage says whether a person will see the answer: that of a navigation, or
// of what a service worker made of one. To Sec-Fetch-Mode the latter is a script's;
// what gives it away is the Accept header that only navigations have. It chooses
// between two forms of a denial, and must not decide what passes: scripts can set
// Accept.
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

// evidence is what r says of who made the browser send it.
func (r *request) evidence() browser.Evidence {
	return browser.Evidence{
		Reads: r.reads(), Scheme: r.scheme, Host: r.host, Origin: r.origin, Referer: r.referer,
		Site: r.fetchSite, Mode: r.fetchMode, Dest: r.fetchDest, Purpose: r.purpose,
	}
}

// arrives says whether r is of a person who comes from another site: then the
// browser keeps strict cookies back, and sends them with what the page does next.
func (r *request) arrives(from browser.Initiator) bool {
	opens := (r.fetchDest == "document" || r.fetchDest == "") && from == browser.InitiatorUser
	return r.method == "GET" && r.fetchSite == "cross-site" && (opens || r.fromWorker())
}

// handedOn says whether r may be a link of another site that a service worker of ours
// has passed on: of a link as of a frame's page the browser then says "empty".
func (r *request) fromWorker() bool {
	return r.method == "GET" && r.fetchMode == modeNavigate && r.fetchDest == "empty" && r.purpose == ""
}

// canCarryToken says whether what sent r could have added a header: a script can, a
// link, a form, an image or an event stream cannot.
func (r *request) canCarryToken() bool {
	loads := r.fetchMode == "no-cors" && r.fetchSite == "same-origin"
	return !r.isForm() && (!r.reads() || !r.navigates() && !r.isStream() && !loads)
}

// isStream: its answer is read as long as it lasts.
func (r *request) isStream() bool { return r.isSocket() || r.isEventSource() }

// isSocket: a WebSocket upgrade (RFC 6455 §4.1; Envoy turns the extended CONNECT
// of HTTP/2 into this form).
func (r *request) isSocket() bool {
	return r.upgrade != "" && strings.Contains(strings.ToLower(r.upgrade), "websocket")
}

// isEventSource: what HTML's EventSource always asks for.
func (r *request) isEventSource() bool { return accepts(r.accept, "text/event-stream") }

// isForm: a form that was sent by navigating.
func (r *request) isForm() bool { return r.method == "POST" && r.fetchMode == modeNavigate }

// isPreflight: a CORS preflight (Fetch standard), which carries no credentials
// and cannot be answered by signing in.
func (r *request) isPreflight() bool {
	return r.method == "OPTIONS" && r.origin != "" && r.preflightMethod != "" && (r.fetchMode == "" || r.fetchMode == "cors")
}
