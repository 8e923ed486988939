package sessions

import (
	"sync/atomic"
	"time"
)

// TokensMax bounds the values of one session cookie that are looked at: each may
// cost a signature check.
const TokensMax = 4

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
	if len(tokens) > TokensMax {
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
	if best.IssuedAt.After(e.feed.clock.latest().Add(leeway)) {
		// Not of a future that the store's clock has shown before it was set back: nobody
		// is to be sent away until it has caught up.
		return nil, DenyClaims
	}
	if d := e.feed.set.deny(&best.Access); d != nil {
		return nil, d
	}
	if best.lineage.parent != (TokenHash{}) {
		e.promoter.offer(best) // V4
	}
	return &best.Access, nil
}

// Now is the store's time, by which every engine judges. It is only asked once
// the engine is ready.
func (e *Engine) Now() time.Time { return e.feed.clock.now() }

// verified is an access token of ours, and whether its first use was offered to the
// promoter. signature is its right one: the token that came must have it, too. It is
// zero where nobody made it, for the token has expired.
type verified struct {
	Access

	signature [signatureText]byte
	offered   atomic.Bool
}

// open finds a token in the cache, or checks it.
func (e *Engine) open(text string) (*verified, *Denial) {
	t, ok := cutToken(text)
	if !ok {
		return nil, DenyMalformed
	}
	id := t.id()
	v, ok := e.cache.GetIfPresent(id)
	if ok && v.key.deleted.Load() {
		e.cache.Invalidate(id)
		ok = false
	}
	if !ok {
		var d *Denial
		if v, d = e.keys.Load().open(t, e.cfg.Issuer, e.feed.clock.now(), e.unverified); d != nil {
			return nil, e.orStaleKeys(d)
		}
		if v.signature == ([signatureText]byte{}) {
			return v, nil // nothing to compare with, or to keep
		}
		// Also where the signature that came with it is wrong: the next text of this
		// payload then costs a comparison.
		v, _ = e.cache.SetIfAbsent(id, v)
		if v.key.deleted.Load() { // in between
			return nil, e.orStaleKeys(DenyUnknownKey)
		}
	}
	return v.presented(t.signature)
}

// orStaleKeys is d, or UNAVAILABLE where the key may be one that others know.
func (e *Engine) orStaleKeys(d *Denial) *Denial {
	if d == DenyUnknownKey && !e.knowsAllKeys() {
		return DenyStaleKeys
	}
	return d
}
