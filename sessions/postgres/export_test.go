package postgres

import (
	"context"
	"encoding/json"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiongate/sessiongate/sessions"
)

// SetFeedPage makes the pages of a full resync small, so that there are many.
func (s *Store) SetFeedPage(entries int) { s.feedPage = entries }

// SetDeliverMax sets how long the server waits for a delivery.
func (s *Store) SetDeliverMax(d time.Duration) { s.deliverMax = d }

// Setting is the value of a server setting on a connection of the store.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	})
	return value, err
}

// SetEndPage makes the pages of EndCreatedBefore small, so that there are many.
func (s *Store) SetEndPage(sessions int) { s.endPage = sessions }

// UserLock is the lock of a user's creations.
func UserLock(userID string) int64 { return userLock(userID) }

// PollBlocks is how many blocks the statement of a poll from since touches.
func (s *Store) PollBlocks(ctx context.Context, since sessions.Cursor) (int, error) {
	from, err := parsePosition(since)
	if err != nil {
		return 0, err
	}
	sql, args := s.pollStatement(from)
	var text []byte
	if err := s.feed.QueryRow(ctx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+sql, args...).Scan(&text); err != nil {
		return 0, err
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		return 0, err
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read, nil
}

// WithLookup makes a store find the addresses of hosts in its own way.
func WithLookup(c Config, find func(ctx context.Context, host string) ([]string, error)) Config {
	c.lookup = find
	return c
}

// LookAgain makes every connection again.
func (s *Store) LookAgain() { s.lookAgain() }

// Connected is how many connections were ever made.
func (s *Store) Connected() int64 {
	return s.pool.Stat().NewConnsCount() + s.feed.Stat().NewConnsCount() + s.outbox.Stat().NewConnsCount()
}

// Idle makes connections count as idle for long enough to be asked whether they live.
func Idle(s *Store) { s.pingIdle = 0 }

// Dial connects as the store does.
func Dial(ctx context.Context, address string) (*net.TCPConn, error) {
	conn, err := newDialer(&pgconn.Config{ConnectTimeout: time.Minute}).dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*greeted).Conn.(*net.TCPConn), nil
}

// FeedConnected is how many connections the feed ever had.
func (s *Store) FeedConnected() int64 { return s.feed.Stat().NewConnsCount() }

// SetMigratePause sets how long a migration waits before it asks again for a lock.
func (s *Store) SetMigratePause(d time.Duration) { s.migratePause = d }
