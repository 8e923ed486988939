package sessionstest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

func swap(s *suite) {
	rec := s.create("alice")
	first := generated(rec.Row, rec.CreatedAt.Add(time.Minute))
	s.swapped(rec.Row, first, true)
	got, _ := s.get(rec.Handle)
	rec.Row = first
	s.same("generated", got, rec)

	second := first // R6: everything that may differ differs
	second.Previous, second.Current, second.CurrentClient = first.Current, randomHash(), first.NextClient
	second.PromotedAt = rec.CreatedAt.Add(2 * time.Minute)
	second.NextNonce, second.NextClient, second.IssuedAt, second.Issues = sessions.Nonce{}, sessions.Client{}, time.Time{}, 0
	second.ExpiresAt = rec.CreatedAt.Add(2 * slidingLife)
	second.Device = sessions.Device{Address: phone.Address} // one fact alone
	s.swapped(first, second, true)
	got, _ = s.get(rec.Handle)
	rec.Row = second
	s.same("promoted", got, rec)
}

// swapChanged: the row changed since it was read.
func swapChanged(s *suite) {
	row := s.issueChild("alice")
	other := s.create("alice")
	for name, change := range map[string]func(*sessions.Row){
		"current":    func(r *sessions.Row) { r.Current[31]++ },
		"issued at":  func(r *sessions.Row) { r.IssuedAt = r.IssuedAt.Add(time.Microsecond) },
		"not issued": func(r *sessions.Row) { r.IssuedAt = time.Time{} },
		"another's":  func(r *sessions.Row) { r.Handle = other.Handle },
	} {
		old := row
		change(&old)
		next := generated(old, row.IssuedAt.Add(time.Minute))
		if done, err := s.store.Swap(s.Context(), old, next, sessions.R4); done || err != nil {
			s.Errorf("%s: %v, %v", name, done, err)
		}
		if done, err := s.store.EndIf(s.Context(), old, theft); done || err != nil {
			s.Errorf("EndIf, %s: %v, %v", name, done, err)
		}
	}
	fresh := s.create("alice")
	old := fresh.Row
	old.IssuedAt = row.IssuedAt
	s.swapped(old, generated(old, row.IssuedAt), false)

	got, _ := s.get(row.Handle)
	s.same("unchanged", got.Row, row)
	got, _ = s.get(fresh.Handle)
	s.same("unchanged", got, fresh)
}

// rotation is one that fits the row of a new session, after moment.
func rotation(row sessions.Row) sessions.Rotation {
	return sessions.Rotation{
		Current: row.Current, NextNonce: sessions.Nonce{9}, NextClient: sessions.Client{8}, Device: phone,
		Grace: moment, Repeat: time.Minute, Sliding: slidingLife, IssuesMax: 20,
	}
}

// rotated calls Rotate and checks what every call promises: it returns what Get returns, with the data
// only if r asks for it; it says whether the row fitted; and the row is as it says afterwards.
func (s *suite) rotated(h sessions.Handle, r sessions.Rotation) bool {
	s.Helper()
	want, _ := s.get(h)
	got, now, done, err := s.store.Rotate(s.Context(), h, r)
	s.must(err)
	data := want.Data
	if !r.WithData {
		want.Data = nil
	}
	s.same("read", got, want)
	if done != (r.Fits(want.Row, now) && !r.ReadOnly) {
		s.Fatalf("rotated %v at %s: %+v with %+v", done, now, want.Row, r)
	}
	after, _ := s.get(h)
	want.Data = data
	if done {
		want.Row = r.Next(want.Row, now)
	}
	s.same("written", after, want)
	return done
}

