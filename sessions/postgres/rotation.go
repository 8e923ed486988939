package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// Swap implements [sessions.Store].
func (s *Store) Swap(ctx context.Context, old, next sessions.Row, rule sessions.Rule) (bool, error) {
	sql := `
		UPDATE sessiongate.active_sessions
		SET current_hash = $4, previous_hash = $5, current_client = $6, promoted_at = $7,
			next_nonce = $8, next_client = $9, issued_at = $10, issues = $11, expires_at = $12, device_address = $13, device_user_agent = $14,
			bound_key = $17, bound_at = $18
		WHERE handle = $1 AND current_hash = $2 AND issued_at IS NOT DISTINCT FROM $3
			AND bound_key IS NOT DISTINCT FROM $15 AND bound_at IS NOT DISTINCT FROM $16`
	address, userAgent := deviceOrNull(next.Device)
	args := []any{
		old.Handle[:], old.Current[:], timeOrNull(old.IssuedAt),
		next.Current[:], orNull(next.Previous, next.Previous[:]), orNull(next.CurrentClient, next.CurrentClient[:]), next.PromotedAt,
		orNull(next.NextNonce, next.NextNonce[:]), orNull(next.NextClient, next.NextClient[:]), timeOrNull(next.IssuedAt), next.Issues, next.ExpiresAt,
		address, userAgent,
		orNull(old.BoundKey, old.BoundKey[:]), timeOrNull(old.BoundAt), orNull(next.BoundKey, next.BoundKey[:]), timeOrNull(next.BoundAt),
	}
	if s.audit {
		sql = `WITH s AS (` + sql + ` RETURNING handle, user_id), audited AS (
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, rule, reason, actor)
			SELECT $19, handle, user_id, $20, '', 'refresh' FROM s
		) SELECT FROM s`
		args = append(args, string(sessions.AuditOf(old, next)), string(rule))
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

// Rotate implements [sessions.Store]. The statement reads the row, compares what it read with r, and
// writes only if it fits; then the row is compared with what was read, as Swap does. So it decides by
// what is returned, and a change in between makes it write nothing. The numbers are r's: the rule is
// in package sessions alone.
func (s *Store) Rotate(ctx context.Context, h sessions.Handle, r sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	if r.ReadOnly {
		rec, now, err := s.get(ctx, h, r.WithData)
		return rec, now, false, err
	}
	var rec sessions.Record
	var now time.Time
	var rotated bool
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) (err error) {
		rec, now, rotated, err = s.rotateBy(ctx, by, h, r)
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Record{}, time.Time{}, false, sessions.ErrNotFound
	case err != nil:
		return sessions.Record{}, time.Time{}, false, fmt.Errorf("rotating session: %w", err)
	}
	return rec, now, rotated, nil
}

func (s *Store) rotateBy(ctx context.Context, by querier, h sessions.Handle, r sessions.Rotation) (rec sessions.Record, now time.Time, rotated bool, err error) {
	sql := rotate
	if s.audit {
		sql = rotateAudited
	}
	var n scan
	address, userAgent := deviceOrNull(r.Device)
	err = by.QueryRow(ctx, sql, h[:], r.Current[:], r.NextNonce[:], orNull(r.NextClient, r.NextClient[:]),
		r.Grace, r.Repeat, r.Sliding, r.IssuesMax, r.WithData, address, userAgent,
	).Scan(append(n.into(&rec.Row), &rec.Claims, &rec.ClaimsVersion, &rec.Data, &now, &rotated)...)
	n.finish(&rec.Row)
	return rec, now.UTC(), rotated, err
}

const (
	rotate        = rotateHead + rotateTail
	rotateAudited = rotateHead + `, audited AS (
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, rule, reason, actor)
			SELECT 'refreshed', handle, user_id, '` + string(sessions.R4) + `', '', 'refresh' FROM rotated
		)` + rotateTail

	rotateHead = `
		WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now), s AS MATERIALIZED (
			SELECT ` + rowColumns + `, c.claims, c.claims_version, CASE WHEN $9::boolean THEN c.data END AS data, t.now
			FROM t, sessiongate.active_sessions s JOIN sessiongate.session_attributes c USING (handle) WHERE s.handle = $1
		), rotated AS (
			UPDATE sessiongate.active_sessions o
			SET next_nonce = $3, next_client = $4, issued_at = s.now, issues = s.issues + 1,
				expires_at = least(s.now + $7::interval, s.absolute_expires_at),
				device_address = $10, device_user_agent = $11
			FROM s
			WHERE s.current_hash = $2 AND s.expires_at > s.now AND s.absolute_expires_at > s.now
				AND s.promoted_at + $5::interval <= s.now AND (s.issued_at IS NULL OR s.issued_at + $6::interval <= s.now)
				AND s.issues < $8 AND s.bound_at IS NULL
				AND o.handle = $1 AND o.current_hash = s.current_hash AND o.issued_at IS NOT DISTINCT FROM s.issued_at AND o.bound_at IS NULL
			RETURNING o.handle, o.user_id
		)`
	rotateTail = `
		SELECT ` + rowColumns + `, s.claims, s.claims_version, s.data, s.now, EXISTS (SELECT FROM rotated) FROM s`
)

// Promote implements [sessions.Store].
func (s *Store) Promote(ctx context.Context, ps []sessions.Promotion) error {
	if len(ps) == 0 {
		return nil
	}
	var handles, parents, children [][]byte
	for _, p := range ps {
		handles, parents, children = append(handles, p.Handle[:]), append(parents, p.Parent[:]), append(children, p.Own[:])
	}
	// The rows are locked in the order of handles: two batches that lock in different orders deadlock.
	// What is decided is what the lock returns, the row as the process that held the lock before left
	// it. A decision by the statement's own snapshot would be from before the wait. A promotion that
	// another replica has already made, which is the usual case, locks nothing.
	_, err := s.exec(ctx, promote, handles, parents, children)
	if err != nil {
		return fmt.Errorf("promoting: %w", err)
	}
	return nil
}

// promote ends with a SELECT, as every statement that changes several tables. Postgres locks the tables
// of a prepared statement in the order of its outermost part first. That must not be feed: a migration
// locks active_sessions first, and each would wait for the other.
const promote = `
	WITH s AS MATERIALIZED (
		SELECT s.handle, s.current_hash, p.parent, p.own
		FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS p (handle, parent, own) JOIN sessiongate.active_sessions s USING (handle)
		WHERE s.current_hash <> p.own AND s.previous_hash IS DISTINCT FROM p.own
		ORDER BY s.handle FOR NO KEY UPDATE OF s
	), won AS (
		UPDATE sessiongate.active_sessions o
		SET previous_hash = o.current_hash, current_hash = s.own, current_client = o.next_client, promoted_at = sessiongate.now(),
			next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0
		FROM s WHERE o.handle = s.handle AND s.current_hash = s.parent
	), lost AS (
		INSERT INTO sessiongate.feed (kind, handle, token_hash) SELECT 'lost', handle, own FROM s WHERE current_hash <> parent
	)
	SELECT`
