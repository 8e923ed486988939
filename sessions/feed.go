package sessions

import (
	"context"
	"sync/atomic"
	"time"
)

// The feed tells every replica what its store decided: which sessions ended,
// which access tokens lost against a sibling, which claims changed. Verify asks
// the set below, in memory; a poll of the store fills it.

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
