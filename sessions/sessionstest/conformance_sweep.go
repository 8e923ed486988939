package sessionstest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

func (s *suite) sweep(limit int) int {
	s.Helper()
	n, err := s.store.Sweep(s.Context(), limit)
	s.must(err)
	return n
}

// sweepSessions removes sessions that expired in either way, and no others.
func sweepSessions(s *suite) {
	idle, slid := s.create("alice"), s.create("alice")
	next := generated(slid.Row, slid.CreatedAt)
	next.ExpiresAt = slid.AbsoluteExpiresAt
	s.swapped(slid.Row, next, true)
	if n := s.sweep(10); n != 0 {
		s.Errorf("%d rows went", n)
	}
	s.store.Advance(slidingLife)
	if n := s.sweep(10); n != 1 {
		s.Errorf("%d rows went, want 1", n)
	}
	s.gone(idle.Handle)
	s.get(slid.Handle)
	s.store.Advance(absoluteLife)
	fresh := s.create("alice")
	if n := s.sweep(10); n != 1 {
		s.Errorf("%d rows went, want 1", n)
	}
	s.gone(slid.Handle)
	s.get(fresh.Handle)
}

// sweepGoesOn: a call is bounded, and repeated calls reach every row, also after many rows that
// live.
func sweepGoesOn(s *suite) {
	const limit, dead, living = 1, 4, 120
	for _, rest := range []time.Duration{slidingLife, absoluteLife} {
		var old, fresh []sessions.Handle
		for range dead {
			old = append(old, s.create("alice").Handle)
		}
		s.store.Advance(rest)
		for range living {
			fresh = append(fresh, s.create("alice").Handle)
		}
		total := 0
		for range 10 * (dead + living) {
			n := s.sweep(limit)
			if n > limit {
				s.Fatalf("%d rows went, want at most %d", n, limit)
			}
			if total += n; total >= dead {
				break
			}
		}
		for _, h := range old {
			s.gone(h)
		}
		for _, h := range fresh {
			s.get(h)
			_, err := s.store.End(s.Context(), h, revoked)
			s.must(err)
		}
		// The feed retention is 0, so the entries of these ends are old at once. They are swept
		// here, before the next round.
		for n := 1; n > 0; {
			n = s.sweep(1000)
		}
	}
}

func sweepFeed(s *suite) {
	s.must(s.store.RaiseFeedRetention(s.Context(), time.Hour))
	for range 5 {
		_, err := s.store.End(s.Context(), s.create("alice").Handle, revoked)
		s.must(err)
	}
	s.store.Advance(time.Hour - time.Minute)
	if n := s.sweep(10); n != 0 {
		s.Errorf("%d young entries went", n)
	}
	if told := s.told(""); len(told) != 5 {
		s.Errorf("told %v", told)
	}
	s.store.Advance(2 * time.Hour)
	for _, want := range []int{2, 2, 1, 0} {
		if n := s.sweep(2); n != want {
			s.Errorf("%d entries went, want %d", n, want)
		}
	}
}

// racingSweeps: each row is counted once, and no sweep runs into a deadlock.
func racingSweeps(s *suite) {
	const dead = 100
	for range dead {
		s.create("alice")
	}
	s.store.Advance(absoluteLife)
	var total atomic.Int64
	for total.Load() < dead {
		s.race(4, func(ctx context.Context, _ int) (bool, error) {
			n, err := s.store.Sweep(ctx, 7)
			total.Add(int64(n))
			return true, err
		})
	}
	if list, err := s.store.ListUser(s.Context(), "alice", dead); total.Load() != dead || len(list) != 0 || err != nil {
		s.Errorf("%d rows went, %d are left, %v", total.Load(), len(list), err)
	}
}
