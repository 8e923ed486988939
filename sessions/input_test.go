package sessions

import (
	"errors"
	"strings"
	"testing"
)

func TestNewSessionCheck(t *testing.T) {
	for _, tc := range []struct {
		name  string
		in    NewSession
		field string // of the refusal
	}{
		{"least", NewSession{UserID: "a"}, ""},
		{"longest user", NewSession{UserID: strings.Repeat("u", 128)}, ""},
		{"all of ASCII", NewSession{UserID: "!~aZ09@+/="}, ""},
		{"claims and data", NewSession{UserID: "a", Claims: []byte(`{"role": "admin"}`), Data: []byte(`{"x":[1]}`), Transport: TransportHeader}, ""},
		{"largest data", NewSession{UserID: "a", Data: []byte(`{"x":"` + strings.Repeat("d", dataMax-8) + `"}`)}, ""},
		{"no user", NewSession{}, "user_id"},
		{"a dot", NewSession{UserID: "."}, "user_id"},
		{"two dots", NewSession{UserID: ".."}, "user_id"},
		{"three dots", NewSession{UserID: "..."}, ""},
		{"user too long", NewSession{UserID: strings.Repeat("u", 129)}, "user_id"},
		{"space", NewSession{UserID: "a b"}, "user_id"},
		{"line break", NewSession{UserID: "a\r\nx-admin: 1"}, "user_id"},
		{"NUL", NewSession{UserID: "a\x00"}, "user_id"},
		{"DEL", NewSession{UserID: "a\x7f"}, "user_id"},
		{"not ASCII", NewSession{UserID: "ä"}, "user_id"},
		{"transport", NewSession{UserID: "a", Transport: 3}, "transport"},
		{"data too large", NewSession{UserID: "a", Data: []byte(`{"x":"` + strings.Repeat("d", dataMax-7) + `"}`)}, "data"},
		{"data an array", NewSession{UserID: "a", Data: []byte(`[]`)}, "data"},
		{"claims null", NewSession{UserID: "a", Claims: []byte(`null`)}, "claims"},
		{"claims a string", NewSession{UserID: "a", Claims: []byte(`"x"`)}, "claims"},
		{"claims twice", NewSession{UserID: "a", Claims: []byte(`{"a":1,"a":2}`)}, "claims"},
		{"claims twice, deep", NewSession{UserID: "a", Claims: []byte(`{"a":{"b":1,"b":2}}`)}, "claims"},
		{"claims and more", NewSession{UserID: "a", Claims: []byte(`{} {}`)}, "claims"},
		{"claims not UTF-8", NewSession{UserID: "a", Claims: []byte("{\"a\":\"\xff\"}")}, "claims"},
		{"claim sub", NewSession{UserID: "a", Claims: []byte(`{"sub":"b"}`)}, "claims.sub"},
		{"claim sg", NewSession{UserID: "a", Claims: []byte(`{"sg":{}}`)}, "claims.sg"},
		{"claims as deep as may be", NewSession{UserID: "a", Claims: []byte(strings.Repeat(`{"a":`, 15) + `[1e308]` + strings.Repeat(`}`, 15))}, ""},
		{"claims too deep", NewSession{UserID: "a", Claims: []byte(strings.Repeat(`{"a":`, 16) + `[]` + strings.Repeat(`}`, 16))}, "claims"},
		{"claims with a number beyond any", NewSession{UserID: "a", Claims: []byte(`{"a":[1e999]}`)}, "claims"},
		{"claim exp, escaped", NewSession{UserID: "a", Claims: []byte(`{"\u0065xp":1}`)}, "claims.exp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.in.check()
			var refused *InvalidError
			switch {
			case tc.field == "" && err != nil:
				t.Error(err)
			case tc.field != "" && (!errors.As(err, &refused) || refused.Field != tc.field || refused.Allowed == ""):
				t.Errorf("error %v, want one about %s", err, tc.field)
			}
		})
	}
}

// What Create accepts becomes a token that Verify accepts, and one byte more
// is refused at Create.
func TestLargestAccessToken(t *testing.T) {
	e := offline(t)
	claims := func(n int) []byte { return []byte(`{"x":"` + strings.Repeat("c", n) + `"}`) }
	token, row := signIn(testEpoch, netV)
	largest := 0
	for n := range accessTokenMax {
		if e.checkSize("alice", claims(n), token) != nil {
			break
		}
		largest = n
	}
	if largest < 1500 {
		t.Fatalf("claims of %d bytes are too large", largest)
	}
	rec := Record{Row: row, Claims: claims(largest), ClaimsVersion: 1 << 53}
	i, err := e.issue(rec, token.child(nonceA), token.hash(), testEpoch, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, d := e.Verify(TransportCookie, []string{i.Access.Reveal()}); d != nil || len(i.Access) < accessTokenMax-3 {
		t.Errorf("a token of %d bytes: %v", len(i.Access), d)
	}
	var refused *InvalidError
	if err := e.checkSize("alice", claims(largest+1), token); !errors.As(err, &refused) || refused.Field != "claims" {
		t.Errorf("one byte more: %v", err)
	}
}
