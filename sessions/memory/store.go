// Package memory owns the store in memory, for package sessiondev and for unit tests. It keeps the
// promises of the contract except durability: a process that ends forgets its sessions. Tests move its
// clock, make its calls fail, and restore a backup of it.
package memory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// Store is a [sessions.Store] in memory. It keeps the promises of the contract
// except durability. Its clock runs, and can be moved.
type Store struct {
	mu       sync.Mutex
	offset   time.Duration
	before   func(method string) error
	after    func(method string) error
	state    state
	restored int // how often; cursors contain it, to tell one state of the store from another
	pageMax  int // entries of a page

	delivering sync.Mutex
}

// state is what a snapshot contains.
type state struct {
	records   map[sessions.Handle]sessions.Record
	keys      []sessions.StoredKey
	feed      []entry
	next      int // the position of the next entry
	retention time.Duration
	events    []sessions.AuditEvent
	recorded  int64 // the ID of the last event
}

type entry struct {
	sessions.Entry

	position int
}

var _ sessions.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{state: state{records: map[sessions.Handle]sessions.Record{}}, pageMax: 100}
}

// Advance moves the clock forward.
func (m *Store) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offset += d
}

// Fail makes f run before each call of a method of the contract, with the method's name. If f
// returns an error, the call returns it and has no effect. f may block, and may use the store. A
// nil f ends it.
func (m *Store) Fail(f func(method string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = f
}

// FailAfter is Fail after the effect. The caller does not learn of the effect, as when a connection
// drops before the answer.
func (m *Store) FailAfter(f func(method string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = f
}

// Snapshot is a backup of a [Store].
type Snapshot struct{ state state }

// Snapshot makes a backup.
func (m *Store) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Snapshot{m.state.clone()}
}

// Restore brings a backup back. What was written since is lost, as after a failover or a restore.
// Older cursors are void. The clock continues.
func (m *Store) Restore(s Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restored++
	m.state = s.state.clone()
}

func (c state) clone() state {
	c.records, c.keys, c.feed, c.events = maps.Clone(c.records), slices.Clone(c.keys), slices.Clone(c.feed), slices.Clone(c.events)
	return c
}

// do runs one method atomically, between the faults.
func do[T any](ctx context.Context, m *Store, method string, act func(now time.Time) (T, error)) (T, error) {
	var none T
	m.mu.Lock()
	before, after := m.before, m.after
	m.mu.Unlock()
	if before != nil {
		if err := before(method); err != nil {
			return none, err
		}
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	m.mu.Lock()
	got, err := act(time.Now().Add(m.offset).UTC().Truncate(time.Microsecond))
	m.mu.Unlock()
	if after != nil {
		if err := after(method); err != nil {
			return none, err
		}
	}
	return got, err
}

func (m *Store) append(now time.Time, e sessions.Entry) {
	e.At = now
	m.state.feed = append(m.state.feed, entry{e, m.state.next})
	m.state.next++
}

func copied(r sessions.Record) sessions.Record {
	r.Claims, r.Data = bytes.Clone(r.Claims), bytes.Clone(r.Data)
	return r
}

// Create implements [sessions.Store].
func (m *Store) Create(ctx context.Context, n sessions.NewRecord) (sessions.Record, error) {
	return do(ctx, m, "Create", func(now time.Time) (sessions.Record, error) { return m.insert(now, n) })
}

func (m *Store) insert(now time.Time, n sessions.NewRecord) (sessions.Record, error) {
	if _, exists := m.state.records[n.Handle]; exists {
		return sessions.Record{}, errors.New("a session with this handle exists")
	}
	absolute := now.Add(n.AbsoluteLife.Truncate(time.Microsecond))
	expires := now.Add(n.SlidingLife.Truncate(time.Microsecond))
	if expires.After(absolute) {
		expires = absolute
	}
	r := copied(sessions.Record{
		Row: sessions.Row{
			Handle: n.Handle, UserID: n.UserID, Current: n.Current, CurrentClient: n.CurrentClient,
			PromotedAt: now, CreatedAt: now, ExpiresAt: expires, AbsoluteExpiresAt: absolute, Device: n.Device,
		},
		Claims: n.Claims, ClaimsVersion: 1, Data: n.Data,
	})
	m.state.records[n.Handle] = r
	m.record(now, sessions.AuditEvent{Kind: sessions.AuditCreated, Handle: n.Handle, UserID: n.UserID, Actor: n.Actor})
	return copied(r), nil
}

// CreateWithin implements [sessions.Store].
func (m *Store) CreateWithin(ctx context.Context, n sessions.NewRecord, l sessions.UserLimit) (sessions.Record, []sessions.Handle, error) {
	var evicted []sessions.Handle
	r, err := do(ctx, m, "CreateWithin", func(now time.Time) (sessions.Record, error) {
		living := m.living(now, n.UserID)
		tooMany := living[min(l.Max-1, len(living)):]
		if len(tooMany) > 0 && !l.EvictOldest {
			return sessions.Record{}, sessions.ErrTooManySessions
		}
		r, err := m.insert(now, n)
		if err != nil {
			return sessions.Record{}, err
		}
		for _, old := range tooMany {
			m.end(now, old.Handle, sessions.EvictedEnding)
			evicted = append(evicted, old.Handle)
		}
		return r, nil
	})
	if err != nil {
		return sessions.Record{}, nil, err
	}
	return r, evicted, nil
}

// Get implements [sessions.Store].
func (m *Store) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	var read time.Time
	r, err := do(ctx, m, "Get", func(now time.Time) (sessions.Record, error) {
		r, ok := m.state.records[h]
		if !ok {
			return sessions.Record{}, sessions.ErrNotFound
		}
		read = now
		return copied(r), nil
	})
	if err != nil {
		return sessions.Record{}, time.Time{}, err
	}
	return r, read, nil
}

// ListUser implements [sessions.Store].
func (m *Store) ListUser(ctx context.Context, userID string, limit int) ([]sessions.Record, error) {
	return do(ctx, m, "ListUser", func(now time.Time) ([]sessions.Record, error) {
		list := m.living(now, userID)
		return list[:min(limit, len(list))], nil
	})
}

// UserRows implements [sessions.Store].
func (m *Store) UserRows(ctx context.Context, userID string, limit int) ([]sessions.Row, error) {
	return do(ctx, m, "UserRows", func(now time.Time) (rows []sessions.Row, err error) {
		list := m.living(now, userID)
		for _, r := range list[:min(limit, len(list))] {
			rows = append(rows, r.Row)
		}
		return rows, nil
	})
}

// living are the sessions of a user that have not expired, the newest first.
func (m *Store) living(now time.Time, userID string) []sessions.Record {
	var list []sessions.Record
	for _, r := range m.state.records {
		if r.UserID == userID && now.Before(r.ExpiresAt) && now.Before(r.AbsoluteExpiresAt) {
			list = append(list, copied(r))
		}
	}
	slices.SortFunc(list, func(a, b sessions.Record) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), bytes.Compare(a.Handle[:], b.Handle[:]))
	})
	return list
}

