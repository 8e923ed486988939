package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// The table audit_events is an outbox. A statement that changes a session also inserts the event.
// The process that has delivered the event deletes it.
//
// The IDs of one session's events have the order of its changes, and no earlier event appears after
// a later one was read. The reason: each statement that writes an event first locks the session's
// row. It takes the ID, a number of one sequence without a cache, from the row that it got (data
// flows from the CTE that locks to the INSERT). It keeps the lock until it has committed. So the
// next statement takes its ID after that commit. A reader that sees the later event also sees the
// earlier one, because Postgres makes a commit visible before it releases the locks.
//
//
//  - Create inserts the row: no other statement finds it, by handle or by user, before the commit.
//  - Swap updates it. End, EndIf and EndUser delete it: nothing follows.
//  - Update locks the row beside the attributes that it changes. The lock of the attributes alone
//    would order only changes of attributes.
//  - Report locks it, and changes nothing.
//  - Promote writes no event.
//
//
// The row of a key orders its events in the same way. IDs of different sessions are in no order. A
// gap in the IDs is a transaction that was rolled back, or one that is still open.

// AuditChanges implements [sessions.Store]. Without it, only ends write an event, and no other
// change pays for one. It is called before the store is used.
func (s *Store) AuditChanges() { s.audit = true }

// auditKey is the part of a statement that writes an event for each key in the CTE changed, which
// returns kind, generation and id of keys.
func auditKey(kind sessions.AuditKind, changed string) string {
	return `, audited AS (
			INSERT INTO sessiongate.audit_events (kind, user_id, reason, actor, key)
			SELECT '` + string(kind) + `', '', '', '', kind || '/' || generation || '/' || translate(rtrim(encode(id, 'base64'), '='), '+/', '-_')
			FROM ` + changed + `
		)`
}

// Report implements [sessions.Store].
func (s *Store) Report(ctx context.Context, e sessions.AuditEvent) error {
	if !s.audit {
		return nil
	}
	_, err := s.exec(ctx, `
		WITH s AS (SELECT handle, user_id FROM sessiongate.active_sessions WHERE handle = $1 FOR NO KEY UPDATE), audited AS (
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, rule, reason, actor) SELECT $2, handle, user_id, $3, '', $4 FROM s
		) SELECT FROM s`, e.Handle[:], string(e.Kind), string(e.Rule), e.Actor)
	if err != nil {
		return fmt.Errorf("inserting an audit event: %w", err)
	}
	return nil
}

const (
	// auditLock lets one process deliver at a time. Only sessiongate uses the constant.
	auditLock = 0x73676175646974
	// deliverMax is how long the server lets a transaction wait for the delivery of its events.
	// Then another process may get them.
	deliverMax = 30 * time.Second
)

// DeliverAudit implements [sessions.Store]. The transaction is open while deliver runs. But it then
// has no snapshot and no transaction ID, only the advisory lock: it holds back neither vacuum nor
// the feed's cursor. The lock belongs to the transaction, so it works through a pooler and ends
// with a process that dies.
func (s *Store) DeliverAudit(ctx context.Context, limit int, deliver func([]sessions.AuditEvent) error) (int, error) {
	if !s.delivering.TryLock() { // the outbox has one connection
		return 0, nil
	}
	defer s.delivering.Unlock()
	delivered := 0
	// The events are read after the lock was taken: each statement has a snapshot of its own, so it
	// sees none that the former holder of the lock removed.
	err := s.transact(ctx, s.outbox, s.deliverMax+s.transactionMax, func(ctx context.Context, tx querier) error {
		delivered = 0
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(auditLock)).Scan(&mine); err != nil || !mine {
			return err
		}
		events, err := selectAudit(ctx, tx, limit)
		if err != nil || len(events) == 0 {
			return err
		}
		// This statement also closes the portal of the last one. The portal would keep its
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
		return 0, fmt.Errorf("delivering audit events: %w", err)
	}
	return delivered, nil
}

func selectAudit(ctx context.Context, tx querier, limit int) ([]sessions.AuditEvent, error) {
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
