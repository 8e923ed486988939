package postgres_test

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// What docs/capacity.md says of personal data: it is where the page says, all of it can be listed, and after the steps of "Erase" no row of any
// table has it. Without the last step the audit events have the user id, and nothing else.
func TestErase(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.AuditChanges()
	personal := map[string]string{
		"the user id": "user-to-erase", "the network": "203.0.113.64", "the User-Agent": "PersonalBrowser/1.0", "a claim": "claim-to-erase", "the data": "data-to-erase",
	}
	create := func(user, browser, claims, data, network string) sessions.Handle {
		t.Helper()
		h := sessions.NewHandle()
		_, err := c.Create(t.Context(), sessions.NewRecord{
			Handle: h, UserID: user, Current: sessions.TokenHash{1}, CurrentClient: sessions.Client{2}, Actor: "shop",
			Device: sessions.Device{Address: netip.MustParsePrefix(network), UserAgent: browser},
			Claims: []byte(`{"c":"` + claims + `"}`), Data: []byte(`{"d":"` + data + `"}`), SlidingLife: time.Hour, AbsoluteLife: 2 * time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for range 2 {
		h := create(personal["the user id"], personal["the User-Agent"], personal["a claim"], personal["the data"], personal["the network"]+"/32")
		if _, err := c.Update(t.Context(), h, sessions.Attributes{Claims: []byte(`{"c":"` + personal["a claim"] + `","n":1}`), Actor: "shop"}); err != nil {
			t.Fatal(err)
		}
	}
	create("other-user", "OtherBrowser/1.0", "x", "y", "198.51.100.7/32")

	// dump is all rows of all tables, as a backup has them.
	dump := func() string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), filepath.Join(shared.BinDir(), "pg_dump"), "--data-only", "--inserts", c.url).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := dump()
	for what, text := range personal {
		if !strings.Contains(before, text) {
			t.Errorf("%s is nowhere: the test looks for the wrong text", what)
		}
	}
	all, err := c.ListUser(t.Context(), personal["the user id"], 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("listed %d, %v", len(all), err)
	}

	if ended, err := c.EndUser(t.Context(), personal["the user id"], sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "operator"}); err != nil || len(ended) != 2 {
		t.Fatalf("ended %d, %v", len(ended), err)
	}
	after := dump()
	for what, text := range personal {
		if has := strings.Contains(after, text); has != (what == "the user id") {
			t.Errorf("after the end: %s is there: %t", what, has)
		}
	}
	for line := range strings.Lines(after) {
		if strings.Contains(line, personal["the user id"]) && !strings.Contains(line, "INTO sessiongate.audit_events ") {
			t.Errorf("the user id is elsewhere: %s", line)
		}
	}

	c.exec(strings.ReplaceAll(documented(t, "erase"), "USER_ID", personal["the user id"]))
	after = dump()
	for what, text := range personal {
		if strings.Contains(after, text) {
			t.Errorf("after the erasure: %s is there", what)
		}
	}
	if !strings.Contains(after, "other-user") || !strings.Contains(after, "OtherBrowser/1.0") {
		t.Error("another user's rows are gone")
	}
}
