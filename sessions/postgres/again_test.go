package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// isolations are the isolation levels on which Postgres undoes what lost against a concurrent
// statement.
var isolations = []string{"repeatable read", "serializable"}

func isolated(address, isolation string) string {
	return address + "&default_transaction_isolation=" + url.PathEscape(isolation)
}

// The store keeps its promises on every isolation level, which a URL can ask for.
func TestIsolation(t *testing.T) {
	t.Parallel()
	for _, isolation := range isolations {
		open := func(t *testing.T) sessionstest.ClockedStore {
			t.Helper()
			address := database(t, template)
			store := openAt(t, postgres.Config{URL: isolated(address, isolation)})
			store.AuditChanges()
			if got, err := store.Setting(t.Context(), "transaction_isolation"); got != isolation || err != nil {
				t.Fatalf("%s, %v", got, err)
			}
			return &clocked{Store: store, t: t, url: address, conn: connect(t, address)}
		}
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			sessionstest.Conformance(t, open)
			if isolation == "serializable" { // the strictest
				sessionstest.Scenarios(t, open)
			}
		})
	}
}

// What waited for a change of its row, and was undone because of it: a swap has lost
// and says so, so that its caller judges again; everything else is done again.
func TestLostRaces(t *testing.T) {
	t.Parallel()
	ending := sessions.Ending{Reason: sessions.ReasonRevoked}
	limit := sessions.UserLimit{Max: 1, EvictOldest: true}
	for name, test := range map[string]struct {
		change string // while it waits
		call   func(ctx context.Context, c *clocked, store *postgres.Store, rec sessions.Record) (bool, error)
		want   bool
	}{
		"swap": {touch, func(ctx context.Context, _ *clocked, s *postgres.Store, rec sessions.Record) (bool, error) {
			return s.Swap(ctx, rec.Row, issued(rec), sessions.R4)
		}, false},
		"end if": {touch, func(ctx context.Context, _ *clocked, s *postgres.Store, rec sessions.Record) (bool, error) {
			return s.EndIf(ctx, rec.Row, ending)
		}, false},
		"end": {touch, func(ctx context.Context, _ *clocked, s *postgres.Store, rec sessions.Record) (bool, error) {
			return s.End(ctx, rec.Handle, ending)
		}, true},
		"end user": {touch, func(ctx context.Context, _ *clocked, s *postgres.Store, rec sessions.Record) (bool, error) {
			gone, err := s.EndUser(ctx, rec.UserID, ending)
			return len(gone) == 1, err
		}, true},
		"end created before": {touch, func(ctx context.Context, _ *clocked, s *postgres.Store, _ sessions.Record) (bool, error) {
			n, err := s.EndCreatedBefore(ctx, time.Now().Add(time.Hour), ending)
			return n == 1, err
		}, true},
		"update": {touch, func(ctx context.Context, _ *clocked, s *postgres.Store, rec sessions.Record) (bool, error) {
			got, err := s.Update(ctx, rec.Handle, sessions.Attributes{Claims: []byte(`{"n":1}`)})
			return got.ClaimsVersion == 2, err
		}, true},
		"promote": {touch, func(ctx context.Context, c *clocked, s *postgres.Store, rec sessions.Record) (bool, error) {
			err := s.Promote(ctx, []sessions.Promotion{{Handle: rec.Handle, Parent: rec.Current, Own: tokenHash(9)}})
			got, _, _ := c.Get(ctx, rec.Handle)
			return got.Current == tokenHash(9), err
		}, true},
		"create within": {touch, func(ctx context.Context, _ *clocked, s *postgres.Store, rec sessions.Record) (bool, error) {
			_, gone, err := s.CreateWithin(ctx, newRecord(rec.UserID), limit)
			return len(gone) == 1, err
		}, true},
		"raise the feed retention": {`UPDATE sessiongate.feed_retention SET retention = '1 minute'`, func(ctx context.Context, c *clocked, s *postgres.Store, _ sessions.Record) (bool, error) {
			err := s.RaiseFeedRetention(ctx, time.Hour)
			page, _ := c.Keys(ctx)
			return page.FeedRetention == time.Hour, err
		}, true},
		"add a key": {`INSERT INTO sessiongate.keys VALUES ('k', 1, '12345678', '', '12345678', now(), now())`, func(ctx context.Context, _ *clocked, s *postgres.Store, _ sessions.Record) (bool, error) {
			return s.AddKey(ctx, sessions.StoredKey{Kind: "k", Generation: 1, ID: sessions.KeyID{1}, Wrapped: []byte{1}}, 0)
		}, false}, // that generation exists
	} {
		for _, isolation := range isolations {
			t.Run(name+", "+isolation, func(t *testing.T) {
				t.Parallel()
				c := open(t)
				rec := create(t, c.Store, "alice")
				if err := c.RaiseFeedRetention(t.Context(), time.Second); err != nil {
					t.Fatal(err)
				}
				store := openAt(t, postgres.Config{URL: isolated(c.url, isolation)})
				watching := connect(t, c.url)
				c.exec(`BEGIN`)
				c.exec(test.change)
				type answer struct {
					did bool
					err error
				}
				done := make(chan answer, 1)
				go func() {
					did, err := test.call(t.Context(), c, store, rec)
					done <- answer{did, err}
				}()
				awaitWaiting(t, watching, "transactionid")
				c.exec(`COMMIT`)
				got := <-done
				if got.did != test.want || got.err != nil {
					t.Errorf("%v, %v; want %v", got.did, got.err, test.want)
				}
			})
		}
	}
}

