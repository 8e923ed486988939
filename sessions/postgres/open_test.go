package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

const password = "correct-horse-battery"

// Errors are logged; a password in one would be in the log.
func TestOpenShowsNoPassword(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://u:" + password + "@127.0.0.1:notaport/db",
		"postgres://u:" + password + "@[::1/db",
		"postgres://u:%zz" + password + "@127.0.0.1/db",
		"postgres://u:" + password + "@127.0.0.1/db?pool_max_conns=many",
		"postgres://u:" + password + "@127.0.0.1/db?sslmode=perhaps",
		"postgres://u:" + password + "@127.0.0.1/db?sslrootcert=/does/not/exist&sslmode=verify-full",
		"host=127.0.0.1 password='" + password,
		"127.0.0.1 password=" + password,
		// Where pgx's own redaction does not see it.
		"postgres://u:" + password + ":more@127.0.0.1:notaport/db",
		"host=127.0.0.1 port=many password = " + password,
	} {
		store, err := postgres.Open(t.Context(), postgres.Config{URL: address, Password: password})
		if err == nil {
			store.Close()
			t.Errorf("%s was opened", address)
		} else if strings.Contains(err.Error(), password) {
			t.Error(err)
		}
	}
}

// Open does not connect: a process starts while its database is away.
func TestOpenIsLazy(t *testing.T) {
	t.Parallel()
	// No process listens on port 1.
	for _, cfg := range []postgres.Config{
		{URL: "postgres://u:" + password + "@127.0.0.1:1/db?sslmode=disable"},
		{URL: "postgres://u@127.0.0.1:1/db?sslmode=disable", Password: password},
	} {
		store := openAt(t, cfg)
		_, _, err := store.Get(t.Context(), sessions.NewHandle())
		if err == nil || errors.Is(err, sessions.ErrNotFound) || strings.Contains(err.Error(), password) {
			t.Errorf("Get: %v", err)
		}
		if _, err := store.Migrate(t.Context()); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("Migrate: %v", err)
		}
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	c, err := cluster.Start(t.Context(), cluster.Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	right := c.TCPURL("postgres")
	_, rest, _ := strings.Cut(right, "@")
	userinfo := strings.TrimSuffix(right, "@"+rest)
	secret := userinfo[strings.LastIndex(userinfo, ":")+1:]

	wrong := strings.Replace(right, secret, password, 1)
	store := openAt(t, postgres.Config{URL: wrong})
	if _, err := store.Migrate(t.Context()); err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("with a wrong password: %v", err)
	}
	store = openAt(t, postgres.Config{URL: wrong, Password: secret})
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Errorf("with the right one beside the URL: %v", err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg                 postgres.Config
		statement, leftIdle string
	}{
		{postgres.Config{}, "5s", "10s"},
		{postgres.Config{StatementTimeout: 1500 * time.Millisecond}, "1500ms", "3s"},
		{postgres.Config{StatementTimeout: time.Microsecond}, "1ms", "1ms"}, // 0 would be none
	} {
		test.cfg.URL = shared.URL("postgres")
		store, err := postgres.Open(t.Context(), test.cfg) // openAt has another default
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		for name, want := range map[string]string{
			"statement_timeout": test.statement, "idle_in_transaction_session_timeout": test.leftIdle, "application_name": "sessiongate",
		} {
			// 1 ms may pass before the answer is there.
			if got, err := store.Setting(t.Context(), name); got != want && !timedOut(err) {
				t.Errorf("%s is %q, %v; want %q", name, got, err, want)
			}
		}
	}
}

func timedOut(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "57014" // query_canceled
}

