package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// pair is a primary and a standby of it, on TCP, with a migrated database.
type pair struct {
	*testing.T

	one, two *cluster.Cluster
}

const ours = "ours"

func newPair(t *testing.T) *pair {
	t.Helper()
	one, err := cluster.Start(t.Context(), cluster.Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.Stop)
	if err := migrated(t.Context(), one, ours); err != nil {
		t.Fatal(err)
	}
	two, err := one.Standby(t.Context(), cluster.Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(two.Stop)
	p := &pair{T: t, one: one, two: two}
	p.must(one.Synchronous(t.Context(), true)) // what was answered is there after a failover
	return p
}

func (p *pair) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// hosts is a URL of several hosts. c is one of them; all have its password.
func hosts(t *testing.T, c *cluster.Cluster, options string, addresses ...string) string {
	t.Helper()
	u, err := url.Parse(c.TCPURL(ours))
	if err != nil {
		t.Fatal(err)
	}
	u.Host = strings.Join(addresses, ",")
	return u.String() + options
}

func proxy(t *testing.T, target string) *cluster.Proxy {
	t.Helper()
	p, err := cluster.NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// recovery is how long a store may take to work again, once there is a server that works. It works
// within three seconds, or waits for a timeout: that of a statement in these tests (a minute), pgx's
// for the end of a connection (15 s), or one second for each of many dead connections.
const recovery = 12 * time.Second

// recovers awaits that the store works, as callers see it: each attempt has as long as
// a refresh.
func recovers(t *testing.T, store *postgres.Store, after string) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), recovery)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait() // before the context ends
	works := func(what string, call func(context.Context) error) {
		for {
			attempt, stop := context.WithTimeout(ctx, 4500*time.Millisecond)
			err := call(attempt)
			stop()
			if err == nil {
				t.Logf("%s: %s after %s", after, what, time.Since(began).Round(time.Millisecond))
				return
			}
			select {
			case <-ctx.Done():
				t.Errorf("%s: no %s within %s: %v", after, what, recovery, err)
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	all.Go(func() {
		works("write", func(ctx context.Context) error {
			_, err := store.Create(ctx, newRecord("alice"))
			return err
		})
	})
	all.Go(func() {
		works("poll", func(ctx context.Context) error {
			ctx, stop := context.WithTimeout(ctx, time.Second) // of a replica
			defer stop()
			_, err := store.Poll(ctx, "")
			return err
		})
	})
}

func newRecord(user string) sessions.NewRecord {
	h := sessions.NewHandle()
	return sessions.NewRecord{
		Handle: h, UserID: user, Current: tokenHash(int(h[0])), Claims: []byte(`{}`), Data: []byte(`{}`),
		SlidingLife: time.Hour, AbsoluteLife: time.Hour,
	}
}

// busy makes each pool have connections, so that old ones are there to be wrong about.
func busy(t *testing.T, store *postgres.Store) sessions.Record {
	t.Helper()
	recs := make(chan sessions.Record, 4)
	for range cap(recs) {
		go func() {
			rec, err := store.Create(context.WithoutCancel(t.Context()), newRecord("alice"))
			if err != nil {
				t.Error(err)
			}
			recs <- rec
		}()
	}
	var rec sessions.Record
	for range cap(recs) {
		rec = <-recs
	}
	if _, err := store.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DeliverAudit(t.Context(), 1, func([]sessions.AuditEvent) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return rec
}

// Only a primary that accepts writes is used, and an error names every other server as such.
func TestOnlyThePrimary(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, options := range []string{"", "&target_session_attrs=any", "&target_session_attrs=standby", "&target_session_attrs=prefer-standby"} {
		store := openAt(t, postgres.Config{URL: hosts(t, p.one, options, p.two.Address())})
		_, _, err := store.Get(t.Context(), sessions.NewHandle())
		if !errors.Is(err, postgres.ErrNotPrimary) || !strings.Contains(err.Error(), p.two.Address()) || !strings.Contains(err.Error(), "standby") {
			t.Errorf("%q: %v", options, err)
		}
		if _, err := store.Migrate(t.Context()); !errors.Is(err, postgres.ErrNotPrimary) {
			t.Errorf("%q: Migrate: %v", options, err)
		}
		if _, err := store.Keys(t.Context()); !errors.Is(err, postgres.ErrNotPrimary) {
			t.Errorf("%q: Keys: %v", options, err)
		}
		u, _ := url.Parse(p.one.TCPURL(ours))
		if secret, _ := u.User.Password(); strings.Contains(err.Error(), secret) {
			t.Error("the error has the password")
		}
	}
	for _, options := range []string{"", "&target_session_attrs=any", "&target_session_attrs=read-write", "&target_session_attrs=primary", "&target_session_attrs=standby"} {
		busy(t, openAt(t, postgres.Config{URL: hosts(t, p.one, options, p.two.Address(), p.one.Address())}))
	}
	// Several addresses of one name; the first is a standby.
	named := postgres.WithLookup(postgres.Config{URL: hosts(t, p.one, "", "database.example")}, func(context.Context, string) ([]string, error) {
		return []string{p.two.Address(), p.one.Address()}, nil
	})
	busy(t, openAt(t, named))
}

// A primary fails and a standby replaces it, wherever the address of the primary comes from.
func TestFailover(t *testing.T) {
	t.Parallel()
	// How the first primary ends, as seen from us.
	for end, do := range map[string]func(p *pair){
		"killed":    func(p *pair) { p.one.Kill() },
		"frozen":    func(p *pair) { p.must(p.one.Freeze()) },
		"read-only": func(p *pair) { p.must(p.one.ReadOnly(p.Context(), true)) }, // a planned switchover
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			both := []string{p.one.Address(), p.two.Address()}
			var moved atomic.Bool
			where := func(context.Context, string) ([]string, error) {
				if moved.Load() {
					return []string{p.two.Address()}, nil
				}
				return []string{p.one.Address()}, nil
			}
			front := proxy(t, p.one.Address())
			stores := map[string]*postgres.Store{}
			for name, cfg := range map[string]postgres.Config{
				"none given": {URL: hosts(t, p.one, "", both...)},
				"any":        {URL: hosts(t, p.one, "&target_session_attrs=any", both...)},
				"read-write": {URL: hosts(t, p.one, "&target_session_attrs=read-write", both...)},
				"primary":    {URL: hosts(t, p.one, "&target_session_attrs=primary", both...)},
				"a name":     postgres.WithLookup(postgres.Config{URL: hosts(t, p.one, "", "database.example")}, where),
				"a proxy":    {URL: hosts(t, p.one, "", front.Address())},
			} {
				stores[name] = openAt(t, cfg)
			}
			kept := map[string]sessions.Record{}
			for name, store := range stores {
				kept[name] = busy(t, store)
			}
			do(p)
			p.must(p.two.Promote(t.Context()))
			front.Move(p.two.Address())
			moved.Store(true)
			t.Run("recovers", func(t *testing.T) {
				for name, store := range stores {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						recovers(t, store, end+", "+name)
						if rec, _, err := store.Get(t.Context(), kept[name].Handle); err != nil || rec.Row != kept[name].Row {
							t.Errorf("%+v, %v", rec, err)
						}
					})
				}
			})
		})
	}
}

