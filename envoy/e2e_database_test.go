package envoy_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// ownCluster is for tests of roles, which are a server's and not a database's.
func ownCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), clusterOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

func asRole(t *testing.T, address, role string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

// lines counts the lines of the process's log that hold text.
func (p *replica) lines(text string) int {
	p.Helper()
	log, err := os.ReadFile(p.log)
	if err != nil {
		p.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// TestAwaitsSchema: a process that may not migrate says once what is missing, is not ready, and goes on by itself when it is there.
func TestAwaitsSchema(t *testing.T) {
	c := ownCluster(t)
	s := newStack(t, stackOptions{
		cluster: c, processes: 1, notReady: true, noEnvoy: true,
		settings: []string{"SESSIONGATE_DATABASE_MIGRATE=false"},
		more: func(s *stack) []string {
			if err := c.CreateDatabase(t.Context(), s.name, ""); err != nil {
				t.Fatal(err)
			}
			s.connect()
			s.exec(`CREATE ROLE serving LOGIN`)
			return []string{"SESSIONGATE_DATABASE_URL=" + asRole(t, s.url, "serving")}
		},
	})
	p := s.processes[0]
	missing := func(text string) {
		t.Helper()
		p.awaitLine(text)
		if p.ready() {
			t.Error("ready on a schema that it cannot use")
		}
		if status, _ := p.api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "alice"}, nil); status != http.StatusServiceUnavailable {
			t.Errorf("creating a session: %d", status)
		}
	}
	missing("not ready: the database has no schema yet: run `sessiongate migrate` as the role that owns it")
	s.migrate(s.url)
	missing(`not ready: the role \"serving\" lacks USAGE on schema sessiongate`)
	s.exec(`GRANT USAGE ON SCHEMA sessiongate TO serving; GRANT SELECT ON ALL TABLES IN SCHEMA sessiongate TO serving`)
	missing(`INSERT, UPDATE, DELETE on sessiongate.active_sessions`)
	s.exec(`GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sessiongate TO serving`)
	p.awaitReady()
	p.create("alice")
	if n := p.lines("no schema yet"); n != 1 {
		t.Errorf("%d lines about the missing schema, want one", n)
	}
}

// TestPgBouncer plays a session's life through a pooler in transaction mode, with two processes that may not migrate.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	pooler, err := c.StartPooler(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, stackOptions{
		cluster:  c,
		settings: []string{"SESSIONGATE_DATABASE_MIGRATE=false"},
		more: func(s *stack) []string {
			s.migrate(s.url)
			return []string{"SESSIONGATE_DATABASE_URL=" + pooler.URL(s.name, "postgres")}
		},
	})
	b := s.newBrowser(networkV)
	handle := b.signIn("alice")
	for range 3 {
		s.advance(repeat + moment)
		if !b.mustRefresh(t) {
			t.Error("no new refresh token")
		}
		b.use(handle)
	}
	ended := s.newBrowser(networkV)
	gone := ended.signIn("bob")
	if status, _ := s.processes[1].api(http.MethodDelete, "/v1/sessions/"+gone, nil, nil); status != http.StatusOK {
		t.Errorf("DELETE: %d", status)
	}
	s.denied(ended.access(), ended.antiCSRF)

	thief := b.stolenBy(networkX)
	s.advance(repeat + moment)
	b.mustRefresh(t)
	b.use(handle)
	s.advance(grace + moment)
	thief.refresh().ended(t, "token theft detected")
	s.denied(b.access(), b.antiCSRF)
	if n := s.endedFor(handle, "theft"); n != 1 {
		t.Errorf("%d events of theft", n)
	}
}
