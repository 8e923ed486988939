package sessionstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

func (s *suite) createWithin(limit sessions.UserLimit) (sessions.Record, []sessions.Handle) {
	s.Helper()
	rec, evicted, err := s.store.CreateWithin(s.Context(), s.newRecord("alice"), limit)
	s.must(err)
	return rec, evicted
}

func (s *suite) living(user string) []sessions.Handle {
	s.Helper()
	list, err := s.store.ListUser(s.Context(), user, 1000)
	s.must(err)
	handles := make([]sessions.Handle, len(list))
	for i, rec := range list {
		handles[i] = rec.Handle
	}
	return handles
}

// inOrder sorts handles as told does.
func inOrder(handles []sessions.Handle) []sessions.Handle {
	handles = slices.Clone(handles)
	slices.SortFunc(handles, func(a, b sessions.Handle) int { return slices.Compare(a[:], b[:]) })
	return handles
}

func limitEvicts(s *suite) {
	limit := sessions.UserLimit{Max: 3, EvictOldest: true}
	since := s.young()
	var made []sessions.Handle
	for range 3 {
		rec, evicted := s.createWithin(limit)
		s.same("evicted while there is room", evicted, []sessions.Handle(nil))
		got, _ := s.get(rec.Handle)
		s.same("read", got, rec)
		made = append(made, rec.Handle)
		s.store.Advance(time.Second)
	}
	rec, evicted := s.createWithin(limit)
	s.same("evicted", evicted, made[:1])
	s.gone(made[0])
	s.same("told", s.told(since), []sessions.Entry{ended(made[0], sessions.ReasonEvicted)})
	made = append(made[1:], rec.Handle)
	s.store.Advance(time.Second)

	// A lower limit than before.
	rec, evicted = s.createWithin(sessions.UserLimit{Max: 1, EvictOldest: true})
	s.same("evicted", inOrder(evicted), inOrder(made))
	s.same("living", s.living("alice"), []sessions.Handle{rec.Handle})
}

func limitRefuses(s *suite) {
	limit := sessions.UserLimit{Max: 2}
	since := s.young()
	first, _ := s.createWithin(limit)
	s.createWithin(limit)
	refused := s.newRecord("alice")
	rec, evicted, err := s.store.CreateWithin(s.Context(), refused, limit)
	if !errors.Is(err, sessions.ErrTooManySessions) || len(evicted) > 0 || rec.UserID != "" {
		s.Fatalf("%v, %d evicted; want ErrTooManySessions", err, len(evicted))
	}
	s.gone(refused.Handle)
	s.same("told", s.told(since), []sessions.Entry(nil))
	if _, err := s.store.End(s.Context(), first.Handle, revoked); err != nil {
		s.Fatal(err)
	}
	s.createWithin(limit) // there is room again
}

// limitOthers: neither the sessions of other users count, nor those that expired and were not swept
// yet. The expired ones are not evicted.
func limitOthers(s *suite) {
	limit := sessions.UserLimit{Max: 1}
	expired := s.create("alice")
	s.store.Advance(slidingLife)
	s.create("alice2")
	living, _ := s.createWithin(limit)
	_, evicted := s.createWithin(sessions.UserLimit{Max: 1, EvictOldest: true})
	s.same("evicted", evicted, []sessions.Handle{living.Handle})
	s.get(expired.Handle)
	s.same("of another user", len(s.living("alice2")), 1)
}

func racingCreations(s *suite) { RaceCreations(s.T, s.store) }

// RaceCreations creates 20 sessions of one user at once, through stores that share one database.
// There are never more than the limit of 3. Each evicted session is returned, and is in the feed
// once. Without eviction, all others are refused.
func RaceCreations(t *testing.T, stores ...sessions.Store) {
	t.Helper()
	for _, evict := range []bool{true, false} {
		raceCreations(t, evict, stores)
	}
}

func raceCreations(t *testing.T, evict bool, stores []sessions.Store) {
	t.Helper()
	const creators, most = 20, 3
	s := &suite{T: t}
	user := fmt.Sprint("alice ", evict)
	s.must(stores[0].RaiseFeedRetention(t.Context(), 1000*time.Hour))
	var mu sync.Mutex
	var evicted []sessions.Handle
	created := s.race(creators, func(ctx context.Context, i int) (bool, error) {
		store := stores[i%len(stores)]
		_, gone, err := store.CreateWithin(ctx, s.newRecord(user), sessions.UserLimit{Max: most, EvictOldest: evict})
		if errors.Is(err, sessions.ErrTooManySessions) && !evict {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		mu.Lock()
		evicted = append(evicted, gone...)
		mu.Unlock()
		list, err := store.ListUser(ctx, user, creators)
		if len(list) > most {
			t.Errorf("%d sessions at once, want at most %d", len(list), most)
		}
		return true, err
	})
	want, gone := most, 0
	if evict {
		want, gone = creators, creators-most
	}
	if created != want || len(evicted) != gone {
		t.Errorf("created %d, evicted %d; want %d and %d", created, len(evicted), want, gone)
	}
	page, err := ReadFeed(t.Context(), stores[0], "")
	s.must(err)
	var told []sessions.Handle
	for _, e := range page.Entries {
		if e.Kind == sessions.EntryEnded && e.Reason == sessions.ReasonEvicted && !slices.Contains(told, e.Handle) && slices.Contains(evicted, e.Handle) {
			told = append(told, e.Handle)
		}
	}
	s.same("told", inOrder(told), inOrder(evicted))
}
