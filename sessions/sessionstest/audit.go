package sessionstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
)

// Audit checks what [sessions.Store] promises of audit events. open gives a fresh, empty store that
// writes all of them.
func Audit(t *testing.T, open func(t *testing.T) ClockedStore) {
	t.Helper()
	for name, check := range map[string]func(*suite){
		"of each change":     auditEach,
		"of no change":       auditNone,
		"of a device's key":  auditBound,
		"in batches":         auditBatches,
		"not taken":          auditNotTaken,
		"one at a time":      auditOneAtATime,
		"swept":              auditSwept,
		"racing writers":     auditRacing,
		"a cancelled caller": auditCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(&suite{T: t, store: open(t)})
		})
	}
}

// deliver takes one batch.
func (s *suite) deliver(limit int) []sessions.AuditEvent {
	s.Helper()
	var got []sessions.AuditEvent
	n, err := s.store.DeliverAudit(s.Context(), limit, func(events []sessions.AuditEvent) error {
		got = slices.Clone(events)
		return nil
	})
	s.must(err)
	if n != len(got) {
		s.Fatalf("says %d, and delivered %d", n, len(got))
	}
	return got
}

// happened is the events of a batch without IDs and times. It checks that those grow.
func (s *suite) happened(events []sessions.AuditEvent) []sessions.AuditEvent {
	s.Helper()
	var last sessions.AuditEvent
	var bare []sessions.AuditEvent
	for _, e := range events {
		if e.ID <= last.ID || e.At.Before(last.At) || e.At.Location() != time.UTC {
			s.Errorf("event %d of %s after event %d of %s", e.ID, e.At, last.ID, last.At)
		}
		last = e
		e.ID, e.At = 0, time.Time{}
		bare = append(bare, e)
	}
	return bare
}

func auditEach(s *suite) {
	s.store.Advance(time.Hour)
	n := s.newRecord("alice")
	n.Actor = "shop"
	rec, err := s.store.Create(s.Context(), n)
	s.must(err)
	h := rec.Handle
	if done, err := s.store.Swap(s.Context(), rec.Row, generated(rec.Row, rec.CreatedAt), sessions.R5); err != nil || !done {
		s.Fatalf("Swap: %v, %v", done, err)
	}
	object := []byte(`{}`)
	for _, c := range []sessions.Attributes{{Claims: object, Actor: "one"}, {Data: object, Actor: "two"}, {Claims: object, Data: object, Actor: "both"}} {
		_, err = s.store.Update(s.Context(), h, c)
		s.must(err)
	}
	row, _ := s.get(h)
	why := sessions.Ending{Reason: sessions.ReasonTheft, Actor: "refresh", Rule: sessions.R8}
	if done, err := s.store.EndIf(s.Context(), row.Row, why); err != nil || !done {
		s.Fatalf("EndIf: %v, %v", done, err)
	}
	second, third := s.create("bob").Handle, s.create("carol").Handle
	_, err = s.store.End(s.Context(), second, sessions.Ending{Reason: sessions.ReasonSignedOut, Actor: "sign-out"})
	s.must(err)
	_, err = s.store.EndUser(s.Context(), "carol", revoked)
	s.must(err)
	key := storedKey(sessions.KeySealing, 7)
	_, err = s.store.AddKey(s.Context(), key, time.Minute)
	s.must(err)
	if done, err := s.store.RewrapKey(s.Context(), key, sessions.StoredKey{Wrapped: []byte("again")}); err != nil || !done {
		s.Fatalf("RewrapKey: %v, %v", done, err)
	}
	successor := storedKey(sessions.KeySealing, 8)
	_, err = s.store.AddKey(s.Context(), successor, 0)
	s.must(err)
	s.store.Advance(time.Minute)
	if gone, err := s.store.DeleteKeys(s.Context(), sessions.KeySealing, 0); err != nil || len(gone) != 1 {
		s.Fatalf("DeleteKeys: %v, %v", gone, err)
	}

	events := s.deliver(100)
	if now := s.page("").Now; len(events) == 0 || events[0].At.Before(rec.CreatedAt) || events[0].At.After(now) {
		s.Errorf("created at %s, between %s and %s: %v", rec.CreatedAt, rec.CreatedAt, now, events)
	}
	alice := func(kind sessions.AuditKind, actor string) sessions.AuditEvent {
		return sessions.AuditEvent{Kind: kind, Handle: h, UserID: "alice", Actor: actor}
	}
	refreshed, stolen := alice(sessions.AuditRefreshed, "refresh"), alice(sessions.AuditEnded, "refresh")
	refreshed.Rule, stolen.Rule, stolen.Reason = sessions.R5, sessions.R8, sessions.ReasonTheft
	got := s.happened(events)
	if both := got[min(4, len(got)):min(6, len(got))]; len(both) == 2 { // of one statement: in either order
		slices.SortFunc(both, func(a, b sessions.AuditEvent) int { return cmp.Compare(a.Kind, b.Kind) })
	}
	s.same("happened", got, []sessions.AuditEvent{
		alice(sessions.AuditCreated, "shop"),
		refreshed,
		alice(sessions.AuditClaimsChanged, "one"),
		alice(sessions.AuditDataChanged, "two"),
		alice(sessions.AuditClaimsChanged, "both"),
		alice(sessions.AuditDataChanged, "both"),
		stolen,
		{Kind: sessions.AuditCreated, Handle: second, UserID: "bob"},
		{Kind: sessions.AuditCreated, Handle: third, UserID: "carol"},
		{Kind: sessions.AuditEnded, Handle: second, UserID: "bob", Reason: sessions.ReasonSignedOut, Actor: "sign-out"},
		{Kind: sessions.AuditEnded, Handle: third, UserID: "carol", Reason: revoked.Reason, Actor: revoked.Actor},
		{Kind: sessions.AuditKeyAdded, Key: "sealing/7/" + key.ID.String()},
		{Kind: sessions.AuditKeyRewrapped, Key: "sealing/7/" + key.ID.String()},
		{Kind: sessions.AuditKeyAdded, Key: "sealing/8/" + successor.ID.String()},
		{Kind: sessions.AuditKeyDeleted, Key: "sealing/7/" + key.ID.String()},
	})
	if again := s.deliver(100); len(again) > 0 {
		s.Errorf("delivered again: %v", again)
	}
}

