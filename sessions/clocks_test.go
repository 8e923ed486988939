package sessions_test

import (
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// TestWrongClocks: one engine believes that it is an hour later, the other that it is an hour
// earlier. Only the store's clock judges, so neither refuses what the other made, nor keeps
// anything for longer or for shorter.
func TestWrongClocks(t *testing.T) {
	store := newWatched()
	var engines []*sessions.Engine
	for _, wrong := range []time.Duration{time.Hour, -time.Hour} {
		cfg := lively(t)
		cfg.Now = func() time.Time { return time.Now().Add(wrong) }
		e, _ := start(t, store, cfg)
		engines = append(engines, e)
	}
	for i, e := range engines {
		other := engines[1-i]
		issued := create(t, e)
		for range 3 { // the chain grows, at both engines in turn
			advance(t, store, time.Minute, engines...)
			child := refresh(t, other, issued.Refresh, home)
			if child.Refresh.Reveal() == "" { // it was promoted, and stays
				child.Refresh = issued.Refresh
			}
			for _, at := range engines {
				if d := verify(at, child.Access); d != nil {
					t.Errorf("a fresh token: %v", d)
				}
			}
			issued, e, other = child, other, e
		}
		advance(t, store, time.Hour+time.Minute, engines...) // the life of an access token
		for _, at := range engines {
			if d := verify(at, issued.Access); d != sessions.DenyExpired {
				t.Errorf("an expired token: %v, want %v", d, sessions.DenyExpired)
			}
		}
		issued.Access = refresh(t, e, issued.Refresh, home).Access
		if _, err := e.End(t.Context(), issued.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
			t.Fatal(err)
		}
		advance(t, store, time.Minute, engines...)
		for _, at := range engines {
			if d := verify(at, issued.Access); d != sessions.DenyEnded {
				t.Errorf("an ended session: %v, want %v", d, sessions.DenyEnded)
			}
		}
	}
}
