package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// boundGoal is the ratio of throughput that a cost of 1.5 leaves.
const boundGoal = 0.67

// In the statements, $1 is the public key of every browser.
const (
	// proven: the session was proven a moment ago, so the next proof writes nothing. This is so for all but
	// one proof in an hour.
	proven = `UPDATE sessiongate.active_sessions SET bound_key = $1, bound_at = sessiongate.now(), next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0`
	// provenBefore: the next proof writes.
	provenBefore = `UPDATE sessiongate.active_sessions SET bound_key = $1, bound_at = sessiongate.now() - interval '2 hours',
		next_nonce = NULL, next_client = NULL, issued_at = NULL, issues = 0`
	unbind = `UPDATE sessiongate.active_sessions SET bound_key = NULL, bound_at = NULL`
)

// boundPart measures a refresh of a bound session, which takes two requests, beside one that rotates.
func boundPart(ctx context.Context, b *bench) ([]result, error) {
	d, err := deploy(ctx, b, cluster.Options{Durable: true})
	if err != nil {
		return nil, err
	}
	defer d.stop(ctx)
	ours, err := d.serve(ctx, b.sessiongate, "SESSIONGATE_BINDING_MODE=offer", "SESSIONGATE_BINDING_CHALLENGE_LIFE=10m")
	if err != nil {
		return nil, err
	}
	users, err := d.signInAll(ctx, ours, b.population())
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	at := rival{pid: ours.PID(), address: ours.at.Public}
	if err := register(ctx, at.address, users, key); err != nil {
		return nil, err
	}
	rotating := func(ctx context.Context) (measurement, time.Duration, error) {
		r := at
		r.requests = browserRequests(users, refreshPath)
		return d.play(ctx, action{
			before: func(ctx context.Context) error { return errors.Join(d.execute(ctx, unbind), d.set(ctx, due)) },
			once:   true, judge: answers(true), after: d.issuedOnce,
		}, r)
	}
	proving := func(state string) turn {
		return func(ctx context.Context) (m measurement, postgres time.Duration, err error) {
			point, err := key.PublicKey.Bytes()
			if err != nil {
				return m, 0, err
			}
			compressed := append([]byte{2 + point[len(point)-1]&1}, point[1:33]...)
			if err := errors.Join(d.execute(ctx, state, compressed), d.execute(ctx, `VACUUM sessiongate.active_sessions`)); err != nil {
				return m, 0, err
			}
			r := at
			if r.requests, err = proofs(ctx, at.address, users, key); err != nil {
				return m, 0, err
			}
			m, postgres, err = d.play(ctx, action{before: func(context.Context) error { return nil }, once: true, judge: isProof}, r)
			m.requests /= 2
			return m, postgres, err
		}
	}
	table, err := d.run(ctx, contest{
		title: "refresh of a bound session", unit: "refreshes",
		why:        "A refresh with a proof is two requests: one gets a challenge, one brings the proof. Aim: at most 1.5 times the cost of one that rotates.",
		contenders: []contender{{name: "rotation (R4)"}, {name: "challenge and proof (B3, B4)"}, {name: "the same, once in an hour: it writes"}},
		goal:       map[string]float64{"challenge and proof (B3, B4)": boundGoal},
	}, []turn{rotating, proving(proven), proving(provenBefore)})
	return []result{table}, err
}

// register binds the session of each user to the key, and keeps the identifier of its device session.
func register(ctx context.Context, address string, users []user, key *ecdsa.PrivateKey) error {
	point, err := key.PublicKey.Bytes() // 4, x and y
	if err != nil {
		return err
	}
	header := fmt.Sprintf(`{"alg":"ES256","typ":"dbsc+jwt","jwk":{"kty":"EC","crv":"P-256","x":%q,"y":%q}}`,
		base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:]))
	offered, named := regexp.MustCompile(`challenge="([^"]+)"`), regexp.MustCompile(`"session_identifier":"([^"]+)"`)
	requests := make([][]byte, len(users))
	for i, u := range users {
		challenge := offered.FindStringSubmatch(u.offer)
		if challenge == nil {
			return errors.New("a sign-in offers no registration")
		}
		proof, err := proofOf(key, header, challenge[1])
		if err != nil {
			return err
		}
		requests[i] = withHeader(u.browserRequest("/auth/session/bind"), "Secure-Session-Response: "+proof)
	}
	_, err = closedLoop{address: address, connections: connections, requests: requests, once: true, judge: func(i int, head, body []byte) error {
		found := named.FindSubmatch(body)
		if found == nil {
			return refused(head, "200 with the identifier of a device session")
		}
		users[i].deviceSession = string(found[1])
		return nil
	}}.run(ctx)
	if err != nil {
		return fmt.Errorf("registering keys: %w", err)
	}
	return nil
}

// proofs are two requests of each user, without a proof and with it. The challenges are asked for and
// signed before the turn: that is the work of browsers.
func proofs(ctx context.Context, address string, users []user, key *ecdsa.PrivateKey) ([][]byte, error) {
	const path = "/auth/session/bound"
	requests := make([][]byte, len(users))
	for i, u := range users {
		requests[i] = withHeader(u.browserRequest(path), "Sec-Secure-Session-Id: "+u.deviceSession)
	}
	challenge := regexp.MustCompile(`(?i)Secure-Session-Challenge: "([^"]+)"`)
	signed := make([]string, len(users))
	_, err := closedLoop{address: address, connections: connections, requests: requests, once: true, judge: func(i int, head, _ []byte) error {
		found := challenge.FindSubmatch(head)
		if found == nil {
			return refused(head, "403 with a challenge")
		}
		signed[i] = string(found[1])
		return nil
	}}.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for challenges: %w", err)
	}
	pairs := make([][]byte, 0, 2*len(users))
	for i, request := range requests {
		proof, err := proofOf(key, `{"alg":"ES256","typ":"dbsc+jwt"}`, signed[i])
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, request, withHeader(request, "Secure-Session-Response: "+proof))
	}
	return pairs, nil
}

func withHeader(request []byte, line string) []byte {
	return bytes.Replace(request, []byte("\r\nContent-Length:"), []byte("\r\n"+line+"\r\nContent-Length:"), 1)
}

func proofOf(key *ecdsa.PrivateKey, header, challenge string) (string, error) {
	parts := []string{header, `{"jti":"` + challenge + `"}`}
	for i, part := range parts {
		parts[i] = base64.RawURLEncoding.EncodeToString([]byte(part))
	}
	text := strings.Join(parts, ".")
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:]), nil
}

// isProof wants the answers of pairs: a challenge, then an access token.
func isProof(i int, head, _ []byte) error {
	want := "200"
	if i%2 == 0 {
		want = "403"
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 "+want+" ")) {
		return refused(head, want)
	}
	return nil
}
