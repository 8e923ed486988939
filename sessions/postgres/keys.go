package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// Keys implements [sessions.Store].
func (s *Store) Keys(ctx context.Context) ([]sessions.StoredKey, error) {
	rows, err := s.feed.Query(ctx, `
		SELECT kind, generation, id, wrapped, wrapped_by, created_at, active_from
		FROM sessiongate.keys ORDER BY kind, generation`)
	if err != nil {
		return nil, fmt.Errorf("selecting keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessions.StoredKey, error) {
		var k sessions.StoredKey
		var kind string
		var id, wrappedBy []byte
		err := row.Scan(&kind, &k.Generation, &id, &k.Wrapped, &wrappedBy, &k.CreatedAt, &k.ActiveFrom)
		k.Kind = sessions.KeyKind(kind)
		copy(k.ID[:], id)
		copy(k.WrappedBy[:], wrappedBy)
		k.CreatedAt, k.ActiveFrom = k.CreatedAt.UTC(), k.ActiveFrom.UTC()
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("selecting keys: %w", err)
	}
	return keys, nil
}

// AddKey implements [sessions.Store].
func (s *Store) AddKey(ctx context.Context, k sessions.StoredKey, delay time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, `
		WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now), added AS (
			INSERT INTO sessiongate.keys (kind, generation, id, wrapped, wrapped_by, created_at, active_from)
			SELECT $1, $2, $3, $4, $5, t.now, t.now + $6::interval FROM t
			ON CONFLICT (kind, generation) DO NOTHING
			RETURNING kind
		)
		INSERT INTO sessiongate.feed (kind) SELECT 'keys' FROM added`,
		string(k.Kind), k.Generation, k.ID[:], k.Wrapped, k.WrappedBy[:], delay)
	if err != nil {
		return false, fmt.Errorf("inserting key: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}
