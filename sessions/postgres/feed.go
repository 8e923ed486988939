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

// feedPage is how many entries one statement of a whole read brings.
const feedPage = 20_000

const pollHead = `
	WITH p AS MATERIALIZED (
		SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin, sessiongate.now() AS now, horizon FROM sessiongate.horizon
	)
	SELECT p.xmin, p.now, p.horizon, f.id, f.kind, f.handle, f.mark, f.version, f.reason, f.at
	FROM p LEFT JOIN `

// Poll implements [sessions.Store]. A transaction that was not visible to the
// snapshot that returned since has an id at or above since, its xmin: whatever
// order transactions commit in, the next poll reads it. One statement, so one
// snapshot.
//
// A whole read takes as many statements as it has pages, so that none runs into
// its timeout however much there is. It returns the xmin of the first: what a
// later page does not see, or saw only it, the next poll reads.
func (s *Store) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	if since > 0 {
		page, _, err := s.poll(ctx, pollHead+`sessiongate.feed f ON f.xid >= $1::text::xid8`, strconv.FormatUint(uint64(since), 10))
		return page, err
	}
	var whole sessions.Page
	for last := int64(0); ; {
		page, next, err := s.poll(ctx, pollHead+`LATERAL (
			SELECT id, kind, handle, mark, version, reason, at FROM sessiongate.feed WHERE id > $1 AND at >= p.now - p.horizon ORDER BY id LIMIT $2) f ON true`, last, s.feedPage)
		if err != nil {
			return sessions.Page{}, err
		}
		if last == 0 {
			whole = page
		} else {
			whole.Entries = append(whole.Entries, page.Entries...)
		}
		if len(page.Entries) < s.feedPage {
			return whole, nil
		}
		last = next
	}
}

// poll reads one page and says the id of its last entry.
func (s *Store) poll(ctx context.Context, sql string, args ...any) (sessions.Page, int64, error) {
	var page sessions.Page
	var xmin, last int64
	var id, version *int64
	var kind, reason *string
	var handle, mark []byte
	var at *time.Time
	err := s.do(ctx, s.feed, func(ctx context.Context, by querier) error {
		rows, err := by.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		page, last = sessions.Page{}, 0
		_, err = pgx.ForEachRow(rows, []any{&xmin, &page.Now, &page.Horizon, &id, &kind, &handle, &mark, &version, &reason, &at}, func() error {
			if id == nil {
				return nil
			}
			last = *id
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
		return err
	})
	if err != nil {
		return sessions.Page{}, 0, fmt.Errorf("reading the feed: %w", err)
	}
	if page.Now.IsZero() {
		return sessions.Page{}, 0, errors.New("reading the feed: the horizon's row is missing")
	}
	page.Next, page.Now = sessions.Cursor(xmin), page.Now.UTC() //nolint:gosec // a transaction id is positive
	return page, last, nil
}

// RaiseHorizon implements [sessions.Store].
func (s *Store) RaiseHorizon(ctx context.Context, d time.Duration) error {
	if _, err := s.exec(ctx, `UPDATE sessiongate.horizon SET horizon = $1 WHERE horizon < $1`, d); err != nil {
		return fmt.Errorf("updating the horizon: %w", err)
	}
	return nil
}
