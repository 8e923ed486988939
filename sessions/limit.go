package sessions

import (
	"context"
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

// create starts a session within the limit.
func (e *Engine) create(ctx context.Context, n NewRecord) (Record, error) {
	if e.cfg.PerUser.Max == 0 {
		rec, err := e.store.Create(ctx, n)
		if err != nil {
			return Record{}, unavailable("creating session", err)
		}
		return rec, nil
	}
	rec, evicted, err := e.store.CreateWithin(ctx, n, e.cfg.PerUser)
	switch {
	case errors.Is(err, ErrTooManySessions):
		return Record{}, ErrTooManySessions
	case err != nil:
		return Record{}, unavailable("creating session", err)
	}
	for _, h := range evicted {
		e.ended(h, n.UserID, EvictedEnding)
	}
	return rec, nil
}
