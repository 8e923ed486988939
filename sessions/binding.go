package sessions

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"time"
)

// A browser can bind a session to the device that it runs on (Device Bound Session Credentials, a
// draft of the W3C). It makes a key pair that does not leave the device, registers the public key
// for the session (B1), and signs a challenge for every refresh (B4). Then an attacker that has copied
// the cookies, refresh token included, has nothing that lasts longer than an access token.
//
// This file has what is decided and sealed, and asks no store. bound.go carries it out. Package
// browser reads and writes what travels.

// Binding says whether sessions are bound to devices, and for how long what belongs to it lasts.
type Binding struct {
	// Offer makes every session in cookies one that its browser may bind. Sessions that are bound stay
	// bound without it.
	Offer bool
	// AccessTokenLife is that of the access tokens of a session with a registered key, and of the
	// first one of a session that may be bound. It is at most Config.AccessTokenLife.
	AccessTokenLife time.Duration
	// ChallengeLife is how old a signed challenge may be. Within it a captured proof can be sent again,
	// together with the refresh token.
	ChallengeLife time.Duration
	// LostAfter is how long a browser without a device session is told to wait, before it has to sign
	// in again.
	LostAfter time.Duration
}

// BoundKey is the public half of a device's key: a point of P-256 in compressed form (SEC 1 §2.3.3).
type BoundKey [33]byte

// NewBoundKey reads the coordinates of a point. It says whether they are those of one.
func NewBoundKey(x, y []byte) (BoundKey, bool) {
	const size = 32
	if len(x) != size || len(y) != size {
		return BoundKey{}, false
	}
	point := append(append([]byte{4}, x...), y...)
	if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
		return BoundKey{}, false
	}
	return BoundKey(append([]byte{2 + y[size-1]&1}, x...)), true
}

// public is nil for what is no point: a store may hold anything.
func (k BoundKey) public() *ecdsa.PublicKey {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), k[:])
	if x == nil {
		return nil
	}
	var point [65]byte
	point[0] = 4 // uncompressed
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[:])
	if err != nil {
		return nil
	}
	return key
}

// Proof is what a device signed. Reading it proves nothing: the engine verifies it.
type Proof struct {
	Key       BoundKey // that the proof brings with it; zero: none. It counts for a registration alone
	Challenge string
	Signed    string // what Signature is of
	Signature []byte // ES256: r and s, 32 bytes each (RFC 7518 §3.4)
}

// by says whether the private half of k made the signature.
func (p Proof) by(k BoundKey) bool {
	public := k.public()
	return public != nil && verifiesES256(public, p.Signed, p.Signature)
}

// challengePrefix begins what the client is to sign or to send back. It is sealed as a refresh token
// is, so no replica has to remember it:
//
//	sgc1_ base64url( key id ‖ AES-256-GCM nonce ‖ sealed body )
const challengePrefix = "sgc1_"

// challenge is an opened one.
type challenge struct {
	purpose  purpose
	handle   Handle
	issuedAt time.Time // the store's clock
}

// purpose keeps a challenge of one exchange from being used in another.
type purpose byte

const (
	toRegister purpose = 1 // part of the answer to a sign-in alone: a thief of cookies has none
	toProve    purpose = 2
	waiting    purpose = 3 // signed by no one: since when a browser waits for its device session
)

const challengeBody = 1 + 16 + 8

func (c challenge) seal(k *sealingKey) Token {
	b := append(make([]byte, 0, challengeBody), byte(c.purpose))
	b = append(b, c.handle[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.issuedAt.UnixMicro()))
	return k.seal(challengePrefix, b)
}

// openChallenge opens the one text of a challenge of that purpose, for any session.
func openChallenge(text string, p purpose, keys *keyring) (challenge, error) {
	b, err := keys.unseal(challengePrefix, text, challengeBody)
	if err != nil {
		return challenge{}, err
	}
	c := challenge{purpose: purpose(b[0])}
	b = b[1:]
	b = b[copy(c.handle[:], b):]
	c.issuedAt = time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC() //nolint:gosec // sealed by us, from an int64
	if c.purpose != p {
		return challenge{}, errSealed
	}
	return c, nil
}

// young says whether the challenge may still be answered. A step back of the store's clock makes it
// come from the future; the client then gets another one.
func (c challenge) young(life time.Duration, now time.Time) bool {
	return !c.issuedAt.After(now.Add(leeway)) && now.Before(c.issuedAt.Add(life))
}

// identifierVersion begins the name of a browser's device session, sealed in the same way:
//
//	sgd1_ base64url( key id ‖ AES-256-GCM nonce ‖ sealed body )
//
// The browser sends for the life of the session the one that it got at the registration, and a sealing
// key is kept for longer. It keeps it beside the key of the device, and not in a cookie. So an attacker
// that has copied the cookies cannot even ask for a challenge. And as it has the public key, what
// another key signed is refused before a store is asked or a request is counted.
const (
	identifierPrefix  = "sgd"
	identifierVersion = identifierPrefix + "1_"
)

// identifier is an opened one.
type identifier struct {
	handle Handle
	key    BoundKey
}

const identifierBody = 16 + 33

func (i identifier) seal(k *sealingKey) Token {
	return k.seal(identifierVersion, append(append(make([]byte, 0, identifierBody), i.handle[:]...), i.key[:]...))
}

