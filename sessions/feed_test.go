package sessions

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// pages is a store that answers polls by a script.
type pages struct {
	Store

	sinces []Cursor
	answer func(since Cursor) (Page, error)
}

func (p *pages) Poll(_ context.Context, since Cursor) (Page, error) {
	p.sinces = append(p.sinces, since)
	return p.answer(since)
}

type feedBench struct {
	*testing.T
	feed

	store  pages
	loads  int
	loaded error
}

func newFeedBench(t *testing.T) *feedBench {
	t.Helper()
	b := &feedBench{T: t}
	b.init(func() time.Time { return testEpoch })
	return b
}

func (b *feedBench) turn(answer func(Cursor) (Page, error)) error {
	b.Helper()
	return b.turnFor(b.Context(), answer)
}

func (b *feedBench) turnFor(ctx context.Context, answer func(Cursor) (Page, error)) error {
	b.Helper()
	b.store.answer = answer
	return b.poll(ctx, &b.store, func(context.Context) error { b.loads++; return b.loaded }, time.Minute)
}

// read is a poll that brings entries. The first is again, as of every store.
func (b *feedBench) read(next Cursor, entries ...Entry) {
	b.Helper()
	err := b.turn(func(since Cursor) (Page, error) {
		return Page{Entries: entries, Next: next, Resync: since == "", Now: testEpoch.Add(time.Hour), Retention: time.Hour}, nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func (b *feedBench) says(name string, a *Access, want *Denial) {
	b.Helper()
	if d := b.set.deny(a); d != want {
		b.Errorf("%s: %v, want %v", name, d, want)
	}
}

var (
	one, two    = Handle{1}, Handle{2}
	lostHash    = TokenHash{1, 2}
	livingHash  = TokenHash{1, 3}
	endedOne    = Entry{Kind: EntryEnded, Handle: one, Reason: ReasonTheft, At: testEpoch.Add(time.Hour)}
	lostSibling = Entry{Kind: EntryLost, Handle: two, TokenHash: lostHash, At: testEpoch.Add(time.Hour)}
	claimsOfTwo = Entry{Kind: EntryClaims, Handle: two, Version: 3, At: testEpoch.Add(time.Hour)}
	keysChanged = Entry{Kind: EntryKeys, At: testEpoch.Add(time.Hour)}
)

// TestFeedDenies is V2, V3 and V5.
func TestFeedDenies(t *testing.T) {
	b := newFeedBench(t)
	b.says("an empty feed", &Access{Handle: one, lineage: lineage{own: lostHash}}, nil)
	b.read("1", endedOne, lostSibling, claimsOfTwo)
	b.says("V2", &Access{Handle: one, lineage: lineage{own: livingHash}, version: 9}, DenyEnded)
	b.says("V3 a lost token hash", &Access{Handle: two, lineage: lineage{own: lostHash}, version: 3}, DenyLost)
	b.says("V3 an older version", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 2}, DenyVersion)
	b.says("V5 the version", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 3}, nil)
	b.says("V5 a newer version", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 4}, nil)
	b.says("V5 another session", &Access{Handle: Handle{1, 1}, lineage: lineage{own: livingHash}, version: 1}, nil)
	older := claimsOfTwo
	older.Version = 2
	b.read("2", older) // polls overlap: an entry may come again, or late
	b.says("versions never fall", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 2}, DenyVersion)
}

func TestFeedPollsFromTheCursor(t *testing.T) {
	b := newFeedBench(t)
	b.read("7")
	b.read("7")
	b.read("9")
	b.read("9")
	if got, want := b.store.sinces, []Cursor{"", "7", "7", "9"}; !slices.Equal(got, want) {
		t.Errorf("polled from %v, want %v", got, want)
	}
	if b.loads != 1 {
		t.Errorf("keys were read %d times, want once", b.loads)
	}
	b.read("10", keysChanged)
	if b.loads != 2 {
		t.Errorf("keys changed, and were read %d times", b.loads)
	}
}