func rotate(s *suite) {
	n := s.newRecord("alice")
	n.Claims, n.Data = []byte(`{"role":"admin"}`), []byte(`{"theme":"dark"}`)
	rec, err := s.store.Create(s.Context(), n)
	s.must(err)
	r := rotation(rec.Row)
	if s.rotated(rec.Handle, r) {
		s.Error("within grace")
	}
	s.store.Advance(moment)
	for _, data := range []bool{false, true} {
		if s.rotated(rec.Handle, sessions.Rotation{Current: r.Current, IssuesMax: r.IssuesMax, ReadOnly: true, WithData: data}) {
			s.Error("rotated, though it only reads")
		}
	}
	if !s.rotated(rec.Handle, r) {
		s.Error("not rotated")
	}
	if s.rotated(rec.Handle, r) {
		s.Error("again, at once")
	}
	s.store.Advance(r.Repeat)
	r.NextClient, r.Device, r.WithData = sessions.Client{}, sessions.Device{}, true // none was reported
	if !s.rotated(rec.Handle, r) {
		s.Error("not rotated again")
	}
	got, _ := s.get(rec.Handle)
	s.same("data", got.Data, n.Data)
	if _, _, done, err := s.store.Rotate(s.Context(), sessions.NewHandle(), r); done || !errors.Is(err, sessions.ErrNotFound) {
		s.Errorf("no session: %v, %v", done, err)
	}
}

// rotateFits: each part of the rule, alone, keeps a row as it is.
func rotateFits(s *suite) {
	for name, tc := range map[string]struct {
		prepare func(row sessions.Row, now time.Time) sessions.Row
		ask     func(r *sessions.Rotation)
		fits    bool
	}{
		"as it is":            {fits: true},
		"another token":       {ask: func(r *sessions.Rotation) { r.Current[31]++ }},
		"within grace":        {ask: func(r *sessions.Rotation) { r.Grace = time.Hour }},
		"at the limit":        {ask: func(r *sessions.Rotation) { r.IssuesMax = 0 }},
		"issued a moment ago": {prepare: generated},
		"issued long ago": {
			prepare: func(row sessions.Row, now time.Time) sessions.Row { return generated(row, now.Add(-2*time.Minute)) }, fits: true,
		},
		"issued in the future": {prepare: func(row sessions.Row, now time.Time) sessions.Row { return generated(row, now.Add(time.Hour)) }},
		"issued often": {
			prepare: func(row sessions.Row, now time.Time) sessions.Row { return generated(row, now.Add(-2*time.Minute)) },
			ask:     func(r *sessions.Rotation) { r.IssuesMax = 1 },
		},
		"promoted in the future": {prepare: func(row sessions.Row, now time.Time) sessions.Row {
			row.PromotedAt = now.Add(time.Hour)
			return row
		}},
		"expired": {prepare: func(row sessions.Row, now time.Time) sessions.Row {
			row.ExpiresAt = now.Add(-time.Second)
			return row
		}},
		"almost at the absolute expiry": {ask: func(r *sessions.Rotation) { r.Sliding = 2 * absoluteLife }, fits: true},
	} {
		rec := s.create("alice")
		s.store.Advance(moment)
		row, now := s.get(rec.Handle)
		if tc.prepare != nil {
			s.swapped(row.Row, tc.prepare(row.Row, now), true)
		}
		r := rotation(rec.Row)
		if tc.ask != nil {
			tc.ask(&r)
		}
		if done := s.rotated(rec.Handle, r); done != tc.fits {
			s.Errorf("%s: rotated %v", name, done)
		}
	}
}

func promote(s *suite) {
	since := s.young()
	row := s.issueChild("alice")
	p := sessions.Promotion{Handle: row.Handle, Parent: row.Current, Own: randomHash()}
	s.store.Advance(time.Minute)
	_, before := s.get(row.Handle)
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{p}))
	got, after := s.get(row.Handle)
	if got.PromotedAt.Before(before) || got.PromotedAt.After(after) {
		s.Errorf("promoted at %s, not between %s and %s", got.PromotedAt, before, after)
	}
	want := row
	want.Previous, want.Current, want.CurrentClient, want.PromotedAt = row.Current, p.Own, row.NextClient, got.PromotedAt
	want.NextNonce, want.NextClient, want.IssuedAt, want.Issues = sessions.Nonce{}, sessions.Client{}, time.Time{}, 0
	s.same("promoted", got.Row, want)

	// Again, and where it is previous: nothing.
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{p}))
	got, _ = s.get(row.Handle)
	s.same("promoted again", got.Row, want)
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{{Handle: row.Handle, Parent: p.Own, Own: randomHash()}}))
	want2, _ := s.get(row.Handle)
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{p}))
	got, _ = s.get(row.Handle)
	s.same("promoted as previous", got, want2)
	s.same("told", s.told(since), []sessions.Entry(nil))
}

