package sessionstest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
)

// Conformance checks what [sessions.Store] promises, one caller at a time and
// many at once: open gives a fresh, empty store for each test.
func Conformance(t *testing.T, open func(t *testing.T) ClockedStore) {
	t.Helper()
	for name, check := range map[string]func(*suite){
		"create and get":             createAndGet,
		"times":                      times,
		"not found":                  notFound,
		"handle taken":               handleTaken,
		"limit: evict":               limitEvicts,
		"limit: refuse":              limitRefuses,
		"limit: none of the others":  limitElse,
		"racing creations":           racingCreations,
		"json bytes":                 jsonBytes,
		"list user":                  listUser,
		"update":                     update,
		"swap":                       swap,
		"swap of something else":     swapElse,
		"expired until swept":        expiredUntilSwept,
		"promote":                    promote,
		"promote what is not theirs": promoteElse,
		"promote a batch":            promoteBatch,
		"end":                        end,
		"end if":                     endIf,
		"end user":                   endUser,
		"poll":                       pollFrom,
		"poll young entries":         pollYoung,
		"horizon":                    retention,
		"keys":                       keys,
		"rewrap key":                 rewrapKey,
		"delete keys":                deleteKeys,
		"racing rewraps":             racingRewraps,
		"racing deletes of keys":     racingDeletes,
		"sweep sessions":             sweepSessions,
		"sweep goes on":              sweepGoesOn,
		"sweep the feed":             sweepFeed,
		"cancelled":                  cancelled,
		"racing swaps":               racingSwaps,
		"racing ends":                racingEnds,
		"racing updates":             racingUpdates,
		"racing siblings":            racingSiblings,
		"racing swap and promotion":  racingSwapAndPromotion,
		"racing keys":                racingKeys,
		"racing horizons":            racingRetentions,
		"racing sweeps":              racingSweeps,
		"following the feed":         followingTheFeed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(&suite{T: t, store: open(t)})
		})
	}
}

// suite is one test of a store.
type suite struct {
	*testing.T

	store ClockedStore
}

const (
	slidingLife  = time.Hour
	absoluteLife = 24 * time.Hour
)

var (
	revoked  = sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "test"}
	theft    = sessions.Ending{Reason: sessions.ReasonTheft, Actor: "test"}
	atOnce   = 16 // callers of a race
	someHash = sessions.TokenHash{1}
)

func randomHash() (m sessions.TokenHash) {
	for i := range m {
		m[i] = byte(rand.Uint32())
	}
	return m
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) newRecord(user string) sessions.NewRecord {
	return sessions.NewRecord{
		Handle: sessions.NewHandle(), UserID: user, Current: randomHash(), CurrentClient: sessions.Client{7},
		Claims: []byte(`{}`), Data: []byte(`{}`), SlidingLife: slidingLife, AbsoluteLife: absoluteLife,
	}
}

func (s *suite) create(user string) sessions.Record {
	s.Helper()
	rec, err := s.store.Create(s.Context(), s.newRecord(user))
	s.must(err)
	return rec
}

func (s *suite) get(h sessions.Handle) (sessions.Record, time.Time) {
	s.Helper()
	rec, now, err := s.store.Get(s.Context(), h)
	s.must(err)
	return rec, now
}

func (s *suite) gone(h sessions.Handle) {
	s.Helper()
	if rec, _, err := s.store.Get(s.Context(), h); !errors.Is(err, sessions.ErrNotFound) {
		s.Fatalf("%v, %v; want ErrNotFound", rec, err)
	}
}

