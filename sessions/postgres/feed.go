package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// The feed is read by snapshots. Transaction ids are given out in one order and
// committed in another, so "all that is newer than X" hides what commits late, and
// "all that was not finished at X" brings everything again for as long as any
// transaction in the whole cluster is open. A pg_snapshot says exactly which
// transactions a reading saw; the next one reads those that it did not see: the
// ones that were open then, each by its id, and the ones that began since.

// feedPage is how many entries one statement brings at most: some 600 KB, which a slow
// line carries within the bound of a poll.
const feedPage = 5_000

// place is a [sessions.Cursor].
type place struct {
	server   string // which one made it: see pollHead
	snapshot string // what it saw has been read; empty: nothing has
	upto     string // the reading under way ends here; empty: none is
	xid      string // the last entry that the reading under way brought
	id       int64
}

func (p place) cursor() sessions.Cursor {
	return sessions.Cursor(strings.Join([]string{p.server, p.snapshot, p.upto, p.xid, strconv.FormatInt(p.id, 10)}, " "))
}

func parsePlace(c sessions.Cursor) (place, error) {
	if c == "" {
		return place{}, nil
	}
	parts := strings.Split(string(c), " ")
	if len(parts) != 5 {
		return place{}, errors.New("reading the feed: the cursor is not of this store")
	}
	id, err := strconv.ParseInt(parts[4], 10, 64)
	if err != nil {
		return place{}, errors.New("reading the feed: the cursor is not of this store")
	}
	return place{parts[0], parts[1], parts[2], parts[3], id}, nil
}

// pollHead is one row about the server, beside the entries: one statement, so one
// snapshot. A server that was started at another moment is another server, or has
// recovered from a crash or a backup; another file under the feed is a table that
// was restored or emptied.
const pollHead = `
	WITH h AS MATERIALIZED (
		SELECT extract(epoch FROM pg_postmaster_start_time())::text || '/' || pg_relation_filenode('sessiongate.feed'::regclass)::text AS server,
			pg_is_in_recovery() AS recovering, current_setting('transaction_read_only') AS read_only,
			pg_current_snapshot()::text AS snapshot, sessiongate.now() AS now, horizon
		FROM sessiongate.horizon
	)
	SELECT h.server, h.recovering, h.read_only, h.snapshot, h.now, h.horizon,
		NULL::bigint, NULL, NULL, NULL::bytea, NULL::bytea, NULL::bigint, NULL, NULL::timestamptz
	FROM h UNION ALL
	SELECT NULL, NULL, NULL, NULL, NULL, NULL, f.id, f.xid::text, f.kind, f.handle, f.mark, f.version, f.reason, f.at
	FROM h, LATERAL `

// wholeEntries pages through all that is young by the id, whatever the transaction
// ids say: those of a restored feed are another server's.
const wholeEntries = `(
		SELECT id, xid, kind, handle, mark, version, reason, at FROM sessiongate.feed
		WHERE id > $1 AND at >= h.now - h.horizon ORDER BY id LIMIT $2) f`

// newEntries are those that snapshot $1 did not see and $2 sees, behind ($3, $4): of
// each transaction that was open then, and of those that began since. An entry's xid
// that no snapshot has reached yet was restored, and read as a whole. Each branch has
// one bound where its scan of the index begins, and the LIMIT within makes the planner
// look each open transaction up, whatever it believes of their number.
const newEntries = `(
		SELECT id, xid, kind, handle, mark, version, reason, at FROM (
			SELECT e.id, e.xid, e.kind, e.handle, e.mark, e.version, e.reason, e.at FROM pg_snapshot_xip($1::text::pg_snapshot) o (xid), LATERAL (
				SELECT id, xid, kind, handle, mark, version, reason, at FROM sessiongate.feed
				WHERE xid = o.xid AND id > CASE WHEN o.xid > $3::text::xid8 THEN 0 WHEN o.xid = $3::text::xid8 THEN $4 ELSE 9223372036854775807 END
					AND pg_visible_in_snapshot(xid, coalesce(nullif($2, '')::pg_snapshot, pg_current_snapshot()))
				ORDER BY id LIMIT $5) e
			UNION ALL
			(SELECT id, xid, kind, handle, mark, version, reason, at FROM sessiongate.feed
			WHERE (xid, id) > (greatest(pg_snapshot_xmax($1::text::pg_snapshot), $3::text::xid8),
					CASE WHEN $3::text::xid8 >= pg_snapshot_xmax($1::text::pg_snapshot) THEN $4 ELSE 0 END)
				AND xid < pg_snapshot_xmax(coalesce(nullif($2, '')::pg_snapshot, pg_current_snapshot()))
				AND pg_visible_in_snapshot(xid, coalesce(nullif($2, '')::pg_snapshot, pg_current_snapshot()))
			ORDER BY xid, id LIMIT $5)
		) e ORDER BY xid, id LIMIT $5) f`

// Poll implements [sessions.Store]. What it costs follows what is new: open, prepared
// and restored transactions cost one look at an index each.
func (s *Store) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	from, err := parsePlace(since)
	if err != nil {
		return sessions.Page{}, err
	}
	page, next, err := s.poll(ctx, from)
	if err == nil && from.server != "" && next.server != from.server {
		page, next, err = s.poll(ctx, place{})
		from = place{}
	}
	if err != nil {
		return sessions.Page{}, fmt.Errorf("reading the feed: %w", err)
	}
	page.Anew = from.server == ""
	page.More = len(page.Entries) == s.feedPage
	if !page.More {
		next = place{server: next.server, snapshot: next.upto, xid: "0"}
	}
	page.Next = next.cursor()
	return page, nil
}

// poll reads the page behind from, and says where it ends, as if there were more.
func (s *Store) poll(ctx context.Context, from place) (page sessions.Page, next place, err error) {
	sql, args := s.pollStatement(from)
	var head struct {
		server, readOnly, snapshot *string
		recovering                 *bool
		now                        *time.Time
		horizon                    *time.Duration
	}
	var xid, kind, reason *string
	var at *time.Time
	var id, version *int64
	var handle, mark []byte
	err = s.do(ctx, s.feed, func(ctx context.Context, by querier) error {
		rows, err := by.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		page, next = sessions.Page{}, from
		_, err = pgx.ForEachRow(rows, []any{
			&head.server, &head.recovering, &head.readOnly, &head.snapshot, &head.now, &head.horizon,
			&id, &xid, &kind, &handle, &mark, &version, &reason, &at,
		}, func() error {
			if id == nil {
				if err := s.primary(*head.recovering, *head.readOnly); err != nil {
					return err
				}
				next.server = *head.server
				if next.upto == "" {
					next.upto = *head.snapshot
				}
				page.Now, page.Horizon = head.now.UTC(), *head.horizon
				return nil
			}
			next.id, next.xid = *id, *xid
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
	if err == nil && page.Now.IsZero() {
		err = errors.New("the horizon's row is missing")
	}
	return page, next, err
}

func (s *Store) pollStatement(from place) (string, []any) {
	if from.snapshot == "" {
		return pollHead + wholeEntries, []any{from.id, s.feedPage}
	}
	return pollHead + newEntries, []any{from.snapshot, from.upto, from.xid, from.id, s.feedPage}
}

// RaiseHorizon implements [sessions.Store].
func (s *Store) RaiseHorizon(ctx context.Context, d time.Duration) error {
	if _, err := s.exec(ctx, `UPDATE sessiongate.horizon SET horizon = $1 WHERE horizon < $1`, d); err != nil {
		return fmt.Errorf("updating the horizon: %w", err)
	}
	return nil
}
