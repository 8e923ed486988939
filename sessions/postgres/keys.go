package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// Keys implements [sessions.Store].
func (s *Store) Keys(ctx context.Context) (sessions.KeySet, error) {
	var set sessions.KeySet
	err := s.do(ctx, s.feed, func(ctx context.Context, by querier) error {
		// At least one row, for the time and the feed retention.
		rows, err := by.Query(ctx, `
			WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now, retention FROM sessiongate.feed_retention)
			SELECT t.now, t.retention, k.kind, k.generation, k.id, k.wrapped, k.wrapped_by, k.created_at, k.active_from
			FROM t LEFT JOIN sessiongate.keys k ON true ORDER BY k.kind, k.generation`)
		if err != nil {
			return err
		}
		set = sessions.KeySet{}
		var n scanKey
		_, err = pgx.ForEachRow(rows, append([]any{&set.Now, &set.FeedRetention}, n.into()...), func() error {
			if n.kind != nil {
				set.Keys = append(set.Keys, n.key())
			}
			return nil
		})
		return err
	})
	if err != nil {
		return sessions.KeySet{}, fmt.Errorf("selecting keys: %w", err)
	}
	if set.Now.IsZero() {
		return sessions.KeySet{}, errors.New("selecting keys: the feed retention's row is missing")
	}
	set.Now = set.Now.UTC()
	return set, nil
}

// scanKey is a scanned row of the keys; all fields are null if there is no key.
type scanKey struct {
	kind                  *string
	generation            *int
	id, wrapped, by       []byte
	createdAt, activeFrom *time.Time
}

func (n *scanKey) into() []any {
	return []any{&n.kind, &n.generation, &n.id, &n.wrapped, &n.by, &n.createdAt, &n.activeFrom}
}

func (n *scanKey) key() sessions.StoredKey {
	k := sessions.StoredKey{
		Kind: sessions.KeyKind(*n.kind), Generation: *n.generation, Wrapped: n.wrapped,
		CreatedAt: n.createdAt.UTC(), ActiveFrom: n.activeFrom.UTC(),
	}
	copy(k.ID[:], n.id)
	copy(k.WrappedBy[:], n.by)
	return k
}

// AddKey implements [sessions.Store].
func (s *Store) AddKey(ctx context.Context, k sessions.StoredKey, delay time.Duration) (bool, error) {
	sql := `
		WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now), added AS (
			INSERT INTO sessiongate.keys (kind, generation, id, wrapped, wrapped_by, created_at, active_from)
			SELECT $1, $2, $3, $4, $5, t.now, t.now + $6::interval FROM t
			ON CONFLICT (kind, generation) DO NOTHING
			RETURNING kind, generation, id
		)`
	if s.audit {
		sql += auditKey(sessions.AuditKeyAdded, "added")
	}
	added, err := s.exec(ctx, sql+`
		INSERT INTO sessiongate.feed (kind) SELECT 'keys' FROM added`,
		string(k.Kind), k.Generation, k.ID[:], k.Wrapped, k.WrappedBy[:], delay)
	if err != nil {
		return false, fmt.Errorf("inserting key: %w", err)
	}
	return added == 1, nil
}

// RewrapKey implements [sessions.Store].
func (s *Store) RewrapKey(ctx context.Context, old, next sessions.StoredKey) (bool, error) {
	sql := `
		WITH rewrapped AS (
			UPDATE sessiongate.keys SET wrapped = $3, wrapped_by = $4 WHERE id = $1 AND wrapped = $2
			RETURNING kind, generation, id
		)`
	if s.audit {
		sql += auditKey(sessions.AuditKeyRewrapped, "rewrapped")
	}
	rewrapped, err := s.exec(ctx, sql+`
		INSERT INTO sessiongate.feed (kind) SELECT 'keys' FROM rewrapped`,
		old.ID[:], old.Wrapped, next.Wrapped, next.WrappedBy[:])
	if err != nil {
		return false, fmt.Errorf("updating key: %w", err)
	}
	return rewrapped == 1, nil
}

// DeleteKeys implements [sessions.Store].
func (s *Store) DeleteKeys(ctx context.Context, kind sessions.KeyKind, after time.Duration) ([]sessions.StoredKey, error) {
	sql := `
		WITH t AS MATERIALIZED (SELECT sessiongate.now() - $2::interval AS before), deleted AS (
			DELETE FROM sessiongate.keys k USING t
			WHERE k.kind = $1 AND EXISTS (SELECT FROM sessiongate.keys n
				WHERE n.kind = k.kind AND n.generation > k.generation AND n.active_from < t.before)
			RETURNING k.kind, k.generation, k.id, k.wrapped, k.wrapped_by, k.created_at, k.active_from
		), fed AS (
			INSERT INTO sessiongate.feed (kind) SELECT 'keys' FROM deleted LIMIT 1
		)`
	if s.audit {
		sql += auditKey(sessions.AuditKeyDeleted, "deleted")
	}
	var deleted []sessions.StoredKey
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		rows, err := by.Query(ctx, sql+`
			SELECT kind, generation, id, wrapped, wrapped_by, created_at, active_from FROM deleted`,
			string(kind), after)
		if err != nil {
			return err
		}
		deleted = nil
		var n scanKey
		_, err = pgx.ForEachRow(rows, n.into(), func() error {
			deleted = append(deleted, n.key())
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("deleting keys: %w", err)
	}
	slices.SortFunc(deleted, func(a, b sessions.StoredKey) int { return cmp.Compare(a.Generation, b.Generation) })
	return deleted, nil
}
