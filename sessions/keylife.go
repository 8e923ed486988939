package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The life of keys (docs/protocol.md, "Keys"). The state of a key at a given time follows from the
// generations of its kind. Only making, rewrapping and deleting a key is written.

// AbsoluteLifeMax is the longest that a session may live, and so the longest that a refresh token
// must open. Browsers keep no cookie for longer.
const AbsoluteLifeMax = 400 * 24 * time.Hour

const (
	// keysPause is the pause between two rounds of rotation and deletion. keysMax is the longest
	// that one round may take.
	keysPause = time.Minute
	keysMax   = 10 * time.Second
	// keyMargin is how much longer a retired key is kept than anything that was made with it. It
	// covers replicas that could not hear of the successor, and other verifiers whose clocks are
	// wrong.
	keyMargin = 24 * time.Hour
)

var keyKinds = []KeyKind{KeySigning, KeySealing}

// keepKeys rotates and deletes keys in time, until ctx ends. Every engine does so, each at its own
// moment; the second one finds it done.
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
		case <-e.keyless: // an operator deleted them: no refresh or sign-in works until there is a key
		}
	}
}

// lookAfterKeys does one round of rotation and deletion.
func (e *Engine) lookAfterKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysMax)
	defer cancel()
	// The feed reports changes of keys. If it ever misses one, tokens of a valid key would be
	// refused as unknown. So the keys read here are used, too.
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

// rotateKey makes the next generation of a kind if the newest is old enough.
func (e *Engine) rotateKey(ctx context.Context, set KeySet, kind KeyKind) error {
	newest, ok := set.newest(kind)
	if !ok {
		return e.ensureKey(ctx, set, kind) // an operator deleted them all
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

// ensureKey makes the first key of a kind if set has none. If another process is faster, its key is
// used.
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
