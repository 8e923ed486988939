package sessions

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound is returned by a Store for a session that it does not hold.
var ErrNotFound = errors.New("no such session")

// Store keeps sessions, their keys and the feed. It is the only seam of the engine.
// sessions/postgres implements it for production, sessions/sessionstest for unit tests. One
// conformance suite runs on both.
//
// Every method is safe for concurrent use by any number of processes over one store. Each method is
// atomic: it happens wholly or not at all, also when the process dies in the middle of it (I7).
// What it reports as done is durable, and every later call sees it. An error other than ErrNotFound
// and ErrTooManySessions means that the outcome is unknown and that a retry is safe.
//
// Each change writes an AuditEvent in its own transaction: an end always, the other changes after
// [Store.AuditChanges]. [Store.DeliverAudit] delivers them. A promotion writes none: it is the
// first use of what a refresh issued. An expiry writes none: time alone decides it.
//
// All times are read from the store's own clock, in whole microseconds, UTC.
type Store interface {
	// Create inserts a session. The store sets its times: CreatedAt and PromotedAt are now,
	// AbsoluteExpiresAt and ExpiresAt follow from the lives in n.
	Create(ctx context.Context, n NewRecord) (Record, error)

	// CreateWithin is Create with a limit: afterwards the user has at most l.Max sessions that have
	// not expired, however many creations run at the same time. If there is no room, l.EvictOldest
	// decides. With it, the oldest sessions by CreatedAt end with [EvictedEnding] in the same
	// transaction, as End ends them, and their handles are returned. Without it, nothing happens
	// and the error is [ErrTooManySessions].
	CreateWithin(ctx context.Context, n NewRecord, l UserLimit) (Record, []Handle, error)

	// Get returns the session and the time of the reading. It also returns an expired session that
	// was not swept yet: the caller judges.
	Get(ctx context.Context, h Handle) (Record, time.Time, error)

	// ListUser returns the sessions of a user that have not expired, the newest first, at most
	// limit.
	ListUser(ctx context.Context, userID string, limit int) ([]Record, error)

	// UserRows is ListUser without the attributes, which may be large.
	UserRows(ctx context.Context, userID string, limit int) ([]Row, error)

	// Update replaces the claims, the data or both of a session that has not expired; nil leaves
	// what is there. New claims raise ClaimsVersion by one, and append EntryClaims to the feed in
	// the same transaction.
	Update(ctx context.Context, h Handle, c Attributes) (Record, error)

	// Swap replaces old by next if Current, IssuedAt, BoundKey and BoundAt are still those of old. It
	// reports whether it did. rule is the deciding rule, for the audit event. Only Current, Previous,
	// CurrentClient, PromotedAt, NextNonce, NextClient, IssuedAt, Issues, ExpiresAt, Device, BoundKey
	// and BoundAt may differ. [AuditOf] says which event it is.
	Swap(ctx context.Context, old, next Row, rule Rule) (bool, error)

	// Rotate is Get, and Swap for R4, in one step: most refreshes need no second one. It reads the
	// session without Data. If the row fits r at the time of the reading, and Current and IssuedAt
	// are still those that were read, it replaces the row by r.Next and returns true. The Record has
	// the row as it was read, before that. With r.ReadOnly it replaces nothing.
	//
	// False says only that nothing was written. The caller decides, and swaps: a row that fits may
	// have changed meanwhile.
	Rotate(ctx context.Context, h Handle, r Rotation) (Record, time.Time, bool, error)

	// Promote makes children current, in one transaction.
	//
	// If the row's Current is the promotion's Parent: Previous becomes Parent, Current becomes Own,
	// CurrentClient becomes NextClient, PromotedAt becomes now, and a new generation starts (no
	// next, no issues); Device stays. If Own is already current or previous, or the session does not exist:
	// nothing happens. Otherwise Own lost against a sibling, and the feed gets EntryLost.
	//
	// No handle may appear twice in one call.
	Promote(ctx context.Context, ps []Promotion) error

	// End deletes the session. In the same transaction it appends to the feed (EntryEnded) and to
	// the audit events. It reports whether there was a session.
	End(ctx context.Context, h Handle, e Ending) (bool, error)

	// EndIf is End if Current, IssuedAt, BoundKey and BoundAt are still those of old. It reports
	// whether it ended the session.
	EndIf(ctx context.Context, old Row, e Ending) (bool, error)

	// EndUser ends all sessions of a user that exist when it runs, and returns their handles.
	EndUser(ctx context.Context, userID string, e Ending) ([]Handle, error)

	// EndOthers is EndUser without the session that is kept. If that one does not exist when the others
	// would end, nothing ends: of two sessions that end each other at once, one is left.
	EndOthers(ctx context.Context, userID string, kept Handle, e Ending) ([]Handle, error)

	// CountSessions is about how many sessions the store holds, those that expired and were not swept
	// included. It is exact for some thousand sessions, and an estimate beyond, for it must cost little.
	CountSessions(ctx context.Context) (int, error)

	// Report writes an audit event of a session that no change has, after [Store.AuditChanges]. It
	// writes none if the session does not exist. Handle, UserID, Kind, Rule and Actor are given.
	Report(ctx context.Context, e AuditEvent) error

	// Poll reads one page of the feed, from since on: every entry that was committed after it, in
	// any order, once. From the zero Cursor, or from a cursor of a store that was restored or
	// failed over since, it does a full resync: it reads all entries that are not older than the
	// feed retention, and says so in the page. Some of these entries may come again in the next
	// poll.
	//
	// A store that is read-only or a standby returns an error: sessions may be ended at the primary
	// without an entry here.
	Poll(ctx context.Context, since Cursor) (Page, error)

	// RaiseFeedRetention makes the feed retention at least d; it never falls. An engine calls it
	// before it makes tokens, so that the entries of every engine outlive the tokens that they
	// deny.
	RaiseFeedRetention(ctx context.Context, d time.Duration) error

	// Keys returns all keys, and the time and the feed retention of the reading.
	Keys(ctx context.Context) (KeySet, error)

	// AddKey inserts a key that becomes active after delay, and appends EntryKeys to the feed. If
	// that generation of that kind exists, it does nothing and returns false: of many processes
	// that make a key, one succeeds.
	AddKey(ctx context.Context, k StoredKey, delay time.Duration) (bool, error)

	// RewrapKey sets Wrapped and WrappedBy of the key with the ID of old to those of next, if
	// Wrapped is still that of old. It reports whether it did. It appends EntryKeys to the feed in
	// the same transaction.
	RewrapKey(ctx context.Context, old, next StoredKey) (bool, error)

	// DeleteKeys deletes the keys of a kind that have a later generation which was active for
	// longer than after. So it never deletes the newest key. It returns the deleted keys in the
	// order of generations. If there are any, it appends EntryKeys to the feed in the same
	// transaction.
	DeleteKeys(ctx context.Context, kind KeyKind, after time.Duration) ([]StoredKey, error)

	// AuditChanges makes every change write an audit event, not an end alone. An engine that
	// delivers audit events calls it before any other method.
	AuditChanges()

	// DeliverAudit passes the oldest audit events to deliver, at most limit, in the order of their
	// ID. It removes them once deliver has returned nil, and returns how many there were. An error
	// or a crash leaves them. So every event with a committed change is delivered at least once,
	// and no other event is. An event comes after all earlier events of its session or key,
	// whichever process wrote them; events of different sessions come in any order.
	//
	// One caller delivers at a time, over all processes; the others get 0 at once. No change waits
	// for deliver. But deliver must not wait forever: after a while the store may give the same
	// events to another caller.
	DeliverAudit(ctx context.Context, limit int, deliver func([]AuditEvent) error) (int, error)

	// Sweep removes expired sessions, feed entries older than the feed retention, and old audit
	// events: at most limit of each. It returns how many rows it removed. The next call continues
	// where the last one stopped.
	Sweep(ctx context.Context, limit int) (int, error)
}

