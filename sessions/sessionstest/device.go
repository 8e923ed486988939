package sessionstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
)

// Device is the key of a browser that binds its session, and signs as Chromium does.
type Device struct {
	testing.TB

	key *ecdsa.PrivateKey
}

// NewDevice makes a key.
func NewDevice(tb testing.TB) *Device {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &Device{tb, key}
}

// Registration is the text of a proof that brings its key.
func (d *Device) Registration(challenge sessions.Token) string {
	d.Helper()
	point, err := d.key.PublicKey.Bytes()
	if err != nil {
		d.Fatal(err)
	}
	return d.Sign(fmt.Sprintf(`{"alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":%q,"y":%q},"typ":"dbsc+jwt"}`, encoded(point[1:33]), encoded(point[33:])),
		payloadOf(challenge))
}

// Proof is the text of a proof for a session whose key is registered.
func (d *Device) Proof(challenge sessions.Token) string {
	d.Helper()
	return d.Sign(`{"alg":"ES256","typ":"dbsc+jwt"}`, payloadOf(challenge))
}

// Register and Prove are those proofs as an engine gets them, read.
func (d *Device) Register(challenge sessions.Token) *sessions.Proof {
	d.Helper()
	p := d.Prove(challenge)
	point, err := d.key.PublicKey.Bytes()
	if err != nil {
		d.Fatal(err)
	}
	p.Key, _ = sessions.NewBoundKey(point[1:33], point[33:])
	return p
}

// Prove is the read proof for a session whose key is registered.
func (d *Device) Prove(challenge sessions.Token) *sessions.Proof {
	d.Helper()
	text := d.Proof(challenge)
	dot := strings.LastIndexByte(text, '.')
	raw, err := base64.RawURLEncoding.DecodeString(text[dot+1:])
	if err != nil {
		d.Fatal(err)
	}
	return &sessions.Proof{Challenge: challenge.Reveal(), Signed: text[:dot], Signature: raw}
}

func payloadOf(challenge sessions.Token) string { return fmt.Sprintf(`{"jti":%q}`, challenge.Reveal()) }

// Sign is the JWT of a header and a payload, whatever they are.
func (d *Device) Sign(header, payload string) string {
	d.Helper()
	signed := encoded([]byte(header)) + "." + encoded([]byte(payload))
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, d.key, digest[:])
	if err != nil {
		d.Fatal(err)
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return signed + "." + encoded(raw)
}

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
