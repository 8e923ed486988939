package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres parses and plans a statement that is prepared by name once for each connection. That is
// more than half of the work of a short statement. But a pooler in transaction mode gives each
// transaction any connection to the server. There, a prepared statement is unknown, or belongs to
// another client. So through a pooler statements have no name, unless the pooler keeps track of
// names. Without a name, only the types of parameters and results are remembered. They are the
// schema's, and the same on every connection.

// The values of [Config.PreparedStatements]: statements are prepared by name on direct connections,
// also on those through a pooler, or on none.
const (
	PrepareDirect = "auto"
	PrepareAlways = "on"
	PrepareNever  = "off"
)

// statementsMax is more than the store has statements.
const statementsMax = 128

// nameless is a querier whose statements have no name.
type nameless struct{ by querier }

func (n nameless) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return n.by.Exec(ctx, sql, without(args)...)
}

func (n nameless) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return n.by.Query(ctx, sql, without(args)...)
}

func (n nameless) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return n.by.QueryRow(ctx, sql, without(args)...)
}

// without tells pgx, before the arguments, to use no name.
func without(args []any) []any {
	return append([]any{pgx.QueryExecModeCacheDescribe}, args...)
}

// named is by, with statements that have names unless the connection may not use them.
func named(conn *pgx.Conn, by querier) querier {
	if conn.PgConn().CustomData()[unnamed] == nil {
		return by
	}
	return nameless{by}
}

// forgetStatements says whether err shows that a statement cannot be run as it was prepared. Then
// the statement had no effect, and the connection forgets what it prepared, so that the caller can
// run it again.
//
//   - A migration of another version, during a rollout, changed the type of a column.
//   - The names do not reach the server's connection: a pooler is between, and did not show itself.
//     From now on, this connection uses none.
func forgetStatements(ctx context.Context, conn *pgx.Conn, err error) bool {
	e := (*pgconn.PgError)(nil)
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case codeNotSupported:
		if conn.PgConn().CustomData()[isPooled] != nil {
			// A pooler that keeps track of names may keep the stale statement under its own.
			conn.PgConn().CustomData()[unnamed] = true
		}
		return conn.DeallocateAll(ctx) == nil
	case codeUnknownStatement, codeDuplicateStatement:
		conn.PgConn().CustomData()[unnamed] = true
		return true
	}
	return false
}
