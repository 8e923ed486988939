package sessions

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseKeyEncryptionKey(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	for _, tc := range []struct {
		name, text string
		ok         bool
	}{
		{"good", good, true},
		{"with a file's newline", good + "\n", true},
		{"empty", "", false},
		{"31 bytes", base64.StdEncoding.EncodeToString(make([]byte, 31)), false},
		{"33 bytes", base64.StdEncoding.EncodeToString(make([]byte, 33)), false},
		{"unpadded", strings.TrimRight(good, "="), false},
		{"hex", strings.Repeat("07", 32), false},
		{"trailing bits", good[:42] + "d=", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, err := ParseKeyEncryptionKey(tc.text)
			if (err == nil) != tc.ok {
				t.Fatalf("error %v", err)
			}
			if err != nil && tc.text != "" && strings.Contains(err.Error(), tc.text) {
				t.Errorf("the error tells the key: %v", err)
			}
			if shown := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); tc.ok && shown != strings.TrimSpace(strings.Repeat(redacted+" ", 4)) {
				t.Errorf("formats as %s", shown)
			}
		})
	}
}

func TestUnwrapRefuses(t *testing.T) {
	kek := testKEK(t, 'k')
	one, err := newKey(KeySealing, 1, kek)
	if err != nil {
		t.Fatal(err)
	}
	two, err := newKey(KeySealing, 2, kek)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kek.open(one); err != nil {
		t.Fatal(err)
	}
	edit := func(f func(*StoredKey)) StoredKey {
		k := one
		k.Wrapped = bytes.Clone(one.Wrapped)
		f(&k)
		return k
	}
	for _, tc := range []struct {
		name string
		kek  *KeyEncryptionKey
		key  StoredKey
		want string
	}{
		{"another key-encryption key", testKEK(t, 'x'), one, "is wrapped under key-encryption key " + kek.fingerprint.String()},
		{"another one that claims to be it", &KeyEncryptionKey{testKEK(t, 'x').aead, kek.fingerprint}, one, "was altered"},
		{"altered", kek, edit(func(k *StoredKey) { k.Wrapped[20] ^= 1 }), "was altered"},
		{"truncated", kek, edit(func(k *StoredKey) { k.Wrapped = k.Wrapped[:40] }), "was altered"},
		{"emptied", kek, edit(func(k *StoredKey) { k.Wrapped = nil }), "too short"},
		{"another key's secret", kek, edit(func(k *StoredKey) { k.Wrapped = two.Wrapped }), "was altered"},
		{"another key's id", kek, edit(func(k *StoredKey) { k.ID = two.ID }), "was altered"},
		{"another kind", kek, edit(func(k *StoredKey) { k.Kind = KeySigning }), "was altered"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newKeyring([]StoredKey{tc.key}, KeyEncryption{Key: tc.kek}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

// A key makes tokens from when it is active, and is known before and after.
func TestKeyringUsesTheNewestActiveKey(t *testing.T) {
	kek := testKEK(t, 'k')
	var stored []StoredKey
	for generation, from := range []time.Time{testEpoch, testEpoch.Add(time.Hour), testEpoch.Add(2 * time.Hour)} {
		for _, kind := range []KeyKind{KeySealing, KeySigning} {
			k, err := newKey(kind, generation+1, kek)
			if err != nil {
				t.Fatal(err)
			}
			k.ActiveFrom = from
			stored = append(stored, k)
		}
	}
	ring, err := newKeyring(stored, KeyEncryption{Key: kek}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		now  time.Time
		want int
	}{
		{testEpoch.Add(-time.Hour), 0}, // a slow clock: the first key always counts
		{testEpoch, 0},
		{testEpoch.Add(time.Hour - 1), 0},
		{testEpoch.Add(time.Hour), 1},
		{testEpoch.Add(2*time.Hour - 1), 1},
		{testEpoch.Add(2 * time.Hour), 2},
		{testEpoch.Add(99 * time.Hour), 2},
	} {
		if ring.signer(tc.now) != ring.signers[tc.want] || ring.sealer(tc.now) != ring.sealers[tc.want] {
			t.Errorf("at %v not generation %d", tc.now, tc.want+1)
		}
	}
	token, _ := signIn(testEpoch, netV)
	for i := range ring.sealers {
		if _, err := openRefreshToken(token.seal(ring.sealers[i]).Reveal(), ring); err != nil {
			t.Errorf("generation %d does not open: %v", i+1, err)
		}
		text, _ := ring.signers[i].sign([]byte(`{}`))
		cut, _ := cutToken(text)
		if _, d := ring.open(cut, "sessiongate", testEpoch, newCPUShare(100, time.Now)); d != DenyClaims {
			t.Errorf("generation %d does not verify: %v", i+1, d)
		}
	}
}

// A kind of key that a newer version added does not stop an older one.
func TestKeyringSkipsUnknownKinds(t *testing.T) {
	kek := testKEK(t, 'k')
	k := StoredKey{Kind: "audit", WrappedBy: kek.fingerprint}
	fill(k.ID[:])
	k.Wrapped = kek.wrap(k.Kind, k.ID, []byte("secret"))
	if _, err := newKeyring([]StoredKey{k}, KeyEncryption{Key: kek}, nil); err != nil {
		t.Error(err)
	}
}

// keyStore is a store that holds keys.
type keyStore struct {
	Store

	keys []StoredKey
}

func (s *keyStore) Keys(context.Context) (KeySet, error) { return KeySet{Keys: s.keys}, nil }

// With a deleted key go the tokens that were verified with it.
func TestDeletedKeyVerifiesNothing(t *testing.T) {
	e := offline(t)
	token := []string{issueAt(t, e, testEpoch, `{}`).Access.Reveal()}
	if _, d := e.Verify(TransportCookie, token); d != nil {
		t.Fatal(d)
	}
	store := &keyStore{}
	for _, kind := range []KeyKind{KeySealing, KeySigning} {
		k, err := newKey(kind, 2, e.cfg.KeyEncryptionKey)
		if err != nil {
			t.Fatal(err)
		}
		store.keys = append(store.keys, k)
	}
	e.store = store
	if err := e.loadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, d := e.Verify(TransportCookie, token); d != DenyUnknownKey {
		t.Errorf("then %v", d)
	}
	store.keys = store.keys[:1]
	// Without a key of some kind no token is made, and no client is told that its session has
	// ended.
	if err := e.loadKeys(t.Context()); err != nil || e.keys.Load().complete() {
		t.Errorf("keys of one kind alone: %v", err)
	}
	signedIn, row := signIn(testEpoch, netV)
	if _, err := e.issue(Record{Row: row}, signedIn, TokenHash{}, testEpoch, true); !errors.Is(err, ErrUnavailable) {
		t.Errorf("issued without a signing key: %v", err)
	}
}

// The cache loses what a deleted key had signed, and nothing else. A change of other keys, or
// another reading of the same keys, costs no signature.
func TestChangedKeysEmptyNoCache(t *testing.T) {
	e := offline(t)
	kek := e.cfg.KeyEncryptionKey
	var stored []StoredKey
	for _, k := range []struct {
		kind       KeyKind
		generation int
	}{{KeySealing, 1}, {KeySigning, 1}, {KeySigning, 2}} {
		made, err := newKey(k.kind, k.generation, kek)
		if err != nil {
			t.Fatal(err)
		}
		made.ActiveFrom = testEpoch.Add(time.Duration(k.generation-1) * time.Minute)
		stored = append(stored, made)
	}
	store := &keyStore{keys: stored}
	e.store = store
	reload := func() {
		t.Helper()
		if err := e.loadKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	one := issueAt(t, e, testEpoch, `{}`).Access.Reveal()
	e.feed.clock.set(testEpoch.Add(time.Minute), testEpoch)
	two := issueAt(t, e, testEpoch.Add(time.Minute), `{}`).Access.Reveal()
	allows := func(what string, operations uint64, wantOne *Denial) {
		t.Helper()
		before := e.SignatureOperations()
		if _, d := e.Verify(TransportCookie, []string{one}); d != wantOne {
			t.Errorf("%s: the first key's token: %v", what, d)
		}
		if _, d := e.Verify(TransportCookie, []string{two}); d != nil {
			t.Errorf("%s: the second key's token: %v", what, d)
		}
		if got := e.SignatureOperations() - before; got != operations {
			t.Errorf("%s: %d signatures, want %d", what, got, operations)
		}
	}
	allows("at first", 2, nil)

	ring := e.keys.Load()
	reload()
	if e.keys.Load() != ring {
		t.Error("the same keys make a new ring")
	}
	allows("read again", 0, nil)

	rewrapped := slices.Clone(stored)
	secret, err := kek.open(stored[1])
	if err != nil {
		t.Fatal(err)
	}
	rewrapped[1].Wrapped = kek.wrap(KeySigning, stored[1].ID, secret)
	third, err := newKey(KeySigning, 3, kek)
	if err != nil {
		t.Fatal(err)
	}
	third.ActiveFrom = testEpoch.Add(time.Hour)
	store.keys = slices.Concat(rewrapped, []StoredKey{third})
	reload()
	if e.keys.Load() == ring {
		t.Error("a third key makes no new ring")
	}
	allows("one rewrapped, and a third", 0, nil)

	store.keys = []StoredKey{stored[0], stored[2]}
	reload()
	allows("the first one deleted", 0, DenyUnknownKey)
	store.keys = stored // a backup was restored
	reload()
	allows("the first one back", 1, nil)
	allows("and again", 0, nil)
}

// A key that is deleted while a token is being verified lets it pass no more, and
// neither does what was put into the cache at that moment.
func TestKeyDeletedMeanwhile(t *testing.T) {
	e := offline(t)
	token := []string{issueAt(t, e, testEpoch, `{}`).Access.Reveal()}
	e.keys.Load().signers[0].deleted.Store(true) // loadKeys has got so far; Verify had the ring
	for range 2 {
		if _, d := e.Verify(TransportCookie, token); d != DenyUnknownKey {
			t.Errorf("says %v", d)
		}
	}
}