// After a failed poll the next one goes on where the last one ended: an outage costs no
// more than what happened meanwhile, just when the store comes back.
func TestFeedAfterAFailedPoll(t *testing.T) {
	b := newFeedBench(t)
	b.read("7", endedOne, lostSibling, claimsOfTwo)
	before := b.clock.reading.Load()
	failure := errors.New("no route to host")
	if err := b.turn(func(Cursor) (Page, error) { return Page{}, failure }); !errors.Is(err, failure) {
		t.Fatalf("error %v", err)
	}
	b.says("ended, after the failure", &Access{Handle: one}, DenyEnded)
	b.says("lost, after the failure", &Access{Handle: two, lineage: lineage{own: lostHash}, version: 3}, DenyLost)
	if b.clock.reading.Load() != before {
		t.Error("a failed poll made the feed look fresh")
	}
	b.read("8")
	if got, want := b.store.sinces, []Cursor{"", "7", "7"}; !slices.Equal(got, want) {
		t.Errorf("polled from %v, want %v", got, want)
	}
	b.says("ended", &Access{Handle: one}, DenyEnded)
	b.says("lost", &Access{Handle: two, lineage: lineage{own: lostHash}, version: 3}, DenyLost)
	if b.loads != 1 {
		t.Errorf("keys were read %d times, want once", b.loads)
	}
}

// A poll of many pages is one poll. What it brought before it failed counts, and the next poll
// continues there. It is finished, and counts as fresh, only after its last page.
func TestFeedInPages(t *testing.T) {
	b := newFeedBench(t)
	failure := errors.New("no route to host")
	pages := map[Cursor]Page{
		"":  {Entries: []Entry{endedOne}, Next: "1", Resync: true, More: true},
		"1": {Entries: []Entry{lostSibling}, Next: "2", More: true},
		"2": {Entries: []Entry{claimsOfTwo}, Next: "3"}, // up to what was there when "" was read
		"3": {Entries: []Entry{{Kind: EntryEnded, Handle: Handle{4}}}, Next: "4"},
	}
	failing := true
	script := func(since Cursor) (Page, error) {
		if since == "2" && failing {
			return Page{}, failure
		}
		page := pages[since]
		page.Now, page.Retention = testEpoch.Add(time.Hour), time.Hour
		return page, nil
	}
	if err := b.turn(script); !errors.Is(err, failure) {
		t.Fatalf("error %v", err)
	}
	b.says("ended, in the middle", &Access{Handle: one}, DenyEnded)
	if b.clock.reading.Load() != nil || b.loads != 0 {
		t.Errorf("a poll counts as finished before its last page; keys read %d times", b.loads)
	}
	failing = false
	if err := b.turn(script); err != nil {
		t.Fatal(err)
	}
	if got, want := b.store.sinces, []Cursor{"", "1", "2", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("polled from %v, want %v", got, want)
	}
	b.says("ended since the reading began", &Access{Handle: Handle{4}}, DenyEnded)
	b.says("lost, of an earlier page", &Access{Handle: two, lineage: lineage{own: lostHash}, version: 3}, DenyLost)
	b.says("version", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 2}, DenyVersion)
	if b.loads != 1 {
		t.Errorf("keys were read %d times, want once", b.loads)
	}
}

