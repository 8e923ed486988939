package sessions

import (
	"context"
	"errors"
)

// Get returns a living session, or [ErrNotFound].
func (e *Engine) Get(ctx context.Context, h Handle) (Record, error) {
	rec, now, err := e.store.Get(ctx, h)
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, ErrNotFound
	case err != nil:
		return Record{}, unavailable("reading session", err)
	case !now.Before(rec.ExpiresAt) || !now.Before(rec.AbsoluteExpiresAt):
		return Record{}, ErrNotFound
	}
	return rec, nil
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
