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
