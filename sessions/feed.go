package sessions

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// The feed tells every replica what its store decided: which sessions ended,
// which access tokens lost against a sibling, which claims changed. Verify asks
// the set below, in memory; a poll of the store fills it.

// clock is the store's clock as the polls tell it, carried forward by this
// machine's monotonic clock. So a replica whose own clock is wrong, or is set
// while it runs, judges expiry as every other one does.
type clock struct {
	local   func() time.Time
	reading atomic.Pointer[clockReading]
}

// clockReading is what the store's clock showed at a moment of the local one, and the
// latest that it had ever shown until then.
type clockReading struct{ store, local, latest time.Time }

func (c *clock) set(store, local time.Time) {
	latest := store
	if r := c.reading.Load(); r != nil {
		latest = later(latest, later(r.latest, r.at(local)))
	}
	c.reading.Store(&clockReading{store, local, latest})
}

// at is the store's time at a moment of the local clock.
func (r *clockReading) at(local time.Time) time.Time { return r.store.Add(local.Sub(r.local)) }

// now is the store's time. It is only asked after the first reading.
func (c *clock) now() time.Time { return c.reading.Load().at(c.local()) }

// latest is the latest time that the store's clock has shown: that of now, unless it
// was set back.
func (c *clock) latest() time.Time {
	r := c.reading.Load()
	return later(r.latest, r.at(c.local()))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// age is how long ago the last poll that succeeded began.
func (c *clock) age() time.Duration {
	r := c.reading.Load()
	if r == nil {
		return 1<<63 - 1
	}
	return c.local().Sub(r.local)
}

const feedShards = 64

// feedSet holds the young entries. It is sharded so that no lock is shared by
// all Checks; handles and marks are random, so the shards fill evenly and
// nobody can aim at one.
type feedSet struct {
	shards [feedShards]feedShard
}

type feedShard struct {
	sync.RWMutex

	ended    map[Handle]ended
	versions map[Handle]version
	lost     map[TokenHash]stamp
	peak     int // the most entries since the maps were made
}

// stamp says how long an entry is kept. until is on this machine's clock, so that
// a step of the store's clock forgets nothing that a token could still need.
type stamp struct {
	until  int64  // nanoseconds, as [feed.elapsed] counts
	resync uint32 // the last reading of the whole feed that told of it
}

type ended struct {
	stamp

	at       int64 // microseconds of the Unix time, on the store's clock
	replaced bool  // by its own client, which may have new cookies since
}

// version is the newest one of a session's claims that anybody told of. told is that
// of the reading in its stamp.
type version struct {
	stamp

	number, told int64
}

func (s *feedSet) shard(b byte) *feedShard { return &s.shards[b%feedShards] }

// entryRead is an entry, and what its reading says of it.
type entryRead struct {
	Entry
	stamp
}

// apply adds entries. Each shard is locked once, and for its own part alone: a
// Check waits for a few hundred entries at most, however many a page has.
func (s *feedSet) apply(entries []entryRead) {
	var parts [feedShards][]entryRead
	for _, e := range entries {
		i := shardOf(e.Entry)
		parts[i] = append(parts[i], e)
	}
	for i := range s.shards {
		if len(parts[i]) > 0 {
			s.shards[i].apply(parts[i])
		}
	}
}

// shardOf is where an entry is looked for.
func shardOf(e Entry) int {
	if e.Kind == EntryLost {
		return int(e.TokenHash[0] % feedShards)
	}
	return int(e.Handle[0] % feedShards)
}

func (sh *feedShard) apply(entries []entryRead) {
	sh.Lock()
	defer sh.Unlock()
	if sh.ended == nil {
		sh.ended, sh.versions, sh.lost = map[Handle]ended{}, map[Handle]version{}, map[TokenHash]stamp{}
	}
	for _, e := range entries {
		sh.add(e)
	}
	sh.peak = max(sh.peak, sh.size())
}

func (sh *feedShard) size() int { return len(sh.ended) + len(sh.versions) + len(sh.lost) }

func (sh *feedShard) add(e entryRead) {
	switch e.Kind {
	case EntryEnded:
		if _, known := sh.ended[e.Handle]; !known {
			sh.ended[e.Handle] = ended{e.stamp, e.At.UnixMicro(), e.Reason == ReasonSignedOut || e.Reason == ReasonEvicted}
		}
	case EntryLost:
		sh.lost[e.TokenHash] = e.stamp
	case EntryClaims:
		had := sh.versions[e.Handle]
		told := e.Version
		if had.resync == e.resync {
			told = max(told, had.told)
		}
		sh.versions[e.Handle] = version{e.stamp, max(had.number, told), told}
	case EntryKeys:
	}
}

// settle ends a reading of the whole feed: lost marks and versions that it did not
// tell of were taken back, by a store that was restored or lost its last writes. An
// ended session stays ended.
func (s *feedSet) settle(reading uint32) {
	for i := range s.shards {
		s.shards[i].settle(reading)
	}
}

func (sh *feedShard) settle(reading uint32) {
	sh.Lock()
	defer sh.Unlock()
	maps.DeleteFunc(sh.lost, func(_ TokenHash, s stamp) bool { return s.resync != reading })
	for h, v := range sh.versions {
		if v.resync != reading {
			delete(sh.versions, h)
		} else if v.number != v.told {
			v.number = v.told
			sh.versions[h] = v
		}
	}
	sh.shrink()
}

// prune forgets what was to be kept until before elapsed.
func (s *feedSet) prune(elapsed int64) {
	for i := range s.shards {
		s.shards[i].prune(elapsed)
	}
}

func (sh *feedShard) prune(elapsed int64) {
	sh.Lock()
	defer sh.Unlock()
	maps.DeleteFunc(sh.ended, func(_ Handle, e ended) bool { return e.until < elapsed })
	maps.DeleteFunc(sh.versions, func(_ Handle, v version) bool { return v.until < elapsed })
	maps.DeleteFunc(sh.lost, func(_ TokenHash, s stamp) bool { return s.until < elapsed })
	sh.shrink()
}

// shrink gives memory back: a map by itself never does, so that one mass sign-out
// would hold it for ever.
func (sh *feedShard) shrink() {
	if n := sh.size(); n < sh.peak/4 {
		sh.ended, sh.versions, sh.lost = refilled(sh.ended), refilled(sh.versions), refilled(sh.lost)
		sh.peak = n
	}
}

func refilled[K comparable, V any](m map[K]V) map[K]V {
	small := make(map[K]V, len(m))
	maps.Copy(small, m)
	return small
}

// deny is V2 and V3. It returns nil where the feed says nothing against a.
func (s *feedSet) deny(a *Access) *Denial {
	sh := s.shard(a.Handle[0])
	sh.RLock()
	_, isEnded := sh.ended[a.Handle]
	stale := a.version < sh.versions[a.Handle].number
	sh.RUnlock()
	if isEnded {
		return DenyEnded
	}
	if stale {
		return DenyVersion
	}
	sh = s.shard(a.lineage.own[0])
	sh.RLock()
	_, lost := sh.lost[a.lineage.own]
	sh.RUnlock()
	if lost {
		return DenyLost
	}
	return nil
}

func (s *feedSet) endedAs(h Handle) (ended, bool) {
	sh := s.shard(h[0])
	sh.RLock()
	defer sh.RUnlock()
	e, ok := sh.ended[h]
	return e, ok
}

// feed follows the store's feed.
type feed struct {
	set       feedSet
	clock     clock
	began     time.Time    // on this machine's clock; what elapsed counts from
	retention atomic.Int64 // nanoseconds

	polling chan struct{} // holds the one whose turn it is
	// What follows belongs to the one whose turn it is.
	cursor    Cursor
	halfway   bool // a reading has more pages
	resyncing bool // it is of the whole feed
	keysDue   bool // the keys may have changed, and were not read since

	resyncs atomic.Uint32 // counts the readings of the whole feed
	entries atomic.Uint64 // counts what was read
}

func (f *feed) init(local func() time.Time) {
	f.clock.local, f.began, f.polling = local, local(), make(chan struct{}, 1)
}

// elapsed is how long the feed has been followed. No clock can set it back.
func (f *feed) elapsed() time.Duration { return f.clock.local().Sub(f.began) }

// poll reads the feed up to now, each page for at most bound. loadKeys is called
// where the keys may have changed. What was read before an error stays read.
func (f *feed) poll(ctx context.Context, store Store, loadKeys func(context.Context) error, bound time.Duration) error {
	asked := f.clock.local()
	select {
	case f.polling <- struct{}{}:
		defer func() { <-f.polling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r := f.clock.reading.Load(); r != nil && r.local.After(asked) {
		return nil // a poll that began since has told all that this one would
	}
	for resumed := true; resumed; {
		// One that failed half-way goes on first, up to where it would have ended: it
		// says nothing about now.
		resumed = f.halfway
		began := f.clock.local()
		first, err := f.read(ctx, store, bound)
		for err == nil && f.halfway {
			_, err = f.read(ctx, store, bound)
		}
		if err == nil {
			err = f.readKeys(ctx, loadKeys, bound)
		}
		if err != nil {
			return err
		}
		if !resumed {
			f.clock.set(first.Now, began)
		}
	}
	return nil
}

// readKeys comes behind the entries: keys that cannot be read must not keep an end
// from being heard.
func (f *feed) readKeys(ctx context.Context, loadKeys func(context.Context) error, bound time.Duration) error {
	if !f.keysDue {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := loadKeys(ctx); err != nil {
		return err
	}
	f.keysDue = false
	return nil
}

// read reads one page.
func (f *feed) read(ctx context.Context, store Store, bound time.Duration) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	page, err := store.Poll(ctx, f.cursor)
	if err != nil {
		return Page{}, err
	}
	if page.Resync {
		f.resyncs.Add(1)
		f.resyncing, f.keysDue = true, true
	}
	f.retention.Store(int64(page.Retention))
	elapsed, reading := f.elapsed(), f.resyncs.Load()
	read := make([]entryRead, len(page.Entries))
	for i, e := range page.Entries {
		left := min(max(page.Retention-page.Now.Sub(e.At), 0), page.Retention)
		read[i] = entryRead{e, stamp{int64(elapsed + left), reading}}
		f.keysDue = f.keysDue || e.Kind == EntryKeys
	}
	f.set.apply(read)
	f.entries.Add(uint64(len(read)))
	f.cursor, f.halfway = page.Next, page.More
	if f.resyncing && !page.More {
		f.set.settle(reading)
		f.resyncing = false
	}
	return page, nil
}

// add holds an entry that this process made itself, before the feed tells of it.
func (f *feed) add(e Entry) {
	keep := stamp{int64(f.elapsed()) + f.retention.Load(), f.resyncs.Load()}
	f.set.shards[shardOf(e)].apply([]entryRead{{e, keep}})
}

// prune forgets what can deny no living token any more.
func (f *feed) prune() {
	f.set.prune(int64(f.elapsed()))
}
