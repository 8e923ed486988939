package sessions

import (
	"context"
	"sync/atomic"
	"time"
)

// The feed tells every replica what the store decided: which sessions ended, which access tokens
// lost against a sibling, which claims changed. A poll of the store fills the set ([feedSet]).
// Verify asks the set, in memory.

// feed follows the store's feed.
type feed struct {
	set       feedSet
	clock     clock
	began     time.Time    // on this machine's clock; elapsed counts from here
	retention atomic.Int64 // nanoseconds

	polling chan struct{} // has one slot: one poll at a time
	// The fields below belong to the poll that has the slot.
	cursor    Cursor
	halfway   bool // the poll has more pages
	resyncing bool // the poll is a full resync
	keysDue   bool // the keys may have changed since they were read

	polls   atomic.Uint32 // counts the pages that were asked for
	resync  atomic.Uint32 // the first page of the last full resync, by that count
	resyncs atomic.Uint32 // counts the full resyncs
	entries atomic.Uint64 // counts the entries that were read
}

func (f *feed) init(local func() time.Time) {
	f.clock.local, f.began, f.polling = local, local(), make(chan struct{}, 1)
}

// elapsed is how long the feed was followed. It never goes back, whichever clock is set.
func (f *feed) elapsed() time.Duration { return f.clock.local().Sub(f.began) }

// poll reads the feed up to now, each page for at most bound. It calls loadKeys if the keys may
// have changed. What was read before an error stays read.
func (f *feed) poll(ctx context.Context, store Store, loadKeys func(context.Context) error, bound time.Duration) error {
	asked := f.clock.local()
	select {
	case f.polling <- struct{}{}:
		defer func() { <-f.polling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r := f.clock.reading.Load(); r != nil && r.local.After(asked) {
		return nil // a poll that began later has read all that this one would
	}
	for resumed := true; resumed; {
		// A poll that failed half-way continues first, up to its own end. It says nothing about
		// now, so another poll follows.
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

// readKeys runs after the entries were applied: keys that cannot be read must not hide an ended
// session.
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
	asked := f.polls.Add(1)
	page, err := store.Poll(ctx, f.cursor)
	if err != nil {
		return Page{}, err
	}
	if page.Resync {
		f.resyncs.Add(1)
		f.resync.Store(asked)
		f.resyncing, f.keysDue = true, true
	}
	f.retention.Store(int64(page.Retention))
	elapsed, resync := f.elapsed(), f.resync.Load()
	read := make([]entryRead, len(page.Entries))
	for i, e := range page.Entries {
		left := min(max(page.Retention-page.Now.Sub(e.At), 0), page.Retention)
		read[i] = entryRead{e, stamp{int64(elapsed + left), resync}, resync}
		f.keysDue = f.keysDue || e.Kind == EntryKeys
	}
	f.set.apply(read)
	f.entries.Add(uint64(len(read)))
	f.cursor, f.halfway = page.Next, page.More
	if f.resyncing && !page.More {
		f.set.settle(resync)
		f.resyncing = false
	}
	return page, nil
}

// add holds an entry that this process made, before the feed brings it.
func (f *feed) add(e Entry) {
	// A full resync may be on its way that was asked for before the store made this entry, and does not
	// bring it. The count of pages says so: settle keeps what came since that resync was asked for.
	keep := stamp{int64(f.elapsed()) + f.retention.Load(), f.polls.Load()}
	f.set.shards[shardOf(e)].apply([]entryRead{{e, keep, f.resync.Load()}})
}

// prune forgets the entries that can deny no living token any more.
func (f *feed) prune() {
	f.set.prune(int64(f.elapsed()))
}
