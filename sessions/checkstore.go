package sessions

import (
	"context"
	"errors"
)

// confirmsMax bounds how many checks ask the store at once.
const confirmsMax = 512

// CheckStore asks the store whether the session of a lives with the claims that a carries. It does
// so only while the feed is stale: then this engine cannot hear of an end, and an ended session
// must not stay allowed until its token expires. While the feed is fresh, CheckStore reads memory
// only.
func (e *Engine) CheckStore(ctx context.Context, a *Access) *Denial {
	if e.fresh() {
		return nil
	}
	select {
	case e.confirming <- struct{}{}:
		defer func() { <-e.confirming }()
	default: // the store is slow or away; do not queue more checks
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
