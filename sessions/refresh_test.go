package sessions_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// An end that took longer than our half of D is not "ended": the answer would clear
// cookies that a new sign-in may have set meanwhile.
func TestLateEndedIsUnavailable(t *testing.T) {
	store := newWatched()
	e, _ := start(t, store, quiet(t))
	issued, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	attacker := issued.Refresh
	for range 2 { // generate a child, and use it
		store.Advance(time.Minute)
		next, err := e.Refresh(t.Context(), sessions.TransportCookie, []string{issued.Refresh.Reveal()}, sessions.Client{1})
		if err != nil {
			t.Fatal(err)
		}
		if next.Refresh != "" {
			issued = next
		}
	}
	store.Advance(time.Minute)
	ctx, hangUp := context.WithCancel(t.Context())
	store.failing(func(call string, done bool) error {
		if call == "EndIf" && done {
			hangUp()
		}
		return nil
	})
	_, err = e.Refresh(ctx, sessions.TransportCookie, []string{attacker.Reveal()}, sessions.Client{1})
	if ctx.Err() == nil || !errors.Is(err, sessions.ErrUnavailable) || errors.Is(err, sessions.ErrSessionEnded) {
		t.Errorf("error %v, want unavailable and not ended", err)
	}
}
