package sessions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// What no session may be made with passes in no signed token either, and what a session
// may be made with does. Both sides are asked about each case.
func TestOneRuleForWhatATokenSays(t *testing.T) {
	e := offline(t)
	key := e.keys.Load().signers[0]
	plain := untagged(t, issueAt(t, e, testEpoch, `{}`).Payload)
	judge := func(t *testing.T, payload string, want *Denial) {
		t.Helper()
		for what, text := range map[string]string{
			"without a tag": forge(t, key.private, key.header, payload),
			"with a tag":    forge(t, key.private, key.header, string(key.withTag([]byte(payload)))),
		} {
			if strings.HasSuffix(what, "with a tag") && !strings.HasSuffix(payload, "}}") {
				continue
			}
			if _, d := e.Verify(TransportCookie, []string{text}); d != want {
				t.Errorf("%s, a signed token of %s has %v, want %v", what, payload, d, want)
			}
		}
	}

	t.Run("user", func(t *testing.T) {
		for _, user := range []string{
			"a", "!~aZ09@+/=", "...", strings.Repeat("u", 128),
			"", ".", "..", strings.Repeat("u", 129), "a b", "a\tb", "a\r\nx-admin: 1", "a\x00", "a\x7f", "ä", "\u2028", " a", "a ",
		} {
			n := NewSession{UserID: user}
			want := DenyClaims
			if n.check() == nil {
				want = nil
			}
			judge(t, strings.Replace(plain, `"sub":"alice"`, `"sub":`+quoted(t, user), 1), want)
		}
	})
	t.Run("claims", func(t *testing.T) {
		claims := []string{
			`{"role":"admin"}`, `{"Sub":"x"}`, `{"":1}`, `{"a":null}`, `{"a":{"sg":{},"aud":"x","nbf":1}}`, `{"a":1e308}`, `{"a":9007199254740993}`, `{"ä":"\u2028"}`,
			strings.Repeat(`{"a":`, 15) + `[1]` + strings.Repeat(`}`, 15),
			strings.Repeat(`{"a":`, 16) + `[]` + strings.Repeat(`}`, 16), `{"a":` + strings.Repeat(`[`, 300) + strings.Repeat(`]`, 300) + `}`,
			`{"a":1e309}`, `{"a":[{"b":-1e999}]}`, `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `{"n\u0062f":1}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}",
		}
		for name := range reservedClaims {
			if name == "aud" || name == "nbf" || name == "jti" { // the others would be in the token twice
				claims = append(claims, `{"`+name+`":1}`, `{"`+name+`":null}`)
			}
		}
		for _, text := range claims {
			n := NewSession{UserID: "a", Claims: []byte(text)}
			err := n.check()
			var invalid *InvalidError
			if err != nil && !errors.As(err, &invalid) {
				t.Fatal(err)
			}
			want := DenyClaims
			if err == nil {
				want = nil
			}
			judge(t, strings.Replace(plain, gateBefore, ","+text[1:len(text)-1]+gateBefore, 1), want)
			judge(t, strings.TrimSuffix(plain, "}")+","+text[1:], want) // as the former version has them
		}
	})
	t.Run("dates", func(t *testing.T) {
		const most = int64(AbsoluteLifeMax / time.Second)
		at := testEpoch.Unix()
		for _, tc := range []struct {
			iat, exp, authTime int64
			want               *Denial
		}{
			{at, at + 60, at, nil},
			{at, at + most, at, nil},
			{at - most + 60, at + 60, at - most + 60, nil},
			{at + 600, at + 660, at + 600, DenyClaims},
			{at, at + 60, at + 600, nil}, // since the sign-in
			{at, at + most + 1, at, DenyClaims},
			{at + 10, at + 10 + most, at, DenyClaims},
			{at - most, at + 60, at - most, DenyClaims},
			{at + 61, at + 60, at, DenyClaims},
			{at + 10*most, at + 10*most + 60, at, DenyClaims},
			{0, at + 60, at, DenyClaims},
			{-1, at + 60, at, DenyClaims},
			{at, at + 60, 0, DenyClaims},
			{at, at + 60, -at, DenyClaims},
			{at, at + 60, dateMax + 1, DenyClaims},
			{at, 1<<63 - 1, at, DenyClaims},
			{1<<63 - 2, 1<<63 - 1, at, DenyClaims},
			{-1 << 63, 1<<63 - 1, at, DenyClaims},
			{dateMax - 1, dateMax, at, DenyClaims},
			{dateMax, dateMax + 60, at, DenyClaims},
		} {
			payload := plain
			for name, date := range map[string]int64{"iat": tc.iat, "exp": tc.exp, "auth_time": tc.authTime} {
				before, rest, _ := strings.Cut(payload, `"`+name+`":`)
				_, rest, _ = strings.Cut(rest, ",")
				payload = fmt.Sprintf(`%s"%s":%d,%s`, before, name, date, rest)
			}
			judge(t, payload, tc.want)
		}
	})
	t.Run("members", func(t *testing.T) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(plain), &members); err != nil {
			t.Fatal(err)
		}
		for name := range maps.Keys(members) {
			for _, value := range []string{`null`, `""`, `[]`, `{}`, `true`, `-1`, `1.5`, `"ü"`, `1e400`} {
				before, rest, _ := strings.Cut(plain, `"`+name+`":`)
				judge(t, before+`"`+name+`":`+strings.Replace(rest, string(members[name]), value, 1), DenyClaims)
			}
		}
		judge(t, strings.Replace(plain, `"tr":1`, `"tr":1,"newer":{"x":[1]}`, 1), nil) // a newer version's
		judge(t, strings.Replace(plain, `"own":`, `"Own":"x","own":`, 1), nil)
	})
}

func quoted(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
