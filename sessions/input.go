package sessions

import (
	"encoding/base64"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	userIDMax = 128       // bytes: it becomes a header's value
	dataMax   = 16 * 1024 // bytes
)

func checkUserID(id string) error {
	bad := &InvalidError{"user_id", fmt.Sprintf("1 to %d characters from ! to ~ (no spaces)", userIDMax)}
	if id == "" || len(id) > userIDMax {
		return bad
	}
	for i := range len(id) {
		// A control character would end the header that carries it.
		if id[i] < 0x21 || id[i] > 0x7e {
			return bad
		}
	}
	return nil
}

// check refuses what could not become a session, and makes absent objects empty.
func (n *NewSession) check() error {
	if err := checkUserID(n.UserID); err != nil {
		return err
	}
	if n.Transport == 0 {
		n.Transport = TransportCookie
	}
	if n.Transport != TransportCookie && n.Transport != TransportHeader {
		return &InvalidError{"transport", `"cookie" or "header"`}
	}
	if len(n.Data) > dataMax {
		return &InvalidError{"data", fmt.Sprintf("at most %d bytes", dataMax)}
	}
	claims, err := object("claims", &n.Claims)
	if err != nil {
		return err
	}
	for name := range claims {
		if reservedClaims[name] {
			return &InvalidError{"claims." + name, "this name is reserved"}
		}
	}
	_, err = object("data", &n.Data)
	return err
}

// object reads a JSON object strictly (RFC 7493: no duplicate names, valid
// UTF-8) and leaves it compact in its place.
func object(field string, text *[]byte) (map[string]jsontext.Value, error) {
	if len(*text) == 0 {
		*text = []byte("{}")
		return map[string]jsontext.Value{}, nil
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(*text, &members); err != nil || members == nil {
		return nil, &InvalidError{field, "a JSON object without duplicate names"}
	}
	value := jsontext.Value(*text).Clone()
	if err := value.Compact(); err != nil {
		return nil, &InvalidError{field, "a JSON object without duplicate names"}
	}
	*text = value
	return members, nil
}

// checkSize refuses claims that would make an access token too large for a
// cookie, at creation rather than at some later refresh.
func (e *Engine) checkSize(n NewSession, t refreshToken) error {
	rec := Record{Row: Row{Handle: t.handle, UserID: n.UserID}, Claims: n.Claims, ClaimsVersion: 1 << 53}
	now := e.feed.clock.now()
	rec.CreatedAt, rec.ExpiresAt, rec.AbsoluteExpiresAt = now, now.Add(e.cfg.SlidingLife), now.Add(e.cfg.AbsoluteLife)
	payload, _, err := e.payload(rec, t, t.mark(), t.mark(), now)
	if err != nil {
		return &InvalidError{"claims", "a JSON object"}
	}
	header := e.keys.Load().signer(now).header
	if size := len(header) + 2 + base64.RawURLEncoding.EncodedLen(len(payload)) + 86; size > accessTokenMax {
		return &InvalidError{"claims", fmt.Sprintf("the access token may have %d bytes; with these claims it has %d", accessTokenMax, size)}
	}
	return nil
}
