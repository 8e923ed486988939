package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A connection to Postgres inherits settings from the server, the database and the role. In a
// shared database, another team may have set them for its own reasons. sessiongate sets, on each
// connection, every setting that would change what a statement means, how long it takes, or whether
// its commit survives a crash. The other settings do no harm: times and bytes travel in binary
// form, which no setting changes. What the URL itself sets is not inherited, and stays.

// ours are the settings that a connection must have. Those that this version of the server does not
// know are skipped. If pooled is false, connections of a pooler may keep what they inherit.
var ours = []struct {
	name, value string
	pooled      bool
}{
	{"default_transaction_isolation", "'read committed'", true},
	{"default_transaction_deferrable", "off", true},
	{"search_path", "pg_catalog, pg_temp", true},
	{"lock_timeout", "0", true}, // statement_timeout ends a wait
	{"transaction_timeout", "0", true},
	{"idle_session_timeout", "0", false}, // for pooled connections, the pooler decides
	// JIT compilation would take longer than the statement.
	{"plan_cache_mode", "auto", true},
	{"jit", "off", false},
	// A prepared statement keeps the plan that was made for the tables as they were. In an empty or
	// small table, to read all of it is the best plan; minutes later, it may be a large one. So
	// every plan begins with an index and follows one. Through a pooler, a statement without a name
	// is planned for itself, and names need these three at the role.
	{"enable_seqscan", "off", false},
	{"enable_hashjoin", "off", false},
	{"enable_mergejoin", "off", false},
	{"enable_indexscan", "on", true},
	{"enable_indexonlyscan", "on", true},
	{"enable_bitmapscan", "on", true},
	{"enable_nestloop", "on", true},
	{"enable_sort", "on", true},
}

// begin starts a transaction. Each statement in it has a snapshot of its own. Otherwise a snapshot
// from before a wait would decide.
const begin = `BEGIN ISOLATION LEVEL READ COMMITTED`

// A connection stores under these names: how its transactions begin, if not with begin; that its
// statements have no names; that a pooler is between; when it was made; and its era ([eras]).
const (
	ownBegin = "sessiongate begin"
	unnamed  = "sessiongate unnamed"
	isPooled = "sessiongate pooled"
	madeAt   = "sessiongate made"
	itsEra   = "sessiongate era"
)

// asking reads every setting that validate judges. It relies on none of them: a search path may
// name another schema before pg_catalog.
var asking = func() string {
	names := []string{"default_transaction_read_only", "session_replication_role", "synchronous_commit"}
	for _, o := range ours {
		names = append(names, o.name)
	}
	return `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_backend_pid(),
			pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.pg_postmaster_start_time()), 'YYYYMMDDHH24MISSUS'), s.name, s.setting, s.source
		FROM pg_catalog.pg_settings s
		WHERE s.name OPERATOR(pg_catalog.=) ANY (pg_catalog.string_to_array('` + strings.Join(names, ",") + `', ','))`
}()

// validate judges a connection before it is used. If it returns an error, pgx tries the next host,
// or the next address of this one.
func (s *Store) validate(ctx context.Context, conn *pgconn.PgConn) error {
	conn.CustomData()[madeAt] = time.Now()
	results, err := conn.Exec(ctx, asking).ReadAll()
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
		found[string(row[4])] = setting{string(row[5]), string(row[6])}
	}
	readOnly := found["default_transaction_read_only"]
	inherited := readOnly.value == "on" && bequeathed(readOnly.source)
	if err := notPrimary(string(rows[0][0]) == "t", string(rows[0][1]) == "on" && !inherited); err != nil {
		return err
	}
	conn.CustomData()[itsEra] = s.meets(string(rows[0][3]))
	if found["session_replication_role"].value == "replica" {
		return errors.New("the role or the database has session_replication_role = replica, with which Postgres keeps no foreign key: what belongs to an ended session would stay; reset it")
	}

	pooled := string(rows[0][2]) != strconv.FormatUint(uint64(conn.PID()), 10)
	var set []string
	for _, o := range ours {
		is, known := found[o.name]
		switch {
		case !known, is.value == strings.Trim(o.value, "'"), is.source == fromURL, pooled && !o.pooled:
		case pooled && o.name == "search_path" && !strings.Contains(is.value, "pg_catalog"): // pg_catalog comes first by itself
		default:
			set = append(set, o.name+" = "+o.value)
		}
	}
	// A revocation that was answered must survive a crash. A stronger setting than "off" was chosen
	// on purpose, and stays.
	if found["synchronous_commit"].value == "off" {
		set = append(set, "synchronous_commit = on")
	}
	if pooled {
		conn.CustomData()[isPooled] = true
		// With PrepareAlways, a plan is kept there, too. That is safe only if the role forbids to read
		// whole tables, for here it cannot be set.
		if s.prepare == PrepareDirect || found["enable_seqscan"].value == "on" {
			conn.CustomData()[unnamed] = true
		}
		throughPooler(conn, inherited, set)
		return nil
	}
	if inherited {
		set = append(set, "default_transaction_read_only = off")
	}
	if len(set) == 0 {
		return nil
	}
	if err := conn.Exec(ctx, "SET "+strings.Join(set, "; SET ")).Close(); err != nil {
		return fmt.Errorf("setting what the connection needs: %w", err)
	}
	return nil
}

// fromURL is the source of a setting that came with the connection.
const fromURL = "client"

// bequeathed says whether a setting comes from the role or the database, or from another client of
// a pooler. A setting from the server's own configuration does not: that is how a former primary is
// fenced.
func bequeathed(source string) bool {
	return slices.Contains([]string{"database", "user", "database user", "global", "session"}, source)
}

// throughPooler prepares a connection through a pooler; its backend is another process than the one
// that greeted us. The pooler may give each transaction another backend. SET would reach one of
// them, and would affect other clients. So each statement becomes a transaction that sets what it
// needs for itself. That takes two more round trips, so it is done only if an inherited setting
// does harm.
func throughPooler(conn *pgconn.PgConn, readOnly bool, set []string) {
	mode := begin
	if readOnly {
		mode += " READ WRITE"
	}
	first := strings.Join(append([]string{mode}, set...), "; SET LOCAL ")
	if first != begin {
		conn.CustomData()[ownBegin] = first
	}
}
