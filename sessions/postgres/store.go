package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiongate/sessiongate/sessions"
)

// Config says how to reach the database, and what a connection may cost. Only URL has no default.
type Config struct {
	// URL is a postgres:// connection string. Password, if set, replaces the one in it. Of several
	// hosts, the primary is used, whatever target_session_attrs says.
	URL, Password string
	// MaxConnections is the size of the pool; 0: 10. The feed has one more connection, and the
	// delivery of audit events another one.
	MaxConnections int
	// StatementTimeout ends a statement in the server; 0: 5 seconds. The server also ends a
	// transaction that was left idle for twice StatementTimeout, so that a lost replica keeps no
	// lock. ConnectTimeout ends an attempt to connect to one address; 0: 3 seconds. Half of it ends
	// the attempt if the server does not answer at all.
	//
	// These use two settings of the server, statement_timeout and
	// idle_in_transaction_session_timeout. PgBouncer refuses them unless its
	// ignore_startup_parameters names them; then set them on the role.
	StatementTimeout, ConnectTimeout time.Duration
	// AuditKeep is how long audit events are kept if no process delivers them; 0: 90 days.
	AuditKeep time.Duration
	// PreparedStatements says on which connections statements are prepared by name; empty:
	// [PrepareDirect].
	PreparedStatements string

	lookup pgconn.LookupFunc // nil: the system's; for tests
}

const maxConnections = 1000

// Defaults is a Config that lacks only the URL.
func Defaults() Config {
	return Config{
		MaxConnections: 10, StatementTimeout: 5 * time.Second,
		// This leaves room for the eight round trips of a connection with TLS and a password
		// at 200 ms each, and for the next host within five seconds.
		ConnectTimeout: 3 * time.Second,
		AuditKeep:      90 * 24 * time.Hour, PreparedStatements: PrepareDirect,
	}
}

// Store implements [sessions.Store]. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	// feed is a connection of its own. Refreshes that wait for a lock may hold all other
	// connections; they must not keep an end from being heard.
	feed *pgxpool.Pool
	// outbox is another connection of its own: it waits for the receiver of the audit events.
	outbox *pgxpool.Pool
	// look records signs of another server, silence records missing answers.
	look, silence look
	eras          eras
	opened        atomic.Bool
	// statementMax and transactionMax are how long the store waits for a server that should have
	// ended a statement or a transaction itself.
	statementMax, transactionMax time.Duration

	delivering   sync.Mutex
	deliverMax   time.Duration
	hangUpGrace  time.Duration
	pingIdle     time.Duration
	pingMax      time.Duration
	migratePause time.Duration
	auditKeep    time.Duration
	prepare      string
	audit        bool
	feedPage     int
	endPage      int
	countExactly int
	// creating lets one creation within a limit at a time wait for its user. A hash of the user
	// selects the slot.
	creating [64]chan struct{}

	mu        sync.Mutex
	sweptUpTo []byte // the handle after which the next page of idle-expired sessions begins; not nil
}

var _ sessions.Store = (*Store)(nil)

