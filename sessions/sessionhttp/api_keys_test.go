package sessionhttp

import (
	"net/http"
	"strings"
	"testing"
)

// Each operation asks for one scope: with all others a key may not do it, and with
// that one alone it may.
func TestScopes(t *testing.T) {
	b := newBench(t)
	c := b.signIn(t)
	bodies := map[string]string{
		"/v1/sessions": `{"user_id":"u2"}`, "/v1/sessions/verify": `{}`, "/v1/sessions/refresh": `{"client":{"address":"192.0.2.1"}}`, "/v1/sessions/{handle}": `{"data":{}}`,
	}
	wanted := map[string]Scopes{
		"POST /v1/sessions": ScopeCreate, "POST /v1/sessions/verify": ScopeRead, "POST /v1/sessions/refresh": ScopeUpdate,
		"GET /v1/sessions/{handle}": ScopeRead, "PATCH /v1/sessions/{handle}": ScopeUpdate, "DELETE /v1/sessions/{handle}": ScopeRevoke,
		"GET /v1/users/{user_id}/sessions": ScopeRead, "DELETE /v1/users/{user_id}/sessions": ScopeRevoke,
	}
	for pattern, m := range (&api{}).routes() {
		for method := range m {
			scope, ok := wanted[method+" "+pattern]
			if !ok {
				t.Errorf("%s %s: which scope?", method, pattern)
				continue
			}
			body := bodies[pattern]
			if method == http.MethodGet || method == http.MethodDelete {
				body = ""
			}
			request := apiCall(method, strings.NewReplacer("{handle}", c.Session.Handle, "{user_id}", "u2").Replace(pattern), body)
			with := func(s Scopes) *answer {
				cfg := b.cfg
				cfg.APIKeys = map[string]APIKey{apiCaller: {DigestKey(apiKey), s}}
				_, internal := handlers(t, b.engine, cfg)
				return do(internal, request)
			}
			for _, lacking := range []Scopes{AllScopes &^ scope, 0} {
				r := with(lacking)
				p := wantProblem(t, r, http.StatusForbidden)
				if got, challenge := r.Header.Get("WWW-Authenticate"), `Bearer realm="sessiongate", error="insufficient_scope", scope="`+scope.String()+`"`; got != challenge {
					t.Errorf("%s %s: WWW-Authenticate %q, want %q", method, pattern, got, challenge)
				}
				if !strings.Contains(p.Detail, scope.String()) {
					t.Errorf("%s %s: %+v does not name the scope", method, pattern, p)
				}
			}
			if method == http.MethodDelete && pattern == "/v1/sessions/{handle}" {
				continue // ends what the others need; its own turn is below
			}
			if r := with(scope); r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusUnauthorized {
				t.Errorf("%s %s: %d with its scope", method, pattern, r.StatusCode)
			}
		}
	}
	cfg := b.cfg
	cfg.APIKeys = map[string]APIKey{apiCaller: {DigestKey(apiKey), ScopeRevoke}}
	_, internal := handlers(t, b.engine, cfg)
	want(t, do(internal, apiCall(http.MethodDelete, "/v1/sessions/"+c.Session.Handle, "")), http.StatusOK)
}

func TestParseScopes(t *testing.T) {
	for text, want := range map[string]Scopes{
		"create": ScopeCreate, "read": ScopeRead, "update": ScopeUpdate, "revoke": ScopeRevoke, "revoke+create": ScopeCreate | ScopeRevoke,
		"create+read+update+revoke": AllScopes,
	} {
		if got, err := ParseScopes(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "+", "all", "create+", "+create", "create+create", "create read", "Create", "create,read"} {
		if got, err := ParseScopes(text); err == nil || got != 0 {
			t.Errorf("%q: %s", text, got)
		}
	}
	if got := AllScopes.String(); got != "create read update revoke" {
		t.Errorf("all scopes are %q", got)
	}
}

func TestParseKeyDigest(t *testing.T) {
	d := DigestKey(apiKey)
	if got, err := ParseKeyDigest(d.String()); err != nil || got != d {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", apiKey, d.String()[1:], d.String() + "0", strings.ToUpper(d.String()), strings.Replace(d.String(), d.String()[:1], "g", 1)} {
		if _, err := ParseKeyDigest(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
