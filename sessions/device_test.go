package sessions_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/sessiongate/sessiongate/sessions"
)

func TestDeviceAddress(t *testing.T) {
	for _, tc := range []struct{ address, network, full string }{
		{"192.0.2.7", "192.0.2.0/24", "192.0.2.7"},
		{"::ffff:192.0.2.7", "192.0.2.0/24", "192.0.2.7"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1:2:3:4:5:6"},
		{"fe80::1%eth0", "fe80::/64", "fe80::1"},
		{"", "", ""},
	} {
		addr, _ := netip.ParseAddr(tc.address)
		for detail, want := range map[sessions.AddressDetail]string{
			sessions.AddressNone: "", sessions.AddressNetwork: tc.network, sessions.AddressFull: tc.full,
		} {
			d := sessions.DeviceFacts{Address: detail}.Of(addr, "a browser")
			if got := d.AddressText(); got != want || d.UserAgent != "" {
				t.Errorf("%q by detail %d: %q and %q, want %q alone", tc.address, detail, got, d.UserAgent, want)
			}
		}
	}
}

// A User-Agent comes from anyone, and is shown to people: nothing of it acts on a terminal or a page, and
// nothing hides.
func TestDeviceUserAgent(t *testing.T) {
	long := strings.Repeat("😀", 3*sessions.UserAgentMax)
	for given, want := range map[string]string{
		"":                                  "",
		"Firefox/145.0 (X11; Linux x86_64)": "Firefox/145.0 (X11; Linux x86_64)",
		"  two \t\r\n spaces\u00a0\u2028x ": "two spaces x",
		"a\x00b\x1b[31mc\x7f\u009bd":        "ab[31mcd",
		"safe\u202egpj.exe\u2066\u200b\ufeff\u00ad": "safegpj.exe",
		"\U000e0041\u3164\u115f\u2800\u034f\ufe0f":  "",
		"a\u0301\u0489b":      "ab",
		"caf\xe9 <b>\"&'</b>": "caf\ufffd <b>\"&'</b>",
		long:                  long[:4*sessions.UserAgentMax],
		strings.Repeat("a ", sessions.UserAgentMax): strings.TrimSuffix(strings.Repeat("a ", sessions.UserAgentMax/2), " "),
	} {
		if got := (sessions.DeviceFacts{UserAgent: true}).Of(netip.Addr{}, given).UserAgent; got != want {
			t.Errorf("%q became %q, want %q", given, got, want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		given := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(rt, "given")
		facts := sessions.DeviceFacts{UserAgent: true}
		got := facts.Of(netip.Addr{}, given).UserAgent
		switch {
		case !utf8.ValidString(got), utf8.RuneCountInString(got) > sessions.UserAgentMax, strings.TrimSpace(got) != got:
			rt.Fatalf("%q became %q", given, got)
		case facts.Of(netip.Addr{}, got).UserAgent != got:
			rt.Fatalf("%q is cleaned to %q, and that to another text", given, got)
		}
	})
}

// The device is written where a refresh writes the row anyway, and only for a client that gets an answer.
func TestDeviceOfARefresh(t *testing.T) {
	store := newWatched()
	e, _ := start(t, store, quiet(t))
	facts := sessions.DeviceFacts{UserAgent: true}
	first, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Client: home, Device: facts.Of(netip.Addr{}, "sign-in")})
	if err != nil {
		t.Fatal(err)
	}
	var child sessions.Issued
	for _, step := range []struct {
		after time.Duration
		child bool // is presented
		from  sessions.Client
		agent string
		rule  sessions.Rule
		want  string
	}{
		{0, false, home, "kept", sessions.R3, "sign-in"},
		{time.Minute, false, home, "generated", sessions.R4, "generated"},
		{time.Second, false, home, "repeated at once", sessions.R5, "generated"},
		{time.Second, false, elsewhere, "superseded", sessions.R5, "generated"},
		{6 * time.Second, false, home, "repeated later", sessions.R5, "repeated later"},
		{time.Second, true, home, "promoted", sessions.R6, "promoted"},
		{time.Second, false, home, "previous", sessions.R7, "promoted"},
		{time.Minute, true, home, "", sessions.R4, ""}, // nothing is kept any more
	} {
		store.Advance(step.after)
		_, began, err := store.Get(t.Context(), first.Session.Handle)
		if err != nil {
			t.Fatal(err)
		}
		token := first.Refresh
		if step.child {
			token = child.Refresh
		}
		i, err := e.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{token.Reveal()}, Client: step.from, Device: facts.Of(netip.Addr{}, step.agent)})
		if (err != nil) != (step.agent == "superseded") || i.Rule != step.rule {
			t.Fatalf("%s: %s, %v", step.agent, i.Rule, err)
		}
		if i.Refresh != "" {
			child = i
		}
		rec, _, err := store.Get(t.Context(), first.Session.Handle)
		if err != nil || rec.Device.UserAgent != step.want {
			t.Errorf("after %q by %s: %q, %v", step.agent, step.rule, rec.Device.UserAgent, err)
		}
		if seen := rec.LastSeen(); step.after >= 6*time.Second && step.rule != sessions.R3 && seen.Before(began) {
			t.Errorf("after %q by %s: last seen at %s, refreshed after %s", step.agent, step.rule, seen, began)
		}
	}
}

// A clock that was set back makes every refresh write the row. One that is told superseded leaves the device.
func TestDeviceAfterTheClockWasSetBack(t *testing.T) {
	store := newWatched()
	e, _ := start(t, store, quiet(t))
	owner := sessions.DeviceFacts{UserAgent: true}.Of(netip.Addr{}, "owner")
	i, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Client: home, Device: owner})
	if err != nil {
		t.Fatal(err)
	}
	store.Advance(-time.Hour)
	attacker := sessions.DeviceFacts{UserAgent: true}.Of(netip.Addr{}, "attacker")
	_, superseded := e.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{i.Refresh.Reveal()}, Client: elsewhere, Device: attacker})
	rec, _, err := store.Get(t.Context(), i.Session.Handle)
	if superseded == nil || err != nil || rec.Device != owner || rec.PromotedAt.Equal(i.Session.PromotedAt) {
		t.Errorf("%v, %v; the row %+v", superseded, err, rec.Row)
	}
}