func promoteLost(s *suite) {
	since := s.young()
	row := s.issueChild("alice")
	child, sibling, ancestor := randomHash(), randomHash(), randomHash()
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{{Handle: row.Handle, Parent: row.Current, Own: child}}))
	want, _ := s.get(row.Handle)
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{{Handle: row.Handle, Parent: row.Current, Own: sibling}}))
	s.same("told of a sibling", s.told(since), []sessions.Entry{lost(row.Handle, sibling)})
	since = s.page(since).Next
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{{Handle: row.Handle, Parent: randomHash(), Own: ancestor}}))
	got, _ := s.get(row.Handle)
	s.same("unchanged", got, want)
	if told := s.told(since); !slices.Contains(told, lost(row.Handle, ancestor)) {
		s.Errorf("told %v, not of the ancestor", told)
	}
}

func promoteBatch(s *suite) {
	since := s.young()
	won, late, gone := s.issueChild("alice"), s.issueChild("bob"), s.issueChild("carol")
	_, err := s.store.End(s.Context(), gone.Handle, revoked)
	s.must(err)
	own, loser := randomHash(), randomHash()
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{
		{Handle: gone.Handle, Parent: gone.Current, Own: randomHash()},
		{Handle: late.Handle, Parent: randomHash(), Own: loser},
		{Handle: won.Handle, Parent: won.Current, Own: own},
	}))
	got, _ := s.get(won.Handle)
	if got.Current != own || got.Previous != won.Current {
		s.Error("not promoted")
	}
	got, _ = s.get(late.Handle)
	s.same("unchanged", got.Row, late)
	s.gone(gone.Handle)
	want := []sessions.Entry{ended(gone.Handle, revoked.Reason), lost(late.Handle, loser)}
	slices.SortFunc(want, func(a, b sessions.Entry) int { return slices.Compare(a.Handle[:], b.Handle[:]) })
	s.same("told", s.told(since), want)
}

func racingSwaps(s *suite) {
	rec := s.create("alice")
	old := rec.Row
	for range rounds {
		_, now := s.get(rec.Handle)
		won := s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
			next := generated(old, now)
			next.NextNonce[15] = byte(i)
			return s.store.Swap(ctx, old, next, sessions.R4)
		})
		got, _ := s.get(rec.Handle)
		if won != 1 || got.Issues != old.Issues+1 {
			s.Fatalf("%d swaps of one row, %d issues", won, got.Issues-old.Issues)
		}
		old = got.Row
	}
}

// racingRotations: one of many writes, and the others write nothing. What each returns is the row
// before or after that one.
func racingRotations(s *suite) {
	rec := s.create("alice")
	r := rotation(rec.Row)
	s.store.Advance(moment)
	for range rounds {
		before, _ := s.get(rec.Handle)
		won := s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
			mine := r
			mine.NextNonce[15] = byte(i)
			got, _, done, err := s.store.Rotate(ctx, rec.Handle, mine)
			if done && got.Row != before.Row {
				return false, errors.New("rotated another row than it returned")
			}
			return done, err
		})
		if got, _ := s.get(rec.Handle); won != 1 || got.Issues != before.Issues+1 {
			s.Fatalf("%d rotations of one row, %d issues", won, got.Issues-before.Issues)
		}
		s.store.Advance(r.Repeat)
	}
}

