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

// Handle names a session: 128 random bits. It is public (it appears in the
// access token and in headers to the upstream) and never reused.
type Handle [16]byte

// NewHandle generates a handle.
func NewHandle() Handle {
	var h Handle
	fill(h[:])
	return h
}

// ParseHandle reads the text form of a handle. Exactly one text is accepted for
// each handle.
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

// TokenHash names a refresh token in public: SHA-256 over a label and the token's
// secret. The row and the access token carry hashes only, so neither a database dump
// nor a stolen access token can refresh anything.
type TokenHash [32]byte

// Nonce is what the row adds to a parent's secret to make its child's. It is
// worthless without that secret.
type Nonce [16]byte

// Client is a digest of where a request comes from: the network of the address
// (/24 or /64) and the User-Agent. It never decides who is signed in, only who
// may be answered twice (R3, R5, R7). The zero value means "not recorded".
type Client [16]byte

// NewClient digests an address and a User-Agent. An invalid address contributes
// nothing, so that a proxy that reports none still tells browsers apart.
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

// networkOf is the network of an address: its /24 or /64. An invalid one has none.
func networkOf(addr netip.Addr) (netip.Prefix, bool) {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	return prefix, err == nil && prefix.IsValid()
}

// Transport is the way a session's tokens travel. A token of one transport is
// refused in the other, so that a token that scripts can read never works as a
// cookie and the reverse.
type Transport uint8

// The transports.
const (
	TransportCookie Transport = 1
	TransportHeader Transport = 2
)

// Token is a bearer secret. It formats, logs and marshals as [redacted]; only
// Reveal gives its text.
type Token string

// Reveal returns the text of the token, for the one place that hands it out.
func (t Token) Reveal() string { return string(t) }

// Row is a session as the store keeps it: who it belongs to and where its line
// of refresh tokens stands. Times are the store's clock, in whole microseconds,
// UTC. Zero marks, nonces, clients and times mean "none". Rows are comparable.
type Row struct {
	Handle Handle
	UserID string

	// Current is the mark of the one refresh token that the row names; Previous
	// is the one it replaced.
	Current, Previous TokenHash
	// CurrentClient made Current the current one (at creation: none unless the
	// login service reported it).
	CurrentClient Client
	// PromotedAt is when Current became current: at creation or promotion.
	PromotedAt time.Time

	// NextNonce derives the child that is being issued, to NextClient, last
	// recorded at IssuedAt. All zero while none was issued.
	NextNonce  Nonce
	NextClient Client
	IssuedAt   time.Time
	// Issues counts the recorded issues of this generation.
	Issues int

	CreatedAt time.Time
	// ExpiresAt slides with use (R4) and never passes AbsoluteExpiresAt, which
	// never moves (I5).
	ExpiresAt, AbsoluteExpiresAt time.Time
}

// EndsAt is when the session ends without another refresh.
func (r Row) EndsAt() time.Time { return earlier(r.ExpiresAt, r.AbsoluteExpiresAt) }

// Record is a session with what its owner keeps in it.
type Record struct {
	Row

	// Claims is a JSON object, copied into every access token; ClaimsVersion
	// rises with each change of it.
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
	ReasonRefreshAbuse Reason = "refresh_abuse" // more issues than anybody needs
	ReasonSignedOut    Reason = "signed_out"    // by its client
	ReasonRevoked      Reason = "revoked"       // by a backend or an operator
	ReasonEvicted      Reason = "evicted"       // by a newer session of a user who has as many as allowed
)

// fill generates random bytes. There is no seam for a weak source.
func fill(b []byte) {
	// crypto/rand.Read never returns an error since Go 1.24.
	_, _ = rand.Read(b)
}

var base64url = base64.RawURLEncoding.Strict()

func encode(b []byte) string { return base64url.EncodeToString(b) }

// decode accepts the one canonical base64url text of some bytes. The strict
// decoder alone skips line breaks, and a second text for one token would slip
// past whatever is keyed by the first.
func decode(text string) ([]byte, bool) {
	for i := range len(text) {
		if text[i] == '\r' || text[i] == '\n' {
			return nil, false
		}
	}
	b, err := base64url.DecodeString(text)
	return b, err == nil
}
