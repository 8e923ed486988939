package sessions

import (
	"context"
	"time"
)

// NewSession is what a login service says of the session it creates.
type NewSession struct {
	UserID    string
	Claims    []byte // a JSON object, or nil
	Data      []byte // a JSON object, or nil
	Transport Transport
	Client    Client // none: whoever holds the first refresh token
	Actor     string // who creates it, for the audit event
}

// Issued is what a client is to be given.
type Issued struct {
	Session  Record
	Access   Token
	Refresh  Token // empty: the client keeps the one it has
	AntiCSRF Token
	// Payload is the JSON payload of the access token, AccessExpires its exp.
	Payload       []byte
	AccessExpires time.Time
	// RefreshLife is how long the session lives from now without another
	// refresh: the life of its cookies.
	RefreshLife time.Duration
	Transport   Transport
	Rule        Rule // that decided a refresh

	marker string // random
}

// Create starts a session. Bad input is an [*InvalidError]; [ErrTooManySessions]
// says that Config.PerUser refuses another one.
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
		Handle: t.handle, UserID: n.UserID, Current: t.hash(), CurrentClient: n.Client,
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
	e.cfg.Observe(Event{Kind: EventCreated, Handle: rec.Handle, UserID: rec.UserID})
	return issued, nil
}

// issue mints the access token of the line's token t and, if handOut, seals t.
func (e *Engine) issue(rec Record, t refreshToken, parent TokenHash, now time.Time, issueRefresh bool) (Issued, error) {
	own := t.hash()
	if !issueRefresh {
		own = rec.Current // t may be the previous one (R7)
	}
	p := lineage{own, parent, t.antiCSRF.digest(), t.transport}
	m, err := e.mint(rec, p, now, now.Add(e.cfg.AccessTokenLife))
	if err != nil {
		return Issued{}, unavailable("minting", err)
	}
	i := newIssued(rec, m, t.transport, now)
	i.AntiCSRF = t.antiCSRF.token()
	if issueRefresh {
		sealer := e.keys.Load().sealer(now)
		if sealer == nil {
			return Issued{}, unavailable("sealing", errNoKey)
		}
		i.Refresh = t.seal(sealer)
	}
	return i, nil
}

// newIssued has no refresh token and no anti-CSRF token.
func newIssued(rec Record, m minted, tr Transport, now time.Time) Issued {
	var marker [16]byte
	fill(marker[:])
	i := Issued{Session: rec, Access: m.token, Payload: m.payload, AccessExpires: m.expires, Transport: tr, marker: encode(marker[:])}
	i.RefreshLife = i.ends().Sub(now)
	return i
}

// ends is when the session ends without another refresh.
func (i Issued) ends() time.Time { return earlier(i.Session.ExpiresAt, i.Session.AbsoluteExpiresAt) }
