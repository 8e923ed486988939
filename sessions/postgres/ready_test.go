package postgres_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// documented is the SQL that the documentation gives to a role.
func documented(t *testing.T, role string) string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("<!-- sql: " + role + " -->\n```sql\n((?s:.*?))```\n")
	var found []string
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		t.Fatalf("docs has %d blocks of SQL for the %s, want one", len(found), role)
	}
	return found[0]
}

func as(t *testing.T, address, role string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

// TestRoles: what the documentation grants is enough for serve, and no more than rows. It has a
// server of its own, because roles belong to a server.
//
//nolint:tparallel // the suite copies the database; no client may be connected meanwhile
func TestRoles(t *testing.T) {
	t.Parallel()
	server, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	const name = "sessiongate"
	if err := server.CreateDatabase(t.Context(), name, ""); err != nil {
		t.Fatal(err)
	}
	direct := server.URL(name)
	run := func(address, sql string) {
		t.Helper()
		conn := connect(t, address)
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		_ = conn.Close(t.Context())
	}
	run(direct, documented(t, "administrator"))
	owner, err := postgres.Open(t.Context(), postgres.Config{URL: as(t, direct, "sessiongate_owner")})
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	if _, err := owner.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	serving := openAt(t, postgres.Config{URL: as(t, direct, "sessiongate_serve")})
	if err := serving.CheckSchema(t.Context()); !says(err, `"sessiongate_serve" lacks USAGE`) {
		t.Errorf("before the grants: %v", err)
	}
	run(as(t, direct, "sessiongate_owner"), documented(t, "owner"))
	if err := serving.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := serving.Migrate(t.Context()); n != 0 || err != nil {
		t.Errorf("a start that finds nothing to migrate: %d, %v", n, err)
	}

	// Copies keep a database's tables and their grants.
	serving.Close()
	owner.Close()
	open := func(t *testing.T) sessionstest.ClockedStore {
		t.Helper()
		copied := nextName()
		if err := server.CreateDatabase(t.Context(), copied, name); err != nil {
			t.Fatal(err)
		}
		u := server.URL(copied)
		return &clocked{Store: openAt(t, postgres.Config{URL: as(t, u, "sessiongate_serve")}), t: t, url: u, conn: connect(t, u)}
	}
	t.Run("conformance", func(t *testing.T) { sessionstest.Conformance(t, open) })

	t.Run("what later migrations add", func(t *testing.T) {
		run(as(t, direct, "sessiongate_owner"), `CREATE TABLE sessiongate.later (id int); CREATE FUNCTION sessiongate.later() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
		run(as(t, direct, "sessiongate_serve"), `INSERT INTO sessiongate.later SELECT sessiongate.later(); DELETE FROM sessiongate.later`)
	})
	t.Run("nothing but rows", func(t *testing.T) {
		conn := connect(t, as(t, direct, "sessiongate_serve"))
		for _, sql := range []string{
			`CREATE TABLE sessiongate.mine (id int)`,
			`CREATE TABLE public.mine (id int)`,
			`CREATE TEMPORARY TABLE mine (id int)`,
			`CREATE SCHEMA mine`,
			`CREATE FUNCTION sessiongate.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
			`CREATE OR REPLACE FUNCTION sessiongate.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT clock_timestamp()'`,
			`DROP FUNCTION sessiongate.now() CASCADE`,
			`DROP TABLE sessiongate.feed`,
			`DROP SCHEMA sessiongate CASCADE`,
			`ALTER TABLE sessiongate.active_sessions DISABLE TRIGGER ALL`,
			`ALTER TABLE sessiongate.active_sessions DROP CONSTRAINT next_is_whole`,
			`ALTER TABLE sessiongate.keys ADD COLUMN mine int`,
			`ALTER SCHEMA sessiongate OWNER TO sessiongate_serve`,
			`TRUNCATE sessiongate.audit_events`,
			`CREATE INDEX ON sessiongate.active_sessions (current_hash)`,
			`CREATE TRIGGER mine AFTER INSERT ON sessiongate.active_sessions EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
			`CREATE ROLE mine`,
			`GRANT sessiongate_owner TO sessiongate_serve`,
			`SET ROLE sessiongate_owner`,
			`INSERT INTO sessiongate.schema_versions (version_id, is_applied) VALUES (99, true)`,
			`DELETE FROM sessiongate.schema_versions`,
			`COPY sessiongate.keys TO PROGRAM 'cat'`,
		} {
			_, err := conn.Exec(t.Context(), sql)
			if denied := (*pgconn.PgError)(nil); !errors.As(err, &denied) || denied.Code != "42501" {
				t.Errorf("%s: %v, want that it is denied", sql, err)
			}
		}
	})
}

// says reports whether err is a [postgres.SchemaError] of one line with this text.
func says(err error, text string) bool {
	missing := (*postgres.SchemaError)(nil)
	return errors.As(err, &missing) && strings.Contains(err.Error(), text) && !strings.Contains(err.Error(), "\n")
}

// CheckSchema says what is missing, whichever thing it is.
func TestCheckSchema(t *testing.T) {
	t.Parallel()
	address := database(t, "")
	admin := connect(t, address)
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	role := "role_" + strings.TrimPrefix(address[strings.LastIndex(address, "/test_"):strings.Index(address, "?")], "/")
	exec(`CREATE ROLE ` + role + ` LOGIN`)
	store := openAt(t, postgres.Config{URL: as(t, address, role)})
	want := func(text string) {
		t.Helper()
		if err := store.CheckSchema(t.Context()); !says(err, text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
	want("no schema yet: run `sessiongate migrate`")
	exec(`CREATE SCHEMA sessiongate`)
	want("no schema yet: run `sessiongate migrate`")
	if _, err := openAt(t, postgres.Config{URL: address}).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(`the role "` + role + `" lacks USAGE on schema sessiongate`)
	exec(`GRANT USAGE ON SCHEMA sessiongate TO ` + role)
	want(`lacks SELECT on sessiongate.schema_versions`)
	exec(`GRANT SELECT ON ALL TABLES IN SCHEMA sessiongate TO ` + role)
	want(`INSERT, UPDATE, DELETE on sessiongate.active_sessions`)
	exec(`GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sessiongate TO ` + role)
	exec(`REVOKE EXECUTE ON FUNCTION sessiongate.now FROM PUBLIC`)
	want(`lacks EXECUTE on function sessiongate.now()`)
	exec(`GRANT EXECUTE ON FUNCTION sessiongate.now TO ` + role)
	if err := store.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(`UPDATE sessiongate.schema_versions SET version_id = version_id - 1 WHERE version_id = (SELECT max(version_id) FROM sessiongate.schema_versions)`)
	want("this sessiongate needs ")
	exec(`UPDATE sessiongate.schema_versions SET version_id = 1000000 WHERE version_id = (SELECT max(version_id) FROM sessiongate.schema_versions)`)
	exec(`CREATE TABLE sessiongate.newer (id int)`) // which this role may not even read
	if err := store.CheckSchema(t.Context()); err != nil {
		t.Errorf("on a newer schema: %v", err)
	}
	away := openAt(t, postgres.Config{URL: "postgres://u@127.0.0.1:1/db?sslmode=disable"})
	if err := away.CheckSchema(t.Context()); err == nil || says(err, "") {
		t.Errorf("without a server: %v, want another error", err)
	}
}

// After a rollback the older version works on the newer schema, which has only
// more than it knows, and leaves it alone.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.exec(`INSERT INTO sessiongate.schema_versions (version_id, is_applied) VALUES (1000000, true)`)
	c.exec(`ALTER TABLE sessiongate.active_sessions ADD COLUMN newer text, ADD COLUMN counted int NOT NULL DEFAULT 0`)
	c.exec(`ALTER TABLE sessiongate.feed ADD COLUMN newer text`)
	c.exec(`CREATE TABLE sessiongate.newer (handle bytea REFERENCES sessiongate.active_sessions ON DELETE CASCADE)`)
	if n, err := c.Migrate(t.Context()); n != 0 || err != nil {
		t.Errorf("migrated %d, %v", n, err)
	}
	if err := c.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.RaiseFeedRetention(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	rec := create(t, c.Store, "alice")
	next := issued(rec)
	if done, err := c.Swap(t.Context(), rec.Row, next, sessions.R4); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if done, err := c.End(t.Context(), rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if page, err := c.Poll(t.Context(), ""); err != nil || len(page.Entries) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
}
