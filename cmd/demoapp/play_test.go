package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// accessToken is shaped like one of sessiongate's.
func accessToken(session, own, parent string, issued int64) string {
	text := fmt.Sprintf(`{"sid":%q,"iat":%d,"exp":%d,"sg":{"own":%q,"parent":%q}}`, session, issued, issued+3600, own, parent)
	return "header." + base64.RawURLEncoding.EncodeToString([]byte(text)) + ".signature"
}

func frontToken(own, parent string) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"uid":"ada","ate":1,"up":{"sid":"h","iat":1000,"exp":4600,"sg":{"own":%q,"parent":%q}}}`, own, parent))
}

const (
	accessAttributes  = "Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"
	refreshAttributes = "Path=/auth; Max-Age=2592000; HttpOnly; SameSite=Lax"
)

// newSignedIn is an app that has just signed ada in, as session h.
func newSignedIn(t *testing.T, s stage) http.Handler {
	t.Helper()
	g, _ := standIn(t, http.StatusCreated, nil, fmt.Sprintf(`{"session":{"handle":"h"},"tokens":{"access_token":"access-0","refresh_token":"refresh-0"},
		"set_cookie":["sAccessToken=; Path=/; Domain=demo.example; Max-Age=0","sAccessToken=access-0; %s","sRefreshToken=refresh-0; %s"],
		"headers":{"front-token":%q}}`, accessAttributes, refreshAttributes, frontToken("hash-0", "")))
	app := newHandler(g, s, slog.New(slog.DiscardHandler))
	if resp := serve(t, app, "POST", "/login", `{"user":"ada"}`, jsonType); resp.StatusCode != 200 {
		t.Fatalf("sign-in: %d", resp.StatusCode)
	}
	return app
}

// ada is what Envoy adds for the session of newSignedIn.
var ada = map[string]string{"X-Session-User-Id": "ada", "X-Session-Handle": "h"}

// adasPage is what a page says that was loaded in that session.
const adasPage = `{"handle":"h"}`

// A page that was opened before another user signed in to the same browser does not break that user's session.
func TestPlayIsOfThePagesSession(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{publicURL: "http://127.0.0.1:1"})
	for _, path := range []string{"/api/expire", "/api/again", "/api/thief"} {
		for _, page := range []string{"", "{}", `{"handle":"other"}`} {
			resp := serve(t, app, "POST", path, page, ada)
			if got := object(t, resp); resp.StatusCode != 409 || len(resp.Cookies()) > 0 || got["handle"] != "h" || got["message"] != otherSession {
				t.Errorf("%s of the page %q: %d %v, cookies %v", path, page, resp.StatusCode, got, resp.Cookies())
			}
		}
	}
}

func TestHomeTellsTheScriptOfTheChain(t *testing.T) {
	t.Parallel()
	urlFile := filepath.Join(t.TempDir(), "url")
	app := newSignedIn(t, stage{publicURLFile: urlFile, attempt: 3 * time.Second})
	header := map[string]string{
		"X-Session-User-Id": "ada", "X-Session-Handle": "h",
		// A neighbouring host has planted one of its own session.
		"Cookie": "sAccessToken=" + accessToken("other", "planted", "", time.Now().Unix()+1) + "; sAccessToken=" + accessToken("h", "hash-1", "hash-0", time.Now().Unix()),
	}
	body := text(t, serve(t, app, "GET", "/", "", header))
	for _, want := range []string{`data-session="h"`, `data-first="hash-0"`, `data-own="hash-1"`, `data-parent="hash-0"`, `data-attempt="3000"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(body, "planted") || strings.Contains(body, "data-thief") {
		t.Error("the page knows too much")
	}
	if strings.Contains(body, "signature") || strings.Contains(body, "refresh-0") {
		t.Error("the page holds a token")
	}
	if err := os.WriteFile(urlFile, []byte("http://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if body := text(t, serve(t, app, "GET", "/", "", header)); !strings.Contains(body, "data-thief") {
		t.Error("no thief, though Envoy's address is known")
	}
}

