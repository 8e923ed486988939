package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/sessions"
)

// CreateWithin implements [sessions.Store].
func (s *Store) CreateWithin(ctx context.Context, n sessions.NewRecord, l sessions.UserLimit) (sessions.Record, []sessions.Handle, error) {
	var rec sessions.Record
	var evicted []sessions.Handle
	lock := userLock(n.UserID)
	// One connection of this process waits for a user's lock. Otherwise an attacker who signs in
	// again and again would occupy all connections.
	turn := s.creating[uint64(lock)%uint64(len(s.creating))] //nolint:gosec // all 64 bits are the name
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return sessions.Record{}, nil, fmt.Errorf("waiting for other creations: %w", ctx.Err())
	}
	err := s.transact(ctx, s.pool, s.transactionMax, func(ctx context.Context, tx querier) error {
		evicted = nil
		// Creations for one user wait for each other here, on every replica: two that count at once
		// would each see room for one. The lock belongs to the transaction, so a pooler in
		// transaction mode keeps it with us.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lock); err != nil {
			return fmt.Errorf("locking the user: %w", err)
		}
		// Only a new statement sees what the previous creation committed.
		tooMany, err := beyond(ctx, tx, n.UserID, l.Max-1)
		if err != nil {
			return err
		}
		if len(tooMany) > 0 && !l.EvictOldest {
			return sessions.ErrTooManySessions
		}
		if len(tooMany) > 0 {
			// In the order of handles, as Promote locks them. A session that another process ended
			// meanwhile is not among the evicted.
			if evicted, err = end(ctx, tx, sessions.EvictedEnding, `handle = ANY (ARRAY(
					SELECT s.handle FROM sessiongate.active_sessions s WHERE s.handle = ANY ($4) ORDER BY s.handle FOR UPDATE))`, tooMany); err != nil {
				return err
			}
		}
		rec, err = s.insert(ctx, tx, n)
		return err
	})
	switch {
	case errors.Is(err, sessions.ErrTooManySessions):
		return sessions.Record{}, nil, sessions.ErrTooManySessions
	case err != nil:
		return sessions.Record{}, nil, fmt.Errorf("creating session within a limit: %w", err)
	}
	return rec, evicted, nil
}

// userLock names the lock of a user. The label separates it from the locks of other programs in the
// database. SHA-256 separates it from other users' locks, except by chance; two users that share a
// lock only wait for each other.
func userLock(userID string) int64 {
	digest := sha256.Sum256([]byte("sessiongate user " + userID))
	return int64(binary.BigEndian.Uint64(digest[:])) //nolint:gosec // all 64 bits are the name
}

// beyond returns the living sessions of a user except the newest keep.
func beyond(ctx context.Context, tx querier, userID string, keep int) ([][]byte, error) {
	rows, err := tx.Query(ctx, `SELECT handle FROM sessiongate.active_sessions
		WHERE user_id = $1 AND least(expires_at, absolute_expires_at) > sessiongate.now()
		ORDER BY created_at DESC, handle OFFSET $2`, userID, keep)
	if err != nil {
		return nil, fmt.Errorf("counting the sessions of a user: %w", err)
	}
	handles, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("counting the sessions of a user: %w", err)
	}
	return handles, nil
}
