package sessions

import (
	"context"
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

type clockReading struct{ store, local time.Time }

func (c *clock) set(store, local time.Time) { c.reading.Store(&clockReading{store, local}) }

// now is the store's time. It is only asked after the first reading.
func (c *clock) now() time.Time {
	r := c.reading.Load()
	return r.store.Add(c.local().Sub(r.local))
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
	lost     map[Mark]time.Time
}

type ended struct {
	reason Reason
	at     time.Time
}

type version struct {
	number int64
	at     time.Time
}

func (s *feedSet) shard(b byte) *feedShard { return &s.shards[b%feedShards] }

// apply adds entries. whole says that they are all there is: then the lost
// marks and versions held before are dropped, for a store that was restored may
// have forgotten them, while an ended session stays ended.
func (s *feedSet) apply(entries []Entry, whole bool) {
	var parts [feedShards][]Entry
	for _, e := range entries {
		i := shardOf(e)
		parts[i] = append(parts[i], e)
	}
	for i := range s.shards {
		if whole || len(parts[i]) > 0 {
			s.shards[i].apply(parts[i], whole)
		}
	}
}

func (s *feedSet) add(e Entry) { s.shards[shardOf(e)].apply([]Entry{e}, false) }

// shardOf is where an entry is looked for.
func shardOf(e Entry) int {
	if e.Kind == EntryLost {
		return int(e.Mark[0] % feedShards)
	}
	return int(e.Handle[0] % feedShards)
}

// apply changes a shard under its lock, once: a Check sees it before or after,
// never emptied and not yet filled.
func (sh *feedShard) apply(entries []Entry, whole bool) {
	sh.Lock()
	defer sh.Unlock()
	if sh.ended == nil {
		sh.ended = map[Handle]ended{}
	}
	if whole || sh.versions == nil {
		sh.versions, sh.lost = map[Handle]version{}, map[Mark]time.Time{}
	}
	for _, e := range entries {
		sh.add(e)
	}
}

func (sh *feedShard) add(e Entry) {
	switch e.Kind {
	case EntryEnded:
		if _, known := sh.ended[e.Handle]; !known {
			sh.ended[e.Handle] = ended{e.Reason, e.At}
		}
	case EntryLost:
		sh.lost[e.Mark] = e.At
	case EntryClaims:
		if e.Version > sh.versions[e.Handle].number {
			sh.versions[e.Handle] = version{e.Version, e.At}
		}
	case EntryKeys:
	}
}

// prune drops entries older than before.
func (s *feedSet) prune(before time.Time) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.Lock()
		for h, e := range sh.ended {
			if e.at.Before(before) {
				delete(sh.ended, h)
			}
		}
		for h, v := range sh.versions {
			if v.at.Before(before) {
				delete(sh.versions, h)
			}
		}
		for m, at := range sh.lost {
			if at.Before(before) {
				delete(sh.lost, m)
			}
		}
		sh.Unlock()
	}
}

// deny is V2 and V3. It returns nil where the feed says nothing against a.
func (s *feedSet) deny(a *Access) *Denial {
	sh := s.shard(a.Handle[0])
	sh.RLock()
	_, over := sh.ended[a.Handle]
	stale := a.version < sh.versions[a.Handle].number
	sh.RUnlock()
	if over {
		return DenyEnded
	}
	if stale {
		return DenyVersion
	}
	sh = s.shard(a.at.own[0])
	sh.RLock()
	_, lost := sh.lost[a.at.own]
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
	set     feedSet
	clock   clock
	horizon atomic.Int64 // nanoseconds

	polling chan struct{} // holds the one whose turn it is
	cursor  Cursor
}

// wholeReadMax bounds a poll that reads everything: an hour of a large site's
// ends may be a million entries.
const wholeReadMax = 30 * time.Second

// poll reads the feed once, for at most bound. loadKeys is called where the keys
// may have changed.
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
	since := f.cursor
	f.cursor = 0 // until this poll succeeded, the next one reads everything
	err := f.read(ctx, since, store, loadKeys, bound)
	if err != nil && ctx.Err() != nil {
		// Its caller went away, which says nothing about the store: else clients
		// that hang up could keep every poll reading everything.
		f.cursor = since
	}
	return err
}

func (f *feed) read(ctx context.Context, since Cursor, store Store, loadKeys func(context.Context) error, bound time.Duration) error {
	if since == 0 {
		bound = max(bound, wholeReadMax)
	}
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	began := f.clock.local()
	page, err := store.Poll(bounded, since)
	if err != nil {
		return err
	}
	if page.Next < since { // a restored store: what was read may never have been
		return f.read(ctx, 0, store, loadKeys, bound)
	}
	// First: keys that cannot be read must not keep an end from being heard.
	f.set.apply(page.Entries, since == 0)
	if since == 0 || tellsOfKeys(page.Entries) {
		if err := loadKeys(bounded); err != nil {
			return err
		}
	}
	f.horizon.Store(int64(page.Horizon))
	f.clock.set(page.Now, began)
	f.cursor = page.Next
	return nil
}

func tellsOfKeys(entries []Entry) bool {
	for _, e := range entries {
		if e.Kind == EntryKeys {
			return true
		}
	}
	return false
}

func (f *feed) prune() {
	f.set.prune(f.clock.now().Add(-time.Duration(f.horizon.Load())))
}
