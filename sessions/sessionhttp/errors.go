package sessionhttp

import (
	"errors"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
)

// What this package refuses by itself.
var (
	errNoRoute         = errors.New("nothing is at this path")
	errForeignOrigin   = errors.New("request comes from a page of a foreign origin")
	errMediaType       = errors.New("body is not application/json")
	errUnauthenticated = errors.New("request carries no API key")
	errUnknownKey      = errors.New("API key is not known")
	errPanicked        = errors.New("handler panicked")
)

// methodError is a method that its path does not have.
type methodError struct{ allow string }

func (*methodError) Error() string { return "method is not allowed here" }

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
	)
	switch {
	case errors.Is(err, sessions.ErrUnavailable): // first: it may wrap any other
		h.Set("Retry-After", retryAfter)
		return problem{Status: http.StatusServiceUnavailable, Detail: "Nothing changed. Try again."}
	case errors.As(err, &denial):
		return c.denied(denial, h)
	case errors.Is(err, sessions.ErrOver):
		return problem{Status: c.SessionExpiredStatus, Detail: "The session is over. Have the client forget it."}
	case errors.Is(err, sessions.ErrSuperseded):
		return problem{Status: http.StatusConflict, Detail: "Another refresh of this client counts, or its session was just signed out. Leave its tokens alone."}
	case errors.Is(err, sessions.ErrTooManySessions):
		return problem{Status: http.StatusConflict, Detail: "The user has as many sessions as session.max_per_user allows. End one, or wait until one expires."}
	case errors.Is(err, sessions.ErrNotFound):
		return problem{Status: http.StatusNotFound, Detail: "There is no such session."}
	case errors.As(err, &invalid):
		return problem{Status: http.StatusBadRequest, Detail: "A value is not allowed.", Field: invalid.Field, Allowed: invalid.Allowed}
	case errors.As(err, &body):
		return problem{Status: http.StatusBadRequest, Detail: body.detail, Field: body.field, Allowed: body.allowed}
	case errors.As(err, &large):
		return problem{Status: http.StatusRequestEntityTooLarge, Detail: "The body is too large."}
	case errors.Is(err, errMediaType):
		return problem{Status: http.StatusUnsupportedMediaType, Detail: "The body must be application/json."}
	case errors.Is(err, errUnauthenticated): // RFC 6750 §3.1: no error code where nothing was tried
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate"`)
		return problem{Status: http.StatusUnauthorized, Detail: "An API key is required."}
	case errors.Is(err, errUnknownKey):
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate", error="invalid_token"`)
		return problem{Status: http.StatusUnauthorized, Detail: "The API key is not known."}
	case errors.As(err, &scope):
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate", error="insufficient_scope", scope="`+scope.scope.String()+`"`)
		return problem{Status: http.StatusForbidden, Detail: "The API key lacks the scope " + scope.scope.String() + "."}
	case errors.Is(err, errForeignOrigin):
		return problem{Status: http.StatusForbidden, Detail: "The request comes from a foreign origin. Nothing changed."}
	case errors.Is(err, errNoRoute):
		return problem{Status: http.StatusNotFound}
	case errors.As(err, &method):
		h.Set("Allow", method.allow)
		return problem{Status: http.StatusMethodNotAllowed}
	default:
		return problem{Status: http.StatusInternalServerError}
	}
}

// denied is a denial of an access token, always an error to HTTP.
func (c Config) denied(d *sessions.Denial, h http.Header) problem {
	p := problem{Status: c.SessionExpiredStatus, Outcome: d.Outcome.String()}
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

// status is classify for answers that have a body of their own.
func (c Config) status(err error) int { return c.classify(err, http.Header{}).Status }
