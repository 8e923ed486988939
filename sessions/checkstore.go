package sessions

import (
	"context"
	"errors"
)

// confirmsMax bounds how many checks ask the store at once.
const confirmsMax = 512

// CheckStore asks the store whether the session of a lives, with the claims that a
// carries, where the feed is too old to tell: an end that this engine cannot hear
// of then waits for no expiry. While the feed is fresh it reads memory only.
func (e *Engine) CheckStore(ctx context.Context, a *Access) *Denial {
	if e.fresh() {
		return nil
	}
	select {
	case e.confirming <- struct{}{}:
		defer func() { <-e.confirming }()
	default: // the store answers slowly, if at all, and checks that need no store wait behind
		return DenyUnconfirmed
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.FeedBound)
	defer cancel()
	rec, err := e.Get(ctx, a.Handle)
	switch {
	case errors.Is(err, ErrNotFound):
		return DenyEnded
	case err != nil:
		return DenyUnconfirmed
	case rec.ClaimsVersion > a.version:
		return DenyVersion
	}
	return nil
}
