package sessions

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// offline is an engine that has its keys and a reading of the store's clock, and
// no store: whatever asks one panics.
func offline(t testing.TB) *Engine {
	t.Helper()
	cfg := Defaults()
	cfg.KeyEncryptionKey = testKEK(t, 'k')
	local := time.Unix(0, 0)
	cfg.Now = func() time.Time { return local }
	e, err := New(nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.keys.Store(testRing(t, cfg.KeyEncryptionKey))
	e.feed.clock.set(testEpoch, local)
	e.unverified.each = cpuBurst / 10_000 // tests are no flood
	return e
}

func testKEK(t testing.TB, fill byte) *KeyEncryptionKey {
	t.Helper()
	k, err := ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(fill), 32))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testRing(t testing.TB, kek *KeyEncryptionKey) *keyring {
	t.Helper()
	var stored []StoredKey
	for _, kind := range []KeyKind{KeySealing, KeySigning} {
		k, err := newKey(kind, 1, kek)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, k)
	}
	ring, err := newKeyring(stored, KeyEncryption{Key: kek}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// issueAt gives what a sign-in at the store's time now issues.
// issueAt is what the engine issues. Others verify each of its access tokens, too: jwx does, with
// the published keys.
func issueAt(t testing.TB, e *Engine, now time.Time, claims string) Issued {
	t.Helper()
	token, row := signIn(now, netV)
	issued, err := e.issue(Record{Row: row, Claims: []byte(claims), ClaimsVersion: 1}, token, TokenHash{}, now, true)
	if err != nil {
		t.Fatal(err)
	}
	published, err := e.keys.Load().jwks()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jwk.Parse(published)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify([]byte(issued.Access.Reveal()), jws.WithKeySet(keys))
	if err != nil || !bytes.Equal(payload, issued.Payload) {
		t.Fatalf("jwx does not verify what was issued: %v; payload %s, not %s", err, payload, issued.Payload)
	}
	return issued
}

// forge signs whatever it is given, as only the holder of the key can, and with the
// one signature that we take.
func forge(t testing.TB, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	input := header + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	sig, err := oneSignature(key, sha256.Sum256([]byte(input)))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig[:])
}

// untagged is a payload without its tag: what is then done to it is found by what it
// says, not by the tag.
func untagged(t testing.TB, payload []byte) string {
	t.Helper()
	if !endsWithTag(encode(payload)) {
		t.Fatalf("no tag in %s", payload)
	}
	return string(payload[:len(payload)-tagWhole]) + "}}"
}

