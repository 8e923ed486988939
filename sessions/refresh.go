package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// casAttempts bounds how often a refresh decides again after another one changed the row. Each
// loser of a race finds the row of the winner, so few attempts are needed.
const casAttempts = 16

// AnswerWithin is the longest that an answer at the auth path may take, if D is d. Envoy's timeout
// there is D/2. Ours is shorter: an outage then ends as our 503, which says when to try again, and
// not as Envoy's 504.
func AnswerWithin(d time.Duration) time.Duration { return d * 9 / 20 }

// RefreshRequest is what a request shows to get new tokens.
type RefreshRequest struct {
	carried

	Transport Transport
	Tokens    []string // the refresh tokens that it carries by that transport
	Client    Client
	Device    Device // written where the refresh writes the row anyway; the zero one forgets that of before
	// Shown is of a client that may have bound its session to a device. Other transports than cookies,
	// and backends, show nothing.
	Shown Shown
	// WithData asks for the Data of the session, which browsers do not get.
	WithData bool
}

// Refresh answers the refresh tokens of a request (R1 to R8, B8 to B10). The error is
// [ErrSessionEnded] ([ErrTheft], [ErrKeyLost]), [ErrSuperseded], [ErrProve] or [ErrUnproven] (the
// session is bound to a device), a [RateError] or [ErrUnavailable]. But for the last two, Issued has the
// rule. If a token opened, it also has the handle and the user of the session, as far as they are
// known. Of an Issued without an error Access may be empty: the client keeps its own (B8).
func (e *Engine) Refresh(ctx context.Context, r RefreshRequest) (issued Issued, err error) {
	began := e.cfg.Now()
	defer func() {
		e.cfg.Observe(Event{Kind: EventRefreshAnswered, Rule: issued.Rule, Err: err, Took: e.cfg.Now().Sub(began)})
	}()
	return e.inTime(ctx, "refreshing", func(ctx context.Context) (Issued, error) { return e.refresh(ctx, r) })
}

// inTime keeps the engine's half of D by force. A later answer could bring an old token to a browser
// that has a newer one by then; its next refresh would look like a reuse.
func (e *Engine) inTime(ctx context.Context, doing string, f func(context.Context) (Issued, error)) (Issued, error) {
	if !e.Ready() {
		return Issued{}, ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, AnswerWithin(e.cfg.RefreshAttemptMax))
	defer cancel()
	issued, err := f(ctx)
	switch {
	case ctx.Err() == nil:
		return issued, err
	case errors.Is(err, ErrUnavailable):
		return Issued{}, err
	default:
		// ErrSessionEnded must not be in this error's chain: it would clear cookies, perhaps those
		// of a new sign-in.
		return Issued{}, unavailable(doing, ctx.Err())
	}
}

func (e *Engine) refresh(ctx context.Context, r RefreshRequest) (Issued, error) {
	t, err := e.openRefresh(r.Transport, r.Tokens)
	if err != nil {
		if errors.Is(err, ErrSessionEnded) {
			e.cfg.Observe(Event{Kind: EventRefreshRefused, Rule: R1})
		}
		return Issued{Rule: R1}, err
	}
	// The limit counts by token, not by session. An attacker who floods with a stolen token must
	// not keep the owner's refresh from the decision: that refresh reveals the theft (R8). It
	// counts before the store is asked.
	known, err := e.perSession.take(t.hash(), e.cfg.Now())
	if err != nil {
		if rule, err := e.admitProven(t, r.Shown, err); err != nil {
			return notIssued(rule, t.handle, ""), err
		}
	}
	var nonce Nonce
	fill(nonce[:])
	rotation := rotation(t, r.Client, nonce, e.windows)
	rotation.Device = r.Device
	rotation.WithData, rotation.ReadOnly = r.WithData, e.expectsNoChild(t, known)
	for range casAttempts {
		rec, now, rotated, err := e.store.Rotate(ctx, t.handle, rotation)
		if errors.Is(err, ErrNotFound) {
			return notIssued(R2, t.handle, ""), e.gone(ctx, t.handle)
		}
		if err != nil {
			return Issued{}, unavailable("reading session", err)
		}
		rotation.ReadOnly = false // no second guess
		if rec.Bound() && now.Before(rec.EndsAt()) {
			return e.refreshUnproven(ctx, rec, r.Shown, t, now)
		}
		d := decide(rec.Row, t, r.Client, now, nonce, e.windows).from(r.Device, rec.Row)
		if rotated {
			if d.rule != R4 || d.answer != answerChild || d.next != rotation.Next(rec.Row, now) {
				return Issued{}, unavailable("refreshing", fmt.Errorf("the store rotated a row for which %s decides", d.rule))
			}
			rec.Row = d.next
			known.remember(e.windows.noChildBefore(rec.Row))
			return e.answer(rec, t, d, now)
		}
		if d.end != "" {
			ending := Ending{Reason: d.end, Actor: "refresh", Rule: d.rule}
			done, err := e.store.EndIf(ctx, rec.Row, ending)
			if err != nil {
				return Issued{}, unavailable("ending session", err)
			}
			if !done {
				continue
			}
			e.ended(rec.Handle, rec.UserID, ending)
			if d.end == ReasonTheft {
				return notIssued(d.rule, rec.Handle, rec.UserID), ErrTheft
			}
			return notIssued(d.rule, rec.Handle, rec.UserID), ErrSessionEnded
		}
		if d.next != rec.Row {
			done, err := e.store.Swap(ctx, rec.Row, d.next, d.rule)
			if err != nil {
				return Issued{}, unavailable("writing session", err)
			}
			if !done {
				continue
			}
			rec.Row = d.next
		}
		known.remember(e.windows.noChildBefore(rec.Row))
		return e.answer(rec, t, d, now)
	}
	return Issued{}, unavailable("refreshing", errors.New("too many refreshes of the session at once"))
}