// A lock that another process keeps does not block the store, even without a deadline of the
// caller.
func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	c := open(t)
	rec := create(t, c.Store, "alice")
	impatient := openAt(t, postgres.Config{URL: c.url, StatementTimeout: 50 * time.Millisecond})
	c.exec(`BEGIN`)
	c.exec(`SELECT 1 FROM sessiongate.active_sessions FOR UPDATE`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := impatient.Swap(ctx, rec.Row, issued(rec), sessions.R4); !timedOut(err) {
		t.Errorf("Swap: %v", err)
	}
	c.exec(`ROLLBACK`)
	if done, err := c.Swap(t.Context(), rec.Row, issued(rec), sessions.R4); !done || err != nil {
		t.Errorf("afterwards: %v, %v", done, err)
	}
}

// A caller that finds no free connection waits no longer than its context allows, even if none is
// returned. The feed has a connection of its own.
func TestPoolWait(t *testing.T) {
	t.Parallel()
	c := open(t)
	rec := create(t, c.Store, "alice")
	store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 2, StatementTimeout: time.Minute})
	c.exec(`BEGIN`)
	c.exec(`SELECT 1 FROM sessiongate.active_sessions FOR UPDATE`)
	var holders errgroup.Group
	for range 2 {
		holders.Go(func() error {
			_, err := store.Swap(t.Context(), rec.Row, issued(rec), sessions.R4)
			return err
		})
	}
	watch := connect(t, c.url) // a transaction sees one state of the statistics
	await(t, "both connections to be in use", func() bool {
		var n int
		err := watch.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
		return err == nil && n == 2
	})
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := store.Get(impatient, rec.Handle); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a free connection: %v", err)
	}
	if _, err := store.Poll(t.Context(), ""); err != nil {
		t.Errorf("the feed: %v", err)
	}
	c.exec(`ROLLBACK`)
	if err := holders.Wait(); err != nil {
		t.Error(err)
	}
}

// Every process ended one database follows a clock that was set, at once.
func TestClockOfAllProcesses(t *testing.T) {
	t.Parallel()
	c := open(t)
	other := openAt(t, postgres.Config{URL: c.url})
	rec := create(t, c.Store, "alice")
	for _, offset := range []time.Duration{time.Hour, 48 * time.Hour, -time.Hour} {
		c.exec(sessionstest.SetClock(offset))
		for _, store := range []*postgres.Store{c.Store, other} {
			_, now, err := store.Get(t.Context(), rec.Handle)
			if err != nil {
				t.Fatal(err)
			}
			page, err := store.Poll(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []time.Time{now, page.Now, create(t, store, "bob").CreatedAt} {
				if off := at.Sub(rec.CreatedAt.Add(offset)); off < 0 || off > 30*time.Minute {
					t.Errorf("the clock is %s, want %s after %s", at, offset, rec.CreatedAt)
				}
			}
		}
	}
}

// A crash of the server costs the calls that meet it, and nothing that was
// reported done.
func TestServerCrash(t *testing.T) {
	t.Parallel()
	server, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := migrated(t.Context(), server, "crash"); err != nil {
		t.Fatal(err)
	}
	store := openAt(t, postgres.Config{URL: server.URL("crash")})
	kept, ended := create(t, store, "alice"), create(t, store, "alice")
	if err := store.RaiseFeedRetention(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if done, err := store.End(t.Context(), ended.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); !done || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	before, err := store.Poll(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	for _, h := range []sessions.Handle{kept.Handle, ended.Handle} {
		if _, _, err := store.Get(t.Context(), h); err == nil || errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("while the server is down: %v", err)
		}
	}
	if _, err := store.Poll(t.Context(), ""); err == nil {
		t.Error("the feed is read while the server is down")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec, _, err := store.Get(t.Context(), kept.Handle)
	if err != nil || rec.Row != kept.Row {
		t.Errorf("after the crash: %+v, %v", rec, err)
	}
	if _, _, err := store.Get(t.Context(), ended.Handle); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("an ended session after the crash: %v", err)
	}
	after, err := store.Poll(t.Context(), before.Next)
	if err != nil || len(after.Entries) != 1 || !after.Resync {
		t.Errorf("the feed after the crash: %+v, %v; want all of it", after, err)
	}
}