// Update implements [sessions.Store].
func (m *Store) Update(ctx context.Context, h sessions.Handle, c sessions.Attributes) (sessions.Record, error) {
	return do(ctx, m, "Update", func(now time.Time) (sessions.Record, error) {
		r, ok := m.state.records[h]
		if !ok || !now.Before(r.ExpiresAt) || !now.Before(r.AbsoluteExpiresAt) {
			return sessions.Record{}, sessions.ErrNotFound
		}
		if c.Claims != nil {
			r.Claims = c.Claims
			r.ClaimsVersion++
			m.append(now, sessions.Entry{Kind: sessions.EntryClaims, Handle: h, Version: r.ClaimsVersion})
			m.record(now, sessions.AuditEvent{Kind: sessions.AuditClaimsChanged, Handle: h, UserID: r.UserID, Actor: c.Actor})
		}
		if c.Data != nil {
			r.Data = c.Data
			m.record(now, sessions.AuditEvent{Kind: sessions.AuditDataChanged, Handle: h, UserID: r.UserID, Actor: c.Actor})
		}
		r = copied(r)
		m.state.records[h] = r
		return copied(r), nil
	})
}

// unchanged says whether the row is still the one that was read as old.
func (m *Store) unchanged(old sessions.Row) (sessions.Record, bool) {
	r, ok := m.state.records[old.Handle]
	return r, ok && r.Current == old.Current && r.IssuedAt.Equal(old.IssuedAt) && r.BoundKey == old.BoundKey && r.BoundAt.Equal(old.BoundAt)
}

