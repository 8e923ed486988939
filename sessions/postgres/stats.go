package postgres

import "github.com/jackc/pgx/v5/pgxpool"

// PoolStats describes the connections of the pool. The feed and the outbox have one connection each
// beside them.
func (s *Store) PoolStats() *pgxpool.Stat { return s.pool.Stat() }