// same compares wholly; times as [time.Time] == does, so that a zone or a part of
// a microsecond shows.
func (s *suite) same(what string, got, want any) {
	s.Helper()
	exactly := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() })
	if diff := cmp.Diff(want, got, exactly); diff != "" {
		s.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// generated is what R4 makes of a row.
func generated(old sessions.Row, now time.Time) sessions.Row {
	next := old
	next.NextNonce, next.NextClient, next.IssuedAt = sessions.Nonce{9}, sessions.Client{8}, now
	next.Issues++
	next.ExpiresAt = now.Add(slidingLife)
	if next.ExpiresAt.After(next.AbsoluteExpiresAt) {
		next.ExpiresAt = next.AbsoluteExpiresAt
	}
	return next
}

// issueChild creates a session whose child was issued.
func (s *suite) issueChild(user string) sessions.Row {
	s.Helper()
	rec := s.create(user)
	next := generated(rec.Row, rec.CreatedAt)
	s.swapped(rec.Row, next, true)
	return next
}

func (s *suite) swapped(old, next sessions.Row, want bool) {
	s.Helper()
	if done, err := s.store.Swap(s.Context(), old, next, sessions.R4); err != nil || done != want {
		s.Fatalf("Swap: %v, %v; want %v", done, err, want)
	}
}

// ReadFeed reads the feed from since on to its end, as one page.
func ReadFeed(ctx context.Context, store sessions.Store, since sessions.Cursor) (sessions.Page, error) {
	page, err := store.Poll(ctx, since)
	for err == nil && page.More {
		var next sessions.Page
		if next, err = store.Poll(ctx, page.Next); next.Resync {
			err = errors.New("the reading began again in the middle")
		}
		page.Entries, page.Next, page.More = append(page.Entries, next.Entries...), next.Next, next.More
	}
	return page, err
}

func (s *suite) page(since sessions.Cursor) sessions.Page {
	s.Helper()
	page, err := ReadFeed(s.Context(), s.store, since)
	s.must(err)
	if page.Next == "" || page.Resync != (since == "") {
		s.Fatalf("from %q: next %q, again %v", since, page.Next, page.Resync)
	}
	return page
}

// told waits for nothing: what a call reported is in the next poll. It returns
// the entries since a cursor without their times, in no order.
func (s *suite) told(since sessions.Cursor) []sessions.Entry {
	s.Helper()
	entries := s.page(since).Entries
	for i := range entries {
		entries[i].At = time.Time{}
	}
	slices.SortFunc(entries, func(a, b sessions.Entry) int { return slices.Compare(a.Handle[:], b.Handle[:]) })
	return entries
}

func ended(h sessions.Handle, why sessions.Reason) sessions.Entry {
	return sessions.Entry{Kind: sessions.EntryEnded, Handle: h, Reason: why}
}

func lost(h sessions.Handle, m sessions.TokenHash) sessions.Entry {
	return sessions.Entry{Kind: sessions.EntryLost, Handle: h, TokenHash: m}
}

// young makes entries stay young for the whole test.
func (s *suite) young() sessions.Cursor {
	s.Helper()
	s.must(s.store.RaiseFeedRetention(s.Context(), 1000*time.Hour))
	return s.page("").Next
}

// race calls f from many goroutines at once and counts those that say true.
func (s *suite) race(n int, f func(ctx context.Context, i int) (bool, error)) int {
	s.Helper()
	var won atomic.Int64
	start := make(chan struct{})
	g, ctx := errgroup.WithContext(s.Context())
	for i := range n {
		g.Go(func() error {
			<-start
			done, err := f(ctx, i)
			if done {
				won.Add(1)
			}
			return err
		})
	}
	close(start)
	s.must(g.Wait())
	return int(won.Load())
}

func createAndGet(s *suite) {
	n := s.newRecord("alice")
	n.Claims, n.Data = []byte(`{"role":"admin"}`), []byte(`{"cart":[1,2]}`)
	rec, err := s.store.Create(s.Context(), n)
	s.must(err)
	s.same("created", rec, sessions.Record{
		Row: sessions.Row{
			Handle: n.Handle, UserID: "alice", Current: n.Current, CurrentClient: n.CurrentClient,
			PromotedAt: rec.CreatedAt, CreatedAt: rec.CreatedAt,
			ExpiresAt: rec.CreatedAt.Add(slidingLife), AbsoluteExpiresAt: rec.CreatedAt.Add(absoluteLife),
		},
		Claims: n.Claims, ClaimsVersion: 1, Data: n.Data,
	})
	got, now := s.get(n.Handle)
	s.same("read", got, rec)
	if now.Before(rec.CreatedAt) {
		s.Errorf("read at %s, before the creation at %s", now, rec.CreatedAt)
	}

	n = s.newRecord("bob")
	n.CurrentClient = sessions.Client{} // none was reported
	n.SlidingLife = 2 * absoluteLife    // no session slides past its absolute end
	rec, err = s.store.Create(s.Context(), n)
	s.must(err)
	if rec.ExpiresAt != rec.AbsoluteExpiresAt || rec.AbsoluteExpiresAt != rec.CreatedAt.Add(absoluteLife) {
		s.Errorf("expires at %s and at %s", rec.ExpiresAt, rec.AbsoluteExpiresAt)
	}
	got, _ = s.get(n.Handle)
	s.same("read", got, rec)
}

// times: of the store, in UTC and whole microseconds.
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
	if gone, err := s.store.EndUser(s.Context(), "nobody", revoked); len(gone) > 0 || err != nil {
		s.Errorf("EndUser: %v, %v", gone, err)
	}
	if list, err := s.store.ListUser(s.Context(), "nobody", 10); len(list) > 0 || err != nil {
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
	}
	s.store.Advance(slidingLife - 3*time.Second) // the oldest has expired, the others not yet
	got, err := s.store.ListUser(s.Context(), "alice", 100)
	s.must(err)
	s.same("the living", got, want[:2])
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

// Of many updates at once each gets a version of its own, and the feed tells of each.
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
	s.swapped(first, second, true)
	got, _ = s.get(rec.Handle)
	rec.Row = second
	s.same("promoted", got, rec)
}

