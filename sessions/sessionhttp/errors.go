package sessionhttp

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/sessiongate/sessiongate/sessions"
)

// What this package refuses by itself.
var (
	errNoRoute         = errors.New("nothing is at this path")
	errHost            = errors.New("request's Host is no host name or address with an optional port")
	errForeignOrigin   = errors.New("request comes from a page of a foreign origin")
	errMediaType       = errors.New("body is not application/json")
	errUnauthenticated = errors.New("request carries no API key")
	errUnknownKey      = errors.New("API key is not known")
	errPanicked        = errors.New("handler panicked")
	errNoToken         = fmt.Errorf("%w: the request has no refresh token", sessions.ErrSessionEnded)
)

// methodError is a method that its path does not have.
type methodError struct{ allow string }

func (*methodError) Error() string { return "method is not allowed here" }

// A Refusal is a kind of answer that is no success, beside the denials of access
// tokens.
type Refusal struct {
	Code string // stable
	Why  string // a sentence for the reference page
}

// Refusals are all of them.
func Refusals() []Refusal {
	return []Refusal{
		{"no_token", "The request has no refresh token."},
		{"session_ended", "The refresh token does not open, or its session has ended or expired (R1, R2), or it was refreshed too often without use."},
		{"theft", "The refresh token was used before and its time has passed (R8): the session was ended."},
		{"superseded", "Another refresh of this client counts, or the session was just signed out. Nothing changed."},
		{"too_many_refreshes", "More refreshes than `refresh.per_session_rate` or `refresh.per_address_rate` allow. None was looked at; nothing changed."},
		{"foreign_origin", "A page of another origin sent the request, and that origin is not allowed."},
		{"host_form", "The Host is no host name or address with an optional port; of two Host lines Envoy makes one."},
		{"no_api_key", "The request has no API key."},
		{"unknown_api_key", "The API key is not known."},
		{"scope", "The API key lacks the scope."},
		{"bad_input", "A value of the body, path or query is not allowed. The answer says which."},
		{"media_type", "The body is not application/json."},
		{"body_too_large", "The body is larger than `api.body_max`."},
		{"no_session", "There is no session of that handle."},
		{"too_many_sessions", "The user has as many sessions as `session.max_per_user` allows."},
		{"no_route", "Nothing is at that path."},
		{"method", "The path does not have that method."},
		{"unavailable", "The database, or what has to be read from it first, is away. Nothing changed."},
		{"internal", "A fault of sessiongate itself. The log has the cause."},
	}
}

// retryAfter is the Retry-After of every 503, in seconds.
const retryAfter = "1"

// classify is the one table from errors to answers: what a client is told of err,
// and the headers that go with it. Details are sentences of ours; an error's own
// text is for the log. Whatever the table does not know is a 500.
func (c Config) classify(err error, h http.Header) problem {
	var (
		invalid *sessions.InvalidError
		method  *methodError
		body    *bodyError
		large   *http.MaxBytesError
		denial  *sessions.Denial
		scope   *scopeError
		rate    *sessions.RateError
	)
	switch {
	case errors.Is(err, sessions.ErrUnavailable): // first: it may wrap any other
		h.Set("Retry-After", retryAfter)
		return problem{Code: "unavailable", Status: http.StatusServiceUnavailable, Detail: "Nothing changed. Try again."}
	case errors.As(err, &denial):
		return c.denied(denial, h)
	case errors.As(err, &rate):
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(rate.RetryAfter.Seconds())))))
		return problem{Code: "too_many_refreshes", Status: http.StatusTooManyRequests, Detail: "Too many refreshes. Nothing changed: wait, and try again."}
	case errors.Is(err, sessions.ErrSessionEnded):
		return problem{Code: endedCode(err), Status: c.SessionExpiredStatus, Detail: "The session is over. Have the client forget it."}
	case errors.Is(err, sessions.ErrSuperseded):
		return problem{Code: "superseded", Status: http.StatusConflict, Detail: "Another refresh of this client counts, or its session was just signed out. Leave its tokens alone."}
	case errors.Is(err, sessions.ErrTooManySessions):
		return problem{Code: "too_many_sessions", Status: http.StatusConflict, Detail: "The user has as many sessions as session.max_per_user allows. End one, or wait until one expires."}
	case errors.Is(err, sessions.ErrNotFound):
		return problem{Code: "no_session", Status: http.StatusNotFound, Detail: "There is no such session."}
	case errors.As(err, &invalid):
		return problem{Code: "bad_input", Status: http.StatusBadRequest, Detail: "A value is not allowed.", Field: invalid.Field, Allowed: invalid.Allowed}
	case errors.As(err, &body):
		return problem{Code: "bad_input", Status: http.StatusBadRequest, Detail: body.detail, Field: body.field, Allowed: body.allowed}
	case errors.As(err, &large):
		return problem{Code: "body_too_large", Status: http.StatusRequestEntityTooLarge, Detail: "The body is too large."}
	case errors.Is(err, errMediaType):
		return problem{Code: "media_type", Status: http.StatusUnsupportedMediaType, Detail: "The body must be application/json."}
	case errors.Is(err, errUnauthenticated): // RFC 6750 §3.1: no error code where nothing was tried
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate"`)
		return problem{Code: "no_api_key", Status: http.StatusUnauthorized, Detail: "An API key is required."}
	case errors.Is(err, errUnknownKey):
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate", error="invalid_token"`)
		return problem{Code: "unknown_api_key", Status: http.StatusUnauthorized, Detail: "The API key is not known."}
	case errors.As(err, &scope):
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate", error="insufficient_scope", scope="`+scope.scope.String()+`"`)
		return problem{Code: "scope", Status: http.StatusForbidden, Detail: "The API key lacks the scope " + scope.scope.String() + "."}
	case errors.Is(err, errForeignOrigin):
		return problem{Code: "foreign_origin", Status: http.StatusForbidden, Detail: "The request comes from a foreign origin. Nothing changed."}
	case errors.Is(err, errHost):
		return problem{Code: "host_form", Status: http.StatusBadRequest, Detail: "The request needs one Host: a name or an address, with a port or without. Nothing changed."}
	case errors.Is(err, errNoRoute):
		return problem{Code: "no_route", Status: http.StatusNotFound}
	case errors.As(err, &method):
		h.Set("Allow", method.allow)
		return problem{Code: "method", Status: http.StatusMethodNotAllowed}
	default:
		return problem{Code: "internal", Status: http.StatusInternalServerError}
	}
}

// overCode tells apart in which way a session is over.
func endedCode(err error) string {
	switch {
	case errors.Is(err, sessions.ErrTheft):
		return "theft"
	case errors.Is(err, errNoToken):
		return "no_token"
	default:
		return "session_ended"
	}
}

// denied is a denial of an access token, always an error to HTTP.
func (c Config) denied(d *sessions.Denial, h http.Header) problem {
	p := problem{Code: d.Code, Status: c.SessionExpiredStatus, Outcome: d.Outcome.String()}
	switch d.Outcome {
	case sessions.TryRefresh:
		p.Detail = "Have the client refresh and try again."
	case sessions.Unauthorised:
		p.Detail = "Have the client sign in."
	default:
		h.Set("Retry-After", retryAfter)
		p.Status, p.Detail = http.StatusServiceUnavailable, "Nothing can be said now. Try again."
	}
	return p
}
