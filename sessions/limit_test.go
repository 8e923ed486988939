package sessions_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
)

// One sign-in more than allowed ends the first session: at once in this engine, which reports it,
// and its refresh token no longer works.
func TestEviction(t *testing.T) {
	cfg := quiet(t) // no poll could tell this engine
	cfg.PerUser = sessions.UserLimit{Max: 1, EvictOldest: true}
	store := memory.New()
	e, log := start(t, store, cfg)
	sign := func() sessions.Issued {
		t.Helper()
		issued, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		return issued
	}
	first, second := sign(), sign()
	if _, denial := e.Verify(sessions.TransportCookie, []string{first.Access.Reveal()}); denial != sessions.DenyEnded {
		t.Errorf("the evicted one: %v", denial)
	}
	if _, denial := e.Verify(sessions.TransportCookie, []string{second.Access.Reveal()}); denial != nil {
		t.Errorf("the new one: %v", denial)
	}
	again := func() error {
		_, err := e.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{first.Refresh.Reveal()}})
		return err
	}
	// Perhaps of the very browser that has just signed in again: "ended" would clear its new cookies.
	if err := again(); !errors.Is(err, sessions.ErrSuperseded) {
		t.Errorf("refreshing the evicted one at once: %v, want superseded", err)
	}
	store.Advance(2 * cfg.RefreshAttemptMax)
	if _, err := e.End(t.Context(), sessions.NewHandle(), sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil { // polls
		t.Fatal(err)
	}
	if err := again(); !errors.Is(err, sessions.ErrSessionEnded) || errors.Is(err, sessions.ErrTheft) {
		t.Errorf("refreshing the evicted one later: %v, want an ended session, and not theft", err)
	}
	told := sessions.Event{Kind: sessions.EventEnded, Handle: first.Session.Handle, UserID: "alice", Reason: sessions.ReasonEvicted, Actor: "sign-in"}
	if !slices.Contains(log.all(), told) {
		t.Errorf("no event %+v", told)
	}
}

func TestLimitRefuses(t *testing.T) {
	cfg := quiet(t)
	cfg.PerUser = sessions.UserLimit{Max: 1}
	store := memory.New()
	e, _ := start(t, store, cfg)
	create := func() error {
		_, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
		return err
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	if err := create(); !errors.Is(err, sessions.ErrTooManySessions) || errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("one too many: %v", err)
	}
	store.Fail(func(string) error { return errors.New("down") })
	if err := create(); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("a store that is down: %v", err)
	}
}
