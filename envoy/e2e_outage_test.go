package envoy_test

import (
	"net/http"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// TestOutage: Postgres comes after sessiongate, goes and comes back; then sessiongate goes. No one is let in unchecked, no one is signed
// out, and nothing has to be restarted.
func TestOutage(t *testing.T) {
	c, err := cluster.Start(t.Context(), clusterOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	c.Kill()
	s := newStack(t, stackOptions{cluster: c, notReady: true, settings: []string{
		"SESSIONGATE_DATABASE_CONNECT_TIMEOUT=1s", "SESSIONGATE_DATABASE_STATEMENT_TIMEOUT=1s",
	}, edit: editRoutes(func(v *routev3.VirtualHost) error {
		return addRoute(v, "default", "/strict", map[string]string{"session": "required", "strict": "true"})
	})})
	b := s.newBrowser(networkV)
	unavailable := func(t *testing.T, what string, a answer) {
		t.Helper()
		if a.status != http.StatusServiceUnavailable || len(a.header.Values("Set-Cookie")) > 0 || a.header.Get("Retry-After") == "" || a.header.Get("Id-Refresh-Token") != "" || a.app != nil {
			t.Errorf("%s: %d with %d cookies, want 503 without any, and Retry-After", what, a.status, len(a.header.Values("Set-Cookie")))
		}
	}

	t.Run("before Postgres", func(t *testing.T) {
		for _, p := range s.processes {
			if p.ready() {
				t.Errorf("%s is ready without a database", p.name)
			}
		}
		for range 4 {
			unavailable(t, "page", b.do(http.MethodGet, "/", navigation))
			unavailable(t, "script", b.do(http.MethodPost, "/api/x", script))
		}
		if status, header := s.processes[0].api(http.MethodPost, "/v1/sessions", map[string]string{"user_id": "alice"}, nil); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("creating a session: %d", status)
		}
	})
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateDatabase(t.Context(), s.name, ""); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.processes {
		p.awaitReady()
	}
	s.connect()
	handle := b.signIn("alice")
	b.mustGet(t)
	s.advance(grace + moment)

	t.Run("while Postgres is away", func(t *testing.T) {
		c.Kill()
		for range 10 {
			b.mustGet(t)
		}
		for _, p := range s.processes {
			if p.check(b.access(), b.antiCSRF) != http.StatusOK {
				t.Errorf("%s denies", p.name)
			}
			if !p.ready() {
				t.Errorf("%s is not ready: an outage of Postgres must not take it away", p.name)
			}
			if status, header := p.api(http.MethodPost, "/v1/sessions", map[string]string{"user_id": "alice"}, nil); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
				t.Errorf("creating a session: %d", status)
			}
			if status, _ := p.api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil); status != http.StatusServiceUnavailable {
				t.Errorf("ending a session: %d; no one may believe it ended", status)
			}
		}
		for range 4 {
			unavailable(t, "refresh", b.refresh())
		}
		unavailable(t, "sign-out", b.do(http.MethodPost, "/auth/signout", script))
		if a := b.do(http.MethodGet, "/", script, without("Cookie")); a.status != http.StatusFound {
			t.Errorf("no session: %d", a.status)
		}
		for _, p := range s.processes { // each finds by itself that its feed is too old
			strict := checkRequest(b.access(), b.antiCSRF)
			strict.GetAttributes().ContextExtensions["strict"] = "true"
			p.eventually(p.name+" asks Postgres for a strict route", func() bool {
				response, err := p.gate.Check(t.Context(), strict)
				return err == nil && response.GetStatus().GetCode() == int32(codes.Unavailable)
			})
		}
		unavailable(t, "strict", b.do(http.MethodGet, "/strict", script))
		b.mustGet(t)
	})
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.reconnect()

	t.Run("once it is back", func(t *testing.T) {
		s.eventually("a strict route passes again", func() bool { return b.do(http.MethodGet, "/strict", script).status == http.StatusOK })
		s.eventually("refresh works again", func() bool { return b.refresh().status == http.StatusOK })
		b.mustGet(t)
		for _, p := range s.processes {
			s.eventually(p.name+" signs in again", func() bool {
				status, _ := p.api(http.MethodPost, "/v1/sessions", map[string]string{"user_id": "bob"}, nil)
				return status == http.StatusCreated
			})
		}
		if status, _ := s.processes[0].api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil); status != http.StatusOK {
			t.Errorf("ending a session: %d", status)
		}
		s.denied(b.access(), b.antiCSRF)
	})

	t.Run("without sessiongate", func(t *testing.T) {
		for _, p := range s.processes {
			p.stop()
		}
		again := s.newBrowser(networkV)
		again.jar, again.antiCSRF = b.jar, b.antiCSRF
		for _, path := range []string{"/", "/api/x", "/optional", "/typo"} {
			unavailable(t, path, again.do(http.MethodGet, path, script))
		}
		if a := again.do(http.MethodPost, refreshPath, script); a.status != http.StatusServiceUnavailable || len(a.header.Values("Set-Cookie")) > 0 {
			t.Errorf("refresh: %d", a.status)
		}
		if a := again.do(http.MethodGet, "/static/x", script); a.app == nil {
			t.Errorf("what needs no session: %d", a.status)
		}
	})
}

