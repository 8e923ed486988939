package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// issueChild creates a session and issues a child; the promotion is the child's.
func issueChild(t *testing.T, s sessions.Store, user string) (sessions.Row, sessions.Promotion) {
	t.Helper()
	h := sessions.NewHandle()
	rec, err := s.Create(t.Context(), sessions.NewRecord{
		Handle: h, UserID: user, Current: hashOf(h), Claims: []byte(`{}`), Data: []byte(`{}`),
		SlidingLife: time.Hour, AbsoluteLife: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	row, next := rec.Row, rec.Row
	next.NextNonce, next.NextClient, next.IssuedAt, next.Issues = sessions.Nonce{1}, sessions.Client{2}, row.PromotedAt.Add(time.Second), 1
	if done, err := s.Swap(t.Context(), row, next, sessions.R4); err != nil || !done {
		t.Fatalf("Swap: %v, %v", done, err)
	}
	return next, sessions.Promotion{Handle: row.Handle, Parent: row.Current, Own: hashOf(sessions.NewHandle())}
}

func hashOf(h sessions.Handle) (m sessions.TokenHash) {
	copy(m[:], h[:])
	return m
}

func current(t *testing.T, s sessions.Store, h sessions.Handle) sessions.Row {
	t.Helper()
	rec, _, err := s.Get(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Row
}

// A promotion that waits for another one's lock decides by what that one left, not by the snapshot
// from before the wait. promoted_at is read when the lock is held: otherwise the grace of a waiting
// promotion would have passed before it began.
func TestPromoteDecidesUnderTheLock(t *testing.T) {
	t.Parallel()
	c := open(t)
	row, own := issueChild(t, c, "alice")
	sibling := sessions.Promotion{Handle: row.Handle, Parent: row.Current, Own: hashOf(sessions.NewHandle())}
	other, otherOwn := issueChild(t, c, "bob")
	since := poll(t, c, "").Next

	tx, err := c.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `
		UPDATE sessiongate.active_sessions SET previous_hash = current_hash, current_hash = $2, next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0
		WHERE handle = $1`, row.Handle[:], own.Own[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM sessiongate.active_sessions WHERE handle = $1 FOR UPDATE`, other.Handle[:]); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Promote(t.Context(), []sessions.Promotion{sibling, otherOwn}) }()
	awaitWaiting(t, connect(t, c.url), "transactionid")
	var unlocked time.Time
	if err := tx.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&unlocked); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := current(t, c, row.Handle); got.Current != own.Own {
		t.Error("I1: a sibling replaced the current token")
	}
	lost := false
	for _, e := range poll(t, c, since).Entries {
		lost = lost || e.Kind == sessions.EntryLost && e.TokenHash == sibling.Own
	}
	if !lost {
		t.Error("the sibling is not on the feed")
	}
	if got := current(t, c, other.Handle); got.Current != otherOwn.Own || got.PromotedAt.Before(unlocked) {
		t.Errorf("promoted at %v, the lock was free at %v", got.PromotedAt, unlocked)
	}
}

// Each replica reports the first use of a child that it sees, so most find the work done. They take
// no lock: a lock that another process holds must not delay the others of the batch.
func TestPromoteWithNothingToDoTakesNoLock(t *testing.T) {
	t.Parallel()
	c := open(t)
	row, own := issueChild(t, c, "alice")
	if err := c.Promote(t.Context(), []sessions.Promotion{own}); err != nil {
		t.Fatal(err)
	}
	c.exec(`BEGIN`)
	c.exec(`SELECT FROM sessiongate.active_sessions FOR UPDATE`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for name, again := range map[string]sessions.Promotion{
		"the current one":  own,
		"the previous one": {Handle: row.Handle, Parent: hashOf(sessions.NewHandle()), Own: row.Current},
		"no session":       {Handle: sessions.NewHandle(), Parent: own.Parent, Own: own.Own},
	} {
		if err := c.Promote(ctx, []sessions.Promotion{again}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.exec(`ROLLBACK`)
}

func poll(t *testing.T, s sessions.Store, since sessions.Cursor) sessions.Page {
	t.Helper()
	page, err := sessionstest.ReadFeed(t.Context(), s, since)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// awaitWaiting waits until a connection to the database waits for a lock of a kind.
func awaitWaiting(t *testing.T, conn *pgx.Conn, kind string) {
	t.Helper()
	await(t, "a connection that waits for a lock", func() bool {
		var waiting int
		if err := conn.QueryRow(context.WithoutCancel(t.Context()), `
			SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = $1`, kind).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting > 0
	})
}

// await asks until something that sends no event is so.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-giveUp:
			t.Fatal("waited in vain for " + what)
		}
	}
}