// touch changes every session and nothing that a swap compares.
const touch = `UPDATE sessiongate.active_sessions SET expires_at = expires_at - interval '1 second'`

// A deadlock with a process that locks in another order is a lost race, too.
func TestDeadlockIsALostRace(t *testing.T) {
	t.Parallel()
	c := open(t)
	create(t, c.Store, "alice")
	create(t, c.Store, "alice")
	c.exec(`SET deadlock_timeout = '1h'`) // so that the other one is found to be in it
	// Postgres looks for a deadlock once in a wait: by then, both must wait.
	store := openAt(t, postgres.Config{URL: c.url + "&deadlock_timeout=5s"})
	watching := connect(t, c.url)
	c.exec(`BEGIN`)
	c.exec(`SELECT FROM sessiongate.active_sessions ORDER BY handle DESC LIMIT 1 FOR UPDATE`)
	done := make(chan error, 1)
	go func() {
		gone, err := store.EndUser(t.Context(), "alice", sessions.Ending{Reason: sessions.ReasonRevoked})
		if err == nil && len(gone) != 2 {
			err = errors.New("not both were ended")
		}
		done <- err
	}()
	awaitWaiting(t, watching, "transactionid")
	c.exec(`SELECT FROM sessiongate.active_sessions ORDER BY handle LIMIT 1 FOR UPDATE`) // waits until Postgres undoes the other
	c.exec(`COMMIT`)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A caller that always loses gets the error in the end.
func TestRepeatsEnd(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.exec(`CREATE SEQUENCE sessiongate.tries`)
	c.exec(`CREATE FUNCTION sessiongate.lose() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM nextval('sessiongate.tries'); RAISE EXCEPTION 'lost' USING ERRCODE = 'serialization_failure'; END $$`)
	c.exec(`CREATE TRIGGER lose BEFORE INSERT ON sessiongate.active_sessions EXECUTE FUNCTION sessiongate.lose()`)
	_, err := c.Create(t.Context(), newRecord("alice"))
	if lost := (*pgconn.PgError)(nil); !errors.As(err, &lost) || lost.Code != "40001" {
		t.Error(err)
	}
	if n := c.count(`SELECT last_value FROM sessiongate.tries`); n < 3 || n > 10 {
		t.Errorf("tried %d times", n)
	}
}
