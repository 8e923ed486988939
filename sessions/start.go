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

// clockStepMax is by how much the store's clock may step, ahead and back again,
// without forgetting an entry that still denies a token.
const clockStepMax = 15 * time.Minute

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
			return nil // told to stop while it waited
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

// prepareStore makes what must be there before the first token is made.
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
