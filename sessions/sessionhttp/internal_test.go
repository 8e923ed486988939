package sessionhttp

import (
	"bytes"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

func TestCreate(t *testing.T) {
	b := newBench(t)
	t.Run("cookie transport", func(t *testing.T) {
		r := do(b.internal, apiCall(http.MethodPost, "/v1/sessions",
			`{"user_id":"u/1","claims":{"role":"admin"},"data":{"cart":[1]},"transport":"cookie","client":{"address":"`+peer+`"},"host":"`+host+`:443"}`))
		want(t, r, http.StatusCreated)
		var c createResponse
		if err := json.Unmarshal([]byte(r.Body), &c); err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("Location"); got != "/v1/sessions/"+c.Session.Handle {
			t.Errorf("Location %q", got)
		}
		if c.Session.UserID != "u/1" || string(c.Session.Claims) != `{"role":"admin"}` || string(c.Session.Data) != `{"cart":[1]}` {
			t.Errorf("session %+v", c.Session)
		}
		if d := c.Session.AbsoluteExpiresAt.Sub(c.Session.CreatedAt); d != 100*24*time.Hour {
			t.Errorf("absolute life %s", d)
		}
		if c.Headers["anti-csrf"] != c.Tokens.AntiCSRF || c.Tokens.AntiCSRF == "" || c.Headers["front-token"] == "" || c.Headers["id-refresh-token"] == "" {
			t.Errorf("headers %v", c.Headers)
		}
		browser := jar(&answer{Header: http.Header{"Set-Cookie": c.SetCookie}})
		if browser["sAccessToken"] != c.Tokens.Access || browser["sRefreshToken"] != c.Tokens.Refresh {
			t.Error("set_cookie does not hold the tokens")
		}
		sdk := jar(&answer{Header: http.Header{"Set-Cookie": c.SDKCookies}})
		marker, _, _ := strings.Cut(c.Headers["id-refresh-token"], ";")
		if sdk["sAntiCsrf"] != c.Tokens.AntiCSRF || sdk["sFrontToken"] != c.Headers["front-token"] ||
			!strings.HasPrefix(c.SDKCookies[0], "sIRTFrontend="+marker+"; ") {
			t.Errorf("sdk_cookies differ from headers: %v", slices.Collect(maps.Keys(sdk)))
		}
		for _, domain := range []string{"example.com", "eu.example.com", host} {
			if !slices.ContainsFunc(c.SetCookie, func(line string) bool {
				return strings.HasPrefix(line, "sRefreshToken=;") && strings.Contains(line, "; Domain="+domain+";")
			}) {
				t.Errorf("set_cookie does not delete sRefreshToken on %s", domain)
			}
		}
		// What was issued works.
		want(t, do(b.public, refreshCall(refreshCookie(browser["sRefreshToken"])).with("User-Agent")), http.StatusOK)
	})
	t.Run("header transport", func(t *testing.T) {
		c := b.create(t, `{"user_id":"u1","transport":"header"}`)
		if c.SetCookie != nil || c.SDKCookies != nil || c.Tokens.AntiCSRF != "" {
			t.Error("header transport sets cookies")
		}
		if c.Headers["st-access-token"] != c.Tokens.Access || c.Headers["st-refresh-token"] != c.Tokens.Refresh {
			t.Errorf("headers %v", c.Headers)
		}
	})
	t.Run("the least", func(t *testing.T) {
		c := b.create(t, `{"user_id":"u1"}`)
		if string(c.Session.Claims) != "{}" || string(c.Session.Data) != "{}" {
			t.Errorf("session %+v", c.Session)
		}
	})
	t.Run("media type with parameter", func(t *testing.T) {
		r := do(b.internal, apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1"}`).with("Content-Type", "application/json; charset=utf-8"))
		want(t, r, http.StatusCreated)
	})
}

func TestGetAndEnd(t *testing.T) {
	b := newBench(t)
	c := b.create(t, `{"user_id":"u1","claims":{"role":"admin"}}`)
	path := "/v1/sessions/" + c.Session.Handle

	r := do(b.internal, apiCall(http.MethodGet, path, ""))
	want(t, r, http.StatusOK)
	text := r.Body
	var got struct {
		Session session `json:"session"`
	}
	if err := json.Unmarshal([]byte(text), &got, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Session, got.Session); diff != "" {
		t.Error(diff)
	}

	for _, existed := range []bool{true, false} {
		r = do(b.internal, apiCall(http.MethodDelete, path+"?host="+host, ""))
		want(t, r, http.StatusOK)
		var gone endResponse[bool]
		if err := json.Unmarshal([]byte(r.Body), &gone, json.RejectUnknownMembers(true)); err != nil {
			t.Fatal(err)
		}
		if gone.Ended != existed || gone.Headers["front-token"] != "remove" || gone.Headers["id-refresh-token"] != "remove" {
			t.Errorf("answer %+v, want ended %v", gone, existed)
		}
		wantCleared(t, &answer{Header: http.Header{"Set-Cookie": append(gone.SetCookie, gone.SDKCookies...)}}, browser.SDKCookieNames()...)
	}
	wantProblem(t, do(b.internal, apiCall(http.MethodGet, path, "")), http.StatusNotFound)
	if got := b.actors(); !slices.Equal(got, []string{"revoked by " + apiCaller}) {
		t.Errorf("endings %q", got)
	}

	other := b.signIn(t)
	b.pass(t, 31*24*time.Hour)
	wantProblem(t, do(b.internal, apiCall(http.MethodGet, "/v1/sessions/"+other.Session.Handle, "")), http.StatusNotFound)
}

func TestUpdate(t *testing.T) {
	b := newBench(t)
	c := b.create(t, `{"user_id":"u1","claims":{"role":"user","x":1},"data":{"cart":[1]}}`)
	path := "/v1/sessions/" + c.Session.Handle
	patch := func(body string) (got updateResponse) {
		t.Helper()
		r := do(b.internal, apiCall(http.MethodPatch, path, body))
		want(t, r, http.StatusOK)
		if err := json.Unmarshal([]byte(r.Body), &got, json.RejectUnknownMembers(true)); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := patch(`{"data":{"cart":[]}}`); string(got.Session.Data) != `{"cart":[]}` || string(got.Session.Claims) != `{"role":"user","x":1}` || got.Access != "" || got.Headers != nil || got.SetCookie != nil {
		t.Errorf("data: %+v", got.Session)
	}
	if _, d := b.engine.Verify(sessions.TransportCookie, []string{c.Tokens.Access}); d != nil {
		t.Errorf("data are in no token, and yet: %v", d)
	}
	b.pass(t, time.Minute)
	got := patch(`{"claims":{"role":"admin"},"access_token":"` + c.Tokens.Access + `","host":"` + host + `"}`)
	if string(got.Session.Claims) != `{"role":"admin"}` || string(got.Session.Data) != `{"cart":[]}` {
		t.Errorf("claims: %+v", got.Session)
	}
	if _, d := b.engine.Verify(sessions.TransportCookie, []string{c.Tokens.Access}); d != sessions.DenyVersion {
		t.Errorf("the former access token: %v", d)
	}
	next, d := b.engine.Verify(sessions.TransportCookie, []string{got.Access})
	if d != nil || string(next.Claims) != `{"role":"admin"}` || !next.MatchesAntiCSRF(c.Tokens.AntiCSRF) {
		t.Fatalf("the successor: %v", d)
	}
	if !got.AccessExpires.Equal(c.Tokens.AccessExpires) {
		t.Errorf("it expires at %s, its predecessor did at %s", got.AccessExpires, c.Tokens.AccessExpires)
	}
	browser := jar(&answer{Header: http.Header{"Set-Cookie": got.SetCookie}})
	if browser["sAccessToken"] != got.Access || browser["sRefreshToken"] != "" || got.Headers["front-token"] == "" || got.Headers["anti-csrf"] != "" {
		t.Errorf("set_cookie of %d lines, headers %v", len(got.SetCookie), slices.Collect(maps.Keys(got.Headers)))
	}
	// The token chain is unchanged.
	want(t, do(b.public, refreshCall(refreshCookie(c.Tokens.Refresh))), http.StatusOK)

	h := b.create(t, `{"user_id":"u1","transport":"header"}`)
	path = "/v1/sessions/" + h.Session.Handle
	if got := patch(`{"claims":{"a":1},"access_token":"` + h.Tokens.Access + `"}`); got.SetCookie != nil || got.Headers["st-access-token"] != got.Access || got.Headers["st-refresh-token"] != "" {
		t.Error("header transport has other headers")
	}

	path = "/v1/sessions/" + c.Session.Handle
	for body, field := range map[string]string{
		`{}`: "body", `{"host":"a.example"}`: "body", `{"claims":null}`: "claims", `{"claims":[]}`: "claims", `{"data":1}`: "data",
		`{"claims":{"sub":"x"}}`: "claims.sub", `{"claims":{"a":1e999}}`: "claims", `{"data":{},"host":"a b"}`: "host",
		`{"claims":{"a":"` + strings.Repeat("x", 4000) + `"}}`:           "claims",
		`{"data":{"a":"` + strings.Repeat("x", 17000) + `"}}`:            "data",
		`{"data":{},"access_token":"` + secretText + `"}`:                "access_token",
		`{"data":{},"access_token":"` + h.Tokens.Access + `"}`:           "access_token", // outdated, and another's
		`{"data":{},"access_token":"` + b.signIn(t).Tokens.Access + `"}`: "access_token",
		`{"data":{},"access_token":"` + c.Tokens.Access + `"}`:           "access_token",
		`{"data":{},"user_id":"x"}`:                                      "",
	} {
		r := do(b.internal, apiCall(http.MethodPatch, path, body))
		if p := wantProblem(t, r, http.StatusBadRequest); p.Field != field || strings.Contains(r.Body, secretText) {
			t.Errorf("%.60s: field %q, want %q", body, p.Field, field)
		}
	}
	for _, gone := range []string{"x", sessions.NewHandle().String()} {
		for _, body := range []string{`{"data":{}}`, `{"claims":{}}`} {
			wantProblem(t, do(b.internal, apiCall(http.MethodPatch, "/v1/sessions/"+gone, body)), http.StatusNotFound)
		}
	}
	b.store.down.Store(true)
	wantProblem(t, do(b.internal, apiCall(http.MethodPatch, path, `{"data":{}}`)), http.StatusServiceUnavailable)
}

func TestList(t *testing.T) {
	b := newBench(t)
	var handles []string
	for range 3 {
		handles = append([]string{b.create(t, `{"user_id":"a/b%?","data":{"device":"phone"}}`).Session.Handle}, handles...)
		b.pass(t, time.Second)
	}
	b.signIn(t)
	for _, tt := range []struct {
		query string
		want  []string
		more  bool
	}{
		{"", handles, false},
		{"?limit=3", handles, false},
		{"?limit=2", handles[:2], true},
		{"?limit=1000", handles, false},
	} {
		r := do(b.internal, apiCall(http.MethodGet, "/v1/users/a%2Fb%25%3F/sessions"+tt.query, ""))
		want(t, r, http.StatusOK)
		var got listResponse
		if err := json.Unmarshal([]byte(r.Body), &got, json.RejectUnknownMembers(true)); err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, s := range got.Sessions {
			found = append(found, s.Handle)
			if s.UserID != "a/b%?" || string(s.Data) != `{"device":"phone"}` {
				t.Errorf("session %+v", s)
			}
		}
		if !slices.Equal(found, tt.want) || got.More != tt.more {
			t.Errorf("%q: %d sessions, more %t", tt.query, len(found), got.More)
		}
	}
	if r := do(b.internal, apiCall(http.MethodGet, "/v1/users/unknown/sessions", "")); r.Body != `{"sessions":[],"more":false}` {
		t.Errorf("a user without sessions: %s", r.Body)
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=-1", "?limit=01", "?limit=1.5", "?limit=x", "?limit=1&limit=2", "?host=a", "?limit=1&host=a", "?%zz"} {
		wantProblem(t, do(b.internal, apiCall(http.MethodGet, "/v1/users/unknown/sessions"+query, "")), http.StatusBadRequest)
	}
	wantProblem(t, do(b.internal, apiCall(http.MethodGet, "/v1/users/%20/sessions", "")), http.StatusBadRequest)
	b.store.down.Store(true)
	wantProblem(t, do(b.internal, apiCall(http.MethodGet, "/v1/users/unknown/sessions", "")), http.StatusServiceUnavailable)
}

func TestEndUser(t *testing.T) {
	b := newBench(t)
	for range 3 {
		b.create(t, `{"user_id":"a/b%?"}`)
	}
	other := b.signIn(t)
	for _, n := range []int{3, 0} {
		r := do(b.internal, apiCall(http.MethodDelete, "/v1/users/a%2Fb%25%3F/sessions?host="+host, ""))
		want(t, r, http.StatusOK)
		var gone endResponse[int]
		if err := json.Unmarshal([]byte(r.Body), &gone, json.RejectUnknownMembers(true)); err != nil {
			t.Fatal(err)
		}
		if gone.Ended != n {
			t.Errorf("ended %d, want %d", gone.Ended, n)
		}
		wantCleared(t, &answer{Header: http.Header{"Set-Cookie": append(gone.SetCookie, gone.SDKCookies...)}}, browser.SDKCookieNames()...)
	}
	if !b.alive(t, other.Session.Handle) {
		t.Error("another user's session was ended")
	}
}

func TestAPIKey(t *testing.T) {
	b := newBench(t)
	c := b.signIn(t)
	tests := []struct {
		name   string
		lines  []string
		status int
		tried  bool
	}{
		{"right", []string{"Bearer " + apiKey}, http.StatusOK, false},
		{"right, scheme in lower case (RFC 9110 §11.1)", []string{"bearer " + apiKey}, http.StatusOK, false},
		{"another caller's", []string{"Bearer another key, also of 32 characters"}, http.StatusOK, false},
		{"none", nil, http.StatusUnauthorized, false},
		{"wrong", []string{"Bearer " + strings.ToUpper(apiKey)}, http.StatusUnauthorized, true},
		{"prefix", []string{"Bearer " + apiKey[:31]}, http.StatusUnauthorized, true},
		{"longer", []string{"Bearer " + apiKey + "x"}, http.StatusUnauthorized, true},
		{"with name", []string{"Bearer " + apiCaller + ":" + apiKey}, http.StatusUnauthorized, true},
		{"its digest", []string{"Bearer " + string(digestText())}, http.StatusUnauthorized, true},
		{"empty", []string{"Bearer "}, http.StatusUnauthorized, false},
		{"no scheme", []string{apiKey}, http.StatusUnauthorized, false},
		{"basic", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(apiCaller+":"+apiKey))}, http.StatusUnauthorized, false},
		{"twice", []string{"Bearer " + apiKey, "Bearer " + apiKey}, http.StatusUnauthorized, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			call := apiCall(http.MethodGet, "/v1/sessions/"+c.Session.Handle, "").with("Authorization", test.lines...)
			r := do(b.internal, call)
			if test.status == http.StatusOK {
				want(t, r, test.status)
				return
			}
			wantProblem(t, r, test.status)
			challenge := `Bearer realm="sessiongate"`
			if test.tried {
				challenge += `, error="invalid_token"`
			}
			if got := r.Header.Get("WWW-Authenticate"); got != challenge {
				t.Errorf("WWW-Authenticate %q, want %q", got, challenge)
			}
		})
	}
	t.Run("every operation asks", func(t *testing.T) {
		for path, m := range (&api{}).routes() {
			for method := range m {
				r := do(b.internal, call{method: method, path: strings.NewReplacer("{handle}", c.Session.Handle, "{user_id}", "u1").Replace(path)})
				wantProblem(t, r, http.StatusUnauthorized)
			}
		}
		if !b.alive(t, c.Session.Handle) {
			t.Error("a refused caller ended a session")
		}
	})
	t.Run("no keys configured", func(t *testing.T) {
		cfg := Defaults()
		cfg.Log = b.cfg.Log
		_, closed := handlers(t, b.engine, cfg)
		wantProblem(t, do(closed, apiCall(http.MethodGet, "/v1/sessions/"+c.Session.Handle, "")), http.StatusUnauthorized)
		wantProblem(t, do(closed, apiCall(http.MethodGet, "/v1/sessions/x", "").with("Authorization", "Bearer ")), http.StatusUnauthorized)
	})
}

