package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolStats describes the connections of the pool. The feed and the outbox have one connection each
// beside them.
func (s *Store) PoolStats() *pgxpool.Stat { return s.pool.Stat() }

// countExactly is up to how many sessions CountSessions counts.
const countExactly = 10_000

// CountSessions implements [sessions.Store]. Beyond countExactly it is Postgres's own estimate: to
// count ten million rows would read them all.
func (s *Store) CountSessions(ctx context.Context) (int, error) {
	var n int
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		// A server that crashed has lost its statistics, and then knows what the last ANALYZE saw.
		return by.QueryRow(ctx, `
			SELECT CASE WHEN counted.n <= $1 THEN counted.n
				WHEN pg_stat_get_live_tuples(t.oid) > $1 THEN pg_stat_get_live_tuples(t.oid)
				ELSE greatest(counted.n, t.reltuples::bigint) END
			FROM pg_class t, (SELECT count(*) AS n FROM (SELECT FROM sessiongate.active_sessions LIMIT $1 + 1) AS few) AS counted
			WHERE t.oid = 'sessiongate.active_sessions'::regclass`, s.countExactly).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("counting sessions: %w", err)
	}
	return n, nil
}
