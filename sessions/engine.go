package sessions

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/errgroup"
)

// Engine answers for the sessions of one store. Any number of engines may share a store. All
// methods are safe for concurrent use.
type Engine struct {
	cfg     Config
	store   Store
	windows windows
	bound   boundWindows
	feed    feed
	keys    atomic.Pointer[keyring]
	loading sync.Mutex
	keyless chan struct{} // has a value once every key of a kind is deleted
	cache   tokenCache
	// expired has tokens that had expired when they came first, so that they are not read again.
	// They have a cache of their own: an attacker can keep any number of them for weeks, and must
	// not push the living tokens out of theirs.
	expired tokenCache
	// unverified bounds the CPU that tokens without a tag may cost: any client can invent such
	// tokens.
	unverified *cpuShare
	confirming chan struct{} // one slot for each check that asks the store now
	promoter   promoter

	perSession rates[TokenHash]
	perAddress rates[sender]
	own        rates[Handle]
	proofs     rates[Handle]
	refused    rates[Handle] // proofs of another key, as far as they are reported
	// reported is what [Store.Report] wrote within the last hour.
	reported *otter.Cache[reported, struct{}]

	polls pollCounts
	count sessionCount
}

// expiredMax is how many expired tokens are held.
const expiredMax = 1000

// New checks the configuration and builds an engine. It does no I/O: [Engine.Run] does. Until Run
// has read the keys and the feed, the engine answers [ErrUnavailable].
func New(store Store, cfg Config) (*Engine, error) {
	if err := cfg.Faults().Err(); err != nil {
		return nil, err
	}
	cache, err := newTokenCache(cfg.CachedTokens)
	if err != nil {
		return nil, fmt.Errorf("making the token cache: %w", err)
	}
	expired, err := newTokenCache(min(cfg.CachedTokens, expiredMax))
	if err != nil {
		return nil, fmt.Errorf("making the cache of expired tokens: %w", err)
	}
	perSession, err := newRates[TokenHash](cfg.RefreshesPerSession)
	if err != nil {
		return nil, err
	}
	perAddress, err := newRates[sender](cfg.RefreshesPerAddress)
	if err != nil {
		return nil, err
	}
	own, err := newRates[Handle](ownCalls)
	if err != nil {
		return nil, err
	}
	proofs, err := newRates[Handle](cfg.RefreshesPerSession)
	if err != nil {
		return nil, err
	}
	refused, err := newRates[Handle](cfg.RefreshesPerSession)
	if err != nil {
		return nil, err
	}
	told, err := otter.New(&otter.Options[reported, struct{}]{MaximumSize: ratesMax, ExpiryCalculator: otter.ExpiryWriting[reported, struct{}](time.Hour)})
	if err != nil {
		return nil, fmt.Errorf("making a cache of reports: %w", err)
	}
	e := &Engine{
		cfg:   cfg,
		store: store,
		// In whole microseconds, as the times of a store are: D, and D/2 and W, which follow from it.
		windows: windows{
			Attempt: cfg.RefreshAttemptMax.Truncate(2 * time.Microsecond), IssuesMax: cfg.IssuesMax,
			Sliding: cfg.SlidingLife.Truncate(time.Microsecond),
		},
		bound: boundWindows{
			Sliding: cfg.SlidingLife.Truncate(time.Microsecond), WriteMost: cfg.AccessTokenLife, LostAfter: cfg.Binding.LostAfter,
		},
		cache:      cache,
		expired:    expired,
		unverified: newCPUShare(cfg.UnverifiedCPU, cfg.Now),

		perSession: perSession, perAddress: perAddress, own: own, proofs: proofs, refused: refused, reported: told,
		promoter: promoter{
			queue: make(chan *verified, cfg.PromotionQueue), batch: cfg.PromotionBatch,
			timeout: cfg.RefreshAttemptMax / 2, store: store, observe: cfg.Observe,
		},
	}
	if cfg.Audit != nil {
		store.AuditChanges()
	}
	e.feed.init(cfg.Now)
	e.count.sessions.Store(-1)
	e.keyless = make(chan struct{}, 1)
	e.confirming = make(chan struct{}, confirmsMax)
	return e, nil
}

// Run reads the keys and the feed. It makes the first keys of a new store. Then it follows the
// feed, promotes, sweeps, rotates and deletes keys, and delivers audit events until ctx ends. It
// returns when all of that has stopped.
//
// Run waits for a store that cannot be reached. It returns an error in one case only: at the start,
// a stored key does not open under the given key-encryption keys.
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

// Ready says whether the keys and the feed were read once. An outage of the store does not take
// that back: it must not take every replica out of service.
func (e *Engine) Ready() bool { return e.feed.clock.reading.Load() != nil }

// FeedAge is the age of what this engine knows of the feed.
func (e *Engine) FeedAge() time.Duration { return e.feed.clock.age() }

// fresh says whether the engine has read the feed, and with it the keys, within Config.FeedBound.
func (e *Engine) fresh() bool { return e.feed.clock.age() <= e.cfg.FeedBound }

// knowsAllKeys says whether a key that is unknown here is unknown to every engine.
func (e *Engine) knowsAllKeys() bool { return e.fresh() && !e.keys.Load().partial }

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
