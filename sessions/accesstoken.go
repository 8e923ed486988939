package sessions

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// All use of jwx is in this file. It signs, makes JWKs, and verifies one
// signature with one given key and algorithm, behind an exact match of the
// encoded header. So no header field of a token is ever interpreted: alg
// confusion, crit, b64, jwk, jku, nested and JSON serialisations (RFC 8725)
// have nothing to talk to.

const (
	tokenType      = "session+jwt"
	accessTokenMax = 3500 // bytes of a token that we make: room for the other cookies
	leeway         = 5 * time.Second
)

// reservedClaims are ours or registered with a meaning (RFC 7519 §4.1, RFC 9068
// §2.2); custom claims may not have these names.
var reservedClaims = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true,
	"sid": true, "auth_time": true, "sg": true,
}

// IsReservedClaim says whether no session can have a custom claim of that name.
func IsReservedClaim(name string) bool { return reservedClaims[name] }

// accessClaims is the payload of an access token.
type accessClaims struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Session  string         `json:"sid"`
	IssuedAt int64          `json:"iat"`
	Expires  int64          `json:"exp"`
	AuthTime int64          `json:"auth_time"`
	Gate     gateClaims     `json:"sg"`
	Custom   jsontext.Value `json:",embed"`
}

// gateClaims is the reserved object of an access token.
type gateClaims struct {
	Own       string    `json:"own"`
	Parent    string    `json:"parent,omitempty"` // until it was promoted
	CSRF      string    `json:"csrf"`
	Version   int64     `json:"ver"`
	Transport Transport `json:"tr"`
}

// Access is a verified access token. It is shared and must not be changed.
type Access struct {
	Handle    Handle
	UserID    string
	Transport Transport
	AuthTime  time.Time
	IssuedAt  time.Time
	Expires   time.Time
	// Claims is the JSON object of the custom claims; EncodedClaims its
	// base64url text, as headers carry it.
	Claims        []byte
	EncodedClaims string

	at      place // its transport is Transport
	version int64
	key     *signingKey
}

// IsAccessToken says whether a bearer token calls itself an access token of ours.
// Systems use Authorization for tokens of their own; those are not ours to judge.
// Nothing is believed by it.
func IsAccessToken(text string) bool {
	header, _, ok := strings.Cut(text, ".")
	var buf [256]byte // ours are of some 100 bytes
	if !ok || len(header) > len(buf) {
		return false
	}
	n, err := base64url.Decode(buf[:], []byte(header))
	return err == nil && bytes.Contains(buf[:n], []byte(`"typ":"`+tokenType+`"`))
}

// MatchesAntiCSRF says, in constant time, whether text is the session's
// anti-CSRF token.
func (a *Access) MatchesAntiCSRF(text string) bool {
	d := csrfDigest(text)
	return subtle.ConstantTimeCompare(a.at.csrf[:], d[:]) == 1
}

func newSigningSecret() ([]byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(private)
}

func newSigningKey(s StoredKey, secret []byte) (*signingKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, errors.New("not a PKCS #8 private key")
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("not a P-256 key")
	}
	k := &signingKey{id: s.ID, private: private, activeFrom: s.ActiveFrom}
	token, err := k.sign([]byte("{}"))
	if err != nil {
		return nil, err
	}
	k.header, _, _ = strings.Cut(token, ".")
	return k, nil
}

func (k *signingKey) sign(payload []byte) (string, error) {
	headers := jws.NewHeaders()
	if err := errors.Join(headers.Set(jws.TypeKey, tokenType), headers.Set(jws.KeyIDKey, k.id.String())); err != nil {
		return "", err
	}
	token, err := jws.Sign(payload, jws.WithKey(jwa.ES256, k.private, jws.WithProtectedHeaders(headers)))
	return string(token), err
}

// publicJWK is the key's entry in the JWK Set (RFC 7517).
func (k *signingKey) publicJWK() (jwk.Key, error) {
	key, err := jwk.FromRaw(&k.private.PublicKey)
	if err != nil {
		return nil, err
	}
	return key, errors.Join(
		key.Set(jwk.KeyIDKey, k.id.String()),
		key.Set(jwk.AlgorithmKey, jwa.ES256),
		key.Set(jwk.KeyUsageKey, jwk.ForSignature),
	)
}

