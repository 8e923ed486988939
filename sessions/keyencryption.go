package sessions

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// KeyEncryptionKey wraps the secrets of keys. It comes from outside the store, and formats as
// [redacted].
type KeyEncryptionKey struct {
	aead        cipher.AEAD
	fingerprint KeyID
}

// ParseKeyEncryptionKey reads 32 bytes in standard base64, as `sessiongate keys new` prints them.
// Space around the text is allowed, because it comes from files.
//
// The label of the fingerprint is frozen: the store names key-encryption keys by it.
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
		panic(err) // the key length is a constant of this package
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// wrapAAD binds a wrapped secret to its key. An attacker who moves a secret to another row of the
// keys table gets a secret that does not unwrap. The label is frozen: it is in every wrapped
// secret.
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

// KeyEncryption is the key-encryption keys of a process: Key and, while Key replaces another one,
// the Previous one, under which stored keys may still be wrapped. Previous may be nil.
type KeyEncryption struct{ Key, Previous *KeyEncryptionKey }

// by is the key-encryption key with a fingerprint, or nil if it is neither of the two.
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
