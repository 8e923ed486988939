package postgres_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// Before the former version comes back, an operator ends the sessions that it cannot refresh, by the
// SQL of docs/bound.md. They end on every replica, with an event each, and no other session does.
func TestEndSessionsWithAKey(t *testing.T) {
	t.Parallel()
	c := open(t)
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = kek(t, make([]byte, 32))
	e := sessionstest.StartEngine(t, c, cfg)
	sign := map[string]sessions.Issued{}
	for _, user := range []string{"unbound", "registered", "bound"} {
		i, err := e.Create(t.Context(), sessions.NewSession{UserID: user, Transport: sessions.TransportCookie})
		if err != nil {
			t.Fatal(err)
		}
		sign[user] = i
	}
	c.exec(`UPDATE sessiongate.active_sessions SET bound_key = decode(repeat('02', 33), 'hex') WHERE user_id <> 'unbound'`)
	c.exec(`UPDATE sessiongate.active_sessions SET bound_at = sessiongate.now() WHERE user_id = 'bound'`)

	c.exec(documented(t, "bound"))
	for user, i := range sign {
		_, err := e.Get(t.Context(), i.Session.Handle)
		if ended := user != "unbound"; ended != errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("%s: %v", user, err)
		} else if !ended {
			continue
		}
		if n := c.count(`SELECT count(*) FROM sessiongate.audit_events WHERE kind = 'ended' AND user_id = $1 AND actor = 'operator'`, user); n != 1 {
			t.Errorf("%s: %d events", user, n)
		}
		for { // until the replica has heard of it
			if _, d := e.Verify(sessions.TransportCookie, []string{i.Access.Reveal()}); d == sessions.DenyEnded {
				break
			}
			runtime.Gosched()
		}
	}
	if _, d := e.Verify(sessions.TransportCookie, []string{sign["unbound"].Access.Reveal()}); d != nil {
		t.Error(d)
	}
}
