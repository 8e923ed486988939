package postgres

import (
	"context"
	"fmt"
)

// Sweep implements [sessions.Store]. Rows that another replica is sweeping are
// skipped, not waited for.
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
		// Kept for twice the feed retention: a replica that reads the young entries right
		// now, or a transaction that wrote one long before it committed, must not
		// find them gone.
		{"the feed", `
			DELETE FROM sessiongate.feed WHERE id = ANY (ARRAY(
				SELECT id FROM sessiongate.feed
				WHERE at < (SELECT sessiongate.now() - 2 * retention FROM sessiongate.feed_retention)
				ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit}},
		{"events", `
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

// idlePage is how many sessions are looked at for each that may be removed.
const idlePage = 20

// sweepIdle removes what was not refreshed for too long, from one page of
// sessions in the order of their handles: an index on expires_at would make
// every refresh write it.
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
					SELECT s.handle FROM sessiongate.active_sessions s JOIN page USING (handle)
					WHERE s.expires_at <= (SELECT sessiongate.now())
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
	case removed == limit: // which may have ended the page early
		s.sweptUpTo = lastRemoved
	case seen < idlePage*limit: // the end: begin again
		s.sweptUpTo = []byte{}
	default:
		s.sweptUpTo = lastSeen
	}
	return removed, nil
}
