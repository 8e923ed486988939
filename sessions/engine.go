package sessions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
	"golang.org/x/sync/errgroup"
)

// Engine answers for the sessions of one store. Any number of engines may share
// a store. All methods are safe for concurrent use.
type Engine struct {
	cfg     Config
	store   Store
	windows Windows
	feed    feed
	keys    atomic.Pointer[keyring]
	loading sync.Mutex
	keyless chan struct{} // has a value once all keys of a kind are gone
	cache   *otter.Cache[[32]byte, *verified]
	// unverified bounds what tokens cost that may be anybody's.
	unverified *cpuShare
	confirming chan struct{} // has a place for each that asks the store now
	promoter   promoter

	perSession rates[TokenHash]
	perAddress rates[sender]

	polls pollCounts
}

// New checks the configuration and builds an engine. It does no I/O: [Engine.Run]
// does, and until that has read keys and feed, everything is unavailable.
func New(store Store, cfg Config) (*Engine, error) {
	if err := cfg.Faults().Err(); err != nil {
		return nil, err
	}
	cache, err := otter.New(&otter.Options[[32]byte, *verified]{MaximumSize: cfg.CachedTokens, StatsRecorder: stats.NewCounter()})
	if err != nil {
		return nil, fmt.Errorf("making the token cache: %w", err)
	}
	perSession, err := newRates[TokenHash](cfg.RefreshesPerSession)
	if err != nil {
		return nil, err
	}
	perAddress, err := newRates[sender](cfg.RefreshesPerAddress)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg:        cfg,
		store:      store,
		windows:    Windows{Attempt: cfg.RefreshAttemptMax, IssuesMax: cfg.IssuesMax, Sliding: cfg.SlidingLife},
		cache:      cache,
		unverified: newCPUShare(cfg.UnverifiedCPU, cfg.Now),

		perSession: perSession, perAddress: perAddress,
		promoter: promoter{
			queue: make(chan *verified, cfg.PromotionQueue), batch: cfg.PromotionBatch,
			timeout: cfg.RefreshAttemptMax / 2, store: store, observe: cfg.Observe,
		},
	}
	if cfg.Audit != nil {
		store.AuditChanges()
	}
	e.feed.init(cfg.Now)
	e.keyless = make(chan struct{}, 1)
	e.confirming = make(chan struct{}, confirmsMax)
	return e, nil
}

const (
	startRetryFirst = 100 * time.Millisecond
	startRetryLast  = 5 * time.Second
)

// errNoKey: every key of some kind is gone, or does not open here.
var errNoKey = errors.New("there is no key of some kind")

// errKeys: the keys in the store are not ours to open. Retrying is no use.
var errKeys = errors.New("opening the keys in the store")

// Run reads keys and feed, makes the first keys where there are none, and then
// follows the feed, promotes, sweeps, rotates and deletes keys, and delivers audit
// events until ctx ends; it returns when all that has stopped. A store that cannot
// be reached is waited for. The only other reason to return is that at the start the
// stored keys do not all open under the given key-encryption keys.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.start(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	e.cfg.Observe(Event{Kind: EventReady})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { e.follow(ctx); return nil })
	g.Go(func() error { e.promoter.run(ctx); return nil })
	g.Go(func() error { e.sweep(ctx); return nil })
	g.Go(func() error { e.keepKeys(ctx); return nil })
	if e.cfg.Audit != nil {
		g.Go(func() error { e.audit(ctx); return nil })
	}
	return g.Wait()
}

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

// clockStepMax is by how much the store's clock may step, ahead and back again,
// without forgetting an entry that still denies a token.
const clockStepMax = 15 * time.Minute

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

// poll reads the feed, and the keys where they changed.
func (e *Engine) poll(ctx context.Context) error {
	began := e.cfg.Now()
	err := e.feed.poll(ctx, e.store, e.loadKeys, max(e.cfg.FeedBound, time.Second))
	if ctx.Err() == nil { // a client that hangs up says nothing about the store
		e.polls.count(err, e.cfg.Now().Sub(began))
	}
	if err != nil {
		return fmt.Errorf("polling the feed: %w", err)
	}
	return nil
}

func (e *Engine) loadKeys(ctx context.Context) error {
	_, err := e.readKeys(ctx)
	return err
}

// readKeys reads the keys, and works with them from then on. Those that do not open
// keep an engine from starting, but never one that runs from going on with what it has:
// it hears of ends, and answers [ErrUnavailable] for tokens that others made with those
// keys.
func (e *Engine) readKeys(ctx context.Context) (KeySet, error) {
	e.loading.Lock() // a set that was read before another one must not take its place
	defer e.loading.Unlock()
	set, err := e.store.Keys(ctx)
	if err != nil {
		return set, fmt.Errorf("reading keys: %w", err)
	}
	held := e.keys.Load()
	if held.isOf(set.Keys) {
		return set, nil
	}
	ring, err := newKeyring(set.Keys, e.cfg.keyEncryption(), held)
	switch {
	case held == nil && err != nil:
		return set, fmt.Errorf("%w: %w", errKeys, err)
	case held == nil && !ring.complete():
		return set, errNoKey
	case err != nil:
		e.cfg.Observe(Event{Kind: EventKeysUnreadable, Err: err})
	}
	if held != nil && held.complete() && !ring.complete() {
		select {
		case e.keyless <- struct{}{}:
		default:
		}
	}
	e.keys.Store(ring)
	held.markDeleted(ring)
	return set, nil
}

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

// jittered is pause or up to a quarter less, so that replicas which began together,
// as after an outage, do not go on asking the store in the same moment.
func jittered(pause time.Duration) time.Duration {
	return pause - rand.N(pause/4+1) //nolint:gosec // nobody gains by guessing it
}

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

// Ready says whether keys and feed have been read once. An outage of the store
// does not take it back: it must not take every replica out of service.
func (e *Engine) Ready() bool { return e.feed.clock.reading.Load() != nil }

// FeedAge is how old what this engine knows of the feed is.
func (e *Engine) FeedAge() time.Duration { return e.feed.clock.age() }

// fresh says whether the feed, and with it the keys, is younger than its bound.
func (e *Engine) fresh() bool { return e.feed.clock.age() <= e.cfg.FeedBound }

// knowsAllKeys says whether a key that is unknown here is unknown to all.
func (e *Engine) knowsAllKeys() bool { return e.fresh() && !e.keys.Load().partial }

// JWKS is the JWK Set (RFC 7517) of the keys that verify access tokens, public
// members only. It is unavailable where one of them does not open: whoever kept a
// set without it would refuse what other engines sign.
func (e *Engine) JWKS() ([]byte, error) {
	ring := e.keys.Load()
	if ring == nil || ring.partial {
		return nil, ErrUnavailable
	}
	return ring.jwks()
}

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
