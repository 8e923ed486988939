package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

// Rows that no user has signed in for are made by SQL, by the million. Their handles are 16 digits:
// pgbench, which knows numbers alone, can name them, and as bytes they are 16 as well. The numbers
// are far apart, as those of real handles are, so that neighbours in time are none in the index.
const (
	firstHandle  = 1_000_000_000_000_000
	handleStep   = 2_654_435_761                      // prime to handleModulo, so that no handle comes twice
	handleModulo = 9_000_000_000_000_000              // with firstHandle: all numbers of 16 digits
	rowHash      = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" // the token hash of every such row
	rowClient    = "cccccccccccccccc"
	rowTime      = "2026-01-02 03:04:05.678901+00" // issued_at
)

// handleOf is the handle of row g.
func handleOf(g int) sessions.Handle {
	return sessions.Handle(fmt.Appendf(nil, "%d", firstHandle+g*handleStep%handleModulo))
}

// fillHandles replaces HANDLE in a statement by the handle of row g.
func fillHandles(sql string) string {
	return strings.ReplaceAll(sql, "HANDLE", fmt.Sprintf("convert_to((%d + g * %d %% %d)::text, 'UTF8')", firstHandle, handleStep, handleModulo))
}

// rowsAtOnce is how many rows a statement makes. They are made in the order of their handles: ten
// million in any order are ten million pages of the index, read and written.
const rowsAtOnce = 1_000_000

// insertRows makes rows from to last.
func (d *deployment) insertRows(ctx context.Context, from, last int) error {
	for ; from <= last; from += rowsAtOnce {
		to := min(last, from+rowsAtOnce-1)
		err := errors.Join(
			d.execute(ctx, fillHandles(`INSERT INTO sessiongate.active_sessions
				(handle, user_id, current_hash, previous_hash, current_client, promoted_at, next_nonce, next_client, issued_at, issues, created_at, expires_at, absolute_expires_at, device_address, device_user_agent)
				SELECT HANDLE, 'row-' || lpad(g::text, 8, '0'), $3, $3, $4, $5, $4, $4, $5, 1, n, n + interval '30 days', n + interval '100 days', $6, $7
				FROM generate_series($1::bigint, $2) g, (SELECT now() AS n) t ORDER BY 1 ON CONFLICT DO NOTHING`),
				from, to, []byte(rowHash), []byte(rowClient), rowTimeValue, bareNetwork, userAgent),
			d.execute(ctx, fillHandles(`INSERT INTO sessiongate.session_attributes (handle, claims, data)
				SELECT HANDLE, '{"role":"member","plan":"team"}', '{}' FROM generate_series($1::bigint, $2) g ORDER BY 1 ON CONFLICT DO NOTHING`),
				from, to),
		)
		if err != nil {
			return err
		}
	}
	return d.execute(ctx, `VACUUM (ANALYZE) sessiongate.active_sessions, sessiongate.session_attributes`)
}

// insertEnds makes entries of the feed.
func (d *deployment) insertEnds(ctx context.Context, n int) error {
	return errors.Join(
		d.execute(ctx, `INSERT INTO sessiongate.feed (kind, handle, reason)
			SELECT 'ended', decode(md5(g::text || clock_timestamp()::text), 'hex'), 'revoked' FROM generate_series(1, $1::bigint) g`, n),
		d.execute(ctx, `VACUUM (ANALYZE) sessiongate.feed`),
	)
}