// A caller that goes away says nothing about the store: otherwise clients that
// hang up could keep every poll reading everything.
func TestFeedPollWhoseCallerLeft(t *testing.T) {
	b := newFeedBench(t)
	b.read("7")
	ctx, leave := context.WithCancel(t.Context())
	err := b.turnFor(ctx, func(Cursor) (Page, error) {
		leave()
		return Page{}, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b.read("8")
	if got := b.store.sinces[len(b.store.sinces)-1]; got != "7" {
		t.Errorf("the next poll reads from %q, want 7", got)
	}
}

// While one caller polls, the others wait no longer than their context allows. A caller that gets
// its turn after a poll that began later needs no poll.
func TestFeedPollsOneAtATime(t *testing.T) {
	b := newFeedBench(t)
	var now atomic.Int64
	b.clock.local = func() time.Time { return testEpoch.Add(time.Duration(now.Add(1))) }
	b.polling <- struct{}{} // another caller polls
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := b.turnFor(gone, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	asked := now.Load()
	go func() { waiting <- b.turnFor(t.Context(), nil) }() // would panic if it read
	for now.Load() == asked {
		runtime.Gosched()
	}
	b.clock.set(testEpoch, testEpoch.Add(time.Hour)) // that poll began after it asked
	<-b.polling
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// The store was restored, or failed over and lost its last writes. What it took back must not deny
// for good, but a session that was ended stays ended. Until the full resync has finished, what was
// known keeps denying.
func TestFeedOfAnotherStore(t *testing.T) {
	b := newFeedBench(t)
	older := claimsOfTwo
	older.Version = 2
	b.read("100", endedOne, lostSibling, claimsOfTwo)
	err := b.turn(func(since Cursor) (Page, error) {
		p := Page{Next: "40", Resync: true, More: true, Now: testEpoch.Add(time.Hour), Retention: time.Hour}
		if since == "40" {
			b.says("lost, in the middle", &Access{Handle: Handle{3}, lineage: lineage{own: lostHash}}, DenyLost)
			b.says("version, in the middle", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 2}, DenyVersion)
			p.Resync, p.More, p.Next = false, false, "41"
			return p, nil
		}
		p.Entries = []Entry{{Kind: EntryEnded, Handle: Handle{4}, At: p.Now}, older}
		return p, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.loads != 2 {
		t.Errorf("keys were read %d times, want twice", b.loads)
	}
	b.says("ended stays ended", &Access{Handle: one}, DenyEnded)
	b.says("what the other store holds", &Access{Handle: Handle{4}}, DenyEnded)
	b.says("no longer lost", &Access{Handle: Handle{3}, lineage: lineage{own: lostHash}}, nil)
	b.says("the version that is there now", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 2}, nil)
	b.says("an older version", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 1}, DenyVersion)
	b.read("42")
	if got := b.store.sinces[3]; got != "41" {
		t.Errorf("then polled from %q", got)
	}
}

// Keys that cannot be read must not keep sign-outs from being heard.
func TestFeedAppliesEntriesWithoutKeys(t *testing.T) {
	b := newFeedBench(t)
	b.read("1")
	b.loaded = errors.New("wrapped under another key")
	err := b.turn(func(Cursor) (Page, error) {
		return Page{Entries: []Entry{keysChanged, endedOne}, Next: "2", Now: testEpoch.Add(time.Hour), Retention: time.Hour}, nil
	})
	if !errors.Is(err, b.loaded) {
		t.Fatalf("error %v", err)
	}
	b.says("ended", &Access{Handle: one}, DenyEnded)
	b.loaded = nil
	b.read("2")
	if b.loads != 3 {
		t.Errorf("keys read %d times: those that were not read are due", b.loads)
	}
	b.read("3")
	if b.loads != 3 {
		t.Errorf("keys read %d times: they did not change", b.loads)
	}
}

func TestFeedPrunesWhatIsBeyondRetention(t *testing.T) {
	b := newFeedBench(t)
	b.read("1", endedOne, lostSibling, claimsOfTwo)
	local := testEpoch
	b.clock.local = func() time.Time { return local }
	for _, tc := range []struct {
		later time.Duration
		ended *Denial
		lost  *Denial
		old   *Denial
	}{
		{time.Hour, DenyEnded, DenyLost, DenyVersion}, // exactly as old as the feed retention
		{time.Hour + tick, nil, nil, nil},
	} {
		local = testEpoch.Add(tc.later)
		b.prune()
		b.says("ended", &Access{Handle: one}, tc.ended)
		b.says("lost", &Access{Handle: Handle{3}, lineage: lineage{own: lostHash}}, tc.lost)
		b.says("version", &Access{Handle: two, lineage: lineage{own: livingHash}, version: 2}, tc.old)
	}
}

// The store's clock is carried by the local one, and reads as old as the poll
// that brought it began.
func TestClock(t *testing.T) {
	local := testEpoch
	c := clock{local: func() time.Time { return local }}
	if c.age() < 100*365*24*time.Hour {
		t.Errorf("an unread clock is %s old", c.age())
	}
	store := testEpoch.Add(-time.Hour) // whatever the local clock shows
	c.set(store, local)
	local = local.Add(time.Minute)
	if !c.now().Equal(store.Add(time.Minute)) || c.age() != time.Minute {
		t.Errorf("now %v, %s old", c.now(), c.age())
	}
}

// The latest time that was ever shown stays so until the clock has caught up with it.
func TestClockSetBack(t *testing.T) {
	local := testEpoch
	c := clock{local: func() time.Time { return local }}
	latest := func(what string, want time.Duration) {
		t.Helper()
		if got := c.latest().Sub(testEpoch); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	c.set(testEpoch.Add(time.Hour), local)
	latest("at first", time.Hour)
	local = local.Add(time.Minute)
	latest("a minute later", time.Hour+time.Minute)
	c.set(testEpoch, local)
	latest("set back", time.Hour+time.Minute)
	local = local.Add(time.Minute)
	latest("a minute after it", time.Hour+time.Minute)
	c.set(testEpoch.Add(time.Minute), local)
	latest("read again", time.Hour+time.Minute)
	local = local.Add(2 * time.Hour)
	latest("caught up", 2*time.Hour+time.Minute)
}

// A feed that is read again replaces what is held. No Check may fall in between,
// see nothing, and allow what lost.
func TestFeedResyncHasNoGap(t *testing.T) {
	b := newFeedBench(t)
	var entries []Entry
	for i := range 2000 {
		entries = append(entries, Entry{Kind: EntryLost, TokenHash: TokenHash{byte(i), byte(i >> 8)}, At: testEpoch})
	}
	last := entries[len(entries)-1]
	b.read("1", entries...)
	done := make(chan error, 1)
	go func() {
		var err error
		for range 200 {
			err = errors.Join(err, b.turn(func(Cursor) (Page, error) {
				return Page{Entries: entries, Next: "1", Resync: true, Now: testEpoch, Retention: time.Hour}, nil
			}))
		}
		done <- err
	}()
	for {
		if d := b.set.deny(&Access{lineage: lineage{own: last.TokenHash}}); d != DenyLost {
			t.Fatalf("denied as %v while the feed was read again", d)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// The store's clock may step: what is kept counts this machine's time, and only what was
// old when it was read goes early.
func TestFeedKeepsThroughStepsOfTheClock(t *testing.T) {
	b := newFeedBench(t)
	local := testEpoch
	b.clock.local = func() time.Time { return local }
	b.read("1", endedOne)
	step := func(now time.Time) {
		t.Helper()
		err := b.turn(func(Cursor) (Page, error) { return Page{Next: "1", Now: now, Retention: time.Hour}, nil })
		if err != nil {
			t.Fatal(err)
		}
		b.prune()
	}
	local = local.Add(time.Minute)
	step(testEpoch.Add(3 * time.Hour)) // two hours ahead
	b.says("ahead", &Access{Handle: one}, DenyEnded)
	step(testEpoch) // an hour back
	b.says("back", &Access{Handle: one}, DenyEnded)
	local = testEpoch.Add(time.Hour + tick)
	step(testEpoch)
	b.says("an hour after it was read", &Access{Handle: one}, nil)
}

// A mass sign-out does not hold its memory for ever.
func TestFeedGivesMemoryBack(t *testing.T) {
	b := newFeedBench(t)
	local := testEpoch
	b.clock.local = func() time.Time { return local }
	before := heap()
	var entries []Entry
	for range 200_000 {
		entries = append(entries, Entry{Kind: EntryEnded, Handle: NewHandle(), At: testEpoch.Add(time.Hour)})
	}
	b.read("1", entries...)
	b.store.answer = nil // which holds them too
	full := heap() - before
	local = local.Add(time.Hour + tick)
	b.prune()
	if after := int64(heap()) - int64(before); after > int64(full)/10 {
		t.Errorf("%d bytes of %d are still held", after, full)
	}
	runtime.KeepAlive(b)
}

// Replicas that began together do not go on polling in the same moment.
func TestPollsAreJittered(t *testing.T) {
	pauses := map[time.Duration]bool{}
	for range 100 {
		p := jittered(time.Second)
		if p < 750*time.Millisecond || p > time.Second {
			t.Fatalf("a pause of %s", p)
		}
		pauses[p] = true
	}
	if len(pauses) < 90 {
		t.Errorf("%d different pauses of 100", len(pauses))
	}
}

// A change of claims may be committed, and be heard here by its own caller, while a full resync is on
// its way that began before it and does not bring it. It stays heard. A later resync that does not
// bring it either says that the store has lost it.
func TestFeedKeepsWhatIsMadeDuringAResync(t *testing.T) {
	b := newFeedBench(t)
	h := NewHandle()
	b.read("1")
	token := &Access{Handle: h, version: 1, lineage: lineage{own: TokenHash{1}}}
	resync := func(meanwhile func()) {
		t.Helper()
		if err := b.turn(func(Cursor) (Page, error) {
			meanwhile()
			return Page{Next: "2", Resync: true, Now: testEpoch, Retention: time.Hour}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	resync(func() { b.add(Entry{Kind: EntryClaims, Handle: h, Version: 2, At: testEpoch}) })
	if d := b.set.deny(token); d != DenyVersion {
		t.Errorf("a token with the former claims: %v", d)
	}
	b.read("3", Entry{Kind: EntryClaims, Handle: h, Version: 2, At: testEpoch})
	if d := b.set.deny(token); d != DenyVersion {
		t.Errorf("once it was read: %v", d)
	}
	resync(func() {})
	if d := b.set.deny(token); d != nil {
		t.Errorf("the store has lost the change: %v", d)
	}

	// Two changes at once: the later one was heard first.
	resync(func() {
		b.add(Entry{Kind: EntryClaims, Handle: h, Version: 3, At: testEpoch})
		b.add(Entry{Kind: EntryClaims, Handle: h, Version: 2, At: testEpoch})
	})
	if d := b.set.deny(&Access{Handle: h, version: 2, lineage: lineage{own: TokenHash{1}}}); d != DenyVersion {
		t.Errorf("of two changes: %v", d)
	}
}
