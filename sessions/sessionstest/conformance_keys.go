package sessionstest

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

func storedKey(kind sessions.KeyKind, generation int) sessions.StoredKey {
	hash := randomHash()
	return sessions.StoredKey{
		Kind: kind, Generation: generation, ID: sessions.KeyID(hash[:8]), Wrapped: hash[8:20], WrappedBy: sessions.KeyID(hash[20:28]),
	}
}

// stored is all keys.
func (s *suite) stored() []sessions.StoredKey {
	s.Helper()
	set, err := s.store.Keys(s.Context())
	s.must(err)
	return set.Keys
}

func (s *suite) addKey(k sessions.StoredKey, delay time.Duration) {
	s.Helper()
	if done, err := s.store.AddKey(s.Context(), k, delay); !done || err != nil {
		s.Fatalf("adding a key: %v, %v", done, err)
	}
}

// rewrapped is k with another wrapped secret.
func rewrapped(k sessions.StoredKey) sessions.StoredKey {
	other := storedKey(k.Kind, k.Generation)
	k.Wrapped, k.WrappedBy = other.Wrapped, other.WrappedBy
	return k
}

func keys(s *suite) {
	since := s.young()
	if got := s.stored(); len(got) != 0 {
		s.Fatalf("a new store has keys: %v", got)
	}
	s.store.Advance(time.Hour)
	before := s.page(since).Now
	const delay = 90 * time.Second
	var want []sessions.StoredKey
	for _, k := range []sessions.StoredKey{
		storedKey(sessions.KeySigning, 10), storedKey(sessions.KeySealing, 1), storedKey(sessions.KeySigning, 2), storedKey(sessions.KeySealing, 3),
	} {
		s.addKey(k, delay)
		want = append(want, k)
	}
	want = []sessions.StoredKey{want[1], want[3], want[2], want[0]}
	set, err := s.store.Keys(s.Context())
	s.must(err)
	got := set.Keys
	after := s.page(since).Now
	if set.Now.Before(before) || set.Now.After(after) || set.Now.Location() != time.UTC || set.FeedRetention != 1000*time.Hour {
		s.Errorf("read at %s, with feed retention %s", set.Now, set.FeedRetention)
	}
	for i := range min(len(got), len(want)) {
		at := got[i].CreatedAt
		if at.Before(before) || at.After(after) || got[i].ActiveFrom != at.Add(delay) {
			s.Errorf("created at %s, active from %s", at, got[i].ActiveFrom)
		}
		want[i].CreatedAt, want[i].ActiveFrom = at, at.Add(delay)
	}
	s.same("keys", got, want)
	s.same("told", slices.Compact(s.told(since)), []sessions.Entry{{Kind: sessions.EntryKeys}})

	entries := len(s.page("").Entries)
	if done, err := s.store.AddKey(s.Context(), storedKey(sessions.KeySigning, 2), 0); done || err != nil {
		s.Errorf("a generation that exists: %v, %v", done, err)
	}
	s.same("keys", s.stored(), got)
	if n := len(s.page("").Entries); n != entries {
		s.Errorf("the feed has %d changes that did not happen", n-entries)
	}
}

func rewrapKey(s *suite) {
	s.addKey(storedKey(sessions.KeySigning, 1), 0)
	s.addKey(storedKey(sessions.KeySealing, 1), time.Minute)
	s.addKey(storedKey("another", 1), 0) // a kind of a future version
	before := s.stored()
	want := slices.Clone(before)
	for i, old := range before {
		since := s.young()
		want[i] = rewrapped(old)
		next := want[i] // its other fields must not matter
		next.Generation, next.ActiveFrom, next.ID, next.Kind = 9, next.ActiveFrom.Add(time.Hour), sessions.KeyID{1}, "x"
		if done, err := s.store.RewrapKey(s.Context(), old, next); !done || err != nil {
			s.Fatalf("%v, %v", done, err)
		}
		s.same("keys", s.stored(), want)
		s.same("told", slices.Compact(s.told(since)), []sessions.Entry{{Kind: sessions.EntryKeys}})
	}
	entries := len(s.page("").Entries)
	for _, old := range before { // keys that were rewrapped since, and a key that does not exist
		unknown := want[0]
		unknown.ID = sessions.KeyID{7}
		for _, k := range []sessions.StoredKey{old, unknown} {
			if done, err := s.store.RewrapKey(s.Context(), k, rewrapped(old)); done || err != nil {
				s.Fatalf("%v, %v", done, err)
			}
		}
	}
	s.same("keys", s.stored(), want)
	if n := len(s.page("").Entries); n != entries {
		s.Errorf("the feed has %d changes that did not happen", n-entries)
	}
}