func TestMeTellsOfTheChain(t *testing.T) {
	t.Parallel()
	got := object(t, ask(t, nil, "GET", "/api/me", "", map[string]string{
		"X-Session-User-Id": "ada", "X-Session-Handle": "h",
		"Cookie": "sAccessToken=" + accessToken("h", "hash-1", "hash-0", time.Now().Unix()-3600),
	}))
	if diff := cmp.Diff(map[string]any{"own": "hash-1", "parent": "hash-0", "expires_in": 0.0}, got["chain"]); diff != "" {
		t.Errorf("chain (-want +got):\n%s", diff)
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{})
	resp := serve(t, app, "POST", "/api/expire", adasPage, ada)
	if want := "sAccessToken=spoiled-by-the-demo; " + accessAttributes; resp.StatusCode != 200 || resp.Header.Get("Set-Cookie") != want {
		t.Errorf("%d, cookie %q, want %q", resp.StatusCode, resp.Header.Get("Set-Cookie"), want)
	}
	for _, handle := range []string{"", "other"} {
		resp := serve(t, app, "POST", "/api/expire", fmt.Sprintf(`{"handle":%q}`, handle), map[string]string{"X-Session-Handle": handle})
		if resp.StatusCode != 409 || len(resp.Cookies()) > 0 {
			t.Errorf("session %q: %d, cookies %v", handle, resp.StatusCode, resp.Cookies())
		}
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{})
	if resp := serve(t, app, "POST", "/api/again", `{"handle":"other"}`, map[string]string{"X-Session-Handle": "other"}); resp.StatusCode != 409 {
		t.Errorf("a ticket for a sign-in that is not known: %d", resp.StatusCode)
	}
	resp := serve(t, app, "POST", "/api/again", adasPage, ada)
	ticket, _ := object(t, resp)["again"].(string)
	if resp.StatusCode != 201 || len(ticket) < 20 {
		t.Fatalf("%d, a ticket of %d characters", resp.StatusCode, len(ticket))
	}
	body := fmt.Sprintf(`{"again":%q}`, ticket)
	foreign := map[string]string{"Content-Type": "application/json", "Sec-Fetch-Site": "same-site"}
	if resp := serve(t, app, "POST", "/login", body, foreign); resp.StatusCode != 403 || len(resp.Cookies()) > 0 {
		t.Errorf("from a neighbouring host: %d", resp.StatusCode)
	}
	resp = serve(t, app, "POST", "/login", body, jsonType)
	want := []string{"sAccessToken=access-0; " + accessAttributes, "sRefreshToken=refresh-0; " + refreshAttributes}
	if diff := cmp.Diff(want, resp.Header.Values("Set-Cookie")); resp.StatusCode != 200 || diff != "" {
		t.Errorf("%d, cookies (-want +got):\n%s", resp.StatusCode, diff)
	}
	for _, body := range []string{body, `{"again":"x"}`} {
		if resp := serve(t, app, "POST", "/login", body, jsonType); resp.StatusCode != 403 || len(resp.Cookies()) > 0 {
			t.Errorf("a ticket that is not good: %d", resp.StatusCode)
		}
	}
}

// theft is what a stand-in for Envoy got of a thief.
type theft struct{ Method, Path, Host, Agent, Cookie, AntiCSRF string }

