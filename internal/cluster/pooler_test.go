package cluster_test

import (
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// Two clients on one connection to the server: what one sets does not stay, and
// the setting that every client of pgx may send at its start is let through.
func TestPoolerIsInTransactionMode(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{})
	p, err := c.StartPooler(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address := p.URL("postgres", "postgres") + "&default_query_exec_mode=simple_protocol"
	a := connect(t, address+"&statement_timeout=5000&idle_in_transaction_session_timeout=9000")
	b := connect(t, address)
	pids := map[string]bool{}
	for range 20 {
		pids[query(t, a, "SELECT pg_backend_pid()::text")] = true
		pids[query(t, b, "SELECT pg_backend_pid()::text")] = true
	}
	if len(pids) != 1 {
		t.Errorf("clients that take turns had %d connections to the server, want one", len(pids))
	}
	dir := folder(t, c.URL("postgres"))
	c.Stop()
	if left := processesIn(t, dir); len(left) > 0 {
		t.Errorf("processes left behind: %q", left)
	}
	if _, err := c.StartPooler(t.Context()); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("started before a stopped cluster: %v", err)
	}
}