// deleteKeys: a key is deleted once a later one was active for long enough. The newest key stays,
// however old it is.
func deleteKeys(s *suite) {
	const after = time.Hour
	deleted := func(kind sessions.KeyKind) []sessions.StoredKey {
		s.Helper()
		gone, err := s.store.DeleteKeys(s.Context(), kind, after)
		s.must(err)
		return gone
	}
	for generation := range 2 {
		s.addKey(storedKey(sessions.KeySigning, generation+1), 0)
		s.addKey(storedKey(sessions.KeySealing, generation+1), 0)
	}
	s.store.Advance(30 * time.Minute)
	s.addKey(storedKey(sessions.KeySigning, 3), time.Hour)
	since := s.young()
	all := s.stored() // three to sign, after two to seal
	for _, move := range []time.Duration{0, 29 * time.Minute} {
		s.store.Advance(move)
		if gone := deleted(sessions.KeySigning); len(gone) > 0 {
			s.Fatalf("too early: %v", gone)
		}
	}
	s.store.Advance(2 * time.Minute) // the second one has been active for an hour and a minute
	s.same("deleted", deleted(sessions.KeySigning), []sessions.StoredKey{all[2]})
	s.same("keys", s.stored(), append(all[:2:2], all[3:]...))
	s.same("told", slices.Compact(s.told(since)), []sessions.Entry{{Kind: sessions.EntryKeys}})

	s.store.Advance(time.Hour) // the third one has been active for a minute and half an hour
	s.same("deleted", deleted(sessions.KeySigning), []sessions.StoredKey(nil))
	s.store.Advance(1000 * 24 * time.Hour)
	s.same("deleted", deleted(sessions.KeySigning), []sessions.StoredKey{all[3]})
	s.same("deleted", deleted(sessions.KeySealing), []sessions.StoredKey{all[0]})
	entries := len(s.page("").Entries)
	for _, kind := range []sessions.KeyKind{sessions.KeySigning, sessions.KeySealing, "another"} {
		s.same("deleted", deleted(kind), []sessions.StoredKey(nil))
	}
	s.same("keys", s.stored(), []sessions.StoredKey{all[1], all[4]})
	if n := len(s.page("").Entries); n != entries {
		s.Errorf("the feed has %d changes that did not happen", n-entries)
	}
}

func racingKeys(s *suite) {
	for generation := range rounds {
		won := s.race(atOnce, func(ctx context.Context, _ int) (bool, error) {
			return s.store.AddKey(ctx, storedKey(sessions.KeySigning, generation+1), time.Minute)
		})
		all := s.stored()
		if won != 1 || len(all) != generation+1 {
			s.Fatalf("%d of one generation, %d keys", won, len(all))
		}
	}
}

// racingRewraps: of many callers that rewrap one key, one succeeds.
func racingRewraps(s *suite) {
	s.addKey(storedKey(sessions.KeySigning, 1), 0)
	for range rounds {
		old := s.stored()[0]
		won := s.race(atOnce, func(ctx context.Context, _ int) (bool, error) {
			return s.store.RewrapKey(ctx, old, rewrapped(old))
		})
		if now := s.stored()[0]; won != 1 || now.WrappedBy == old.WrappedBy {
			s.Fatalf("%d rewrapped it", won)
		}
	}
}

// racingDeletes: each key is deleted once, and reported to one caller.
func racingDeletes(s *suite) {
	for generation := range 3 {
		s.addKey(storedKey(sessions.KeySealing, generation+1), 0)
	}
	s.store.Advance(time.Hour)
	var total atomic.Int64
	s.race(atOnce, func(ctx context.Context, _ int) (bool, error) {
		gone, err := s.store.DeleteKeys(ctx, sessions.KeySealing, time.Minute)
		total.Add(int64(len(gone)))
		return true, err
	})
	if left := s.stored(); total.Load() != 2 || len(left) != 1 || left[0].Generation != 3 {
		s.Fatalf("%d deleted, left %v", total.Load(), left)
	}
}
