package sessions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	userIDMax = 128       // bytes; it becomes the value of a header
	dataMax   = 16 * 1024 // bytes
	// claimsDepthMax is how deep claims may nest; the claims object is level 1.
	claimsDepthMax = 16
)

func checkUserID(id string) error {
	if !isUserID(id) {
		return &InvalidError{"user_id", fmt.Sprintf("1 to %d characters from ! to ~ (no spaces), and not . or ..", userIDMax)}
	}
	return nil
}

func isUserID(id string) bool {
	if id == "" || len(id) > userIDMax {
		return false
	}
	if id == "." || id == ".." {
		return false // in a path of the sessions API it would name another resource
	}
	for i := range len(id) {
		// A control character would end the header and let an attacker start another.
		if id[i] < 0x21 || id[i] > 0x7e {
			return false
		}
	}
	return true
}

// check refuses what cannot become a session, and makes absent objects empty.
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
	for _, text := range []*[]byte{&n.Claims, &n.Data} {
		if len(*text) == 0 {
			*text = []byte("{}")
		}
	}
	c := Attributes{Claims: n.Claims, Data: n.Data}
	err := c.check()
	n.Claims, n.Data = c.Claims, c.Data
	return err
}

// check refuses attributes that no session may have, and makes the valid ones compact.
func (c *Attributes) check() error {
	if len(c.Data) > dataMax {
		return &InvalidError{"data", fmt.Sprintf("at most %d bytes", dataMax)}
	}
	if c.Claims != nil {
		if err := checkClaims(&c.Claims); err != nil {
			return err
		}
	}
	if c.Data != nil {
		if _, err := object("data", &c.Data); err != nil {
			return err
		}
	}
	return nil
}

// checkClaims refuses custom claims that no session may have, and makes the valid ones compact. The
// same rule applies to claims that come in and to claims that are read from a token.
func checkClaims(text *[]byte) error {
	claims, err := object("claims", text)
	if err != nil {
		return err
	}
	for name := range claims {
		if IsReservedClaim(name) {
			return &InvalidError{"claims." + name, "this name is reserved"}
		}
	}
	if !plain(*text) {
		return &InvalidError{"claims", fmt.Sprintf("at most %d levels deep, numbers within a double's range", claimsDepthMax)}
	}
	return nil
}

// plain says whether claims fit Envoy's dynamic metadata, a protobuf Struct. There every number is
// a double, and Envoy reads at most 100 nested messages, three for each level. Claims that do not
// fit would be signed and would then deny every Check.
func plain(claims []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(claims))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		if d.StackDepth() > claimsDepthMax {
			return false
		}
		if token.Kind() == '0' {
			if f, err := strconv.ParseFloat(token.String(), 64); err != nil || math.IsInf(f, 0) {
				return false
			}
		}
	}
}

// object reads a JSON object strictly (RFC 7493: no duplicate names, valid UTF-8) and replaces the
// text by its compact form.
func object(field string, text *[]byte) (map[string]jsontext.Value, error) {
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

// checkSize refuses claims that would make an access token too large for a cookie. It does so when
// the claims are given, not at some later refresh.
func (e *Engine) checkSize(userID string, claims []byte, t refreshToken) error {
	now := e.feed.clock.now()
	signer := e.keys.Load().signer(now)
	if signer == nil {
		return unavailable("sizing access token", errNoKey)
	}
	// No escape makes a byte longer than six, and all else is shorter than payloadTypical: so most
	// claims fit, whatever is in them.
	const longest = len(`\u0000`)
	if signer.size(payloadTypical+longest*(len(e.cfg.Issuer)+len(userID)+len(claims))) <= accessTokenMax {
		return nil
	}
	rec := Record{Row: Row{Handle: t.handle, UserID: userID}, Claims: claims, ClaimsVersion: 1 << 53}
	rec.CreatedAt, rec.ExpiresAt, rec.AbsoluteExpiresAt = now, now.Add(e.cfg.SlidingLife), now.Add(e.cfg.AbsoluteLife)
	payload, _, err := e.payload(rec, lineage{t.hash(), t.hash(), t.antiCSRF.digest(), t.transport, e.cfg.Binding.Offer}, now, rec.ExpiresAt)
	if err != nil {
		return &InvalidError{"claims", "a JSON object"}
	}
	if size := signer.size(len(payload)); size > accessTokenMax {
		return &InvalidError{"claims", fmt.Sprintf("the access token may have %d bytes; with these claims it has %d", accessTokenMax, size)}
	}
	return nil
}
