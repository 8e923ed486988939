package sessions

import (
	"maps"
	"math"
	"sync"
	"time"
)

const feedShards = 64

// feedSet holds the young entries. It is sharded, so no lock is shared by all Checks. Handles and
// token hashes are random: the shards fill evenly, and an attacker cannot aim at one.
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

// stamp says how long an entry is kept. until is on this machine's clock: a step of the store's
// clock must not forget an entry that still denies a token.
type stamp struct {
	until int64 // nanoseconds, as [feed.elapsed] counts
	// poll is the first page of the full resync that brought it or, of what was made here, the page
	// that had been asked for last.
	poll uint32
}

// ended is kept small: a mass sign-out brings a million of them.
type ended struct {
	until uint32 // as that of a stamp, in whole seconds, rounded up
	// replaced is when the session's own client ended it, which may have new cookies; else 0. It
	// is in milliseconds on the store's clock, above a bit that is set. The clock's higher bits
	// are lost. They are not missed: an entry is held for some hours, and what this tells is
	// right for 12 days.
	replaced uint32
}

func newEnded(e entryRead) ended {
	v := ended{until: uint32(min((e.until+int64(time.Second)-1)/int64(time.Second), math.MaxUint32))} //nolint:gosec // bounded
	if e.Reason == ReasonSignedOut || e.Reason == ReasonEvicted {
		v.replaced = replacedAt(e.At)
	}
	return v
}

func replacedAt(t time.Time) uint32 { return uint32(t.UnixMilli())<<1 | 1 } //nolint:gosec // see ended

// replacedWithin says whether the session's own client ended it less than d before now.
func (e ended) replacedWithin(d time.Duration, now time.Time) bool {
	passed := time.Duration(int32(replacedAt(now)-e.replaced)/2) * time.Millisecond //nolint:gosec // see ended
	return e.replaced != 0 && passed < d
}

// version is the newest version of a session's claims that is known here. told is the one that the
// resync in its stamp brought.
type version struct {
	stamp

	number, told int64
}

func (s *feedSet) shard(b byte) *feedShard { return &s.shards[b%feedShards] }

// entryRead is an entry with its stamp. resync is the first page of the last full resync.
type entryRead struct {
	Entry
	stamp

	resync uint32
}

// apply adds entries. It locks each shard once, and for that shard's part alone. So a Check waits
// for a few hundred entries at most, however many a page has.
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

// shardOf is the shard that holds an entry.
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
			sh.ended[e.Handle] = newEnded(e)
		}
	case EntryLost:
		sh.lost[e.TokenHash] = e.stamp
	case EntryClaims:
		had := sh.versions[e.Handle]
		told := e.Version
		if had.poll >= e.resync {
			told = max(told, had.told)
		}
		sh.versions[e.Handle] = version{e.stamp, max(had.number, told), told}
	case EntryKeys:
	}
}

// settle ends a full resync. It forgets lost token hashes and versions that the resync did not
// bring: the store took them back, because it was restored or lost its last writes. An ended
// session stays ended.
func (s *feedSet) settle(resync uint32) {
	for i := range s.shards {
		s.shards[i].settle(resync)
	}
}

func (sh *feedShard) settle(resync uint32) {
	sh.Lock()
	defer sh.Unlock()
	maps.DeleteFunc(sh.lost, func(_ TokenHash, s stamp) bool { return s.poll < resync })
	for h, v := range sh.versions {
		if v.poll < resync {
			delete(sh.versions, h)
		} else if v.number != v.told {
			v.number = v.told
			sh.versions[h] = v
		}
	}
	sh.shrink()
}

// prune forgets the entries whose time has passed.
func (s *feedSet) prune(elapsed int64) {
	for i := range s.shards {
		s.shards[i].prune(elapsed)
	}
}

func (sh *feedShard) prune(elapsed int64) {
	sh.Lock()
	defer sh.Unlock()
	maps.DeleteFunc(sh.ended, func(_ Handle, e ended) bool { return int64(e.until)*int64(time.Second) < elapsed })
	maps.DeleteFunc(sh.versions, func(_ Handle, v version) bool { return v.until < elapsed })
	maps.DeleteFunc(sh.lost, func(_ TokenHash, s stamp) bool { return s.until < elapsed })
	sh.shrink()
}

// shrink gives memory back. A map never shrinks by itself, so one mass sign-out would hold its
// memory forever.
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

// deny is V2 and V3. It returns nil if the feed has nothing against a.
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