// NewRecord is the input of [Store.Create].
type NewRecord struct {
	Handle                    Handle
	UserID                    string
	Current                   TokenHash
	CurrentClient             Client
	Device                    Device
	Claims, Data              []byte // JSON objects
	SlidingLife, AbsoluteLife time.Duration
	Actor                     string // for the audit event
}

// Attributes are what a backend keeps in a session: two JSON objects. nil leaves one as it is.
// Actor names the caller, for the audit event.
type Attributes struct {
	Claims, Data []byte
	Actor        string
}

// Promotion reports the first use of a child.
type Promotion struct {
	Handle      Handle
	Parent, Own TokenHash
}

// Cursor is a position in the feed. Only the store that made it can read it. The zero value is the
// beginning of the feed.
type Cursor string

// Page is the answer to a poll.
type Page struct {
	Entries []Entry
	Next    Cursor
	// Resync says that a full resync begins with this page: what was read before may no longer be
	// true.
	Resync bool
	// More says that the poll continues at Next. It ends at what was committed when its first page
	// was read.
	More      bool
	Now       time.Time     // the store's clock
	Retention time.Duration // older entries deny no living token
}

// EntryKind names what an [Entry] reports.
type EntryKind string

// The kinds of feed entry.
const (
	EntryEnded  EntryKind = "ended"  // Handle ended, for Reason (V2)
	EntryLost   EntryKind = "lost"   // TokenHash, of Handle, lost against a sibling (V3)
	EntryClaims EntryKind = "claims" // the claims of Handle have Version now (V3)
	EntryKeys   EntryKind = "keys"   // the keys changed; read them again
)

// Entry is one entry of the feed. Fields that its kind does not use are zero.
type Entry struct {
	Kind      EntryKind
	Handle    Handle
	TokenHash TokenHash
	Version   int64
	Reason    Reason
	At        time.Time
}
