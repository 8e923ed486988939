package postgres_test

import (
	"testing"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// behindPooler is a server with a migrated database, on which the statements were run, and a PgBouncer
// in transaction mode before it.
func behindPooler(t *testing.T, statements ...string) (*cluster.Cluster, *cluster.Pooler) {
	t.Helper()
	server, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := migrated(t.Context(), server, template); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, server.URL("postgres"))
	for _, sql := range statements {
		execute(t, conn, sql)
	}
	pooler, err := server.StartPooler(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return server, pooler
}

// TestPooler: the store keeps every promise through a PgBouncer in transaction
// mode, where each transaction gets any connection to the server.
func TestPooler(t *testing.T) {
	t.Parallel()
	server, pooler := behindPooler(t)
	through := func(t *testing.T) sessionstest.ClockedStore {
		t.Helper()
		name := nextName()
		if err := server.CreateDatabase(t.Context(), name, template); err != nil {
			t.Fatal(err)
		}
		direct := server.URL(name)
		return &clocked{Store: openAt(t, postgres.Config{URL: pooler.URL(name, "postgres")}), t: t, url: direct, conn: connect(t, direct)}
	}
	t.Run("conformance", func(t *testing.T) {
		t.Parallel()
		sessionstest.Conformance(t, through)
	})
	t.Run("scenarios", func(t *testing.T) {
		t.Parallel()
		sessionstest.Scenarios(t, through)
	})
	t.Run("schema", func(t *testing.T) {
		t.Parallel()
		store := through(t).(*clocked)
		if err := store.CheckSchema(t.Context()); err != nil {
			t.Error(err)
		}
		if n, err := store.Migrate(t.Context()); n != 0 || err != nil {
			t.Errorf("a start on a schema that is up to date applied %d, %v", n, err)
		}
	})
}
