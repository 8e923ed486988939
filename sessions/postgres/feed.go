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

// The feed is read by snapshots. Transaction IDs are assigned in one order and committed in
// another. So "everything newer than X" misses what commits late, and "everything that was not
// finished at X" returns everything again while any transaction in the whole cluster is open. A
// pg_snapshot says exactly which transactions a poll saw. The next poll reads those that it did not
// see: the transactions that were open then, each by its ID, and those that began later.

// feedPage is the largest number of entries in one statement: some 600 KB, which a slow network
// carries within the bound of a poll.
const feedPage = 5_000

// position is a [sessions.Cursor].
type position struct {
	server   string // the server that made it: see pollHead
	snapshot string // what it saw was read; empty: nothing was
	upto     string // the poll under way ends here; empty: none is
	// The last entry that the poll under way brought: by its time in a full resync, otherwise by
	// its transaction.
	at  int64 // microseconds of the Unix time
	xid string
	id  int64
}

func (p position) cursor() sessions.Cursor {
	return sessions.Cursor(strings.Join([]string{p.server, p.snapshot, p.upto, strconv.FormatInt(p.at, 10), p.xid, strconv.FormatInt(p.id, 10)}, " "))
}

func parsePosition(c sessions.Cursor) (position, error) {
	if c == "" {
		return position{}, nil
	}
	parts := strings.Split(string(c), " ")
	if len(parts) != 6 {
		return position{}, errors.New("reading the feed: the cursor is not of this store")
	}
	at, err := strconv.ParseInt(parts[3], 10, 64)
	id, idErr := strconv.ParseInt(parts[5], 10, 64)
	if err != nil || idErr != nil {
		return position{}, errors.New("reading the feed: the cursor is not of this store")
	}
	return position{parts[0], parts[1], parts[2], at, parts[4], id}, nil
}

// pollHead is one row about the server, beside the entries: one statement, so one snapshot.
//
// What was read before is void if the server, the database or the table is another one. It is also
// void if the server recovered from a crash, because it then assigns transaction IDs again. A crash
// shows in the start time of the postmaster. If only one process was killed, it shows in the time
// of its statistics, or in IDs that went back ($1).
const pollHead = `
	WITH h AS MATERIALIZED (
		SELECT extract(epoch FROM pg_postmaster_start_time())::text || '/' || coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())::text, '') || '/' ||
				(SELECT oid FROM pg_database WHERE datname = current_database())::text || '/' || pg_relation_filenode('sessiongate.feed'::regclass)::text AS server,
			coalesce(pg_snapshot_xmin(pg_current_snapshot()) < pg_snapshot_xmin(nullif($1, '')::pg_snapshot)
				OR pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(nullif($1, '')::pg_snapshot), false) AS went_back,
			pg_is_in_recovery() AS recovering, current_setting('transaction_read_only') AS read_only,
			pg_current_snapshot()::text AS snapshot, sessiongate.now() AS now, retention
		FROM sessiongate.feed_retention
	)
	SELECT h.server, h.went_back, h.recovering, h.read_only, h.snapshot, h.now, h.retention,
		NULL::bigint, NULL, NULL, NULL::bytea, NULL::bytea, NULL::bigint, NULL, NULL::timestamptz
	FROM h UNION ALL
	SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, f.id, f.xid::text, f.kind, f.handle, f.token_hash, f.version, f.reason, f.at
	FROM h, LATERAL `

// resyncEntries pages through all young entries by their time, from ($2, $3) on, whatever the
// transaction IDs say: those of a restored feed are from another server. Older entries that were
// not swept yet cost nothing.
const resyncEntries = `(
		SELECT id, xid, kind, handle, coalesce(token_hash, mark) AS token_hash, version, reason, at FROM sessiongate.feed
		WHERE (at, id) > (coalesce($2::timestamptz, h.now - h.retention), $3) ORDER BY at, id LIMIT $4) f`

