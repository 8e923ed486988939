package sessions

import (
	"context"
	"errors"
)

// Update replaces the claims, the data or both of a living session; nil leaves what
// is there. Bad input is an [*InvalidError]; [ErrNotFound] says that there is no such
// session. Once new claims are stored, this engine sends access tokens with the
// former ones to refresh (V3), and every other engine within its feed's bound.
func (e *Engine) Update(ctx context.Context, h Handle, c Attributes) (Record, error) {
	if !e.Ready() {
		return Record{}, ErrUnavailable
	}
	if err := c.check(); err != nil {
		return Record{}, err
	}
	if c.Claims != nil {
		rec, err := e.Get(ctx, h) // whose user's name counts, too
		if err != nil {
			return Record{}, err
		}
		if err := e.checkSize(rec.UserID, c.Claims, refreshToken{handle: h, transport: TransportCookie}); err != nil {
			return Record{}, err
		}
	}
	rec, err := e.store.Update(ctx, h, c)
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, ErrNotFound
	case err != nil:
		return Record{}, unavailable("updating session", err)
	}
	if c.Claims != nil {
		e.feed.add(Entry{Kind: EntryClaims, Handle: h, Version: rec.ClaimsVersion, At: e.feed.clock.now()})
		e.cfg.Observe(Event{Kind: EventClaims, Handle: h, UserID: rec.UserID})
	}
	return rec, nil
}

// Reissue makes the access token that takes the place of a, with the claims that rec
// has: for the client that caused the change, which then needs no refresh. It
// expires when a does, so nobody stays signed in by changing claims.
func (e *Engine) Reissue(a *Access, rec Record) (Issued, error) {
	if a.Handle != rec.Handle {
		return Issued{}, &InvalidError{"access_token", "one of this session"}
	}
	now := e.feed.clock.now()
	m, err := e.mint(rec, a.lineage, now, a.Expires)
	if err != nil {
		return Issued{}, unavailable("minting", err)
	}
	return newIssued(rec, m, a.Transport, now), nil
}
