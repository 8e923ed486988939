package postgres_test

import (
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// The limit holds for replicas that create at once, each with a pool of its own.
func TestLimitOverTwoStores(t *testing.T) {
	t.Parallel()
	c := open(t)
	sessionstest.RaceCreations(t, openAt(t, postgres.Config{URL: c.url, MaxConnections: 10}), openAt(t, postgres.Config{URL: c.url, MaxConnections: 10}))
}

// An eviction leaves what every end leaves, and what failed leaves nothing.
func TestEvictionIsWholeOrNone(t *testing.T) {
	t.Parallel()
	c := open(t)
	old := create(t, c.Store, "alice")
	n := sessions.NewRecord{
		Handle: sessions.NewHandle(), UserID: "alice", Current: mark(2), Claims: []byte(`{}`),
		Data:        []byte(`{`), // no JSON: the insertion fails after the eviction
		SlidingLife: time.Hour, AbsoluteLife: time.Hour,
	}
	limit := sessions.UserLimit{Max: 1, EvictOldest: true}
	const evicted = `SELECT count(*) FROM sessiongate.events WHERE kind = 'ended' AND user_id = 'alice' AND reason = 'evicted' AND actor = 'sign-in'`
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
