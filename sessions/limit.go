package sessions

import (
	"errors"
)

// ErrTooManySessions is returned where a user has as many sessions as the limit
// allows and the limit refuses another one.
var ErrTooManySessions = errors.New("user has as many sessions as the limit allows")

// UserLimit bounds the living sessions of one user. Every engine over one store
// has the same, or the largest one counts.
type UserLimit struct {
	// Max is how many there may be; 0: any number.
	Max int
	// EvictOldest ends the oldest ones, by their sign-in, for a new one. Otherwise
	// the new one is refused.
	EvictOldest bool
}