// auditNone: what changes nothing is no event, and what time alone decides is none.
func auditNone(s *suite) {
	row := s.issueChild("alice")
	s.create("idle")
	key := storedKey(sessions.KeySigning, 1)
	_, err := s.store.AddKey(s.Context(), key, 0)
	s.must(err)
	s.deliver(100)

	old := row
	old.IssuedAt = old.IssuedAt.Add(time.Second)
	s.swapped(old, generated(old, row.IssuedAt), false)
	_, err = s.store.EndIf(s.Context(), old, theft)
	s.must(err)
	_, err = s.store.End(s.Context(), sessions.NewHandle(), revoked)
	s.must(err)
	_, err = s.store.EndUser(s.Context(), "unknown", revoked)
	s.must(err)
	_, err = s.store.Update(s.Context(), row.Handle, sessions.Attributes{Actor: "nothing given"})
	s.must(err)
	if _, err := s.store.Update(s.Context(), sessions.NewHandle(), sessions.Attributes{Data: []byte(`{}`)}); !errors.Is(err, sessions.ErrNotFound) {
		s.Error(err)
	}
	taken := s.newRecord("mallory")
	taken.Handle = row.Handle
	if _, err := s.store.Create(s.Context(), taken); err == nil {
		s.Error("created twice")
	}
	_, err = s.store.AddKey(s.Context(), storedKey(sessions.KeySigning, 1), 0)
	s.must(err)
	other := key
	other.Wrapped = []byte("another")
	_, err = s.store.RewrapKey(s.Context(), other, key)
	s.must(err)
	_, err = s.store.DeleteKeys(s.Context(), sessions.KeySigning, 0)
	s.must(err)
	s.must(s.store.Promote(s.Context(), []sessions.Promotion{{Handle: row.Handle, Parent: row.Current, Own: randomHash()}}))
	s.store.Advance(slidingLife)
	s.sweep(100)
	if events := s.deliver(100); len(events) > 0 {
		s.Errorf("%v", events)
	}
}

func auditBatches(s *suite) {
	var want []sessions.Handle
	for range 7 {
		want = append(want, s.create("alice").Handle)
	}
	var got []sessions.Handle
	for _, size := range []int{3, 3, 1, 0, 0} {
		events := s.deliver(3)
		if len(events) != size {
			s.Fatalf("a batch of %d, want %d", len(events), size)
		}
		for _, e := range events {
			got = append(got, e.Handle)
		}
	}
	s.same("delivered", got, want)
}

