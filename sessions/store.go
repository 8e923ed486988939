package sessions

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound is returned by a Store for a session that it does not hold.
var ErrNotFound = errors.New("no such session")

// Store keeps sessions, their keys and the feed. It is the only seam of the
// engine: sessions/postgres implements it for production,
// sessions/sessionstest for unit tests, and one conformance suite runs on both.
//
// Every method is safe for concurrent use, by any number of processes over one
// store. Each is atomic: it happens wholly or not at all, also when the process
// dies in the middle of it (I7). What it reports done is durable and is seen by
// every later call. Any error but ErrNotFound and ErrTooManySessions means that the outcome is unknown
// and that retrying is safe.
//
// Each change is an AuditEvent, written in its transaction: an end always, the
// others from [Store.AuditChanges] on ([Store.DeliverAudit] tells what becomes of
// them). A promotion is none: it is the first use of what a refresh issued, and
// nobody decided it. Nor is an expiry, which the time alone decides.
//
// All times are read from the store's own clock, in whole microseconds, UTC.
type Store interface {
	// Create inserts a session. Its times are the store's: CreatedAt and
	// PromotedAt now, AbsoluteExpiresAt and ExpiresAt by the lives in n.
	Create(ctx context.Context, n NewRecord) (Record, error)

	// CreateWithin is Create where the user then has at most l.Max sessions that
	// have not expired, whoever creates at the same time. Where that takes ending
	// some, the oldest by CreatedAt are ended as End does, with [EvictedEnding], in
	// the same transaction, and their handles are returned; or, without
	// l.EvictOldest, nothing happens and the error is [ErrTooManySessions].
	CreateWithin(ctx context.Context, n NewRecord, l UserLimit) (Record, []Handle, error)

	// Get returns the session and the time of the reading. An expired session
	// that was not yet swept is returned like any other: the caller judges.
	Get(ctx context.Context, h Handle) (Record, time.Time, error)

	// ListUser returns the sessions of a user that have not expired, the newest
	// first, at most limit.
	ListUser(ctx context.Context, userID string, limit int) ([]Record, error)

	// Update replaces the claims, the data or both of a session that has not
	// expired; nil leaves what is there. New claims raise ClaimsVersion by one, and
	// append EntryClaims to the feed in the same transaction.
	Update(ctx context.Context, h Handle, c Attributes) (Record, error)

	// Swap replaces old by next where Current and IssuedAt are still those of
	// old, and says whether it did. rule, for the event, is what decided so. Only Current, Previous, CurrentClient,
	// PromotedAt, NextNonce, NextClient, IssuedAt, Issues and ExpiresAt may
	// differ.
	Swap(ctx context.Context, old, next Row, rule Rule) (bool, error)

	// Promote makes children current, in one transaction. Where the row's
	// Current is the promotion's Parent: Previous becomes Parent, Current
	// becomes Own, CurrentClient becomes NextClient, PromotedAt now, and the
	// generation starts afresh (no next, no issues). Where Own is current or
	// previous already, or the session is gone: nothing. Otherwise Own lost
	// against a sibling: it goes on the feed (EntryLost). No handle may appear
	// twice in one call.
	Promote(ctx context.Context, ps []Promotion) error

	// End deletes the session, appending to the feed (EntryEnded) and to the
	// events in the same transaction. It reports whether there was one.
	End(ctx context.Context, h Handle, e Ending) (bool, error)

	// EndIf is End where Current and IssuedAt are still those of old, and says
	// whether it did.
	EndIf(ctx context.Context, old Row, e Ending) (bool, error)

	// EndUser ends all sessions of a user that exist when it runs, and returns
	// their handles.
	EndUser(ctx context.Context, userID string, e Ending) ([]Handle, error)

	// Poll reads one page of the feed from since on: every entry that was committed
	// since then, in whatever order, once. From the zero Cursor, or one of a store
	// that is another one now (restored, failed over), it reads all young entries,
	// those not older than the feed retention, and says so in the page. Of these some may
	// come once more in the next reading.
	//
	// A store that others may write to elsewhere (read-only, a standby) is an error:
	// what it tells is not what was decided.
	Poll(ctx context.Context, since Cursor) (Page, error)

	// RaiseFeedRetention makes the feed retention at least d; it never falls. An engine
	// raises it to what its own tokens need before it makes any, so that
	// entries outlive the tokens they deny, whoever made those.
	RaiseFeedRetention(ctx context.Context, d time.Duration) error

	// Keys returns all keys, and the time and the feed retention of the reading.
	Keys(ctx context.Context) (KeySet, error)

	// AddKey inserts a key that becomes active after delay, appending EntryKeys
	// to the feed. It says false, and does nothing, where that generation of
	// that kind exists: of many processes that make a key, one succeeds.
	AddKey(ctx context.Context, k StoredKey, delay time.Duration) (bool, error)

	// RewrapKey gives the key with the ID of old what next has as Wrapped and
	// WrappedBy, where Wrapped is still that of old, and says whether it did. It
	// appends EntryKeys to the feed in the same transaction.
	RewrapKey(ctx context.Context, old, next StoredKey) (bool, error)

	// DeleteKeys deletes the keys of a kind of which a later generation has been
	// active for longer than after, so never the newest one, and returns them in
	// the order of generations. Where there are any it appends EntryKeys to the
	// feed in the same transaction.
	DeleteKeys(ctx context.Context, kind KeyKind, after time.Duration) ([]StoredKey, error)

	// AuditChanges has every change write its event, not an end alone. An engine that
	// has somebody to deliver to calls it before anything else.
	AuditChanges()

	// DeliverAudit gives deliver the oldest events, at most limit, in the order of
	// their ID, and removes them once it has returned nil; it says how many. An error
	// leaves them, and so does a crash: every event whose change was committed is
	// delivered at least once, and no other. An event comes after all earlier ones
	// of its session or key, whoever wrote them; of different ones in any order.
	//
	// Of many callers one delivers at a time, over all processes; the others get 0 at
	// once. deliver may wait, for which no change waits, but not for ever: the store
	// may give the same events to another caller after a while.
	DeliverAudit(ctx context.Context, limit int, deliver func([]AuditEvent) error) (int, error)

	// Sweep removes at most limit each of expired sessions, of feed entries
	// beyond the feed retention and of old events, and returns how many rows went.
	// Calls go on where the last one stopped.
	Sweep(ctx context.Context, limit int) (int, error)
}

