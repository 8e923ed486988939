package sessionhttp

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// clientBody is the client as do's requests have it.
const clientBody = `,"client":{"address":"` + peer + `","user_agent":"` + userAgent + `"}`

func (b *bench) refresh(t *testing.T, token, more string) *answer {
	t.Helper()
	return do(b.internal, apiCall(http.MethodPost, "/v1/sessions/refresh", `{"refresh_token":"`+token+`"`+more+`}`))
}

func (b *bench) refreshed(t *testing.T, token, more string) refreshResponse {
	t.Helper()
	r := b.refresh(t, token, more)
	want(t, r, http.StatusOK)
	var got refreshResponse
	if err := json.Unmarshal([]byte(r.Body), &got, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return got
}

// wantOver checks the problem and that its cookies and headers end the session at the client.
func wantEnded(t *testing.T, r *answer, told string) endedProblem {
	t.Helper()
	want(t, r, http.StatusTeapot)
	if got := r.Header.Get("Content-Type"); got != problemType {
		t.Errorf("Content-Type %q", got)
	}
	var got endedProblem
	if err := json.Unmarshal([]byte(r.Body), &got, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if got.Error != told || got.Status != r.StatusCode || got.Title == "" {
		t.Errorf("%+v, want %q", got, told)
	}
	if got.Headers["front-token"] != "remove" || got.Headers["id-refresh-token"] != "remove" {
		t.Errorf("headers %v", got.Headers)
	}
	return got
}

func TestRefreshByAPI(t *testing.T) {
	b := newBench(t, func(c *Config) { c.SessionExpiredStatus = http.StatusTeapot })
	c := b.create(t, `{"user_id":"u1","claims":{"role":"admin"},"data":{"cart":[1]}`+clientBody+`}`)

	// R3: right after the sign-in the client keeps its refresh token.
	kept := b.refreshed(t, c.Tokens.Refresh, clientBody)
	if kept.Tokens.Refresh != "" || kept.Tokens.Access == "" || kept.Tokens.AntiCSRF != c.Tokens.AntiCSRF {
		t.Error("R3: other tokens")
	}
	if holds := jar(&answer{Header: http.Header{"Set-Cookie": kept.SetCookie}}); holds["sAccessToken"] != kept.Tokens.Access || holds["sRefreshToken"] != "" {
		t.Error("R3: other cookies")
	}
	if string(kept.Session.Claims) != `{"role":"admin"}` || string(kept.Session.Data) != `{"cart":[1]}` {
		t.Errorf("session %+v", kept.Session)
	}
	const intruder = `,"client":{"address":"203.0.113.1","user_agent":"` + userAgent + `"}`
	wantProblem(t, b.refresh(t, c.Tokens.Refresh, intruder), http.StatusConflict)

	// R4 and R5: a child, the same one to the same client as through the gate, and none to another.
	b.pass(t, time.Minute)
	child := b.refreshed(t, c.Tokens.Refresh, clientBody+`,"host":"`+host+`"`)
	holds := jar(&answer{Header: http.Header{"Set-Cookie": child.SetCookie}})
	if child.Tokens.Refresh == "" || holds["sRefreshToken"] != child.Tokens.Refresh || holds["sAccessToken"] != child.Tokens.Access || child.Headers["anti-csrf"] == "" || child.Headers["front-token"] == "" {
		t.Error("R4: other cookies or headers")
	}
	if again := do(b.public, refreshCall(refreshCookie(c.Tokens.Refresh))); jar(again)["sRefreshToken"] == "" || openedHash(t, jar(again)["sAccessToken"]) != openedHash(t, child.Tokens.Access) {
		t.Error("R5: the gate issues another child to the same client")
	}
	wantProblem(t, b.refresh(t, c.Tokens.Refresh, intruder), http.StatusConflict)
	if !strings.Contains(strings.Join(child.SetCookie, "\n"), "Domain=example.com") {
		t.Error("host is not used")
	}

	// R6, then R8: the client that lost is told so, and how to forget the session.
	b.refreshed(t, child.Tokens.Refresh, clientBody)
	b.pass(t, time.Minute)
	gone := wantEnded(t, b.refresh(t, c.Tokens.Refresh, clientBody+`,"host":"`+host+`"`), "token theft detected")
	wantCleared(t, &answer{Header: http.Header{"Set-Cookie": append(gone.SetCookie, gone.SDKCookies...)}}, browser.SDKCookieNames()...)
	wantEnded(t, b.refresh(t, child.Tokens.Refresh, clientBody), "unauthorised")

	asked := b.store.gets.Load()
	wantEnded(t, do(b.internal, apiCall(http.MethodPost, "/v1/sessions/refresh", `{`+clientBody[1:]+`}`)), "unauthorised")
	wantEnded(t, b.refresh(t, "x", clientBody), "unauthorised")
	if b.store.gets.Load() != asked {
		t.Error("rubbish costs a query")
	}
}

// ownHash is the token hash that an access token names as its own: the child that it belongs to.
func openedHash(t *testing.T, access string) string {
	t.Helper()
	var payload struct {
		SG struct {
			Own string `json:"own"`
		} `json:"sg"`
	}
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		t.Fatal("no token")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &payload); err != nil || payload.SG.Own == "" {
		t.Fatalf("payload: %v", err)
	}
	return payload.SG.Own
}

func TestRefreshByAPIInHeaders(t *testing.T) {
	b := newBench(t, func(c *Config) { c.SessionExpiredStatus = http.StatusTeapot })
	c := b.create(t, `{"user_id":"u1","transport":"header"`+clientBody+`}`)
	b.pass(t, time.Minute)
	got := b.refreshed(t, c.Tokens.Refresh, clientBody+`,"transport":"header"`)
	if got.SetCookie != nil || got.Tokens.AntiCSRF != "" || got.Headers["st-refresh-token"] != got.Tokens.Refresh || got.Headers["st-access-token"] != got.Tokens.Access {
		t.Error("other headers")
	}
	// As a cookie it is broken, and changes nothing.
	wantEnded(t, b.refresh(t, got.Tokens.Refresh, clientBody), "unauthorised")
	if !b.alive(t, c.Session.Handle) {
		t.Error("a token of the other transport ended its session")
	}
	if gone := wantEnded(t, b.refresh(t, "x", clientBody+`,"transport":"header"`), "unauthorised"); gone.SetCookie != nil || gone.SDKCookies != nil {
		t.Error("cookies are touched, which may be another session's")
	}
}

// Without a client everybody would be the recorded one.
func TestRefreshWantsAClient(t *testing.T) {
	b := newBench(t)
	c := b.signIn(t)
	for _, more := range []string{``, `,"client":{}`, `,"client":{"user_agent":"x"}`, `,"client":{"address":""}`, `,"client":{"address":"","user_agent":"x"}`, `,"client":{"address":"::1::"}`} {
		if p := wantProblem(t, b.refresh(t, c.Tokens.Refresh, more), http.StatusBadRequest); p.Field != "client.address" || p.Allowed == "" {
			t.Errorf("%s: %+v", more, p)
		}
	}
	b.refreshed(t, c.Tokens.Refresh, `,"client":{"address":"::1"}`)
}

// An outage says nothing about a session, and touches nothing at its client.
func TestRefreshByAPIUnavailable(t *testing.T) {
	b, start := newIdleBench(t)
	wantProblem(t, b.refresh(t, "x", clientBody), http.StatusServiceUnavailable)
	start()
	c := b.signIn(t)
	b.store.down.Store(true)
	r := b.refresh(t, c.Tokens.Refresh, clientBody)
	if p := wantProblem(t, r, http.StatusServiceUnavailable); r.Header.Get("Retry-After") == "" || strings.Contains(r.Body, "set_cookie") || p.Detail == "" {
		t.Errorf("%+v", p)
	}
}
