package sessions

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/asn1"
	"io"
	"math/big"
	"strings"
)

// An access token has one text. ES256 accepts many signatures of one payload: the signer's nonce is
// free, and if (r, s) verifies, so does (r, n-s). Ours take the nonce from key and message (RFC
// 6979) and the lower s. So a holder of the key can compute the one right signature, and every
// other one is refused.

// oneSignature signs in this way. jwx signs with it.
type oneSignature struct{ *ecdsa.PrivateKey }

var (
	order     = elliptic.P256().Params().N
	halfOrder = new(big.Int).Rsh(order, 1)
)

// Sign implements crypto.Signer. It takes no randomness.
func (k oneSignature) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.sign(digest, opts)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(sig)
}

type ecdsaSignature struct{ R, S *big.Int }

func (k oneSignature) sign(digest []byte, opts crypto.SignerOpts) (ecdsaSignature, error) {
	var sig ecdsaSignature
	der, err := k.PrivateKey.Sign(nil, digest, opts)
	if err != nil {
		return sig, err
	}
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return sig, err
	}
	if sig.S.Cmp(halfOrder) > 0 {
		sig.S.Sub(order, sig.S)
	}
	return sig, nil
}

// signatureSize is the size of r and s, signatureText the size of their base64url text.
const signatureSize, signatureText = 64, 86

// signature is the text of the one right signature of header.payload.
func (k *signingKey) signature(signed string) (text [signatureText]byte, err error) {
	digest := sha256.Sum256([]byte(signed))
	sig, err := oneSignature{k.private}.sign(digest[:], crypto.SHA256)
	if err != nil {
		return text, err
	}
	var raw [signatureSize]byte
	sig.R.FillBytes(raw[:signatureSize/2])
	sig.S.FillBytes(raw[signatureSize/2:])
	base64url.Encode(text[:], raw[:])
	return text, nil
}

// verifies says whether ES256 accepts a signature of header.payload.
func (k *signingKey) verifies(signed string, signature []byte) bool {
	digest := sha256.Sum256([]byte(signed))
	r := new(big.Int).SetBytes(signature[:signatureSize/2])
	s := new(big.Int).SetBytes(signature[signatureSize/2:])
	return ecdsa.Verify(&k.private.PublicKey, digest[:], r, s)
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

// id is the key of the token in the cache. For a tagged token it leaves out the signature, because
// only one signature is right: an attacker who varies the signature finds the cached entry and
// costs a comparison. For every other token, id covers all bytes.
func (t tokenText) id() [sha256.Size]byte {
	text := t.text
	if t.tagged {
		text = t.signed()
	}
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
