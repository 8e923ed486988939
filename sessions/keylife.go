package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The life of keys (docs/protocol.md, "Keys"). What a key is at some time follows
// from the generations of its kind; only making, wrapping again and deleting are
// written.

// AbsoluteLifeMax is the longest that a session may live, and so the longest that
// a refresh token may have to open: browsers keep no cookie for longer.
const AbsoluteLifeMax = 400 * 24 * time.Hour

const (
	// keysPause is the pause between two looks at whether keys are to be rotated
	// or deleted, keysMax what one may take.
	keysPause = time.Minute
	keysMax   = 10 * time.Second
	// keyMargin is how much longer a retired key is kept than anything that was
	// made with it: for a replica that could not hear of the successor, and for
	// others' clocks, by which they verify access tokens.
	keyMargin = 24 * time.Hour
)

var keyKinds = []KeyKind{KeySigning, KeySealing}

// keepKeys rotates and deletes keys when it is time, until ctx ends. Every engine
// does, each at its own moment; whoever comes second finds it done.
func (e *Engine) keepKeys(ctx context.Context) {
	tick := time.NewTicker(keysPause)
	defer tick.Stop()
	for {
		if err := e.lookAfterKeys(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Observe(Event{Kind: EventKeysFailed, Err: err})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-e.keyless: // somebody deleted them: nobody can refresh or sign in until there is one
		}
	}
}

// lookAfterKeys does what is to be done about keys now.
func (e *Engine) lookAfterKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysMax)
	defer cancel()
	// The feed tells of changes; but a key that it did not tell of, for whatever reason,
	// would make users of it look like strangers. So what is read here is used, too.
	set, err := e.readKeys(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, kind := range keyKinds {
		errs = append(errs, e.rotateKey(ctx, set, kind), e.deleteKeys(ctx, set, kind))
	}
	return errors.Join(errs...)
}

// rotateKey makes the next generation of a kind where the newest is old enough.
func (e *Engine) rotateKey(ctx context.Context, set KeySet, kind KeyKind) error {
	newest, ok := set.newest(kind)
	if !ok {
		return e.ensureKey(ctx, set, kind) // somebody deleted them all
	}
	if set.Now.Sub(newest.CreatedAt) < e.cfg.RotateKeysEvery {
		return nil
	}
	k, err := RotateKey(ctx, e.store, e.cfg.keyEncryption(), kind, e.cfg.KeyActivationDelay)
	if pending := (*PendingKeyError)(nil); errors.As(err, &pending) {
		return nil // another engine was faster
	}
	if err != nil {
		return fmt.Errorf("rotating the %s key: %w", kind, err)
	}
	e.cfg.Observe(Event{Kind: EventKeyAdded, Key: &k})
	return nil
}

func (e *Engine) deleteKeys(ctx context.Context, set KeySet, kind KeyKind) error {
	deleted, err := e.store.DeleteKeys(ctx, kind, keptFor(kind, set.FeedRetention))
	if err != nil {
		return fmt.Errorf("deleting retired %s keys: %w", kind, err)
	}
	for i := range deleted {
		e.cfg.Observe(Event{Kind: EventKeyDeleted, Key: &deleted[i]})
	}
	return nil
}

// ensureKey makes the first key of a kind where set has none. Where another
// process is faster, its key is the one.
func (e *Engine) ensureKey(ctx context.Context, set KeySet, kind KeyKind) error {
	if _, ok := set.newest(kind); ok {
		return nil
	}
	if _, err := newKeyring(set.Keys, e.cfg.keyEncryption(), nil); err != nil {
		return fmt.Errorf("%w: %w", errKeys, err)
	}
	k, err := newKey(kind, 1, set.wrapper(e.cfg.keyEncryption()))
	if err != nil {
		return err
	}
	added, err := e.store.AddKey(ctx, k, 0)
	if err != nil {
		return fmt.Errorf("adding the first %s key: %w", kind, err)
	}
	if added {
		e.cfg.Observe(Event{Kind: EventKeyAdded, Key: &k})
	}
	return nil
}
