package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
)

// A browser binds a session to its device on https alone, and the demo is plain http. So this app
// plays a laptop whose browser can. Its key is in this process; that of a real one is where no
// program can copy it.

const (
	bindPath    = "/auth/session/bind"
	boundPath   = "/auth/session/bound"
	laptopAgent = "laptop/1.0"

	headerOffer     = "Secure-Session-Registration"
	headerChallenge = "Secure-Session-Challenge"
	headerProof     = "Secure-Session-Response"
	headerSession   = "Sec-Secure-Session-Id"
)

// errNoOffer: sessiongate's binding.mode is off.
var errNoOffer = errors.New("the sign-in came without an offer to bind the session")

// laptop is a client of the page's user that binds its session.
type laptop struct {
	*actor

	user      string
	key       *ecdsa.PrivateKey
	challenge string // of the sign-in
	session   string // its device session
}

func newLaptop(base, host, user string, w *wire) *laptop {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // it never fails
	}
	return &laptop{actor: newActor(base, host, laptopAgent, w), user: user, key: key}
}

var (
	offeredForm = regexp.MustCompile(`;challenge="([^"]+)"$`)
	askedForm   = regexp.MustCompile(`^"([^"]+)"`)
)

// found is the challenge in a header, "" for none.
func found(form *regexp.Regexp, value string) string {
	if parts := form.FindStringSubmatch(value); parts != nil {
		return parts[1]
	}
	return ""
}

func (l *laptop) signIn(ctx context.Context, request string) (scene, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, err := json.Marshal(map[string]string{"user": l.user})
	if err != nil {
		return scene{}, err
	}
	s, err := l.send(ctx, asking{method: http.MethodPost, path: loginPath, body: string(body), request: request})
	if err != nil || s.Status != http.StatusOK {
		return s, err
	}
	if l.challenge = found(offeredForm, s.header.Get(headerOffer)); l.challenge == "" {
		return scene{}, errNoOffer
	}
	return s, nil
}

// bind registers the public key (B1).
func (l *laptop) bind(ctx context.Context, request string) (scene, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	header := http.Header{headerProof: {l.signed(l.challenge, true)}}
	s, err := l.send(ctx, asking{method: http.MethodPost, path: bindPath, header: header, request: request})
	if err != nil || s.Status != http.StatusOK {
		return s, err
	}
	var told struct {
		Session string `json:"session_identifier"`
	}
	if err := json.Unmarshal(s.body, &told); err != nil {
		return scene{}, err
	}
	l.session = told.Session
	return s, nil
}

// prove is what a browser does by itself before a request, whenever the bound cookie has ended: it
// asks for a challenge (B3), and signs it (B4).
func (l *laptop) prove(ctx context.Context, request string) (scene, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := asking{method: http.MethodPost, path: boundPath, header: http.Header{headerSession: {l.session}}, request: request}
	s, err := l.send(ctx, q)
	challenge := ""
	if err == nil {
		challenge = found(askedForm, s.header.Get(headerChallenge))
	}
	if challenge == "" {
		return s, err
	}
	q.header.Set(headerProof, l.signed(challenge, false))
	return l.send(ctx, q)
}

// stolen gives a thief a copy of every cookie.
func (l *laptop) stolen() *thief {
	l.mu.Lock()
	defer l.mu.Unlock()
	return newThief(l.base, l.host, l.cookies(), l.antiCSRF, l.wire)
}

// signed is a JWT with the challenge (RFC 7515 §3.1, RFC 7518 §3.4). At the registration it brings
// the public key.
func (l *laptop) signed(challenge string, registers bool) string {
	header := map[string]any{"alg": "ES256", "typ": "dbsc+jwt"}
	if registers {
		point, err := l.key.PublicKey.Bytes() // 4, x and y
		if err != nil {
			panic(err) // it is a point
		}
		header["jwk"] = map[string]string{"kty": "EC", "crv": "P-256", "x": base64url(point[1:33]), "y": base64url(point[33:])}
	}
	text := jwtPart(header) + "." + jwtPart(map[string]string{"jti": challenge})
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, l.key, digest[:])
	if err != nil {
		panic(err) // it never fails
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64url(signature[:])
}

func jwtPart(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts of ours
	}
	return base64url(text)
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
