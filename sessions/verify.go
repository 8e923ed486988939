package sessions

import (
	"sync/atomic"
	"time"
)

// TokensMax bounds how many values of one session cookie are read: each may cost a signature check,
// and an attacker can send many.
const TokensMax = 4

// Verify judges the access tokens that a request carries by one transport (V1 to V5). It ignores
// tokens of the other transport and tokens without a valid signature. Of the rest, the token that
// was issued last counts. Tokens of several sessions are denied.
//
// Verify reads memory only. The Access is shared and must not be changed.
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
	// One time for all that follows: the clock may be set back at any moment, and a token that was found
	// to have expired has no signature that was looked at.
	now := e.feed.clock.now()
	var best *verified
	var denial *Denial
	for _, text := range tokens {
		v, d := e.open(text, now)
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
	if !now.Before(best.Expires) {
		return nil, DenyExpired
	}
	if best.IssuedAt.After(now.Add(leeway)) && best.IssuedAt.After(e.feed.clock.latest().Add(leeway)) {
		// An issue time in the future is refused, unless the store's clock had shown it before the
		// clock was set back: that must sign no user out.
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

// Now is the store's time, by which every engine judges. Call it only once the engine is ready.
func (e *Engine) Now() time.Time { return e.feed.clock.now() }

// verified is an access token of ours. offered says whether its first use was offered to the
// promoter. signature is the right signature; the token that came must have the same. It is zero if
// the token has expired: then it was not computed.
type verified struct {
	Access

	name      string // in a cache
	signature [signatureText]byte
	offered   atomic.Bool
}

// open finds a token in the caches, or checks it.
func (e *Engine) open(text string, now time.Time) (*verified, *Denial) {
	t, ok := cutToken(text)
	if !ok {
		return nil, DenyMalformed
	}
	name := t.name()
	if v := e.cache.get(name); v != nil {
		return v.presented(t.signature)
	}
	if v := e.expired.get(name); v != nil && !now.Before(v.Expires) { // the clock may have been set back
		if !isSignature(t.signature) {
			return nil, DenyMalformed
		}
		return v, nil
	}
	v, d := e.keys.Load().open(t, e.cfg.Issuer, now, e.unverified)
	if d != nil {
		return nil, e.orStaleKeys(d)
	}
	cache := e.cache
	expired := v.signature == ([signatureText]byte{})
	if expired { // there is nothing to compare
		cache = e.expired
	}
	// A token with a wrong signature is cached, too: the next text with this payload then costs
	// only a comparison.
	v = cache.keep(name, v)
	if v.key.deleted.Load() { // deleted meanwhile
		return nil, e.orStaleKeys(DenyUnknownKey)
	}
	if expired {
		return v, nil
	}
	return v.presented(t.signature)
}

// orStaleKeys is d, or UNAVAILABLE if other engines may know the key.
func (e *Engine) orStaleKeys(d *Denial) *Denial {
	if d == DenyUnknownKey && !e.knowsAllKeys() {
		return DenyStaleKeys
	}
	return d
}
