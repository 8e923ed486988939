package sessionstest

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/sessiongate/sessiongate/sessions"
)

func end(s *suite) {
	since := s.young()
	rec, other := s.create("alice"), s.create("alice")
	for i, want := range []bool{true, false} {
		if done, err := s.store.End(s.Context(), rec.Handle, theft); done != want || err != nil {
			s.Errorf("call %d: %v, %v", i+1, done, err)
		}
	}
	s.gone(rec.Handle)
	s.get(other.Handle)
	page := s.page(since)
	if len(page.Entries) != 1 || page.Entries[0].At.Before(rec.CreatedAt) || page.Entries[0].At.After(page.Now) {
		s.Errorf("told %v", page.Entries)
	}
	s.same("told", s.told(since), []sessions.Entry{ended(rec.Handle, theft.Reason)})
}

func endIf(s *suite) {
	since := s.young()
	row, fresh := s.issueChild("alice"), s.create("alice").Row
	for _, old := range []sessions.Row{row, fresh} {
		for i, want := range []bool{true, false} {
			if done, err := s.store.EndIf(s.Context(), old, theft); done != want || err != nil {
				s.Errorf("call %d: %v, %v", i+1, done, err)
			}
		}
		s.gone(old.Handle)
	}
	if told := s.told(since); len(told) != 2 {
		s.Errorf("told %v", told)
	}
}

func endUser(s *suite) {
	since := s.young()
	other := s.create("alice2")
	var want []sessions.Handle
	for range 5 {
		want = append(want, s.create("alice").Handle)
	}
	got, err := s.store.EndUser(s.Context(), "alice", revoked)
	s.must(err)
	for _, handles := range [][]sessions.Handle{got, want} {
		slices.SortFunc(handles, func(a, b sessions.Handle) int { return slices.Compare(a[:], b[:]) })
	}
	s.same("ended", got, want)
	var entries []sessions.Entry
	for _, h := range want {
		s.gone(h)
		entries = append(entries, ended(h, revoked.Reason))
	}
	s.same("told", s.told(since), entries)
	s.get(other.Handle)
	later := s.create("alice")
	s.get(later.Handle)
}

func racingEnds(s *suite) {
	for range rounds {
		since := s.young()
		row := s.issueChild("alice")
		var listed atomic.Int64
		won := s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
			switch i % 3 {
			case 0:
				return s.store.End(ctx, row.Handle, revoked)
			case 1:
				return s.store.EndIf(ctx, row, revoked)
			default:
				gone, err := s.store.EndUser(ctx, "alice", revoked)
				listed.Add(int64(len(gone)))
				return len(gone) > 0, err
			}
		})
		if won != 1 || listed.Load() > 1 {
			s.Fatalf("ended %d times", won)
		}
		n := 0
		for _, e := range s.page(since).Entries {
			if e.Handle == row.Handle {
				n++
			}
		}
		if n != 1 {
			s.Fatalf("told %d times", n)
		}
	}
}

func endOthers(s *suite) {
	since := s.young()
	kept, other := s.create("alice"), s.create("alice2")
	var want []sessions.Handle
	for range 3 {
		want = append(want, s.create("alice").Handle)
	}
	for _, want := range [][]sessions.Handle{want, nil} {
		got, err := s.store.EndOthers(s.Context(), "alice", kept.Handle, revoked)
		s.must(err)
		for _, handles := range [][]sessions.Handle{got, want} {
			slices.SortFunc(handles, func(a, b sessions.Handle) int { return slices.Compare(a[:], b[:]) })
		}
		s.same("ended", got, want)
	}
	for _, h := range want {
		s.gone(h)
	}
	if told := s.told(since); len(told) != len(want) {
		s.Errorf("told %v", told)
	}
	s.get(kept.Handle)
	s.get(other.Handle)
}

// racingEndOthers: of two sessions that end each other, and sign-ins at the same time, no call fails, and nothing
// is told twice.
func racingEndOthers(s *suite) {
	for range rounds {
		since := s.young()
		one, two := s.create("alice"), s.create("alice")
		s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
			switch i % 3 {
			case 0:
				_, err := s.store.EndOthers(ctx, "alice", one.Handle, revoked)
				return true, err
			case 1:
				_, err := s.store.EndOthers(ctx, "alice", two.Handle, revoked)
				return true, err
			default:
				_, err := s.store.Create(ctx, s.newRecord("alice"))
				return true, err
			}
		})
		told := map[sessions.Handle]int{}
		for _, e := range s.told(since) {
			told[e.Handle]++
		}
		for h, n := range told {
			if n != 1 {
				s.Fatalf("%s is told %d times", h, n)
			}
		}
		if told[one.Handle]+told[two.Handle] != 1 {
			s.Fatalf("both asked to end the other, and %d of them ended", told[one.Handle]+told[two.Handle])
		}
		_, err := s.store.EndUser(s.Context(), "alice", revoked)
		s.must(err)
	}
}

func countSessions(s *suite) {
	for want := range 3 {
		n, err := s.store.CountSessions(s.Context())
		s.must(err)
		if n != want {
			s.Errorf("%d sessions, want %d", n, want)
		}
		s.create("alice")
	}
}
