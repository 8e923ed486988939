package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// ending deletes the sessions that match, with feed entry and event, in one
// statement: nobody can see the one without the others. $1 is the reason, $2 the
// actor.
func ending(match string) string {
	return `
		WITH gone AS (
			DELETE FROM sessiongate.sessions WHERE ` + match + ` RETURNING handle, user_id
		), fed AS (
			INSERT INTO sessiongate.feed (kind, handle, reason) SELECT 'ended', handle, $1 FROM gone
		), noted AS (
			INSERT INTO sessiongate.events (kind, handle, user_id, reason, actor) SELECT 'ended', handle, user_id, $1, $2 FROM gone
		)
		SELECT handle FROM gone`
}

func (s *Store) end(ctx context.Context, sql string, args ...any) ([]sessions.Handle, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("deleting sessions: %w", err)
	}
	var handles []sessions.Handle
	var h []byte
	_, err = pgx.ForEachRow(rows, []any{&h}, func() error {
		handles = append(handles, sessions.Handle(h))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("deleting sessions: %w", err)
	}
	return handles, nil
}

// End implements [sessions.Store].
func (s *Store) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	gone, err := s.end(ctx, ending(`handle = $3`), string(e.Reason), e.Actor, h[:])
	return len(gone) == 1, err
}

// EndIf implements [sessions.Store].
func (s *Store) EndIf(ctx context.Context, old sessions.Row, e sessions.Ending) (bool, error) {
	gone, err := s.end(ctx, ending(`handle = $3 AND current = $4 AND handed_at IS NOT DISTINCT FROM $5`),
		string(e.Reason), e.Actor, old.Handle[:], old.Current[:], timeOrNull(old.HandedAt))
	return len(gone) == 1, err
}

// EndUser implements [sessions.Store].
func (s *Store) EndUser(ctx context.Context, userID string, e sessions.Ending) ([]sessions.Handle, error) {
	// In the order of handles, as Promote locks them.
	return s.end(ctx, ending(`handle = ANY (ARRAY(
			SELECT s.handle FROM sessiongate.sessions s WHERE s.user_id = $3 ORDER BY s.handle FOR UPDATE))`),
		string(e.Reason), e.Actor, userID)
}
