package sessions

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
)

// The payload of an access token ends with a tag: a MAC over all that stands before
// it. It proves nothing that the signature does not, and it is checked in a hundredth
// of the time, so a flood of invented tokens costs next to nothing. A token is
// believed by its signature alone.
//
//	…,"sg":{…,"tag":"0123456789abcdefABCDEF"}}
const (
	tagBefore = `,"tag":"`
	tagBytes  = 16
	tagText   = 22 // its base64url
	tagAfter  = `"}}`
	tagWhole  = len(tagBefore) + tagText + len(tagAfter)
)

// tagSecret is the MAC's key. All who have the signing key derive the same one.
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

// withTag is a payload with its tag, which stands last in the object that is last.
func (k *signingKey) withTag(payload []byte) []byte {
	before := bytes.TrimSuffix(payload, []byte("}}"))
	tag := encode(k.tag(before))
	return append(append(append(bytes.Clone(before), tagBefore...), tag...), tagAfter...)
}

// hasTag says whether a payload, which ends as tagged ones do, ends with the tag
// that only the key's holder can make.
func (k *signingKey) hasTag(payload []byte) bool {
	n := len(payload) - tagWhole
	var tag [tagBytes]byte
	return n >= 0 && decodeInto(tag[:], string(payload[n+len(tagBefore):len(payload)-len(tagAfter)])) &&
		hmac.Equal(tag[:], k.tag(payload[:n]))
}

// endsWithTag says whether a payload, in base64url, ends as tagged ones do. It
// decodes the end alone, from a place where a group of four begins.
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