// Swap implements [sessions.Store].
func (m *Store) Swap(ctx context.Context, old, next sessions.Row, rule sessions.Rule) (bool, error) {
	return do(ctx, m, "Swap", func(now time.Time) (bool, error) {
		r, ok := m.unchanged(old)
		if !ok {
			return false, nil
		}
		next.Handle, next.UserID, next.CreatedAt, next.AbsoluteExpiresAt = r.Handle, r.UserID, r.CreatedAt, r.AbsoluteExpiresAt
		if next.ExpiresAt.After(next.AbsoluteExpiresAt) {
			return false, errors.New("a session must not slide past its absolute expiry")
		}
		if next.Bound() && (next.BoundKey == sessions.BoundKey{} || next.NextNonce != sessions.Nonce{}) {
			return false, errors.New("a bound session must have a key, and no child")
		}
		r.Row = next
		m.state.records[old.Handle] = r
		m.record(now, sessions.AuditEvent{Kind: sessions.AuditOf(old, next), Handle: r.Handle, UserID: r.UserID, Rule: rule, Actor: "refresh"})
		return true, nil
	})
}

// Rotate implements [sessions.Store].
func (m *Store) Rotate(ctx context.Context, h sessions.Handle, r sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	var read time.Time
	var rotated bool
	rec, err := do(ctx, m, "Rotate", func(now time.Time) (sessions.Record, error) {
		rec, ok := m.state.records[h]
		if !ok {
			return sessions.Record{}, sessions.ErrNotFound
		}
		read, rotated = now, !r.ReadOnly && r.Fits(rec.Row, now)
		if rotated {
			next := rec
			next.Row = r.Next(rec.Row, now)
			m.state.records[h] = next
			m.record(now, sessions.AuditEvent{Kind: sessions.AuditRefreshed, Handle: h, UserID: rec.UserID, Rule: sessions.R4, Actor: "refresh"})
		}
		rec = copied(rec)
		if !r.WithData {
			rec.Data = nil
		}
		return rec, nil
	})
	if err != nil {
		return sessions.Record{}, time.Time{}, false, err
	}
	return rec, read, rotated, nil
}

// Promote implements [sessions.Store].
func (m *Store) Promote(ctx context.Context, ps []sessions.Promotion) error {
	_, err := do(ctx, m, "Promote", func(now time.Time) (any, error) {
		for _, p := range ps {
			r, ok := m.state.records[p.Handle]
			switch {
			case !ok, r.Current == p.Own, r.Previous == p.Own:
			case r.Current == p.Parent:
				r.Previous, r.Current, r.CurrentClient, r.PromotedAt = r.Current, p.Own, r.NextClient, now
				r.NextNonce, r.NextClient, r.IssuedAt, r.Issues = sessions.Nonce{}, sessions.Client{}, time.Time{}, 0
				m.state.records[p.Handle] = r
			default:
				m.append(now, sessions.Entry{Kind: sessions.EntryLost, Handle: p.Handle, TokenHash: p.Own})
			}
		}
		return nil, nil
	})
	return err
}

func (m *Store) end(now time.Time, h sessions.Handle, e sessions.Ending) {
	m.record(now, sessions.AuditEvent{
		Kind: sessions.AuditEnded, Handle: h, UserID: m.state.records[h].UserID, Rule: e.Rule, Reason: e.Reason, Actor: e.Actor,
	})
	delete(m.state.records, h)
	m.append(now, sessions.Entry{Kind: sessions.EntryEnded, Handle: h, Reason: e.Reason})
}

// End implements [sessions.Store].
func (m *Store) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	return do(ctx, m, "End", func(now time.Time) (bool, error) {
		_, ok := m.state.records[h]
		if ok {
			m.end(now, h, e)
		}
		return ok, nil
	})
}

// EndIf implements [sessions.Store].
func (m *Store) EndIf(ctx context.Context, old sessions.Row, e sessions.Ending) (bool, error) {
	return do(ctx, m, "EndIf", func(now time.Time) (bool, error) {
		_, ok := m.unchanged(old)
		if ok {
			m.end(now, old.Handle, e)
		}
		return ok, nil
	})
}

// EndUser implements [sessions.Store].
func (m *Store) EndUser(ctx context.Context, userID string, e sessions.Ending) ([]sessions.Handle, error) {
	return do(ctx, m, "EndUser", func(now time.Time) ([]sessions.Handle, error) {
		return m.endWhere(now, e, func(r sessions.Row) bool { return r.UserID == userID }), nil
	})
}