// TestVerifyRefusesBytes is V1: each text is a good token with something done
// to it.
func TestVerifyRefusesBytes(t *testing.T) {
	e := offline(t)
	key := e.keys.Load().signers[0]
	issued := issueAt(t, e, testEpoch, `{"role":"admin"}`)
	good := issued.Access.Reveal()
	if _, d := e.Verify(TransportCookie, []string{good}); d != nil {
		t.Fatalf("the good token is refused: %v", d)
	}
	parts := strings.Split(good, ".")
	header, payload, sig := parts[0], parts[1], parts[2]
	b64 := base64.RawURLEncoding.EncodeToString
	kid := key.id.String()
	signed := func(h string) string { return forge(t, key.private, b64([]byte(h)), string(issued.Payload)) }
	public, err := x509.MarshalPKIXPublicKey(&key.private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(secret []byte) string {
		input := b64([]byte(`{"alg":"HS256","kid":"`+kid+`","typ":"session+jwt"}`)) + "." + payload
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return input + "." + b64(mac.Sum(nil))
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", sig[len(sig)-1])
	trailingBits := sig[:len(sig)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last|1])

	for _, tc := range []struct {
		name, text string
		want       *Denial
	}{
		{"empty", "", DenyMalformed},
		{"one segment", header, DenyMalformed},
		{"two segments", header + "." + payload, DenyMalformed},
		{"four segments", good + ".", DenyMalformed},
		{"five segments (JWE)", good + ".a.b", DenyMalformed},
		{"no signature", header + "." + payload + ".", DenyMalformed},
		{"no payload", header + ".." + sig, DenySignature},
		{"truncated by one", good[:len(good)-1], DenyMalformed},
		{"truncated by four", good[:len(good)-4], DenyMalformed},
		{"padded", good + "==", DenyMalformed},
		{"padded payload", header + "." + payload + "=." + sig, DenyMalformed},
		{"newline at the end", good + "\n", DenyMalformed},
		{"newline in the payload", header + "." + payload[:8] + "\n" + payload[8:] + "." + sig, DenyMalformed},
		{"carriage return in the signature", header + "." + payload + "." + sig[:8] + "\r" + sig[8:], DenyMalformed},
		{"space before", " " + good, DenyMalformed},
		{"trailing bits", header + "." + payload + "." + trailingBits, DenyMalformed},
		{"standard alphabet", header + "." + payload + "." + "+/" + sig[2:], DenyMalformed},
		{"NUL", good[:40] + "\x00" + good[41:], DenyMalformed},
		{"signature of 63 bytes", header + "." + payload + "." + b64(make([]byte, 63)), DenyMalformed},
		{"signature of zeros", header + "." + payload + "." + b64(make([]byte, 64)), DenySignature},
		{"another's signature", header + "." + payload + "." + strings.Split(forge(t, other, header, string(issued.Payload)), ".")[2], DenySignature},
		{"another payload", header + "." + b64([]byte(strings.Replace(string(issued.Payload), "alice", "mallo", 1))) + "." + sig, DenySignature},
		{"too long", good + strings.Repeat("A", accessTokenMax), DenyMalformed},
		{"alg none", b64([]byte(`{"alg":"none"}`)) + "." + payload + ".", DenyUnknownKey},
		{"alg none with kid", b64([]byte(`{"alg":"none","kid":"`+kid+`","typ":"session+jwt"}`)) + "." + payload + "." + sig, DenyUnknownKey},
		{"HS256 with the public key", hs256(public), DenyUnknownKey},
		{"HS256 with nothing", hs256(nil), DenyUnknownKey},
		{"crit", signed(`{"alg":"ES256","crit":["x"],"kid":"` + kid + `","typ":"session+jwt","x":1}`), DenyUnknownKey},
		{"b64", signed(`{"alg":"ES256","b64":false,"crit":["b64"],"kid":"` + kid + `","typ":"session+jwt"}`), DenyUnknownKey},
		{"jwk", signed(`{"alg":"ES256","jwk":{"kty":"EC"},"kid":"` + kid + `","typ":"session+jwt"}`), DenyUnknownKey},
		{"jku", signed(`{"alg":"ES256","jku":"https://evil.example/","kid":"` + kid + `","typ":"session+jwt"}`), DenyUnknownKey},
		{"x5u", signed(`{"alg":"ES256","kid":"` + kid + `","typ":"session+jwt","x5u":"https://evil.example/"}`), DenyUnknownKey},
		{"nested", signed(`{"alg":"ES256","cty":"JWT","kid":"` + kid + `","typ":"session+jwt"}`), DenyUnknownKey},
		{"typ JWT", signed(`{"alg":"ES256","kid":"` + kid + `","typ":"JWT"}`), DenyUnknownKey},
		{"no typ", signed(`{"alg":"ES256","kid":"` + kid + `"}`), DenyUnknownKey},
		{"no kid", signed(`{"alg":"ES256","typ":"session+jwt"}`), DenyUnknownKey},
		{"header with spaces", signed(`{"alg": "ES256","kid":"` + kid + `","typ":"session+jwt"}`), DenyUnknownKey},
		{"header with a duplicate", signed(`{"alg":"ES256","alg":"ES256","kid":"` + kid + `","typ":"session+jwt"}`), DenyUnknownKey},
		{"JSON serialisation", `{"protected":"` + header + `","payload":"` + payload + `","signature":"` + sig + `"}`, DenyMalformed},
		{"JSON serialisation with dots", `{"payload":"` + payload + `","signatures":[{"protected":"` + header + `","signature":"` + sig + `"}]}..`, DenyMalformed},
		{"another deployment", issueAt(t, offline(t), testEpoch, `{}`).Access.Reveal(), DenyUnknownKey},
		{"a refresh token", issued.Refresh.Reveal(), DenyMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.text == good {
				t.Fatal("nothing was done to the token")
			}
			if a, d := e.Verify(TransportCookie, []string{tc.text}); d != tc.want || a != nil {
				t.Errorf("Verify says %v, want %v", d, tc.want)
			}
		})
	}
}

