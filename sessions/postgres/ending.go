package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// ending deletes the sessions that match, with feed entry and audit event, in one statement: no
// reader sees one without the others. $1 is the reason, $2 the actor, $3 the rule. The arguments of
// match begin at $4.
func ending(match string) string {
	return `
		WITH gone AS (
			DELETE FROM sessiongate.active_sessions WHERE ` + match + ` RETURNING handle, user_id
		), fed AS (
			INSERT INTO sessiongate.feed (kind, handle, reason) SELECT 'ended', handle, $1 FROM gone
		), audited AS (
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, rule, reason, actor) SELECT 'ended', handle, user_id, $3, $1, $2 FROM gone
		)
		SELECT handle FROM gone`
}

// end ends the sessions that match, with the arguments args, and returns their handles.
func end(ctx context.Context, by querier, e sessions.Ending, match string, args ...any) ([]sessions.Handle, error) {
	rows, err := by.Query(ctx, ending(match), append([]any{string(e.Reason), e.Actor, string(e.Rule)}, args...)...)
	if err != nil {
		return nil, err
	}
	var handles []sessions.Handle
	var h []byte
	_, err = pgx.ForEachRow(rows, []any{&h}, func() error {
		handles = append(handles, sessions.Handle(h))
		return nil
	})
	return handles, err
}

// endAgain is end in a statement of its own, and again if it lost a race.
func (s *Store) endAgain(ctx context.Context, e sessions.Ending, match string, args ...any) ([]sessions.Handle, error) {
	var gone []sessions.Handle
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) (err error) {
		gone, err = end(ctx, by, e, match, args...)
		return err
	})
	if err != nil { // what was undone is not deleted
		return nil, fmt.Errorf("deleting sessions: %w", err)
	}
	return gone, nil
}

// End implements [sessions.Store].
func (s *Store) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	gone, err := s.endAgain(ctx, e, `handle = $4`, h[:])
	return len(gone) == 1, err
}

// EndIf implements [sessions.Store]. A caller that lost a race against a change of the row reads
// and judges again, so EndIf does not repeat.
func (s *Store) EndIf(ctx context.Context, old sessions.Row, e sessions.Ending) (bool, error) {
	var gone []sessions.Handle
	err := s.once(ctx, s.pool, func(ctx context.Context, by querier) (err error) {
		gone, err = end(ctx, by, e, `handle = $4 AND current_hash = $5 AND issued_at IS NOT DISTINCT FROM $6
			AND bound_key IS NOT DISTINCT FROM $7 AND bound_at IS NOT DISTINCT FROM $8`,
			old.Handle[:], old.Current[:], timeOrNull(old.IssuedAt), orNull(old.BoundKey, old.BoundKey[:]), timeOrNull(old.BoundAt))
		return err
	})
	switch {
	case lostRace(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("deleting session: %w", err)
	}
	return len(gone) == 1, nil
}

// EndUser implements [sessions.Store].
func (s *Store) EndUser(ctx context.Context, userID string, e sessions.Ending) ([]sessions.Handle, error) {
	// In the order of handles, as Promote locks them. The user's are found first: where one user has
	// most sessions of a small table, the order would else be had from a walk through all handles, and
	// a prepared statement would keep that plan.
	return s.endAgain(ctx, e, ofUser(``), userID)
}

// EndOthers implements [sessions.Store]. The kept session is locked with the others: one that was ended
// meanwhile is not found then, and ends none.
func (s *Store) EndOthers(ctx context.Context, userID string, kept sessions.Handle, e sessions.Ending) ([]sessions.Handle, error) {
	return s.endAgain(ctx, e, ofUser(` WHERE handle <> $5 AND EXISTS (SELECT FROM l WHERE handle = $5)`), userID, kept[:])
}

// ofUser matches those of the locked sessions of the user $4 that where selects.
func ofUser(where string) string {
	return `handle = ANY (ARRAY(
			WITH u AS MATERIALIZED (SELECT handle FROM sessiongate.active_sessions WHERE user_id = $4), l AS MATERIALIZED (
				SELECT s.handle FROM u JOIN sessiongate.active_sessions s USING (handle) ORDER BY s.handle FOR UPDATE OF s
			)
			SELECT handle FROM l` + where + `))`
}

// CountCreatedBefore is how many sessions EndCreatedBefore would end now.
func (s *Store) CountCreatedBefore(ctx context.Context, t time.Time) (int, error) {
	var n int
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, `SELECT count(*) FROM sessiongate.active_sessions WHERE created_at < least($1::timestamptz, sessiongate.now())`, t).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("counting sessions: %w", err)
	}
	return n, nil
}

// endPage is how many sessions one statement of [Store.EndCreatedBefore] reads.
const endPage = 5_000

// EndCreatedBefore ends every session that was created before t, and returns how many it ended. It
// reads all sessions in pages. Each page is a transaction of its own, so no lock is held for long.
// If it stops with an error, the counted sessions have ended, and another call ends the rest.
// Sessions that are created meanwhile stay: a t in the future counts as now.
func (s *Store) EndCreatedBefore(ctx context.Context, t time.Time, e sessions.Ending) (int, error) {
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, `SELECT least($1::timestamptz, sessiongate.now())`, t).Scan(&t)
	})
	if err != nil {
		return 0, fmt.Errorf("reading the time: %w", err)
	}
	total := 0
	for after := []byte{}; ; {
		var last []byte // none: the page is the last one
		err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
			return by.QueryRow(ctx, `SELECT handle FROM sessiongate.active_sessions WHERE handle > $1 ORDER BY handle OFFSET $2 LIMIT 1`, after, s.endPage-1).Scan(&last)
		})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return total, fmt.Errorf("reading a page of sessions: %w", err)
		}
		gone, err := s.endAgain(ctx, e, `handle = ANY (ARRAY(
				SELECT s.handle FROM sessiongate.active_sessions s
				WHERE s.handle > $4 AND ($5::bytea IS NULL OR s.handle <= $5) AND s.created_at < $6
				ORDER BY s.handle FOR UPDATE))`, after, last, t)
		if err != nil {
			return total, err
		}
		total += len(gone)
		if last == nil {
			return total, nil
		}
		after = last
	}
}
