package postgres

import "github.com/jackc/pgx/v5/pgxpool"

// PoolStats tells of the pool's connections, beside which the feed has one of its
// own.
func (s *Store) PoolStats() *pgxpool.Stat { return s.pool.Stat() }
