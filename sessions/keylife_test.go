package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
)

// withKeys is a store that an engine under the key-encryption key "k" has used,
// with so many generations of each kind, all of them active.
func withKeys(t *testing.T, generations int) *memory.Store {
	t.Helper()
	store := memory.New()
	startKept(t, store, quiet(t))
	for range generations - 1 {
		for _, kind := range []sessions.KeyKind{sessions.KeySigning, sessions.KeySealing} {
			if _, err := sessions.RotateKey(t.Context(), store, sessions.KeyEncryption{Key: key(t, "k")}, kind, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		store.Advance(time.Second)
	}
	return store
}

// startKept is start, until the engine has looked after the keys: later it does so once a minute.
func startKept(t *testing.T, store *memory.Store, cfg sessions.Config) (*sessions.Engine, *events) {
	t.Helper()
	looked := make(chan struct{}, 100)
	store.FailAfter(func(method string) error {
		if method == "DeleteKeys" { // the last for a kind
			looked <- struct{}{}
		}
		return nil
	})
	defer store.FailAfter(nil)
	e, log := start(t, store, cfg)
	<-looked
	<-looked
	return e, log
}

// opens fails unless an engine with these key-encryption keys starts.
func opens(t *testing.T, store sessions.Store, keks sessions.KeyEncryption) {
	t.Helper()
	cfg := quiet(t)
	cfg.KeyEncryptionKey, cfg.PreviousKeyEncryptionKey = keks.Key, keks.Previous
	start(t, store, cfg)
}

// Rewrapping is cut at each of its writes, before it and after it. The keys open for a process that
// has both key-encryption keys, and the next attempt finishes the work.
func TestRewrapInterrupted(t *testing.T) {
	old, another := key(t, "k"), key(t, "n")
	keks := sessions.KeyEncryption{Key: another, Previous: old}
	fault := errors.New("connection reset")
	for cut := range 4 {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprintf("at write %d, done %v", cut+1, done), func(t *testing.T) {
				store := withKeys(t, 2)
				writes := 0
				fail := func(method string) error {
					if method == "RewrapKey" {
						if writes++; writes == cut+1 {
							return fault
						}
					}
					return nil
				}
				if done {
					store.FailAfter(fail)
				} else {
					store.Fail(fail)
				}
				n, _, err := sessions.RewrapKeys(t.Context(), store, keks)
				if !errors.Is(err, fault) || n != cut {
					t.Fatalf("rewrapped %d, %v", n, err)
				}
				store.Fail(nil)
				store.FailAfter(nil)
				opens(t, store, keks)
				opens(t, store, sessions.KeyEncryption{Key: old, Previous: another})
				n, set, err := sessions.RewrapKeys(t.Context(), store, keks)
				if want := 4 - cut; err != nil || !done && n != want || done && n != want-1 {
					t.Errorf("then rewrapped %d, %v", n, err)
				}
				for _, k := range set.Keys {
					if k.WrappedBy != set.Keys[0].WrappedBy {
						t.Errorf("%s key %d is wrapped under %s", k.Kind, k.Generation, k.WrappedBy)
					}
				}
				opens(t, store, sessions.KeyEncryption{Key: another})
			})
		}
	}
}

// A key that does not open stays as it is, is named, and keeps no other from
// being rewrapped.
func TestRewrapLeavesWhatDoesNotOpen(t *testing.T) {
	store := withKeys(t, 2)
	set, err := store.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken := set.Keys[1]
	altered := broken
	altered.Wrapped = slices.Clone(broken.Wrapped)
	altered.Wrapped[20] ^= 1
	if ok, err := store.RewrapKey(t.Context(), broken, altered); !ok || err != nil {
		t.Fatal(ok, err)
	}
	keks := sessions.KeyEncryption{Key: key(t, "n"), Previous: key(t, "k")}
	n, after, err := sessions.RewrapKeys(t.Context(), store, keks)
	if want := "sealing key " + broken.ID.String() + ": wrapped secret was altered"; n != 3 || err == nil || err.Error() != want {
		t.Errorf("rewrapped %d, %v; want 3 and %q", n, err, want)
	}
	if got := after.Keys[1]; got.WrappedBy != broken.WrappedBy || !slices.Equal(got.Wrapped, altered.Wrapped) {
		t.Error("it was changed")
	}
	// A process that cannot open every key makes none: the next engine might open neither.
	store.Advance(time.Hour)
	if _, err := sessions.RotateKey(t.Context(), store, keks, sessions.KeySigning, time.Minute); err == nil {
		t.Error("rotated")
	}
}