// expectsNoChild guesses that R4 does not fit the row of t: t was issued less than G ago, so it can
// be current for no longer, or the last refresh with it left such a row. Twenty tabs that refresh at
// once then cost the store one statement that may write, and plain reads. A wrong guess costs one more
// statement, for the row alone decides.
func (e *Engine) expectsNoChild(t refreshToken, known *counted) bool {
	now := e.feed.clock.now()
	return now.Before(t.issuedAt.Add(e.windows.grace())) || now.Before(known.remembered())
}

// answer carries out the decision d.
func (e *Engine) answer(rec Record, t refreshToken, d decision, now time.Time) (issued Issued, err error) {
	event := Event{Kind: EventRefreshed, Handle: rec.Handle, UserID: rec.UserID, Rule: d.rule}
	switch d.answer {
	case answerChild:
		child := t.child(rec.NextNonce)
		child.issuedAt = now
		issued, err = e.issue(rec, child, rec.Current, now, true)
	case answerKeep:
		issued, err = e.issue(rec, t, TokenHash{}, now, false)
	case answerSuperseded:
		issued, event.Kind, err = notIssued(d.rule, rec.Handle, rec.UserID), EventSuperseded, ErrSuperseded
	default:
		issued, event.Kind, err = notIssued(d.rule, rec.Handle, rec.UserID), EventRefreshRefused, ErrSessionEnded
	}
	issued.Rule = d.rule
	if err == nil || event.Kind != EventRefreshed {
		e.cfg.Observe(event)
	}
	return issued, err
}

// notIssued names the session that a refusal is about.
func notIssued(rule Rule, h Handle, userID string) Issued {
	return Issued{Rule: rule, Session: Record{Row: Row{Handle: h, UserID: userID}}}
}

// unsure says whether a refresh token failed to open perhaps because of this process: during a
// rollout, a newer process may have made the token.
func (e *Engine) unsure(err error) bool {
	return errors.Is(err, errNewerFormat) || errors.Is(err, errUnknownSealingKey) && !e.knowsAllKeys()
}

// openRefresh is R1. It returns the token that was issued last, of those that open. If none opens,
// or they belong to several sessions, the session has ended for the client; no query is made. A
// token of the other transport does not open: a token that scripts can read must not become a
// cookie, and a token that they cannot read must not become a header.
func (e *Engine) openRefresh(by Transport, tokens []string) (refreshToken, error) {
	var best refreshToken
	found := false
	var unsure error
	if len(tokens) > TokensMax {
		tokens = nil
	}
	for _, text := range tokens {
		t, err := openRefreshToken(text, e.keys.Load())
		switch {
		case e.unsure(err):
			unsure = err
		case err != nil, t.transport != by:
		case found && t.handle != best.handle:
			return refreshToken{}, ErrSessionEnded
		case !found || t.issuedAt.After(best.issuedAt):
			best, found = t, true
		}
	}
	switch {
	case found:
		return best, nil
	case unsure != nil:
		return refreshToken{}, unavailable("opening refresh token", unsure)
	default:
		return refreshToken{}, ErrSessionEnded
	}
}

// gone is R2 for a session that the store does not hold: it has ended. But if its client signed out
// a moment ago, or a new sign-in replaced it, the browser may have new cookies by now. A late
// "ended" would clear them, so the answer is then "superseded".
func (e *Engine) gone(ctx context.Context, h Handle) error {
	how, known := e.feed.set.endedAs(h)
	if !known { // another replica's sign-out may be newer than the last poll
		if err := e.poll(ctx); err != nil {
			return unavailable("reading why the session is gone", err)
		}
		how, _ = e.feed.set.endedAs(h)
	}
	if how.replacedWithin(2*e.cfg.RefreshAttemptMax, e.feed.clock.now()) {
		e.cfg.Observe(Event{Kind: EventSuperseded, Handle: h, Rule: R2})
		return ErrSuperseded
	}
	e.cfg.Observe(Event{Kind: EventRefreshRefused, Handle: h, Rule: R2})
	return ErrSessionEnded
}
