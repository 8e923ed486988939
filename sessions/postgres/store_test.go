package postgres_test

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sessionstest.Conformance(t, func(t *testing.T) sessionstest.ClockedStore { return open(t) })
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	sessionstest.Scenarios(t, func(t *testing.T) sessionstest.ClockedStore { return open(t) })
}

// tokenHash is a token hash with the number n.
func tokenHash(n int) (hash sessions.TokenHash) {
	copy(hash[:], strconv.Itoa(n))
	hash[31] = 1
	return hash
}

func create(t *testing.T, store *postgres.Store, user string) sessions.Record {
	t.Helper()
	rec, err := store.Create(t.Context(), sessions.NewRecord{
		Handle: sessions.NewHandle(), UserID: user, Current: tokenHash(1), Claims: []byte(`{}`), Data: []byte(`{}`),
		SlidingLife: time.Hour, AbsoluteLife: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// issued is what R4 makes of a new session.
func issued(rec sessions.Record) sessions.Row {
	next := rec.Row
	next.NextNonce, next.NextClient, next.IssuedAt, next.Issues = sessions.Nonce{1}, sessions.Client{1}, rec.CreatedAt, 1
	return next
}

// Batches that lock the same rows in their own orders deadlock; ours have one
// order, and so has the end of all sessions of a user.
func TestNoDeadlock(t *testing.T) {
	t.Parallel()
	c := open(t)
	const users, each, callers = 3, 20, 20
	store := openAt(t, postgres.Config{URL: c.url, MaxConnections: callers + users})
	for round := range 3 {
		var all []sessions.Record
		for i := range users * each {
			all = append(all, create(t, store, "user"+strconv.Itoa(i%users)))
		}
		start := make(chan struct{})
		var g errgroup.Group
		for caller := range callers {
			batch := make([]sessions.Promotion, 0, len(all))
			for _, i := range rand.Perm(len(all)) {
				batch = append(batch, sessions.Promotion{Handle: all[i].Handle, Parent: tokenHash(1), Own: tokenHash(2 + caller)})
			}
			g.Go(func() error {
				<-start
				return store.Promote(t.Context(), batch)
			})
		}
		for user := range users {
			g.Go(func() error {
				<-start
				_, err := store.EndUser(t.Context(), "user"+strconv.Itoa(user), sessions.Ending{Reason: sessions.ReasonRevoked})
				return err
			})
		}
		close(start)
		if err := g.Wait(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// Refresh and promotion change no indexed column, and rows leave room in their
// page: every update is heap-only, so that the busiest table does not grow with
// use. Only a session's first ones may move it to another page, for with them its
// row grows to its full size. Not parallel: an old snapshot, also of another
// database, keeps old versions of rows, and with them the page full.
func TestUpdatesAreHeapOnly(t *testing.T) {
	c := open(t)
	c.exec(`ALTER TABLE sessiongate.active_sessions SET (autovacuum_enabled = off)`) // it has a snapshot, too
	const count, generations = 60, 10
	rows := make([]sessions.Row, count)
	for i := range rows {
		rows[i] = create(t, c.Store, "alice").Row
	}
	updates, heapOnly := 0, 0
	for _, generations := range []int{1, generations} {
		store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 1})
		for range generations {
			for i, row := range rows {
				next := row
				next.NextNonce, next.NextClient, next.IssuedAt, next.Issues = sessions.Nonce{1}, sessions.Client{1}, row.CreatedAt, 1
				next.Device = sessions.Device{Address: netip.MustParsePrefix("2001:db8::7/128"), UserAgent: strings.Repeat("u", 180)}
				next.ExpiresAt = row.ExpiresAt.Add(time.Second)
				if done, err := store.Swap(t.Context(), row, next, sessions.R4); !done || err != nil {
					t.Fatalf("%v, %v", done, err)
				}
				// One by one: a real batch is spread over the whole table.
				p := sessions.Promotion{Handle: row.Handle, Parent: row.Current, Own: row.Current}
				p.Own[31]++
				if err := store.Promote(t.Context(), []sessions.Promotion{p}); err != nil {
					t.Fatal(err)
				}
				rows[i].Current, rows[i].ExpiresAt = p.Own, next.ExpiresAt
			}
		}
		store.Close() // a server process tells its statistics at its end at the latest
		const counted = ` FROM pg_stat_user_tables WHERE relid = 'sessiongate.active_sessions'::regclass`
		updates, heapOnly = -updates, -heapOnly
		await(t, "the statistics", func() bool { return c.count(`SELECT n_tup_upd`+counted) >= 2*count*generations-updates })
		updates += c.count(`SELECT n_tup_upd` + counted)
		heapOnly += c.count(`SELECT n_tup_hot_upd` + counted)
	}
	if updates != 2*count*generations || heapOnly != updates {
		t.Errorf("%d of %d updates were heap-only, want %d", heapOnly, updates, 2*count*generations)
	}
}
