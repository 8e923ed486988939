package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	startRetryFirst = 100 * time.Millisecond
	startRetryLast  = 5 * time.Second
)

// clockStepMax is the largest step of the store's clock, ahead and back again, after which the feed
// still has every entry that denies a living token.
const clockStepMax = 15 * time.Minute

// start prepares the store, and tries again until it succeeds or ctx ends.
func (e *Engine) start(ctx context.Context) error {
	for pause := startRetryFirst; ; pause = min(2*pause, startRetryLast) {
		err := e.prepare(ctx)
		if err == nil || errors.Is(err, errKeys) {
			return err
		}
		if ctx.Err() == nil {
			e.cfg.Observe(Event{Kind: EventStartRetried, Err: err})
		}
		select {
		case <-ctx.Done():
			return nil // stopped while it waited
		case <-time.After(pause):
		}
	}
}

func (e *Engine) prepare(ctx context.Context) error {
	if err := e.prepareStore(ctx); err != nil {
		return err
	}
	return e.poll(ctx)
}

// prepareStore makes what must exist before the first token is issued: a feed retention that
// outlives the tokens, and one key of each kind.
func (e *Engine) prepareStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startRetryLast)
	defer cancel()
	retention := e.cfg.AccessTokenLife + leeway + e.cfg.RefreshAttemptMax + clockStepMax
	if err := e.store.RaiseFeedRetention(ctx, retention); err != nil {
		return fmt.Errorf("raising the feed retention: %w", err)
	}
	set, err := e.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	for _, kind := range keyKinds {
		if err := e.ensureKey(ctx, set, kind); err != nil {
			return err
		}
	}
	return nil
}
