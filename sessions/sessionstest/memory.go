package sessionstest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// Memory is a store in memory. Its clock is this machine's, moved by Advance. The
// zero value is not usable; see [NewMemory].
type Memory struct {
	mu      sync.Mutex
	ahead   time.Duration
	records map[sessions.Handle]sessions.Record
	feed    []sessions.Entry // an entry's place is its transaction
	keys    []sessions.StoredKey
	horizon time.Duration
	swept   int // entries removed from the front of feed
}

var _ sessions.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{records: map[sessions.Handle]sessions.Record{}} }

// Advance moves the store's clock forward.
func (m *Memory) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead += d
}

// now is the store's clock, in what Postgres keeps of a time.
func (m *Memory) now() time.Time { return time.Now().Add(m.ahead).UTC().Truncate(time.Microsecond) }

// locked runs one call as one transaction.
func locked[T any](ctx context.Context, m *Memory, call func() (T, error)) (T, error) {
	if err := ctx.Err(); err != nil {
		var zero T
		return zero, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return call()
}

func copied(r sessions.Record) sessions.Record {
	r.Claims, r.Data = bytes.Clone(r.Claims), bytes.Clone(r.Data)
	return r
}

// Create implements [sessions.Store].
func (m *Memory) Create(ctx context.Context, n sessions.NewRecord) (sessions.Record, error) {
	return locked(ctx, m, func() (sessions.Record, error) {
		now := m.now()
		rec := sessions.Record{
			Row: sessions.Row{
				Handle: n.Handle, UserID: n.UserID, Current: n.Current, CurrentClient: n.CurrentClient, PromotedAt: now, CreatedAt: now,
				ExpiresAt: now.Add(min(n.SlidingLife, n.AbsoluteLife)), AbsoluteExpiresAt: now.Add(n.AbsoluteLife),
			},
			Claims: n.Claims, ClaimsVersion: 1, Data: n.Data,
		}
		m.records[n.Handle] = copied(rec)
		return copied(rec), nil
	})
}

// Get implements [sessions.Store].
func (m *Memory) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	var now time.Time
	rec, err := locked(ctx, m, func() (sessions.Record, error) {
		rec, ok := m.records[h]
		if !ok {
			return rec, sessions.ErrNotFound
		}
		now = m.now()
		return copied(rec), nil
	})
	return rec, now, err
}

// ListUser implements [sessions.Store].
func (m *Memory) ListUser(ctx context.Context, userID string, limit int) ([]sessions.Record, error) {
	return locked(ctx, m, func() ([]sessions.Record, error) {
		var list []sessions.Record
		for _, rec := range m.records {
			if rec.UserID == userID {
				list = append(list, copied(rec))
			}
		}
		slices.SortFunc(list, func(a, b sessions.Record) int {
			return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), bytes.Compare(a.Handle[:], b.Handle[:]))
		})
		return list[:min(limit, len(list))], nil
	})
}

// still returns the stored record where old is what a compare-and-swap read.
func (m *Memory) still(old sessions.Row) (sessions.Record, bool) {
	rec, ok := m.records[old.Handle]
	return rec, ok && rec.Current == old.Current && rec.HandedAt.Equal(old.HandedAt)
}

// Swap implements [sessions.Store].
func (m *Memory) Swap(ctx context.Context, old, next sessions.Row) (bool, error) {
	return locked(ctx, m, func() (bool, error) {
		rec, ok := m.still(old)
		if ok {
			rec.Row = next
			m.records[old.Handle] = rec
		}
		return ok, nil
	})
}

// Promote implements [sessions.Store].
func (m *Memory) Promote(ctx context.Context, ps []sessions.Promotion) error {
	_, err := locked(ctx, m, func() (struct{}, error) {
		for _, p := range ps {
			rec, ok := m.records[p.Handle]
			switch {
			case !ok || rec.Current == p.Own || rec.Previous == p.Own:
			case rec.Current == p.Parent:
				rec.Previous, rec.Current, rec.CurrentClient, rec.PromotedAt = rec.Current, p.Own, rec.NextClient, m.now()
				rec.NextNonce, rec.NextClient, rec.HandedAt, rec.HandOuts = sessions.Nonce{}, sessions.Client{}, time.Time{}, 0
				m.records[p.Handle] = rec
			default:
				m.append(sessions.Entry{Kind: sessions.EntryLost, Handle: p.Handle, Mark: p.Own})
			}
		}
		return struct{}{}, nil
	})
	return err
}

