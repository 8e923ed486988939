package sessions

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"
)

// ChallengeError asks the client to sign a challenge, and to come again with the proof (B3).
type ChallengeError struct {
	Session    Handle
	Identifier Token // that the client sent
	Challenge  Token
}

func (*ChallengeError) Error() string { return "the request has no proof of a challenge that is young" }

// Prover is a request that registers the key of a device, or proves it. Its tokens are those in the
// cookie: no other transport is bound.
type Prover struct {
	carried

	Tokens []string
	Proof  *Proof // nil: none that can be read
	// Identifier is that of the browser's device session, [Issued.Identifier]. Bind ignores it.
	Identifier string
	Device     Device
}

// Bind registers the key of a proof for the session of its challenge (B1). Issued has the session, and
// the identifier of the device session. The error is [ErrBindRefused] or [ErrUnavailable].
//
// A refresh token must be that session's, but there need be none: after a sign-in that ends with a
// navigation from another site, browsers register without cookies. The challenge was in the answer to
// the sign-in alone, and without the refresh token its receiver proves nothing later.
//
// The session is bound from the first proof at RefreshBound on. Until then its browser may not have
// had this answer, and it refreshes as before.
func (e *Engine) Bind(ctx context.Context, p Prover) (Issued, error) {
	return e.inTime(ctx, "registering a key", func(ctx context.Context) (Issued, error) { return e.register(ctx, p) })
}

// RefreshBound answers a proof of the key of a session with an access token (B2 to B6). Its refresh
// token is the one that the client has, for as long as the session lives now. The error
// is a [ChallengeError], [ErrNotThisDevice], [ErrSessionEnded], [ErrSuperseded] or [ErrUnavailable].
func (e *Engine) RefreshBound(ctx context.Context, p Prover) (issued Issued, err error) {
	began := e.cfg.Now()
	defer func() {
		e.cfg.Observe(Event{Kind: EventRefreshAnswered, Rule: issued.Rule, Err: err, Took: e.cfg.Now().Sub(began)})
	}()
	return e.inTime(ctx, "verifying a proof", func(ctx context.Context) (Issued, error) { return e.prove(ctx, p) })
}

// prove is B2 to B6. All that a client without the key can send is refused before the store is asked,
// and before it counts.
func (e *Engine) prove(ctx context.Context, p Prover) (Issued, error) {
	id, err := openIdentifier(p.Identifier, e.keys.Load())
	switch {
	case e.unsure(err):
		return Issued{}, unavailable("opening the identifier of a device session", err)
	case err != nil:
		return Issued{Rule: B2}, ErrNotThisDevice
	}
	t, err := e.openRefresh(TransportCookie, e.withoutOthers(p.Tokens, id.handle))
	switch {
	case errors.Is(err, ErrUnavailable):
		return Issued{}, err
	case err != nil, t.handle != id.handle:
		return Issued{Rule: B2}, ErrNotThisDevice
	}
	c, err := e.answered(p.Proof, toProve)
	switch {
	case errors.Is(err, ErrUnavailable):
		return Issued{}, err
	case err != nil, c.handle != id.handle:
		return e.challenge(id.handle, Token(p.Identifier))
	case !p.Proof.by(id.key):
		// The session lives on. An attacker with the refresh token could else end it, by a proof of any key.
		return e.refuseProof(B6, id.handle, ""), ErrNotThisDevice
	}
	rec, now, d, err := e.decideAndWrite(ctx, asked{way: wayProve, token: t, handle: id.handle, key: id.key}, p.Device)
	switch {
	case errors.Is(err, ErrNotFound):
		return notIssued(B5, id.handle, ""), e.gone(ctx, id.handle)
	case err != nil:
		return Issued{}, err
	case d.answer == boundProven:
		return e.answerProof(rec, t, d, now, Token(p.Identifier))
	case d.answer == boundEnded:
		e.cfg.Observe(Event{Kind: EventRefreshRefused, Handle: rec.Handle, UserID: rec.UserID, Rule: d.rule})
		return notIssued(d.rule, rec.Handle, rec.UserID), ErrSessionEnded
	default:
		return e.refuseProof(d.rule, rec.Handle, rec.UserID), ErrNotThisDevice
	}
}