func auditNotTaken(s *suite) {
	for range 5 {
		s.create("alice")
	}
	full := errors.New("the disk is full")
	var first []sessions.AuditEvent
	n, err := s.store.DeliverAudit(s.Context(), 3, func(events []sessions.AuditEvent) error {
		first = slices.Clone(events)
		return full
	})
	if n != 0 || !errors.Is(err, full) {
		s.Fatalf("%d, %v", n, err)
	}
	s.same("the same again", s.deliver(3), first)
	if rest := s.deliver(3); len(rest) != 2 || rest[0].ID <= first[2].ID {
		s.Errorf("then %v", rest)
	}
}

// auditOneAtATime: one caller delivers at a time, and a slow delivery keeps no change waiting.
func auditOneAtATime(s *suite) {
	rec := s.create("alice")
	inside, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		n, err := s.store.DeliverAudit(s.Context(), 10, func([]sessions.AuditEvent) error {
			close(inside)
			<-release
			return nil
		})
		if err == nil && n != 1 {
			err = fmt.Errorf("%d were delivered", n)
		}
		done <- err
	}()
	select {
	case <-inside:
	case err := <-done:
		s.Fatal(err)
	}
	for range 3 {
		if events := s.deliver(10); len(events) > 0 {
			s.Errorf("delivered beside another: %v", events)
		}
	}
	s.swapped(rec.Row, generated(rec.Row, rec.CreatedAt), true)
	_, err := s.store.EndUser(s.Context(), "alice", revoked)
	s.must(err)
	close(release)
	s.must(<-done)
	if events := s.deliver(10); len(events) != 2 {
		s.Errorf("afterwards %v", events)
	}
}

func auditSwept(s *suite) {
	s.create("alice")
	s.store.Advance(90*24*time.Hour - time.Minute)
	young := s.create("alice").Handle
	s.store.Advance(2 * time.Minute)
	for n := 1; n > 0; {
		n = s.sweep(1)
	}
	if events := s.deliver(10); len(events) != 1 || events[0].Handle != young {
		s.Errorf("%v", events)
	}
}

func auditCancelled(s *suite) {
	s.create("alice")
	ctx, cancel := context.WithCancel(s.Context())
	n, err := s.store.DeliverAudit(ctx, 10, func([]sessions.AuditEvent) error {
		cancel() // as when the process is stopped, or its time is up
		return nil
	})
	if err == nil && n != 1 || err != nil && n != 0 {
		s.Errorf("%d, %v", n, err)
	}
	// After an error the outcome is unknown: the removal may have been committed.
	if events := s.deliver(10); err == nil && len(events) != 0 || len(events) > 1 {
		s.Errorf("said %d, and %v were left", n, events)
	}
}

// written is what the racing writers know of one session.
type written struct {
	user    string
	swaps   int
	changes map[string]change // by actor
	ended   string            // the actor
}

// change saw the session's row after so many swaps, and got a version.
type change struct {
	swaps   int
	version int64
	data    bool
}

