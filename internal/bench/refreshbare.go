package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The bare handlers are what sessiongate is measured against: the standard library's HTTP server,
// the same statements, and one ES256 signature of a token of the same size. They open no token,
// decide nothing and check nothing.

// The statements of sessions/postgres: Get, Swap, Rotate, Create, End and Promote. They are copied, so that this file
// stays what it is while sessiongate changes; a test holds them against what the server is sent.
const (
	getSQL = `SELECT s.handle, s.user_id, s.current_hash, s.previous_hash, s.current_client, s.promoted_at,
	s.next_nonce, s.next_client, s.issued_at, s.issues, s.created_at, s.expires_at, s.absolute_expires_at, s.device_address, s.device_user_agent,
	s.bound_key, s.bound_at, c.claims, c.claims_version, CASE WHEN $2::boolean THEN c.data END AS data, sessiongate.now(),
			current_setting('transaction_read_only')::boolean
		FROM sessiongate.active_sessions s JOIN sessiongate.session_attributes c USING (handle) WHERE s.handle = $1`
	swapSQL = `UPDATE sessiongate.active_sessions
		SET current_hash = $4, previous_hash = $5, current_client = $6, promoted_at = $7,
			next_nonce = $8, next_client = $9, issued_at = $10, issues = $11, expires_at = $12, device_address = $13, device_user_agent = $14,
			bound_key = $17, bound_at = $18
		WHERE handle = $1 AND current_hash = $2 AND issued_at IS NOT DISTINCT FROM $3
			AND bound_key IS NOT DISTINCT FROM $15 AND bound_at IS NOT DISTINCT FROM $16`
	rotateSQL = `WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now), s AS MATERIALIZED (
			SELECT s.handle, s.user_id, s.current_hash, s.previous_hash, s.current_client, s.promoted_at,
	s.next_nonce, s.next_client, s.issued_at, s.issues, s.created_at, s.expires_at, s.absolute_expires_at, s.device_address, s.device_user_agent,
	s.bound_key, s.bound_at, c.claims, c.claims_version, CASE WHEN $9::boolean THEN c.data END AS data, t.now
			FROM t, sessiongate.active_sessions s JOIN sessiongate.session_attributes c USING (handle) WHERE s.handle = $1
		), rotated AS (
			UPDATE sessiongate.active_sessions o
			SET next_nonce = $3, next_client = $4, issued_at = s.now, issues = s.issues + 1,
				expires_at = least(s.now + $7::interval, s.absolute_expires_at),
				device_address = $10, device_user_agent = $11
			FROM s
			WHERE s.current_hash = $2 AND s.expires_at > s.now AND s.absolute_expires_at > s.now
				AND s.promoted_at + $5::interval <= s.now AND (s.issued_at IS NULL OR s.issued_at + $6::interval <= s.now)
				AND s.issues < $8 AND s.bound_at IS NULL
				AND o.handle = $1 AND o.current_hash = s.current_hash AND o.issued_at IS NOT DISTINCT FROM s.issued_at AND o.bound_at IS NULL
			RETURNING o.handle, o.user_id
		)
		SELECT s.handle, s.user_id, s.current_hash, s.previous_hash, s.current_client, s.promoted_at,
	s.next_nonce, s.next_client, s.issued_at, s.issues, s.created_at, s.expires_at, s.absolute_expires_at, s.device_address, s.device_user_agent,
	s.bound_key, s.bound_at, s.claims, s.claims_version, s.data, s.now, EXISTS (SELECT FROM rotated) FROM s`
	createSQL = `WITH t AS MATERIALIZED (SELECT sessiongate.now() AS now), s AS (
			INSERT INTO sessiongate.active_sessions (handle, user_id, current_hash, current_client, promoted_at, created_at, expires_at, absolute_expires_at, device_address, device_user_agent)
			SELECT $1, $2, $3, $4, t.now, t.now, t.now + least($5::interval, $6::interval), t.now + $6::interval, $9, $10 FROM t
			RETURNING handle, user_id, created_at, expires_at, absolute_expires_at
		), c AS (
			INSERT INTO sessiongate.session_attributes (handle, claims, data) SELECT handle, $7::json, $8::json FROM s RETURNING claims_version
		)
		SELECT s.created_at, s.expires_at, s.absolute_expires_at, c.claims_version FROM s, c`
	endSQL = `WITH gone AS (
			DELETE FROM sessiongate.active_sessions WHERE handle = $4 RETURNING handle, user_id
		), fed AS (
			INSERT INTO sessiongate.feed (kind, handle, reason) SELECT 'ended', handle, $1 FROM gone
		), audited AS (
			INSERT INTO sessiongate.audit_events (kind, handle, user_id, rule, reason, actor) SELECT 'ended', handle, user_id, $3, $1, $2 FROM gone
		)
		SELECT handle FROM gone`
	promoteSQL = `WITH s AS MATERIALIZED (
		SELECT s.handle, s.current_hash, p.parent, p.own
		FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS p (handle, parent, own) JOIN sessiongate.active_sessions s USING (handle)
		WHERE s.current_hash <> p.own AND s.previous_hash IS DISTINCT FROM p.own
		ORDER BY s.handle FOR NO KEY UPDATE OF s
	), won AS (
		UPDATE sessiongate.active_sessions o
		SET previous_hash = o.current_hash, current_hash = s.own, current_client = o.next_client, promoted_at = sessiongate.now(),
			next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0
		FROM s WHERE o.handle = s.handle AND s.current_hash = s.parent
	), lost AS (
		INSERT INTO sessiongate.feed (kind, handle, token_hash) SELECT 'lost', handle, own FROM s WHERE current_hash <> parent
	)
	SELECT`
)