// refuseProof reports a proof that is young, and not of the key of the session: at most as often as a
// session may be refreshed, for one challenge is enough to send any number of them.
func (e *Engine) refuseProof(rule Rule, h Handle, user string) Issued {
	if _, err := e.refused.take(h, e.cfg.Now()); err == nil {
		e.cfg.Observe(Event{Kind: EventProofRefused, Handle: h, UserID: user, Rule: rule})
	}
	return notIssued(rule, h, user)
}

// withoutOthers are the tokens without those of other sessions than h, which the device session or the
// challenge names. A sibling host plants a token of its own session beside the owner's, where no answer
// deletes it: at the path of these requests alone. It would keep the browser from binding, and end its
// device session.
func (e *Engine) withoutOthers(tokens []string, h Handle) []string {
	if len(tokens) > TokensMax {
		return nil
	}
	keys := e.keys.Load()
	return slices.DeleteFunc(slices.Clone(tokens), func(text string) bool {
		t, err := openRefreshToken(text, keys)
		return err == nil && t.handle != h
	})
}

// register is B1.
func (e *Engine) register(ctx context.Context, p Prover) (Issued, error) {
	c, err := e.answered(p.Proof, toRegister)
	switch {
	case errors.Is(err, ErrUnavailable):
		return Issued{}, err
	case err != nil:
		return Issued{Rule: B1}, ErrBindRefused
	}
	var t refreshToken
	if len(p.Tokens) > 0 {
		t, err = e.openRefresh(TransportCookie, e.withoutOthers(p.Tokens, c.handle))
		switch {
		case errors.Is(err, ErrUnavailable):
			return Issued{}, err
		case err != nil, t.handle != c.handle:
			return notIssued(B1, c.handle, ""), ErrBindRefused
		}
	}
	if !p.Proof.by(p.Proof.Key) {
		return e.refuseProof(B1, c.handle, ""), ErrBindRefused
	}
	sealer := e.keys.Load().sealer(e.feed.clock.now())
	if sealer == nil {
		return Issued{}, unavailable("sealing the identifier of a device session", errNoKey)
	}
	rec, _, d, err := e.decideAndWrite(ctx, asked{way: wayRegister, token: t, handle: c.handle, key: p.Proof.Key}, p.Device)
	switch {
	case errors.Is(err, ErrNotFound):
		return notIssued(B1, c.handle, ""), ErrBindRefused
	case err != nil:
		return Issued{}, err
	case d.answer != boundRegistered:
		return e.refuseProof(d.rule, rec.Handle, rec.UserID), ErrBindRefused
	}
	e.cfg.Observe(Event{Kind: EventKeyRegistered, Handle: rec.Handle, UserID: rec.UserID, Rule: d.rule})
	rec.Row = d.next
	return Issued{
		Session: rec, Transport: TransportCookie, Rule: d.rule,
		Identifier: identifier{rec.Handle, rec.BoundKey}.seal(sealer),
	}, nil
}

// answered is the challenge of ours that a proof is of, for that purpose, if it is young. Whether the
// signature is good is not asked yet. [ErrUnavailable]: this process may not know its key.
func (e *Engine) answered(p *Proof, purpose purpose) (challenge, error) {
	if p == nil {
		return challenge{}, errSealed
	}
	c, err := openChallenge(p.Challenge, purpose, e.keys.Load())
	switch {
	case e.unsure(err):
		return challenge{}, unavailable("opening a challenge", err)
	case err != nil:
		return challenge{}, err
	case !c.young(e.cfg.Binding.ChallengeLife, e.feed.clock.now()):
		return challenge{}, errSealed
	}
	return c, nil
}

// challenge is B3.
func (e *Engine) challenge(h Handle, identifier Token) (Issued, error) {
	text, err := e.sealChallenge(toProve, h)
	if err != nil {
		return Issued{}, err
	}
	return notIssued(B3, h, ""), &ChallengeError{h, identifier, text}
}

func (e *Engine) sealChallenge(p purpose, h Handle) (Token, error) {
	now := e.feed.clock.now()
	sealer := e.keys.Load().sealer(now)
	if sealer == nil {
		return "", unavailable("sealing a challenge", errNoKey)
	}
	return challenge{p, h, now}.seal(sealer), nil
}

