package sessionclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What callers tell apart with errors.Is.
var (
	// ErrNotFound: there is no such session. It has ended or expired, or the handle is wrong.
	ErrNotFound = errors.New("there is no such session")
	// ErrTooManySessions: the user has as many sessions as session.max_per_user allows.
	ErrTooManySessions = errors.New("the user has too many sessions")
	// ErrSessionEnded: the session has ended, or the client has none. It has to sign in.
	ErrSessionEnded = errors.New("the session has ended")
	// ErrTheft: the session has ended because a refresh token was reused. It is ErrSessionEnded, too.
	ErrTheft = fmt.Errorf("%w: token theft detected", ErrSessionEnded)
	// ErrRefreshNeeded: the client has to refresh, and then to repeat its request.
	ErrRefreshNeeded = errors.New("a refresh is needed")
	// ErrSuperseded: another refresh of the session counts. Leave the client's tokens alone.
	ErrSuperseded = errors.New("another refresh counts")
	// ErrUnavailable: sessiongate cannot answer now. Try again later. A change may have happened: to repeat
	// it does no harm, but Create may have left a session that no client has.
	ErrUnavailable = errors.New("sessiongate is unavailable")
)

// Error is an answer that is no success: the problem details (RFC 9457) that sessiongate answers
// with. Where no answer came, the error is none of this type, and a change may have happened.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the stable name of the refusal (docs/denials.md). It is empty where the answer is not
	// sessiongate's.
	Code string
	// Outcome is that of a check, from Verify alone: TRY_REFRESH, UNAUTHORISED or UNAVAILABLE.
	Outcome string
	// Detail says what to do. Field is the input that was refused, Allowed what it may be.
	Detail, Field, Allowed string
	// RetryAfter is when to try again; 0: the answer does not say it.
	RetryAfter time.Duration
	// Answer makes the client forget its session, where a Refresh says that it has ended.
	Answer Answer

	doing string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: sessiongate answered %d", e.doing, e.Status)
	if phrase := http.StatusText(e.Status); phrase != "" {
		text += " " + phrase
	}
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.Field != "" {
		return text + ": " + e.Field + ": allowed is " + e.Allowed
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Is tells the errors of this package, for errors.Is.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == "no_session"
	case ErrTooManySessions:
		return e.Code == "too_many_sessions"
	case ErrSuperseded:
		return e.Code == "superseded"
	case ErrTheft:
		return e.Code == "theft"
	case ErrSessionEnded:
		return e.Outcome == "UNAUTHORISED" || e.Outcome == "" && (e.Code == "theft" || e.Code == "session_ended" || e.Code == "no_token")
	case ErrRefreshNeeded:
		return e.Outcome == "TRY_REFRESH"
	case ErrUnavailable:
		// Not 502 or 504: a proxy's answer says nothing of what has changed behind it.
		return e.Status == http.StatusServiceUnavailable && e.Code != ""
	}
	return false
}

// without takes texts out of what the answer says. A program between here and sessiongate may
// repeat what it was sent.
func (e *Error) without(secrets []Token) {
	for _, field := range []*string{&e.Code, &e.Outcome, &e.Detail, &e.Field, &e.Allowed} {
		for _, secret := range secrets {
			if secret != "" {
				*field = strings.ReplaceAll(*field, string(secret), redacted)
			}
		}
	}
}
