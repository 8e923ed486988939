package authz

import (
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
)

// respelled are texts that some reader takes for the token, each with its name.
func respelled(t testing.TB, token string) map[string]string {
	t.Helper()
	parts := strings.Split(token, ".")
	b64 := base64.RawURLEncoding
	sig, err := b64.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		t.Fatalf("a signature of %d bytes: %v", len(sig), err)
	}
	// P-256's order (SEC 2): where (r, s) verifies, so does (r, n-s).
	n, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	s := new(big.Int).SetBytes(sig[32:])
	with := func(f func(sig []byte)) string {
		altered := append([]byte(nil), sig...)
		f(altered)
		return parts[0] + "." + parts[1] + "." + b64.EncodeToString(altered)
	}
	texts := map[string]string{
		"the other s":        with(func(sig []byte) { new(big.Int).Sub(n, s).FillBytes(sig[32:]) }),
		"r negated":          with(func(sig []byte) { new(big.Int).Sub(n, new(big.Int).SetBytes(sig[:32])).FillBytes(sig[:32]) }),
		"padded":             token + "==",
		"padded by one":      token + "=",
		"four segments":      token + ".",
		"an empty one first": "." + token,
		"an empty one amid":  strings.Replace(token, ".", "..", 1),
		"standard alphabet":  strings.NewReplacer("-", "+", "_", "/").Replace(token) + "+",
		"other case":         strings.ToUpper(token),
		"percent":            strings.Replace(token, ".", "%2E", 1),
		"quotes within":      parts[0] + `."` + parts[1] + `".` + parts[2],
		"single quotes":      "'" + token + "'",
		"two pairs":          `""` + token + `""`,
		"half a pair":        `"` + token,
	}
	for name, blank := range map[string]string{"space": " ", "tab": "\t", "no-break space": "\u00a0", "vertical tab": "\v", "line": "\n", "return": "\r", "NUL": "\x00", "DEL": "\x7f", "BOM": "\ufeff"} {
		texts[name+" after"], texts[name+" before"] = token+blank, blank+token
		texts[name+" amid"] = parts[0] + "." + parts[1] + blank + "." + parts[2]
		texts[name+" in quotes"] = `"` + token + blank + `"`
	}
	return texts
}

// A token has one text in every transport. Every other text that some reader takes for the
// token is refused, before and after the token itself was seen. The one pair of quotes
// around a cookie's value is no part of the text.
func TestTokenHasOneText(t *testing.T) {
	cookies, header := newGate(t), newGate(t)
	alice, carol := cookies.alice.Access.Reveal(), header.header.Access.Reveal()
	for range 2 {
		for name, text := range respelled(t, alice) {
			if got := check(t, cookies.server, navigation.cookie("sAccessToken="+text)); got.status != 440 {
				t.Errorf("%s, in a cookie: %d", name, got.status)
			}
			if got := check(t, cookies.server, navigation.cookie("a=b; sAccessToken="+text+"; c=d")); got.status != 440 {
				t.Errorf("%s, in a cookie among others: %d", name, got.status)
			}
		}
		for name, text := range respelled(t, carol) {
			if strings.HasSuffix(name, "before") && strings.HasPrefix(name, "space") {
				continue // "Bearer" and the token have spaces between them, one or more
			}
			if got := check(t, header.server, script.with("authorization", "Bearer "+text)); got.status == 0 {
				t.Errorf("%s, as a bearer token: passes", name)
			}
		}
		for name, line := range map[string]string{"": alice, "quoted": `"` + alice + `"`, "quoted, and a blank": `"` + alice + `" ; a=b`} {
			if got := check(t, cookies.server, navigation.cookie("sAccessToken="+line)); got.status != 0 {
				t.Errorf("the token itself %s: %d", name, got.status)
			}
		}
		if got := check(t, header.server, script.with("authorization", "Bearer "+carol)); got.status != 0 {
			t.Errorf("the bearer token itself: %d", got.status)
		}
	}
}
