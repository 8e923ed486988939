package sessions

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// KeyKind says what a key is for.
type KeyKind string

// The kinds of key.
const (
	KeySigning KeyKind = "signing" // ES256, access tokens
	KeySealing KeyKind = "sealing" // AES-256-GCM, refresh tokens
)

// KeyID names a key: 64 random bits.
type KeyID [8]byte

func (id KeyID) String() string { return encode(id[:]) }

// StoredKey is a key as the store keeps it. Its secret is wrapped under the key-encryption key,
// which the store never sees. So a dump of the database can sign and open nothing.
//
// Its life: published (CreatedAt) → in use (from ActiveFrom until that of a newer generation) →
// retired (still verifies and opens) → deleted.
type StoredKey struct {
	Kind       KeyKind
	Generation int
	ID         KeyID
	Wrapped    []byte
	WrappedBy  KeyID // fingerprint of the key-encryption key
	CreatedAt  time.Time
	ActiveFrom time.Time
}

// newKey makes a key of a kind and generation, wrapped.
func newKey(kind KeyKind, generation int, kek *KeyEncryptionKey) (StoredKey, error) {
	s := StoredKey{Kind: kind, Generation: generation, WrappedBy: kek.fingerprint}
	fill(s.ID[:])
	var secret []byte
	switch kind {
	case KeySigning:
		var err error
		if secret, err = newSigningSecret(); err != nil {
			return s, fmt.Errorf("making a signing key: %w", err)
		}
	case KeySealing:
		secret = make([]byte, 32)
		fill(secret)
	default:
		return s, fmt.Errorf("unknown kind of key %q", kind)
	}
	s.Wrapped = kek.wrap(kind, s.ID, secret)
	return s, nil
}

type sealingKey struct {
	id         KeyID
	aead       cipher.AEAD
	activeFrom time.Time
}

type signingKey struct {
	id         KeyID
	header     string // the encoded header segment of every token it signs
	private    *ecdsa.PrivateKey
	activeFrom time.Time
	tagSecret  []byte
	// deleted: the key left the ring, and what it signed is no longer valid. Tokens in the cache
	// see it here.
	deleted *atomic.Bool
}

// keyring holds the unwrapped keys. It is immutable; a change of keys makes a new one.
type keyring struct {
	stored  []StoredKey // it was made from these
	sealing map[KeyID]*sealingKey
	signing map[string]*signingKey // by header segment
	sealers []*sealingKey          // by generation
	signers []*signingKey
	// partial: the store holds a key that this process cannot open. A token that another process
	// made with it looks here like a token of an unknown key.
	partial bool
}

// newKeyring unwraps the stored keys. held is the ring in use, or nil. A key of held stays if it
// does not open any more: a key that was rewrapped under a key-encryption key that is not given
// here is still the same key. The error names every key that did not open; the ring has all others.
func newKeyring(stored []StoredKey, keks KeyEncryption, held *keyring) (*keyring, error) {
	r := &keyring{stored: stored, sealing: map[KeyID]*sealingKey{}, signing: map[string]*signingKey{}}
	var errs []error
	for _, s := range stored {
		if s.Kind != KeySealing && s.Kind != KeySigning {
			continue // a kind of a newer version
		}
		err := r.add(s, keks, held)
		if err == nil {
			continue
		}
		errs = append(errs, err)
		if !r.take(s, held) {
			r.partial = true
		}
	}
	return r, errors.Join(errs...)
}

func (r *keyring) add(s StoredKey, keks KeyEncryption, held *keyring) error {
	secret, err := keks.unwrap(s)
	if err != nil {
		return err
	}
	if s.Kind == KeySigning {
		k, err := newSigningKey(s, secret)
		if err != nil {
			return fmt.Errorf("reading signing key %s: %w", s.ID, err)
		}
		if had := held.signingKey(s.ID); had != nil && had.private.Equal(k.private) {
			k.deleted = had.deleted // tokens in the cache know their key by it
		}
		r.addSigning(k)
		return nil
	}
	if len(secret) != 32 {
		return fmt.Errorf("sealing key %s has %d bytes, not 32", s.ID, len(secret))
	}
	r.addSealing(&sealingKey{s.ID, newGCM(secret), s.ActiveFrom})
	return nil
}

// take copies a key from held, and says whether held has it.
func (r *keyring) take(s StoredKey, held *keyring) bool {
	if held == nil {
		return false
	}
	if s.Kind == KeySealing {
		k, ok := held.sealing[s.ID]
		if ok {
			r.addSealing(k)
		}
		return ok
	}
	k := held.signingKey(s.ID)
	if k != nil {
		r.addSigning(k)
	}
	return k != nil
}

// signingKey is the key with that id, or nil. The ring may be nil.
func (r *keyring) signingKey(id KeyID) *signingKey {
	if r == nil {
		return nil
	}
	for _, k := range r.signers {
		if k.id == id {
			return k
		}
	}
	return nil
}

// markDeleted marks the keys of r that next does not have.
func (r *keyring) markDeleted(next *keyring) {
	if r == nil {
		return
	}
	for _, k := range r.signers {
		if same := next.signingKey(k.id); same == nil || same.deleted != k.deleted {
			k.deleted.Store(true)
		}
	}
}

// isOf says whether the ring, which may be nil, was made from exactly these keys.
func (r *keyring) isOf(stored []StoredKey) bool {
	return r != nil && slices.EqualFunc(r.stored, stored, StoredKey.equal)
}

func (s StoredKey) equal(other StoredKey) bool {
	return s.Kind == other.Kind && s.Generation == other.Generation && s.ID == other.ID && s.WrappedBy == other.WrappedBy &&
		bytes.Equal(s.Wrapped, other.Wrapped) && s.CreatedAt.Equal(other.CreatedAt) && s.ActiveFrom.Equal(other.ActiveFrom)
}

func (r *keyring) addSealing(k *sealingKey) {
	r.sealing[k.id] = k
	r.sealers = append(r.sealers, k)
}

func (r *keyring) addSigning(k *signingKey) {
	r.signing[k.header] = k
	r.signers = append(r.signers, k)
}

// signer is the signing key in use, sealer the sealing key. They are nil if there is none.
func (r *keyring) signer(now time.Time) *signingKey { return inUse(r.signers, now) }

func (r *keyring) sealer(now time.Time) *sealingKey { return inUse(r.sealers, now) }

func (k *signingKey) active(now time.Time) bool { return !now.Before(k.activeFrom) }

func (k *sealingKey) active(now time.Time) bool { return !now.Before(k.activeFrom) }

// inUse is the newest active key. The first key counts as active in any case: there is no other.
func inUse[K interface{ active(now time.Time) bool }](keys []K, now time.Time) K {
	for i := len(keys) - 1; i > 0; i-- {
		if keys[i].active(now) {
			return keys[i]
		}
	}
	if len(keys) == 0 {
		var none K
		return none
	}
	return keys[0]
}

// complete says whether there is a key of each kind.
func (r *keyring) complete() bool { return len(r.signers) > 0 && len(r.sealers) > 0 }
