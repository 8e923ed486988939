package sessions

import (
	"context"
	"errors"
)

// Update replaces the claims, the data or both of a living session; nil leaves what is there. Bad
// input is an [*InvalidError]. [ErrNotFound] says that there is no such session.
//
// Once new claims are stored, this engine answers TRY_REFRESH to access tokens with the former
// claims (V3). Every other engine does so within its FeedBound.
func (e *Engine) Update(ctx context.Context, h Handle, c Attributes) (Record, error) {
	if !e.Ready() {
		return Record{}, ErrUnavailable
	}
	if err := c.check(); err != nil {
		return Record{}, err
	}
	if c.Claims != nil {
		rec, err := e.Get(ctx, h) // the user ID is in the token, too
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

// Reissue makes the access token that replaces a, with the claims of rec. It is for the client that
// caused the change and then needs no refresh. The new token expires when a does: changing claims
// keeps no user signed in.
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
