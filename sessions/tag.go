package sessions

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
)

// The payload of an access token ends with a tag: a MAC over everything before it. The tag proves
// nothing that the signature does not, but it costs a hundredth of the time. So an attacker's flood
// of invented tokens costs next to nothing. Only the signature makes a token valid.
//
//	…,"sg":{…,"tag":"0123456789abcdefABCDEF"}}
const (
	tagBefore = `,"tag":"`
	tagBytes  = 16
	tagText   = 22 // its base64url
	tagAfter  = `"}}`
	tagWhole  = len(tagBefore) + tagText + len(tagAfter)
)

// tagSecret is the key of the MAC. Every process that has the signing key derives the same one.
//
// The label is frozen: tokens in use carry tags that were made with it.
func tagSecret(private *ecdsa.PrivateKey) ([]byte, error) {
	scalar, err := private.Bytes()
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, scalar)
	mac.Write([]byte("sessiongate access token tag v1"))
	return mac.Sum(nil), nil
}

func (k *signingKey) tag(before []byte) []byte {
	mac := hmac.New(sha256.New, k.tagSecret)
	mac.Write(before)
	return mac.Sum(nil)[:tagBytes]
}

// withTag is a payload with its tag, the last member of the last object.
func (k *signingKey) withTag(payload []byte) []byte {
	before := bytes.TrimSuffix(payload, []byte("}}"))
	tagged := append(append(make([]byte, 0, len(before)+tagWhole), before...), tagBefore...)
	return append(base64url.AppendEncode(tagged, k.tag(before)), tagAfter...)
}

// hasTag says whether a payload ends with the tag that only a holder of the key can make. The
// payload must end as tagged payloads do.
func (k *signingKey) hasTag(payload []byte) bool {
	n := len(payload) - tagWhole
	var tag [tagBytes]byte
	return n >= 0 && decodeInto(tag[:], string(payload[n+len(tagBefore):len(payload)-len(tagAfter)])) &&
		hmac.Equal(tag[:], k.tag(payload[:n]))
}

// endsWithTag says whether a payload, in base64url, ends as tagged payloads do. It decodes the end
// alone, from the start of a group of four.
func endsWithTag(encoded string) bool {
	const groups = (tagWhole + 2) / 3 * 4
	var from [groups + 4 + 3]byte
	var buf [len(from)]byte
	start := (len(encoded) - groups - 4) &^ 3
	if start < 0 {
		return false
	}
	n, err := base64url.Decode(buf[:], append(from[:0], encoded[start:]...))
	end := buf[:n]
	return err == nil && n >= tagWhole && string(end[n-tagWhole:n-tagWhole+len(tagBefore)]) == tagBefore &&
		string(end[n-len(tagAfter):]) == tagAfter
}
