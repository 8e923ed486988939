package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// shadows are functions, operators and tables that stand before Postgres's own where
// the search path names them first.
const shadows = `
	CREATE SCHEMA shadows;
	CREATE FUNCTION shadows.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '2001-01-01' $$;
	CREATE FUNCTION shadows.encode(bytea, text) RETURNS text LANGUAGE sql AS $$ SELECT 'shadow' $$;
	CREATE FUNCTION shadows.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
	CREATE FUNCTION shadows.pg_backend_pid() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
	CREATE FUNCTION shadows.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'shadow' $$;
	CREATE FUNCTION shadows.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql AS $$ SELECT $$;
	CREATE FUNCTION shadows.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
	CREATE FUNCTION shadows.never(bytea, bytea) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
	CREATE OPERATOR shadows.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = shadows.never);
	CREATE FUNCTION shadows.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
	CREATE OPERATOR shadows.= (LEFTARG = text, RIGHTARG = text, FUNCTION = shadows.never);
	CREATE TABLE shadows.pg_class (oid oid, relname name, relnamespace oid);
	CREATE TABLE shadows.pg_namespace (oid oid, nspname name);
	CREATE TABLE shadows.pg_settings (name text, setting text, source text)`

// hostile is what a role or a database can hand down.
var hostile = map[string]string{
	"default_transaction_isolation":  `serializable`,
	"default_transaction_read_only":  `on`,
	"default_transaction_deferrable": `on`,
	"search_path":                    `shadows, pg_catalog, public`,
	"timezone":                       `Asia/Kathmandu`,
	"datestyle":                      `SQL, DMY`,
	"intervalstyle":                  `sql_standard`,
	"client_encoding":                `LATIN1`,
	"extra_float_digits":             `-15`,
	"bytea_output":                   `escape`,
	"standard_conforming_strings":    `off`,
	"backslash_quote":                `on`,
	"array_nulls":                    `off`,
	"transform_null_equals":          `on`,
	"xmloption":                      `document`,
	"row_security":                   `off`,
	"lock_timeout":                   `1ms`,
	"statement_timeout":              `1ms`,
	"idle_session_timeout":           `1s`,
	"plan_cache_mode":                `force_generic_plan`,
	"enable_indexscan":               `off`,
	"enable_seqscan":                 `off`,
	"jit":                            `on`,
	"synchronous_commit":             `off`,
	"check_function_bodies":          `off`,
	"exit_on_error":                  `on`,
}

// hand has a role or a database hand settings down.
func hand(whom string, except ...string) string {
	var sql strings.Builder
settings:
	for name, value := range hostile {
		for _, e := range except {
			if name == e {
				continue settings
			}
		}
		if name != "search_path" { // a list
			value = "'" + value + "'"
		}
		sql.WriteString("ALTER " + whom + " SET " + name + " = " + value + ";")
	}
	return sql.String()
}

// inheriting is a server whose role "heir" inherits every harmful setting.
func inheriting(t *testing.T, except ...string) (c *cluster.Cluster, run func(database, sql string)) {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	run = func(database, sql string) {
		t.Helper()
		conn := connect(t, c.URL(database))
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		_ = conn.Close(t.Context())
	}
	if err := migrated(t.Context(), c, template); err != nil {
		t.Fatal(err)
	}
	run(template, shadows+`; CREATE ROLE heir SUPERUSER LOGIN; `+hand("ROLE heir", except...))
	return c, run
}

// heirs gives stores as the role that inherits.
func heirs(c *cluster.Cluster, address func(database string) string) func(t *testing.T) sessionstest.ClockedStore {
	return func(t *testing.T) sessionstest.ClockedStore {
		t.Helper()
		name := nextName()
		if err := c.CreateDatabase(t.Context(), name, template); err != nil {
			t.Fatal(err)
		}
		direct := c.URL(name)
		store := openAt(t, postgres.Config{URL: address(name)})
		if got, err := store.Setting(t.Context(), "synchronous_commit"); got != "on" || err != nil {
			t.Fatalf("synchronous_commit is %s, %v", got, err)
		}
		return &clocked{Store: store, t: t, url: direct, conn: connect(t, direct)}
	}
}

// Whatever a role hands down, the store keeps every promise.
func TestInheritedSettings(t *testing.T) {
	t.Parallel()
	c, _ := inheriting(t)
	sessionstest.Conformance(t, heirs(c, func(database string) string { return as(t, c.URL(database), "heir") }))
}

// So it does through a pooler, which cannot be told what a connection needs. What ends
// a statement or an idle connection stays the administrator's there.
func TestInheritedSettingsThroughPooler(t *testing.T) {
	t.Parallel()
	// Nor is just-in-time compilation switched off there: without index scans each statement is compiled
	// at length, which takes two minutes here and changes no answer.
	c, _ := inheriting(t, "statement_timeout", "idle_session_timeout", "jit")
	pooler, err := c.StartPooler(t.Context(), "heir")
	if err != nil {
		t.Fatal(err)
	}
	sessionstest.Conformance(t, heirs(c, func(database string) string { return pooler.URL(database, "heir") }))
}

