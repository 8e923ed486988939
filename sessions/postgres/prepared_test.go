package postgres_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// namesPooled are the role's settings where statements are to have names through a pooler.
var namesPooled = []string{
	"ALTER ROLE postgres SET enable_seqscan = off",
	"ALTER ROLE postgres SET enable_hashjoin = off",
	"ALTER ROLE postgres SET enable_mergejoin = off",
}

// Statements have names on a direct connection. Through a pooler they have none: its other clients
// would meet them.
func TestPreparedStatements(t *testing.T) {
	t.Parallel()
	server, pooler := behindPooler(t, namesPooled...)
	direct, pooled := server.URL(template), pooler.URL(template, "postgres")
	for _, tc := range []struct {
		name, url string
		when      string
		named     bool
	}{
		{"direct", direct, postgres.PrepareDirect, true},
		{"direct, by default", direct, "", true},
		{"direct, off", direct, postgres.PrepareNever, false},
		{"direct, on", direct, postgres.PrepareAlways, true},
		{"pooler", pooled, postgres.PrepareDirect, false},
		{"pooler, by default", pooled, "", false},
		{"pooler, off", pooled, postgres.PrepareNever, false},
		{"pooler, on", pooled, postgres.PrepareAlways, true}, // last: it leaves names behind
	} {
		store := openAt(t, postgres.Config{URL: tc.url, MaxConnections: 1, PreparedStatements: tc.when})
		named := false
		for range 10 { // the pooler has three backends
			create(t, store, "alice")
			n, err := store.Prepared(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			named = named || n > 0
		}
		if named != tc.named {
			t.Errorf("%s: names %v", tc.name, named)
		}
	}
}

// A pooler that loses names, although the settings say that it keeps them, is found out: no call
// fails.
func TestNamesThroughAPoolerThatLosesThem(t *testing.T) {
	t.Parallel()
	server, pooler := behindPooler(t, namesPooled...)
	sessionstest.Conformance(t, func(t *testing.T) sessionstest.ClockedStore {
		t.Helper()
		name := nextName()
		if err := server.CreateDatabase(t.Context(), name, template); err != nil {
			t.Fatal(err)
		}
		direct := server.URL(name)
		store := openAt(t, postgres.Config{URL: pooler.URL(name, "postgres"), PreparedStatements: postgres.PrepareAlways})
		return &clocked{Store: store, t: t, url: direct, conn: connect(t, direct)}
	})
}

// A migration of another version changes the type of a column while this one runs. What was
// prepared before is prepared again, in a statement of its own and in a transaction.
func TestMigrationBetweenTwoCalls(t *testing.T) {
	t.Parallel()
	c := open(t)
	store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 1})
	// Views hold the types of their columns.
	c.exec(`DO $$ DECLARE v text; BEGIN
		FOR v IN SELECT viewname FROM pg_views WHERE schemaname = 'sessiongate' LOOP EXECUTE 'DROP VIEW sessiongate.' || v; END LOOP;
	END $$`)
	callEach(t, store)
	for _, change := range []string{
		`ALTER TABLE sessiongate.active_sessions ALTER issues TYPE bigint`,
		`ALTER TABLE sessiongate.active_sessions ALTER user_id TYPE varchar(200), ALTER handle TYPE bytea`,
		`ALTER TABLE sessiongate.session_attributes ALTER claims_version TYPE integer`,
	} {
		if n, err := store.Prepared(t.Context()); n < 5 || err != nil {
			t.Fatalf("%d statements are prepared, %v", n, err)
		}
		c.exec(change)
		callEach(t, store)
	}
}

// A prepared statement keeps its plan while the tables grow. So the plan that suits an empty or a
// small table must suit a large one: no table of sessions is read from its beginning to its end.
func TestPlans(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ size, users int }{{0, 1}, {5, 5}, {5, 1}, {20, 1}, {1_000, 1_000}, {20_000, 20_000}} {
		t.Run(fmt.Sprintf("%d of %d users", tc.size, tc.users), func(t *testing.T) {
			t.Parallel()
			c := open(t)
			c.exec(`
				WITH s AS (
					INSERT INTO sessiongate.active_sessions (handle, user_id, current_hash, promoted_at, created_at, expires_at, absolute_expires_at)
					SELECT decode(md5(n::text), 'hex'), CASE WHEN $2::int = 1 THEN 'alice' ELSE 'user ' || n END, sha256(n::text::bytea), now(), now(), now() + '1 day', now() + '2 days'
					FROM generate_series(1, $1::int) n RETURNING handle
				), a AS (
					INSERT INTO sessiongate.session_attributes (handle, claims, data) SELECT handle, '{}', '{}' FROM s
				), e AS (
					INSERT INTO sessiongate.audit_events (kind, handle, user_id, reason, actor) SELECT 'created', handle, '', '', '' FROM s
				)
				INSERT INTO sessiongate.feed (kind, handle, reason) SELECT 'ended', handle, 'revoked' FROM s`, tc.size, tc.users)
			c.exec(`ANALYZE`)
			store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 1})
			store.AuditChanges()
			callEach(t, store)
			plans, err := store.Plans(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(plans) < 20 {
				t.Errorf("%d statements are prepared", len(plans))
			}
			for sql, plan := range plans {
				if fault := wholeTable(plan); fault != "" {
					t.Errorf("%s\n%s\n%s", fault, sql, plan)
				}
			}
		})
	}
}

var reading = regexp.MustCompile(`(Seq Scan|Index Scan|Index Only Scan|Bitmap Heap Scan).* on (active_sessions|session_attributes|feed|audit_events)\b`)