// racingRotationAndEnd: a session that ended stays ended, and its rotation may have been before.
func racingRotationAndEnd(s *suite) {
	for range rounds {
		rec := s.create("alice")
		s.store.Advance(moment)
		ends := s.race(2, func(ctx context.Context, i int) (bool, error) {
			if i == 0 {
				return s.store.End(ctx, rec.Handle, revoked)
			}
			_, _, _, err := s.store.Rotate(ctx, rec.Handle, rotation(rec.Row))
			if errors.Is(err, sessions.ErrNotFound) {
				err = nil
			}
			return false, err
		})
		if ends != 1 {
			s.Fatal("not ended")
		}
		s.gone(rec.Handle)
	}
}

// racingRotationAndChanges: a promotion stands, and new claims too.
func racingRotationAndChanges(s *suite) {
	for range rounds {
		row := s.issueChild("alice")
		child := randomHash()
		r := rotation(row)
		s.store.Advance(r.Repeat)
		s.race(3, func(ctx context.Context, i int) (bool, error) {
			switch i {
			case 0:
				return true, s.store.Promote(ctx, []sessions.Promotion{{Handle: row.Handle, Parent: row.Current, Own: child}})
			case 1:
				_, err := s.store.Update(ctx, row.Handle, sessions.Attributes{Claims: []byte(`{"n":1}`)})
				return true, err
			default:
				_, _, done, err := s.store.Rotate(ctx, row.Handle, r)
				return done, err
			}
		})
		got, _ := s.get(row.Handle)
		if got.Current != child || got.Previous != row.Current || got.Issues != 0 || !got.IssuedAt.IsZero() || got.ClaimsVersion != 2 {
			s.Fatalf("the promotion or the claims are gone: %+v", got)
		}
	}
}

// racingSiblings is I1: every loser is in the feed, and the winner is not.
func racingSiblings(s *suite) {
	for range rounds {
		since := s.young()
		row := s.issueChild("alice")
		hashes := make([]sessions.TokenHash, atOnce)
		for i := range hashes {
			hashes[i] = randomHash()
		}
		s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
			return true, s.store.Promote(ctx, []sessions.Promotion{{Handle: row.Handle, Parent: row.Current, Own: hashes[i]}})
		})
		got, _ := s.get(row.Handle)
		if !slices.Contains(hashes, got.Current) || got.Previous != row.Current {
			s.Fatal("none was promoted, or several were")
		}
		told := map[sessions.TokenHash]bool{}
		for _, e := range s.page(since).Entries {
			if e.Handle == row.Handle && e.Kind == sessions.EntryLost {
				told[e.TokenHash] = true
			}
		}
		for _, hash := range hashes {
			if told[hash] != (hash != got.Current) {
				s.Fatalf("the feed has the token hash as lost: %v, but it won: %v", told[hash], hash == got.Current)
			}
		}
	}
}

// racingSwapAndPromotion: R4, R6 and R8 decide on a row that a promotion changes.
func racingSwapAndPromotion(s *suite) {
	for range rounds {
		row := s.issueChild("alice")
		child := randomHash()
		var swapped, ended atomic.Bool
		s.race(3, func(ctx context.Context, i int) (bool, error) {
			var done bool
			var err error
			switch i {
			case 0:
				err = s.store.Promote(ctx, []sessions.Promotion{{Handle: row.Handle, Parent: row.Current, Own: child}})
			case 1:
				done, err = s.store.Swap(ctx, row, generated(row, row.IssuedAt.Add(time.Minute)), sessions.R4)
				swapped.Store(done)
			default:
				done, err = s.store.EndIf(ctx, row, theft)
				ended.Store(done)
			}
			return done, err
		})
		if ended.Load() {
			s.gone(row.Handle)
			continue
		}
		got, _ := s.get(row.Handle)
		// In either order, the promotion stands, and a lost swap leaves no trace.
		if got.Current != child || got.Issues != 0 || !got.IssuedAt.IsZero() {
			s.Fatalf("swapped %v, and the promotion is gone: %+v", swapped.Load(), got.Row)
		}
	}
}
