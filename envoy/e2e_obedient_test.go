package envoy_test

import (
	"net/http"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// obeys sends a request again and again, as its answers ask for: 440 is "refresh, take over what that brings, and repeat". It returns the
// last answer and the codes of the denials before it. A client that loops would do so for ever.
func (b *browser) obeys(t *testing.T, path string, options ...option) (last answer, codes []string) {
	t.Helper()
	for range 10 {
		last = b.do(http.MethodGet, path, options...)
		if last.status != 440 {
			return last, codes
		}
		codes = append(codes, last.header.Get("X-Sessiongate-Denial"))
		if !strings.HasPrefix(last.body, "Please call the refresh token endpoint") {
			t.Fatalf("a 440 that does not say what to do: %q", last.body)
		}
		if r := b.do(http.MethodPost, refreshPath, options...); r.status != http.StatusOK && r.status != http.StatusConflict {
			return r, codes
		}
	}
	t.Fatalf("a client that obeys goes on for ever: %q", codes)
	return last, codes
}

// TestObedientClient: whatever is wrong, a client that does what the answers say comes to an end, after two refreshes at most.
func TestObedientClient(t *testing.T) {
	s := newStack(t, stackOptions{
		settings: []string{"SESSIONGATE_RESPONSES_DENIAL_HEADER=true"},
		edit: editRoutes(func(v *routev3.VirtualHost) error {
			return addRoute(v, "default", "/admin", map[string]string{"session": "required", "require.role": "admin"})
		}),
	})
	other := s.newBrowser(networkW)
	other.signIn("bob")
	header := s.processes[0].create("carol")
	for name, tt := range map[string]struct {
		spoil   func(b *browser, handle string)
		path    string
		options []option
		code    string // of the first denial
		status  int    // in the end
	}{
		"nothing is wrong": {spoil: func(*browser, string) {}, status: 200},
		"expired":          {spoil: func(*browser, string) { s.advance(accessLife + moment) }, code: "expired", status: 200},
		"malformed":        {spoil: func(b *browser, _ string) { b.setAccess("rubbish") }, code: "malformed", status: 200},
		"another signature": {spoil: func(b *browser, _ string) {
			theirs := other.access()
			b.setAccess(b.access()[:strings.LastIndexByte(b.access(), '.')] + theirs[strings.LastIndexByte(theirs, '.'):])
		}, code: "bad_signature", status: 200},
		"token of the other transport": {spoil: func(b *browser, _ string) {
			var c created
			s.processes[0].api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "erin", "transport": "header"}, &c)
			s.secrets.add(c.Tokens.Access, c.Tokens.Refresh)
			b.setAccess(c.Tokens.Access)
		}, code: "wrong_transport", status: 200},
		"planted by a sibling host": {spoil: func(b *browser, _ string) {
			b.jar[cookieKey{"sAccessToken", "example.test", "/"}] = header.Tokens.Access
		}, code: "several_sessions", status: 200},
		"cookie of an older backend": {spoil: func(b *browser, _ string) {
			delete(b.jar, cookieKey{"sAccessToken", "", "/"})
			b.jar[cookieKey{"sIdRefreshToken", "", "/"}] = "x"
		}, code: "legacy_cookie", status: 200},
		"no anti-CSRF token":    {spoil: func(b *browser, _ string) { b.antiCSRF = "" }, options: []option{}, code: "anti_csrf", status: 200},
		"stale anti-CSRF token": {spoil: func(b *browser, _ string) { b.antiCSRF = other.antiCSRF }, options: []option{}, code: "anti_csrf", status: 200},
		"new claims": {spoil: func(b *browser, handle string) {
			s.processes[0].api(http.MethodPatch, "/v1/sessions/"+handle, map[string]any{"claims": map[string]any{"a": 1}}, nil)
			for _, p := range s.processes {
				s.eventually(p.name+" knows of the claims", func() bool { return p.check(b.access(), b.antiCSRF) == 440 })
			}
		}, code: "claims_changed", status: 200},
		"a claim is missing": {spoil: func(*browser, string) {}, path: "/admin", status: 403},
		"ended": {spoil: func(b *browser, handle string) {
			s.processes[0].api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil)
			s.denied(b.access(), b.antiCSRF)
		}, status: 302},
		"ended and expired": {spoil: func(_ *browser, handle string) {
			s.processes[0].api(http.MethodDelete, "/v1/sessions/"+handle, nil, nil)
			s.advance(accessLife + moment)
		}, code: "expired", status: 440}, // of the refresh: the session has ended
		"another site's page": {spoil: func(*browser, string) {}, options: []option{func(r *http.Request) {
			r.Header.Del("Anti-Csrf")
			r.Header.Set("Origin", "https://evil.example")
		}}, status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.newBrowser(networkV)
			handle := b.signIn("alice")
			tt.spoil(b, handle)
			if tt.options == nil {
				tt.options = []option{script}
			}
			last, codes := b.obeys(t, "/"+strings.TrimPrefix(tt.path, "/"), tt.options...)
			if last.status != tt.status || len(codes) > 2 || (tt.code == "") != (len(codes) == 0) || len(codes) > 0 && codes[0] != tt.code {
				t.Errorf("ends with %d after %q, want %d after %q", last.status, codes, tt.status, tt.code)
			}
		})
	}
}
