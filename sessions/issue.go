package sessions

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Issued is what a client is to receive.
type Issued struct {
	Session  Record
	Access   Token
	Refresh  Token // empty: the client keeps its own
	AntiCSRF Token
	// Payload is the JSON payload of the access token, AccessExpires its exp.
	Payload       []byte
	AccessExpires time.Time
	// RefreshLife is how long the session lives from now without another refresh. Its cookies live
	// as long.
	RefreshLife time.Duration
	Transport   Transport
	Rule        Rule // that decided a refresh

	// Challenge is for the browser to register a key (B1). Empty: the session is not to be bound.
	Challenge Token
	// Identifier names the device session of the browser to the engine (B1, B4).
	Identifier Token
	// BoundLife is how long the browser has no need to prove its key again (B4).
	BoundLife time.Duration
	// Waits is for a client that has to prove first, to send back (B9, B10). Empty: it has one.
	Waits Token

	// Marker is random and different in each Issued. By it a client's scripts notice that tokens
	// were issued.
	Marker string
}

// issue mints an access token for the refresh token t. If issueRefresh is set, it also seals t.
func (e *Engine) issue(rec Record, t refreshToken, parent TokenHash, now time.Time, issueRefresh bool) (Issued, error) {
	own := t.hash()
	if !issueRefresh {
		own = rec.Current // t may be the previous one (R7)
	}
	return e.issueAs(rec, t, lineage{own, parent, t.antiCSRF.digest(), t.transport, false}, now, e.accessLife(rec.Row, t.transport, now), issueRefresh)
}

// accessLife is that of the access tokens of a session. One that was made without a proof must not
// live longer than the others once the session is bound: an attacker with the cookies may ask for it
// after the registration of the key, or in the moment before.
func (e *Engine) accessLife(row Row, by Transport, now time.Time) time.Duration {
	mayBind := e.cfg.Binding.Offer && by == TransportCookie && now.Before(row.CreatedAt.Add(e.cfg.Binding.ChallengeLife+e.cfg.RefreshAttemptMax))
	if mayBind || row.BoundKey != (BoundKey{}) {
		return min(e.cfg.Binding.AccessTokenLife, e.cfg.AccessTokenLife)
	}
	return e.cfg.AccessTokenLife
}

// issueAs mints an access token of that lineage. If issueRefresh is set, it also seals t.
func (e *Engine) issueAs(rec Record, t refreshToken, p lineage, now time.Time, life time.Duration, issueRefresh bool) (Issued, error) {
	m, err := e.mint(rec, p, now, now.Add(life))
	if err != nil {
		return Issued{}, unavailable("minting", err)
	}
	i := newIssued(rec, m, t.transport, now)
	i.AntiCSRF = t.antiCSRF.token()
	if issueRefresh {
		sealer := e.keys.Load().sealer(now)
		if sealer == nil {
			return Issued{}, unavailable("sealing", errNoKey)
		}
		i.Refresh = t.seal(sealer)
	}
	return i, nil
}

// newIssued fills all but the refresh token and the anti-CSRF token.
func newIssued(rec Record, m minted, tr Transport, now time.Time) Issued {
	var marker [16]byte
	fill(marker[:])
	i := Issued{Session: rec, Access: m.token, Payload: m.payload, AccessExpires: m.expires, Transport: tr, Marker: encode(marker[:])}
	i.RefreshLife = i.Session.EndsAt().Sub(now)
	return i
}

// payload is the JSON payload of an access token for the session rec, without a tag. The token
// expires with the session at the latest (I5).
func (e *Engine) payload(rec Record, p lineage, now, expires time.Time) ([]byte, time.Time, error) {
	expires = earlier(expires, earlier(rec.ExpiresAt, rec.AbsoluteExpiresAt))
	claims := accessClaims{
		Issuer: e.cfg.Issuer, Subject: rec.UserID, Session: rec.Handle.String(),
		IssuedAt: now.Unix(), Expires: expires.Unix(), AuthTime: rec.CreatedAt.Unix(),
		Custom: rec.Claims,
	}
	text := bytes.NewBuffer(make([]byte, 0, payloadTypical+len(rec.Claims)))
	if err := json.MarshalWrite(text, claims); err != nil {
		return nil, time.Time{}, err
	}
	payload := bytes.TrimSuffix(text.Bytes(), []byte("}"))
	payload = p.appendGate(append(payload, gateBefore...), rec.ClaimsVersion)
	return append(payload, '}'), time.Unix(claims.Expires, 0).UTC(), nil
}

// payloadTypical is the size of most payloads without custom claims.
const payloadTypical = 512

// appendGate appends gateClaims: numbers and base64url, which need no escapes.
func (p lineage) appendGate(b []byte, version int64) []byte {
	b = append(b, `{"own":"`...)
	b = base64url.AppendEncode(b, p.own[:])
	if p.parent != (TokenHash{}) {
		b = append(b, `","parent":"`...)
		b = base64url.AppendEncode(b, p.parent[:])
	}
	b = append(b, `","csrf":"`...)
	b = base64url.AppendEncode(b, p.csrf[:])
	b = append(b, `","ver":`...)
	b = strconv.AppendInt(b, version, 10)
	b = append(b, `,"tr":`...)
	b = strconv.AppendUint(b, uint64(p.transport), 10)
	if p.bound {
		b = append(b, `,"bnd":1`...)
	}
	return append(b, '}')
}

// gateBefore precedes the reserved object, which is the last member of the payload.
const gateBefore = `,"sg":`

// size is the size of a token that the key makes of a payload of n bytes.
func (k *signingKey) size(n int) int {
	return len(k.header) + 1 + base64url.EncodedLen(n) + 1 + signatureText
}

func (e *Engine) mint(rec Record, p lineage, now, expires time.Time) (minted, error) {
	payload, expires, err := e.payload(rec, p, now, expires)
	if err != nil {
		return minted{}, fmt.Errorf("marshalling access token: %w", err)
	}
	signer := e.keys.Load().signer(now)
	if signer == nil {
		return minted{}, errNoKey
	}
	// Claims that a version without tags accepted may leave no room for a tag.
	if signer.size(len(payload)+tagWhole-len("}}")) <= accessTokenMax {
		payload = signer.withTag(payload)
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
