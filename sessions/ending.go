package sessions

import (
	"context"
	"errors"
)

// Ending says why a session ends and at which caller's request. Actor is free text for the audit
// event ("sign-out", the name of an API key); it holds no secret. Rule is the rule of the refresh
// that ends the session, or empty.
type Ending struct {
	Reason Reason
	Actor  string
	Rule   Rule
}

// EvictedEnding is the ending of a session that a limit evicts.
var EvictedEnding = Ending{Reason: ReasonEvicted, Actor: "sign-in"}

var (
	signedOutEnding = Ending{Reason: ReasonSignedOut, Actor: "sign-out"}
	// ownEnding is that of a session which its user ends from another one.
	ownEnding = Ending{Reason: ReasonRevoked, Actor: "user"}
)

// End ends a session. It reports whether there was one; it is no error if there was none. Once End
// returns, no token is minted for the session (I4) and this engine allows none. Every other engine
// follows within its FeedBound.
func (e *Engine) End(ctx context.Context, h Handle, ending Ending) (bool, error) {
	done, err := e.store.End(ctx, h, ending)
	if err != nil {
		return false, unavailable("ending session", err)
	}
	if done {
		e.ended(h, "", ending)
		return true, nil
	}
	return false, e.hearOfEnds(ctx)
}

// EndUser ends all sessions of a user and returns how many there were.
func (e *Engine) EndUser(ctx context.Context, userID string, ending Ending) (int, error) {
	if err := checkUserID(userID); err != nil {
		return 0, err
	}
	handles, err := e.store.EndUser(ctx, userID, ending)
	if err != nil {
		return 0, unavailable("ending the sessions of a user", err)
	}
	for _, h := range handles {
		e.ended(h, userID, ending)
	}
	if len(handles) == 0 {
		return 0, e.hearOfEnds(ctx)
	}
	return len(handles), nil
}

// hearOfEnds reads the feed if there was nothing to end. Another engine may have ended the session
// a moment ago; this engine must not report "ended" and then allow the session.
func (e *Engine) hearOfEnds(ctx context.Context) error {
	if !e.Ready() {
		return nil // it allows nothing yet, and its start reads the feed
	}
	if err := e.poll(ctx); err != nil {
		return unavailable("reading what has ended", err)
	}
	return nil
}

// ended makes this engine deny at once what the other engines learn from the feed.
func (e *Engine) ended(h Handle, userID string, ending Ending) {
	if e.Ready() {
		e.feed.add(Entry{Kind: EntryEnded, Handle: h, Reason: ending.Reason, At: e.feed.clock.now()})
	}
	e.cfg.Observe(Event{Kind: EventEnded, Handle: h, UserID: userID, Rule: ending.Rule, Reason: ending.Reason, Actor: ending.Actor})
}

// SignOutRequest is what a request shows to sign out.
type SignOutRequest struct {
	carried

	Transport       Transport
	Refresh, Access []string // the tokens that it carries by that transport
	Again           bool     // it comes back from [ErrProve]
}

// SignOut ends the sessions that the tokens of a request name. A refresh token counts if it opens, an
// access token if it is valid. SignOut is idempotent.
//
// If the request has nothing but an expired access token, the error is DenyExpired: the client must
// refresh first, then sign out. Refresh tokens count toward the rate of refreshes, unless a valid access
// token of their session came along: [RateError].
//
// A session that is bound to a device ends only with a good access token, which only the device has for
// long: an attacker that has stolen the other cookies must not end it. Without one the error is
// [ErrProve]; if the client comes again without, nothing ends, and the client is to forget its cookies
// (B12).
func (e *Engine) SignOut(ctx context.Context, r SignOutRequest) error {
	if !e.Ready() {
		return ErrUnavailable
	}
	if len(r.Refresh) > TokensMax || len(r.Access) > TokensMax {
		r.Refresh, r.Access = nil, nil
	}
	handles := map[Handle]bool{} // and whether the client may end it
	expired := false
	for _, text := range r.Access {
		switch a, d := e.Verify(r.Transport, []string{text}); {
		case d == nil:
			handles[a.Handle] = true
		case d == DenyExpired, d == DenyLost, d == DenyVersion:
			// The session lives: the client must come back with a valid token.
			expired = true
		case d.Outcome == Unavailable:
			return unavailable("verifying access token", d)
		}
	}
	for _, text := range r.Refresh {
		t, err := openRefreshToken(text, e.keys.Load())
		switch {
		case err == nil && t.transport == r.Transport && handles[t.handle]:
			// Not counted: of a bound session a thief has the owner's token for good, and must not keep the
			// owner from the sign-out. The access token is good for one.
		case err == nil && t.transport == r.Transport:
			if _, err := e.perSession.take(t.hash(), e.cfg.Now()); err != nil {
				return err // each sign-out costs a statement, also for a session that has ended
			}
			handles[t.handle] = r.Transport == TransportHeader // which is bound to no device
		case e.unsure(err):
			return unavailable("opening refresh token", err)
		}
	}
	if len(handles) == 0 && expired {
		return DenyExpired
	}
	for h, may := range handles {
		var err error
		if may {
			_, err = e.End(ctx, h, signedOutEnding)
		} else {
			err = e.endUnlessBound(ctx, h, r.Again)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endUnlessBound signs out by a refresh token alone.
func (e *Engine) endUnlessBound(ctx context.Context, h Handle, again bool) error {
	for range casAttempts {
		rec, now, err := e.store.Get(ctx, h)
		switch {
		case errors.Is(err, ErrNotFound):
			return e.hearOfEnds(ctx)
		case err != nil:
			return unavailable("reading session", err)
		case rec.Bound() && now.Before(rec.EndsAt()):
			if !again {
				return ErrProve
			}
			e.report(ctx, rec, AuditUnproven, EventUnproven, B12, signedOutEnding.Actor)
			return nil
		}
		done, err := e.store.EndIf(ctx, rec.Row, signedOutEnding)
		if err != nil {
			return unavailable("ending session", err)
		}
		if done {
			e.ended(h, "", signedOutEnding)
			return nil
		}
	}
	return unavailable("ending session", errors.New("too many changes of the session at once"))
}
