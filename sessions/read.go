package sessions

import (
	"context"
	"errors"
	"time"
)

// Get returns a living session, or [ErrNotFound].
func (e *Engine) Get(ctx context.Context, h Handle) (Record, error) {
	rec, _, err := e.living(ctx, h)
	return rec, err
}

// living is Get, with the store's time of the reading.
func (e *Engine) living(ctx context.Context, h Handle) (Record, time.Time, error) {
	rec, now, err := e.store.Get(ctx, h)
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, time.Time{}, ErrNotFound
	case err != nil:
		return Record{}, time.Time{}, unavailable("reading session", err)
	case !now.Before(rec.EndsAt()):
		return Record{}, time.Time{}, ErrNotFound
	}
	return rec, now, nil
}

// ListUser returns the living sessions of a user, the newest first, at most limit.
func (e *Engine) ListUser(ctx context.Context, userID string, limit int) ([]Record, error) {
	if err := checkUserID(userID); err != nil {
		return nil, err
	}
	records, err := e.store.ListUser(ctx, userID, limit)
	if err != nil {
		return nil, unavailable("listing the sessions of a user", err)
	}
	return records, nil
}
