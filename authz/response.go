package authz

import (
	"encoding/json"
	"strconv"
	"strings"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// What an upstream is told of the session.
const (
	headerUserID = "x-session-user-id"
	headerHandle = "x-session-handle"
	headerClaims = "x-session-claims" // base64url of the custom claims' JSON
)

// retryAfter is the Retry-After of UNAVAILABLE, in seconds.
const retryAfter = "1"

// reply is what Envoy is to do. status 0 lets the request pass.
type reply struct {
	code    code.Code
	status  typev3.StatusCode // HTTP
	headers []header
	body    string
	remove  []string
	// metadata is for Envoy's access log and filters. Envoy takes it from an allow and
	// from a denial.
	metadata metadata
}

// header replaces every header of that name.
type header struct{ name, value string }

// identity is what Envoy is told of a session. It is shared by answers and must
// not be changed.
type identity struct {
	headers  [3]header
	metadata metadata
	claims   *structpb.Struct // in metadata
	answer   *answer          // for a request whose tokens stay
}

// identityOf returns what Envoy is told of access, or nil where it cannot be told. Then
// nothing may pass, for Envoy's filters may decide by it. The identity, with the prepared
// answer, is kept beside the token, for as long as the engine has the token in its cache.
func identityOf(access *sessions.Access) *identity {
	if id, ok := access.Kept().(*identity); ok {
		return id
	}
	var claims structpb.Struct
	if err := protojson.Unmarshal(access.Claims, &claims); err != nil || access.UserID == "" || access.EncodedClaims == "" {
		return nil
	}
	handle := access.Handle.String()
	fields := passSession.fields()
	fields["user_id"] = structpb.NewStringValue(access.UserID)
	fields["handle"] = structpb.NewStringValue(handle)
	fields["claims"] = structpb.NewStructValue(&claims)
	if access.Bound {
		fields["bound"] = structpb.NewBoolValue(true)
	}
	encoded, err := newMetadata(fields)
	if err != nil {
		return nil
	}
	id := &identity{
		headers: [3]header{
			{headerUserID, access.UserID},
			{headerHandle, handle},
			{headerClaims, access.EncodedClaims},
		},
		metadata: encoded,
		claims:   &claims,
	}
	id.answer = newAnswer(reply{headers: id.headers[:], metadata: id.metadata})
	access.Keep(id)
	return id
}

// allow lets the request pass with an identity.
func (s *Server) allow(r *request, id *identity) *answer {
	if !s.strips(r) {
		return id.answer
	}
	a := reply{metadata: id.metadata}
	a.headers = append(a.headers, id.headers[:]...)
	s.strip(&a, r)
	return newAnswer(a)
}

// In header transport the web SDKs keep copies of the tokens in cookies that scripts can
// read, and the browser sends them with every request.
const copiedAccess, copiedRefresh = "st-access-token", "st-refresh-token"

// strips says whether anything may have to be removed from r. The SDKs' copies always
// are: no other server is to receive a refresh token. So is one of sessiongate's tokens in
// Authorization that was not judged: an upstream that verifies tokens by itself would take
// it for the session.
func (s *Server) strips(r *request) bool {
	return s.cfg.StripCookies || r.holdsOurs && r.bearer == "" || r.holdsCopy()
}

// holdsCopy says whether the Cookie header may have one of the SDKs' copies, which then ends
// at a "=". Every request is asked, and a token has a thousand bytes, so it looks for that
// byte alone.
func (r *request) holdsCopy() bool {
	for rest := r.cookie; ; {
		at := strings.IndexByte(rest, '=')
		if at < 0 {
			return false
		}
		name := strings.TrimRight(rest[:at], " \t")
		if strings.HasSuffix(name, copiedAccess) || strings.HasSuffix(name, copiedRefresh) {
			return true
		}
		rest = rest[at+1:]
	}
}

// strip removes tokens from the request that goes upstream.
func (s *Server) strip(a *reply, r *request) {
	names := []string{copiedAccess, copiedRefresh}
	if s.cfg.StripCookies {
		names = s.stripped
	}
	if r.holdsOurs && (s.cfg.StripCookies || r.bearer == "") {
		a.remove = append(a.remove, "authorization")
	}
	switch rest, found := r.withoutCookies(names); {
	case !found:
	case rest == "": // versions of Envoy drop or keep an empty value, so the header itself is removed
		a.remove = append(a.remove, "cookie")
	default:
		a.headers = append(a.headers, header{"cookie", rest})
	}
}

// respond answers a request that is denied, or passes without identity.
func (s *Server) respond(r *request, p Policy, d decision) *answer {
	a, told := s.reply(r, p, d), d.report()
	a.metadata = told.metadata
	if s.cfg.DenialHeader && told.Outcome != sessions.Allow {
		a.headers = append(a.headers, header{browser.HeaderDenial, told.Code})
	}
	return newAnswer(a)
}

func (s *Server) reply(r *request, p Policy, d decision) reply {
	if d.denial == nil && d.passed != nil {
		a := reply{remove: []string{headerUserID, headerHandle, headerClaims}}
		if !d.untouched && s.strips(r) {
			s.strip(&a, r)
		}
		return a
	}
	outcome := sessions.Unavailable
	if d.denial != nil {
		outcome = d.denial.Outcome
	}
	switch outcome {
	case sessions.TryRefresh:
		return s.tryRefresh(r, p, d.denial)
	case sessions.Unauthorised:
		return s.unauthorised(r, p, d.denial)
	case sessions.Forbidden:
		return forbidden(r, d.denial, d.claims)
	default: // also ALLOW, which no denial has
		return text(code.Code_UNAVAILABLE, 503, "Service temporarily unavailable", header{"retry-after", retryAfter})
	}
}

func (s *Server) expired() typev3.StatusCode {
	return typev3.StatusCode(s.cfg.SessionExpiredStatus) //nolint:gosec // 400 to 499, checked by New
}

func (s *Server) tryRefresh(r *request, p Policy, denial *sessions.Denial) reply {
	if !r.wantsPage() {
		body := browser.PleaseRefresh
		if denial == denyAntiCSRF {
			body += browser.TokenMissing
		}
		return text(code.Code_UNAUTHENTICATED, s.expired(), body)
	}
	refresh := refreshPage{
		refreshPath: s.cfg.RefreshPath, expiredStatus: s.cfg.SessionExpiredStatus,
		attempt: s.cfg.RefreshAttemptMax / 2, login: loginLocation(r, p), resend: !r.reads(),
		optional: p.Optional,
	}
	return page(s.expired(), refresh.html(), s.pagePolicy)
}

// page is a page of this package, which asks for its own address again, and its
// Content-Security-Policy.
func page(status typev3.StatusCode, body, policy string) reply {
	return reply{
		code: code.Code_UNAUTHENTICATED, status: status, body: body,
		headers: []header{
			{"content-type", "text/html; charset=utf-8"},
			{"content-security-policy", policy},
			{"x-content-type-options", "nosniff"},
			// A stricter one would make the Origin of a refresh "null".
			{"referrer-policy", "same-origin"},
		},
	}
}

func (s *Server) unauthorised(r *request, p Policy, denial *sessions.Denial) reply {
	if denial == denyHop {
		return hop()
	}
	var fixed typev3.StatusCode
	switch p.OnUnauthorised {
	case Unauthorised401:
		fixed = 401
	case Unauthorised403:
		fixed = 403
	case UnauthorisedExpired:
		fixed = s.expired()
	case UnauthorisedAuto:
		if r.scripted() {
			fixed = 401
		}
	default:
	}
	if fixed != 0 {
		return message(code.Code_UNAUTHENTICATED, fixed, "unauthorised")
	}
	location := loginLocation(r, p)
	if denial == denyMaxAge {
		location = withQuery(location, "reauth=1") // else the login page would send a user who is signed in straight back
	}
	a := text(code.Code_UNAUTHENTICATED, 302, "")
	a.headers = append(a.headers, header{"location", location})
	return a
}

func forbidden(r *request, denial *sessions.Denial, claims []claimError) reply {
	if denial == denyLines {
		return text(code.Code_PERMISSION_DENIED, 431, "Request Header Fields Too Large: a header is repeated too often. Send each once.")
	}
	if r.navigates() || r.isForm() {
		if denial == denyForeign {
			return text(code.Code_PERMISSION_DENIED, 403, "Forbidden: a page of another site sent this. Open the page here, and try again.")
		}
		return text(code.Code_PERMISSION_DENIED, 403, "Forbidden")
	}
	if len(claims) > 0 {
		body, err := json.Marshal(struct {
			Message string       `json:"message"`
			Claims  []claimError `json:"claimValidationErrors"`
		}{"invalid claim", claims})
		if err == nil {
			return jsonText(code.Code_PERMISSION_DENIED, 403, string(body))
		}
	}
	return message(code.Code_PERMISSION_DENIED, 403, "forbidden")
}

// moreHeaders is room for those that are added to an answer at last.
const moreHeaders = 2

func text(c code.Code, status typev3.StatusCode, body string, more ...header) reply {
	headers := append(make([]header, 0, len(more)+1+moreHeaders), header{"content-type", "text/plain; charset=utf-8"})
	return reply{code: c, status: status, body: body, headers: append(headers, more...)}
}

// message is the JSON answer that the web SDKs read.
func message(c code.Code, status typev3.StatusCode, text string) reply {
	return jsonText(c, status, `{"message":`+strconv.Quote(text)+`}`)
}

func jsonText(c code.Code, status typev3.StatusCode, body string) reply {
	return reply{code: c, status: status, body: body, headers: append(make([]header, 0, 1+moreHeaders), header{"content-type", "application/json"})}
}
