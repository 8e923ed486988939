package sessions

import (
	"errors"
	"fmt"
)

// What a call on the engine can end with, beside success. Callers classify with
// errors.Is; the wrapped cause is for the log, never for the client.
var (
	// ErrSessionEnded: the session has ended for the caller. The client's cookies are to
	// be cleared.
	ErrSessionEnded = errors.New("session has ended")
	// ErrTheft: ended, because a refresh token was reused.
	ErrTheft = fmt.Errorf("%w: token theft detected", ErrSessionEnded)
	// ErrSuperseded: this attempt gets no tokens, but the session lives. The
	// client's cookies are to be left alone.
	ErrSuperseded = errors.New("refresh was superseded")
	// ErrUnavailable: nothing can be said now; nothing changed for the client.
	ErrUnavailable = errors.New("sessions are unavailable")
)

// InvalidError says which input was refused and what is allowed.
type InvalidError struct {
	Field   string
	Allowed string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Allowed) }

// Outcome is the answer of a Check. The zero value denies.
type Outcome uint8

// The outcomes of Check (docs/protocol.md, "What the client sees").
const (
	Unavailable Outcome = iota
	Allow
	TryRefresh
	Unauthorised
	Forbidden
)

func (o Outcome) String() string {
	switch o {
	case Allow:
		return "ALLOW"
	case TryRefresh:
		return "TRY_REFRESH"
	case Unauthorised:
		return "UNAUTHORISED"
	case Forbidden:
		return "FORBIDDEN"
	default:
		return "UNAVAILABLE"
	}
}

// Denial is why a request is not allowed. The code is for machines: the metric's
// label, the log's field, Envoy's metadata and the response header have it
// (docs/denials.md).
type Denial struct {
	Outcome Outcome
	Rule    string // that decided
	Code    string // stable; one denial each
	Message string // a sentence for the log that holds nothing of the request
}

func (d *Denial) Error() string { return d.Outcome.String() + ": " + d.Message }

// The denials of Verify, one value each so that denying allocates nothing.
var (
	DenyNoToken     = &Denial{Unauthorised, "V0", "no_token", "no access token"}
	DenyMalformed   = &Denial{TryRefresh, "V1", "malformed", "access token is malformed"}
	DenyUnknownKey  = &Denial{TryRefresh, "V1", "unknown_key", "access token is signed by an unknown key"}
	DenyStaleKeys   = &Denial{Unavailable, "V1", "keys_stale", "access token is signed by a key not yet known here, and the keys cannot be read"}
	DenySignature   = &Denial{TryRefresh, "V1", "bad_signature", "access token has a bad signature"}
	DenyBusy        = &Denial{Unavailable, "V1", "busy", "bad access tokens without a tag have used up their share of the CPU"}
	DenyClaims      = &Denial{TryRefresh, "V1", "bad_claims", "access token lacks required claims or has others' values"}
	DenyTransport   = &Denial{TryRefresh, "V1", "wrong_transport", "access token came by the other transport"}
	DenyExpired     = &Denial{TryRefresh, "V1", "expired", "access token has expired"}
	DenyEnded       = &Denial{Unauthorised, "V2", "ended", "session was ended"}
	DenyLost        = &Denial{TryRefresh, "V3", "lost", "access token belongs to a refresh token that lost against a sibling"}
	DenyVersion     = &Denial{TryRefresh, "V3", "claims_changed", "the session's claims have changed"}
	DenySeveral     = &Denial{TryRefresh, "V1", "several_sessions", "access tokens of several sessions"}
	DenyUnconfirmed = &Denial{Unavailable, "V2", "unconfirmed", "whether the session lives cannot be read now, and the route is strict"}
	DenyStarting    = &Denial{Unavailable, "V0", "starting", "keys and feed have not been read yet"}
)

// Denials are all of them, so that each can be counted from the start.
func Denials() []*Denial {
	return []*Denial{
		DenyNoToken, DenyMalformed, DenyUnknownKey, DenyStaleKeys, DenySignature, DenyBusy, DenyClaims, DenyTransport, DenyExpired,
		DenyEnded, DenyLost, DenyVersion, DenySeveral, DenyUnconfirmed, DenyStarting,
	}
}
