package sessions

import "time"

// EventKind names what an [Event] reports.
type EventKind string

// The kinds of event.
const (
	EventCreated          EventKind = "created"
	EventRefreshed        EventKind = "refreshed" // R3 to R7, answered with tokens
	EventSuperseded       EventKind = "superseded"
	EventRefreshRefused   EventKind = "refresh_refused" // R1 or R2: the session has ended; nothing changed
	EventEnded            EventKind = "ended"
	EventKeyRegistered    EventKind = "device_key_registered" // B1
	EventBound            EventKind = "bound"                 // the first B4
	EventProofRefused     EventKind = "proof_refused"         // B6: not of the session's key; B1: of none that can be registered
	EventUnproven         EventKind = "unproven"              // B10 and B12: a bound session, and no proof
	EventKeyLost          EventKind = "device_key_lost"       // B10: so for long that the user has to sign in
	EventReportFailed     EventKind = "report_failed"         // an audit event that no change has; the next one is tried
	EventClaims           EventKind = "claims"                // a session has new claims
	EventPromoted         EventKind = "promoted"              // Count sessions, by Checks that saw an access token of a child
	EventPromotionsFailed EventKind = "promotions_failed"
	EventFeedFailed       EventKind = "feed_failed"
	EventFeedRecovered    EventKind = "feed_recovered"
	EventSwept            EventKind = "swept" // Count rows
	EventSweepFailed      EventKind = "sweep_failed"
	EventCountFailed      EventKind = "count_failed" // of sessions, for [Stats]; it is tried again
	EventStartRetried     EventKind = "start_retried"
	EventReady            EventKind = "ready"
	EventAudited          EventKind = "audited" // Count events were delivered
	EventAuditFailed      EventKind = "audit_failed"
	EventAuditRecovered   EventKind = "audit_recovered"

	EventKeyAdded       EventKind = "key_added"       // Key was made and published here
	EventKeyDeleted     EventKind = "key_deleted"     // Key was retired and is now deleted
	EventKeysFailed     EventKind = "keys_failed"     // a rotation or deletion failed; it is tried again
	EventKeysUnreadable EventKind = "keys_unreadable" // a stored key does not open under the given key-encryption keys
	// EventRefreshAnswered comes once at the end of every refresh, after the events of its changes.
	// It has the Rule (empty if none decided), the Err and the time that the refresh took.
	EventRefreshAnswered EventKind = "refresh_answered"
)

// Event is something that happened in the engine, for the caller to log and count. Fields that its
// kind does not use are zero. It never holds a token.
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
