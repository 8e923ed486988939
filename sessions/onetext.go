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

// An access token has one text. Of what ES256 takes for a signature of it there are
// many: the signer's nonce is free, and wherever (r, s) verifies, (r, n-s) does. So
// ours take the nonce from key and message (RFC 6979), and the lower s of the two.
// Whoever has the key can then tell the one right signature, and whatever else
// verifies is refused.

// oneSignature signs so. It is what jwx signs with.
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

// signatureSize is of a signature's r and s, signatureText of their base64url.
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

// verifies says whether a signature is one of header.payload, of all that ES256 takes.
func (k *signingKey) verifies(signed string, signature []byte) bool {
	digest := sha256.Sum256([]byte(signed))
	r := new(big.Int).SetBytes(signature[:signatureSize/2])
	s := new(big.Int).SetBytes(signature[signatureSize/2:])
	return ecdsa.Verify(&k.private.PublicKey, digest[:], r, s)
}

// isHighS says whether s of a signature is the higher of the two that verify.
func isHighS(signature []byte) bool {
	return new(big.Int).SetBytes(signature[signatureSize/2:]).Cmp(halfOrder) > 0
}

// tokenText is an access token, cut at its dots. Nothing of it is believed.
type tokenText struct {
	text                       string
	header, payload, signature string
	tagged                     bool // it ends as payloads with a tag do
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

// signed is what the signature is of.
func (t tokenText) signed() string { return t.text[:len(t.header)+1+len(t.payload)] }

// id is the token's place in the cache. That of a tagged one leaves out the
// signature, of which one alone is right: who varies it finds the entry of the right
// one and costs a comparison. Any other is named by all of its bytes.
func (t tokenText) id() [sha256.Size]byte {
	text := t.text
	if t.tagged {
		text = t.signed()
	}
	var buf [accessTokenMax]byte
	return sha256.Sum256(append(buf[:0], text...))
}

// presented is v for a token that has its signature. The comparison takes the same
// time wherever they differ: scripts can read payloads, and whoever has one is not to
// find the signature byte by byte.
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
