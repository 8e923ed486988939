package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// PendingKeyError says that a generation is published and not active yet. The next generation must
// wait for it.
type PendingKeyError struct{ Key StoredKey }

func (e *PendingKeyError) Error() string {
	return fmt.Sprintf("generation %d of the %s key (%s) is published and becomes active at %s; the next one can be made from then on",
		e.Key.Generation, e.Key.Kind, e.Key.ID, e.Key.ActiveFrom.Format(time.RFC3339))
}

// RotateKey makes the next generation of a kind, which becomes active after delay, and returns it
// as the store has it. The error is a [*PendingKeyError] if a generation is not active yet. Of
// several callers at once, one succeeds.
//
// A caller that cannot open the existing keys gets an error: it would make a key that the other
// processes cannot open.
func RotateKey(ctx context.Context, store Store, keks KeyEncryption, kind KeyKind, delay time.Duration) (StoredKey, error) {
	set, err := store.Keys(ctx)
	if err != nil {
		return StoredKey{}, fmt.Errorf("reading keys: %w", err)
	}
	newest, ok := set.newest(kind)
	if !ok {
		return StoredKey{}, fmt.Errorf("there is no %s key yet; the first process that serves makes it", kind)
	}
	if _, err := newKeyring(set.Keys, keks, nil); err != nil {
		return StoredKey{}, fmt.Errorf("%w: %w", errKeys, err)
	}
	if set.Now.Before(newest.ActiveFrom) {
		return StoredKey{}, &PendingKeyError{newest}
	}
	k, err := newKey(kind, newest.Generation+1, set.wrapper(keks))
	if err != nil {
		return StoredKey{}, err
	}
	if _, err := store.AddKey(ctx, k, delay); err != nil {
		return StoredKey{}, fmt.Errorf("adding a %s key: %w", kind, err)
	}
	// The store sets the times. If another caller was faster, the store has that caller's key.
	if set, err = store.Keys(ctx); err != nil {
		return StoredKey{}, fmt.Errorf("reading keys: %w", err)
	}
	if newest, _ = set.newest(kind); newest.ID != k.ID {
		return StoredKey{}, &PendingKeyError{newest}
	}
	return newest, nil
}

// RewrapKeys rewraps every key, of every kind, that is not wrapped under keks.Key yet. It returns
// how many it rewrapped, and the resulting set. It may be interrupted, repeated and run several
// times at once: every key opens under one of the two key-encryption keys all the time. Keys that
// open under neither stay as they are, and are named in the error.
func RewrapKeys(ctx context.Context, store Store, keks KeyEncryption) (int, KeySet, error) {
	rewrapped := 0
	for {
		set, err := store.Keys(ctx)
		if err != nil {
			return rewrapped, set, fmt.Errorf("reading keys: %w", err)
		}
		left := 0
		var errs []error
		for _, old := range set.Keys {
			if old.WrappedBy == keks.Key.fingerprint {
				continue
			}
			secret, err := keks.unwrap(old)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			left++
			next := old
			next.WrappedBy, next.Wrapped = keks.Key.fingerprint, keks.Key.wrap(old.Kind, old.ID, secret)
			done, err := store.RewrapKey(ctx, old, next)
			if err != nil {
				return rewrapped, set, fmt.Errorf("rewrapping %s key %s: %w", old.Kind, old.ID, err)
			}
			if done {
				rewrapped++
			}
		}
		// Read the keys again until none is left: an engine may have added one meanwhile.
		if left == 0 {
			return rewrapped, set, errors.Join(errs...)
		}
	}
}
