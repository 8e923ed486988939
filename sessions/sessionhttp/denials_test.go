package sessionhttp

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Each denial is one log line with its code and, where a valid token or a known key named them, with the user, session or caller. The same code is
// counted with the exact status and, with DenialHeader, told to the client.
func TestDenials(t *testing.T) {
	var seen []Observation
	b := newBench(t, func(c *Config) {
		c.DenialHeader = true
		c.Observe = func(_ context.Context, o Observation) { seen = append(seen, o) }
		c.BodyMax = 4096
		c.APIKeys["reader"] = APIKey{DigestKey("another key, with the scope read alone, 32 characters"), ScopeRead}
	})
	reader := func(c call) call {
		c.header.Set("Authorization", "Bearer another key, with the scope read alone, 32 characters")
		return c
	}
	victim, mine, ended := b.signIn(t), b.signIn(t), b.signIn(t)
	do(b.internal, apiCall(http.MethodDelete, "/v1/sessions/"+ended.Session.Handle, ""))
	type refused struct {
		handler http.Handler
		call    call
		status  int
		code    string
		caller  string
		session string // and user u1
	}
	try := func(tt refused) {
		t.Run(tt.code, func(t *testing.T) {
			seen = nil
			before := len(b.log.String())
			r := do(tt.handler, tt.call)
			log := b.log.String()[before:]
			if r.StatusCode != tt.status || r.Header.Get(browser.HeaderDenial) != tt.code {
				t.Errorf("%d, header %q", r.StatusCode, r.Header.Get(browser.HeaderDenial))
			}
			if len(seen) != 1 || seen[0].Status != tt.status || seen[0].Code != tt.code {
				t.Errorf("counted %+v", seen)
			}
			var lines []map[string]any
			for text := range strings.Lines(log) {
				var line map[string]any
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Fatal(err)
				}
				if line["msg"] == "request refused" {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 {
				t.Fatalf("%d lines: %s", len(lines), log)
			}
			line := lines[0]
			if line["level"] != "INFO" || line["code"] != tt.code || line["status"] != float64(tt.status) || line["host"] != host || line["error"] == "" {
				t.Errorf("logged %v", line)
			}
			if caller, _ := line["caller"].(string); caller != tt.caller {
				t.Errorf("by %q, want %q", caller, tt.caller)
			}
			session, _ := line["session"].(string)
			if user, _ := line["user_id"].(string); (session == "") != (tt.session == "") || (user == "u1") != (tt.session != "") || session != tt.session {
				t.Errorf("about %q, session %q, want %q", user, session, tt.session)
			}
			for _, secret := range []string{"hush", victim.Tokens.Refresh, mine.Tokens.Refresh, mine.Tokens.Access, apiKey} {
				if strings.Contains(log, secret) {
					t.Errorf("a secret is logged: %s", log)
				}
			}
			if !slices.ContainsFunc(append(sessions.Denials(), Denials()...), func(d *sessions.Denial) bool { return d.Code == tt.code }) {
				t.Error("the code is in no table")
			}
		})
	}
	try(refused{b.internal, apiCall(http.MethodPost, "/v1/sessions/verify", `{"access_token":"`+mine.Tokens.Access+`"}`), 440, "anti_csrf", apiCaller, mine.Session.Handle})
	// Twice refreshed and used: the token of the sign-in is neither current nor previous.
	retired := victim.Tokens.Refresh
	b.pass(t, time.Hour)
	next := do(b.public, refreshCall(refreshCookie(retired)))
	var child string
	for _, c := range next.Cookies() {
		if c.Name == "sRefreshToken" && c.Value != "" {
			child = c.Value
		}
	}
	do(b.public, refreshCall(refreshCookie(child)))
	b.pass(t, time.Hour)
	for _, tt := range []refused{
		{b.public, refreshCall(), 440, "no_token", "", ""},
		{b.public, refreshCall(refreshCookie("sgr1_x")), 440, "session_ended", "", ""},
		{b.public, refreshCall(refreshCookie(retired)), 440, "theft", "", victim.Session.Handle},
		{b.public, refreshCall(refreshCookie(mine.Tokens.Refresh)).with("Origin", "https://evil.example"), 403, "foreign_origin", "", ""},
		{b.public, call{method: http.MethodGet, path: "/auth/session/refresh"}, 405, "method", "", ""},
		{b.public, call{method: http.MethodGet, path: "/auth/x"}, 404, "no_route", "", ""},
		{b.internal, call{method: http.MethodPost, path: "/v1/sessions"}, 401, "no_api_key", "", ""},
		{b.internal, call{method: http.MethodPost, path: "/v1/sessions"}.with("Authorization", "Bearer hush"), 401, "unknown_api_key", "", ""},
		{b.internal, reader(apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1"}`)), 403, "scope", "reader", ""},
		{b.internal, apiCall(http.MethodPost, "/v1/sessions", `{"user_id":""}`), 400, "bad_input", apiCaller, ""},
		{b.internal, apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1","hush":1}`), 400, "bad_input", apiCaller, ""},
		{b.internal, apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"`+strings.Repeat("x", 5000)+`"}`), 413, "body_too_large", apiCaller, ""},
		{b.internal, apiCall(http.MethodPost, "/v1/sessions", `{}`).with("Content-Type", "text/plain"), 415, "media_type", apiCaller, ""},
		{b.internal, apiCall(http.MethodGet, "/v1/sessions/"+ended.Session.Handle, ""), 404, "no_session", apiCaller, ""},
		{b.internal, apiCall(http.MethodPost, "/v1/sessions/verify", `{"access_token":"`+mine.Tokens.Access+`"}`), 440, "expired", apiCaller, ""},
		{b.internal, apiCall(http.MethodPost, "/v1/sessions/verify", `{"access_token":"hush"}`), 440, "malformed", apiCaller, ""},
	} {
		try(tt)
	}
}

// A client is told no code without DenialHeader.
func TestDenialsWithoutTheHeader(t *testing.T) {
	b := newBench(t)
	for name, r := range map[string]*answer{
		"ended": do(b.public, refreshCall()),
		"route": do(b.public, call{method: http.MethodGet, path: "/auth/x"}),
		"key":   do(b.internal, call{method: http.MethodPost, path: "/v1/sessions"}),
	} {
		if _, told := r.Header[http.CanonicalHeaderKey(browser.HeaderDenial)]; told {
			t.Errorf("%s: the code is told", name)
		}
	}
}

// A client chooses the Host: only a valid one is logged.
func TestLoggedHost(t *testing.T) {
	for text, want := range map[string]string{
		"app.example.com": "app.example.com", "app.example.com:8443": "app.example.com:8443", "[::1]:80": "[::1]:80",
		"": "", "sgr1_hush": "", "a b": "", "a\nb": "", strings.Repeat("a", 300): "",
	} {
		if got := loggedHost(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
