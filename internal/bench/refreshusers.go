package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
)

// Every request is that of one browser behind Envoy.
const (
	userAgent   = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
	peerAddress = "198.51.100.7"
	connections = 32
)

// user is one signed-in browser.
type user struct {
	handle          sessions.Handle
	current         []byte // hash of the refresh token
	access, refresh string
	offer           string // of binding its session; empty: none
	deviceSession   string // its identifier
}

// userSignIn is what a login service sends.
func userSignIn(apiKey string, i int) []byte {
	body := fmt.Sprintf(`{"user_id":"user-%06d","claims":{"role":"member","plan":"team"},"client":{"address":%q,"user_agent":%q}}`, i, peerAddress, userAgent)
	return fmt.Appendf(nil, "POST /v1/sessions HTTP/1.1\r\nHost: sessiongate.internal\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", apiKey, len(body), body)
}

func isCreated(_ int, head, _ []byte) error {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 201 ")) {
		return refused(head, "201")
	}
	return nil
}

// signIn signs n users in, each with a request of its own.
func (d *deployment) signInAll(ctx context.Context, at *child, n int) ([]user, error) {
	users := make([]user, n)
	requests := make([][]byte, n)
	for i := range requests {
		requests[i] = userSignIn(d.apiKey, i)
	}
	_, err := closedLoop{address: at.at.Internal, connections: connections, requests: requests, once: true, judge: func(i int, head, body []byte) error {
		if err := isCreated(i, head, body); err != nil {
			return err
		}
		var answer createdSession
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		handle, err := sessions.ParseHandle(answer.Session.Handle)
		users[i] = user{handle: handle, access: answer.Tokens.Access, refresh: answer.Tokens.Refresh, offer: answer.Headers["secure-session-registration"]}
		return err
	}}.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("signing users in: %w", err)
	}
	if err := d.age(ctx, at); err != nil {
		return nil, err
	}
	for i, u := range users {
		if err := d.db.QueryRow(ctx, `SELECT current_hash FROM sessiongate.active_sessions WHERE handle = $1`, u.handle[:]).Scan(&users[i].current); err != nil {
			return nil, fmt.Errorf("reading a session: %w", err)
		}
	}
	// The rows as they are now, to which every turn returns.
	return users, errors.Join(
		d.execute(ctx, `CREATE SCHEMA IF NOT EXISTS bench`),
		d.execute(ctx, `DROP TABLE IF EXISTS bench.sessions, bench.attributes`),
		d.execute(ctx, `CREATE TABLE bench.sessions AS TABLE sessiongate.active_sessions`),
		d.execute(ctx, `CREATE TABLE bench.attributes AS TABLE sessiongate.session_attributes`),
	)
}

// age moves the store's clock forward, and has a process read it: by refreshAttemptMax and more, since
// most tokens that are refreshed are older.
func (d *deployment) age(ctx context.Context, at *child) error {
	d.ahead += 2 * refreshAttemptMax
	if err := setClock(ctx, d.url, fmt.Sprintf("+ interval '%d seconds'", int(d.ahead.Seconds()))); err != nil {
		return err
	}
	// What ends nothing reads the feed.
	_, err := ask(ctx, http.MethodDelete, "http://"+at.at.Internal+"/v1/users/absent/sessions", d.apiKey, nil)
	return err
}

// browserRequest is a request of a user's browser at the auth path, as Envoy passes it on. The
// header x-bench is for the bare handler, which does not know what is in a token.
func (u user) browserRequest(path string) []byte {
	lines := []string{
		"POST " + path + " HTTP/1.1",
		"Host: app.example.com",
		"User-Agent: " + userAgent,
		"Accept: */*",
		"Accept-Language: en-GB,en;q=0.9",
		"Accept-Encoding: gzip, deflate, br, zstd",
		"Origin: https://app.example.com",
		"Referer: https://app.example.com/",
		"Sec-Fetch-Site: same-origin",
		"Sec-Fetch-Mode: cors",
		"Sec-Fetch-Dest: empty",
		"Cookie: sAccessToken=" + u.access + "; sRefreshToken=" + u.refresh,
		"X-Forwarded-Proto: https",
		"X-Request-Id: 8f14e45f-ceea-467f-ab10-1d1e1a2b3c4d",
		"X-Sessiongate-Peer: " + peerAddress,
		"X-Bench: " + hex.EncodeToString(append(u.handle[:], u.current...)),
		"Content-Length: 0",
	}
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

func browserRequests(users []user, path string) [][]byte {
	requests := make([][]byte, len(users))
	for i, u := range users {
		requests[i] = u.browserRequest(path)
	}
	return requests
}

// state is how the rows of all users are before a turn.
type state struct{ name, sql string }

// In the statements, $1 is the digest of the browser, o the row as it was after the sign-in.
var (
	// due: the current token is old enough for a child, and has none (R4).
	due = state{"due", `UPDATE sessiongate.active_sessions s SET current_hash = o.current_hash, previous_hash = NULL, current_client = $1,
		promoted_at = sessiongate.now() - interval '1 hour', next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0
		FROM bench.sessions o WHERE s.handle = o.handle`}
	// issued: a child was issued a moment ago, and not used yet (R5).
	issued = state{"issued", `UPDATE sessiongate.active_sessions s SET current_hash = o.current_hash, previous_hash = NULL, current_client = $1,
		promoted_at = sessiongate.now() - interval '1 hour', next_nonce = substr(o.current_hash, 1, 16), next_client = $1, issued_at = sessiongate.now(), issues = 1
		FROM bench.sessions o WHERE s.handle = o.handle`}
	// young: the current token became so a moment ago (R3).
	young = state{"young", `UPDATE sessiongate.active_sessions s SET current_hash = o.current_hash, previous_hash = NULL, current_client = $1,
		promoted_at = sessiongate.now(), next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0
		FROM bench.sessions o WHERE s.handle = o.handle`}
	// replaced: another token became current a moment ago (R7).
	replaced = state{"replaced", `UPDATE sessiongate.active_sessions s SET current_hash = sha256(o.current_hash), previous_hash = o.current_hash, current_client = $1,
		promoted_at = sessiongate.now(), next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0
		FROM bench.sessions o WHERE s.handle = o.handle`}
)

// set puts all users into a state. The table is vacuumed, so that each turn finds it the same.
func (d *deployment) set(ctx context.Context, s state) error {
	client := sessions.NewClient(netip.MustParseAddr(peerAddress), userAgent)
	return errors.Join(d.execute(ctx, s.sql, client[:]), d.execute(ctx, `VACUUM sessiongate.active_sessions`))
}

func (d *deployment) before(s state) func(context.Context) error {
	return func(ctx context.Context) error { return d.set(ctx, s) }
}

// restore brings back the users who signed out, and removes those who came later.
func (d *deployment) restore(ctx context.Context) error {
	return errors.Join(
		d.execute(ctx, `DELETE FROM sessiongate.active_sessions s WHERE NOT EXISTS (SELECT FROM bench.sessions o WHERE o.handle = s.handle)`),
		d.execute(ctx, `INSERT INTO sessiongate.active_sessions TABLE bench.sessions ON CONFLICT DO NOTHING`),
		d.execute(ctx, `INSERT INTO sessiongate.session_attributes TABLE bench.attributes ON CONFLICT DO NOTHING`),
		d.execute(ctx, `TRUNCATE sessiongate.audit_events`),
		d.execute(ctx, `VACUUM sessiongate.active_sessions, sessiongate.session_attributes, sessiongate.feed`),
	)
}
