package sessions

import (
	"context"
	"errors"
)

// NewSession is what a login service says of the session that it creates.
type NewSession struct {
	UserID    string
	Claims    []byte // a JSON object, or nil
	Data      []byte // a JSON object, or nil
	Transport Transport
	Client    Client // zero: any client that has the first refresh token
	Device    Device // zero: none is kept
	Actor     string // names the caller, for the audit event
}

// Create starts a session. Bad input is an [*InvalidError]. [ErrTooManySessions] says that
// Config.PerUser refuses another session.
func (e *Engine) Create(ctx context.Context, n NewSession) (Issued, error) {
	if !e.Ready() {
		return Issued{}, ErrUnavailable
	}
	if err := n.check(); err != nil {
		return Issued{}, err
	}
	t := newRefreshToken(NewHandle(), n.Transport)
	if err := e.checkSize(n.UserID, n.Claims, t); err != nil {
		return Issued{}, err
	}
	rec, err := e.create(ctx, NewRecord{
		Handle: t.handle, UserID: n.UserID, Current: t.hash(), CurrentClient: n.Client, Device: n.Device,
		Claims: n.Claims, Data: n.Data, SlidingLife: e.cfg.SlidingLife, AbsoluteLife: e.cfg.AbsoluteLife, Actor: n.Actor,
	})
	if err != nil {
		return Issued{}, err
	}
	t.issuedAt = rec.CreatedAt
	issued, err := e.issue(rec, t, TokenHash{}, rec.CreatedAt, true)
	if err != nil {
		return Issued{}, err
	}
	if e.cfg.Binding.Offer && n.Transport == TransportCookie {
		if issued.Challenge, err = e.sealChallenge(toRegister, rec.Handle); err != nil {
			return Issued{}, err
		}
	}
	e.cfg.Observe(Event{Kind: EventCreated, Handle: rec.Handle, UserID: rec.UserID})
	return issued, nil
}

// create inserts the session, within the limit if there is one.
func (e *Engine) create(ctx context.Context, n NewRecord) (Record, error) {
	if e.cfg.PerUser.Max == 0 {
		rec, err := e.store.Create(ctx, n)
		if err != nil {
			return Record{}, unavailable("creating session", err)
		}
		return rec, nil
	}
	rec, evicted, err := e.store.CreateWithin(ctx, n, e.cfg.PerUser)
	switch {
	case errors.Is(err, ErrTooManySessions):
		return Record{}, ErrTooManySessions
	case err != nil:
		return Record{}, unavailable("creating session", err)
	}
	for _, h := range evicted {
		e.ended(h, n.UserID, EvictedEnding)
	}
	return rec, nil
}