// TestVerifyRefusesClaims is V1 after a valid header and a valid signature.
func TestVerifyRefusesClaims(t *testing.T) {
	e := offline(t)
	key := e.keys.Load().signers[0]
	good := untagged(t, issueAt(t, e, testEpoch, `{"role":"admin"}`).Payload)
	edit := func(f func(claims, gate map[string]any)) string {
		var claims map[string]any
		if err := json.Unmarshal([]byte(good), &claims); err != nil {
			t.Fatal(err)
		}
		f(claims, claims["sg"].(map[string]any))
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	set := func(name string, v any) string { return edit(func(c, _ map[string]any) { c[name] = v }) }
	gate := func(name string, v any) string { return edit(func(_, g map[string]any) { g[name] = v }) }
	without := func(name string) string { return edit(func(c, _ map[string]any) { delete(c, name) }) }
	gateWithout := func(name string) string { return edit(func(_, g map[string]any) { delete(g, name) }) }
	now := testEpoch.Unix()

	for _, tc := range []struct {
		name, payload string
		want          *Denial
	}{
		{"as it was", good, nil},
		{"reordered", edit(func(map[string]any, map[string]any) {}), nil},

		{"not JSON", "role=admin", DenyClaims},
		{"empty", "", DenyClaims},
		{"null", "null", DenyClaims},
		{"an array", "[" + good + "]", DenyClaims},
		{"trailing JSON", good + "{}", DenyClaims},
		{"trailing text", good + "x", DenyClaims},
		{"duplicate sub", strings.Replace(good, `"sub":"alice"`, `"sub":"alice","sub":"bob"`, 1), DenyClaims},
		{"duplicate custom claim", strings.Replace(good, `"role":"admin"`, `"role":"user","role":"admin"`, 1), DenyClaims},
		{"duplicate in sg", strings.Replace(good, `"ver":1`, `"ver":1,"ver":9`, 1), DenyClaims},
		{"invalid UTF-8", strings.Replace(good, "admin", "adm\xffn", 1), DenyClaims},
		{"other case", strings.Replace(good, `"sub"`, `"Sub"`, 1), DenyClaims},

		{"issuer", set("iss", "another issuer"), DenyClaims},
		{"issuer list", set("iss", []string{"sessiongate"}), DenyClaims},
		{"no issuer", without("iss"), DenyClaims},
		{"no sub", without("sub"), DenyClaims},
		{"empty sub", set("sub", ""), DenyClaims},
		{"sub a number", set("sub", 7), DenyClaims},
		{"no sid", without("sid"), DenyClaims},
		{"sid too short", set("sid", "AAAA"), DenyClaims},
		{"sid not canonical", set("sid", strings.Repeat("A", 21)+"B"), DenyClaims},
		{"no sg", without("sg"), DenyClaims},
		{"sg null", set("sg", nil), DenyClaims},
		{"no own", gateWithout("own"), DenyClaims},
		{"own too short", gate("own", "AAAA"), DenyClaims},
		{"parent too short", gate("parent", "AAAA"), DenyClaims},
		{"no csrf", gateWithout("csrf"), DenyClaims},
		{"no version", gateWithout("ver"), DenyClaims},
		{"version 0", gate("ver", 0), DenyClaims},
		{"no transport", gateWithout("tr"), DenyClaims},
		{"transport 3", gate("tr", 3), DenyClaims},
		{"no auth_time", without("auth_time"), DenyClaims},

		{"no exp", without("exp"), DenyClaims},
		{"exp a text", set("exp", "9999999999"), DenyClaims},
		{"exp a fraction", set("exp", 1e10+0.5), DenyClaims},
		{"exp null", set("exp", nil), DenyClaims},
		{"exp negative", set("exp", -1), DenyClaims},
		{"exp in a second", set("exp", now+1), nil},
		{"exp now", set("exp", now), DenyExpired},
		{"exp a second ago", set("exp", now-1), DenyExpired},
		{"no iat", without("iat"), DenyClaims},
		// The store's clock stepped back: no client is sent away until it catches up.
		{"iat within leeway", set("iat", now+5), nil},
		{"iat beyond leeway", set("iat", now+6), DenyClaims},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, d := e.Verify(TransportCookie, []string{forge(t, key.private, key.header, tc.payload)}); d != tc.want {
				t.Errorf("Verify says %v, want %v", d, tc.want)
			}
		})
	}
}

