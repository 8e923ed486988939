package sessions

import (
	"context"
	"errors"
	"fmt"
)

// errNoKey: every key of some kind is deleted, or does not open here.
var errNoKey = errors.New("a kind of key has no key that opens here")

// errKeys: a stored key does not open under the given key-encryption keys. A retry does not help.
var errKeys = errors.New("opening the keys in the store")

func (e *Engine) loadKeys(ctx context.Context) error {
	_, err := e.readKeys(ctx)
	return err
}

// readKeys reads the keys and uses them from then on.
//
// A key that does not open stops an engine that starts. It does not stop one that runs: that engine
// continues with the keys it has, hears of ended sessions, and answers [ErrUnavailable] for tokens
// that others made with that key.
func (e *Engine) readKeys(ctx context.Context) (KeySet, error) {
	e.loading.Lock() // an older set must not replace a newer one
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

// JWKS is the JWK Set (RFC 7517) of the keys that verify access tokens: public members only. It is
// unavailable while one of the keys does not open here. A verifier that kept a set without that key
// would refuse tokens that other engines sign.
func (e *Engine) JWKS() ([]byte, error) {
	ring := e.keys.Load()
	if ring == nil || ring.partial {
		return nil, ErrUnavailable
	}
	return ring.jwks()
}