// bareCommand is the benchmark itself as the server of the bare handlers.
const bareCommand = "bare-refresh"

// serveBare serves the bare handlers on the database at url, and writes the address to a file.
func serveBare(ctx context.Context, url, file string) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.MaxConns = barePool
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	b := &bare{pool: pool, key: key, first: make(chan promotion, promotionsMax)}
	signed := sha256.Sum256([]byte("some token"))
	if b.signature, err = ecdsa.SignASN1(rand.Reader, key, signed[:]); err != nil {
		return err
	}
	go b.promoteAll(ctx)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /promote", b.promote)
	mux.HandleFunc("GET /promoted", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, b.promoted.Load()) })
	mux.HandleFunc("POST /issue", b.issue)
	mux.HandleFunc("POST /keep", b.keep)
	mux.HandleFunc("POST /create", b.create)
	mux.HandleFunc("POST /end", b.end)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(`{"public":"`+l.Addr().String()+`"}`), 0o600); err != nil { //nolint:gosec // the file is named by the benchmark, which starts this process
		return err
	}
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(l)
}

// barePool is how many connections the bare server has: as many as sessiongate by default.
const barePool = 10

type bare struct {
	pool      *pgxpool.Pool
	key       *ecdsa.PrivateKey
	signature []byte // of some token
	first     chan promotion
	promoted  atomic.Int64
}

// promotion is a first use.
type promotion struct{ handle, parent, own []byte }

// row is what is read of a session.
type row struct {
	handle, current, previous, client, nonce, nextClient []byte
	user                                                 string
	issues                                               int
	promoted, created, expires, absolute, now            time.Time
	issued, bound                                        *time.Time
	boundKey                                             []byte
	claims, data                                         []byte
	version                                              int64
	address                                              *netip.Prefix
	userAgent                                            *string
}

// scan are the columns of the row.
func (r *row) scan(more ...any) []any {
	return append([]any{
		&r.handle, &r.user, &r.current, &r.previous, &r.client, &r.promoted,
		&r.nonce, &r.nextClient, &r.issued, &r.issues, &r.created, &r.expires, &r.absolute,
		&r.address, &r.userAgent, &r.boundKey, &r.bound, &r.claims, &r.version,
	}, more...)
}

// keep reads the session and signs: R3, R5 and R7.
func (b *bare) keep(w http.ResponseWriter, r *http.Request) {
	handle, _, err := named(r)
	if err == nil {
		var row row
		var fenced bool
		err = b.pool.QueryRow(r.Context(), getSQL, handle, false).Scan(row.scan(&row.data, &row.now, &fenced)...)
	}
	b.answer(w, http.StatusOK, err)
}

// issue reads and writes the session and signs: R4.
func (b *bare) issue(w http.ResponseWriter, r *http.Request) {
	handle, current, err := named(r)
	if err == nil {
		nonce := make([]byte, 16+16)
		_, _ = rand.Read(nonce)
		var row row
		var rotated bool
		err = b.pool.QueryRow(r.Context(), rotateSQL, handle, current, nonce[:16], nonce[16:], time.Minute, 150*time.Second, 30*24*time.Hour, 100, false, bareNetwork, userAgent).
			Scan(row.scan(&row.data, &row.now, &rotated)...)
		if err == nil && !rotated {
			err = errors.New("the session is not due")
		}
	}
	b.answer(w, http.StatusOK, err)
}

