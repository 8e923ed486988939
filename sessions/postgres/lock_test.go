package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// A start that finds the schema up to date takes no lock: it must not wait for a process that holds
// it. A start that must migrate waits, and can be stopped.
func TestMigrationLock(t *testing.T) {
	t.Parallel()
	const lock = `SELECT pg_advisory_lock(x'73657373676174'::bigint)`
	c := open(t)
	c.exec(lock)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if n, err := c.Migrate(ctx); n != 0 || err != nil {
		t.Errorf("nothing to do: %d, %v", n, err)
	}

	url := database(t, "")
	holder := connect(t, url)
	if _, err := holder.Exec(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	older := openAt(t, postgres.Config{URL: url})
	waiting, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := older.Migrate(waiting); done <- err }()
	awaitWaiting(t, holder, "advisory")
	stop()
	if err := <-done; err == nil {
		t.Error("migrated while another process held the lock")
	}
	if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_unlock_all()`); err != nil {
		t.Fatal(err)
	}
	if n, err := older.Migrate(t.Context()); n == 0 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}

// A caller that gives up ends its statement.
func TestCancelEndsTheStatement(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.exec(`CREATE OR REPLACE FUNCTION sessiongate.now() RETURNS timestamptz LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_sleep(3600); RETURN clock_timestamp(); END $$`)
	store := openAt(t, postgres.Config{URL: c.url, StatementTimeout: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := store.Poll(ctx, ""); done <- err }()
	sleeping := func() bool {
		var n int
		if err := c.conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'PgSleep'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	await(t, "a statement", sleeping)
	cancel()
	if err := <-done; err == nil {
		t.Error("a canceled call succeeded")
	}
	await(t, "the end of the statement", func() bool { return !sleeping() })
}

// A caller that gives up leaves the connection intact: otherwise an attacker could cost Postgres a
// connection with each request.
func TestHangUpKeepsTheConnection(t *testing.T) {
	t.Parallel()
	c := open(t)
	store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 1})
	store.SetHangUpGrace(10 * time.Second)
	rec := create(t, store, "alice")
	backend := func() int {
		return c.count(`SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sessiongate' AND pid <> pg_backend_pid()`)
	}
	before := backend()
	c.exec(`BEGIN`)
	c.exec(`SELECT FROM sessiongate.active_sessions FOR UPDATE`)
	ctx, hangUp := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := store.End(ctx, rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked})
		done <- err
	}()
	awaitWaiting(t, c.conn, "transactionid")
	hangUp()
	c.exec(`ROLLBACK`)
	<-done // whether it was done or not
	if _, _, err := store.Get(t.Context(), rec.Handle); err != nil && !errors.Is(err, sessions.ErrNotFound) {
		t.Error(err)
	}
	if after := backend(); after != before {
		t.Error("the connection is another one")
	}
}

// Writes that wait for a lock, and hold every connection of the pool, keep no
// replica from hearing of an end.
func TestFeedHasAConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	c := open(t)
	store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 1})
	rec := create(t, store, "alice")
	c.exec(`BEGIN`)
	c.exec(`SELECT FROM sessiongate.active_sessions FOR UPDATE`)
	done := make(chan error, 1)
	go func() {
		_, err := store.End(t.Context(), rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked})
		done <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // the end waits for a minute
	defer cancel()
	awaitWaiting(t, c.conn, "transactionid")
	if _, err := store.Poll(ctx, ""); err != nil {
		t.Errorf("the feed: %v", err)
	}
	if _, err := store.Keys(ctx); err != nil {
		t.Errorf("the keys: %v", err)
	}
	c.exec(`ROLLBACK`)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