func TestVerifySeveralTokens(t *testing.T) {
	e := offline(t)
	token, row := signIn(testEpoch.Add(-time.Minute), netV)
	at := func(now time.Time, version int64) string {
		i, err := e.issue(Record{Row: row, Claims: []byte(`{}`), ClaimsVersion: version}, token, TokenHash{}, now, true)
		if err != nil {
			t.Fatal(err)
		}
		return i.Access.Reveal()
	}
	older, newer := at(testEpoch.Add(-time.Minute), 1), at(testEpoch, 2)
	attacker := issueAt(t, e, testEpoch, `{}`).Access.Reveal()
	foreign := issueAt(t, offline(t), testEpoch, `{}`).Access.Reveal()

	for _, tc := range []struct {
		name    string
		tokens  []string
		want    *Denial
		version int64
	}{
		{"none", nil, DenyNoToken, 0},
		{"the newer one first", []string{newer, older}, nil, 2},
		{"the newer one last", []string{older, newer}, nil, 2},
		{"garbage beside", []string{"x", newer, "y.z"}, nil, 2},
		{"another deployment's beside", []string{foreign, older}, nil, 1},
		{"of two sessions", []string{newer, attacker}, DenySeveral, 0},
		{"garbage alone", []string{"x", "y"}, DenyMalformed, 0},
		{"too many", []string{newer, "1", "2", "3", "4", "5", "6", "7", "8"}, DenyMalformed, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, d := e.Verify(TransportCookie, tc.tokens)
			if d != tc.want || d == nil && a.version != tc.version {
				t.Errorf("Verify says %v (%+v), want %v, version %d", d, a, tc.want, tc.version)
			}
		})
	}
}

// A token counts by the transport that it was made for, whatever else is there.
func TestVerifyByTransport(t *testing.T) {
	e := offline(t)
	token, row := signIn(testEpoch, netV)
	inCookie, err := e.issue(Record{Row: row, Claims: []byte(`{}`), ClaimsVersion: 1}, token, TokenHash{}, testEpoch, true)
	if err != nil {
		t.Fatal(err)
	}
	token, row = signIn(testEpoch, netV)
	token.transport = TransportHeader
	inHeader, err := e.issue(Record{Row: row, Claims: []byte(`{}`), ClaimsVersion: 1}, token, TokenHash{}, testEpoch, true)
	if err != nil {
		t.Fatal(err)
	}
	for by, tokens := range map[Transport][2]string{
		TransportCookie: {inCookie.Access.Reveal(), inHeader.Access.Reveal()},
		TransportHeader: {inHeader.Access.Reveal(), inCookie.Access.Reveal()},
	} {
		own, other := tokens[0], tokens[1]
		if a, d := e.Verify(by, []string{other, own}); d != nil || a.Transport != by {
			t.Errorf("transport %d: %v", by, d)
		}
		for range 2 { // also from the cache
			if _, d := e.Verify(by, []string{other}); d != DenyTransport {
				t.Errorf("transport %d takes the other's token: %v", by, d)
			}
		}
	}
}

