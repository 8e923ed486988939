package sessionhttp

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
)

func (b *bench) verify(t *testing.T, body string) *answer {
	t.Helper()
	return do(b.internal, apiCall(http.MethodPost, "/v1/sessions/verify", body))
}

// wantDenied fails unless a denial is one to a caller that looks at the status
// alone, and to one that looks at the outcome alone.
func wantDenied(t *testing.T, r *answer, status int, outcome string) {
	t.Helper()
	p := wantProblem(t, r, status)
	if p.Outcome != outcome || r.StatusCode < 400 {
		t.Errorf("%d, outcome %q, want %q", r.StatusCode, p.Outcome, outcome)
	}
	for _, secret := range []string{"session", "user_id", "claims"} {
		if strings.Contains(r.Body, `"`+secret+`"`) {
			t.Errorf("a denial has %s", secret)
		}
	}
}

func TestVerify(t *testing.T) {
	b := newBench(t)
	c := b.create(t, `{"user_id":"u1","claims":{"role":"admin"},"data":{"secret":1}}`)
	h := b.create(t, `{"user_id":"u1","transport":"header"}`)
	other := b.signIn(t)
	asked := b.store.gets.Load()
	at, anti := `{"access_token":"`+c.Tokens.Access+`"`, `,"anti_csrf":"`+c.Tokens.AntiCSRF+`"`

	r := b.verify(t, at+anti+`}`)
	want(t, r, http.StatusOK)
	var got verifyResponse
	if err := json.Unmarshal([]byte(r.Body), &got, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	wanted := verifyResponse{"ALLOW", verifiedSession{c.Session.Handle, "u1", []byte(`{"role":"admin"}`), c.Session.CreatedAt.Truncate(time.Second), c.Tokens.AccessExpires}}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	if strings.Contains(r.Body, c.Tokens.Access) || strings.Contains(r.Body, c.Tokens.AntiCSRF) {
		t.Error("the answer repeats a token")
	}

	for name, body := range map[string]string{
		"no anti-CSRF token asked for": at + `,"check_anti_csrf":false}`,
		"header transport has none":    `{"access_token":"` + h.Tokens.Access + `","transport":"header"}`,
		"strict, and the feed is read": at + anti + `,"strict":true}`,
		"said to be asked for":         at + anti + `,"check_anti_csrf":true,"transport":"cookie","strict":false}`,
	} {
		if r := b.verify(t, body); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.Body)
		}
	}
	for name, test := range map[string]struct{ body, outcome string }{
		"nothing":                 {`{}`, "UNAUTHORISED"},
		"empty token":             {`{"access_token":""}`, "UNAUTHORISED"},
		"no anti-CSRF token":      {at + `}`, "TRY_REFRESH"},
		"empty anti-CSRF token":   {at + `,"anti_csrf":""}`, "TRY_REFRESH"},
		"wrong anti-CSRF token":   {at + `,"anti_csrf":"` + other.Tokens.AntiCSRF + `"}`, "TRY_REFRESH"},
		"said not to be optional": {at + `,"check_anti_csrf":true}`, "TRY_REFRESH"},
		"the other transport":     {at + anti + `,"transport":"header"}`, "TRY_REFRESH"},
		"a header's in a cookie":  {`{"access_token":"` + h.Tokens.Access + `","check_anti_csrf":false}`, "TRY_REFRESH"},
		"rubbish":                 {`{"access_token":"` + secretText + `","check_anti_csrf":false}`, "TRY_REFRESH"},
		"a refresh token":         {`{"access_token":"` + c.Tokens.Refresh + `","check_anti_csrf":false}`, "TRY_REFRESH"},
		"bad signature":           {`{"access_token":"` + c.Tokens.Access[:len(c.Tokens.Access)-8] + `AAAAAAAA","check_anti_csrf":false}`, "TRY_REFRESH"},
		"too long":                {`{"access_token":"` + strings.Repeat("x", 4000) + `"}`, "TRY_REFRESH"},
	} {
		t.Run(name, func(t *testing.T) { wantDenied(t, b.verify(t, test.body), b.cfg.SessionExpiredStatus, test.outcome) })
	}
	if n := b.store.gets.Load(); n != asked {
		t.Errorf("%d queries", n-asked)
	}

	if _, err := b.engine.End(t.Context(), mustHandle(t, other.Session.Handle), sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, b.verify(t, `{"access_token":"`+other.Tokens.Access+`","anti_csrf":"`+other.Tokens.AntiCSRF+`"}`), 440, "UNAUTHORISED")
	b.pass(t, 2*time.Hour)
	wantDenied(t, b.verify(t, at+anti+`}`), 440, "TRY_REFRESH")
}

func mustHandle(t *testing.T, text string) sessions.Handle {
	t.Helper()
	h, err := sessions.ParseHandle(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// While the store is away, unexpired tokens are allowed. With strict, once the feed is
// stale, none is: the answer is 503, for the token cannot be judged.
func TestVerifyStrict(t *testing.T) {
	b, start := newIdleBench(t)
	wantDenied(t, b.verify(t, `{}`), http.StatusServiceUnavailable, "UNAVAILABLE")
	start()
	c := b.signIn(t)
	body := `{"access_token":"` + c.Tokens.Access + `","check_anti_csrf":false`
	b.store.down.Store(true)
	b.store.deaf.Store(true)
	b.ahead.Store(int64(2 * time.Second)) // no poll succeeds that begins from here on
	if r := b.verify(t, body+`}`); r.StatusCode != http.StatusOK {
		t.Errorf("%d %s", r.StatusCode, r.Body)
	}
	r := b.verify(t, body+`,"strict":true}`)
	wantDenied(t, r, http.StatusServiceUnavailable, "UNAVAILABLE")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// A key of its own status: where the API key is wrong, nothing was said about the session.
func TestVerifyIsNot401(t *testing.T) {
	b := newBench(t)
	p := wantProblem(t, do(b.internal, apiCall(http.MethodPost, "/v1/sessions/verify", `{}`).with("Authorization", "Bearer "+secretText)), http.StatusUnauthorized)
	if p.Outcome != "" {
		t.Errorf("outcome %q", p.Outcome)
	}
}