func digestText() []byte {
	d := DigestKey(apiKey)
	return d[:]
}

// secretText looks like a token, so that a test finds it wherever it leaks to.
const secretText = "sgr1_c2VjcmV0LXNlY3JldC1zZWNyZXQ"

func TestBadInput(t *testing.T) {
	b := newBench(t)
	create := func(body string) call { return apiCall(http.MethodPost, "/v1/sessions", body) }
	const ok = `"user_id":"u1",`
	tests := []struct {
		name   string
		call   call
		status int
		field  string
	}{
		{"user_id missing", create(`{}`), 400, "user_id"},
		{"user_id empty", create(`{"user_id":""}`), 400, "user_id"},
		{"user_id with a space", create(`{"user_id":"` + secretText + ` x"}`), 400, "user_id"},
		{"user_id with a line end", create(`{"user_id":"` + secretText + `\r\nset-cookie: a=b"}`), 400, "user_id"},
		{"user_id not ASCII", create(`{"user_id":"` + secretText + `é"}`), 400, "user_id"},
		{"user_id too long", create(`{"user_id":"` + strings.Repeat(secretText, 10) + `"}`), 400, "user_id"},
		{"user_id a number", create(`{"user_id":1234567890123}`), 400, "user_id"},
		{"user_id null", create(`{"user_id":null}`), 400, "user_id"},
		{"user_id an object", create(`{"user_id":{"` + secretText + `":1}}`), 400, "user_id"},
		{"claims a string", create(`{` + ok + `"claims":"` + secretText + `"}`), 400, "claims"},
		{"claims an array", create(`{` + ok + `"claims":["` + secretText + `"]}`), 400, "claims"},
		{"claims null", create(`{` + ok + `"claims":null}`), 400, "claims"},
		{"claims with a reserved name", create(`{` + ok + `"claims":{"exp":"` + secretText + `"}}`), 400, "claims.exp"},
		{"claims with a name twice", create(`{` + ok + `"claims":{"` + secretText + `":1,"` + secretText + `":2}}`), 400, ""},
		{"claims too large", create(`{` + ok + `"claims":{"x":"` + strings.Repeat(secretText, 110) + `"}}`), 400, "claims"},
		{"data a number", create(`{` + ok + `"data":1234567890123}`), 400, "data"},
		{"data null", create(`{` + ok + `"data":null}`), 400, "data"},
		{"data too large", create(`{` + ok + `"data":{"x":"` + strings.Repeat(secretText, 600) + `"}}`), 400, "data"},
		{"transport unknown", create(`{` + ok + `"transport":"` + secretText + `"}`), 400, "transport"},
		{"transport in capitals", create(`{` + ok + `"transport":"Cookie"}`), 400, "transport"},
		{"transport a number", create(`{` + ok + `"transport":1}`), 400, "transport"},
		{"transport null", create(`{` + ok + `"transport":null}`), 400, "transport"},
		{"client a string", create(`{` + ok + `"client":"` + secretText + `"}`), 400, "client"},
		{"client null", create(`{` + ok + `"client":null}`), 400, "client"},
		{"client empty", create(`{` + ok + `"client":{}}`), 400, "client"},
		{"client with an unknown member", create(`{` + ok + `"client":{"` + secretText + `":1}}`), 400, ""},
		{"client.address no address", create(`{` + ok + `"client":{"address":"` + secretText + `"}}`), 400, "client.address"},
		{"client.address with port", create(`{` + ok + `"client":{"address":"192.0.2.1:80"}}`), 400, "client.address"},
		{"client.address a number", create(`{` + ok + `"client":{"address":1}}`), 400, "client.address"},
		{"client.user_agent an array", create(`{` + ok + `"client":{"user_agent":["` + secretText + `"]}}`), 400, "client.user_agent"},
		{"host with attributes", create(`{` + ok + `"host":"` + secretText + `; Domain=x"}`), 400, "host"},
		{"host a URL", create(`{` + ok + `"host":"https://` + secretText + `"}`), 400, "host"},
		{"host a number", create(`{` + ok + `"host":1}`), 400, "host"},
		{"unknown member", create(`{` + ok + `"` + secretText + `":1}`), 400, ""},
		{"other case", create(`{"User_ID":"` + secretText + `"}`), 400, ""},
		{"member twice", create(`{"user_id":"u1","user_id":"` + secretText + `"}`), 400, ""},
		{"trailing object", create(`{"user_id":"u1"}{"user_id":"` + secretText + `"}`), 400, ""},
		{"trailing text", create(`{"user_id":"u1"} ` + secretText), 400, ""},
		{"cut off", create(`{"user_id":"` + secretText), 400, ""},
		{"no JSON", create(secretText), 400, ""},
		{"empty", apiCall(http.MethodPost, "/v1/sessions", "").with("Content-Type", "application/json"), 400, ""},
		{"null", create(`null`), 400, ""},
		{"array", create(`[{"user_id":"` + secretText + `"}]`), 400, ""},
		{"invalid UTF-8", create("{\"user_id\":\"u1\",\"host\":\"" + secretText + "\xff\"}"), 400, ""},
		{"too large", create(`{` + ok + `"host":"` + strings.Repeat(secretText, 2200) + `"}`), 413, ""},
		{"no media type", create(`{"user_id":"` + secretText + `"}`).with("Content-Type"), 415, ""},
		{"form", create("user_id="+secretText).with("Content-Type", "application/x-www-form-urlencoded"), 415, ""},
		{"text", create(`{"user_id":"`+secretText+`"}`).with("Content-Type", "text/plain"), 415, ""},
		{"broken media type", create(`{"user_id":"u1"}`).with("Content-Type", "application/json; "+secretText), 415, ""},

		{"GET, malformed handle", apiCall(http.MethodGet, "/v1/sessions/"+secretText, ""), 404, ""},
		{"GET, unknown handle", apiCall(http.MethodGet, "/v1/sessions/"+sessions.NewHandle().String(), ""), 404, ""},
		{"GET, handle with a line end", apiCall(http.MethodGet, "/v1/sessions/AAAAAAAAAAAAAAAAAAAAAA%0A", ""), 404, ""},
		{"DELETE, malformed handle", apiCall(http.MethodDelete, "/v1/sessions/"+secretText, ""), 404, ""},
		{"DELETE, handle not canonical", apiCall(http.MethodDelete, "/v1/sessions/AAAAAAAAAAAAAAAAAAAAAB", ""), 404, ""},
		{"DELETE, other query", apiCall(http.MethodDelete, "/v1/sessions/AAAAAAAAAAAAAAAAAAAAAA?token="+secretText, ""), 400, "query"},
		{"DELETE, host twice", apiCall(http.MethodDelete, "/v1/sessions/AAAAAAAAAAAAAAAAAAAAAA?host=a&host="+secretText, ""), 400, "query"},
		{"DELETE, broken query", apiCall(http.MethodDelete, "/v1/sessions/AAAAAAAAAAAAAAAAAAAAAA?host=%zz"+secretText, ""), 400, "query"},
		{"DELETE, bad host", apiCall(http.MethodDelete, "/v1/sessions/AAAAAAAAAAAAAAAAAAAAAA?host="+secretText+";", ""), 400, "query"},
		{"DELETE user, bad user", apiCall(http.MethodDelete, "/v1/users/"+secretText+"%20/sessions", ""), 400, "user_id"},
		{"DELETE user, too long", apiCall(http.MethodDelete, "/v1/users/"+strings.Repeat(secretText, 10)+"/sessions", ""), 400, "user_id"},
		{"DELETE user, bad host", apiCall(http.MethodDelete, "/v1/users/u1/sessions?host="+secretText+"%0d", ""), 400, "host"},
		{"DELETE user, none", apiCall(http.MethodDelete, "/v1/users/sessions", ""), 404, ""},

		{"no such path", apiCall(http.MethodGet, "/v1/"+secretText, ""), 404, ""},
		{"wrong method", apiCall(http.MethodPut, "/v1/sessions", secretText), 405, ""},
		{"wrong method on a handle", apiCall(http.MethodPost, "/v1/sessions/"+secretText, secretText), 405, ""},
		{"wrong key", create(`{"user_id":"u1"}`).with("Authorization", "Bearer "+secretText), 401, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := do(b.internal, test.call)
			for name, values := range r.Header {
				if strings.Contains(strings.Join(values, " "), secretText) {
					t.Errorf("header %s repeats a value of the request", name)
				}
			}
			text := r.Body
			if strings.Contains(text, secretText) {
				t.Errorf("the answer repeats a value of the request: %s", text)
			}
			p := wantProblem(t, r, test.status)
			if p.Field != test.field {
				t.Errorf("field %q, want %q (%+v)", p.Field, test.field, p)
			}
			if p.Field != "" && p.Allowed == "" {
				t.Error("the problem does not say what is allowed")
			}
		})
	}
	if strings.Contains(b.log.String(), secretText) {
		t.Error("the log repeats a value of a request")
	}
}

