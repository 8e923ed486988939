package sessionstest

import (
	"context"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

var someKey, otherKey = sessions.BoundKey{2, 1}, sessions.BoundKey{3, 2}

// bound: a key and its first proof are written by compare and swap. A swap, or an end, that was decided
// before either of them does nothing, and no rotation fits a bound row.
func bound(s *suite) {
	rec := s.create("alice")
	keyed := rec.Row
	keyed.BoundKey = someKey
	s.swapped(rec.Row, keyed, true)
	got, _ := s.get(rec.Handle)
	s.same("key", got.Row, keyed)
	second := rec.Row
	second.BoundKey = otherKey
	s.swapped(rec.Row, second, false)
	s.endedIf(rec.Row, false)

	s.store.Advance(moment)
	if !s.rotated(rec.Handle, rotation(keyed)) {
		s.Error("a key that was not proven keeps R4 from its row")
	}
	got, now := s.get(rec.Handle)
	child := got.Row
	proven := child
	proven.NextNonce, proven.NextClient, proven.IssuedAt, proven.Issues = sessions.Nonce{}, sessions.Client{}, time.Time{}, 0
	proven.BoundAt = now
	s.swapped(child, proven, true)
	got, _ = s.get(rec.Handle)
	s.same("proven", got.Row, proven)
	s.swapped(keyed, generated(keyed, now), false) // its IssuedAt is that of the row again
	s.endedIf(keyed, false)
	s.store.Advance(time.Hour / 2)
	if s.rotated(rec.Handle, rotation(proven)) {
		s.Error("a bound row was rotated")
	}
	withChild := generated(proven, now)
	if done, err := s.store.Swap(s.Context(), proven, withChild, sessions.R4); done || err == nil {
		s.Errorf("a bound row got a child: %v, %v", done, err)
	}
	keyless := proven
	keyless.BoundKey = sessions.BoundKey{}
	if done, err := s.store.Swap(s.Context(), proven, keyless, sessions.B4); done || err == nil {
		s.Errorf("a bound row lost its key: %v, %v", done, err)
	}
	got, _ = s.get(rec.Handle)
	s.same("unchanged", got.Row, proven)
	list, err := s.store.ListUser(s.Context(), "alice", 9)
	s.must(err)
	s.same("listed", list[0].Row, proven)
	s.endedIf(proven, true)
	s.gone(rec.Handle)
}

func (s *suite) endedIf(old sessions.Row, want bool) {
	s.Helper()
	if done, err := s.store.EndIf(s.Context(), old, revoked); done != want || err != nil {
		s.Errorf("ended %v, %v, want %v", done, err, want)
	}
}

// racingBoundKeys: of many keys for one row, one is written.
func racingBoundKeys(s *suite) {
	for range rounds {
		rec := s.create("alice")
		won := s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
			next := rec.Row
			next.BoundKey = sessions.BoundKey{2, byte(i)}
			return s.store.Swap(ctx, rec.Row, next, sessions.B1)
		})
		if got, _ := s.get(rec.Handle); won != 1 || got.BoundKey == (sessions.BoundKey{}) {
			s.Fatalf("%d keys were written", won)
		}
	}
}

// auditBound: the key, its first proof and what only is reported are events of the session, in order.
func auditBound(s *suite) {
	rec := s.create("alice")
	keyed := rec.Row
	keyed.BoundKey = someKey
	s.swapped(rec.Row, keyed, true)
	proven := keyed
	proven.BoundAt = rec.CreatedAt
	s.swapped(keyed, proven, true)
	report := sessions.AuditEvent{Kind: sessions.AuditUnproven, Handle: rec.Handle, UserID: "alice", Rule: sessions.B10, Actor: "refresh"}
	s.must(s.store.Report(s.Context(), report))
	slid := proven
	slid.ExpiresAt = slid.ExpiresAt.Add(time.Second)
	s.swapped(proven, slid, true)
	gone := report
	gone.Handle = sessions.NewHandle()
	s.must(s.store.Report(s.Context(), gone))
	var kinds []sessions.AuditKind
	for _, e := range s.happened(s.deliver(100)) {
		if e.Kind == sessions.AuditUnproven && e != report {
			s.Errorf("reported %+v, want %+v", e, report)
		}
		kinds = append(kinds, e.Kind)
	}
	s.same("events", kinds, []sessions.AuditKind{
		sessions.AuditCreated, sessions.AuditKeyRegistered, sessions.AuditBound, sessions.AuditUnproven, sessions.AuditRefreshed,
	})
}