// wholeTable returns the line of a plan that reads a whole table. To begin with the first rows of an
// index and stop at a limit is no such thing.
func wholeTable(plan string) string {
	lines := append(strings.Split("\n"+plan, "\n"), "")
	for i, line := range lines {
		if reading.MatchString(line) && !strings.Contains(lines[i+1], "Cond:") && !strings.Contains(lines[i-1], "Limit ") {
			return line
		}
	}
	return ""
}

// callEach calls the methods of the store that serve requests, and those that read pages.
func callEach(t *testing.T, store *postgres.Store) {
	t.Helper()
	ending := sessions.Ending{Reason: sessions.ReasonRevoked}
	rec := create(t, store, "alice")
	for name, call := range map[string]func(ctx context.Context) error{
		"Keys":     func(ctx context.Context) error { _, err := store.Keys(ctx); return err },
		"Get":      func(ctx context.Context) error { _, _, err := store.Get(ctx, rec.Handle); return err },
		"UserRows": func(ctx context.Context) error { _, err := store.UserRows(ctx, "alice", 10); return err },
		"ListUser": func(ctx context.Context) error { _, err := store.ListUser(ctx, "alice", 10); return err },
		"Update": func(ctx context.Context) error {
			_, err := store.Update(ctx, rec.Handle, sessions.Attributes{Claims: []byte(`{}`)})
			return err
		},
		"Rotate": func(ctx context.Context) error {
			_, _, _, err := store.Rotate(ctx, rec.Handle, sessions.Rotation{IssuesMax: 1})
			return err
		},
		"Swap": func(ctx context.Context) error {
			_, err := store.Swap(ctx, rec.Row, issued(rec), sessions.R4)
			return err
		},
		"Promote": func(ctx context.Context) error {
			return store.Promote(ctx, []sessions.Promotion{{Handle: rec.Handle, Parent: tokenHash(8), Own: tokenHash(9)}})
		},
		"EndIf": func(ctx context.Context) error {
			other := rec.Row
			other.Current[0]++
			_, err := store.EndIf(ctx, other, ending)
			return err
		},
		"End":     func(ctx context.Context) error { _, err := store.End(ctx, sessions.NewHandle(), ending); return err },
		"EndUser": func(ctx context.Context) error { _, err := store.EndUser(ctx, "carol", ending); return err },
		"EndOthers": func(ctx context.Context) error {
			_, err := store.EndOthers(ctx, "carol", rec.Handle, ending)
			return err
		},
		"CountSessions": func(ctx context.Context) error { _, err := store.CountSessions(ctx); return err },
		"EndCreatedBefore": func(ctx context.Context) error {
			_, err := store.EndCreatedBefore(ctx, time.Unix(0, 0), ending)
			return err
		},
		"CreateWithin": func(ctx context.Context) error {
			for range 2 {
				if _, _, err := store.CreateWithin(ctx, newRecord("bob"), sessions.UserLimit{Max: 1, EvictOldest: true}); err != nil {
					return err
				}
			}
			return nil
		},
		"Sweep": func(ctx context.Context) error { _, err := store.Sweep(ctx, 10); return err },
		"DeliverAudit": func(ctx context.Context) error {
			_, err := store.DeliverAudit(ctx, 10, func([]sessions.AuditEvent) error { return nil })
			return err
		},
		"Poll": func(ctx context.Context) error {
			page, err := sessionstest.ReadFeed(ctx, store, "")
			if err == nil {
				_, err = store.Poll(ctx, page.Next)
			}
			return err
		},
	} {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A statement locks its tables in the order in which a migration does, also once it is prepared and
// its plan is kept: active_sessions first. Otherwise each would wait for the other.
func TestLockOrderOfPreparedStatements(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		last string // table
		call func(*postgres.Store, sessions.Row, sessions.Promotion) error
	}{
		"Promote": {"feed", func(s *postgres.Store, _ sessions.Row, p sessions.Promotion) error {
			return s.Promote(t.Context(), []sessions.Promotion{p})
		}},
		"Swap": {"audit_events", func(s *postgres.Store, row sessions.Row, _ sessions.Promotion) error {
			next := row
			next.Issues++
			_, err := s.Swap(t.Context(), row, next, sessions.R5)
			return err
		}},
		"Rotate": {"audit_events", func(s *postgres.Store, row sessions.Row, _ sessions.Promotion) error {
			_, _, _, err := s.Rotate(t.Context(), row.Handle, sessions.Rotation{Current: row.Current, IssuesMax: 20})
			return err
		}},
		"End": {"feed", func(s *postgres.Store, row sessions.Row, _ sessions.Promotion) error {
			_, err := s.End(t.Context(), row.Handle, sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			store := openAt(t, postgres.Config{URL: c.url, MaxConnections: 1})
			store.AuditChanges()
			for range 10 { // then the plan is kept
				row, promotion := issueChild(t, c, "alice")
				if err := tc.call(store, row, promotion); err != nil {
					t.Fatal(err)
				}
			}
			row, promotion := issueChild(t, c, "alice")
			watching := connect(t, c.url)
			c.exec(`BEGIN; LOCK TABLE sessiongate.` + tc.last + ` IN ACCESS EXCLUSIVE MODE`)
			done := make(chan error, 1)
			go func() { done <- tc.call(store, row, promotion) }()
			awaitWaiting(t, watching, "relation")
			var first bool
			if err := watching.QueryRow(t.Context(), `
				SELECT EXISTS (SELECT FROM pg_locks WHERE granted AND relation = 'sessiongate.active_sessions'::regclass AND mode = 'RowExclusiveLock')`).Scan(&first); err != nil {
				t.Fatal(err)
			}
			c.exec(`ROLLBACK`)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if !first {
				t.Errorf("it waits for %s before it has locked active_sessions", tc.last)
			}
		})
	}
}
