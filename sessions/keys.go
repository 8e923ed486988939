package sessions

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// StoredKey is a key as the store keeps it: its secret wrapped under the
// key-encryption key, which the store never sees, so that a dump of the
// database signs and opens nothing.
//
// Its life: published (CreatedAt) → in use (from ActiveFrom until that of a
// newer generation) → retired (still verifies and opens) → deleted.
type StoredKey struct {
	Kind       KeyKind
	Generation int
	ID         KeyID
	Wrapped    []byte
	WrappedBy  KeyID // fingerprint of the key-encryption key
	CreatedAt  time.Time
	ActiveFrom time.Time
}

// KeyEncryptionKey wraps the secrets of keys. It comes from outside the store
// and formats as [redacted].
type KeyEncryptionKey struct {
	aead        cipher.AEAD
	fingerprint KeyID
}

// ParseKeyEncryptionKey reads 32 bytes in standard base64, as `sessiongate keys
// new` prints them. Space around the text is allowed, for it comes from files.
func ParseKeyEncryptionKey(text string) (*KeyEncryptionKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != 32 {
		return nil, errors.New("a key-encryption key is 32 bytes in base64 (44 characters); `sessiongate keys new` makes one")
	}
	k := &KeyEncryptionKey{aead: newGCM(raw)}
	sum := sha256.Sum256(append([]byte("sessiongate kek fingerprint v1"), raw...))
	copy(k.fingerprint[:], sum[:])
	return k, nil
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // a key length that is a constant of this package
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// wrapAAD binds a wrapped secret to its key: a row of the keys table that was
// given another's secret does not unwrap.
func wrapAAD(kind KeyKind, id KeyID) []byte {
	return append([]byte("sessiongate wrap v1 "+string(kind)+" "), id[:]...)
}

func (k *KeyEncryptionKey) wrap(kind KeyKind, id KeyID, secret []byte) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, secret, wrapAAD(kind, id))
}

// open unwraps what k wrapped.
func (k *KeyEncryptionKey) open(s StoredKey) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(s.Wrapped) < n {
		return nil, fmt.Errorf("%s key %s: wrapped secret is too short", s.Kind, s.ID)
	}
	secret, err := k.aead.Open(nil, s.Wrapped[:n], s.Wrapped[n:], wrapAAD(s.Kind, s.ID))
	if err != nil {
		return nil, fmt.Errorf("%s key %s: wrapped secret was altered", s.Kind, s.ID)
	}
	return secret, nil
}

// KeyEncryption is the key-encryption keys of a process: Key and, while one takes
// the place of another, the Previous one, under which stored keys may be wrapped
// yet. Previous may be nil.
type KeyEncryption struct{ Key, Previous *KeyEncryptionKey }

// by is the key-encryption key of a fingerprint, nil where it is neither.
func (e KeyEncryption) by(fingerprint KeyID) *KeyEncryptionKey {
	for _, k := range []*KeyEncryptionKey{e.Key, e.Previous} {
		if k != nil && k.fingerprint == fingerprint {
			return k
		}
	}
	return nil
}

func (e KeyEncryption) unwrap(s StoredKey) ([]byte, error) {
	k := e.by(s.WrappedBy)
	switch {
	case k != nil:
		return k.open(s)
	case e.Previous != nil:
		return nil, fmt.Errorf("%s key %s is wrapped under key-encryption key %s, not under the given %s or the previous %s",
			s.Kind, s.ID, s.WrappedBy, e.Key.fingerprint, e.Previous.fingerprint)
	default:
		return nil, fmt.Errorf("%s key %s is wrapped under key-encryption key %s, not under the given %s",
			s.Kind, s.ID, s.WrappedBy, e.Key.fingerprint)
	}
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
	// deleted: the key left the ring, and what it had signed is good no more. Tokens
	// in the cache see it here.
	deleted *atomic.Bool
}

// keyring holds the unwrapped keys. It is immutable; a change of keys makes a
// new one.
type keyring struct {
	stored  []StoredKey // of which it was made
	sealing map[KeyID]*sealingKey
	signing map[string]*signingKey // by header segment
	sealers []*sealingKey          // by generation
	signers []*signingKey
	// partial: the store holds a key that this process cannot open. What others
	// made with it looks here like a token of an unknown key.
	partial bool
}

// newKeyring unwraps the stored keys. Those that held, which may be nil, has
// already are not lost when they open no more: a key that was rewrapped under
// a key-encryption key that is not given here is the same key. The error tells of
// every key that did not open; the ring has all others.
func newKeyring(stored []StoredKey, keks KeyEncryption, held *keyring) (*keyring, error) {
	r := &keyring{stored: stored, sealing: map[KeyID]*sealingKey{}, signing: map[string]*signingKey{}}
	var errs []error
	for _, s := range stored {
		if s.Kind != KeySealing && s.Kind != KeySigning {
			continue // a newer version's kind: not ours to use
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

// take takes a key over from held, and says whether that has it.
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

// signingKey is the key of that id, nil where the ring, which may be nil, has none.
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

// markDeleted marks the keys of r that next has no more.
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

// isOf says whether the ring, which may be nil, was made of just these keys.
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

// signer is the signing key in use, sealer the sealing key; nil where there is none.
func (r *keyring) signer(now time.Time) *signingKey { return inUse(r.signers, now) }
func (r *keyring) sealer(now time.Time) *sealingKey { return inUse(r.sealers, now) }

func (k *signingKey) active(now time.Time) bool { return !now.Before(k.activeFrom) }
func (k *sealingKey) active(now time.Time) bool { return !now.Before(k.activeFrom) }

// inUse is the newest key that is active. The first one is in any case: there
// was never another.
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
