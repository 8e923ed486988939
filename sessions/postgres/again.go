package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// repeats is how often a lost race is repeated. repeatPause is the longest pause before the
	// first repetition; it doubles before each next one.
	repeats     = 6
	repeatPause = 10 * time.Millisecond
	// silentAfter is how long the server may stay silent after it should have ended a statement
	// itself.
	silentAfter = time.Second
	// transactionMost is the largest number of statements in a transaction that may each take the
	// whole statement timeout.
	transactionMost = 4
)

// querier is a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// lostRace says whether Postgres undid a statement because of a concurrent one: a serialization
// failure, on an isolation level that we did not choose, or a deadlock. The statement had no
// effect.
func lostRace(err error) bool {
	e := (*pgconn.PgError)(nil)
	return errors.As(err, &e) && (e.Code == codeSerializationFailure || e.Code == codeDeadlock)
}

// do runs f, and again if it lost a race. f is one statement with all its rows read; it does not
// depend on what was read before.
func (s *Store) do(ctx context.Context, p *pgxpool.Pool, f func(context.Context, querier) error) error {
	return again(ctx, func() error { return s.once(ctx, p, f) })
}

// ownBeginOf is how transactions of a connection begin, if they need more than begin. On such a
// connection, a single statement is a transaction, too.
func ownBeginOf(conn *pgx.Conn) string {
	own, _ := conn.PgConn().CustomData()[ownBegin].(string)
	return own
}

// once is do without the repetition, for statements whose decision must be made again.
func (s *Store) once(ctx context.Context, p *pgxpool.Pool, f func(context.Context, querier) error) error {
	return s.with(ctx, p, s.statementMax, func(ctx context.Context, conn *pgx.Conn) error {
		if own := ownBeginOf(conn); own != "" {
			return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{BeginQuery: own}, func(tx pgx.Tx) error { return f(ctx, named(conn, tx)) })
		}
		return f(ctx, named(conn, conn))
	})
}

// transact runs f in a transaction that takes at most longest, and again if it lost a race.
func (s *Store) transact(ctx context.Context, p *pgxpool.Pool, longest time.Duration, f func(context.Context, querier) error) error {
	return again(ctx, func() error {
		return s.with(ctx, p, longest, func(ctx context.Context, conn *pgx.Conn) error {
			options := pgx.TxOptions{BeginQuery: cmp.Or(ownBeginOf(conn), begin)}
			return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error { return f(ctx, named(conn, tx)) })
		})
	})
}

// with waits for a connection, and runs f on it for at most longest. The server ends a statement by
// itself; a server that does not even report that is frozen, or cut off.
func (s *Store) with(ctx context.Context, p *pgxpool.Pool, longest time.Duration, f func(context.Context, *pgx.Conn) error) error {
	acquired, err := acquire(ctx, p)
	if err != nil {
		return err
	}
	defer acquired.Release()
	conn := acquired.Conn()
	bounded, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	if era, ok := conn.PgConn().CustomData()[itsEra].(context.Context); ok {
		defer context.AfterFunc(era, cancel)() //nolint:contextcheck // either of them ends it
	}
	err = f(bounded, conn)
	if forgetStatements(bounded, conn, err) {
		err = f(bounded, conn)
	}
	switch {
	case err == nil, ctx.Err() != nil:
	case errors.Is(bounded.Err(), context.Canceled):
		return fmt.Errorf("%w any more: another server is, and did not answer for this one", ErrNotPrimary)
	case bounded.Err() != nil && s.silence.due(silencePause):
		s.reset()
	}
	return err
}

// acquire waits for a connection, at most three quarters of the time that ctx has left: the rest is the
// statement's. The queue is served in order. So without that bound, an overload would give each
// connection to the caller whose time is nearly up. Its statement would be cut off, and the connection
// with it.
func acquire(ctx context.Context, p *pgxpool.Pool) (*pgxpool.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		queued, cancel := context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/4))
		defer cancel()
		ctx = queued
	}
	return p.Acquire(ctx)
}

// again calls f until it does not lose a race.
func again(ctx context.Context, f func() error) error {
	longest := repeatPause
	for range repeats {
		err := f()
		if !lostRace(err) {
			return err
		}
		// Two callers that collided once and wait equally long collide again.
		pause := time.NewTimer(rand.N(longest)) //nolint:gosec // no secret
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
		longest *= 2
	}
	return f()
}

// exec is do for a statement that returns no rows. It returns how many rows it changed.
func (s *Store) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	var changed int64
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		tag, err := by.Exec(ctx, sql, args...)
		changed = tag.RowsAffected()
		return err
	})
	return changed, err
}