// Open prepares the pools. They connect when they are first used, so an unreachable database is no
// error here. Its errors never contain the password.
func Open(ctx context.Context, c Config) (*Store, error) {
	defaults := Defaults()
	pc, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		// pgx redacts what it recognises as a password. A URL that cannot be parsed may contain one
		// elsewhere.
		return nil, errors.New("the database URL is not a valid postgres:// connection string (its options too: sslmode is one of Postgres's, and the files of sslrootcert, sslcert and sslkey must be there)")
	}
	if c.Password != "" {
		pc.ConnConfig.Password = c.Password
	}
	pc.MaxConns = int32(min(cmp.Or(c.MaxConnections, defaults.MaxConnections), maxConnections)) //nolint:gosec // bounded
	pc.ConnConfig.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaults.ConnectTimeout)
	d := newDialer(&pc.ConnConfig.Config)
	pc.ConnConfig.DialFunc = d.dial
	if c.lookup == nil {
		c.lookup = pc.ConnConfig.LookupFunc
	}
	pc.ConnConfig.LookupFunc = d.lookup(c.lookup)
	pc.ConnConfig.StatementCacheCapacity, pc.ConnConfig.DescriptionCacheCapacity = statementsMax, statementsMax
	pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	prepare := cmp.Or(c.PreparedStatements, defaults.PreparedStatements)
	if prepare == PrepareNever {
		pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	params := pc.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "sessiongate"
	}
	timeout := cmp.Or(c.StatementTimeout, defaults.StatementTimeout)
	params["statement_timeout"] = milliseconds(timeout)
	params["idle_in_transaction_session_timeout"] = milliseconds(2 * timeout)
	params["client_encoding"] = "UTF8"
	s := &Store{
		deliverMax: deliverMax, hangUpGrace: hangUpGrace, pingIdle: pingIdle, pingMax: pingMax, migratePause: migratePause, statementMax: timeout + silentAfter, transactionMax: transactionMost*timeout + silentAfter,
		prepare: prepare, auditKeep: cmp.Or(c.AuditKeep, defaults.AuditKeep), feedPage: feedPage, endPage: endPage, countExactly: countExactly, sweptUpTo: []byte{},
	}
	for i := range s.creating {
		s.creating[i] = make(chan struct{}, 1)
	}
	pc.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return hangUp{conn.Conn(), &s.hangUpGrace}
	}
	pc.ConnConfig.ValidateConnect = s.validate
	pc.ConnConfig.Tracer = watch{s}
	pc.ShouldPing = s.shouldPing
	pc.BeforeClose = beforeClose
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, errors.New("the database pool cannot be made from this connection string")
	}
	own := pc.Copy()
	own.MinConns, own.MaxConns = 0, 1
	feed, err := pgxpool.NewWithConfig(ctx, own)
	if err != nil {
		pool.Close()
		return nil, errors.New("the database pool cannot be made from this connection string")
	}
	outbox, err := pgxpool.NewWithConfig(ctx, own.Copy())
	if err != nil {
		feed.Close()
		pool.Close()
		return nil, errors.New("the database pool cannot be made from this connection string")
	}
	s.pool, s.feed, s.outbox = pool, feed, outbox
	s.opened.Store(true)
	return s, nil
}

// milliseconds is how Postgres reads a time setting without a unit. 0 would switch the timeout off.
func milliseconds(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }

// Close waits for connections in use and closes all.
func (s *Store) Close() {
	s.outbox.Close()
	s.feed.Close()
	s.pool.Close()
}

const rowColumns = `s.handle, s.user_id, s.current_hash, s.previous_hash, s.current_client, s.promoted_at,
	s.next_nonce, s.next_client, s.issued_at, s.issues, s.created_at, s.expires_at, s.absolute_expires_at, s.device_address, s.device_user_agent,
	s.bound_key, s.bound_at`

// scan reads rowColumns.
type scan struct {
	handle, current, previous, currentClient, nextNonce, nextClient []byte
	boundKey                                                        []byte
	issuedAt, boundAt                                               *time.Time
	address                                                         *netip.Prefix
	userAgent                                                       *string
}

func (n *scan) into(r *sessions.Row) []any {
	return []any{
		&n.handle, &r.UserID, &n.current, &n.previous, &n.currentClient, &r.PromotedAt,
		&n.nextNonce, &n.nextClient, &n.issuedAt, &r.Issues, &r.CreatedAt, &r.ExpiresAt, &r.AbsoluteExpiresAt,
		&n.address, &n.userAgent, &n.boundKey, &n.boundAt,
	}
}

