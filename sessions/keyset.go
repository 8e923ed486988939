package sessions

import (
	"time"
)

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
