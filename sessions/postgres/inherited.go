package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A session of Postgres inherits settings from the server, the database and the role,
// and in a foreign database anybody may have set them for reasons of their own. Those
// that would change what a statement means, how long it waits, or whether its commit
// outlives a crash are set by us, on each connection. The others do no harm: times and
// bytes travel in binary form, which none changes, and the planner is the
// administrator's. What the URL itself sets is not inherited, and stays.

// ours are the settings that a connection must have, in the order of their names; the
// ones that this version of the server does not know are left out.
var ours = []struct{ name, value string }{
	{"default_transaction_deferrable", "off"},
	{"default_transaction_isolation", "read committed"},
	{"idle_session_timeout", "0"},
	{"lock_timeout", "0"}, // statement_timeout ends a wait
	{"search_path", "pg_catalog, pg_temp"},
	{"transaction_timeout", "0"},
}

// begin begins a transaction. Each statement in it has a snapshot of its own: else one
// from before a wait would decide.
const begin = `BEGIN ISOLATION LEVEL READ COMMITTED`

// ownBegin is where a connection keeps how its transactions begin, if in another way.
const ownBegin = "sessiongate begin"

// asked is every setting that validate reads.
const asked = `
	SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid(), s.name, s.setting, s.source
	FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) ANY (pg_catalog.string_to_array(
		'default_transaction_deferrable,default_transaction_isolation,default_transaction_read_only,idle_session_timeout,lock_timeout,search_path,session_replication_role,synchronous_commit,transaction_timeout', ','))`

// validate judges a connection before it is used: pgx tries the next host, or the next
// address of this one, where it says no. It relies on nothing that is inherited.
func (s *Store) validate(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, asked).ReadAll()
	if err != nil {
		return fmt.Errorf("asking for the primary: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) == 0 {
		return errors.New("asking for the primary: the server told of no settings")
	}
	rows := results[0].Rows
	type setting struct{ value, source string }
	found := map[string]setting{}
	for _, row := range rows {
		found[string(row[2])] = setting{string(row[3]), string(row[4])}
	}
	readOnly := found["default_transaction_read_only"]
	if err := notPrimary(string(rows[0][0]) == "t", readOnly.value == "on" && !bequeathed(readOnly.source)); err != nil {
		return err
	}
	if found["session_replication_role"].value == "replica" {
		return errors.New("the role or the database has session_replication_role = replica, with which Postgres keeps no foreign key: what belongs to an ended session would stay; reset it")
	}

	var set []string
	for _, o := range ours {
		if is, known := found[o.name]; known && is.value != o.value && is.source != fromURL {
			set = append(set, o.name+" = "+quoted(o.name, o.value))
		}
	}
	if readOnly.value == "on" {
		set = append(set, "default_transaction_read_only = off")
	}
	// A revocation that was answered must survive a crash. Whoever chose that a commit
	// waits for the disk alone, or for more than the disk, keeps it.
	if found["synchronous_commit"].value == "off" {
		set = append(set, "synchronous_commit = on")
	}
	if string(rows[0][1]) != fmt.Sprint(conn.PID()) {
		throughPooler(conn, found["search_path"].value, readOnly.value == "on", set)
		return nil
	}
	if len(set) > 0 {
		if err := conn.Exec(ctx, "SET "+strings.Join(set, "; SET ")).Close(); err != nil {
			return fmt.Errorf("setting what the connection needs: %w", err)
		}
	}
	return nil
}

// quoted is a value as SET reads it.
func quoted(name, value string) string {
	if name == "search_path" { // a list of names
		return value
	}
	return "'" + value + "'"
}

// fromURL is the source of a setting that came with the connection.
const fromURL = "client"

// bequeathed says whether a setting comes from the role or the database, or from another
// client of a pooler. What comes from the server's own configuration is how a former
// primary is fenced.
func bequeathed(source string) bool {
	return slices.Contains([]string{"database", "user", "database user", "global", "session"}, source)
}

// throughPooler is for a connection whose backend is another process than the one that
// greeted us: a pooler stands between, which may give each transaction another backend,
// where SET would reach one of them, for everybody. There each statement is made a
// transaction that sets what it needs for itself, but only where something inherited
// does harm, for that takes two more round trips.
func throughPooler(conn *pgconn.PgConn, searchPath string, readOnly bool, set []string) {
	set = slices.DeleteFunc(set, func(s string) bool {
		// pg_catalog comes first in every path that does not name it.
		return strings.HasPrefix(s, "search_path") && !strings.Contains(searchPath, "pg_catalog") ||
			strings.HasPrefix(s, "idle_session_timeout") // the pooler's affair
	})
	if len(set) == 0 {
		return
	}
	first := begin
	if readOnly {
		first += " READ WRITE"
	}
	conn.CustomData()[ownBegin] = first + "; SET LOCAL " + strings.Join(set, "; SET LOCAL ")
}
