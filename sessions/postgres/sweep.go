package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// Sweep implements [sessions.Store].
func (s *Store) Sweep(ctx context.Context, limit int) (int, error) {
	total := 0
	for _, sweep := range []struct {
		sql  string
		args []any
	}{
		// What has expired for good has an index; rows that another replica is
		// sweeping are skipped.
		{`DELETE FROM sessiongate.sessions WHERE handle = ANY (ARRAY(
			SELECT handle FROM sessiongate.sessions WHERE absolute_expires_at <= sessiongate.now()
			ORDER BY absolute_expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit}},
		// Entries are kept twice the horizon: a replica that reads all young
		// ones right now must find them.
		{`DELETE FROM sessiongate.feed WHERE ctid = ANY (ARRAY(
			SELECT f.ctid FROM sessiongate.feed f, sessiongate.horizon h WHERE f.at < sessiongate.now() - 2 * h.horizon
			ORDER BY f.at LIMIT $1 FOR UPDATE OF f SKIP LOCKED))`, []any{limit}},
		{`DELETE FROM sessiongate.events WHERE id = ANY (ARRAY(
			SELECT id FROM sessiongate.events WHERE at < sessiongate.now() - $2::interval
			ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED))`, []any{limit, s.eventsKeep}},
	} {
		tag, err := s.pool.Exec(ctx, sweep.sql, sweep.args...)
		if err != nil {
			return total, fmt.Errorf("sweeping: %w", err)
		}
		total += int(tag.RowsAffected())
	}
	n, err := s.sweepIdle(ctx, limit)
	return total + n, err
}

// sweepIdle looks at one page of sessions in the order of their handles: an
// index on expires_at would make every refresh write it.
func (s *Store) sweepIdle(ctx context.Context, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last []byte
	var seen, removed int
	err := s.pool.QueryRow(ctx, `
		WITH page AS MATERIALIZED (
			SELECT handle, expires_at FROM sessiongate.sessions WHERE handle > $1 ORDER BY handle LIMIT $2
		), removed AS (
			DELETE FROM sessiongate.sessions WHERE handle = ANY (ARRAY(
				SELECT s.handle FROM sessiongate.sessions s JOIN page p USING (handle)
				WHERE s.expires_at <= sessiongate.now() ORDER BY s.handle FOR UPDATE OF s SKIP LOCKED))
			RETURNING handle
		)
		SELECT (SELECT handle FROM page ORDER BY handle DESC LIMIT 1), (SELECT count(*) FROM page), (SELECT count(*) FROM removed)`,
		s.sweptUpTo, limit).Scan(&last, &seen, &removed)
	if err != nil {
		return 0, fmt.Errorf("sweeping idle sessions: %w", err)
	}
	s.sweptUpTo = last
	if seen < limit {
		s.sweptUpTo = []byte{}
	}
	return removed, nil
}

// ListUser implements [sessions.Store].
func (s *Store) ListUser(ctx context.Context, userID string, limit int) ([]sessions.Record, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+rowColumns+`, c.claims, c.claims_version, c.data
		FROM sessiongate.sessions s JOIN sessiongate.contents c USING (handle)
		WHERE s.user_id = $1 ORDER BY s.created_at DESC, s.handle LIMIT $2`, userID, limit)
	if err != nil {
		return nil, fmt.Errorf("selecting the sessions of a user: %w", err)
	}
	records, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessions.Record, error) {
		var rec sessions.Record
		var n scan
		err := row.Scan(append(n.into(&rec.Row), &rec.Claims, &rec.ClaimsVersion, &rec.Data)...)
		n.finish(&rec.Row)
		return rec, err
	})
	if err != nil {
		return nil, fmt.Errorf("selecting the sessions of a user: %w", err)
	}
	return records, nil
}
