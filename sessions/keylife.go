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

// KeySet is the keys of a store at one time.
type KeySet struct {
	Keys []StoredKey // ordered by kind and generation
	Now  time.Time   // the store's clock
	// Horizon is the store's: longer than any access token lives.
	FeedRetention time.Duration
}

// KeyState says where in its life a key is.
type KeyState string

// The states of a key that is not deleted.
const (
	KeyPublished KeyState = "published" // verifies and opens, is in the JWK Set
	KeyInUse     KeyState = "in use"    // signs or seals, too
	KeyRetired   KeyState = "retired"   // verifies and opens
)

// State says where in its life a key of the set is.
func (s KeySet) State(k StoredKey) KeyState {
	next, ok := s.successor(k)
	switch {
	case ok && !s.Now.Before(next.ActiveFrom):
		return KeyRetired
	case s.Now.Before(k.ActiveFrom):
		return KeyPublished
	default:
		return KeyInUse
	}
}

// DeletedFrom is when a key of the set is deleted at the earliest: when nothing
// that was made with it can be good any more. It says false where the key has no
// successor, for then it is not known yet.
func (s KeySet) DeletedFrom(k StoredKey) (time.Time, bool) {
	next, ok := s.successor(k)
	return next.ActiveFrom.Add(keptFor(k.Kind, s.FeedRetention)), ok
}

// keptFor is how long a retired key is kept: an access token lives within the
// horizon, a refresh token as long as its session.
func keptFor(kind KeyKind, retention time.Duration) time.Duration {
	if kind == KeySealing {
		return AbsoluteLifeMax + keyMargin
	}
	return retention + keyMargin
}

// successor is the key that takes the place of k.
func (s KeySet) successor(k StoredKey) (StoredKey, bool) {
	for _, next := range s.Keys {
		if next.Kind == k.Kind && next.Generation > k.Generation {
			return next, true
		}
	}
	return StoredKey{}, false
}

// newest is the last generation of a kind.
func (s KeySet) newest(kind KeyKind) (newest StoredKey, ok bool) {
	for _, k := range s.Keys {
		if k.Kind == kind {
			newest, ok = k, true
		}
	}
	return newest, ok
}

// wrapper is the key-encryption key for new keys: the one that wraps the newest
// key. While a new one is rolled out, processes that have the old one alone can
// so read what others add; when the keys were rewrapped, all have the new one.
func (s KeySet) wrapper(keks KeyEncryption) *KeyEncryptionKey {
	var newest StoredKey
	for _, k := range s.Keys {
		if k.CreatedAt.After(newest.CreatedAt) {
			newest = k
		}
	}
	if k := keks.by(newest.WrappedBy); k != nil {
		return k
	}
	return keks.Key
}

// PendingKeyError says that a generation is published and not active yet. The
// next one waits for it.
type PendingKeyError struct{ Key StoredKey }

func (e *PendingKeyError) Error() string {
	return fmt.Sprintf("generation %d of the %s key (%s) is published and becomes active at %s; the next one can be made from then on",
		e.Key.Generation, e.Key.Kind, e.Key.ID, e.Key.ActiveFrom.Format(time.RFC3339))
}

// RotateKey makes the next generation of a kind, which becomes active after delay,
// and returns it as the store has it. The error is a [*PendingKeyError] where a
// generation is not active yet; of several callers at once, one succeeds. Nobody
// makes a key who cannot open those that are there: he would shut everybody else
// out.
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
	// The store knows the times; and where another was faster, the other's key.
	if set, err = store.Keys(ctx); err != nil {
		return StoredKey{}, fmt.Errorf("reading keys: %w", err)
	}
	if newest, _ = set.newest(kind); newest.ID != k.ID {
		return StoredKey{}, &PendingKeyError{newest}
	}
	return newest, nil
}

// RewrapKeys rewraps every key that is not wrapped under keks.Key yet, of
// whatever kind, and returns how many it did and the set as it is then. It may be
// interrupted, repeated, and run several times at once; meanwhile every key opens
// under one of the two. Keys that open under neither stay as they are, and are
// the error.
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
		// Until a look finds none: an engine may have added one since the last.
		if left == 0 {
			return rewrapped, set, errors.Join(errs...)
		}
	}
}

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