// No setting of ours reaches another client of the pooler.
func TestNoSettingLeaksThroughPooler(t *testing.T) {
	t.Parallel()
	c, run := inheriting(t, "statement_timeout", "idle_session_timeout", "synchronous_commit")
	run(template, `ALTER ROLE heir SET synchronous_commit = off`)
	pooler, err := c.StartPooler(t.Context(), "heir")
	if err != nil {
		t.Fatal(err)
	}
	store := openAt(t, postgres.Config{URL: pooler.URL(template, "heir")})
	create(t, store, "alice")
	other := connect(t, pooler.URL(template, "heir"))
	for range 10 { // of three backends
		for name, want := range map[string]string{"synchronous_commit": "off", "default_transaction_read_only": "on", "search_path": "shadows, pg_catalog, public", "lock_timeout": "1ms"} {
			var got string
			if err := other.QueryRow(t.Context(), `SHOW `+name).Scan(&got); got != want || err != nil {
				t.Errorf("%s is %q, %v; want %q", name, got, err, want)
			}
		}
	}
}

// A database hands down as much, at any time, and migrations bear it, too.
func TestMigrateInherits(t *testing.T) {
	t.Parallel()
	address := database(t, "")
	conn := connect(t, address)
	name := conn.Config().Database
	// Whatever was created in a shadow would be found there.
	if _, err := conn.Exec(t.Context(), shadows+"; "+hand("DATABASE "+name)); err != nil {
		t.Fatal(err)
	}
	store := openAt(t, postgres.Config{URL: address})
	if n, err := store.Migrate(t.Context()); n == 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if err := store.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	rec := create(t, store, "álice")
	if got, now, err := store.Get(t.Context(), rec.Handle); err != nil || got.UserID != "álice" || now.Before(rec.CreatedAt) || now.Year() < 2020 {
		t.Errorf("%+v, %s, %v", got, now, err)
	}
	var elsewhere int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_catalog.pg_class WHERE relkind = 'r' AND relnamespace NOT IN
		(SELECT oid FROM pg_catalog.pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'sessiongate', 'shadows'))`).Scan(&elsewhere); err != nil || elsewhere > 0 {
		t.Errorf("%d tables elsewhere, %v", elsewhere, err)
	}
}

// What was answered survives a crash, whatever the default. A stronger durability stays as it was
// set.
func TestSynchronousCommit(t *testing.T) {
	t.Parallel()
	c, run := inheriting(t, "synchronous_commit")
	for is, want := range map[string]string{"off": "on", "local": "local", "on": "on", "remote_write": "remote_write", "remote_apply": "remote_apply"} {
		run(template, `ALTER ROLE heir SET synchronous_commit = `+is)
		store := openAt(t, postgres.Config{URL: as(t, c.URL(template), "heir")})
		if got, err := store.Setting(t.Context(), "synchronous_commit"); got != want || err != nil {
			t.Errorf("of %s became %s, %v; want %s", is, got, err, want)
		}
	}
	run(template, `ALTER ROLE heir RESET synchronous_commit`)
	run(template, `ALTER SYSTEM SET synchronous_commit = off`)
	run(template, `SELECT pg_reload_conf()`)
	store := openAt(t, postgres.Config{URL: as(t, c.URL(template), "heir") + "&synchronous_commit=off"})
	if got, err := store.Setting(t.Context(), "synchronous_commit"); got != "on" || err != nil {
		t.Errorf("of the server's and the URL's off became %s, %v", got, err)
	}
}

// The URL is the administrator's own word for this program: what it sets stays, but for
// what would lose a revocation.
func TestSettingsOfTheURLStay(t *testing.T) {
	t.Parallel()
	address := database(t, template) + "&lock_timeout=1234&default_transaction_isolation=" + url.PathEscape("repeatable read")
	store := openAt(t, postgres.Config{URL: address})
	for name, want := range map[string]string{"lock_timeout": "1234ms", "default_transaction_isolation": "repeatable read"} {
		if got, err := store.Setting(t.Context(), name); got != want || err != nil {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}

// With a role whose connections keep no foreign key, the attributes of an ended session would stay.
func TestReplicationRole(t *testing.T) {
	t.Parallel()
	c, run := inheriting(t)
	run(template, `ALTER ROLE heir SET session_replication_role = replica`)
	store := openAt(t, postgres.Config{URL: as(t, c.URL(template), "heir")})
	if _, _, err := store.Get(t.Context(), sessions.NewHandle()); err == nil || !strings.Contains(err.Error(), "session_replication_role = replica") {
		t.Error(err)
	}
	if denied := (*pgconn.PgError)(nil); errors.As(store.CheckSchema(t.Context()), &denied) {
		t.Error(denied)
	}
}

// A database that cannot hold every claim is told of at once, and left as it is.
func TestEncoding(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII", "EUC_JP"} {
		name := nextName()
		admin := connect(t, shared.URL("postgres"))
		if _, err := admin.Exec(t.Context(), `CREATE DATABASE `+name+` TEMPLATE template0 LOCALE 'C' ENCODING '`+encoding+`'`); err != nil {
			t.Fatal(err)
		}
		store := openAt(t, postgres.Config{URL: shared.URL(name)})
		for what, tell := range map[string]func(context.Context) error{
			"CheckSchema": store.CheckSchema,
			"Migrate":     func(ctx context.Context) error { _, err := store.Migrate(ctx); return err },
		} {
			if err := tell(t.Context()); !says(err, "the database has the encoding "+encoding) {
				t.Errorf("%s, %s: %v", encoding, what, err)
			}
		}
		var schemas int
		if err := connect(t, shared.URL(name)).QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = 'sessiongate'`).Scan(&schemas); err != nil || schemas != 0 {
			t.Errorf("%s: %d schemas, %v", encoding, schemas, err)
		}
	}
}
