package cluster_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement)
	must(t, err)
}

// sqlState is the code that a statement is refused with.
func sqlState(t *testing.T, conn *pgx.Conn, statement string) string {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		t.Fatalf("%s: %v, want an error of the server", statement, err)
	}
	return refused.Code
}

// What a synchronous standby saw committed is there after its promotion, and the
// old primary can follow the new one.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := start(t, cluster.Options{TCP: true})
	old := connect(t, primary.URL("postgres"))
	write(t, old, "CREATE TABLE kept (n int)")
	standby, err := primary.Standby(t.Context(), cluster.Options{TCP: true})
	must(t, err)
	t.Cleanup(standby.Stop)
	must(t, primary.Synchronous(t.Context(), true))
	write(t, old, "INSERT INTO kept VALUES (1)")
	replica := connect(t, standby.TCPURL("postgres"))
	if state := sqlState(t, replica, "INSERT INTO kept VALUES (2)"); state != "25006" {
		t.Errorf("a write at the standby: %s, want 25006", state)
	}

	primary.Kill()
	must(t, standby.Promote(t.Context()))
	write(t, replica, "INSERT INTO kept VALUES (3)") // it waits for no standby
	if got := query(t, replica, "SELECT string_agg(n::text, ',' ORDER BY n) FROM kept"); got != "1,3" {
		t.Errorf("the new primary has %s, want 1,3", got)
	}

	must(t, primary.Follow(t.Context(), standby))
	old = connect(t, primary.TCPURL("postgres")) // at its own port still
	if got := query(t, old, "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Error("the old primary does not follow")
	}
	await(t, "the old primary to catch up", func() bool {
		return query(t, old, "SELECT count(*)::text FROM kept") == "2"
	})
}

// A standby that was cut off loses what was committed later.
func TestIsolatedStandbyLosesCommits(t *testing.T) {
	t.Parallel()
	primary := start(t, cluster.Options{})
	conn := connect(t, primary.URL("postgres"))
	standby, err := primary.Standby(t.Context(), cluster.Options{})
	must(t, err)
	t.Cleanup(standby.Stop)
	must(t, primary.Synchronous(t.Context(), true))
	write(t, conn, "CREATE TABLE kept AS SELECT 1")
	must(t, primary.Synchronous(t.Context(), false))
	must(t, standby.Isolate(t.Context()))
	write(t, conn, "CREATE TABLE lost AS SELECT 1")
	primary.Kill()
	must(t, standby.Promote(t.Context()))
	got := query(t, connect(t, standby.URL("postgres")), "SELECT concat(to_regclass('kept'), to_regclass('lost'))")
	if got != "kept" {
		t.Errorf("the new primary has %s, want kept", got)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{})
	conn := connect(t, c.URL("postgres"))
	must(t, c.ReadOnly(t.Context(), true))
	// It hears of it by a signal, and acts on it before the next statement.
	await(t, "the connection to refuse writes", func() bool {
		return query(t, conn, "SHOW default_transaction_read_only") == "on"
	})
	if state := sqlState(t, conn, "CREATE TABLE refused ()"); state != "25006" {
		t.Errorf("a write: %s, want 25006", state)
	}
	must(t, c.ReadOnly(t.Context(), false))
	await(t, "the connection to take writes", func() bool {
		return query(t, conn, "SHOW default_transaction_read_only") == "off"
	})
	write(t, conn, "CREATE TABLE taken ()")
}

func TestRestore(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{})
	write(t, connect(t, c.URL("postgres")), "CREATE TABLE kept AS SELECT 1")
	must(t, c.Backup(t.Context()))
	write(t, connect(t, c.URL("postgres")), "CREATE TABLE lost AS SELECT 1")
	must(t, c.Restore(t.Context()))
	got := query(t, connect(t, c.URL("postgres")), "SELECT concat(to_regclass('kept'), to_regclass('lost'))")
	if got != "kept" {
		t.Errorf("the restored cluster has %s, want kept", got)
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{TCP: true})
	conn := connect(t, c.TCPURL("postgres"))
	must(t, c.Freeze())
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1")
		answered <- err
	}()
	// A connection is accepted, by the kernel, and then hears nothing.
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if late, err := pgx.Connect(short, c.TCPURL("postgres")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connected to a frozen server: %v, %v", late, err)
	}
	select {
	case err := <-answered:
		t.Errorf("a frozen server answered: %v", err)
	default:
	}
	must(t, c.Thaw())
	must(t, <-answered)
	must(t, c.Freeze())
	dir := folder(t, c.URL("postgres"))
	c.Stop()
	if left := processesIn(t, dir); len(left) > 0 {
		t.Errorf("processes left behind: %q", left)
	}
}

func TestOutOfDisk(t *testing.T) {
	t.Parallel()
	disk, remove, err := cluster.SmallDisk(128 << 20)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(remove)
	c := start(t, cluster.Options{Dir: disk})
	conn := connect(t, c.URL("postgres"))
	if state := sqlState(t, conn, "CREATE UNLOGGED TABLE big AS SELECT md5(n::text) FROM generate_series(1, 5000000) n"); state != "53100" {
		t.Errorf("filling the disk: %s, want 53100", state)
	}
	dir := folder(t, c.URL("postgres"))
	c.Stop()
	remove()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(dir, disk) {
		t.Errorf("the disk is still there: %v", err)
	}
}
