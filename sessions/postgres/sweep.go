package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Sweep implements [sessions.Store]. Rows that another replica is sweeping are
// skipped, not waited for.
func (s *Store) Sweep(ctx context.Context, limit int) (int, error) {
	total := 0
	for _, sweep := range []struct {
		what string
		sql  string
		args []any
	}{
		{"sessions", `
			DELETE FROM sessiongate.sessions WHERE handle = ANY (ARRAY(
				SELECT handle FROM sessiongate.sessions WHERE absolute_expires_at <= (SELECT sessiongate.now())
				ORDER BY absolute_expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit}},
		// Kept for twice the horizon: a replica that reads the young entries right
		// now, or a transaction that wrote one long before it committed, must not
		// find them gone.
		{"the feed", `
			DELETE FROM sessiongate.feed WHERE ctid = ANY (ARRAY(
				SELECT ctid FROM sessiongate.feed
				WHERE at < (SELECT sessiongate.now() - 2 * horizon FROM sessiongate.horizon)
				ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit}},
		{"events", `
			DELETE FROM sessiongate.events WHERE id = ANY (ARRAY(
				SELECT id FROM sessiongate.events WHERE at < (SELECT sessiongate.now() - $2::interval)
				ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit, s.eventsKeep}},
	} {
		tag, err := s.pool.Exec(ctx, sweep.sql, sweep.args...)
		if err != nil {
			return total, fmt.Errorf("sweeping %s: %w", sweep.what, err)
		}
		total += int(tag.RowsAffected())
	}
	n, err := s.sweepIdle(ctx, limit)
	return total + n, err
}

// idlePage is how many sessions are looked at for each that may be removed.
const idlePage = 20

// sweepIdle removes what was not refreshed for too long, from one page of
// sessions in the order of their handles: an index on expires_at would make
// every refresh write it.
func (s *Store) sweepIdle(ctx context.Context, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := s.pool.Query(ctx, `
		WITH page AS MATERIALIZED (
			SELECT handle FROM sessiongate.sessions WHERE handle > $1 ORDER BY handle LIMIT $2
		), gone AS (
			DELETE FROM sessiongate.sessions WHERE handle = ANY (ARRAY(
				SELECT s.handle FROM sessiongate.sessions s JOIN page USING (handle)
				WHERE s.expires_at <= (SELECT sessiongate.now())
				ORDER BY s.handle LIMIT $3 FOR UPDATE OF s SKIP LOCKED))
			RETURNING handle
		)
		SELECT handle, true FROM gone
		UNION ALL (SELECT handle, false FROM page ORDER BY handle DESC LIMIT 1)
		ORDER BY 2 DESC, 1`, s.sweptUpTo, idlePage*limit, limit)
	if err != nil {
		return 0, fmt.Errorf("sweeping idle sessions: %w", err)
	}
	removed, last := 0, []byte{} // an empty page is behind the last handle: start again
	var handle []byte
	var gone bool
	_, err = pgx.ForEachRow(rows, []any{&handle, &gone}, func() error {
		switch {
		case gone:
			removed++
			last = handle
		case removed < limit:
			last = handle
		default:
			// The limit ended the page early: go on behind the last one removed.
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("sweeping idle sessions: %w", err)
	}
	s.sweptUpTo = last
	return removed, nil
}
