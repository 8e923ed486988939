package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// Swap implements [sessions.Store].
func (s *Store) Swap(ctx context.Context, old, next sessions.Row, rule sessions.Rule) (bool, error) {
	sql := `
		UPDATE sessiongate.active_sessions
		SET current_hash = $4, previous_hash = $5, current_client = $6, promoted_at = $7,
			next_nonce = $8, next_client = $9, issued_at = $10, issues = $11, expires_at = $12
		WHERE handle = $1 AND current_hash = $2 AND issued_at IS NOT DISTINCT FROM $3`
	args := []any{
		old.Handle[:], old.Current[:], timeOrNull(old.IssuedAt),
		next.Current[:], orNull(next.Previous, next.Previous[:]), orNull(next.CurrentClient, next.CurrentClient[:]), next.PromotedAt,
		orNull(next.NextNonce, next.NextNonce[:]), orNull(next.NextClient, next.NextClient[:]), timeOrNull(next.IssuedAt), next.Issues, next.ExpiresAt,
	}
	if s.audit {
		sql = `WITH s AS (` + sql + ` RETURNING handle, user_id)
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, rule, reason, actor)
			SELECT 'refreshed', handle, user_id, $13, '', 'refresh' FROM s`
		args = append(args, string(rule))
	}
	swapped := false
	err := s.once(ctx, s.pool, func(ctx context.Context, by querier) error {
		tag, err := by.Exec(ctx, sql, args...)
		swapped = tag.RowsAffected() == 1
		return err
	})
	switch {
	case lostRace(err): // the row changed: the caller reads and judges it again
		return false, nil
	case err != nil:
		return false, fmt.Errorf("updating session: %w", err)
	}
	return swapped, nil
}

// Promote implements [sessions.Store].
func (s *Store) Promote(ctx context.Context, ps []sessions.Promotion) error {
	if len(ps) == 0 {
		return nil
	}
	byHandle := make(map[sessions.Handle]sessions.Promotion, len(ps))
	var handles, children [][]byte
	for _, p := range ps {
		byHandle[p.Handle] = p
		handles, children = append(handles, p.Handle[:]), append(children, p.Own[:])
	}
	err := s.transact(ctx, s.pool, s.transactionMax, func(ctx context.Context, tx pgx.Tx) error {
		// The rows are locked in the order of handles: two batches that lock in different orders
		// deadlock. They are locked before anything is decided: a statement that waits for a lock
		// inside its own decision decides by the snapshot from before the wait. A promotion that
		// another replica has already made, which is the usual case, locks nothing.
		rows, err := tx.Query(ctx, `
			SELECT s.handle, s.current_hash, s.previous_hash
			FROM unnest($1::bytea[], $2::bytea[]) AS p (handle, own) JOIN sessiongate.active_sessions s USING (handle)
			WHERE s.current_hash <> p.own AND s.previous_hash IS DISTINCT FROM p.own
			ORDER BY s.handle FOR NO KEY UPDATE OF s`, handles, children)
		if err != nil {
			return err
		}
		var winners, owns, losers, lost [][]byte
		var h, current, previous []byte
		_, err = pgx.ForEachRow(rows, []any{&h, &current, &previous}, func() error {
			p := byHandle[sessions.Handle(h)]
			switch {
			case bytes.Equal(current, p.Own[:]), bytes.Equal(previous, p.Own[:]):
			case bytes.Equal(current, p.Parent[:]):
				winners, owns = append(winners, slices.Clone(h)), append(owns, p.Own[:])
			default:
				losers, lost = append(losers, slices.Clone(h)), append(lost, p.Own[:])
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(winners) > 0 {
			if _, err := tx.Exec(ctx, `
				UPDATE sessiongate.active_sessions s
				SET previous_hash = s.current_hash, current_hash = p.own, current_client = s.next_client, promoted_at = sessiongate.now(),
					next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0
				FROM unnest($1::bytea[], $2::bytea[]) AS p (handle, own) WHERE s.handle = p.handle`, winners, owns); err != nil {
				return err
			}
		}
		if len(losers) > 0 {
			if _, err := tx.Exec(ctx, `
				INSERT INTO sessiongate.feed (kind, handle, token_hash)
				SELECT 'lost', p.handle, p.own FROM unnest($1::bytea[], $2::bytea[]) AS p (handle, own)`, losers, lost); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("promoting: %w", err)
	}
	return nil
}