// auditRacing: each change is reported, in the order in which the session went through it, whatever
// writers do at once and however often a delivering caller dies before the store knows. The order
// is known from outside: a swap raises the count of issues, and a change of the attributes reads
// that count.
func auditRacing(s *suite) {
	const users, each, writers, steps = 3, 2, 6, 40
	var mu sync.Mutex
	known := map[sessions.Handle]*written{}
	var handles []sessions.Handle
	for i := range users * each {
		user := "user" + strconv.Itoa(i%users)
		h := s.create(user).Handle
		handles = append(handles, h)
		known[h] = &written{user: user, changes: map[string]change{}}
	}

	var inside atomic.Int32
	var told []sessions.AuditEvent
	deliver := func(ctx context.Context, limit int, dies bool) (int, error) {
		n, err := s.store.DeliverAudit(ctx, limit, func(events []sessions.AuditEvent) error {
			if inside.Add(1) != 1 {
				s.Error("two deliver at once")
			}
			defer inside.Add(-1)
			mu.Lock()
			told = append(told, events...)
			mu.Unlock()
			if dies {
				return context.Canceled
			}
			return nil
		})
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return n, err
	}
	var deliverers errgroup.Group
	ended := make(chan struct{})
	for range 3 {
		deliverers.Go(func() error {
			for {
				if _, err := deliver(s.Context(), 1+rand.IntN(9), rand.IntN(3) == 0); err != nil {
					return err
				}
				select {
				case <-ended:
					return nil
				default:
				}
			}
		})
	}

	step := func(ctx context.Context, h sessions.Handle, actor string, mayEnd bool) error {
		rec, now, err := s.store.Get(ctx, h)
		if errors.Is(err, sessions.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		why := sessions.Ending{Reason: sessions.ReasonRevoked, Actor: actor}
		ended := func(h sessions.Handle) {
			mu.Lock()
			defer mu.Unlock()
			known[h].ended = actor
		}
		switch what := rand.IntN(20); {
		case what < 9:
			if !now.After(rec.IssuedAt) {
				now = rec.IssuedAt.Add(time.Microsecond)
			}
			next := generated(rec.Row, now)
			done, err := s.store.Swap(ctx, rec.Row, next, sessions.Rule(strconv.Itoa(next.Issues)))
			mu.Lock()
			defer mu.Unlock()
			if done {
				known[h].swaps++
			}
			return err
		case what < 17 || !mayEnd:
			c := sessions.Attributes{Claims: []byte(`{}`), Actor: actor}
			if what%2 == 0 {
				c = sessions.Attributes{Data: []byte(`{}`), Actor: actor}
			}
			got, err := s.store.Update(ctx, h, c)
			if errors.Is(err, sessions.ErrNotFound) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			known[h].changes[actor] = change{got.Issues, got.ClaimsVersion, c.Data != nil}
			return err
		case what == 17:
			done, err := s.store.End(ctx, h, why)
			if done {
				ended(h)
			}
			return err
		case what == 18:
			done, err := s.store.EndIf(ctx, rec.Row, why)
			if done {
				ended(h)
			}
			return err
		default:
			gone, err := s.store.EndUser(ctx, rec.UserID, why)
			for _, h := range gone {
				ended(h)
			}
			return err
		}
	}
	s.race(writers, func(ctx context.Context, i int) (bool, error) {
		for n := range steps {
			h := handles[rand.IntN(len(handles))]
			if err := step(ctx, h, fmt.Sprintf("writer%d/%d", i, n), n > steps/2); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	close(ended)
	s.must(deliverers.Wait())
	for n := 1; n > 0; {
		var err error
		n, err = deliver(s.Context(), 10, false)
		s.must(err)
	}
	s.checkTold(told, known)
}

func (s *suite) checkTold(told []sessions.AuditEvent, known map[sessions.Handle]*written) {
	s.Helper()
	seen := map[int64]sessions.AuditEvent{}
	sequences := map[sessions.Handle][]sessions.AuditEvent{}
	for _, e := range told {
		if before, again := seen[e.ID]; again {
			s.same("told again", e, before)
			continue
		}
		seen[e.ID] = e
		sequence := sequences[e.Handle]
		if len(sequence) > 0 && sequence[len(sequence)-1].ID >= e.ID {
			s.Errorf("event %d was told after event %d of its session", e.ID, sequence[len(sequence)-1].ID)
		}
		sequences[e.Handle] = append(sequence, e)
	}
	if len(sequences) != len(known) {
		s.Errorf("told of %d sessions, there were %d", len(sequences), len(known))
	}
	for h, l := range known {
		swaps, version, changes, ended := 0, int64(1), 0, ""
		for i, e := range sequences[h] {
			if (i == 0) != (e.Kind == sessions.AuditCreated) || ended != "" || e.UserID != l.user {
				s.Errorf("%s of %s as event %d of a session of %s, ended by %q", e.Kind, e.UserID, i, l.user, ended)
			}
			switch e.Kind {
			case sessions.AuditCreated:
			case sessions.AuditRefreshed:
				if swaps++; e.Rule != sessions.Rule(strconv.Itoa(swaps)) {
					s.Errorf("issue %s was reported at position %d", e.Rule, swaps)
				}
			case sessions.AuditEnded:
				ended = e.Actor
			case sessions.AuditClaimsChanged, sessions.AuditDataChanged:
				changes++
				c, found := l.changes[e.Actor]
				if e.Kind == sessions.AuditClaimsChanged {
					version++
				}
				if !found || c.swaps != swaps || c.version != version || c.data != (e.Kind == sessions.AuditDataChanged) {
					s.Errorf("%s by %s was told after %d swaps with version %d; it was (%v) %+v", e.Kind, e.Actor, swaps, version, found, c)
				}
			default:
				s.Errorf("told %v", e)
			}
		}
		if swaps != l.swaps || changes != len(l.changes) || ended != l.ended {
			s.Errorf("told of %d swaps, %d changes and the end by %q; there were %d, %d, %q", swaps, changes, ended, l.swaps, len(l.changes), l.ended)
		}
	}
}