func (m *Memory) append(e sessions.Entry) {
	e.At = m.now()
	m.feed = append(m.feed, e)
}

func (m *Memory) end(h sessions.Handle, e sessions.Ending) {
	delete(m.records, h)
	m.append(sessions.Entry{Kind: sessions.EntryEnded, Handle: h, Reason: e.Reason})
}

// End implements [sessions.Store].
func (m *Memory) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	return locked(ctx, m, func() (bool, error) {
		_, ok := m.records[h]
		if ok {
			m.end(h, e)
		}
		return ok, nil
	})
}

// EndIf implements [sessions.Store].
func (m *Memory) EndIf(ctx context.Context, old sessions.Row, e sessions.Ending) (bool, error) {
	return locked(ctx, m, func() (bool, error) {
		_, ok := m.still(old)
		if ok {
			m.end(old.Handle, e)
		}
		return ok, nil
	})
}

// EndUser implements [sessions.Store].
func (m *Memory) EndUser(ctx context.Context, userID string, e sessions.Ending) ([]sessions.Handle, error) {
	return locked(ctx, m, func() ([]sessions.Handle, error) {
		var gone []sessions.Handle
		for h, rec := range m.records {
			if rec.UserID == userID {
				m.end(h, e)
				gone = append(gone, h)
			}
		}
		return gone, nil
	})
}

// Poll implements [sessions.Store]. A cursor is the number of entries so far, and
// one more, since 0 asks for all.
func (m *Memory) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	return locked(ctx, m, func() (sessions.Page, error) {
		page := sessions.Page{Next: sessions.Cursor(m.swept + len(m.feed) + 1), Now: m.now(), Horizon: m.horizon} //nolint:gosec // a count
		for i, e := range m.feed {
			young := !e.At.Before(page.Now.Add(-m.horizon))
			if since == 0 && young || since > 0 && uint64(m.swept+i+1) >= uint64(since) { //nolint:gosec // a count
				page.Entries = append(page.Entries, e)
			}
		}
		return page, nil
	})
}

// RaiseHorizon implements [sessions.Store].
func (m *Memory) RaiseHorizon(ctx context.Context, d time.Duration) error {
	_, err := locked(ctx, m, func() (struct{}, error) {
		m.horizon = max(m.horizon, d)
		return struct{}{}, nil
	})
	return err
}

// Keys implements [sessions.Store].
func (m *Memory) Keys(ctx context.Context) ([]sessions.StoredKey, error) {
	return locked(ctx, m, func() ([]sessions.StoredKey, error) {
		keys := slices.Clone(m.keys)
		slices.SortFunc(keys, func(a, b sessions.StoredKey) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Generation, b.Generation))
		})
		return keys, nil
	})
}

// AddKey implements [sessions.Store].
func (m *Memory) AddKey(ctx context.Context, k sessions.StoredKey, delay time.Duration) (bool, error) {
	return locked(ctx, m, func() (bool, error) {
		for _, had := range m.keys {
			if had.Kind == k.Kind && had.Generation == k.Generation {
				return false, nil
			}
		}
		k.CreatedAt = m.now()
		k.ActiveFrom = k.CreatedAt.Add(delay)
		m.keys = append(m.keys, k)
		m.append(sessions.Entry{Kind: sessions.EntryKeys})
		return true, nil
	})
}

// Sweep implements [sessions.Store].
func (m *Memory) Sweep(ctx context.Context, limit int) (int, error) {
	return locked(ctx, m, func() (int, error) {
		now, removed := m.now(), 0
		for h, rec := range m.records {
			if removed < limit && !now.Before(rec.ExpiresAt) {
				delete(m.records, h)
				removed++
			}
		}
		entries := 0
		for entries < min(limit, len(m.feed)) && m.feed[entries].At.Before(now.Add(-2*m.horizon)) {
			entries++
		}
		m.feed = m.feed[entries:]
		m.swept += entries
		return removed + entries, nil
	})
}
