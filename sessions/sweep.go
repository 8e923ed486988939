package sessions

import (
	"context"
	"sync/atomic"
	"time"
)

// countPause is the shortest pause between two counts of sessions.
const countPause = time.Minute

// sessionCount is about how many sessions the store held at the last count, and when that was.
type sessionCount struct {
	sessions atomic.Int64 // -1 before the first count
	at       time.Time
}

// countSessions counts, unless it did so a moment ago. A failure leaves the last count.
func (e *Engine) countSessions(ctx context.Context) {
	now := e.cfg.Now()
	if !e.count.at.IsZero() && now.Sub(e.count.at) < countPause {
		return
	}
	n, err := e.store.CountSessions(ctx)
	switch {
	case err == nil:
		e.count.sessions.Store(int64(n))
		e.count.at = now
	case ctx.Err() == nil:
		e.cfg.Observe(Event{Kind: EventCountFailed, Err: err})
	}
}

// sweep removes expired rows in batches until ctx ends, and counts the sessions that are left.
func (e *Engine) sweep(ctx context.Context) {
	tick := time.NewTicker(e.cfg.SweepPause)
	defer tick.Stop()
	for {
		e.countSessions(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for full := true; full; {
			n, err := e.store.Sweep(ctx, e.cfg.SweepBatch)
			full = err == nil && n >= e.cfg.SweepBatch
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				e.cfg.Observe(Event{Kind: EventSweepFailed, Err: err})
			case n > 0:
				e.cfg.Observe(Event{Kind: EventSwept, Count: n})
			}
		}
	}
}