// newEntries are the entries that snapshot $1 did not see and $2 sees, after ($3, $4): those of
// each transaction that was open then, and those of transactions that began later. An entry whose
// xid no snapshot has reached yet was restored, and was read in the full resync. Each branch has
// one bound at which its index scan begins. The LIMIT inside makes the planner look up each open
// transaction, whatever it believes of their number. Both columns are in the bound, so that no other
// index will do: statistics from the beginning of a mass sign-out believe that all entries are of one
// transaction.
const newEntries = `(
		SELECT id, xid, kind, handle, token_hash, version, reason, at FROM (
			SELECT e.id, e.xid, e.kind, e.handle, e.token_hash, e.version, e.reason, e.at FROM pg_snapshot_xip($1::text::pg_snapshot) o (xid), LATERAL (
				SELECT id, xid, kind, handle, coalesce(token_hash, mark) AS token_hash, version, reason, at FROM sessiongate.feed
				WHERE (xid, id) > (o.xid, CASE WHEN o.xid > $3::text::xid8 THEN 0 WHEN o.xid = $3::text::xid8 THEN $4 ELSE 9223372036854775807 END)
					AND xid <= o.xid
					AND pg_visible_in_snapshot(xid, coalesce(nullif($2, '')::pg_snapshot, pg_current_snapshot()))
				ORDER BY xid, id LIMIT $5) e
			UNION ALL
			(SELECT id, xid, kind, handle, coalesce(token_hash, mark) AS token_hash, version, reason, at FROM sessiongate.feed
			WHERE (xid, id) > (greatest(pg_snapshot_xmax($1::text::pg_snapshot), $3::text::xid8),
					CASE WHEN $3::text::xid8 >= pg_snapshot_xmax($1::text::pg_snapshot) THEN $4 ELSE 0 END)
				AND xid < pg_snapshot_xmax(coalesce(nullif($2, '')::pg_snapshot, pg_current_snapshot()))
				AND pg_visible_in_snapshot(xid, coalesce(nullif($2, '')::pg_snapshot, pg_current_snapshot()))
			ORDER BY xid, id LIMIT $5)
		) e ORDER BY xid, id LIMIT $5) f`

// errOtherFeed says that a cursor is from another server, database or table, or from before a
// crash.
var errOtherFeed = errors.New("the feed is not the one of the cursor")

// Poll implements [sessions.Store]. Its cost depends on what is new. An open, prepared or restored
// transaction costs one index lookup.
func (s *Store) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	from, err := parsePosition(since)
	if err != nil {
		return sessions.Page{}, err
	}
	page, next, err := s.poll(ctx, from)
	if errors.Is(err, errOtherFeed) {
		from = position{}
		page, next, err = s.poll(ctx, from)
	}
	if err != nil {
		return sessions.Page{}, fmt.Errorf("reading the feed: %w", err)
	}
	page.Resync = from.server == ""
	page.More = len(page.Entries) == s.feedPage
	if !page.More {
		next = position{server: next.server, snapshot: next.upto, xid: "0"}
	}
	page.Next = next.cursor()
	return page, nil
}

// poll reads the page after from. next is its end, as if more pages followed.
func (s *Store) poll(ctx context.Context, from position) (page sessions.Page, next position, err error) {
	sql, args := s.pollStatement(from)
	var head struct {
		server, readOnly, snapshot *string
		wentBack, recovering       *bool
		now                        *time.Time
		retention                  *time.Duration
	}
	var xid, kind, reason *string
	var at *time.Time
	var id, version *int64
	var handle, tokenHash []byte
	err = s.do(ctx, s.feed, func(ctx context.Context, by querier) error {
		rows, err := by.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		page, next = sessions.Page{}, from
		_, err = pgx.ForEachRow(rows, []any{
			&head.server, &head.wentBack, &head.recovering, &head.readOnly, &head.snapshot, &head.now, &head.retention,
			&id, &xid, &kind, &handle, &tokenHash, &version, &reason, &at,
		}, func() error {
			if id == nil {
				if err := s.primary(*head.recovering, *head.readOnly); err != nil {
					return err
				}
				if next.server = *head.server; from.server != "" && (next.server != from.server || *head.wentBack) {
					return errOtherFeed
				}
				if next.upto == "" {
					next.upto = *head.snapshot
				}
				page.Now, page.Retention = head.now.UTC(), *head.retention
				return nil
			}
			next.at, next.xid, next.id = at.UnixMicro(), *xid, *id
			e := sessions.Entry{Kind: sessions.EntryKind(*kind), At: at.UTC()}
			copy(e.Handle[:], handle)
			copy(e.TokenHash[:], tokenHash)
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
		err = errors.New("the feed retention's row is missing")
	}
	return page, next, err
}

func (s *Store) pollStatement(from position) (string, []any) {
	if from.snapshot == "" {
		var at *time.Time // nil: from the first young entry
		if from.server != "" {
			last := time.UnixMicro(from.at)
			at = &last
		}
		return pollHead + resyncEntries, []any{from.upto, at, from.id, s.feedPage}
	}
	return pollHead + newEntries, []any{from.snapshot, from.upto, from.xid, from.id, s.feedPage}
}

// RaiseFeedRetention implements [sessions.Store].
func (s *Store) RaiseFeedRetention(ctx context.Context, d time.Duration) error {
	if _, err := s.exec(ctx, `UPDATE sessiongate.feed_retention SET retention = $1 WHERE retention < $1`, d); err != nil {
		return fmt.Errorf("updating the feed retention: %w", err)
	}
	return nil
}