// swapElse: what was read is not what is there.
func swapElse(s *suite) {
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

func promoteElse(s *suite) {
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
	// A place in the feed brings what is behind it, however old.
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

func storedKey(kind sessions.KeyKind, generation int) sessions.StoredKey {
	m := randomHash()
	return sessions.StoredKey{
		Kind: kind, Generation: generation, ID: sessions.KeyID(m[:8]), Wrapped: m[8:20], WrappedBy: sessions.KeyID(m[20:28]),
	}
}

// stored is all keys.
func (s *suite) stored() []sessions.StoredKey {
	s.Helper()
	set, err := s.store.Keys(s.Context())
	s.must(err)
	return set.Keys
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
		s.Errorf("read at %s, with horizon %s", set.Now, set.FeedRetention)
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
		s.Errorf("told of %d changes that were none", n-entries)
	}
}

func (s *suite) addKey(k sessions.StoredKey, delay time.Duration) {
	s.Helper()
	if done, err := s.store.AddKey(s.Context(), k, delay); !done || err != nil {
		s.Fatalf("adding a key: %v, %v", done, err)
	}
}

// rewrapped is k, wrapped otherwise.
func rewrapped(k sessions.StoredKey) sessions.StoredKey {
	other := storedKey(k.Kind, k.Generation)
	k.Wrapped, k.WrappedBy = other.Wrapped, other.WrappedBy
	return k
}

func rewrapKey(s *suite) {
	s.addKey(storedKey(sessions.KeySigning, 1), 0)
	s.addKey(storedKey(sessions.KeySealing, 1), time.Minute)
	s.addKey(storedKey("another", 1), 0) // of a version to come
	before := s.stored()
	want := slices.Clone(before)
	for i, old := range before {
		since := s.young()
		want[i] = rewrapped(old)
		next := want[i] // the rest of it must not matter
		next.Generation, next.ActiveFrom, next.ID, next.Kind = 9, next.ActiveFrom.Add(time.Hour), sessions.KeyID{1}, "x"
		if done, err := s.store.RewrapKey(s.Context(), old, next); !done || err != nil {
			s.Fatalf("%v, %v", done, err)
		}
		s.same("keys", s.stored(), want)
		s.same("told", slices.Compact(s.told(since)), []sessions.Entry{{Kind: sessions.EntryKeys}})
	}
	entries := len(s.page("").Entries)
	for _, old := range before { // rewrapped since; and one that is not there
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
		s.Errorf("told of %d changes that were none", n-entries)
	}
}

// deleteKeys: a key goes when a later one has been active for long enough, and
// the newest stays however old it is.
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
		s.Errorf("told of %d changes that were none", n-entries)
	}
}

func (s *suite) sweep(limit int) int {
	s.Helper()
	n, err := s.store.Sweep(s.Context(), limit)
	s.must(err)
	return n
}

// sweepSessions: by both ways to expire, and nobody else.
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

// sweepGoesOn: a call is bounded, and calls reach every row, also behind many
// that live.
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
		// the feed retention is 0, so that the entries of these ends are old at once;
		// they are none of the next round's.
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

const rounds = 8 // of a race

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

// racingSiblings: I1. All losers are told of, and no winner.
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
		for _, m := range hashes {
			if told[m] != (m != got.Current) {
				s.Fatalf("told that a mark lost: %v, where it won: %v", told[m], m == got.Current)
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
		// Whichever order: the promotion stands, and a lost swap left no trace.
		if got.Current != child || got.Issues != 0 || !got.IssuedAt.IsZero() {
			s.Fatalf("swapped %v, and the promotion is gone: %+v", swapped.Load(), got.Row)
		}
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

// racingRewraps: of many that rewrap one key, one does.
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

// racingDeletes: each key is deleted once, and no two told of it.
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

func racingRetentions(s *suite) {
	s.race(atOnce, func(ctx context.Context, i int) (bool, error) {
		return true, s.store.RaiseFeedRetention(ctx, time.Duration(i+1)*time.Hour)
	})
	if got := s.page("").Retention; got != time.Duration(atOnce)*time.Hour {
		s.Errorf("the feed retention is %s", got)
	}
}

// racingSweeps: each row is counted once, and nobody waits for a deadlock.
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

// followingTheFeed: whoever polls from cursor to cursor hears of every end, once,
// while many end, whatever order their transactions commit in.
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
