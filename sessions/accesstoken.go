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
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// All use of jwx is in this file. It makes JWKs and the header of each key's tokens. A token is
// judged with one key and one algorithm, after an exact match of its encoded header. No header field
// of a token is ever interpreted. That stops the attacks of RFC 8725: alg confusion, crit, b64, jwk, jku, nested
// tokens and JSON serialisations.

const (
	tokenType      = "session+jwt"
	accessTokenMax = 3500 // bytes; leaves room for the other cookies
	leeway         = 5 * time.Second
)

// reservedClaims are claims that sessiongate uses or that are registered with a meaning (RFC 7519
// §4.1, RFC 9068 §2.2). Custom claims may not have these names.
var reservedClaims = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true,
	"sid": true, "auth_time": true, "sg": true,
}

// IsReservedClaim says whether custom claims may not have that name.
func IsReservedClaim(name string) bool { return reservedClaims[name] }

// accessClaims is the payload of an access token.
type accessClaims struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Session  string         `json:"sid"`
	IssuedAt int64          `json:"iat"`
	Expires  int64          `json:"exp"`
	AuthTime int64          `json:"auth_time"`
	Gate     gateClaims     `json:"sg,omitzero"` // written last, by hand
	Custom   jsontext.Value `json:",embed"`
}

// gateClaims is the reserved object of an access token.
type gateClaims struct {
	Own       string    `json:"own"`
	Parent    string    `json:"parent,omitempty"` // until the promotion
	CSRF      string    `json:"csrf"`
	Version   int64     `json:"ver"`
	Transport Transport `json:"tr"`
	Bound     int64     `json:"bnd,omitempty"` // 1: made for a proof of the device's key (B4)
}

// Access is a verified access token. It is shared and must not be changed, except by Keep.
type Access struct {
	Handle    Handle
	UserID    string
	Transport Transport
	AuthTime  time.Time
	IssuedAt  time.Time
	Expires   time.Time
	// Claims is the JSON object of the custom claims. EncodedClaims is its base64url text, as
	// headers carry it.
	Claims        []byte
	EncodedClaims string
	// Bound says that the token was made for a proof of the device's key (B4).
	Bound bool

	lineage lineage // its transport is Transport
	version int64
	key     *signingKey
	kept    atomic.Pointer[any]
}

// Keep stores what a caller computed from the token beside it, as long as the token is in the
// engine's cache. One cache then bounds both. There is one slot: the last call counts.
func (a *Access) Keep(made any) { a.kept.Store(&made) }

// Kept is what Keep was given, or nil.
func (a *Access) Kept() any {
	if made := a.kept.Load(); made != nil {
		return *made
	}
	return nil
}

// IsAccessToken says whether a bearer token calls itself an access token of ours. Other systems use
// Authorization for their own tokens, and sessiongate must not judge those. That alone proves
// nothing.
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
	return subtle.ConstantTimeCompare(a.lineage.csrf[:], d[:]) == 1
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
	k := &signingKey{id: s.ID, private: private, activeFrom: s.ActiveFrom, deleted: new(atomic.Bool)}
	if k.tagSecret, err = tagSecret(private); err != nil {
		return nil, err
	}
	if k.header, err = k.encodedHeader(); err != nil {
		return nil, err
	}
	return k, nil
}