// A former primary that was fenced goes on answering. Nothing is written to it from
// then on, on the connections that were there as on new ones, whichever call it is.
func TestFenced(t *testing.T) {
	t.Parallel()
	server, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := migrated(t.Context(), server, ours); err != nil {
		t.Fatal(err)
	}
	store := openAt(t, postgres.Config{URL: server.URL(ours)})
	rec := busy(t, store)
	if err := server.ReadOnly(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	// A plain read of what a former primary has would answer a refresh from before the session's end.
	for range 3 {
		if _, _, _, err := store.Rotate(t.Context(), rec.Handle, sessions.Rotation{ReadOnly: true}); !errors.Is(err, postgres.ErrNotPrimary) {
			t.Errorf("a refresh that only reads: %v", err)
		}
	}
	writes := map[string]func() error{
		"create": func() error { _, err := store.Create(t.Context(), newRecord("alice")); return err },
		"create within": func() error {
			_, _, err := store.CreateWithin(t.Context(), newRecord("alice"), sessions.UserLimit{Max: 100})
			return err
		},
		"swap": func() error { _, err := store.Swap(t.Context(), rec.Row, issued(rec), sessions.R4); return err },
		"end": func() error {
			_, err := store.End(t.Context(), rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		},
		"end if": func() error {
			_, err := store.EndIf(t.Context(), rec.Row, sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		},
		"update": func() error {
			_, err := store.Update(t.Context(), rec.Handle, sessions.Attributes{Claims: []byte(`{}`)})
			return err
		},
		"promote": func() error {
			return store.Promote(t.Context(), []sessions.Promotion{{Handle: rec.Handle, Parent: rec.Current, Own: tokenHash(200)}})
		},
	}
	for name, write := range writes {
		if write() == nil {
			t.Errorf("%s was done on a fenced server", name)
		}
	}
	// The connections that were there are gone, and no new one is made.
	if _, _, err := store.Get(t.Context(), rec.Handle); !errors.Is(err, postgres.ErrNotPrimary) {
		t.Errorf("a read: %v", err)
	}
	if _, err := store.Keys(t.Context()); !errors.Is(err, postgres.ErrNotPrimary) {
		t.Errorf("the keys: %v", err)
	}
	if err := server.ReadOnly(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	recovers(t, store, "no longer fenced")
}

// A server that is listed first and says nothing costs a moment, not a timeout that
// its callers do not have.
func TestFrozenHostComesFirst(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	store := openAt(t, postgres.Config{URL: hosts(t, p.one, "", silent.Addr().String(), p.one.Address())})
	recovers(t, store, "a frozen host")
	named := postgres.WithLookup(postgres.Config{URL: hosts(t, p.one, "", "database.example")}, func(context.Context, string) ([]string, error) {
		return []string{silent.Addr().String(), p.one.Address()}, nil
	})
	recovers(t, openAt(t, named), "a frozen address")
	alone := openAt(t, postgres.Config{URL: hosts(t, p.one, "", silent.Addr().String())})
	if _, _, err := alone.Get(t.Context(), sessions.NewHandle()); err == nil || !strings.Contains(err.Error(), "said nothing for 1.5s") {
		t.Error(err)
	}
}

// Connections whose other end is gone without a sign, all of them.
func TestHalfOpenConnections(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	front := proxy(t, p.one.Address())
	store := openAt(t, postgres.Config{URL: hosts(t, p.one, "", front.Address()), MaxConnections: 30})
	// Thirty connections, so that to find them out one after the other takes too long.
	hold := make(chan error, 30)
	lock := connect(t, p.one.URL(ours))
	rec := busy(t, store)
	if _, err := lock.Exec(t.Context(), `BEGIN; SELECT FROM sessiongate.active_sessions FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	for range cap(hold) {
		go func() {
			_, err := store.Swap(context.WithoutCancel(t.Context()), rec.Row, issued(rec), sessions.R4)
			hold <- err
		}()
	}
	watching := connect(t, p.one.URL(ours))
	await(t, "all connections", func() bool {
		var n int
		err := watching.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sessiongate' AND wait_event_type = 'Lock'`).Scan(&n)
		return err == nil && n == cap(hold)
	})
	if _, err := lock.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	for range cap(hold) {
		if err := <-hold; err != nil {
			t.Fatal(err)
		}
	}
	postgres.Idle(store) // for long enough to be asked
	front.HalfOpen()
	recovers(t, store, "half-open")
}

// behindNetwork is a server with a migrated database, and a network before it.
func behindNetwork(t *testing.T) (*cluster.Cluster, *cluster.Proxy) {
	t.Helper()
	server, err := cluster.Start(t.Context(), cluster.Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := migrated(t.Context(), server, ours); err != nil {
		t.Fatal(err)
	}
	return server, proxy(t, server.Address())
}

// A network with 200 ms per round trip is slow, and no reason to give a connection up.
func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	server, front := behindNetwork(t)
	const roundTrip = 200 * time.Millisecond
	front.Delay(roundTrip / 2)
	if postgres.PingMax < 4*roundTrip {
		t.Errorf("a ping may take %s", postgres.PingMax)
	}
	for _, addresses := range [][]string{{front.Address()}, {front.Address(), "127.0.0.1:1"}} {
		store := openAt(t, postgres.Config{URL: hosts(t, server, "", addresses...)})
		store.SetPingMax(30 * time.Second) // else what a busy machine adds ends a ping
		busy(t, store)
		before := store.Connected()
		postgres.Idle(store) // so that each is asked before its use
		for range 5 {
			busy(t, store)
		}
		if made := store.Connected() - before; made > 0 {
			t.Errorf("%d connections were made again", made)
		}
	}
}

// An error that tells of another server has every connection made again, once.
func TestServerIsAnotherOne(t *testing.T) {
	t.Parallel()
	c := open(t)
	busy(t, c.Store)
	before := c.Connected()
	c.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sessiongate' AND query LIKE '%sessiongate.keys%'`)
	_, _ = c.Keys(t.Context()) // meets the end of its connection
	await(t, "the end of every connection", func() bool {
		return c.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sessiongate'`) == 0
	})
	recovers(t, c.Store, "a connection that was ended")
	for range 20 {
		c.LookAgain()
		if _, _, err := c.Get(t.Context(), sessions.NewHandle()); !errors.Is(err, sessions.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if made := c.Connected() - before; made > 4 {
		t.Errorf("%d connections were made", made)
	}
}

// What waits for a server that is no longer the primary is given up as soon as the new one
// is known, and says so: it would wait for as long as its caller can.
func TestStatementsOfAFormerPrimaryAreGivenUp(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	front := proxy(t, p.one.Address())
	store := openAt(t, postgres.Config{URL: hosts(t, p.one, "", front.Address()), StatementTimeout: time.Minute})
	rec := busy(t, store)
	lock, watching := connect(t, p.one.URL(ours)), connect(t, p.one.URL(ours))
	if _, err := lock.Exec(t.Context(), `BEGIN; SELECT FROM sessiongate.active_sessions FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := store.Swap(t.Context(), rec.Row, issued(rec), sessions.R4)
		done <- err
	}()
	awaitWaiting(t, watching, "transactionid")
	p.must(p.two.Promote(t.Context()))
	front.Move(p.two.Address())
	// The feed alone comes to the new one.
	if _, err := watching.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sessiongate' AND wait_event_type <> 'Lock'`); err != nil {
		t.Fatal(err)
	}
	await(t, "the feed at the new primary", func() bool { _, err := store.Poll(t.Context(), ""); return err == nil })
	if err := <-done; !errors.Is(err, postgres.ErrNotPrimary) {
		t.Error(err)
	}
	recovers(t, store, "two primaries")
}

// A server that answers slowly keeps its connections: to make them again would give it
// more to do.
func TestSlowAnswersResetNothing(t *testing.T) {
	t.Parallel()
	c := open(t)
	store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 3})
	rec := busy(t, store)
	before := store.FeedConnected()
	c.exec(`BEGIN; SELECT FROM sessiongate.active_sessions FOR UPDATE`)
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := store.End(ctx, rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err == nil {
			t.Fatal("ended beside a lock")
		}
		cancel()
		if _, _, err := store.Get(t.Context(), rec.Handle); err != nil {
			t.Fatal(fmt.Errorf("%d: %w", i, err))
		}
	}
	// What a caller gave up goes on in the server until that hears of it, and would end the session
	// once the lock is gone.
	watching := connect(t, c.url) // a transaction sees one state of the statistics
	for left := 1; left > 0; {
		if err := watching.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND application_name = 'sessiongate' AND datname = current_database()`).Scan(&left); err != nil {
			t.Fatal(err)
		}
	}
	c.exec(`ROLLBACK`)
	if _, err := store.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Each that hung up may cost its own connection, and no other.
	if made := store.FeedConnected() - before; made != 0 {
		t.Errorf("the feed's connection was made again %d times", made)
	}
	// A poll that took too long closes its connection, and no other.
	pool := store.Connected() - store.FeedConnected()
	c.exec(`BEGIN; LOCK TABLE sessiongate.feed`)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := store.Poll(ctx, ""); err == nil {
			t.Error("polled beside a lock")
		}
		cancel()
	}
	c.exec(`ROLLBACK`)
	if _, err := store.Poll(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Get(t.Context(), rec.Handle); err != nil {
		t.Fatal(err)
	}
	if made := store.Connected() - store.FeedConnected() - pool; made != 0 {
		t.Errorf("%d other connections were made again", made)
	}
}