// TestTokensStayOutOfLogs uses real tokens, where they belong and where not.
func TestTokensStayOutOfLogs(t *testing.T) {
	b := newBench(t)
	c := b.signIn(t)
	a, r := c.Tokens.Access, c.Tokens.Refresh
	for _, call := range []call{
		refreshCall(refreshCookie(r)), refreshCall(accessCookie(r), refreshCookie(a)), refreshCall().with("Authorization", "Bearer "+a),
		post("/auth/" + r), post("/auth/session/refresh?t=" + r), refreshCall(refreshCookie(r)).with("Origin", "https://"+r),
		{method: "X-" + r, path: "/auth/signout"},
		signOutCall(accessCookie(a), refreshCookie(r)).with("User-Agent", r),
	} {
		text := do(b.public, call).Body
		if strings.Contains(text, r) || strings.Contains(text, a) {
			t.Errorf("the answer to %s repeats a token", call.path[:10])
		}
	}
	for _, path := range []string{"/v1/sessions/", "/v1/users/", "/"} {
		do(b.internal, apiCall(http.MethodGet, path+r, ""))
	}
	log := b.log.String()
	if !strings.Contains(log, `"route":"/auth/session/refresh"`) {
		t.Fatal("requests are not logged")
	}
	for _, secret := range []string{a, r, c.Tokens.AntiCSRF, apiKey} {
		if strings.Contains(log, secret) {
			t.Error("a secret is in the log")
		}
	}
}