// EndOthers implements [sessions.Store].
func (m *Store) EndOthers(ctx context.Context, userID string, kept sessions.Handle, e sessions.Ending) ([]sessions.Handle, error) {
	return do(ctx, m, "EndOthers", func(now time.Time) ([]sessions.Handle, error) {
		if _, ok := m.state.records[kept]; !ok {
			return nil, nil
		}
		return m.endWhere(now, e, func(r sessions.Row) bool { return r.UserID == userID && r.Handle != kept }), nil
	})
}

func (m *Store) endWhere(now time.Time, e sessions.Ending, match func(sessions.Row) bool) (handles []sessions.Handle) {
	for h, r := range m.state.records {
		if match(r.Row) {
			m.end(now, h, e)
			handles = append(handles, h)
		}
	}
	return handles
}

// CountSessions implements [sessions.Store].
func (m *Store) CountSessions(ctx context.Context) (int, error) {
	return do(ctx, m, "CountSessions", func(time.Time) (int, error) { return len(m.state.records), nil })
}

// Report implements [sessions.Store].
func (m *Store) Report(ctx context.Context, e sessions.AuditEvent) error {
	_, err := do(ctx, m, "Report", func(now time.Time) (any, error) {
		if _, ok := m.state.records[e.Handle]; ok {
			m.record(now, e)
		}
		return nil, nil
	})
	return err
}

// Poll implements [sessions.Store].
func (m *Store) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	return do(ctx, m, "Poll", func(now time.Time) (sessions.Page, error) {
		page := sessions.Page{Now: now, Retention: m.state.retention}
		var restored, from int
		var resync bool
		if _, err := fmt.Sscanf(string(since), "%d %t %d", &restored, &resync, &from); err != nil || restored != m.restored {
			page.Resync, resync, from = true, true, 0
		}
		next := from
		for _, e := range m.state.feed {
			if e.position < from || resync && e.At.Before(now.Add(-m.state.retention)) {
				continue
			}
			if len(page.Entries) == m.pageMax {
				page.More = true
				break
			}
			page.Entries = append(page.Entries, e.Entry)
			next = e.position + 1
		}
		if !page.More {
			next, resync = m.state.next, false
		}
		page.Next = sessions.Cursor(fmt.Sprintf("%d %t %d", m.restored, resync, next))
		return page, nil
	})
}

// RaiseFeedRetention implements [sessions.Store].
func (m *Store) RaiseFeedRetention(ctx context.Context, d time.Duration) error {
	_, err := do(ctx, m, "RaiseFeedRetention", func(time.Time) (any, error) {
		m.state.retention = max(m.state.retention, d)
		return nil, nil
	})
	return err
}

// Keys implements [sessions.Store].
func (m *Store) Keys(ctx context.Context) (sessions.KeySet, error) {
	return do(ctx, m, "Keys", func(now time.Time) (sessions.KeySet, error) {
		keys := slices.Clone(m.state.keys)
		for i := range keys {
			keys[i].Wrapped = bytes.Clone(keys[i].Wrapped)
		}
		return sessions.KeySet{Keys: keys, Now: now, FeedRetention: m.state.retention}, nil
	})
}

// AddKey implements [sessions.Store].
func (m *Store) AddKey(ctx context.Context, k sessions.StoredKey, delay time.Duration) (bool, error) {
	return do(ctx, m, "AddKey", func(now time.Time) (bool, error) {
		order := func(a, b sessions.StoredKey) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Generation, b.Generation))
		}
		i, exists := slices.BinarySearchFunc(m.state.keys, k, order)
		if exists {
			return false, nil
		}
		k.Wrapped = bytes.Clone(k.Wrapped)
		k.CreatedAt, k.ActiveFrom = now, now.Add(delay.Truncate(time.Microsecond))
		m.state.keys = slices.Insert(m.state.keys, i, k)
		m.append(now, sessions.Entry{Kind: sessions.EntryKeys})
		m.recordKey(now, sessions.AuditKeyAdded, k)
		return true, nil
	})
}