func (n *scan) finish(r *sessions.Row) {
	copy(r.Handle[:], n.handle)
	copy(r.Current[:], n.current)
	copy(r.Previous[:], n.previous)
	copy(r.CurrentClient[:], n.currentClient)
	copy(r.NextNonce[:], n.nextNonce)
	copy(r.NextClient[:], n.nextClient)
	copy(r.BoundKey[:], n.boundKey)
	if n.issuedAt != nil {
		r.IssuedAt = n.issuedAt.UTC()
	}
	if n.boundAt != nil {
		r.BoundAt = n.boundAt.UTC()
	}
	if n.address != nil {
		r.Device.Address = *n.address
	}
	if n.userAgent != nil {
		r.Device.UserAgent = *n.userAgent
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

func textOrNull(b []byte) *string {
	if b == nil {
		return nil
	}
	text := string(b)
	return &text
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// deviceOrNull are the columns of a device.
func deviceOrNull(d sessions.Device) (address *netip.Prefix, userAgent *string) {
	if d.Address.IsValid() {
		address = &d.Address
	}
	if d.UserAgent != "" {
		userAgent = &d.UserAgent
	}
	return address, userAgent
}

// Create implements [sessions.Store].
func (s *Store) Create(ctx context.Context, n sessions.NewRecord) (sessions.Record, error) {
	var rec sessions.Record
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) (err error) {
		rec, err = s.insert(ctx, by, n)
		return err
	})
	return rec, err
}

// insert creates a session, in a statement of its own or as a part of a transaction.
func (s *Store) insert(ctx context.Context, by querier, n sessions.NewRecord) (sessions.Record, error) {
	sql := `
		WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now), s AS (
			INSERT INTO sessiongate.active_sessions (handle, user_id, current_hash, current_client, promoted_at, created_at, expires_at, absolute_expires_at, device_address, device_user_agent)
			SELECT $1, $2, $3, $4, t.now, t.now, t.now + least($5::interval, $6::interval), t.now + $6::interval, $9, $10 FROM t
			RETURNING handle, user_id, created_at, expires_at, absolute_expires_at
		), c AS (
			INSERT INTO sessiongate.session_attributes (handle, claims, data) SELECT handle, $7::json, $8::json FROM s RETURNING claims_version
		)`
	address, userAgent := deviceOrNull(n.Device)
	args := []any{
		n.Handle[:], n.UserID, n.Current[:], orNull(n.CurrentClient, n.CurrentClient[:]),
		n.SlidingLife, n.AbsoluteLife, string(n.Claims), string(n.Data), address, userAgent,
	}
	if s.audit {
		sql += `, audited AS (
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, reason, actor) SELECT 'created', handle, user_id, '', $11 FROM s
		)`
		args = append(args, n.Actor)
	}
	sql += `
		SELECT s.created_at, s.expires_at, s.absolute_expires_at, c.claims_version FROM s, c`
	rec := sessions.Record{
		Row:    sessions.Row{Handle: n.Handle, UserID: n.UserID, Current: n.Current, CurrentClient: n.CurrentClient, Device: n.Device},
		Claims: n.Claims, Data: n.Data,
	}
	err := by.QueryRow(ctx, sql, args...).
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
	return s.get(ctx, h, true)
}

func (s *Store) get(ctx context.Context, h sessions.Handle, withData bool) (sessions.Record, time.Time, error) {
	const sql = `SELECT ` + rowColumns + `, c.claims, c.claims_version, CASE WHEN $2::boolean THEN c.data END AS data, sessiongate.now(),
			current_setting('transaction_read_only')::boolean
		FROM sessiongate.active_sessions s JOIN sessiongate.session_attributes c USING (handle) WHERE s.handle = $1`
	var rec sessions.Record
	var n scan
	var now time.Time
	var fenced bool // a write would fail; what a former primary has is old
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, sql, h[:], withData).Scan(append(n.into(&rec.Row), &rec.Claims, &rec.ClaimsVersion, &rec.Data, &now, &fenced)...)
	})
	switch {
	case fenced:
		s.lookAgain()
		return sessions.Record{}, time.Time{}, fmt.Errorf("%w any more: the server takes no writes", ErrNotPrimary)
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Record{}, time.Time{}, sessions.ErrNotFound
	case err != nil:
		return sessions.Record{}, time.Time{}, fmt.Errorf("selecting session: %w", err)
	}
	n.finish(&rec.Row)
	return rec, now.UTC(), nil
}

