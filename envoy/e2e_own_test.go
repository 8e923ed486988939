package envoy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"google.golang.org/grpc/codes"
)

// ownSessions is the answer of GET /auth/sessions.
type ownSessions struct {
	Sessions []struct {
		ID        string    `json:"id"`
		Current   bool      `json:"current"`
		CreatedAt time.Time `json:"created_at"`
		LastSeen  time.Time `json:"last_seen"`
		ExpiresAt time.Time `json:"expires_at"`
		Device    struct {
			Address   string `json:"address"`
			UserAgent string `json:"user_agent"`
		} `json:"device"`
	} `json:"sessions"`
	More bool `json:"more"`
}

// code is that of a problem.
func (a answer) code(t testing.TB) string {
	t.Helper()
	var p struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Errorf("%d %q is no problem: %v", a.status, a.body, err)
	}
	return p.Code
}

// TestOwnSessions: ada is signed in in two browsers and in a program. From one browser she sees all three, and by what she may tell them
// apart; she ends one, and it is out at every process. No other user's session is hers to see or end, and a stolen access token is not enough.
func TestOwnSessions(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s := newStack(t, stackOptions{settings: []string{"SESSIONGATE_OWN_SESSIONS_ENABLED=true", "SESSIONGATE_SESSION_DEVICE_ADDRESS=full"}})
	s.app.tellsClient.Store(true)
	desk := s.newProfile().signedIn("ada")
	phone := s.newProfile().newTab()
	const phoneAgent = "Phone/2.0 (a small one)"
	if err := chromedp.Do(phone.ctx, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: phoneAgent})
		return err
	})); err != nil {
		t.Fatal(err)
	}
	phone.goTo(s.site("/login"))
	if status := eval[int](phone, `fetch("/login", { method: "POST", body: "ada" }).then((r) => r.status)`); status != 204 {
		t.Fatalf("sign-in: %d", status)
	}
	program := s.newBrowser(networkW)
	handle := program.signIn("ada")
	program.mustGet(t)
	bob := s.newBrowser(networkX)
	bobs := bob.signIn("bob")

	list := func() ownSessions {
		t.Helper()
		var own ownSessions
		text := eval[string](desk, `fetch("/auth/sessions").then(async (r) => r.status + await r.text())`)
		if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "200")), &own); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return own
	}
	del := func(id string) int {
		t.Helper()
		return eval[int](desk, fmt.Sprintf(`fetch("/auth/sessions/" + %s, { method: "DELETE" }).then((r) => r.status)`, quote(id)))
	}

	own := list()
	if len(own.Sessions) != 3 || own.More {
		t.Fatalf("%+v, want three sessions", own)
	}
	newest, second, first := own.Sessions[0], own.Sessions[1], own.Sessions[2]
	if newest.ID != handle || newest.Device.UserAgent != "browser" || newest.Device.Address != networkW || newest.Current {
		t.Errorf("the program: %+v", newest)
	}
	if second.Device.UserAgent != phoneAgent || second.Device.Address != first.Device.Address || second.Current {
		t.Errorf("the phone: %+v", second)
	}
	if addr, err := netip.ParseAddr(first.Device.Address); err != nil || !addr.Is4() || !strings.Contains(first.Device.UserAgent, "Chrome/") || !first.Current {
		t.Errorf("the desk: %+v", first)
	}
	for _, one := range own.Sessions {
		if one.LastSeen.Before(one.CreatedAt) || !one.ExpiresAt.After(one.LastSeen) {
			t.Errorf("%+v", one)
		}
	}

	// What is not hers, or not meant by her, changes nothing.
	if a := program.send(http.MethodGet, "/auth/sessions", without("Anti-Csrf")); a.status != 440 || !strings.HasPrefix(a.body, "Please call the refresh token endpoint\n") || !strings.Contains(a.body, "anti-csrf header") {
		t.Errorf("cookies alone: %d %s", a.status, a.body)
	}
	if a := program.send(http.MethodGet, "/auth/sessions"); a.status != http.StatusOK || strings.Contains(a.body, "tester") {
		t.Errorf("with the anti-CSRF token: %d %s", a.status, a.body)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		path := map[string]string{http.MethodGet: "/auth/sessions", http.MethodDelete: "/auth/sessions/" + first.ID}[method]
		if a := program.send(method, path, with("Origin", "https://evil.example"), with("Sec-Fetch-Site", "cross-site")); a.status != http.StatusForbidden || a.code(t) != "foreign_origin" {
			t.Errorf("a foreign page: %s %d %s", method, a.status, a.body)
		}
	}
	if a := program.send(http.MethodGet, "/auth/sessions", script, without("Cookie")); a.status != http.StatusUnauthorized || a.code(t) != "no_token" {
		t.Errorf("without cookies: %d %s", a.status, a.body)
	}
	for what, id := range map[string]string{"another user's": bobs, "unknown": "AAAAAAAAAAAAAAAAAAAAAA", "no handle": "x", "a path": "x/y"} {
		if status := del(id); status != http.StatusNotFound {
			t.Errorf("%s: %d", what, status)
		}
	}
	bob.mustGet(t)

	// She ends the program's.
	if status := del(handle); status != http.StatusNoContent {
		t.Fatalf("%d", status)
	}
	s.denied(program.access(), program.antiCSRF)
	if a := program.send(http.MethodGet, "/auth/sessions"); a.status != http.StatusUnauthorized || a.code(t) != "ended" {
		t.Errorf("the ended one lists: %d %s", a.status, a.body)
	}
	program.refresh().ended(t, "unauthorised")
	if n := s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE handle = $1 AND reason = 'revoked' AND actor = 'user'`, handleBytes(handle)); n != 1 {
		t.Errorf("%d events", n)
	}
	if status := del(handle); status != http.StatusNotFound {
		t.Errorf("again: %d", status)
	}
	if n := len(list().Sessions); n != 2 {
		t.Errorf("%d sessions are left, want 2", n)
	}

	// A token that was stolen eleven minutes after the sign-in sees the sessions, and ends no other.
	s.advance(11 * time.Minute)
	if n := len(list().Sessions); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	others := `fetch("/auth/sessions/end-others", { method: "POST" }).then(async (r) => r.status + await r.text())`
	if status := del(second.ID); status != http.StatusForbidden {
		t.Errorf("an old sign-in ends another session: %d", status)
	}
	if text := eval[string](desk, others); !strings.HasPrefix(text, "403") || !strings.Contains(text, `"code":"reauth"`) {
		t.Errorf("an old sign-in ends the others: %s", text)
	}
	// She signs in again. The session from before is one of the others.
	if status := eval[int](desk, `fetch("/login", { method: "POST", body: "ada" }).then((r) => r.status)`); status != 204 {
		t.Fatalf("sign-in: %d", status)
	}
	if text := eval[string](desk, others); text != `200{"ended":2}` {
		t.Errorf("a new sign-in ends the others: %s", text)
	}
	phone.eventually("the phone is out", func() bool {
		return eval[int](phone, `fetch("/auth/sessions").then((r) => r.status)`) == http.StatusUnauthorized
	})
	mine := list()
	if len(mine.Sessions) != 1 || !mine.Sessions[0].Current {
		t.Fatalf("%+v, want the own one", mine)
	}
	// Her own one ends as by a sign-out.
	if status := del(mine.Sessions[0].ID); status != http.StatusNoContent {
		t.Errorf("%d", status)
	}
	if status := eval[int](desk, `fetch("/auth/sessions").then((r) => r.status)`); status != http.StatusUnauthorized {
		t.Errorf("after it: %d", status)
	}
	if n := s.endedFor(mine.Sessions[0].ID, "signed_out"); n != 1 {
		t.Errorf("%d events", n)
	}
	bob.mustGet(t)
}

// TestOwnSessionsAreOff: without the setting there are no such calls.
func TestOwnSessionsAreOff(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1})
	b := s.newBrowser(networkV)
	handle := b.signIn("ada")
	for path, method := range map[string]string{"/auth/sessions": http.MethodGet, "/auth/sessions/" + handle: http.MethodDelete, "/auth/sessions/end-others": http.MethodPost} {
		if a := b.send(method, path, script); a.status != http.StatusNotFound || a.code(t) != "no_route" {
			t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
		}
	}
	b.mustGet(t)
}

// TestChecksWriteNothing: no check changes a row, so what is known of a device and its last use costs no write. 10,000 checks leave every
// version of every row where it was.
func TestChecksWriteNothing(t *testing.T) {
	t.Parallel()
	const checks, callers = 10_000, 8
	s := newStack(t, stackOptions{noEnvoy: true})
	p := s.processes[0]
	tokens := make([]created, 4)
	for i := range tokens {
		tokens[i] = p.create("ada")
	}
	// xmin names the transaction that wrote a version of a row, ctid is its place, xmax the transaction that locked or replaced it.
	versions := func() (text string) {
		t.Helper()
		const of = `SELECT string_agg(xmin || ' ' || xmax || ' ' || ctid, ',' ORDER BY ctid) FROM sessiongate.`
		err := s.db.QueryRow(t.Context(), `SELECT concat_ws(';', (`+of+`active_sessions), (`+of+`session_attributes), (`+of+`feed), (`+of+`audit_events))`).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := versions()
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			for i := range checks / callers {
				c := tokens[(n+i)%len(tokens)]
				response, err := p.gate.Check(t.Context(), checkRequest(c.Tokens.Access, c.Tokens.AntiCSRF))
				if err != nil || response.GetStatus().GetCode() != int32(codes.OK) {
					t.Errorf("check: %v, %v", response.GetStatus(), err)
					return
				}
			}
		})
	}
	all.Wait()
	if after := versions(); after != before || before == "" {
		t.Errorf("rows were written:\n%s\n%s", before, after)
	}
}