// RewrapKey implements [sessions.Store].
func (m *Store) RewrapKey(ctx context.Context, old, next sessions.StoredKey) (bool, error) {
	return do(ctx, m, "RewrapKey", func(now time.Time) (bool, error) {
		i := slices.IndexFunc(m.state.keys, func(k sessions.StoredKey) bool {
			return k.ID == old.ID && bytes.Equal(k.Wrapped, old.Wrapped)
		})
		if i < 0 {
			return false, nil
		}
		m.state.keys[i].Wrapped, m.state.keys[i].WrappedBy = bytes.Clone(next.Wrapped), next.WrappedBy
		m.append(now, sessions.Entry{Kind: sessions.EntryKeys})
		m.recordKey(now, sessions.AuditKeyRewrapped, m.state.keys[i])
		return true, nil
	})
}

// DeleteKeys implements [sessions.Store].
func (m *Store) DeleteKeys(ctx context.Context, kind sessions.KeyKind, after time.Duration) ([]sessions.StoredKey, error) {
	return do(ctx, m, "DeleteKeys", func(now time.Time) ([]sessions.StoredKey, error) {
		var deleted []sessions.StoredKey
		keys := m.state.keys
		m.state.keys = slices.DeleteFunc(slices.Clone(keys), func(k sessions.StoredKey) bool {
			gone := k.Kind == kind && slices.ContainsFunc(keys, func(next sessions.StoredKey) bool {
				return next.Kind == kind && next.Generation > k.Generation && next.ActiveFrom.Before(now.Add(-after))
			})
			if gone {
				deleted = append(deleted, k)
				m.recordKey(now, sessions.AuditKeyDeleted, k)
			}
			return gone
		})
		if len(deleted) > 0 {
			m.append(now, sessions.Entry{Kind: sessions.EntryKeys})
		}
		return deleted, nil
	})
}

func (m *Store) record(now time.Time, e sessions.AuditEvent) {
	m.state.recorded++
	e.ID, e.At = m.state.recorded, now
	m.state.events = append(m.state.events, e)
}

func (m *Store) recordKey(now time.Time, kind sessions.AuditKind, k sessions.StoredKey) {
	m.record(now, sessions.AuditEvent{Kind: kind, Key: fmt.Sprintf("%s/%d/%s", k.Kind, k.Generation, k.ID)})
}

// AuditChanges implements [sessions.Store]. This store writes every event in any case.
func (m *Store) AuditChanges() {}

// DeliverAudit implements [sessions.Store]. To the faults it is two methods, so that a test can
// interrupt it between them: DeliverAudit, which reads, and RemoveEvents, after the delivery.
func (m *Store) DeliverAudit(ctx context.Context, limit int, deliver func([]sessions.AuditEvent) error) (int, error) {
	if !m.delivering.TryLock() {
		return 0, nil
	}
	defer m.delivering.Unlock()
	events, err := do(ctx, m, "DeliverAudit", func(time.Time) ([]sessions.AuditEvent, error) {
		return slices.Clone(m.state.events[:min(limit, len(m.state.events))]), nil
	})
	if err != nil || len(events) == 0 {
		return 0, err
	}
	if err := deliver(events); err != nil {
		return 0, err
	}
	return do(ctx, m, "RemoveEvents", func(time.Time) (int, error) {
		m.state.events = slices.DeleteFunc(m.state.events, func(e sessions.AuditEvent) bool { return slices.Contains(events, e) })
		return len(events), nil
	})
}

// auditKeep is how long events are kept if no engine delivers them.
const auditKeep = 90 * 24 * time.Hour

// Sweep implements [sessions.Store].
func (m *Store) Sweep(ctx context.Context, limit int) (int, error) {
	return do(ctx, m, "Sweep", func(now time.Time) (int, error) {
		swept := 0
		for h, r := range m.state.records {
			if swept < limit && !now.Before(r.ExpiresAt) {
				delete(m.state.records, h)
				swept++
			}
		}
		old := 0
		m.state.feed = slices.DeleteFunc(m.state.feed, func(e entry) bool {
			gone := old < limit && e.At.Before(now.Add(-2*m.state.retention))
			if gone {
				old++
			}
			return gone
		})
		audited := 0
		m.state.events = slices.DeleteFunc(m.state.events, func(e sessions.AuditEvent) bool {
			gone := audited < limit && e.At.Before(now.Add(-auditKeep))
			if gone {
				audited++
			}
			return gone
		})
		return swept + old + audited, nil
	})
}