// decideAndWrite reads the row, decides, and writes what was decided. The record has the row that was
// read, the decision the row as it is now.
//
// It counts the proof. Too many are UNAVAILABLE: at 429 browsers end the device session. As the proof
// was verified, none is of a thief who has the cookies alone, and who must not use up what their owner
// may ask. One that was captured can be sent again, and counts.
func (e *Engine) decideAndWrite(ctx context.Context, s asked, device Device) (Record, time.Time, boundDecision, error) {
	if _, err := e.proofs.take(s.handle, e.cfg.Now()); err != nil {
		return Record{}, time.Time{}, boundDecision{}, unavailable("verifying a proof", err)
	}
	for range casAttempts {
		rec, now, err := e.store.Get(ctx, s.handle)
		if errors.Is(err, ErrNotFound) {
			return Record{}, now, boundDecision{}, ErrNotFound
		}
		if err != nil {
			return Record{}, now, boundDecision{}, unavailable("reading session", err)
		}
		d := decideBound(rec.Row, s, now, e.bound)
		if d.next != rec.Row {
			d.next.Device = device
			done, err := e.store.Swap(ctx, rec.Row, d.next, d.rule)
			if err != nil {
				return Record{}, now, boundDecision{}, unavailable("writing session", err)
			}
			if !done {
				continue
			}
			if d.next.Bound() && !rec.Bound() {
				e.cfg.Observe(Event{Kind: EventBound, Handle: rec.Handle, UserID: rec.UserID, Rule: d.rule})
			}
		}
		return rec, now, d, nil
	}
	return Record{}, time.Time{}, boundDecision{}, unavailable("verifying a proof", errors.New("too many changes of the session at once"))
}

// answerProof is B4. The access token has the current refresh token's hash, whichever token of the
// session came: the device is proven, so the chain decides nothing.
func (e *Engine) answerProof(rec Record, t refreshToken, d boundDecision, now time.Time, identifier Token) (Issued, error) {
	rec.Row = d.next
	p := lineage{rec.Current, TokenHash{}, t.antiCSRF.digest(), t.transport, true}
	// The refresh token is the client's own, sealed again: its cookie is to live as long as the session,
	// also where the answer that slid it was lost.
	issued, err := e.issueAs(rec, t, p, now, e.accessLife(rec.Row, t.transport, now), true)
	if err != nil {
		return Issued{}, err
	}
	issued.Rule, issued.Identifier = d.rule, identifier
	issued.BoundLife = issued.AccessExpires.Sub(now)
	if issued.AccessExpires.Before(rec.EndsAt().Truncate(time.Second)) {
		// The browser asks for the next token while this one is still good, whenever it sends a
		// request. A token that ends with the session has no next one.
		issued.BoundLife -= e.cfg.RefreshAttemptMax
	}
	e.cfg.Observe(Event{Kind: EventRefreshed, Handle: rec.Handle, UserID: rec.UserID, Rule: d.rule})
	return issued, nil
}

// Shown is what a plain refresh, or a sign-out, shows of the device, where the session is bound to
// one.
type Shown struct {
	carried

	Access []string // the access tokens of the request
	// Again says that it comes back from [ErrProve]. Skipped says that the browser has a device session
	// and could not prove now. Waits are the values of [Issued.Waits] that came back.
	Again, Skipped bool
	Waits          []string
}

// freshToken is the access token of the session of t that a proof has just brought, and its text; nil
// if there is none.
func (e *Engine) freshToken(access []string, t refreshToken) (*Access, string) {
	if len(access) > TokensMax {
		return nil, ""
	}
	for _, text := range access {
		a, d := e.Verify(t.transport, []string{text})
		if d == nil && a.Bound && a.Handle == t.handle && e.feed.clock.now().Before(a.IssuedAt.Add(2*e.cfg.RefreshAttemptMax)) {
			return a, text
		}
	}
	return nil, ""
}

