package sessions

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"time"
)

// tokensMax bounds the values of one session cookie that are looked at: each may
// cost a signature check.
const tokensMax = 4

// Verify judges the access tokens that a request carries by one transport (V1 to
// V5): those of the other transport or with no good signature are ignored, the
// one issued last counts, and tokens of several sessions decide nothing. It reads
// memory only. The Access is shared and must not be changed.
func (e *Engine) Verify(by Transport, tokens []string) (*Access, *Denial) {
	if !e.Ready() {
		return nil, DenyStarting
	}
	if len(tokens) == 0 {
		return nil, DenyNoToken
	}
	if len(tokens) > tokensMax {
		return nil, DenyMalformed
	}
	var best *verified
	var denial *Denial
	for _, text := range tokens {
		v, d := e.open(text)
		if d == nil && v.Transport != by {
			d = DenyTransport
		}
		switch {
		case d != nil:
			if denial == nil || d.Outcome == Unavailable {
				denial = d
			}
		case best != nil && best.Handle != v.Handle:
			return nil, DenySeveral
		case best == nil || v.IssuedAt.After(best.IssuedAt):
			best = v
		}
	}
	if best == nil {
		return nil, denial
	}
	now := e.feed.clock.now()
	if !now.Before(best.Expires) {
		return nil, DenyExpired
	}
	if best.IssuedAt.After(now.Add(leeway)) {
		return nil, DenyClaims
	}
	if d := e.feed.set.deny(&best.Access); d != nil {
		return nil, d
	}
	if best.at.parent != (Mark{}) {
		e.promoter.offer(best) // V4
	}
	return &best.Access, nil
}

// Now is the store's time, by which every engine judges. It is only asked once
// the engine is ready.
func (e *Engine) Now() time.Time { return e.feed.clock.now() }

// Confirm asks the store whether the session of a lives, with the claims that a
// carries, where the feed is too old to tell: an end that this engine cannot hear
// of then waits for no expiry. While the feed is fresh it reads memory only.
func (e *Engine) Confirm(ctx context.Context, a *Access) *Denial {
	if e.fresh() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.FeedBound)
	defer cancel()
	rec, err := e.Get(ctx, a.Handle)
	switch {
	case errors.Is(err, ErrNotFound):
		return DenyEnded
	case err != nil:
		return DenyUnconfirmed
	case rec.ClaimsVersion > a.version:
		return DenyVersion
	}
	return nil
}

// verified is a cached access token, and whether its first use was offered to
// the promoter.
type verified struct {
	Access

	offered atomic.Bool
}

// open finds a token in the cache, by a digest of its exact bytes, or checks it.
func (e *Engine) open(text string) (*verified, *Denial) {
	if len(text) > accessTokenMax {
		return nil, DenyMalformed
	}
	var buf [accessTokenMax]byte
	key := sha256.Sum256(append(buf[:0], text...))
	if v, ok := e.cache.GetIfPresent(key); ok {
		return v, nil
	}
	ring := e.keys.Load()
	a, d := ring.open(text, e.cfg.Issuer)
	if d != nil {
		if d == DenyUnknownKey && !e.knowsAllKeys() {
			return nil, DenyStaleKeys
		}
		return nil, d
	}
	v, _ := e.cache.SetIfAbsent(key, &verified{Access: *a})
	if e.keys.Load() != ring {
		e.cache.Invalidate(key) // its key may have been deleted, and the cache emptied, in between
	}
	return v, nil
}
