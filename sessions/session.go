package sessions

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Handle names a session: 128 random bits. It is public: it appears in the access token and in
// headers to the upstream. It is never reused.
type Handle [16]byte

// NewHandle generates a handle.
func NewHandle() Handle {
	var h Handle
	fill(h[:])
	return h
}

// ParseHandle reads the text form of a handle. Each handle has exactly one text form.
func ParseHandle(text string) (Handle, error) {
	var h Handle
	b, ok := decode(text)
	if !ok || len(b) != len(h) {
		return h, errors.New("a session handle is 22 characters of base64url")
	}
	copy(h[:], b)
	return h, nil
}

// String returns the handle as unpadded base64url.
func (h Handle) String() string { return encode(h[:]) }

// TokenHash names a refresh token in public. It is SHA-256 over a label and the token's secret. The
// row and the access token carry hashes only: neither a database dump nor a stolen access token can
// refresh anything.
type TokenHash [32]byte

// Nonce is what the row adds to a parent's secret to derive its child. It is worthless without that
// secret.
type Nonce [16]byte

// Client is a digest of the origin of a request: the network of its address (/24 or /64) and its
// User-Agent. It never decides which user is signed in. It decides only which client gets an answer
// twice (R3, R5, R7). The zero value means "not recorded".
type Client [16]byte

// NewClient digests an address and a User-Agent. An invalid address adds nothing, so browsers stay
// apart even behind a proxy that reports no address.
//
// The label is frozen: the digest is stored with each session.
func NewClient(addr netip.Addr, userAgent string) Client {
	var network []byte
	if prefix, ok := networkOf(addr); ok {
		network = prefix.Addr().AsSlice()
	}
	h := sha256.New()
	h.Write([]byte("sessiongate client v1"))
	_, _ = fmt.Fprintf(h, "%d ", len(network))
	h.Write(network)
	h.Write([]byte(userAgent))
	return Client(h.Sum(nil)[:16])
}

// networkOf is the network of an address: its /24 or /64. An invalid address has none.
func networkOf(addr netip.Addr) (netip.Prefix, bool) {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	return prefix, err == nil && prefix.IsValid()
}

// Transport is how the tokens of a session travel. A token of one transport is refused in the
// other: an attacker's script that reads a header token must not be able to plant it as a cookie,
// and a stolen cookie must not work in a header.
type Transport uint8

// The transports.
const (
	TransportCookie Transport = 1
	TransportHeader Transport = 2
)

// Token is a bearer secret. It formats, logs and marshals as [redacted]; only
// Reveal gives its text.
type Token string

// Reveal returns the text of the token. Only the code that sends the token to its client calls it.
func (t Token) Reveal() string { return string(t) }

// Row is a session as the store keeps it: its user, and the state of its token chain. Times are the
// store's clock, in whole microseconds, UTC. Zero hashes, nonces, clients and times mean "none".
// Rows are comparable.
type Row struct {
	Handle Handle
	UserID string

	// Current is the hash of the one current refresh token. Previous is the hash of the token that
	// it replaced.
	Current, Previous TokenHash
	// CurrentClient is the client that made Current current. At creation it is zero, unless the
	// login service reported a client.
	CurrentClient Client
	// PromotedAt is when Current became current: at the creation or at a promotion.
	PromotedAt time.Time

	// NextNonce derives the child that is issued now. NextClient is the client that gets it,
	// IssuedAt the last recorded issue. All are zero while no child was issued.
	NextNonce  Nonce
	NextClient Client
	IssuedAt   time.Time
	// Issues counts the recorded issues of this generation.
	Issues int

	CreatedAt time.Time
	// ExpiresAt slides with use (R4). It never passes AbsoluteExpiresAt, which never moves (I5).
	ExpiresAt, AbsoluteExpiresAt time.Time

	// Device is that of the sign-in, or of the last refresh that changed the row.
	Device Device

	// BoundKey is the public key that the browser registered for the session (B1). Zero: none. It
	// never changes. BoundAt is when the browser last proved that it holds the private key, as far
	// as that was written (B4). From the first time on the session is bound: no refresh without a
	// proof gets a token.
	BoundKey BoundKey
	BoundAt  time.Time
}

// Bound says whether only the device that holds the key of the session refreshes it.
func (r Row) Bound() bool { return !r.BoundAt.IsZero() }

// EndsAt is when the session ends without another refresh.
func (r Row) EndsAt() time.Time { return earlier(r.ExpiresAt, r.AbsoluteExpiresAt) }

// Record is a session with its attributes.
type Record struct {
	Row

	// Claims is a JSON object that is copied into every access token. ClaimsVersion rises with each
	// change of it.
	Claims        []byte
	ClaimsVersion int64
	// Data is a JSON object that stays in the store.
	Data []byte
}

// Reason says why a session ended. It is stored and logged.
type Reason string

// The reasons.
const (
	ReasonTheft        Reason = "theft"         // R8
	ReasonRolledBack   Reason = "rolled_back"   // R8 after the store lost writes
	ReasonRefreshAbuse Reason = "refresh_abuse" // more issues than an honest client needs
	ReasonSignedOut    Reason = "signed_out"    // by its client
	ReasonRevoked      Reason = "revoked"       // by a backend, an operator or its user
	ReasonEvicted      Reason = "evicted"       // by a newer session, at the limit of sessions per user
)

// fill generates random bytes. No test or setting can replace the source with a weak one.
func fill(b []byte) {
	// crypto/rand.Read never returns an error since Go 1.24.
	_, _ = rand.Read(b)
}

var base64url = base64.RawURLEncoding.Strict()

func encode(b []byte) string { return base64url.EncodeToString(b) }

// decode accepts the one canonical base64url text of some bytes. The strict decoder alone skips
// line breaks. A second text for one token would bypass a cache or a limit that uses the first text
// as its key.
func decode(text string) ([]byte, bool) {
	for i := range len(text) {
		if text[i] == '\r' || text[i] == '\n' {
			return nil, false
		}
	}
	b, err := base64url.DecodeString(text)
	return b, err == nil
}
