package sessions

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	"pgregory.net/rapid"
)

// otherS is a token with the other s of its signature, which ES256 takes as well.
func otherS(t testing.TB, text string) string {
	t.Helper()
	cut, ok := cutToken(text)
	sig, good := decode(cut.signature)
	if !ok || !good {
		t.Fatalf("no token of %d bytes", len(text))
	}
	s := new(big.Int).Sub(order, new(big.Int).SetBytes(sig[32:]))
	s.FillBytes(sig[32:])
	return cut.signed() + "." + encode(sig)
}

// signedAnew is what else the key's holder could have signed: a signature with a
// nonce of its own.
func signedAgain(t testing.TB, key *ecdsa.PrivateKey, signed string) string {
	t.Helper()
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, signatureSize)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + encode(sig)
}

func verifies(key *ecdsa.PrivateKey, text string) bool {
	_, err := jws.Verify([]byte(text), jws.WithKey(jwa.ES256, &key.PublicKey))
	return err == nil
}

// largestClaims is how long a claim may be: its token has no room for a tag.
func largestClaims(t testing.TB) int {
	t.Helper()
	e := offline(t)
	for n := accessTokenMax; n > 0; n-- {
		if text := issueAt(t, e, testEpoch, `{"x":"`+strings.Repeat("c", n)+`"}`).Access.Reveal(); len(text) <= accessTokenMax {
			return n
		}
	}
	return 0
}

// A token has one text: of all signatures that verify, one is taken, whether the
// token was seen before or not.
func TestOneSignature(t *testing.T) {
	for name, claims := range map[string]string{
		"tagged":             `{"role":"admin"}`,
		"no claims":          `{}`,
		"too long for a tag": `{"x":"` + strings.Repeat("c", largestClaims(t)) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 20 {
				e := offline(t)
				key := e.keys.Load().signers[0].private
				good := issueAt(t, e, testEpoch, claims).Access.Reveal()
				cut, _ := cutToken(good)
				if cut.tagged != (name != "too long for a tag") {
					t.Fatalf("a token of %d bytes: tagged %v", len(good), cut.tagged)
				}
				bad := []string{otherS(t, good)}
				if cut.tagged {
					bad = append(bad, signedAgain(t, key, cut.signed()), otherS(t, signedAgain(t, key, cut.signed())))
				}
				refused := func() {
					t.Helper()
					for _, text := range bad {
						if !verifies(key, text) {
							t.Fatal("the test's own signature is none")
						}
						if _, d := e.Verify(TransportCookie, []string{text}); d != DenySignature {
							t.Errorf("another signature: %v", d)
						}
					}
				}
				if i%2 == 0 { // the first sight of the payload, or not
					refused()
				}
				if _, d := e.Verify(TransportCookie, []string{good}); d != nil {
					t.Errorf("the right one: %v", d)
				}
				refused()
				if !verifies(key, good) {
					t.Error("others' verifiers do not take it")
				}
			}
		})
	}
}

// Signing takes no randomness: every replica makes the same text.
func TestSigningIsDeterministic(t *testing.T) {
	k := offline(t).keys.Load().signers[0]
	for n := range 50 {
		payload := fmt.Appendf(nil, `{"n":%d}`, n)
		one, err := k.sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		two, err := k.sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		cut, _ := cutToken(one)
		sig, _ := decode(cut.signature)
		direct, err := k.signature(digest(cut.signed()))
		if one != two || err != nil || string(direct[:]) != cut.signature {
			t.Fatalf("%s and %s, and %s by itself: %v", one, two, direct[:], err)
		}
		if isHighS(sig) {
			t.Errorf("%s has the higher s", one)
		}
	}
}

// lowS signs for jwx, in a way of its own: the digest with RFC 6979, then the lower s.
type lowS struct{ *ecdsa.PrivateKey }

