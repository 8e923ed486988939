package sessions

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// An access token has one text. ES256 accepts many signatures of one payload: the signer's nonce is
// free, and if (r, s) verifies, so does (r, n-s). Ours take the nonce from key and message (RFC
// 6979) and the lower s. So a holder of the key can compute the one right signature, and every
// other one is refused.

var (
	order     = elliptic.P256().Params().N
	halfOrder = new(big.Int).Rsh(order, 1)
)

// signatureSize is the size of r and s, signatureText the size of their base64url text.
const signatureSize, signatureText = 64, 86

// oneSignature is the one right signature of a digest.
func oneSignature(private *ecdsa.PrivateKey, digest [sha256.Size]byte) (raw [signatureSize]byte, err error) {
	der, err := private.Sign(nil, digest[:], crypto.SHA256) // without randomness: RFC 6979
	if err != nil {
		return raw, err
	}
	text, sequence := cryptobyte.String(der), cryptobyte.String(nil)
	r, s := new(big.Int), new(big.Int)
	if !text.ReadASN1(&sequence, asn1.SEQUENCE) || !sequence.ReadASN1Integer(r) || !sequence.ReadASN1Integer(s) {
		return raw, errors.New("crypto/ecdsa made no signature of r and s")
	}
	if s.Cmp(halfOrder) > 0 {
		s.Sub(order, s)
	}
	r.FillBytes(raw[:signatureSize/2])
	s.FillBytes(raw[signatureSize/2:])
	return raw, nil
}

// signature is the text of the one right signature of header.payload, which has this digest.
func (k *signingKey) signature(digest [sha256.Size]byte) (text [signatureText]byte, err error) {
	raw, err := oneSignature(k.private, digest)
	base64url.Encode(text[:], raw[:])
	return text, err
}

// sign is the token of a payload (RFC 7515 §7.1).
func (k *signingKey) sign(payload []byte) (string, error) {
	text := append(make([]byte, 0, k.size(len(payload))), k.header...)
	text = base64url.AppendEncode(append(text, '.'), payload)
	signature, err := k.signature(sha256.Sum256(text))
	if err != nil {
		return "", err
	}
	return string(append(append(text, '.'), signature[:]...)), nil
}

// verifies says whether ES256 accepts a signature of header.payload.
func (k *signingKey) verifies(signed string, signature []byte) bool {
	return verifiesES256(&k.private.PublicKey, signed, signature)
}

// verifiesES256 says whether a signature, r and s of 32 bytes each, is the key's (RFC 7518 §3.4).
func verifiesES256(key *ecdsa.PublicKey, signed string, signature []byte) bool {
	if len(signature) != signatureSize {
		return false
	}
	digest := sha256.Sum256([]byte(signed))
	r := new(big.Int).SetBytes(signature[:signatureSize/2])
	s := new(big.Int).SetBytes(signature[signatureSize/2:])
	return ecdsa.Verify(key, digest[:], r, s)
}

// isHighS says whether a signature has the higher of the two s that verify.
func isHighS(signature []byte) bool {
	return new(big.Int).SetBytes(signature[signatureSize/2:]).Cmp(halfOrder) > 0
}

// tokenText is an access token, cut at its dots. Nothing of it is trusted yet.
type tokenText struct {
	text                       string
	header, payload, signature string
	tagged                     bool // the payload ends as tagged ones do
}

func cutToken(text string) (t tokenText, ok bool) {
	if len(text) > accessTokenMax {
		return t, false
	}
	var rest string
	t.text = text
	if t.header, rest, ok = strings.Cut(text, "."); !ok {
		return t, false
	}
	t.payload, t.signature, ok = strings.Cut(rest, ".")
	t.tagged = ok && endsWithTag(t.payload)
	return t, ok
}

// signed is the text that the signature covers.
func (t tokenText) signed() string { return t.text[:len(t.header)+1+len(t.payload)] }

// name is what a cache knows the token by. For a tagged token it leaves out the signature, because
// only one signature is right: an attacker who varies the signature finds the cached entry and
// costs a comparison. For every other token, it is the whole text.
func (t tokenText) name() string {
	if t.tagged {
		return t.signed()
	}
	return t.text
}

// digest is SHA-256 of text of a token, without an allocation.
func digest(text string) [sha256.Size]byte {
	var buf [accessTokenMax]byte
	return sha256.Sum256(append(buf[:0], text...))
}

// presented is v if the token came with the right signature. The comparison takes the same time
// wherever the texts differ: scripts can read payloads, and an attacker who has one must not find
// the signature byte by byte.
func (v *verified) presented(signature string) (*verified, *Denial) {
	var got [signatureText]byte
	if len(signature) == signatureText && subtle.ConstantTimeCompare(append(got[:0], signature...), v.signature[:]) == 1 {
		return v, nil
	}
	if !isSignature(signature) {
		return nil, DenyMalformed
	}
	return nil, DenySignature
}

func isSignature(text string) bool {
	b, ok := decode(text)
	return ok && len(b) == signatureSize
}
