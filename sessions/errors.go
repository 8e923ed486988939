package sessions

import (
	"errors"
	"fmt"
)

// The errors of the engine's calls. Callers tell them apart with errors.Is; the wrapped
// cause is for the log, never for the client.
var (
	// ErrSessionEnded: the session has ended for the caller. Clear the client's cookies.
	ErrSessionEnded = errors.New("session has ended")
	// ErrTheft: the session has ended because a refresh token was reused.
	ErrTheft = fmt.Errorf("%w: token theft detected", ErrSessionEnded)
	// ErrSuperseded: this attempt gets no tokens, but the session goes on. Leave the
	// client's cookies as they are.
	ErrSuperseded = errors.New("refresh was superseded")
	// ErrKeyLost: the session is bound to a device, and the client has had no proof for long. It has
	// ended for this client alone: the user must sign in. Nothing was written.
	ErrKeyLost = fmt.Errorf("%w: the device's key is lost", ErrSessionEnded)
	// ErrProve: the session is bound to a device, and the client must prove that it has the key,
	// then ask again. ErrUnproven: it asked again without. Nothing changed.
	ErrProve    = errors.New("the session is bound to a device: prove first")
	ErrUnproven = errors.New("the session is bound to a device, and the client cannot prove that it is the one")
	// ErrBindRefused: no key was registered, and the session is what it was.
	ErrBindRefused = errors.New("the device's key was not registered")
	// ErrNotThisDevice: no such device session, or it is not of this session, or has another key. It is to
	// end; the session stays.
	ErrNotThisDevice = errors.New("no proof of the session's key")
	// ErrUnavailable: no answer is possible now, and nothing changed for the client.
	ErrUnavailable = errors.New("sessions are unavailable")
)

// InvalidError says which input was refused and what is allowed.
type InvalidError struct {
	Field   string
	Allowed string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Allowed) }

// Outcome is what a decision asks of the client. The zero value denies.
type Outcome uint8

// The outcomes (docs/protocol.md, "What the client sees").
const (
	// Unavailable: wait, then repeat the request.
	Unavailable Outcome = iota
	// Allow: nothing; the request passes.
	Allow
	// TryRefresh: refresh, then repeat the request once.
	TryRefresh
	// Unauthorised: sign in.
	Unauthorised
	// Forbidden: do not repeat the request as it is.
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

// Denial is why a request is denied. There is one value for each reason, so that denying
// allocates nothing, and the lists of them ([Denials], and those of the packages that
// answer clients) are what is documented and counted (docs/denials.md).
type Denial struct {
	// Code is stable and for machines: the label of the metrics, the field of the log,
	// Envoy's metadata and the response header have it. No other denial of a list has it.
	Code string
	// Rule is the rule that decided, or empty.
	Rule string
	// Outcome is what the client is to do.
	Outcome Outcome
	// Message is a sentence for the log and the documentation, without a capital and a
	// full stop. It holds nothing of the request.
	Message string
}

func (d *Denial) Error() string { return d.Outcome.String() + ": " + d.Message }

// The denials of Verify.
var (
	DenyNoToken     = &Denial{"no_token", "V0", Unauthorised, "the request has no access token"}
	DenyMalformed   = &Denial{"malformed", "V1", TryRefresh, "access token is malformed"}
	DenyUnknownKey  = &Denial{"unknown_key", "V1", TryRefresh, "access token is signed by an unknown key"}
	DenyStaleKeys   = &Denial{"keys_stale", "V1", Unavailable, "access token is signed by a key that is not yet known here, and the keys cannot be read"}
	DenySignature   = &Denial{"bad_signature", "V1", TryRefresh, "access token has a bad signature"}
	DenyBusy        = &Denial{"busy", "V1", Unavailable, "bad access tokens without a tag have used up their share of the CPU"}
	DenyClaims      = &Denial{"bad_claims", "V1", TryRefresh, "access token lacks a required claim, or one has a wrong value"}
	DenyTransport   = &Denial{"wrong_transport", "V1", TryRefresh, "access token came in the other transport"}
	DenyExpired     = &Denial{"expired", "V1", TryRefresh, "access token has expired"}
	DenyEnded       = &Denial{"ended", "V2", Unauthorised, "session was ended"}
	DenyLost        = &Denial{"lost", "V3", TryRefresh, "access token belongs to a refresh token that lost against a sibling"}
	DenyVersion     = &Denial{"claims_changed", "V3", TryRefresh, "the session's claims have changed"}
	DenySeveral     = &Denial{"several_sessions", "V1", TryRefresh, "the request has access tokens of several sessions"}
	DenyUnconfirmed = &Denial{"unconfirmed", "V2", Unavailable, "the route is strict, and whether the session has ended cannot be read now"}
	DenyStarting    = &Denial{"starting", "V0", Unavailable, "keys and feed have not been read yet"}
)

// Denials are those of Verify.
func Denials() []*Denial {
	return []*Denial{
		DenyNoToken, DenyMalformed, DenyUnknownKey, DenyStaleKeys, DenySignature, DenyBusy, DenyClaims, DenyTransport, DenyExpired,
		DenyEnded, DenyLost, DenyVersion, DenySeveral, DenyUnconfirmed, DenyStarting,
	}
}
