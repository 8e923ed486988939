package sessions

import (
	"sync/atomic"
	"time"
)

// Stats is what an engine can tell of itself at one moment, for the caller to export as metrics.
// Things that happen once are events instead. Counts begin at 0 with the engine.
type Stats struct {
	// FeedAge is the age of what the engine knows of the feed; 0 before the first poll. FeedPolls
	// counts polls, FeedPollsFailed the polls that failed.
	FeedAge                    time.Duration
	FeedPolls, FeedPollsFailed uint64
	// FeedPollTook is how long the last poll took. FeedRead counts the entries that polls brought.
	// FeedResyncs counts the full resyncs; the first one is at the start.
	FeedPollTook          time.Duration
	FeedRead, FeedResyncs uint64
	// FeedEnded, FeedLost and FeedClaims count the young entries that are held.
	FeedEnded, FeedLost, FeedClaims int

	// CachedTokens counts the verified access tokens in memory. A miss costs a check of a
	// signature.
	CachedTokens           int
	CacheHits, CacheMisses uint64

	// PromotionsWaiting counts the promotions in the queue, PromotionQueue its size.
	// PromotionsDropped counts those that found the queue full.
	PromotionsWaiting, PromotionQueue int
	PromotionsDropped                 uint64

	// Sessions is about how many sessions the store held after the last sweep ([Store.CountSessions]);
	// -1 before the first count.
	Sessions int

	Keys []KeyStats
}

// KeyStats describes the keys of one kind.
type KeyStats struct {
	Kind KeyKind
	// Known counts the keys in the store: published, in use and retired. Age is how long the key in
	// use has been in use.
	Known int
	Age   time.Duration
}

// pollCounts is the part of Stats that the feed's polls count.
type pollCounts struct {
	all, failed atomic.Uint64
	took        atomic.Int64
}

func (c *pollCounts) count(err error, took time.Duration) {
	c.all.Add(1)
	c.took.Store(int64(took))
	if err != nil {
		c.failed.Add(1)
	}
}

// Stats reads memory only.
func (e *Engine) Stats() Stats {
	cache := e.cache.entries.Stats()
	s := Stats{
		FeedPolls: e.polls.all.Load(), FeedPollsFailed: e.polls.failed.Load(), FeedPollTook: time.Duration(e.polls.took.Load()),
		FeedRead: e.feed.entries.Load(), FeedResyncs: uint64(e.feed.resyncs.Load()),
		CachedTokens: e.cache.entries.EstimatedSize(), CacheHits: cache.Hits, CacheMisses: cache.Misses,
		PromotionsWaiting: len(e.promoter.queue), PromotionQueue: cap(e.promoter.queue),
		PromotionsDropped: e.promoter.dropped.Load(),
		Sessions:          int(e.count.sessions.Load()),
	}
	s.FeedEnded, s.FeedLost, s.FeedClaims = e.feed.set.sizes()
	ring := e.keys.Load()
	if ring == nil || !e.Ready() {
		return s
	}
	s.FeedAge = e.FeedAge()
	now := e.feed.clock.now()
	// If every key of a kind is deleted, there is no age to report.
	if k := ring.signer(now); k != nil {
		s.Keys = append(s.Keys, KeyStats{KeySigning, len(ring.signers), now.Sub(k.activeFrom)})
	}
	if k := ring.sealer(now); k != nil {
		s.Keys = append(s.Keys, KeyStats{KeySealing, len(ring.sealers), now.Sub(k.activeFrom)})
	}
	return s
}

// sizes counts the entries held, one shard at a time.
func (s *feedSet) sizes() (ended, lost, claims int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.RLock()
		ended, lost, claims = ended+len(sh.ended), lost+len(sh.lost), claims+len(sh.versions)
		sh.RUnlock()
	}
	return ended, lost, claims
}
