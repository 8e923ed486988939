package sessions

import "time"

// EventKind says what an Event tells.
type EventKind string

// The kinds of event.
const (
	EventCreated          EventKind = "created"
	EventRefreshed        EventKind = "refreshed" // any answer of R3 to R7 with tokens
	EventSuperseded       EventKind = "superseded"
	EventRefreshRefused   EventKind = "refresh_refused" // by R1 or R2: the session has ended; nothing changed
	EventEnded            EventKind = "ended"
	EventClaims           EventKind = "claims"   // a session has new ones
	EventPromoted         EventKind = "promoted" // Count sessions, by Checks that saw a child's access token
	EventPromotionsFailed EventKind = "promotions_failed"
	EventFeedFailed       EventKind = "feed_failed"
	EventFeedRecovered    EventKind = "feed_recovered"
	EventSwept            EventKind = "swept" // Count rows
	EventSweepFailed      EventKind = "sweep_failed"
	EventStartRetried     EventKind = "start_retried"
	EventReady            EventKind = "ready"
	EventAudited          EventKind = "audited" // Count events were delivered
	EventAuditFailed      EventKind = "audit_failed"
	EventAuditRecovered   EventKind = "audit_recovered"

	EventKeyAdded       EventKind = "key_added"       // Key was made and published here
	EventKeyDeleted     EventKind = "key_deleted"     // Key was retired, and is deleted
	EventKeysFailed     EventKind = "keys_failed"     // rotating or deleting failed, and is tried again
	EventKeysUnreadable EventKind = "keys_unreadable" // the store holds keys that the given key-encryption keys do not open
	// EventRefreshAnswered comes once at the end of every refresh, behind what it
	// changed: by which Rule (none where nothing was decided), with which Err, and
	// after how long.
	EventRefreshAnswered EventKind = "refresh_answered"
)

// Event is something that happened in the engine, for the edge to log and
// count. Fields that its kind does not use are zero. It never holds a token.
type Event struct {
	Kind   EventKind
	Handle Handle
	UserID string
	Rule   Rule
	Reason Reason
	Actor  string
	Count  int
	Err    error
	Key    *StoredKey
	Took   time.Duration
}