// NewRecord is what Create needs to know.
type NewRecord struct {
	Handle                    Handle
	UserID                    string
	Current                   TokenHash
	CurrentClient             Client
	Claims, Data              []byte // JSON objects
	SlidingLife, AbsoluteLife time.Duration
	Actor                     string // for the event
}

// Attributes are what a backend keeps in a session: JSON objects; nil leaves one as it is.
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

// Cursor is a place in the feed. Only the store that made it can read it; the zero
// value is the feed's beginning.
type Cursor string

// Page is the answer to a poll.
type Page struct {
	Entries []Entry
	Next    Cursor
	// Anew says that a reading of all young entries begins with this page: what was
	// read before may no longer be true.
	Resync bool
	// More says that the reading goes on from Next. It ends at what was committed
	// when its first page was read.
	More      bool
	Now       time.Time     // the store's clock
	Retention time.Duration // entries older than this deny no living token
}

// EntryKind says what an Entry tells.
type EntryKind string

// The kinds of feed entry.
const (
	EntryEnded  EntryKind = "ended"  // Handle ended, for Reason (V2)
	EntryLost   EntryKind = "lost"   // Mark, of Handle, lost against a sibling (V3)
	EntryClaims EntryKind = "claims" // Handle's claims have Version now (V3)
	EntryKeys   EntryKind = "keys"   // the keys changed; read them again
)

// Entry is one line of the feed. Fields that its kind does not use are zero.
type Entry struct {
	Kind      EntryKind
	Handle    Handle
	TokenHash TokenHash
	Version   int64
	Reason    Reason
	At        time.Time
}