func openIdentifier(text string, keys *keyring) (i identifier, err error) {
	if newerFormat(identifierPrefix, text) {
		return identifier{}, errNewerFormat
	}
	b, err := keys.unseal(identifierVersion, text, identifierBody)
	if err != nil {
		return identifier{}, err
	}
	copy(i.key[:], b[copy(i.handle[:], b):])
	return i, nil
}

// The rules of device-bound sessions (docs/bound.md).
const (
	B1  Rule = "B1"  // a key is registered
	B2  Rule = "B2"  // the identifier does not open, or the refresh token is of another session
	B3  Rule = "B3"  // no proof of a challenge that is young
	B4  Rule = "B4"  // proven: a new access token
	B5  Rule = "B5"  // no such session, or expired
	B6  Rule = "B6"  // a proof that is not of the session's key
	B8  Rule = "B8"  // plain, with an access token that a proof just brought
	B9  Rule = "B9"  // plain: prove first
	B10 Rule = "B10" // plain, and again without a proof
	B12 Rule = "B12" // a sign-out without a proof
)

// asked is what a client asks, and what it shows of its device, of a session that has a key, or gets one.
type asked struct {
	way way
	// token is the refresh token, which opened and names the session. A registration may have none: then
	// handle is that of its challenge.
	token  refreshToken
	handle Handle
	// key is the one that made the proof, which was verified.
	key BoundKey
	// fresh says that a plain refresh has an access token of the session that a proof just brought.
	fresh bool
	// again says that it was sent to prove before. skipped: the browser says that it has a device
	// session and could not prove now, which anybody can say. waitsSince is the first time of this
	// client; zero: not known.
	again, skipped bool
	waitsSince     time.Time
}

// way is what the client asks for.
type way uint8

const (
	wayRegister way = iota
	wayProve
	wayPlain
)

type boundAnswer uint8

const (
	boundRefused    boundAnswer = iota // the zero value mints and changes nothing
	boundUnbound                       // plain: the session is not bound, the R rules decide
	boundRegistered                    // the key is registered
	boundEnded                         // the session has ended
	boundProven                        // a new access token
	boundAsBefore                      // the access token that the client has
	boundProve                         // prove, then ask again
	boundWait                          // ask again later
	boundLost                          // the device has lost its key: sign in
)

// boundDecision is what to answer, after next (if it differs from the row that was read) is written.
type boundDecision struct {
	rule   Rule
	answer boundAnswer
	next   Row
}

// boundWindows are the durations of the rules of device-bound sessions.
type boundWindows struct {
	Sliding   time.Duration // that a proof gives the session
	WriteMost time.Duration // how often a proof is written at most
	LostAfter time.Duration
}

// decideBound is the table of docs/bound.md for a request whose refresh token opens and, where the
// way asks for one, whose proof is of a young challenge and signed by asked.key. Without both there is
// no row to decide about. It reads no clock, no store and no randomness.
func decideBound(row Row, s asked, now time.Time, w boundWindows) boundDecision {
	gone := !now.Before(row.ExpiresAt) || !now.Before(row.AbsoluteExpiresAt)
	switch {
	case s.way == wayRegister:
		return decideRegister(row, s, gone)

	case s.way == wayProve && gone:
		return boundDecision{B5, boundEnded, row}

	case s.way == wayProve && (s.key == BoundKey{} || s.key != row.BoundKey):
		// The row has no key where it is of a backup, from before the registration. The session lives on: as
		// it is not bound, its refresh token alone refreshes it. Another key is there only if a writer of
		// the database put it there.
		return boundDecision{B6, boundRefused, row}

	case s.way == wayProve:
		next := row
		if !row.Bound() {
			// What a proof brings is not rotated, so the row keeps no child.
			next.NextNonce, next.NextClient, next.IssuedAt, next.Issues = Nonce{}, Client{}, time.Time{}, 0
		}
		// A time in the future is from before the store's clock was set back.
		if !row.Bound() || row.BoundAt.After(now) || !now.Before(row.BoundAt.Add(w.WriteMost)) {
			next.BoundAt, next.ExpiresAt = now, earlier(now.Add(w.Sliding), row.AbsoluteExpiresAt)
		}
		return boundDecision{B4, boundProven, next}

	case !row.Bound() || gone:
		return boundDecision{"", boundUnbound, row}

	case s.fresh:
		return boundDecision{B8, boundAsBefore, row}

	case !s.again:
		return boundDecision{B9, boundProve, row}

	case !s.skipped && !s.waitsSince.IsZero() && !now.Before(s.waitsSince.Add(w.LostAfter)):
		return boundDecision{B10, boundLost, row}

	default:
		return boundDecision{B10, boundWait, row}
	}
}

// decideRegister is B1. A key that is there is never replaced: an attacker that could replace it would
// take the session over.
func decideRegister(row Row, s asked, gone bool) boundDecision {
	hash := s.token.hash()
	switch {
	case gone, s.key == BoundKey{}:
		return boundDecision{B1, boundRefused, row}
	case row.BoundKey == s.key: // its answer was lost
		return boundDecision{B1, boundRegistered, row}
	case row.BoundKey != BoundKey{}:
		return boundDecision{B1, boundRefused, row}
	case s.token != refreshToken{} && hash != row.Current && hash != row.Previous && s.token.parent != row.Current:
		return boundDecision{B1, boundRefused, row}
	default:
		next := row
		next.BoundKey = s.key
		return boundDecision{B1, boundRegistered, next}
	}
}