// jwks is the JSON text of the JWK Set: public members only.
func (r *keyring) jwks() ([]byte, error) {
	set := jwk.NewSet()
	for _, k := range r.signers {
		key, err := k.publicJWK()
		if err != nil {
			return nil, fmt.Errorf("making JWK of %s: %w", k.id, err)
		}
		if err := set.AddKey(key); err != nil {
			return nil, fmt.Errorf("adding JWK of %s: %w", k.id, err)
		}
	}
	return json.Marshal(set)
}

// place is where an access token stands in its session's line: the mark of its
// refresh token and, until that was promoted, of its parent; and what it shares
// with all of the session's.
type place struct {
	own, parent Mark
	csrf        [32]byte
	transport   Transport
}

// payload is the JSON payload of an access token for the session rec. It expires
// with the session at the latest (I5).
func (e *Engine) payload(rec Record, p place, now, expires time.Time) ([]byte, time.Time, error) {
	expires = earlier(expires, earlier(rec.ExpiresAt, rec.AbsoluteExpiresAt))
	claims := accessClaims{
		Issuer: e.cfg.Issuer, Subject: rec.UserID, Session: rec.Handle.String(),
		IssuedAt: now.Unix(), Expires: expires.Unix(), AuthTime: rec.CreatedAt.Unix(),
		Gate:   gateClaims{Own: encode(p.own[:]), CSRF: encode(p.csrf[:]), Version: rec.ClaimsVersion, Transport: p.transport},
		Custom: rec.Claims,
	}
	if p.parent != (Mark{}) {
		claims.Gate.Parent = encode(p.parent[:])
	}
	payload, err := json.Marshal(claims)
	return payload, time.Unix(claims.Expires, 0).UTC(), err
}

func (e *Engine) mint(rec Record, p place, now, expires time.Time) (minted, error) {
	payload, expires, err := e.payload(rec, p, now, expires)
	if err != nil {
		return minted{}, fmt.Errorf("marshalling access token: %w", err)
	}
	signer := e.keys.Load().signer(now)
	if signer == nil {
		return minted{}, errNoKey
	}
	text, err := signer.sign(payload)
	if err != nil {
		return minted{}, fmt.Errorf("signing access token: %w", err)
	}
	return minted{Token(text), payload, expires}, nil
}

type minted struct {
	token   Token
	payload []byte
	expires time.Time
}

// open checks everything about a token that never changes, cheapest first: V1
// without the expiry.
func (r *keyring) open(text, issuer string) (*Access, *Denial) {
	if len(text) > accessTokenMax {
		return nil, DenyMalformed
	}
	header, rest, ok := strings.Cut(text, ".")
	if !ok {
		return nil, DenyMalformed
	}
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok {
		return nil, DenyMalformed
	}
	k, known := r.signing[header]
	if !known {
		if _, ok := decode(header); !ok {
			return nil, DenyMalformed
		}
		return nil, DenyUnknownKey
	}
	body, ok := decode(payload)
	if !ok {
		return nil, DenyMalformed
	}
	if sig, ok := decode(signature); !ok || len(sig) != 64 {
		return nil, DenyMalformed
	}
	if _, err := jws.Verify([]byte(text), jws.WithKey(jwa.ES256, &k.private.PublicKey)); err != nil {
		return nil, DenySignature
	}
	var c accessClaims
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, DenyClaims
	}
	a := &Access{
		UserID: c.Subject, Transport: c.Gate.Transport, at: place{transport: c.Gate.Transport}, Claims: c.Custom, version: c.Gate.Version,
		AuthTime: time.Unix(c.AuthTime, 0).UTC(), IssuedAt: time.Unix(c.IssuedAt, 0).UTC(), Expires: time.Unix(c.Expires, 0).UTC(),
		key: k,
	}
	var err error
	if a.Handle, err = ParseHandle(c.Session); err != nil {
		return nil, DenyClaims
	}
	switch {
	case c.Issuer != issuer, c.Subject == "", c.IssuedAt <= 0, c.Expires <= 0, c.AuthTime <= 0,
		c.Gate.Version <= 0,
		c.Gate.Transport != TransportCookie && c.Gate.Transport != TransportHeader,
		!decodeInto(a.at.own[:], c.Gate.Own), !decodeInto(a.at.csrf[:], c.Gate.CSRF),
		c.Gate.Parent != "" && !decodeInto(a.at.parent[:], c.Gate.Parent):
		return nil, DenyClaims
	}
	if len(a.Claims) == 0 {
		a.Claims = []byte("{}")
	}
	a.EncodedClaims = encode(a.Claims)
	return a, nil
}

func decodeInto(dst []byte, text string) bool {
	b, ok := decode(text)
	return ok && copy(dst, b) == len(dst) && len(b) == len(dst)
}
