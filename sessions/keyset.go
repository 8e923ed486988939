package sessions

import (
	"time"
)

// KeySet is the keys of a store at one time.
type KeySet struct {
	Keys []StoredKey // ordered by kind and generation
	Now  time.Time   // the store's clock
	// FeedRetention is that of the store. It is longer than any access token lives.
	FeedRetention time.Duration
}

// KeyState says where in its life a key is.
type KeyState string

// The states of a key that is not deleted.
const (
	KeyPublished KeyState = "published" // verifies and opens, is in the JWK Set
	KeyInUse     KeyState = "in use"    // also signs or seals
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

// DeletedFrom is the earliest time at which a key of the set is deleted: when nothing that was made
// with it can be valid any more. It returns false if the key has no successor, because the time is
// not known yet.
func (s KeySet) DeletedFrom(k StoredKey) (time.Time, bool) {
	next, ok := s.successor(k)
	return next.ActiveFrom.Add(keptFor(k.Kind, s.FeedRetention)), ok
}

// keptFor is how long a retired key is kept: a signing key as long as an access token can live (at
// most the feed retention), a sealing key as long as a session can live.
func keptFor(kind KeyKind, retention time.Duration) time.Duration {
	if kind == KeySealing {
		return AbsoluteLifeMax + keyMargin
	}
	return retention + keyMargin
}

// successor is the key that replaces k.
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

// wrapper is the key-encryption key for new keys: the one that wraps the newest key. While a new
// key-encryption key is rolled out, processes that have only the old one can so read the keys that
// others add. Once the keys are rewrapped, all processes have the new one.
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
