package sessions

import (
	"errors"
)

// ErrTooManySessions is returned if the user has as many sessions as the limit allows and the limit
// refuses another one.
var ErrTooManySessions = errors.New("user has as many sessions as the limit allows")

// UserLimit bounds the living sessions of one user. Give every engine over one store the same
// limit; otherwise the largest one counts.
type UserLimit struct {
	// Max is the highest number of sessions; 0: no limit.
	Max int
	// EvictOldest ends the oldest sessions, by their sign-in, to make room for a new one. Otherwise
	// the new one is refused.
	EvictOldest bool
}