// An engine that runs tells of keys that it cannot open, of what it made and
// deleted, and of what failed; and goes on.
func TestKeyEvents(t *testing.T) {
	store := withKeys(t, 1)
	running, log := startKept(t, store, lively(t))
	i := create(t, running)
	if n, _, err := sessions.RewrapKeys(t.Context(), store, sessions.KeyEncryption{Key: key(t, "n"), Previous: key(t, "k")}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	unreadable, err := log.await(t.Context(), sessions.EventKeysUnreadable)
	if err != nil || unreadable.Err == nil {
		t.Fatal(unreadable.Err, err)
	}
	if d := verify(running, i.Access); d != nil {
		t.Error(d)
	}

	cfg := quiet(t)
	cfg.KeyEncryptionKey = key(t, "n")
	store.Advance(cfg.RotateKeysEvery)
	fault := errors.New("read-only")
	store.Fail(func(method string) error {
		if method == "AddKey" {
			return fault
		}
		return nil
	})
	_, log = start(t, store, cfg)
	failed, err := log.await(t.Context(), sessions.EventKeysFailed)
	if err != nil || !errors.Is(failed.Err, fault) {
		t.Errorf("failed with %v, %v", failed.Err, err)
	}
	store.Fail(nil)
	generations := func(l *events, kind sessions.EventKind, want int) {
		t.Helper()
		e, err := l.await(t.Context(), kind)
		if err != nil || e.Key == nil || e.Key.Generation != want || e.Key.ID == (sessions.KeyID{}) {
			t.Errorf("%s of %+v, %v; want generation %d", kind, e.Key, err, want)
		}
	}
	_, log = start(t, store, cfg)
	generations(log, sessions.EventKeyAdded, 2)
	// Signing keys come first. With the sealing key this engine is done with those: it must not delete what the next
	// one is to delete.
	sealing := func(e sessions.Event) bool {
		return e.Kind == sessions.EventKeyAdded && e.Key.Kind == sessions.KeySealing
	}
	if _, err := log.awaitThat(t.Context(), sealing); err != nil {
		t.Fatal(err)
	}
	store.Advance(2000 * 24 * time.Hour)
	_, log = start(t, store, cfg)
	generations(log, sessions.EventKeyAdded, 3)
	generations(log, sessions.EventKeyDeleted, 1)
}

// Of several callers that rotate at once, one makes the generation, and the others learn which key
// it is. That also holds if both read the keys before either wrote.
func TestRotationLosesARace(t *testing.T) {
	store := withKeys(t, 1)
	keks := sessions.KeyEncryption{Key: key(t, "k")}
	rival := errors.New("not yet")
	var winner sessions.StoredKey
	store.Fail(func(method string) error {
		if method != "AddKey" || rival == nil {
			return nil
		}
		rival = nil
		var err error
		winner, err = sessions.RotateKey(context.Background(), store, keks, sessions.KeySealing, time.Minute)
		return err
	})
	_, err := sessions.RotateKey(t.Context(), store, keks, sessions.KeySealing, time.Hour)
	var pending *sessions.PendingKeyError
	if !errors.As(err, &pending) || pending.Key.ID != winner.ID || pending.Key.Generation != 2 {
		t.Errorf("the loser's error: %v", err)
	}
	set, err := store.Keys(t.Context())
	if err != nil || len(set.Keys) != 3 {
		t.Errorf("%d keys, %v", len(set.Keys), err)
	}
}
