package sessionstest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
)

func randomHash() (hash sessions.TokenHash) {
	for i := range hash {
		hash[i] = byte(rand.Uint32())
	}
	return hash
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) newRecord(user string) sessions.NewRecord {
	return sessions.NewRecord{
		Handle: sessions.NewHandle(), UserID: user, Current: randomHash(), CurrentClient: sessions.Client{7}, Device: desk,
		Claims: []byte(`{}`), Data: []byte(`{}`), SlidingLife: slidingLife, AbsoluteLife: absoluteLife,
	}
}

// The devices of the tests: the network of an address, a whole address, and the longest User-Agent.
var (
	desk  = sessions.Device{Address: netip.MustParsePrefix("192.0.2.0/24"), UserAgent: "Browser/1.0 (a \"desk\"; 'ü')"}
	phone = sessions.Device{Address: netip.MustParsePrefix("2001:db8::7/128"), UserAgent: strings.Repeat("😀", sessions.UserAgentMax)}
)

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

// same compares everything. It compares times as [time.Time] == does, so that a zone or a part of a
// microsecond shows.
func (s *suite) same(what string, got, want any) {
	s.Helper()
	exactly := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() })
	if diff := cmp.Diff(want, got, exactly, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		s.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// generated is the row that R4 makes of old.
func generated(old sessions.Row, now time.Time) sessions.Row {
	next := old
	next.NextNonce, next.NextClient, next.IssuedAt = sessions.Nonce{9}, sessions.Client{8}, now
	next.Issues++
	next.Device = phone
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

func (s *suite) page(since sessions.Cursor) sessions.Page {
	s.Helper()
	page, err := ReadFeed(s.Context(), s.store, since)
	s.must(err)
	if page.Next == "" || page.Resync != (since == "") {
		s.Fatalf("from %q: next %q, full resync %v", since, page.Next, page.Resync)
	}
	return page
}

// told returns the entries since a cursor, without their times, sorted by handle. It does not wait:
// what a call reported is in the next poll.
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

func lost(h sessions.Handle, hash sessions.TokenHash) sessions.Entry {
	return sessions.Entry{Kind: sessions.EntryLost, Handle: h, TokenHash: hash}
}

// young makes entries stay young for the whole test.
func (s *suite) young() sessions.Cursor {
	s.Helper()
	s.must(s.store.RaiseFeedRetention(s.Context(), 1000*time.Hour))
	return s.page("").Next
}

const rounds = 8 // of a race

// race calls f from many goroutines at once, and counts how often f returned true.
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
