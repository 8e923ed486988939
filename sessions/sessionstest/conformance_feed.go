package sessionstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
)

// ReadFeed reads the feed from since on to its end, as one page.
func ReadFeed(ctx context.Context, store sessions.Store, since sessions.Cursor) (sessions.Page, error) {
	page, err := store.Poll(ctx, since)
	for err == nil && page.More {
		var next sessions.Page
		if next, err = store.Poll(ctx, page.Next); next.Resync {
			err = errors.New("a full resync began in the middle of a poll")
		}
		page.Entries, page.Next, page.More = append(page.Entries, next.Entries...), next.Next, next.More
	}
	return page, err
}

func pollFrom(s *suite) {
	since := s.young()
	before := s.page(since)
	first := s.create("alice").Handle
	_, err := s.store.End(s.Context(), first, revoked)
	s.must(err)
	page := s.page(before.Next)
	if page.Now.Before(before.Now) {
		s.Errorf("clock %s after %s", page.Now, before.Now)
	}
	s.same("told", s.told(before.Next), []sessions.Entry{ended(first, revoked.Reason)})
	second := s.create("alice").Handle
	_, err = s.store.End(s.Context(), second, theft)
	s.must(err)
	s.same("told then", s.told(page.Next), []sessions.Entry{ended(second, theft.Reason)})
	if told := s.told(""); len(told) != 2 {
		s.Errorf("of all: %v", told)
	}
	if again := s.told(s.page(page.Next).Next); len(again) != 0 {
		s.Errorf("told again of %v", again)
	}
}

func pollYoung(s *suite) {
	s.must(s.store.RaiseFeedRetention(s.Context(), time.Hour))
	since := s.page("").Next
	old, young := s.create("alice").Handle, s.create("alice").Handle
	_, err := s.store.End(s.Context(), old, revoked)
	s.must(err)
	s.store.Advance(45 * time.Minute)
	_, err = s.store.End(s.Context(), young, revoked)
	s.must(err)
	if told := s.told(""); len(told) != 2 {
		s.Errorf("told %v", told)
	}
	s.store.Advance(30 * time.Minute)
	s.same("young ones", s.told(""), []sessions.Entry{ended(young, revoked.Reason)})
	// A poll from a cursor brings every later entry, however old.
	if told := s.told(since); len(told) != 2 {
		s.Errorf("since the beginning: %v", told)
	}
}

func retention(s *suite) {
	for _, step := range []struct{ raise, want time.Duration }{
		{time.Hour, time.Hour},
		{time.Minute, time.Hour},
		{100 * 24 * time.Hour, 100 * 24 * time.Hour},
		{0, 100 * 24 * time.Hour},
		{100*24*time.Hour + 1500*time.Microsecond, 100*24*time.Hour + 1500*time.Microsecond},
	} {
		s.must(s.store.RaiseFeedRetention(s.Context(), step.raise))
		if got := s.page("").Retention; got != step.want {
			s.Errorf("raised to %s: %s, want %s", step.raise, got, step.want)
		}
	}
}

func racingRetentions(s *suite) {
	s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
		return true, s.store.RaiseFeedRetention(ctx, time.Duration(i+1)*time.Hour)
	})
	if got := s.page("").Retention; got != time.Duration(atOnce)*time.Hour {
		s.Errorf("the feed retention is %s", got)
	}
}

// followingTheFeed: a reader that polls from cursor to cursor hears of every end, once, while many
// sessions end, in whatever order the transactions commit.
func followingTheFeed(s *suite) {
	since := s.young()
	const each = 30
	heard := map[sessions.Handle]bool{}
	var mu sync.Mutex
	want := map[sessions.Handle]bool{}
	ending := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		for last := false; ; {
			page, err := s.store.Poll(s.Context(), since)
			if err != nil {
				return err
			}
			since = page.Next
			for _, e := range page.Entries {
				if heard[e.Handle] {
					return fmt.Errorf("heard of %s twice", e.Handle)
				}
				heard[e.Handle] = true
			}
			if page.More {
				continue
			}
			if last {
				return nil
			}
			select {
			case <-ending:
				last = true // what was committed before is in one more poll
			default:
			}
		}
	})
	s.race(4, func(ctx context.Context, i int) (bool, error) {
		for n := range each {
			user := fmt.Sprintf("user-%d-%d", i, n)
			for range 3 {
				rec, err := s.store.Create(ctx, s.newRecord(user))
				if err != nil {
					return false, err
				}
				mu.Lock()
				want[rec.Handle] = true
				mu.Unlock()
			}
			if _, err := s.store.EndUser(ctx, user, revoked); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	close(ending)
	s.must(g.Wait())
	s.same("heard of", heard, want)
}
