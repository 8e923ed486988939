package sessions

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func numbered(from byte, b []byte) {
	for i := range b {
		b[i] = from + byte(i)
	}
}

// TestRefreshTokenFormat pins what running deployments have in their databases and browsers. The
// numbers come from another implementation of the same text. A change of them signs every user out.
func TestRefreshTokenFormat(t *testing.T) {
	var token refreshToken
	numbered(0, token.secret[:])
	numbered(100, token.handle[:])
	numbered(50, token.antiCSRF[:])
	token.transport = TransportCookie
	var nonce Nonce
	numbered(200, nonce[:])
	child := childAt(token, nonce, time.UnixMicro(1795521600000000))
	childHash, hash, csrf := child.hash(), token.hash(), token.antiCSRF.digest()
	for _, tc := range []struct{ name, got, want string }{
		{"token hash", hex.EncodeToString(hash[:]), "039722c89f8fa37dba81cc32de183686a78bfc17d3539c677dd77d08041c36e6"},
		{"child's secret", hex.EncodeToString(child.secret[:]), "a285e5619f3a164692cddf4843edb8f6e3cbff0a114c99bad70b9bbc8949e309"},
		{"child's token hash", hex.EncodeToString(childHash[:]), "db644b98142cd72370c4e4c927aee48c8a279ba673ecbeabfdcb22b35ed7bf52"},
		{"child's parent", hex.EncodeToString(child.parent[:]), "039722c89f8fa37dba81cc32de183686a78bfc17d3539c677dd77d08041c36e6"},
		{"anti-CSRF", token.antiCSRF.token().Reveal(), "MjM0NTY3ODk6Ozw9Pj9AQQ"},
		{"anti-CSRF digest", hex.EncodeToString(csrf[:]), "e2239587a3f611f0825c5601551d90b490d8d646bdb643803002a61a59f3594f"},
		{"sealed body", hex.EncodeToString(child.body()), "6465666768696a6b6c6d6e6f70717273" + "a285e5619f3a164692cddf4843edb8f6e3cbff0a114c99bad70b9bbc8949e309" + "039722c89f8fa37dba81cc32de183686a78bfc17d3539c677dd77d08041c36e6" + "32333435363738393a3b3c3d3e3f4041" + "01" + "0006610473279000"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s is %s, was %s", tc.name, tc.got, tc.want)
		}
	}
}

// TestOpenRefreshToken is R1: ended without a query (offline has no store to ask), unavailable if
// this process may not know enough.
func TestOpenRefreshToken(t *testing.T) {
	e := offline(t)
	local := e.cfg.Now()
	good := issueAt(t, e, testEpoch, `{}`).Refresh.Reveal()
	newer := issueAt(t, e, testEpoch.Add(time.Second), `{}`).Refresh.Reveal()
	foreign := issueAt(t, offline(t), testEpoch, `{}`).Refresh.Reveal()
	body := strings.TrimPrefix(good, refreshVersion)
	raw, _ := decode(body)
	altered := func(i int) string {
		b := append([]byte(nil), raw...)
		b[i] ^= 1
		return refreshVersion + encode(b)
	}

	for _, tc := range []struct {
		name         string
		tokens       []string
		fresh, stale error
	}{
		{"good", []string{good}, nil, nil},
		{"garbage beside", []string{"x", good, ""}, nil, nil},
		{"another deployment's beside", []string{foreign, good}, nil, nil},
		{"a newer format beside", []string{"sgr2_abc", good}, nil, nil},
		{"none", nil, ErrSessionEnded, ErrSessionEnded},
		{"empty", []string{""}, ErrSessionEnded, ErrSessionEnded},
		{"garbage", []string{"garbage"}, ErrSessionEnded, ErrSessionEnded},
		{"no prefix", []string{body}, ErrSessionEnded, ErrSessionEnded},
		{"prefix alone", []string{refreshVersion}, ErrSessionEnded, ErrSessionEnded},
		{"padded", []string{good + "="}, ErrSessionEnded, ErrSessionEnded},
		{"newline", []string{good + "\n"}, ErrSessionEnded, ErrSessionEnded},
		{"newline inside", []string{good[:30] + "\n" + good[30:]}, ErrSessionEnded, ErrSessionEnded},
		{"truncated", []string{good[:len(good)-4]}, ErrSessionEnded, ErrSessionEnded},
		{"longer", []string{good + "AAAA"}, ErrSessionEnded, ErrSessionEnded},
		{"altered nonce", []string{altered(8)}, ErrSessionEnded, ErrSessionEnded},
		{"altered body", []string{altered(8 + 12)}, ErrSessionEnded, ErrSessionEnded},
		{"altered tag", []string{altered(len(raw) - 1)}, ErrSessionEnded, ErrSessionEnded},
		{"of two sessions", []string{good, newer}, ErrSessionEnded, ErrSessionEnded},
		{"too many", []string{good, "1", "2", "3", "4", "5", "6", "7", "8"}, ErrSessionEnded, ErrSessionEnded},
		{"an access token", []string{issueAt(t, e, testEpoch, `{}`).Access.Reveal()}, ErrSessionEnded, ErrSessionEnded},
		{"unknown key", []string{foreign}, ErrSessionEnded, ErrUnavailable},
		{"altered key id", []string{altered(0)}, ErrSessionEnded, ErrUnavailable},
		{"newer format", []string{"sgr2_abc"}, ErrUnavailable, ErrUnavailable},
		{"much newer format", []string{"sgr999_"}, ErrUnavailable, ErrUnavailable},
		{"version 0", []string{"sgr0_abc"}, ErrSessionEnded, ErrSessionEnded},
		{"version 01", []string{"sgr01_" + body}, ErrSessionEnded, ErrSessionEnded},
		{"version 1000", []string{"sgr1000_"}, ErrSessionEnded, ErrSessionEnded},
		{"version without end", []string{"sgr2"}, ErrSessionEnded, ErrSessionEnded},
		{"version of letters", []string{"sgrx_"}, ErrSessionEnded, ErrSessionEnded},
		{"no version", []string{"sgr_"}, ErrSessionEnded, ErrSessionEnded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for age, want := range map[time.Duration]error{0: tc.fresh, e.cfg.FeedBound + 1: tc.stale} {
				e.feed.clock.local = func() time.Time { return local.Add(age) }
				_, err := e.openRefresh(TransportCookie, tc.tokens)
				if !errors.Is(err, want) || (want == nil) != (err == nil) {
					t.Errorf("feed of age %s: %v, want %v", age, err, want)
				}
				if err != nil && strings.Contains(err.Error(), body[:8]) {
					t.Errorf("the error tells the token: %v", err)
				}
			}
		})
	}
}