func TestThief(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []theft
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, theft{r.Method, r.URL.Path, r.Host, r.UserAgent(), r.Header.Get("Cookie"), r.Header.Get("Anti-Csrf")})
		switch {
		case r.Method == http.MethodGet:
			_, _ = fmt.Fprint(w, `{"chain":{"own":"hash-1","parent":"hash-0","expires_in":60},"user_id":"ada"}`)
		case len(got) == 1:
			w.Header().Add("Set-Cookie", "sAccessToken=access-1; Secure; "+accessAttributes)
			w.Header().Add("Set-Cookie", "sRefreshToken=refresh-1; Secure; "+refreshAttributes)
			w.Header().Set("Front-Token", frontToken("hash-1", "hash-0"))
			w.Header().Set("Anti-Csrf", "csrf-1")
			_, _ = fmt.Fprint(w, `{}`)
		default:
			w.Header().Add("Set-Cookie", "sRefreshToken=; Max-Age=0; Path=/auth")
			w.Header().Set("Front-Token", "remove")
			w.WriteHeader(440)
			_, _ = fmt.Fprint(w, `{"error":"token theft detected"}`)
		}
	}))
	defer gate.Close()
	app := newSignedIn(t, stage{publicURL: gate.URL + "/"})
	name, _ := object(t, serve(t, app, "POST", "/api/thief", adasPage, ada))["thief"].(string)
	if len(name) < 20 {
		t.Fatalf("a thief's name of %d characters can be guessed", len(name))
	}
	command := func(what string) map[string]any {
		t.Helper()
		return object(t, serve(t, app, "POST", "/optional/thief/"+what, fmt.Sprintf(`{"thief":%q}`, name), jsonType))
	}
	for i, want := range []map[string]any{
		{"status": 200.0, "chain": map[string]any{"own": "hash-1", "parent": "hash-0", "expires_in": 3600.0}},
		{"status": 200.0, "chain": map[string]any{"own": "hash-1", "parent": "hash-0", "expires_in": 60.0}},
		{"status": 440.0, "error": "token theft detected"},
	} {
		if diff := cmp.Diff(want, command([]string{"refresh", "call", "refresh"}[i])); diff != "" {
			t.Errorf("command %d (-want +got):\n%s", i, diff)
		}
	}
	want := []theft{
		{"POST", refreshPath, "demo.example", thiefAgent, "sRefreshToken=refresh-0", ""},
		{"GET", "/api/me", "demo.example", thiefAgent, "sAccessToken=access-1", "csrf-1"},
		{"POST", refreshPath, "demo.example", thiefAgent, "sRefreshToken=refresh-1; sAccessToken=access-1", "csrf-1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// No user can have a thief act on another user's session.
func TestThiefRefused(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{publicURL: "http://127.0.0.1:1"})
	for name, test := range map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
	}{
		"no one signed in":     {"POST", "/api/thief", "", nil, 409},
		"another session":      {"POST", "/api/thief", `{"handle":"other"}`, map[string]string{"X-Session-User-Id": "ada", "X-Session-Handle": "other"}, 409},
		"a GET":                {"GET", "/api/thief", "", ada, 405},
		"a foreign page":       {"POST", "/api/thief", "", map[string]string{"X-Session-Handle": "h", "Origin": "https://evil.example"}, 403},
		"a guess":              {"POST", "/optional/thief/refresh", `{"thief":"x"}`, jsonType, 404},
		"no name":              {"POST", "/optional/thief/call", `{}`, jsonType, 404},
		"no JSON":              {"POST", "/optional/thief/call", ``, jsonType, 400},
		"a command by a GET":   {"GET", "/optional/thief/refresh", "", nil, 405},
		"a foreign command":    {"POST", "/optional/thief/refresh", `{"thief":"x"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"spoiling, by a GET":   {"GET", "/api/expire", "", ada, 405},
		"a ticket, by a GET":   {"GET", "/api/again", "", ada, 405},
		"spoiling from abroad": {"POST", "/api/expire", "", map[string]string{"X-Session-Handle": "h", "Sec-Fetch-Site": "cross-site"}, 403},
	} {
		if resp := serve(t, app, test.method, test.path, test.body, test.header); resp.StatusCode != test.status {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, test.status)
		}
	}
	if resp := serve(t, newSignedIn(t, stage{}), "POST", "/api/thief", "", ada); resp.StatusCode != 404 {
		t.Errorf("without Envoy's address: %d, want 404", resp.StatusCode)
	}
}

func TestThiefWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{publicURL: "http://127.0.0.1:1"})
	name, _ := object(t, serve(t, app, "POST", "/api/thief", adasPage, ada))["thief"].(string)
	resp := serve(t, app, "POST", "/optional/thief/refresh", fmt.Sprintf(`{"thief":%q}`, name), jsonType)
	if body := text(t, resp); resp.StatusCode != 502 || strings.Contains(body, "127.0.0.1") {
		t.Errorf("%d %q, want 502 without the cause", resp.StatusCode, body)
	}
}

func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	r := newRecent[int](2)
	r.add("a", 1)
	r.add("b", 2)
	r.add("a", 3) // stays the oldest
	r.add("c", 4)
	if _, ok := r.get("a"); ok {
		t.Error("the oldest is still there")
	}
	if v, ok := r.take("b"); !ok || v != 2 {
		t.Errorf("b is %d, %t", v, ok)
	}
	if _, ok := r.take("b"); ok {
		t.Error("b was there twice")
	}
	r.add("d", 5)
	if len(r.held) != 2 || len(r.names) != 2 {
		t.Errorf("it holds %v, %v", r.held, r.names)
	}
}
