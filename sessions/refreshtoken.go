package sessions

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// A refresh token is opaque to every party but sessiongate:
//
//	sgr1_ base64url( key id ‖ AES-256-GCM nonce ‖ sealed body )
//
// The format version and the key id are authenticated. The body has one length and one layout, so
// exactly one text opens to it under one nonce.
const (
	refreshPrefix  = "sgr"
	refreshVersion = refreshPrefix + "1_"
	refreshBody    = 16 + 32 + 32 + 16 + 1 + 8
)

var (
	// errSealed: the text is none of ours, or not canonical. Garbage causes no query (I6).
	errSealed = errors.New("sealed text does not open")
	// errNewerFormat: a newer version of this program made the text. A rollout must sign no user out.
	errNewerFormat = errors.New("sealed text has a newer format")
	// errUnknownSealingKey: the text is sealed under a key that this process does not know.
	errUnknownSealingKey = errors.New("sealed under an unknown key")
)

// antiCSRF is the token that scripts repeat in a header. There is one per session, for its whole
// life.
type antiCSRF [16]byte

func (a antiCSRF) token() Token { return Token(encode(a[:])) }

// digest is the form of the anti-CSRF token that the access token carries.
func (a antiCSRF) digest() [32]byte { return csrfDigest(encode(a[:])) }

// csrfDigest hashes an anti-CSRF token. The label is frozen: access tokens in use carry the digest.
func csrfDigest(text string) [32]byte {
	const label = "sessiongate anti-csrf v1"
	var buf [len(label) + 22]byte
	return sha256.Sum256(append(append(buf[:0], label...), text...))
}

// refreshToken is an opened refresh token.
type refreshToken struct {
	handle    Handle
	secret    [32]byte
	parent    TokenHash // zero: issued at sign-in
	antiCSRF  antiCSRF
	transport Transport
	issuedAt  time.Time // the store's clock
}

func newRefreshToken(h Handle, tr Transport) refreshToken {
	t := refreshToken{handle: h, transport: tr}
	fill(t.secret[:])
	fill(t.antiCSRF[:])
	return t
}

// hash is the name of t in the store and in access tokens.
//
// The label is frozen: rows and tokens in use contain the hash. It keeps the word of an earlier
// version of the protocol.
func (t refreshToken) hash() TokenHash {
	const label = "sessiongate mark v1"
	var buf [len(label) + len(t.secret)]byte
	return sha256.Sum256(append(append(buf[:0], label...), t.secret[:]...))
}

// child derives the one child of t under nonce. Every tab, retry and replica gets the same child.
// The row cannot derive it: it knows the nonce alone.
//
// The label is frozen: children that are in use were derived with it.
func (t refreshToken) child(nonce Nonce) refreshToken {
	mac := hmac.New(sha256.New, t.secret[:])
	mac.Write([]byte("sessiongate child v1"))
	mac.Write(t.handle[:])
	mac.Write(nonce[:])
	c := t
	c.secret = [32]byte(mac.Sum(nil))
	c.parent = t.hash()
	return c
}

func (t refreshToken) body() []byte {
	b := make([]byte, 0, refreshBody)
	b = append(b, t.handle[:]...)
	b = append(b, t.secret[:]...)
	b = append(b, t.parent[:]...)
	b = append(b, t.antiCSRF[:]...)
	b = append(b, byte(t.transport))
	return binary.BigEndian.AppendUint64(b, uint64(t.issuedAt.UnixMicro()))
}

func parseRefreshBody(b []byte) (refreshToken, error) {
	var t refreshToken
	if len(b) != refreshBody {
		return t, errSealed
	}
	b = b[copy(t.handle[:], b):]
	b = b[copy(t.secret[:], b):]
	b = b[copy(t.parent[:], b):]
	b = b[copy(t.antiCSRF[:], b):]
	t.transport = Transport(b[0])
	t.issuedAt = time.UnixMicro(int64(binary.BigEndian.Uint64(b[1:]))).UTC() //nolint:gosec // sealed by us, from an int64
	if t.transport != TransportCookie && t.transport != TransportHeader {
		return t, errSealed
	}
	return t, nil
}

func sealedAAD(prefix string, id KeyID) []byte { return append([]byte(prefix), id[:]...) }

// seal gives the text of t.
func (t refreshToken) seal(k *sealingKey) Token { return k.seal(refreshVersion, t.body()) }

// seal gives the text of a sealed body. The prefix and the key id are authenticated.
func (k *sealingKey) seal(prefix string, body []byte) Token {
	out := make([]byte, 0, len(k.id)+k.aead.NonceSize()+len(body)+k.aead.Overhead())
	out = append(out, k.id[:]...)
	nonce := out[len(out) : len(out)+k.aead.NonceSize()]
	_, _ = rand.Read(nonce)
	out = out[:len(out)+len(nonce)]
	out = k.aead.Seal(out, nonce, body, sealedAAD(prefix, k.id))
	return Token(prefix + encode(out))
}

// unseal opens the one canonical text of a sealed body of that size.
func (r *keyring) unseal(prefix, text string, size int) ([]byte, error) {
	sealed, ours := strings.CutPrefix(text, prefix)
	if !ours {
		return nil, errSealed
	}
	b, ok := decode(sealed)
	var id KeyID
	if !ok || len(b) < len(id) {
		return nil, errSealed
	}
	b = b[copy(id[:], b):]
	k, ok := r.sealing[id]
	if !ok {
		return nil, errUnknownSealingKey
	}
	if len(b) != k.aead.NonceSize()+size+k.aead.Overhead() {
		return nil, errSealed
	}
	body, err := k.aead.Open(nil, b[:k.aead.NonceSize()], b[k.aead.NonceSize():], sealedAAD(prefix, id))
	if err != nil {
		return nil, errSealed
	}
	return body, nil
}

// openRefreshToken opens the one canonical text of a token.
func openRefreshToken(text string, keys *keyring) (refreshToken, error) {
	if newerFormat(refreshPrefix, text) {
		return refreshToken{}, errNewerFormat
	}
	body, err := keys.unseal(refreshVersion, text, refreshBody)
	if err != nil {
		return refreshToken{}, err
	}
	return parseRefreshBody(body)
}

// IsRefreshToken says whether a bearer token calls itself a refresh token of ours, in any format.
// That alone proves nothing.
func IsRefreshToken(text string) bool { return strings.HasPrefix(text, refreshPrefix) }

// newerFormat says whether text looks like a format version above ours, which is 1.
func newerFormat(prefix, text string) bool {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return false
	}
	version, _, ok := strings.Cut(rest, "_")
	if !ok || version == "" || len(version) > 3 || version[0] == '0' {
		return false
	}
	n := 0
	for _, c := range []byte(version) {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n > 1
}