// Of several tokens of one session the one issued last counts.
func TestOpenRefreshTokenTakesTheLast(t *testing.T) {
	e := offline(t)
	older, _ := signIn(testEpoch, netV)
	newer := childAt(older, nonceA, testEpoch.Add(time.Microsecond))
	sealer := e.keys.Load().sealers[0]
	a, b := older.seal(sealer).Reveal(), newer.seal(sealer).Reveal()
	for _, tokens := range [][]string{{a, b}, {b, a}, {b, "x", a}} {
		if got, err := e.openRefresh(TransportCookie, tokens); err != nil || got != newer {
			t.Errorf("%v, %v", got.hash(), err)
		}
	}
}

// A token of one transport does not open in the other, whatever else is there.
func TestOpenRefreshTokenOfOneTransport(t *testing.T) {
	e := offline(t)
	sealer := e.keys.Load().sealers[0]
	inCookie, _ := signIn(testEpoch, netV)
	inHeader := inCookie
	inHeader.transport = TransportHeader
	inHeader.issuedAt = testEpoch.Add(time.Hour)
	a, b := inCookie.seal(sealer).Reveal(), inHeader.seal(sealer).Reveal()
	for by, want := range map[Transport]refreshToken{TransportCookie: inCookie, TransportHeader: inHeader} {
		if got, err := e.openRefresh(by, []string{a, b}); err != nil || got != want {
			t.Errorf("by %d: %v", by, err)
		}
	}
	if _, err := e.openRefresh(TransportCookie, []string{b}); !errors.Is(err, ErrSessionEnded) {
		t.Errorf("header's, in a cookie: %v", err)
	}
	if _, err := e.openRefresh(TransportHeader, []string{a}); !errors.Is(err, ErrSessionEnded) {
		t.Errorf("cookie's, in a header: %v", err)
	}
}

// FuzzRefreshToken: what opens has one text and one body.
func FuzzRefreshToken(f *testing.F) {
	e := offline(f)
	ring := e.keys.Load()
	token, _ := signIn(testEpoch, netV)
	good := token.seal(ring.sealers[0]).Reveal()
	f.Add(token.body(), 0, 0, "")
	f.Add(childAt(token, nonceA, testEpoch).body(), len(good), 0, "\n")
	f.Add(make([]byte, refreshBody), 5, 1, "A")
	f.Add(make([]byte, refreshBody-1), len(good)-1, 1, "B")
	f.Add([]byte{}, 0, 4, "sgr2")
	f.Fuzz(func(t *testing.T, body []byte, at, cut int, insert string) {
		if parsed, err := parseRefreshBody(body); err == nil {
			if string(parsed.body()) != string(body) {
				t.Fatalf("body %x became %x", body, parsed.body())
			}
			got, err := openRefreshToken(parsed.seal(ring.sealers[0]).Reveal(), ring)
			if err != nil || got != parsed {
				t.Fatalf("sealed and opened: %v", err)
			}
		}
		if at < 0 || cut < 0 || at > len(good) || cut > len(good)-at {
			return
		}
		text := good[:at] + insert + good[at+cut:]
		if _, err := openRefreshToken(text, ring); (err == nil) != (text == good) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
