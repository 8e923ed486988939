package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
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

// The statement decides as [sessions.Rotation] says, on each side of each border: with a clock that
// stands still, a microsecond shows.
func TestRotateAtTheBorders(t *testing.T) {
	t.Parallel()
	c := open(t)
	row := create(t, c.Store, "alice").Row
	now := row.CreatedAt.Add(time.Hour)
	c.exec(`CREATE OR REPLACE FUNCTION sessiongate.now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS
		$$SELECT timestamptz '` + now.Format(time.RFC3339Nano) + `'$$`)
	const tick = time.Microsecond
	r := sessions.Rotation{
		Current: row.Current, NextNonce: sessions.Nonce{1}, NextClient: sessions.Client{2},
		Grace: 10*time.Second + tick, Repeat: 25*time.Second + 3*tick, Sliding: 30 * time.Minute, IssuesMax: 3,
	}
	fitted := map[bool]int{}
	check := func(row sessions.Row, r sessions.Rotation) {
		t.Helper()
		var nonce, issuedAt any
		if !row.IssuedAt.IsZero() {
			nonce, issuedAt = row.NextNonce[:], row.IssuedAt
		}
		c.exec(`UPDATE sessiongate.active_sessions SET promoted_at = $1, next_nonce = $2, next_client = NULL, issued_at = $3, issues = $4, expires_at = $5, absolute_expires_at = $6`,
			row.PromotedAt, nonce, issuedAt, row.Issues, row.ExpiresAt, row.AbsoluteExpiresAt)
		fits := r.Fits(row, now)
		fitted[fits]++
		got, at, rotated, err := c.Rotate(t.Context(), row.Handle, r)
		if err != nil || rotated != fits || got.Row != row || !at.Equal(now) {
			t.Fatalf("rotated %v at %s, %v; want %v\nread %+v\n had %+v", rotated, at, err, fits, got.Row, row)
		}
		if fits {
			row = r.Next(row, now)
		}
		if after := current(t, c, row.Handle); after != row {
			t.Fatalf("wrote %+v\n want %+v", after, row)
		}
	}
	for _, promoted := range []time.Duration{-time.Hour, -tick, 0, r.Grace - tick, r.Grace, r.Grace + tick} {
		for _, issued := range []time.Duration{-time.Hour, 0, r.Repeat - tick, r.Repeat, r.Repeat + tick, time.Hour} {
			for _, expires := range []time.Duration{-tick, 0, tick} {
				for _, absolute := range []time.Duration{0, r.Sliding - tick, r.Sliding + tick} {
					row := row
					row.PromotedAt = now.Add(-promoted)
					row.ExpiresAt, row.AbsoluteExpiresAt = now.Add(expires), now.Add(max(absolute, expires))
					if issued != time.Hour { // else: not issued
						row.IssuedAt, row.NextNonce, row.Issues = now.Add(-issued), sessions.Nonce{7}, 1
					}
					check(row, r)
				}
			}
		}
	}
	row.PromotedAt, row.ExpiresAt, row.AbsoluteExpiresAt = now.Add(-time.Minute), now.Add(time.Hour), now.Add(time.Hour)
	row.IssuedAt, row.NextNonce = now.Add(-time.Minute), sessions.Nonce{7}
	for row.Issues = 1; row.Issues <= r.IssuesMax+1; row.Issues++ {
		check(row, r)
	}
	row.Issues, r.Current[31] = 1, r.Current[31]+1
	check(row, r)
	if fitted[true] < 20 || fitted[false] < 20 {
		t.Errorf("fitted: %v", fitted)
	}
}

// A rotation that writes nothing costs what a read costs: no transaction ID, and so no wait for the
// disk.
func TestRotateThatOnlyReads(t *testing.T) {
	t.Parallel()
	c := open(t)
	for _, audit := range []bool{false, true} {
		store := openAt(t, postgres.Config{URL: c.url})
		if audit {
			store.AuditChanges()
		}
		rec := create(t, c.Store, "alice")
		for _, fits := range []bool{false, true} {
			r := sessions.Rotation{Current: rec.Current, NextNonce: sessions.Nonce{1}, IssuesMax: 1, Sliding: time.Minute}
			if !fits {
				r.Grace = time.Hour
			}
			rotated, id, err := store.RotateInTransaction(t.Context(), rec.Handle, r)
			if err != nil || rotated != fits || id != fits {
				t.Errorf("audited %v: rotated %v, with a transaction ID %v, %v; want %v", audit, rotated, id, err, fits)
			}
		}
	}
}

// A rotation that waited for another write of its row compares again, and writes only over the row
// that it returns.
func TestRotateComparesAfterTheWait(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change  string
		rotates bool
	}{
		"issued":       {`UPDATE sessiongate.active_sessions SET issued_at = sessiongate.now(), next_nonce = '0123456789abcdef', issues = 1`, false},
		"promoted":     {`UPDATE sessiongate.active_sessions SET current_hash = sha256('child'), previous_hash = current_hash`, false},
		"ended":        {`DELETE FROM sessiongate.active_sessions`, false},
		"only touched": {touch, true},
	} {
		for _, isolation := range append(isolations, "read committed") {
			t.Run(name+", "+isolation, func(t *testing.T) {
				t.Parallel()
				c := open(t)
				rec := create(t, c.Store, "alice")
				store := openAt(t, postgres.Config{URL: isolated(c.url, isolation)})
				watching := connect(t, c.url)
				c.exec(`BEGIN`)
				c.exec(tc.change)
				done := make(chan error, 1)
				rotated := false
				go func() {
					var err error
					_, _, rotated, err = store.Rotate(t.Context(), rec.Handle, sessions.Rotation{
						Current: rec.Current, NextNonce: sessions.Nonce{1}, Sliding: time.Minute, Repeat: time.Hour, IssuesMax: 2,
					})
					done <- err
				}()
				awaitWaiting(t, watching, "transactionid")
				c.exec(`COMMIT`)
				if err := <-done; err != nil && !errors.Is(err, sessions.ErrNotFound) {
					t.Fatal(err)
				}
				if rotated != tc.rotates {
					t.Errorf("rotated %v", rotated)
				}
			})
		}
	}
}
