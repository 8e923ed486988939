package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// The table of events is an outbox: a statement that changes a session inserts the
// event, too, and whoever has delivered it deletes it.
//
// The ids of one session's events have the order in which its changes happened, and
// no earlier event appears after a later one has been read. For each statement that
// writes an event locks the session's row first, and takes the id, a number of one
// sequence without a cache, from the row that it got (data flows from the CTE that
// locks to the INSERT), and keeps the lock until it has committed. So the next one
// takes its id after that commit; and what reads the later event sees the earlier
// one, for Postgres makes a commit visible before it gives its locks back.
//
//   - Create inserts the row: nobody else finds it, by handle or by user, before
//     the commit.
//   - Swap updates it. End, EndIf and EndUser delete it: nothing follows.
//   - Update locks it beside the contents that it changes, whose own lock would order
//     changes of contents alone.
//   - Promote writes no event.
//
// A key's row orders its events in the same way. Ids of different sessions are in no
// order; a gap is a transaction that was rolled back, or one still under way.

// AuditChanges implements [sessions.Store]. Without it ends alone write an event, and
// no other change pays for one. It is called before the store is used.
func (s *Store) AuditChanges() { s.audit = true }

// noteKey is the part of a statement that writes an event for each key that changed
// holds: a CTE that returned kind, generation and id of keys.
func noteKey(kind sessions.AuditKind, changed string) string {
	return `, noted AS (
			INSERT INTO sessiongate.audit_events (kind, user_id, reason, actor, key)
			SELECT '` + string(kind) + `', '', '', '', kind || '/' || generation || '/' || translate(rtrim(encode(id, 'base64'), '='), '+/', '-_')
			FROM ` + changed + `
		)`
}

const (
	// auditLock lets one process deliver at a time; a constant that only we use.
	auditLock = 0x73676175646974
	// deliverMax is how long the server lets a transaction wait for what is done with
	// its events. Then another process may have them.
	deliverMax = 30 * time.Second
)

// DeliverAudit implements [sessions.Store]. The transaction is open while deliver
// runs, but has no snapshot and no id then, only the advisory lock: it keeps neither
// vacuum nor the feed's cursor back. The lock is the transaction's, so that it works
// through a pooler, and ends with a process that dies.
func (s *Store) DeliverAudit(ctx context.Context, limit int, deliver func([]sessions.AuditEvent) error) (int, error) {
	if !s.delivering.TryLock() { // the outbox has one connection
		return 0, nil
	}
	defer s.delivering.Unlock()
	delivered := 0
	// The events are read after the lock was got, so that none is seen that its former
	// holder removed: each statement has a snapshot of its own.
	err := s.transact(ctx, s.outbox, s.deliverMax+s.transactionMax, func(ctx context.Context, tx pgx.Tx) error {
		delivered = 0
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(auditLock)).Scan(&mine); err != nil || !mine {
			return err
		}
		events, err := selectAudit(ctx, tx, limit)
		if err != nil || len(events) == 0 {
			return err
		}
		// Another statement also closes the last one's portal, which would keep its
		// snapshot, and so every dead row of the database, while deliver waits.
		if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = `+milliseconds(s.deliverMax)); err != nil {
			return err
		}
		if err := deliver(events); err != nil {
			return err
		}
		ids := make([]int64, len(events))
		for i, e := range events {
			ids[i] = e.ID
		}
		if _, err := tx.Exec(ctx, `DELETE FROM sessiongate.audit_events WHERE id = ANY ($1)`, ids); err != nil {
			return err
		}
		delivered = len(events)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("delivering events: %w", err)
	}
	return delivered, nil
}

func selectAudit(ctx context.Context, tx pgx.Tx, limit int) ([]sessions.AuditEvent, error) {
	rows, err := tx.Query(ctx, `
		SELECT id, at, kind, handle, user_id, rule, reason, actor, key
		FROM sessiongate.audit_events ORDER BY id LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessions.AuditEvent, error) {
		var e sessions.AuditEvent
		var kind, rule, reason string
		var handle []byte
		err := row.Scan(&e.ID, &e.At, &kind, &handle, &e.UserID, &rule, &reason, &e.Actor, &e.Key)
		copy(e.Handle[:], handle)
		e.At = e.At.UTC()
		e.Kind, e.Rule, e.Reason = sessions.AuditKind(kind), sessions.Rule(rule), sessions.Reason(reason)
		return e, err
	})
}