func TestInternalUnavailable(t *testing.T) {
	b, start := newIdleBench(t)
	wantProblem(t, do(b.internal, apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1"}`)), http.StatusServiceUnavailable)
	start()
	c := b.signIn(t)
	b.store.down.Store(true)
	for _, call := range []call{
		apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1"}`),
		apiCall(http.MethodGet, "/v1/sessions/"+c.Session.Handle, ""),
		apiCall(http.MethodDelete, "/v1/sessions/"+c.Session.Handle, ""),
		apiCall(http.MethodDelete, "/v1/users/u1/sessions", ""),
	} {
		r := do(b.internal, call)
		p := wantProblem(t, r, http.StatusServiceUnavailable)
		if r.Header.Get("Retry-After") != "1" || strings.Contains(p.Detail, errDown.Error()) {
			t.Errorf("%s %s: %v, %+v", call.method, call.path, r.Header, p)
		}
	}
}

// TestOpenAPI holds the description to the routes, and real answers to it.
func TestOpenAPI(t *testing.T) {
	b := newBench(t)
	r := do(b.internal, call{method: http.MethodGet, path: "/openapi.json"})
	want(t, r, http.StatusOK)
	var doc struct {
		OpenAPI string                               `json:"openapi"`
		Paths   map[string]map[string]jsontext.Value `json:"paths"`
		Parts   struct {
			Schemas map[string]schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(r.Body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	var described, served []string
	for path, operations := range doc.Paths {
		for method := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	for path, m := range (&api{}).routes() {
		for method := range m {
			served = append(served, method+" "+path)
		}
	}
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("routes and description differ:\n%s", diff)
	}

	post := apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1"}`)
	handle, other, lasting := b.signIn(t).Session.Handle, b.signIn(t), b.create(t, `{"user_id":"u3"}`)
	for _, answer := range []struct {
		schema string
		call   call
	}{
		{"CreateResponse", post},
		{"CreateResponse", apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1","transport":"header"}`)},
		{"GetResponse", apiCall(http.MethodGet, "/v1/sessions/"+handle, "")},
		{"UpdateResponse", apiCall(http.MethodPatch, "/v1/sessions/"+handle, `{"data":{}}`)},
		{"UpdateResponse", apiCall(http.MethodPatch, "/v1/sessions/"+other.Session.Handle, `{"claims":{},"access_token":"`+other.Tokens.Access+`"}`)},
		{"ListResponse", apiCall(http.MethodGet, "/v1/users/u1/sessions", "")},
		{"EndResponse", apiCall(http.MethodDelete, "/v1/sessions/"+handle, "")},
		{"EndUserResponse", apiCall(http.MethodDelete, "/v1/users/u1/sessions", "")},
		{"VerifyResponse", apiCall(http.MethodPost, "/v1/sessions/verify", `{"access_token":"`+lasting.Tokens.Access+`","anti_csrf":"`+lasting.Tokens.AntiCSRF+`","transport":"cookie","check_anti_csrf":true,"strict":true}`)},
		{"Problem", apiCall(http.MethodPost, "/v1/sessions/verify", `{}`)},
		{"RefreshResponse", apiCall(http.MethodPost, "/v1/sessions/refresh", `{"refresh_token":"`+lasting.Tokens.Refresh+`","transport":"cookie"`+clientBody+`,"host":"a.example"}`)},
		{"EndedProblem", apiCall(http.MethodPost, "/v1/sessions/refresh", `{`+clientBody[1:]+`}`)},
		{"Problem", apiCall(http.MethodGet, "/v1/sessions/x", "")},
		{"Problem", apiCall(http.MethodPost, "/v1/sessions", `{}`)},
	} {
		t.Run(answer.schema+" "+answer.call.method+" "+answer.call.path, func(t *testing.T) {
			text := do(b.internal, answer.call).Body
			conforms(t, doc.Parts.Schemas, doc.Parts.Schemas[answer.schema], jsontext.Value(text), answer.schema)
		})
	}
	t.Run("request", func(t *testing.T) {
		body := jsontext.Value(`{"user_id":"u1","claims":{},"data":{},"transport":"cookie","client":{"address":"192.0.2.1","user_agent":"x"},"host":"a.example"}`)
		conforms(t, doc.Parts.Schemas, doc.Parts.Schemas["CreateRequest"], body, "CreateRequest")
		if n := len(doc.Parts.Schemas["CreateRequest"].Properties); n != 6 {
			t.Errorf("%d members are described", n)
		}
		want(t, do(b.internal, apiCall(http.MethodPost, "/v1/sessions", string(body))), http.StatusCreated)
	})
}

// schema is as much of JSON Schema as the description uses of types and members.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
}

// conforms checks types, that required members are there, and that no member is
// that was not described.
func conforms(t *testing.T, all map[string]schema, s schema, v jsontext.Value, at string) {
	t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		if s, ok = all[name]; !ok {
			t.Errorf("%s: no schema %s", at, name)
		}
	}
	kinds := map[string]string{"object": "{", "array": "[", "string": `"`, "integer": "0", "boolean": "tf"}
	v = bytes.TrimSpace(v)
	if kind := v.Kind(); !strings.ContainsRune(kinds[s.Type], rune(kind)) {
		t.Errorf("%s is %s, want %s", at, kind, s.Type)
		return
	}
	if s.Type != "object" || s.Properties == nil {
		return
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(v, &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range s.Required {
		if _, ok := members[name]; !ok {
			t.Errorf("%s lacks %s", at, name)
		}
	}
	for name, member := range members {
		described, ok := s.Properties[name]
		if !ok {
			t.Errorf("%s has %s, which is not described", at, name)
			continue
		}
		conforms(t, all, described, member, at+"."+name)
	}
}