func (k lowS) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	der, err := k.PrivateKey.Sign(nil, digest, opts)
	if err != nil {
		return nil, err
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, err
	}
	if sig.S.Cmp(halfOrder) > 0 {
		sig.S.Sub(order, sig.S)
	}
	return asn1.Marshal(sig)
}

// A token is, byte by byte, what jwx makes of the same payload, key and nonce.
func TestSignIsThatOfJWX(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k := &signingKey{id: KeyID(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "id")), private: private}
		if k.header, err = k.encodedHeader(); err != nil {
			t.Fatal(err)
		}
		headers := jws.NewHeaders()
		if err := errors.Join(headers.Set(jws.TypeKey, "session+jwt"), headers.Set(jws.KeyIDKey, k.id.String())); err != nil {
			t.Fatal(err)
		}
		payload := rapid.SliceOfN(rapid.Byte(), 1, accessTokenMax).Draw(t, "payload")
		want, err := jws.Sign(payload, jws.WithKey(jwa.ES256, lowS{private}, jws.WithProtectedHeaders(headers)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.sign(payload); err != nil || got != string(want) || len(got) != k.size(len(payload)) {
			t.Fatalf("%s: %v; jwx makes %s", got, err, want)
		}
	})
}

// The reserved object is written by hand, as encoding/json writes it.
func TestAppendGate(t *testing.T) {
	for _, p := range []lineage{{transport: TransportCookie}, {TokenHash{1, 0xff}, TokenHash{2, 0xfe}, [32]byte{3}, TransportHeader, false}, {transport: TransportCookie, bound: true}} {
		gate := gateClaims{Own: encode(p.own[:]), CSRF: encode(p.csrf[:]), Version: 1 << 53, Transport: p.transport}
		if p.bound {
			gate.Bound = 1
		}
		if p.parent != (TokenHash{}) {
			gate.Parent = encode(p.parent[:])
		}
		want, err := json.Marshal(gate)
		if got := p.appendGate(nil, 1<<53); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, not %s: %v", got, want, err)
		}
	}
}

// The lower s is half of the order at most.
func TestIsHighS(t *testing.T) {
	for _, tc := range []struct {
		s    *big.Int
		want bool
	}{
		{big.NewInt(1), false},
		{halfOrder, false},
		{new(big.Int).Add(halfOrder, big.NewInt(1)), true},
		{new(big.Int).Sub(order, big.NewInt(1)), true},
	} {
		sig := make([]byte, signatureSize)
		tc.s.FillBytes(sig[32:])
		if isHighS(sig) != tc.want {
			t.Errorf("%x: not %v", tc.s, tc.want)
		}
	}
}

// The former version put sg before the claims and signed with either s. Its tokens are valid until
// they expire: a rollout sends no client to refresh.
func TestTokensOfTheFormerVersion(t *testing.T) {
	e := offline(t)
	key := e.keys.Load().signers[0]
	for _, claims := range []string{`{}`, `{"role":"admin"}`, `{"x":{"sg":{"own":"x"}}}`} {
		now := untagged(t, issueAt(t, e, testEpoch, claims).Payload)
		at := strings.LastIndex(now, gateBefore+`{"own":"`)
		if claims == `{"x":{"sg":{"own":"x"}}}` {
			at = strings.LastIndex(now, gateBefore)
		}
		gate := now[at : len(now)-1]
		custom := strings.Trim(claims, "{}")
		if custom != "" {
			custom = "," + claims[1:len(claims)-1]
		}
		former := strings.Replace(now[:at], custom, "", 1) + gate + custom + "}"
		for _, text := range []string{
			forge(t, key.private, key.header, former), otherS(t, forge(t, key.private, key.header, former)),
			signedAgain(t, key.private, key.header+"."+encode([]byte(former))),
		} {
			a, d := e.Verify(TransportCookie, []string{text})
			if d != nil || !bytes.Equal(a.Claims, []byte(claims)) {
				t.Errorf("%s: %v, %+v", former, d, a)
			}
		}
	}
}