func TestIsAccessToken(t *testing.T) {
	e := offline(t)
	ours := issueAt(t, e, testEpoch, `{}`).Access.Reveal()
	header, _, _ := strings.Cut(ours, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	for text, want := range map[string]bool{
		ours: true, header + ".": true, issueAt(t, offline(t), testEpoch, `{}`).Access.Reveal(): true,
		"": false, "opaque": false, header: false, "." + header: false, "=.x": false,
		b64([]byte(`{"alg":"ES256","typ":"at+jwt"}`)) + ".x.y":                             false,
		b64([]byte(`{"alg":"none"}`)) + ".x.y":                                             false,
		b64([]byte(`{"typ":"session+jwt","x":"`+strings.Repeat("a", 300)+`"}`)) + ".x.y":   false,
		issueAt(t, e, testEpoch, `{}`).Refresh.Reveal():                                    false,
		b64([]byte(`{"alg":"ES256"}`)) + "." + b64([]byte(`{"typ":"session+jwt"}`)) + ".x": false,
	} {
		if got := IsAccessToken(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

// A token may change neither by a byte nor by a bit and still be one.
func TestAccessTokenIsNotMalleable(t *testing.T) {
	e := offline(t)
	good := issueAt(t, e, testEpoch, `{}`).Access.Reveal()
	for i := range len(good) {
		for _, b := range []byte{good[i] ^ 1, good[i] ^ 2, good[i] ^ 0x20, good[i] + 4, 0, '=', '\n', '.'} {
			text := good[:i] + string([]byte{b}) + good[i+1:]
			if text == good {
				continue
			}
			if _, d := e.Verify(TransportCookie, []string{text}); d == nil {
				t.Fatalf("byte %d may be %q instead of %q", i, b, good[i])
			}
		}
		if _, d := e.Verify(TransportCookie, []string{good[:i] + good[i+1:]}); d == nil {
			t.Fatalf("byte %d may be missing", i)
		}
	}
}

func FuzzAccessToken(f *testing.F) {
	e := offline(f)
	good := issueAt(f, e, testEpoch, `{"role":"admin"}`).Access.Reveal()
	foreign := issueAt(f, offline(f), testEpoch, `{}`).Access.Reveal()
	// The keys are new in each run, so the corpus says what to do to a token.
	f.Add(0, 0, "")
	f.Add(len(good), 0, "\n")
	f.Add(len(good), 0, "=")
	f.Add(len(good)-1, 1, "A")
	f.Add(0, len(good), foreign)
	f.Add(0, len(good), "eyJhbGciOiJub25lIn0.e30.")
	f.Add(40, 3, "....")
	f.Add(0, 0, " ")
	f.Fuzz(func(t *testing.T, at, cut int, insert string) {
		if at < 0 || cut < 0 || at > len(good) || cut > len(good)-at {
			t.Skip()
		}
		text := good[:at] + insert + good[at+cut:]
		if a, d := e.Verify(TransportCookie, []string{text}); (d == nil) != (text == good) {
			t.Fatalf("%q: %v, %+v", text, d, a)
		}
	})
}

// TestUnknownSigningKey: a token of a key that a replica does not know is sent
// to refresh, unless the replica may have missed the key.
func TestUnknownSigningKey(t *testing.T) {
	e := offline(t)
	foreign := issueAt(t, offline(t), testEpoch, `{}`).Access.Reveal()
	local := e.cfg.Now()
	e.feed.clock.local = func() time.Time { return local.Add(e.cfg.FeedBound) }
	if _, d := e.Verify(TransportCookie, []string{foreign}); d != DenyUnknownKey {
		t.Errorf("with a fresh feed: %v", d)
	}
	e.feed.clock.local = func() time.Time { return local.Add(e.cfg.FeedBound + 1) }
	for _, tokens := range [][]string{{foreign}, {"x", foreign}, {foreign, "x"}} {
		if _, d := e.Verify(TransportCookie, tokens); d != DenyStaleKeys {
			t.Errorf("with a stale feed, %d tokens: %v", len(tokens), d)
		}
	}
}

// TestAccessTokenNeverOutlivesItsSession is I5.
func TestAccessTokenNeverOutlivesItsSession(t *testing.T) {
	e := offline(t)
	token, row := signIn(testEpoch, netV)
	row.AbsoluteExpiresAt = testEpoch.Add(time.Minute + 900*time.Millisecond)
	for _, sliding := range []time.Duration{time.Hour, 30*time.Second + 700*time.Millisecond} {
		row.ExpiresAt = testEpoch.Add(sliding)
		i, err := e.issue(Record{Row: row, Claims: []byte(`{}`), ClaimsVersion: 1}, token, TokenHash{}, testEpoch, true)
		if err != nil {
			t.Fatal(err)
		}
		end := earlier(row.ExpiresAt, row.AbsoluteExpiresAt)
		if i.AccessExpires.After(end) || end.Sub(i.AccessExpires) >= time.Second {
			t.Errorf("sliding %s: expires at %v, its session at %v", sliding, i.AccessExpires, end)
		}
		if i.RefreshLife != end.Sub(testEpoch) {
			t.Errorf("sliding %s: cookies live %s", sliding, i.RefreshLife)
		}
	}
}

func TestJWKSIsPublic(t *testing.T) {
	e := offline(t)
	text, err := e.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	for name := range set.Keys[0] {
		switch name {
		case "kty", "crv", "x", "y", "kid", "alg", "use":
		default:
			t.Errorf("member %q is in the JWKS", name)
		}
	}
	k := set.Keys[0]
	if k["kty"] != "EC" || k["crv"] != "P-256" || k["alg"] != "ES256" || k["use"] != "sig" || k["kid"] != e.keys.Load().signers[0].id.String() {
		t.Errorf("key is %v", k)
	}
}

func TestMatchesAntiCSRF(t *testing.T) {
	e := offline(t)
	issued := issueAt(t, e, testEpoch, `{}`)
	a, d := e.Verify(TransportCookie, []string{issued.Access.Reveal()})
	if d != nil {
		t.Fatal(d)
	}
	good := issued.AntiCSRF.Reveal()
	if !a.MatchesAntiCSRF(good) {
		t.Error("the session's own token does not match")
	}
	for _, text := range []string{"", good[1:], good + "=", good + "\n", strings.ToLower(good) + "x", issueAt(t, e, testEpoch, `{}`).AntiCSRF.Reveal()} {
		if a.MatchesAntiCSRF(text) {
			t.Errorf("%q matches", text)
		}
	}
}
