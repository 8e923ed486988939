package sessionhttp

import (
	"net/http"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

// TestDoctorEcho: the echo is there for a session that an API key made for it, and for no other client.
func TestDoctorEcho(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	path := DoctorPath("/auth")
	ask := func(cookies ...string) call {
		c := call{method: http.MethodGet, path: path}.with("X-Session-User-Id", "root", "root").with("X-Sessiongate-Peer", "192.0.2.7").
			with("X_session_user_id", "root").with("Cookie", cookies...).with("X-Secret", "s")
		return c
	}
	user := b.signIn(t)
	for name, claims := range map[string]string{"false": `{"sessiongate_doctor":false}`, "a text": `{"sessiongate_doctor":"true"}`, "nested": `{"x":{"sessiongate_doctor":true}}`} {
		c := b.create(t, `{"user_id":"u","claims":`+claims+`}`)
		if r := do(b.public, ask(accessCookie(c.Tokens.Access))); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
	c := b.create(t, `{"user_id":"doctor","claims":{"sessiongate_doctor":true}}`)
	for name, cookies := range map[string][]string{
		"no cookie": nil, "a user": {accessCookie(user.Tokens.Access)}, "a broken token": {accessCookie("x")},
		"the refresh token": {refreshCookie(c.Tokens.Refresh)}, "several sessions": {accessCookie(c.Tokens.Access) + "; " + accessCookie(user.Tokens.Access)},
	} {
		if r := do(b.public, ask(cookies...)); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
	r := do(b.public, ask(accessCookie(c.Tokens.Access)))
	want(t, r, http.StatusOK)
	var got echo
	if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(echo{Headers: map[string]int{"x-session-user-id": 2, "x_session_user_id": 1}, Peer: []string{"192.0.2.7"}}, got); diff != "" {
		t.Errorf("echo (-want +got):\n%s", diff)
	}
	if r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", r.Header)
	}
	do(b.internal, apiCall(http.MethodDelete, "/v1/users/doctor/sessions", ""))
	if r := do(b.public, ask(accessCookie(c.Tokens.Access))); r.StatusCode != http.StatusNotFound {
		t.Errorf("after the end: %d", r.StatusCode)
	}
}
