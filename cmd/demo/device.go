package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
)

// device is the key of a browser, and what the browser knows of its device session (docs/bound.md).
// Browsers bind sessions on https alone, and this demo has none: a key in this program plays theirs.
type device struct {
	key       *ecdsa.PrivateKey
	challenge string // the last one that came, "" for none
	session   string // that it proves its key for
}

func newDevice() *device {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // it never fails
	}
	return &device{key: key}
}

var (
	offeredChallenge = regexp.MustCompile(`^\(ES256\);path="[^"]+";challenge="([^"]+)"$`)
	askedChallenge   = regexp.MustCompile(`^"([^"]+)";id="[^"]+"$`)
)

// hear keeps what an answer tells the browser.
func (d *device) hear(a answer) {
	for name, form := range map[string]*regexp.Regexp{
		"Secure-Session-Registration": offeredChallenge, "Secure-Session-Challenge": askedChallenge,
	} {
		if found := form.FindStringSubmatch(a.header.Get(name)); found != nil {
			d.challenge = found[1]
		}
	}
	var told struct {
		Session string `json:"session_identifier"`
	}
	if json.Unmarshal([]byte(a.body), &told) == nil && told.Session != "" {
		d.session = told.Session
	}
}

// register adds a proof that brings the public key.
func (d *device) register(h http.Header) { h.Set("Secure-Session-Response", d.signed(true)) }

// ask names the session, and proves nothing yet.
func (d *device) ask(h http.Header) { h.Set("Sec-Secure-Session-Id", d.session) }

// prove adds a proof for the session.
func (d *device) prove(h http.Header) {
	d.ask(h)
	h.Set("Secure-Session-Response", d.signed(false))
}

// signed is a JWT with the challenge (RFC 7515 §3.1, RFC 7518 §3.4).
func (d *device) signed(withKey bool) string {
	header := map[string]any{"alg": "ES256", "typ": "dbsc+jwt"}
	if withKey {
		point, err := d.key.PublicKey.Bytes() // 4, x and y
		if err != nil {
			panic(err) // it is a point
		}
		header["jwk"] = map[string]string{"kty": "EC", "crv": "P-256", "x": base64url(point[1:33]), "y": base64url(point[33:])}
	}
	text := part(header) + "." + part(map[string]string{"jti": d.challenge})
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, d.key, digest[:])
	if err != nil {
		panic(err) // it never fails
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64url(signature[:])
}

func part(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts of ours
	}
	return base64url(text)
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// endsDeviceSession: the browser is told that it has no device session.
func endsDeviceSession(a answer) error {
	var told struct {
		Continue *bool `json:"continue"`
	}
	if json.Unmarshal([]byte(a.body), &told) != nil || told.Continue == nil || *told.Continue {
		return fmt.Errorf("want continue: false, got %q", a.body)
	}
	return setsOnly()(a)
}