// UserRows implements [sessions.Store].
func (s *Store) UserRows(ctx context.Context, userID string, limit int) ([]sessions.Row, error) {
	var list []sessions.Row
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		rows, err := by.Query(ctx, livingOfUser+`
			SELECT `+rowColumns+` FROM s ORDER BY s.created_at DESC, s.handle LIMIT $2`, userID, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r sessions.Row, err error) {
			var n scan
			err = row.Scan(n.into(&r)...)
			n.finish(&r)
			return r, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("selecting the sessions of a user: %w", err)
	}
	return list, nil
}

// Update implements [sessions.Store].
func (s *Store) Update(ctx context.Context, h sessions.Handle, c sessions.Attributes) (sessions.Record, error) {
	// One statement: the feed's entry has the version that the row got. If the session ends while
	// the statement waits for it, it finds none. The row is locked beside the attributes, so that
	// the events of both have one order.
	sql := `
		WITH s AS (
			SELECT ` + rowColumns + ` FROM sessiongate.active_sessions s
			WHERE s.handle = $1 AND least(s.expires_at, s.absolute_expires_at) > sessiongate.now() FOR NO KEY UPDATE
		), c AS (
			UPDATE sessiongate.session_attributes o
			SET claims = coalesce($2::json, o.claims), data = coalesce($3::json, o.data),
				claims_version = o.claims_version + ($2::json IS NOT NULL)::int
			FROM s WHERE o.handle = s.handle
			RETURNING o.handle, o.claims, o.claims_version, o.data
		), fed AS (
			INSERT INTO sessiongate.feed (kind, handle, version) SELECT 'claims', handle, claims_version FROM c WHERE $2::json IS NOT NULL
		)`
	args := []any{h[:], textOrNull(c.Claims), textOrNull(c.Data)}
	if s.audit {
		sql += `, audited AS (
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, reason, actor)
			SELECT changed.kind, s.handle, s.user_id, '', $4
			FROM s JOIN c USING (handle), (VALUES ('claims_changed', $2::json), ('data_changed', $3::json)) AS changed (kind, given)
			WHERE changed.given IS NOT NULL
		)`
		args = append(args, c.Actor)
	}
	sql += `
		SELECT ` + rowColumns + `, c.claims, c.claims_version, c.data FROM s JOIN c USING (handle)`
	var rec sessions.Record
	var n scan
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, sql, args...).Scan(append(n.into(&rec.Row), &rec.Claims, &rec.ClaimsVersion, &rec.Data)...)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Record{}, sessions.ErrNotFound
	case err != nil:
		return sessions.Record{}, fmt.Errorf("updating the session's attributes: %w", err)
	}
	n.finish(&rec.Row)
	return rec, nil
}

// livingOfUser begins a statement: s are the rows of the user $1 that have not expired. They are found
// first, as for EndUser.
const livingOfUser = `
			WITH s AS MATERIALIZED (
				SELECT ` + rowColumns + ` FROM sessiongate.active_sessions s
				WHERE s.user_id = $1 AND least(s.expires_at, s.absolute_expires_at) > sessiongate.now()
			)`

// ListUser implements [sessions.Store].
func (s *Store) ListUser(ctx context.Context, userID string, limit int) ([]sessions.Record, error) {
	var records []sessions.Record
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		// OFFSET 0 keeps the attributes from being joined otherwise than one by one.
		rows, err := by.Query(ctx, livingOfUser+`
			SELECT `+rowColumns+`, c.claims, c.claims_version, c.data
			FROM s, LATERAL (SELECT c.claims, c.claims_version, c.data FROM sessiongate.session_attributes c WHERE c.handle = s.handle OFFSET 0) c
			ORDER BY s.created_at DESC, s.handle LIMIT $2`, userID, limit)
		if err != nil {
			return err
		}
		records, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessions.Record, error) {
			var rec sessions.Record
			var n scan
			err := row.Scan(append(n.into(&rec.Row), &rec.Claims, &rec.ClaimsVersion, &rec.Data)...)
			n.finish(&rec.Row)
			return rec, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("selecting the sessions of a user: %w", err)
	}
	return records, nil
}
