package sessions

import (
	"context"
	"errors"
	"time"
)

// A user may see and end their own sessions by an access token of one of them. A thief of an
// access token has the same rights for as long as it is good. So a call that ends other sessions needs a
// recent sign-in. No stolen token brings one about: its thief cannot throw the owner out, unless the
// owner signed in with that session a moment ago.

// ErrReauth says that the session's sign-in is too long ago for what was asked. Nothing changed.
var ErrReauth = errors.New("the sign-in is too long ago")

// ownCalls bounds the calls of one session for its user's own sessions. Each costs queries, and the
// client is perhaps a thief.
var ownCalls = Rate{PerSecond: 1, Burst: 60}

// ListOwn returns the living sessions of the user of a, the newest first: at most limit, which is
// positive, and whether there are more. The session of a is always among them. The error is
// [DenyEnded] if it has ended, also where this engine has not heard of that yet, a [RateError] or
// [ErrUnavailable].
func (e *Engine) ListOwn(ctx context.Context, a *Access, limit int) (rows []Row, more bool, err error) {
	if _, err := e.own.take(a.Handle, e.cfg.Now()); err != nil {
		return nil, false, err
	}
	rows, err = e.store.UserRows(ctx, a.UserID, limit+1)
	if err != nil {
		return nil, false, unavailable("listing the sessions of a user", err)
	}
	more = len(rows) > limit
	for i, r := range rows {
		if r.Handle == a.Handle {
			if i == limit {
				rows[limit-1] = r // older than all before it
			}
			return rows[:min(limit, len(rows))], more, nil
		}
	}
	own, _, err := e.ownSession(ctx, a)
	if err != nil {
		return nil, false, err
	}
	if !more { // it was created since
		return append([]Row{own.Row}, rows...), false, nil
	}
	return append(rows[:limit-1], own.Row), true, nil
}

// ownSession is the session of a, as the store has it now, and the time of the reading.
func (e *Engine) ownSession(ctx context.Context, a *Access) (Record, time.Time, error) {
	rec, now, err := e.living(ctx, a.Handle)
	if errors.Is(err, ErrNotFound) {
		err = DenyEnded
	}
	return rec, now, err
}

// mayEnd says whether the session of a lives, and its sign-in is at most within ago, by the store's
// clock. A sign-in of the future, after that clock was set back, is a recent one.
func (e *Engine) mayEnd(ctx context.Context, a *Access, within time.Duration) error {
	own, now, err := e.ownSession(ctx, a)
	if err == nil && now.Sub(own.CreatedAt) > within {
		return ErrReauth
	}
	return err
}

// EndOwn ends the session h of the user of a. The error is [ErrReauth] if the sign-in of a is more
// than within ago, and [ErrNotFound] if the user has no living session h: it does not tell whether
// another user has one. The others are those of [Engine.ListOwn].
//
// The session of a itself ends as by [Engine.SignOut], however long ago its sign-in is.
func (e *Engine) EndOwn(ctx context.Context, a *Access, h Handle, within time.Duration) error {
	if h == a.Handle { // not counted, as no sign-out is: a thief's calls must not keep the owner from it
		if _, _, err := e.ownSession(ctx, a); err != nil {
			return err
		}
		_, err := e.End(ctx, h, signedOutEnding)
		return err
	}
	if _, err := e.own.take(a.Handle, e.cfg.Now()); err != nil {
		return err
	}
	if err := e.mayEnd(ctx, a, within); err != nil {
		return err
	}
	rec, err := e.Get(ctx, h)
	if err != nil {
		return err
	}
	if rec.UserID != a.UserID {
		return ErrNotFound
	}
	_, err = e.End(ctx, h, ownEnding) // if it has ended meanwhile, that is what the user wants
	return err
}

// EndOthers ends all sessions of the user of a but that of a, and returns how many there were. Its
// errors are those of [Engine.EndOwn]. A session that is created at the same time ends, too, or does
// not.
func (e *Engine) EndOthers(ctx context.Context, a *Access, within time.Duration) (int, error) {
	if _, err := e.own.take(a.Handle, e.cfg.Now()); err != nil {
		return 0, err
	}
	if err := e.mayEnd(ctx, a, within); err != nil {
		return 0, err
	}
	handles, err := e.store.EndOthers(ctx, a.UserID, a.Handle, ownEnding)
	if err != nil {
		return 0, unavailable("ending the other sessions of a user", err)
	}
	for _, h := range handles {
		e.ended(h, a.UserID, ownEnding)
	}
	if len(handles) == 0 { // there were none, or another session was quicker and ended this one
		if _, _, err := e.ownSession(ctx, a); err != nil {
			return 0, err
		}
		return 0, e.hearOfEnds(ctx)
	}
	return len(handles), nil
}