// admitProven judges a plain refresh whose token was used too often, which limited says. The token of a
// bound session stays the same, so a thief has it for good, and a flood with it must not keep the owner
// from a new access token. A client that has one of a proof is sent to prove, which asks no store. One
// that has just proven is counted apart.
func (e *Engine) admitProven(t refreshToken, s Shown, limited error) (Rule, error) {
	if fresh, _ := e.freshToken(s.Access, t); fresh != nil {
		_, err := e.perSession.take(sha256.Sum256(t.handle[:]), e.cfg.Now())
		return "", err
	}
	if !s.Again && e.wasProven(s.Access, t) {
		return B9, ErrProve
	}
	return "", limited
}

// wasProven says whether one of the access tokens was made for a proof of the session of t, however long
// ago.
func (e *Engine) wasProven(access []string, t refreshToken) bool {
	now := e.feed.clock.now()
	for _, text := range access[:min(len(access), TokensMax)] {
		if v, d := e.open(text, now); d == nil && v.Bound && v.Transport == t.transport && v.Handle == t.handle {
			return true
		}
	}
	return false
}

// waitsSince is the last of the times that came back: a sibling host may have planted an old one. They
// are not trusted further than to make a client sign in that need not.
func (e *Engine) waitsSince(waits []string, h Handle) (since time.Time) {
	for _, text := range waits[:min(len(waits), TokensMax)] {
		c, err := openChallenge(text, waiting, e.keys.Load())
		if err == nil && c.handle == h && (since.IsZero() || c.issuedAt.After(since)) {
			since = c.issuedAt
		}
	}
	return since
}

// refreshUnproven answers a plain refresh of a bound session (B8 to B10). It mints no token, changes
// no row and ends nothing: an attacker that has only the cookies gets here.
func (e *Engine) refreshUnproven(ctx context.Context, rec Record, s Shown, t refreshToken, now time.Time) (Issued, error) {
	access, text := e.freshToken(s.Access, t)
	since := e.waitsSince(s.Waits, t.handle)
	d := decideBound(rec.Row, asked{way: wayPlain, token: t, handle: t.handle, fresh: access != nil, again: s.Again, skipped: s.Skipped, waitsSince: since}, now, e.bound)
	issued, err := notIssued(d.rule, rec.Handle, rec.UserID), ErrUnproven
	switch d.answer {
	case boundAsBefore:
		return e.asBefore(rec, access, text, t, now), nil
	case boundLost:
		e.report(ctx, rec, AuditKeyLost, EventKeyLost, d.rule, "refresh")
		return issued, ErrKeyLost
	case boundProve:
		err = ErrProve
	default:
		e.report(ctx, rec, AuditUnproven, EventUnproven, d.rule, "refresh")
	}
	if since.IsZero() {
		waits, sealErr := e.sealChallenge(waiting, rec.Handle)
		if sealErr != nil {
			return Issued{}, sealErr
		}
		issued.Waits = waits
	}
	return issued, err
}

// asBefore is B8: what the client's scripts learn of a refresh, for the access token that it has.
func (e *Engine) asBefore(rec Record, a *Access, text string, t refreshToken, now time.Time) Issued {
	part, _ := cutToken(text) // verified
	payload, _ := decode(part.payload)
	i := newIssued(rec, minted{payload: payload, expires: a.Expires}, t.transport, now)
	i.AntiCSRF, i.Rule = t.antiCSRF.token(), B8
	e.cfg.Observe(Event{Kind: EventRefreshed, Handle: rec.Handle, UserID: rec.UserID, Rule: B8})
	return i
}

// report counts what a client did, and writes an audit event of it: once per hour and session in this
// process, however often a thief tries.
func (e *Engine) report(ctx context.Context, rec Record, kind AuditKind, event EventKind, rule Rule, actor string) {
	e.cfg.Observe(Event{Kind: event, Handle: rec.Handle, UserID: rec.UserID, Rule: rule})
	if e.cfg.Audit == nil {
		return
	}
	about := reported{rec.Handle, kind}
	if _, first := e.reported.SetIfAbsent(about, struct{}{}); !first {
		return
	}
	if err := e.store.Report(ctx, AuditEvent{Kind: kind, Handle: rec.Handle, UserID: rec.UserID, Rule: rule, Actor: actor}); err != nil {
		e.reported.Invalidate(about) // the next one is reported
		e.cfg.Observe(Event{Kind: EventReportFailed, Handle: rec.Handle, Err: err})
	}
}

// reported is what an audit event was written about.
type reported struct {
	handle Handle
	kind   AuditKind
}