// TestFirstStart: of processes that start at once on an empty database, one makes the keys, and all use them.
func TestFirstStart(t *testing.T) {
	s := newStack(t, stackOptions{processes: 3, noEnvoy: true})
	if n := s.count(`SELECT count(*) FROM sessiongate.keys`); n != 2 {
		t.Errorf("%d keys, want one for signing and one for sealing", n)
	}
	for _, p := range s.processes {
		c := p.create("alice")
		for _, q := range s.processes {
			if status := q.check(c.Tokens.Access, c.Tokens.AntiCSRF); status != http.StatusOK {
				t.Errorf("%s answers %d to a token of %s", q.name, status, p.name)
			}
		}
	}
}

// TestGracefulStop: a process is stopped under load. No request fails, and what it had in memory is not lost.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{settings: []string{
		"SESSIONGATE_PROMOTION_BATCH=1", "SESSIONGATE_SESSION_REFRESH_ATTEMPT_MAX=1m", "SESSIONGATE_DATABASE_STATEMENT_TIMEOUT=1m",
	}})
	leaving := s.processes[0]
	b := s.newBrowser(networkV)
	b.signIn("alice")

	// Two children whose first use the leaving process has seen. The promotion of the first cannot finish: its row is locked. So the second
	// one waits in memory.
	children, handles := []*browser{s.newBrowser(networkV), s.newBrowser(networkV)}, make([]string, 2)
	for i, c := range children {
		handles[i] = c.signIn("bob")
	}
	s.advance(time.Minute + moment) // G
	for _, c := range children {
		if !c.mustRefresh(t) {
			t.Fatal("no child")
		}
	}
	release := s.lockSessions(`handle = $1`, handleBytes(handles[0]))
	first := leaving.check(children[0].access(), children[0].antiCSRF)
	s.eventually("the first promotion waits for its row", func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	if second := leaving.check(children[1].access(), children[1].antiCSRF); first != http.StatusOK || second != http.StatusOK {
		t.Fatalf("%d, %d", first, second)
	}

	// The load.
	load := s.newLoad(t)
	for range 4 {
		load.run(func() error { return b.send(http.MethodGet, "/", script).ok("check") })
	}
	load.more(50)
	leaving.signal()
	leaving.awaitLine(`"draining"`)
	load.more(20)
	release()
	leaving.stop() // waits, and wants exit code 0
	load.more(50)
	load.stop()
	for i, handle := range handles {
		if n := s.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = $1 AND previous_hash IS NOT NULL`, handleBytes(handle)); n != 1 {
			t.Errorf("promotion %d was lost", i+1)
		}
	}
	// Envoy may not have noticed yet that the process is gone: what cannot be sent to it goes to the other.
	for range 30 {
		if a := children[0].refresh(); a.status != http.StatusOK {
			t.Errorf("refresh: %d", a.status)
		}
	}
	children[0].mustGet(t)
}
