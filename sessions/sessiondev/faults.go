package sessiondev

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// errOutage is what a store says that is away.
var errOutage = errors.New("the store is out, as it was asked to be")

// ErrNoSession is returned where a fault needs a session and there is none.
var ErrNoSession = errors.New("no session has begun yet: sign in first")

// faultTimeout bounds the wait until the engine has heard of a fault.
const faultTimeout = 5 * time.Second

// Expire makes every access token expire now: the clock of the store moves on by the life of one.
// The next request of each client is told to refresh.
func (s *Server) Expire(ctx context.Context) error {
	s.playing.Lock()
	defer s.playing.Unlock()
	return s.advance(ctx, s.life+time.Second)
}

// advance moves the store's clock, and returns when the engine has followed.
func (s *Server) advance(ctx context.Context, by time.Duration) error {
	if s.out.Load() { // the engine could not follow, and would find every token expired once it can
		return fmt.Errorf("moving the clock: %w; bring it back first", errOutage)
	}
	then := s.engine.Now().Add(by)
	s.store.Advance(by)
	ctx, cancel := context.WithTimeout(ctx, faultTimeout)
	defer cancel()
	for s.engine.Now().Before(then) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("moving the clock: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// End ends the sessions of a user; of all users where user is empty. It returns how many there were.
func (s *Server) End(ctx context.Context, user string) (int, error) {
	users := []string{user}
	if user == "" {
		users = s.seen.allUsers()
	}
	ended := 0
	for _, user := range users {
		n, err := s.engine.EndUser(ctx, user, sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "dev"})
		ended += n
		if err != nil {
			return ended, fmt.Errorf("ending sessions: %w", err)
		}
	}
	return ended, nil
}

// Theft plays a thief who copied a refresh token of the session that began last, and uses it from
// another client after the chain went on. That is reuse (R8 of docs/protocol.md): the session ends,
// for the thief and for its owner. The store's clock moves on by some windows.
func (s *Server) Theft(ctx context.Context) error {
	s.playing.Lock()
	defer s.playing.Unlock()
	tokens := s.seen.ofLatest()
	if len(tokens) == 0 {
		return ErrNoSession
	}
	stolen, newest := tokens[0], tokens[len(tokens)-1]
	thief := sessions.NewClient(netip.MustParseAddr("192.0.2.66"), "thief") // a network for examples (RFC 5737)
	refresh := func(t seenToken) (sessions.Issued, error) {
		// No window of the protocol is open any more: neither G nor W.
		if err := s.advance(ctx, 3*s.attempt); err != nil {
			return sessions.Issued{}, err
		}
		issued, err := s.engine.Refresh(ctx, sessions.RefreshRequest{Transport: t.transport, Tokens: []string{t.text}, Client: thief})
		if errors.Is(err, sessions.ErrSuperseded) {
			err = nil
		}
		return issued, err
	}
	if len(tokens) == 1 { // the chain has not gone on: the thief is the first to refresh
		issued, err := refresh(stolen)
		if err != nil {
			return notTheft(err)
		}
		newest = seenToken{issued.Refresh.Reveal(), stolen.transport}
	}
	if _, err := refresh(newest); err != nil { // its first use makes it current, if it was not
		return notTheft(err)
	}
	if _, err := refresh(stolen); !errors.Is(err, sessions.ErrTheft) {
		return notTheft(err)
	}
	return nil
}

func notTheft(err error) error {
	if errors.Is(err, sessions.ErrSessionEnded) {
		return fmt.Errorf("%w: the last one has ended", ErrNoSession)
	}
	return fmt.Errorf("playing a thief: %w", err)
}

// Outage takes the store away, or brings it back. Without it, good access tokens go on being
// allowed; a refresh and a sign-in are answered 503.
func (s *Server) Outage(on bool) {
	s.out.Store(on)
	if !on {
		s.store.Fail(nil)
		return
	}
	s.store.Fail(func(string) error { return errOutage })
}
