package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// Poll implements [sessions.Store]. A transaction that was not visible to the
// snapshot that returned since has an id at or above since, its xmin: whatever
// order transactions commit in, the next poll reads it. One statement, so one
// snapshot.
func (s *Store) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	const head = `
		WITH p AS MATERIALIZED (
			SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin, sessiongate.now() AS now, horizon FROM sessiongate.horizon
		)
		SELECT p.xmin, p.now, p.horizon, f.kind, f.handle, f.mark, f.version, f.reason, f.at
		FROM p LEFT JOIN sessiongate.feed f ON `
	var rows pgx.Rows
	var err error
	if since == 0 {
		rows, err = s.pool.Query(ctx, head+`f.at >= p.now - p.horizon`)
	} else {
		rows, err = s.pool.Query(ctx, head+`f.xid >= $1::text::xid8`, strconv.FormatUint(uint64(since), 10))
	}
	if err != nil {
		return sessions.Page{}, fmt.Errorf("reading the feed: %w", err)
	}
	var page sessions.Page
	var xmin int64
	var kind, reason *string
	var handle, mark []byte
	var version *int64
	var at *time.Time
	_, err = pgx.ForEachRow(rows, []any{&xmin, &page.Now, &page.Horizon, &kind, &handle, &mark, &version, &reason, &at}, func() error {
		if kind == nil {
			return nil
		}
		e := sessions.Entry{Kind: sessions.EntryKind(*kind), At: at.UTC()}
		copy(e.Handle[:], handle)
		copy(e.Mark[:], mark)
		if version != nil {
			e.Version = *version
		}
		if reason != nil {
			e.Reason = sessions.Reason(*reason)
		}
		page.Entries = append(page.Entries, e)
		return nil
	})
	if err != nil {
		return sessions.Page{}, fmt.Errorf("reading the feed: %w", err)
	}
	if page.Now.IsZero() {
		return sessions.Page{}, errors.New("reading the feed: the horizon's row is missing")
	}
	page.Next, page.Now = sessions.Cursor(xmin), page.Now.UTC() //nolint:gosec // a transaction id is positive
	return page, nil
}

// RaiseHorizon implements [sessions.Store].
func (s *Store) RaiseHorizon(ctx context.Context, d time.Duration) error {
	if _, err := s.pool.Exec(ctx, `UPDATE sessiongate.horizon SET horizon = $1 WHERE horizon < $1`, d); err != nil {
		return fmt.Errorf("updating the horizon: %w", err)
	}
	return nil
}
