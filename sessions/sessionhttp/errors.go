package sessionhttp

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

var (
	errPanicked = errors.New("handler panicked")
	errNoToken  = fmt.Errorf("%w: the request has no refresh token", sessions.ErrSessionEnded)
)

// methodError is a method that its path does not have.
type methodError struct{ allow string }

func (*methodError) Error() string { return "method is not allowed here" }

// errBoundSession: a caller of the sessions API cannot refresh a bound session.
var errBoundSession = errors.New("the session is bound to a device")

// retryProof is the Retry-After of a client that cannot prove now, in seconds: its browser tries
// again no sooner.
const retryProof = "5"

// retryAfter is the Retry-After of every 503, in seconds.
const retryAfter = "1"

// classify is the one table from errors to answers: what a client is told of err, and the
// headers of the answer. Each detail says what the client is to do. An error's own text is
// for the log. An error that the table does not know is a 500.
func (c Config) classify(err error, h http.Header) problem {
	var (
		invalid *sessions.InvalidError
		method  *methodError
		body    *bodyError
		large   *http.MaxBytesError
		denial  *sessions.Denial
		scope   *scopeError
		rate    *sessions.RateError
		calls   tooManyCalls
		own     ownDenial
	)
	switch {
	case errors.Is(err, sessions.ErrUnavailable): // first: it may wrap any other
		h.Set("Retry-After", retryAfter)
		return newProblem(denyUnavailable, http.StatusServiceUnavailable, "Nothing changed. Wait as Retry-After says, then repeat the request.")
	case errors.As(err, &calls):
		h.Set("Retry-After", inSeconds(calls.RetryAfter))
		return newProblem(denyTooManyCalls, http.StatusTooManyRequests, "Too many calls. Nothing changed. Wait as Retry-After says, then repeat the request.")
	case errors.As(err, &rate):
		h.Set("Retry-After", inSeconds(rate.RetryAfter))
		return newProblem(denyTooMany, http.StatusTooManyRequests, "Too many refreshes. Nothing changed. Wait as Retry-After says, then repeat the request.")
	case errors.Is(err, sessions.ErrProve): // a redirect
		return newProblem(denyProve, http.StatusTemporaryRedirect, "")
	case errors.Is(err, sessions.ErrUnproven):
		h.Set("Retry-After", retryProof)
		return newProblem(denyUnproven, http.StatusServiceUnavailable, "The session is bound to a device. Only a browser that has its key can refresh it. Wait as Retry-After says, then repeat the request.")
	case errors.Is(err, sessions.ErrNotThisDevice): // an answer of the draft, not a failure
		return newProblem(denyNotThisDevice, http.StatusOK, "")
	case errors.Is(err, sessions.ErrBindRefused):
		return newProblem(denyBind, http.StatusBadRequest, "No key was registered, and the session stays as it was. Send one proof, signed with the key that it brings, of the challenge of a sign-in that was a moment ago.")
	case errors.Is(err, errBoundSession):
		return newProblem(denyProve, http.StatusForbidden, "The session is bound to a device. Only its browser can refresh it, at the auth path.")
	case errors.Is(err, sessions.ErrSessionEnded):
		return newProblem(endedDenial(err), c.SessionExpiredStatus, "The session has ended. Clear the client's tokens and have the user sign in.")
	case errors.Is(err, sessions.ErrSuperseded):
		return newProblem(denySuperseded, http.StatusConflict, "Another refresh of this client counts, or its session was just signed out. "+
			"Leave its tokens as they are, and repeat the request that needed the refresh.")
	case errors.Is(err, sessions.ErrTooManySessions):
		return newProblem(denyTooManySessions, http.StatusConflict, "The user has as many sessions as session.max_per_user allows. End one, or wait until one expires.")
	case errors.Is(err, sessions.ErrNotFound):
		return newProblem(denyNoSession, http.StatusNotFound, "There is no such session: it has ended or expired, or the handle is wrong.")
	case errors.As(err, &invalid):
		p := newProblem(denyInput, http.StatusBadRequest, "A value is not allowed. Send one that is.")
		p.Field, p.Allowed = invalid.Field, invalid.Allowed
		return p
	case errors.As(err, &body):
		p := newProblem(denyInput, http.StatusBadRequest, body.detail)
		p.Field, p.Allowed = body.field, body.allowed
		return p
	case errors.As(err, &large):
		return newProblem(denyBodySize, http.StatusRequestEntityTooLarge, "The body is too large. Send at most "+strconv.FormatInt(large.Limit, 10)+" bytes.")
	case errors.Is(err, denyMediaType):
		return newProblem(denyMediaType, http.StatusUnsupportedMediaType, "Send the body as JSON, with the header Content-Type: application/json.")
	case errors.Is(err, denyNoKey): // RFC 6750 §3.1: no error code where the request has no credentials
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate"`)
		return newProblem(denyNoKey, http.StatusUnauthorized, "Send one Authorization header: Bearer and an API key.")
	case errors.Is(err, denyUnknownKey):
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate", error="invalid_token"`)
		return newProblem(denyUnknownKey, http.StatusUnauthorized, "The API key is not known. Send one that sessiongate is configured with.")
	case errors.As(err, &scope):
		h.Set("WWW-Authenticate", `Bearer realm="sessiongate", error="insufficient_scope", scope="`+scope.scope.String()+`"`)
		return newProblem(denyScope, http.StatusForbidden, "The API key lacks the scope "+scope.scope.String()+". Send one that has it, or add it in api.scopes.")
	case errors.Is(err, denyForeignOrigin):
		return newProblem(denyForeignOrigin, http.StatusForbidden, "The request comes from a foreign origin. Nothing changed. Send it from a page of this origin, or allow that one in allowed_origins.")
	case errors.Is(err, denyHostForm):
		return newProblem(denyHostForm, http.StatusBadRequest, "Nothing changed. Send one Host: a name or an address, with a port or without.")
	case errors.Is(err, denyNoRoute):
		return newProblem(denyNoRoute, http.StatusNotFound, "Nothing is at this path. Check the path and the listener.")
	case errors.As(err, &method):
		h.Set("Allow", method.allow)
		return newProblem(denyMethod, http.StatusMethodNotAllowed, "Send one of the methods that Allow names.")
	case errors.Is(err, sessions.ErrReauth):
		return newProblem(denyReauth, http.StatusForbidden, "Nothing changed. Have the user sign in again, then repeat the request in the new session.")
	case errors.As(err, &own):
		p := c.classifyDenial(own.Denial, h)
		p.Status = http.StatusUnauthorized
		return p
	case errors.As(err, &denial): // of an access token
		return c.classifyDenial(denial, h)
	default:
		return newProblem(denyInternal, http.StatusInternalServerError, "") // the log has the cause
	}
}

// inSeconds is the value of Retry-After, at least one second.
func inSeconds(d time.Duration) string { return strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))) }

// endedDenial tells apart in which way a session has ended.
func endedDenial(err error) *sessions.Denial {
	switch {
	case errors.Is(err, sessions.ErrTheft):
		return denyTheft
	case errors.Is(err, sessions.ErrKeyLost):
		return denyKeyLost
	case errors.Is(err, errNoToken):
		return denyNoToken
	default:
		return denyEnded
	}
}

// classifyDenial answers with the denial of an access token.
func (c Config) classifyDenial(d *sessions.Denial, h http.Header) problem {
	p := newProblem(d, c.SessionExpiredStatus, "")
	p.Outcome = d.Outcome.String()
	switch d.Outcome {
	case sessions.TryRefresh:
		p.Detail = "Have the client refresh, then repeat the request."
	case sessions.Unauthorised:
		p.Detail = "Have the user sign in."
	default:
		h.Set("Retry-After", retryAfter)
		p.Status, p.Detail = http.StatusServiceUnavailable, "The token cannot be judged now. Wait as Retry-After says, then repeat the request."
	}
	return p
}
