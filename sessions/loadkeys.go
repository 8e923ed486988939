package sessions

import (
	"context"
	"errors"
	"fmt"
)

// errNoKey: every key of some kind is gone, or does not open here.
var errNoKey = errors.New("there is no key of some kind")

// errKeys: the keys in the store are not ours to open. Retrying is no use.
var errKeys = errors.New("opening the keys in the store")

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
