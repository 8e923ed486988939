package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiongate/sessiongate/sessions"
)

// Config is how to reach the database, and what a connection may cost.
type Config struct {
	// URL is a postgres:// connection string; Password, if set, replaces its.
	URL, Password string
	// MaxConnections is the size of the pool.
	MaxConnections int
	// StatementTimeout ends a statement in the server, ConnectTimeout an attempt
	// to connect.
	StatementTimeout, ConnectTimeout time.Duration
	// EventsKeep is how long events are kept; 0: 90 days.
	EventsKeep time.Duration
}

const eventsKeep = 90 * 24 * time.Hour

// Store implements [sessions.Store]. It is safe for concurrent use.
type Store struct {
	pool       *pgxpool.Pool
	eventsKeep time.Duration

	mu        sync.Mutex
	sweptUpTo []byte // where the next page of idle-expired sessions begins
}

var _ sessions.Store = (*Store)(nil)

// Open prepares a pool; it connects when it is first used, so a database that is
// away is no error here. Its errors never hold the password.
func Open(ctx context.Context, c Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		// pgx redacts what it recognises as a password; an unparsable URL may
		// hold one where it does not.
		return nil, errors.New("the database URL is not a valid postgres:// connection string")
	}
	if c.Password != "" {
		pc.ConnConfig.Password = c.Password
	}
	if c.MaxConnections > 0 {
		pc.MaxConns = int32(min(c.MaxConnections, 1<<15)) //nolint:gosec // bounded
	}
	if c.ConnectTimeout > 0 {
		pc.ConnConfig.ConnectTimeout = c.ConnectTimeout
	}
	// Through a pooler in transaction mode a named prepared statement may meet
	// another server connection; descriptions may not.
	pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	timeout := c.StatementTimeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = "sessiongate"
	params["timezone"] = "UTC"
	params["statement_timeout"] = fmt.Sprint(timeout.Milliseconds())
	params["idle_in_transaction_session_timeout"] = fmt.Sprint(2 * timeout.Milliseconds())
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, errors.New("the database pool cannot be made from this connection string")
	}
	s := &Store{pool: pool, eventsKeep: c.EventsKeep}
	if s.eventsKeep == 0 {
		s.eventsKeep = eventsKeep
	}
	return s, nil
}

// Close waits for connections in use and closes all.
func (s *Store) Close() { s.pool.Close() }

const rowColumns = `s.handle, s.user_id, s.current, s.previous, s.current_client, s.promoted_at,
	s.next_nonce, s.next_client, s.handed_at, s.hand_outs, s.created_at, s.expires_at, s.absolute_expires_at`

// scan reads rowColumns.
type scan struct {
	handle, current, previous, currentClient, nextNonce, nextClient []byte
	handedAt                                                        *time.Time
}

func (n *scan) into(r *sessions.Row) []any {
	return []any{
		&n.handle, &r.UserID, &n.current, &n.previous, &n.currentClient, &r.PromotedAt,
		&n.nextNonce, &n.nextClient, &n.handedAt, &r.HandOuts, &r.CreatedAt, &r.ExpiresAt, &r.AbsoluteExpiresAt,
	}
}

func (n *scan) finish(r *sessions.Row) {
	copy(r.Handle[:], n.handle)
	copy(r.Current[:], n.current)
	copy(r.Previous[:], n.previous)
	copy(r.CurrentClient[:], n.currentClient)
	copy(r.NextNonce[:], n.nextNonce)
	copy(r.NextClient[:], n.nextClient)
	if n.handedAt != nil {
		r.HandedAt = n.handedAt.UTC()
	}
	for _, t := range []*time.Time{&r.PromotedAt, &r.CreatedAt, &r.ExpiresAt, &r.AbsoluteExpiresAt} {
		*t = t.UTC()
	}
}

// orNull is NULL for the zero value.
func orNull[T comparable](v T, b []byte) []byte {
	var zero T
	if v == zero {
		return nil
	}
	return b
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Create implements [sessions.Store].
func (s *Store) Create(ctx context.Context, n sessions.NewRecord) (sessions.Record, error) {
	const sql = `
		WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now), s AS (
			INSERT INTO sessiongate.sessions (handle, user_id, current, current_client, promoted_at, created_at, expires_at, absolute_expires_at)
			SELECT $1, $2, $3, $4, t.now, t.now, t.now + least($5::interval, $6::interval), t.now + $6::interval FROM t
			RETURNING handle, created_at, expires_at, absolute_expires_at
		), c AS (
			INSERT INTO sessiongate.contents (handle, claims, data) SELECT handle, $7::json, $8::json FROM s RETURNING claims_version
		)
		SELECT s.created_at, s.expires_at, s.absolute_expires_at, c.claims_version FROM s, c`
	rec := sessions.Record{
		Row:    sessions.Row{Handle: n.Handle, UserID: n.UserID, Current: n.Current, CurrentClient: n.CurrentClient},
		Claims: n.Claims, Data: n.Data,
	}
	err := s.pool.QueryRow(ctx, sql, n.Handle[:], n.UserID, n.Current[:], orNull(n.CurrentClient, n.CurrentClient[:]),
		n.SlidingLife, n.AbsoluteLife, string(n.Claims), string(n.Data)).
		Scan(&rec.CreatedAt, &rec.ExpiresAt, &rec.AbsoluteExpiresAt, &rec.ClaimsVersion)
	if err != nil {
		return sessions.Record{}, fmt.Errorf("inserting session: %w", err)
	}
	for _, t := range []*time.Time{&rec.CreatedAt, &rec.ExpiresAt, &rec.AbsoluteExpiresAt} {
		*t = t.UTC()
	}
	rec.PromotedAt = rec.CreatedAt
	return rec, nil
}

// Get implements [sessions.Store].
func (s *Store) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	const sql = `SELECT ` + rowColumns + `, c.claims, c.claims_version, c.data, sessiongate.now()
		FROM sessiongate.sessions s JOIN sessiongate.contents c USING (handle) WHERE s.handle = $1`
	var rec sessions.Record
	var n scan
	var now time.Time
	err := s.pool.QueryRow(ctx, sql, h[:]).Scan(append(n.into(&rec.Row), &rec.Claims, &rec.ClaimsVersion, &rec.Data, &now)...)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Record{}, time.Time{}, sessions.ErrNotFound
	case err != nil:
		return sessions.Record{}, time.Time{}, fmt.Errorf("selecting session: %w", err)
	}
	n.finish(&rec.Row)
	return rec, now.UTC(), nil
}
