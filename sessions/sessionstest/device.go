package sessionstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
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
