package sessions

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// follow polls the feed until ctx ends.
func (e *Engine) follow(ctx context.Context) {
	pruned := e.feed.elapsed()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered(e.cfg.FeedPoll)):
		}
		err := e.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			failing = true
			e.cfg.Observe(Event{Kind: EventFeedFailed, Err: err})
		case err == nil && failing:
			failing = false
			e.cfg.Observe(Event{Kind: EventFeedRecovered})
		}
		if now := e.feed.elapsed(); now-pruned > time.Minute {
			pruned = now
			e.feed.prune()
		}
	}
}

// poll reads the feed, and the keys if they changed.
func (e *Engine) poll(ctx context.Context) error {
	began := e.cfg.Now()
	err := e.feed.poll(ctx, e.store, e.loadKeys, max(e.cfg.FeedBound, time.Second))
	if ctx.Err() == nil { // a caller that hung up says nothing about the store
		e.polls.count(err, e.cfg.Now().Sub(began))
	}
	if err != nil {
		return fmt.Errorf("polling the feed: %w", err)
	}
	return nil
}

// jittered is pause, shortened by up to a quarter. Replicas that start together, for example after
// an outage, so spread their polls.
func jittered(pause time.Duration) time.Duration {
	return pause - rand.N(pause/4+1) //nolint:gosec // an attacker gains nothing by guessing it
}
