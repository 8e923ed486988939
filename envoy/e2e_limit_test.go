package envoy_test

import (
	"net/http"
	"sync"
	"testing"
)

// TestSessionsPerUser: the settings are those of the whole deployment. Whichever process creates, there are never more sessions than allowed,
// and the one that went is denied by each.
func TestSessionsPerUser(t *testing.T) {
	t.Run("evict_oldest", func(t *testing.T) {
		s := newStack(t, stackOptions{noEnvoy: true, settings: []string{"SESSIONGATE_SESSION_MAX_PER_USER=2"}})
		one, two := s.processes[0], s.processes[1]
		first, second := one.create("alice"), two.create("alice")
		third := two.create("alice")
		s.denied(first.Tokens.Access, first.Tokens.AntiCSRF)
		for _, c := range []created{second, third} {
			for _, p := range s.processes {
				if status := p.check(c.Tokens.Access, c.Tokens.AntiCSRF); status != http.StatusOK {
					t.Errorf("%s: %d for a session that lives", p.name, status)
				}
			}
		}
		if n := s.endedFor(first.Session.Handle, "evicted"); n != 1 {
			t.Errorf("%d events", n)
		}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() { s.processes[i%2].create("bob") })
		}
		all.Wait()
		if n := s.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE user_id = 'bob'`); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
	})
	t.Run("reject", func(t *testing.T) {
		s := newStack(t, stackOptions{noEnvoy: true, settings: []string{"SESSIONGATE_SESSION_MAX_PER_USER=1", "SESSIONGATE_SESSION_WHEN_FULL=reject"}})
		first := s.processes[0].create("alice")
		status, _ := s.processes[1].api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "alice"}, nil)
		if status != http.StatusConflict {
			t.Errorf("one too many: %d, want 409", status)
		}
		if status := s.processes[1].check(first.Tokens.Access, first.Tokens.AntiCSRF); status != http.StatusOK {
			t.Errorf("the first one: %d", status)
		}
	})
}
