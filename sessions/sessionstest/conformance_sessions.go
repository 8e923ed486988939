package sessionstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
)

func createAndGet(s *suite) {
	n := s.newRecord("alice")
	n.Claims, n.Data = []byte(`{"role":"admin"}`), []byte(`{"cart":[1,2]}`)
	rec, err := s.store.Create(s.Context(), n)
	s.must(err)
	s.same("created", rec, sessions.Record{
		Row: sessions.Row{
			Handle: n.Handle, UserID: "alice", Current: n.Current, CurrentClient: n.CurrentClient,
			PromotedAt: rec.CreatedAt, CreatedAt: rec.CreatedAt,
			ExpiresAt: rec.CreatedAt.Add(slidingLife), AbsoluteExpiresAt: rec.CreatedAt.Add(absoluteLife), Device: n.Device,
		},
		Claims: n.Claims, ClaimsVersion: 1, Data: n.Data,
	})
	got, now := s.get(n.Handle)
	s.same("read", got, rec)
	if now.Before(rec.CreatedAt) {
		s.Errorf("read at %s, before the creation at %s", now, rec.CreatedAt)
	}

	n = s.newRecord("bob")
	n.CurrentClient, n.Device = sessions.Client{}, sessions.Device{} // none was reported
	n.SlidingLife = 2 * absoluteLife                                 // no session slides past its absolute end
	rec, err = s.store.Create(s.Context(), n)
	s.must(err)
	if rec.ExpiresAt != rec.AbsoluteExpiresAt || rec.AbsoluteExpiresAt != rec.CreatedAt.Add(absoluteLife) {
		s.Errorf("expires at %s and at %s", rec.ExpiresAt, rec.AbsoluteExpiresAt)
	}
	got, _ = s.get(n.Handle)
	s.same("read", got, rec)
}

// times are those of the store, in UTC and whole microseconds.
func times(s *suite) {
	_, before := s.get(s.create("alice").Handle)
	s.store.Advance(time.Hour)
	rec := s.create("alice")
	_, now := s.get(rec.Handle)
	page := s.page("")
	for _, at := range []time.Time{rec.CreatedAt, now, page.Now} {
		if at.Location() != time.UTC || at.Nanosecond()%1000 != 0 {
			s.Errorf("%s is not in UTC and whole microseconds", at)
		}
		if at.Before(before.Add(time.Hour)) {
			s.Errorf("%s, an hour after %s", at, before)
		}
	}
}

func notFound(s *suite) {
	since := s.young()
	h := sessions.NewHandle()
	s.gone(h)
	row := sessions.Row{Handle: h, UserID: "alice", Current: someHash}
	s.swapped(row, row, false)
	if done, err := s.store.End(s.Context(), h, revoked); done || err != nil {
		s.Errorf("End: %v, %v", done, err)
	}
	if done, err := s.store.EndIf(s.Context(), row, revoked); done || err != nil {
		s.Errorf("EndIf: %v, %v", done, err)
	}
	if gone, err := s.store.EndUser(s.Context(), "unknown", revoked); len(gone) > 0 || err != nil {
		s.Errorf("EndUser: %v, %v", gone, err)
	}
	if list, err := s.store.ListUser(s.Context(), "unknown", 10); len(list) > 0 || err != nil {
		s.Errorf("ListUser: %v, %v", list, err)
	}
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{{Handle: h, Parent: someHash, Own: randomHash()}}))
	s.must(s.store.Promote(s.Context(), nil))
	s.same("told", s.told(since), []sessions.Entry(nil))
}

func handleTaken(s *suite) {
	rec := s.create("alice")
	n := s.newRecord("mallory")
	n.Handle = rec.Handle
	if _, err := s.store.Create(s.Context(), n); err == nil {
		s.Error("created twice")
	}
	got, _ := s.get(rec.Handle)
	s.same("the first one", got, rec)
}

func jsonBytes(s *suite) {
	for _, text := range []string{
		`{}`, `{"b":1,"a":2}`, "{ \"space\" :\n\t1 }", `{"n":1.0,"big":12345678901234567890.10,"e":1E+2}`,
		`{"twice":1,"twice":2}`, `{"u":"\u00fc\u2028\/ ü 😀"}`, `{"nul":"\u0000"}`,
	} {
		n := s.newRecord("alice")
		n.Claims, n.Data = []byte(text), []byte(` `+text+` `)
		rec, err := s.store.Create(s.Context(), n)
		s.must(err)
		got, _ := s.get(n.Handle)
		for _, r := range []sessions.Record{rec, got} {
			if string(r.Claims) != text || string(r.Data) != ` `+text+` ` {
				s.Errorf("%q came back as %q and %q", text, r.Claims, r.Data)
			}
		}
	}
}

