package postgres_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// shared is the server of most tests; template the name of a migrated database.
var shared *cluster.Cluster

const template = "template_sessiongate"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx := context.Background()
	c, err := cluster.Start(ctx, cluster.Options{Settings: map[string]string{"max_prepared_transactions": "10"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Stop()
	shared = c
	if err := migrated(ctx, c, template); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// For the example.
	if err := c.CreateDatabase(ctx, "example", ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = os.Setenv("SESSIONS_DATABASE_URL", c.URL("example"))
	_ = os.Setenv("SESSIONS_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	return m.Run()
}

// migrated creates a database and its schema, and leaves no connection to it.
func migrated(ctx context.Context, c *cluster.Cluster, name string) error {
	if err := c.CreateDatabase(ctx, name, ""); err != nil {
		return err
	}
	store, err := postgres.Open(ctx, postgres.Config{URL: c.URL(name)})
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = store.Migrate(ctx)
	return err
}

var databases atomic.Int64

// database creates a database for one test and returns its address; from is the
// one that it is a copy of, or empty.
func database(t *testing.T, from string) string {
	t.Helper()
	name := nextName()
	if err := shared.CreateDatabase(t.Context(), name, from); err != nil {
		t.Fatal(err)
	}
	return shared.URL(name)
}

// nextName names a database that no test has yet.
func nextName() string { return "test_" + strconv.FormatInt(databases.Add(1), 10) }

// clocked is a store whose clock a test can move, with a separate connection for the test.
type clocked struct {
	*postgres.Store

	t     *testing.T
	mu    sync.Mutex
	url   string
	conn  *pgx.Conn
	ahead time.Duration
}

// open gives a store over a database of its own.
func open(t *testing.T) *clocked {
	t.Helper()
	url := database(t, template)
	return &clocked{Store: openAt(t, postgres.Config{URL: url}), t: t, url: url, conn: connect(t, url)}
}

// openAt gives a store whose statements may take a minute: a test that holds a lock releases it when
// the machine lets it.
func openAt(t *testing.T, cfg postgres.Config) *postgres.Store {
	t.Helper()
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 4)
	cfg.StatementTimeout = cmp.Or(cfg.StatementTimeout, time.Minute)
	store, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	store.SetFeedPage(2)
	return store
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// Advance implements [sessionstest.ClockedStore].
func (c *clocked) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
	if _, err := c.conn.Exec(c.t.Context(), sessionstest.SetClock(c.ahead)); err != nil {
		c.t.Fatal(err)
	}
}

// exec runs a statement that must succeed, on the test's own connection.
func (c *clocked) exec(sql string, args ...any) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.Exec(c.t.Context(), sql, args...); err != nil {
		c.t.Fatal(err)
	}
}

// count runs a query for one number, on the test's own connection.
func (c *clocked) count(sql string, args ...any) (n int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.QueryRow(c.t.Context(), sql, args...).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}