// encodedHeader is the header segment of every token of the key (RFC 7515 §4.1).
func (k *signingKey) encodedHeader() (string, error) {
	headers := jws.NewHeaders()
	err := errors.Join(headers.Set(jws.AlgorithmKey, jwa.ES256), headers.Set(jws.TypeKey, tokenType), headers.Set(jws.KeyIDKey, k.id.String()))
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(headers)
	return encode(text), err
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

// lineage is the position of an access token in its session's token chain: the hash of its refresh
// token and, until the promotion, that of its parent. It also has what all tokens of the session
// share.
type lineage struct {
	own, parent TokenHash
	csrf        [32]byte
	transport   Transport
	bound       bool
}

// open checks everything about a token that never changes, cheapest first: V1 without the expiry
// and without the comparison of the signature. Its result is cached for every text with that
// payload, with the one right signature. An expired token with a tag gets no signature.
func (r *keyring) open(t tokenText, issuer string, now time.Time, cpu *cpuShare) (*verified, *Denial) {
	k, known := r.signing[t.header]
	if !known {
		if _, ok := decode(t.header); !ok {
			return nil, DenyMalformed
		}
		return nil, DenyUnknownKey
	}
	body, ok := decode(t.payload)
	if !ok || !isSignature(t.signature) {
		return nil, DenyMalformed
	}
	if !t.tagged {
		return k.openUntagged(t, body, issuer, cpu)
	}
	if !k.hasTag(body) {
		return nil, DenySignature // a flood of these costs no signature check
	}
	v, d := readPayload(k, body, issuer)
	if d != nil {
		return nil, d
	}
	if !now.Before(v.Expires) {
		return v, nil // an attacker who has kept many expired tokens causes no signatures
	}
	var err error
	cpu.operations.Add(1)
	if v.signature, err = k.signature(digest(t.signed())); err != nil {
		return nil, DenySignature
	}
	return v, nil
}

// openUntagged checks a token of the former version, or one that is too long for a tag. Only the
// signature tells whether it is valid.
func (k *signingKey) openUntagged(t tokenText, body []byte, issuer string, cpu *cpuShare) (*verified, *Denial) {
	if !cpu.take() {
		return nil, DenyBusy
	}
	sig, _ := decode(t.signature)
	began := cpu.now()
	verifies := k.verifies(t.signed(), sig)
	cpu.spent(cpu.now().Sub(began), verifies)
	if !verifies {
		return nil, DenySignature
	}
	v, d := readPayload(k, body, issuer)
	if d != nil {
		return nil, d
	}
	// The former version signed with either s, and a rollout must send no client to refresh. It put
	// sg before the custom claims. If sg comes after them, this version made the token, and its s
	// is the lower one.
	if isHighS(sig) && len(v.Claims) > len("{}") && gateIsLast(body) {
		return nil, DenySignature
	}
	copy(v.signature[:], t.signature)
	return v, nil
}

// gateIsLast says whether the reserved object, which contains no other object, is the last member
// of a payload.
func gateIsLast(body []byte) bool {
	i := bytes.LastIndex(body, []byte(gateBefore))
	return i >= 0 && bytes.IndexByte(body[i:], '}') == len(body)-i-len("}}")
}

// readPayload reads the payload of a token whose tag or signature was made with the key k.
func readPayload(k *signingKey, body []byte, issuer string) (*verified, *Denial) {
	var c accessClaims
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, DenyClaims
	}
	v := &verified{Access: Access{
		UserID: c.Subject, Transport: c.Gate.Transport, lineage: lineage{transport: c.Gate.Transport, bound: c.Gate.Bound == 1}, Bound: c.Gate.Bound == 1, Claims: c.Custom, version: c.Gate.Version,
		AuthTime: time.Unix(c.AuthTime, 0).UTC(), IssuedAt: time.Unix(c.IssuedAt, 0).UTC(), Expires: time.Unix(c.Expires, 0).UTC(),
		key: k,
	}}
	var err error
	if v.Handle, err = ParseHandle(c.Session); err != nil {
		return nil, DenyClaims
	}
	if len(v.Claims) == 0 {
		v.Claims = []byte("{}")
	}
	switch {
	case c.Issuer != issuer, checkUserID(c.Subject) != nil, checkClaims(&v.Claims) != nil, !c.datesFit(),
		c.Gate.Version <= 0,
		c.Gate.Transport != TransportCookie && c.Gate.Transport != TransportHeader,
		!decodeInto(v.lineage.own[:], c.Gate.Own), !decodeInto(v.lineage.csrf[:], c.Gate.CSRF),
		c.Gate.Parent != "" && !decodeInto(v.lineage.parent[:], c.Gate.Parent):
		return nil, DenyClaims
	}
	v.EncodedClaims = encode(v.Claims)
	return v, nil
}

func decodeInto(dst []byte, text string) bool {
	b, ok := decode(text)
	return ok && copy(dst, b) == len(dst) && len(b) == len(dst)
}

// dateMax is the last second that dates have a form for (RFC 3339, RFC 9110).
const dateMax = 253_402_300_799 // 9999-12-31T23:59:59Z

// datesFit says whether the dates of a token are possible for a token that an engine made. None is
// compared with the clock: after the store's clock was set back, an honest date is ahead of it.
func (c *accessClaims) datesFit() bool {
	for _, date := range []int64{c.IssuedAt, c.Expires, c.AuthTime} {
		if date <= 0 || date > dateMax {
			return false
		}
	}
	return c.Expires-c.IssuedAt <= int64(AbsoluteLifeMax/time.Second)
}
