package sessions

import (
	"context"
	"time"
)

// sweep removes expired rows in batches until ctx ends.
func (e *Engine) sweep(ctx context.Context) {
	tick := time.NewTicker(e.cfg.SweepPause)
	defer tick.Stop()
	for {
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
