package postgres_test

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// The limit holds for replicas that create at once, each with a pool of its own, and on every
// default isolation.
func TestLimitOverTwoStores(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			config := postgres.Config{URL: c.url + "&default_transaction_isolation=" + url.PathEscape(isolation), MaxConnections: 10}
			one, two := openAt(t, config), openAt(t, config)
			if got, err := one.Setting(t.Context(), "default_transaction_isolation"); got != isolation || err != nil {
				t.Fatalf("%s, %v", got, err)
			}
			sessionstest.RaceCreations(t, one, two)
		})
	}
}

// A client that signs in as one user again and again holds one connection of a replica while it
// waits for its own lock, and none that others need.
func TestCreationsOfOneUserHoldOneConnection(t *testing.T) {
	t.Parallel()
	c := open(t)
	rec := create(t, c.Store, "bob")
	store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 2, StatementTimeout: time.Minute})
	c.exec(`BEGIN`)
	c.exec(`SELECT pg_advisory_xact_lock($1)`, postgres.UserLock("alice"))
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for i := range 8 {
		waiting.Go(func() {
			n := sessions.NewRecord{
				Handle: sessions.NewHandle(), UserID: "alice", Current: tokenHash(i), Claims: []byte(`{}`), Data: []byte(`{}`),
				SlidingLife: time.Hour, AbsoluteLife: time.Hour,
			}
			_, _, _ = store.CreateWithin(ctx, n, sessions.UserLimit{Max: 1})
		})
	}
	watch := connect(t, c.url) // a transaction sees one state of the statistics
	await(t, "a creation to wait for its user", func() bool {
		var n int
		err := watch.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'`).Scan(&n)
		return err == nil && n > 0
	})
	for range 20 {
		others, stop := context.WithTimeout(t.Context(), 30*time.Second)
		_, _, err := store.Get(others, rec.Handle)
		stop()
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	waiting.Wait()
	c.exec(`ROLLBACK`)
}

// An eviction leaves what every end leaves, and what failed leaves nothing.
func TestEvictionIsWholeOrNone(t *testing.T) {
	t.Parallel()
	c := open(t)
	old := create(t, c.Store, "alice")
	n := sessions.NewRecord{
		Handle: sessions.NewHandle(), UserID: "alice", Current: tokenHash(2), Claims: []byte(`{}`),
		Data:        []byte(`{`), // no JSON: the insertion fails after the eviction
		SlidingLife: time.Hour, AbsoluteLife: time.Hour,
	}
	limit := sessions.UserLimit{Max: 1, EvictOldest: true}
	const evicted = `SELECT count(*) FROM sessiongate.audit_events WHERE kind = 'ended' AND user_id = 'alice' AND reason = 'evicted' AND actor = 'sign-in'`
	if _, gone, err := c.CreateWithin(t.Context(), n, limit); err == nil || len(gone) > 0 {
		t.Fatalf("%v, %d evicted; want an error alone", err, len(gone))
	}
	if _, _, err := c.Get(t.Context(), old.Handle); err != nil || c.count(evicted) != 0 {
		t.Fatalf("the failed creation left an eviction: %v", err)
	}
	n.Data = []byte(`{}`)
	if _, gone, err := c.CreateWithin(t.Context(), n, limit); err != nil || len(gone) != 1 || c.count(evicted) != 1 {
		t.Fatalf("%v, %d evicted, %d events; want one", err, len(gone), c.count(evicted))
	}
}
