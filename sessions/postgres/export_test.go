package postgres

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiongate/sessiongate/sessions"
)

// SetFeedPage makes the pages of a full resync small, so that there are many.
func (s *Store) SetFeedPage(entries int) { s.feedPage = entries }

// SetDeliverMax sets how long the server waits for a delivery.
func (s *Store) SetDeliverMax(d time.Duration) { s.deliverMax = d }

// SetHangUpGrace sets how long a statement may still take after its caller gave up.
func (s *Store) SetHangUpGrace(d time.Duration) { s.hangUpGrace = d }

// Setting is the value of a server setting on a connection of the store.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	})
	return value, err
}

// SetEndPage makes the pages of EndCreatedBefore small, so that there are many.
func (s *Store) SetEndPage(sessions int) { s.endPage = sessions }

// SetCountExactly sets up to how many sessions CountSessions counts.
func (s *Store) SetCountExactly(sessions int) { s.countExactly = sessions }

// UserLock is the lock of a user's creations.
func UserLock(userID string) int64 { return userLock(userID) }

// PollBlocks is how many blocks the statement of a poll from since touches.
func (s *Store) PollBlocks(ctx context.Context, since sessions.Cursor) (int, error) {
	from, err := parsePosition(since)
	if err != nil {
		return 0, err
	}
	sql, args := s.pollStatement(from)
	var text []byte
	if err := s.feed.QueryRow(ctx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+sql, args...).Scan(&text); err != nil {
		return 0, err
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		return 0, err
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read, nil
}

// WithLookup makes a store find the addresses of hosts in its own way.
func WithLookup(c Config, find func(ctx context.Context, host string) ([]string, error)) Config {
	c.lookup = find
	return c
}

// LookAgain makes every connection again.
func (s *Store) LookAgain() { s.lookAgain() }

// Connected is how many connections were ever made.
func (s *Store) Connected() int64 {
	return s.pool.Stat().NewConnsCount() + s.feed.Stat().NewConnsCount() + s.outbox.Stat().NewConnsCount()
}

// Idle makes connections count as idle for long enough to be asked whether they live.
func Idle(s *Store) { s.pingIdle = 0 }

// PingMax is how long the answer to a ping may take.
const PingMax = pingMax

// SetPingMax sets it for a store that has not connected yet.
func (s *Store) SetPingMax(d time.Duration) { s.pingMax = d }

// Dial connects as the store does.
func Dial(ctx context.Context, address string) (*net.TCPConn, error) {
	conn, err := newDialer(&pgconn.Config{ConnectTimeout: time.Minute}).dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*greeted).Conn.(*net.TCPConn), nil
}

// FeedConnected is how many connections the feed ever had.
func (s *Store) FeedConnected() int64 { return s.feed.Stat().NewConnsCount() }

// SetMigratePause sets how long a migration waits before it asks again for a lock.
func (s *Store) SetMigratePause(d time.Duration) { s.migratePause = d }

// Prepared is how many statements the connection of a store with one connection has prepared by
// name.
func (s *Store) Prepared(ctx context.Context) (n int, err error) {
	err = s.with(ctx, s.pool, time.Minute, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql`, pgx.QueryExecModeSimpleProtocol).Scan(&n)
	})
	return n, err
}

// Plans are the generic plans of what pools of one connection have prepared, by the statement's
// text.
func (s *Store) Plans(ctx context.Context) (map[string]string, error) {
	plans := map[string]string{}
	for _, p := range []*pgxpool.Pool{s.pool, s.feed, s.outbox} {
		err := s.with(ctx, p, time.Minute, func(ctx context.Context, conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, `SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements WHERE NOT from_sql`, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				return err
			}
			type prepared struct {
				Name, SQL  string
				Parameters int
			}
			all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[prepared])
			if err != nil {
				return err
			}
			if _, err := conn.Exec(ctx, `SET plan_cache_mode = force_generic_plan`); err != nil {
				return err
			}
			for _, one := range all {
				arguments := ""
				if one.Parameters > 0 {
					arguments = "(NULL" + strings.Repeat(", NULL", one.Parameters-1) + ")"
				}
				rows, err := conn.Query(ctx, `EXPLAIN EXECUTE `+pgx.Identifier{one.Name}.Sanitize()+arguments, pgx.QueryExecModeSimpleProtocol)
				if err != nil {
					return err
				}
				lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil {
					return err
				}
				plans[one.SQL] = strings.Join(lines, "\n")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// RotateInTransaction is Rotate in a transaction of its own, and whether that got a transaction ID:
// what writes nothing has none, and waits for no disk at its commit.
func (s *Store) RotateInTransaction(ctx context.Context, h sessions.Handle, r sessions.Rotation) (rotated, id bool, err error) {
	err = s.transact(ctx, s.pool, s.transactionMax, func(ctx context.Context, by querier) error {
		if _, _, rotated, err = s.rotateBy(ctx, by, h, r); err != nil {
			return err
		}
		return by.QueryRow(ctx, `SELECT pg_current_xact_id_if_assigned() IS NOT NULL`).Scan(&id)
	})
	return rotated, id, err
}