func listUser(s *suite) {
	s.create("bob")
	var want []sessions.Record
	for range 3 {
		want = append([]sessions.Record{s.create("alice")}, want...)
		s.store.Advance(time.Second)
	}
	for _, limit := range []int{3, 2, 100} {
		got, err := s.store.ListUser(s.Context(), "alice", limit)
		s.must(err)
		s.same(fmt.Sprint("the newest ", limit), got, want[:min(limit, 3)])
		rows, err := s.store.UserRows(s.Context(), "alice", limit)
		s.must(err)
		s.same(fmt.Sprint("the rows of the newest ", limit), rows, rowsOf(got))
	}
	s.store.Advance(slidingLife - 3*time.Second) // the oldest has expired, the others not yet
	got, err := s.store.ListUser(s.Context(), "alice", 100)
	s.must(err)
	s.same("the living", got, want[:2])
	rows, err := s.store.UserRows(s.Context(), "alice", 100)
	s.must(err)
	s.same("the rows of the living", rows, rowsOf(got))
}

func rowsOf(records []sessions.Record) []sessions.Row {
	rows := make([]sessions.Row, len(records))
	for i, r := range records {
		rows[i] = r.Row
	}
	return rows
}

func update(s *suite) {
	rec := s.create("alice")
	other := s.create("alice")
	from := s.page("").Next
	for _, step := range []struct {
		change       sessions.Attributes
		claims, data string
		version      int64
	}{
		{sessions.Attributes{Data: []byte(`{"cart":[1]}`)}, `{}`, `{"cart":[1]}`, 1},
		{sessions.Attributes{Claims: []byte(`{"b":1,"a":[1.50]}`)}, `{"b":1,"a":[1.50]}`, `{"cart":[1]}`, 2},
		{sessions.Attributes{Claims: []byte(`{}`), Data: []byte(`{}`)}, `{}`, `{}`, 3},
		{sessions.Attributes{}, `{}`, `{}`, 3},
	} {
		got, err := s.store.Update(s.Context(), rec.Handle, step.change)
		s.must(err)
		rec.Claims, rec.Data, rec.ClaimsVersion = []byte(step.claims), []byte(step.data), step.version
		s.same("updated", got, rec)
		read, _ := s.get(rec.Handle)
		s.same("read", read, rec)
	}
	var told []int64
	for _, e := range s.page(from).Entries {
		if e.Kind == sessions.EntryClaims && e.Handle == rec.Handle {
			told = append(told, e.Version)
		}
	}
	slices.Sort(told)
	if !slices.Equal(told, []int64{2, 3}) {
		s.Errorf("the feed tells of versions %v", told)
	}
	if read, _ := s.get(other.Handle); read.ClaimsVersion != 1 {
		s.Error("another session has changed")
	}
	none := func(what string, h sessions.Handle) {
		s.Helper()
		if _, err := s.store.Update(s.Context(), h, sessions.Attributes{Claims: []byte(`{}`)}); !errors.Is(err, sessions.ErrNotFound) {
			s.Errorf("%s: %v", what, err)
		}
	}
	none("unknown", sessions.NewHandle())
	_, err := s.store.End(s.Context(), other.Handle, revoked)
	s.must(err)
	none("ended", other.Handle)
	s.store.Advance(slidingLife)
	none("expired", rec.Handle)
}

// Of many updates at once, each gets a version of its own, and the feed reports each.
func racingUpdates(s *suite) {
	rec := s.create("alice")
	from := s.page("").Next
	var versions sync.Map
	var g errgroup.Group
	for range atOnce {
		g.Go(func() error {
			got, err := s.store.Update(s.Context(), rec.Handle, sessions.Attributes{Claims: []byte(`{}`)})
			if _, twice := versions.LoadOrStore(got.ClaimsVersion, true); twice {
				return fmt.Errorf("two have version %d", got.ClaimsVersion)
			}
			return err
		})
	}
	s.must(g.Wait())
	told := map[int64]bool{}
	for _, e := range s.page(from).Entries {
		if e.Kind == sessions.EntryClaims {
			told[e.Version] = true
		}
	}
	if read, _ := s.get(rec.Handle); read.ClaimsVersion != int64(atOnce)+1 || len(told) != atOnce {
		s.Errorf("version %d, the feed tells of %d", read.ClaimsVersion, len(told))
	}
}

func expiredUntilSwept(s *suite) {
	rec := s.create("alice")
	s.store.Advance(10 * absoluteLife)
	got, now := s.get(rec.Handle)
	s.same("expired", got, rec)
	if now.Before(rec.AbsoluteExpiresAt) {
		s.Errorf("read at %s", now)
	}
	_, err := s.store.Sweep(s.Context(), 10)
	s.must(err)
	s.gone(rec.Handle)
}

func cancelled(s *suite) {
	rec := s.create("alice")
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.store.End(ctx, rec.Handle, revoked); !errors.Is(err, context.Canceled) {
		s.Errorf("%v, want the context's error", err)
	}
	if _, _, err := s.store.Get(ctx, rec.Handle); !errors.Is(err, context.Canceled) {
		s.Errorf("%v, want the context's error", err)
	}
	s.get(rec.Handle)
}
