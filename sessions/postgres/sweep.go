package postgres

import (
	"context"
	"fmt"
)

// Sweep implements [sessions.Store]. It skips rows that another replica is sweeping.
func (s *Store) Sweep(ctx context.Context, limit int) (int, error) {
	var swept [3]int
	for i, sweep := range []struct {
		what string
		sql  string
		args []any
	}{
		{"sessions", `
			DELETE FROM sessiongate.active_sessions WHERE handle = ANY (ARRAY(
				SELECT handle FROM sessiongate.active_sessions WHERE absolute_expires_at <= (SELECT sessiongate.now())
				ORDER BY absolute_expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit}},
		// Entries are kept for twice the feed retention. A replica that reads the young entries
		// right now must not find them gone. Nor must one that reads an entry which was written
		// long before its transaction committed.
		{"the feed", `
			DELETE FROM sessiongate.feed WHERE id = ANY (ARRAY(
				SELECT id FROM sessiongate.feed
				WHERE at < (SELECT sessiongate.now() - 2 * retention FROM sessiongate.feed_retention)
				ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit}},
		{"audit events", `
			DELETE FROM sessiongate.audit_events WHERE id = ANY (ARRAY(
				SELECT id FROM sessiongate.audit_events WHERE at < (SELECT sessiongate.now() - $2::interval)
				ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit, s.auditKeep}},
	} {
		removed, err := s.exec(ctx, sweep.sql, sweep.args...)
		if err != nil {
			return swept[0] + swept[1] + swept[2], fmt.Errorf("sweeping %s: %w", sweep.what, err)
		}
		swept[i] = int(removed)
	}
	idle, err := s.sweepIdle(ctx, limit-swept[0])
	return swept[0] + swept[1] + swept[2] + idle, err
}

// idlePage is how many sessions are read for each one that may be removed.
const idlePage = 20

// sweepIdle removes sessions that were not refreshed for too long, from one page of sessions in the
// order of their handles. An index on expires_at is no alternative: every refresh would write it.
func (s *Store) sweepIdle(ctx context.Context, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var lastSeen, lastRemoved []byte
	var seen, removed int
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, `
			WITH page AS MATERIALIZED (
				SELECT handle FROM sessiongate.active_sessions WHERE handle > $1 ORDER BY handle LIMIT $2
			), gone AS (
				DELETE FROM sessiongate.active_sessions WHERE handle = ANY (ARRAY(
					SELECT s.handle FROM sessiongate.active_sessions s
					WHERE s.handle = ANY (ARRAY(SELECT handle FROM page)) AND s.expires_at <= (SELECT sessiongate.now())
					ORDER BY s.handle LIMIT $3 FOR UPDATE OF s SKIP LOCKED))
				RETURNING handle
			)
			SELECT (SELECT handle FROM page ORDER BY handle DESC LIMIT 1), (SELECT count(*) FROM page),
				(SELECT handle FROM gone ORDER BY handle DESC LIMIT 1), (SELECT count(*) FROM gone)`,
			s.sweptUpTo, idlePage*limit, limit).Scan(&lastSeen, &seen, &lastRemoved, &removed)
	})
	if err != nil {
		return 0, fmt.Errorf("sweeping idle sessions: %w", err)
	}
	switch {
	case removed == limit: // the limit may have cut the page short
		s.sweptUpTo = lastRemoved
	case seen < idlePage*limit: // the end: start from the beginning
		s.sweptUpTo = []byte{}
	default:
		s.sweptUpTo = lastSeen
	}
	return removed, nil
}