// bareNetwork is that of the client, which is written with its User-Agent.
var bareNetwork = netip.MustParsePrefix("192.0.2.0/24")

// named are the handle and the token hash that a request names.
func named(r *http.Request) (handle, current []byte, err error) {
	names, err := hex.DecodeString(r.Header.Get("X-Bench"))
	if err == nil && len(names) != 16+32 {
		err = errors.New("X-Bench has no handle and token hash")
	}
	if err != nil {
		return nil, nil, err
	}
	return names[:16], names[16:], nil
}

// create makes a session and signs.
func (b *bare) create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil && len(body) == 0 {
		err = errors.New("no body")
	}
	if err == nil {
		secret := make([]byte, 16+32+16)
		_, _ = rand.Read(secret)
		var row row
		err = b.pool.QueryRow(r.Context(), createSQL, secret[:16], "user-000000", secret[16:48], secret[48:], 30*24*time.Hour, 100*24*time.Hour,
			`{"role":"member","plan":"team"}`, `{}`, bareNetwork, userAgent).Scan(&row.created, &row.expires, &row.absolute, &row.version)
	}
	b.answer(w, http.StatusCreated, err)
}

// end deletes the session. Nothing is signed.
func (b *bare) end(w http.ResponseWriter, r *http.Request) {
	handle, _, err := named(r)
	if err == nil {
		err = b.pool.QueryRow(r.Context(), endSQL, "signed_out", "sign-out", "", handle).Scan(&handle)
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, "{}")
}

// promote verifies a signature and queues the promotion.
func (b *bare) promote(w http.ResponseWriter, r *http.Request) {
	handle, _, err := named(r)
	parent, own, _ := strings.Cut(r.Header.Get(lineageHeader), ".")
	p := promotion{handle: handle}
	var parentErr, ownErr error
	p.parent, parentErr = base64.RawURLEncoding.DecodeString(parent)
	p.own, ownErr = base64.RawURLEncoding.DecodeString(own)
	digest := sha256.Sum256([]byte("some token"))
	if errors.Join(err, parentErr, ownErr) != nil || !ecdsa.VerifyASN1(&b.key.PublicKey, digest[:], b.signature) {
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	b.first <- p
	_, _ = io.WriteString(w, "{}")
}

// promoteAll writes batches as sessiongate's promoter does: at most promotionBatch rows, gathered for
// at most promotionGather.
func (b *bare) promoteAll(ctx context.Context) {
	const promotionGather = 20 * time.Millisecond
	for {
		batch := []promotion{<-b.first}
		wait := time.After(promotionGather)
	gather:
		for len(batch) < promotionBatch {
			select {
			case p := <-b.first:
				batch = append(batch, p)
			case <-wait:
				break gather
			}
		}
		if err := b.write(ctx, batch); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "promoting:", err)
			continue
		}
		b.promoted.Add(int64(len(batch)))
	}
}

func (b *bare) write(ctx context.Context, batch []promotion) error {
	var handles, parents, owns [][]byte
	for _, p := range batch {
		handles, parents, owns = append(handles, p.handle), append(parents, p.parent), append(owns, p.own)
	}
	_, err := b.pool.Exec(ctx, promoteSQL, handles, parents, owns)
	return err
}

// answer signs a token and answers with it.
func (b *bare) answer(w http.ResponseWriter, status int, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	const payload = `{"iss":"sessiongate","sub":"user-000000","sid":"AAAAAAAAAAAAAAAAAAAAAA","iat":1790000000,"exp":1790003600,"auth_time":1790000000,` +
		`"role":"member","plan":"team","sg":{"own":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","parent":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",` +
		`"csrf":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","tag":"AAAAAAAAAAAAAAAAAAAAAA"}}`
	text := "eyJhbGciOiJFUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	digest := sha256.Sum256([]byte(text))
	signature, err := ecdsa.SignASN1(rand.Reader, b.key, digest[:])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Set-Cookie", "sAccessToken="+text+"."+base64.RawURLEncoding.EncodeToString(signature))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "{}")
}
