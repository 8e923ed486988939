package sessions

import (
	"context"
	"time"
)

// AuditKind names what an [AuditEvent] reports.
type AuditKind string

// The kinds of audit event.
const (
	AuditCreated       AuditKind = "created"
	AuditRefreshed     AuditKind = "refreshed" // R4, R5 and R6; R3 and R7 write nothing, and so does a repeat within D/2
	AuditEnded         AuditKind = "ended"
	AuditKeyRegistered AuditKind = "key_registered" // B1: by the browser, for its session
	AuditBound         AuditKind = "bound"          // the first B4: a later one that writes is refreshed
	AuditUnproven      AuditKind = "unproven"       // B10, and B12; once per hour, session and replica
	AuditKeyLost       AuditKind = "key_lost"       // B10: the client was sent to sign in; as often
	AuditClaimsChanged AuditKind = "claims_changed"
	AuditDataChanged   AuditKind = "data_changed"
	AuditKeyAdded      AuditKind = "key_added"
	AuditKeyRewrapped  AuditKind = "key_rewrapped" // under another key-encryption key
	AuditKeyDeleted    AuditKind = "key_deleted"
)

// AuditOf is the kind of event that a change from one row to another has.
func AuditOf(old, next Row) AuditKind {
	switch {
	case old.BoundKey != next.BoundKey:
		return AuditKeyRegistered
	case !old.Bound() && next.Bound():
		return AuditBound
	default:
		return AuditRefreshed
	}
}

// AuditEvent is a change of a session or a key. The store keeps it from the transaction of the
// change until it is delivered. It never holds a token, a claim or the secret of a key.
type AuditEvent struct {
	// ID grows along the events of one session, and along those of one key. An event that is
	// delivered twice has the same ID and content.
	ID   int64
	At   time.Time // the store's clock
	Kind AuditKind

	Handle Handle // zero: an event of a key
	UserID string
	Rule   Rule   // of a refresh, or of a refresh that ended the session
	Reason Reason // of an end
	Actor  string // the caller, as in [Ending]
	Key    string // KIND/GENERATION/ID
}

const (
	auditAttempt = 10 * time.Second // what one batch may take, including its delivery
	auditFlush   = 2 * time.Second  // what shutdown grants a batch under way, and then the last events
)

// audit delivers events until ctx ends, then once more what is left. Of all engines over one store,
// one delivers at a time; any of them may be the one.
func (e *Engine) audit(ctx context.Context) {
	failing := false
	for {
		n, err := e.deliver(ctx)
		switch {
		case err != nil && !failing && ctx.Err() == nil:
			failing = true
			e.cfg.Observe(Event{Kind: EventAuditFailed, Err: err})
		case err == nil && failing:
			failing = false
			e.cfg.Observe(Event{Kind: EventAuditRecovered})
		}
		if n > 0 {
			e.cfg.Observe(Event{Kind: EventAudited, Count: n})
		}
		if ctx.Err() != nil {
			if err == nil {
				e.flushAudit(ctx)
			}
			return
		}
		if n == e.cfg.AuditBatch {
			continue // there is more
		}
		select {
		case <-ctx.Done():
		case <-time.After(e.cfg.AuditPoll):
		}
	}
}

// deliver delivers one batch. A batch that is under way when ctx ends is not cut at once: it would
// have to be delivered again.
func (e *Engine) deliver(ctx context.Context) (int, error) {
	attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditAttempt)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(auditFlush, cancel) })()
	return e.deliverWithin(attempt)
}

func (e *Engine) flushAudit(ctx context.Context) {
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditFlush)
	defer cancel()
	for {
		if n, err := e.deliverWithin(flush); err != nil || n < e.cfg.AuditBatch {
			return // another engine, or the next start, delivers the rest
		}
	}
}

func (e *Engine) deliverWithin(ctx context.Context) (int, error) {
	return e.store.DeliverAudit(ctx, e.cfg.AuditBatch, func(events []AuditEvent) error { return e.cfg.Audit(ctx, events) })
}
