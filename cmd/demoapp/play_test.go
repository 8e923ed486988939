package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

// played is an app that has just signed ada in, as session h, by way of the network.
type played struct {
	*app

	page    string       // what the page says of itself
	network http.Handler // what is the stage's own
}

func newSignedIn(t *testing.T, s stage) played {
	t.Helper()
	g, _ := standIn(t, http.StatusCreated, nil, fmt.Sprintf(`{"session":{"handle":"h"},"tokens":{"access_token":"access-0","refresh_token":"refresh-0"},
		"set_cookie":["sAccessToken=; Path=/; Domain=demo.example; Max-Age=0","sAccessToken=access-0; %s","sRefreshToken=refresh-0; %s"],
		"headers":{"front-token":%q}}`, accessAttributes, refreshAttributes, frontToken("hash-0", "")))
	a := newApp(g, s, slog.New(slog.DiscardHandler))
	resp := serve(t, a.handler(), "POST", "/login", `{"user":"ada"}`, map[string]string{"Content-Type": "application/json", networkHeader: a.way})
	proof := resp.Header.Get(proofHeader)
	if resp.StatusCode != 200 || len(proof) < 20 {
		t.Fatalf("sign-in: %d, a proof of %d characters", resp.StatusCode, len(proof))
	}
	return played{a, fmt.Sprintf(`{"handle":"h","proof":%q}`, proof), a.network()}
}

// ada is what Envoy adds for the session of newSignedIn.
var ada = map[string]string{"X-Session-User-Id": "ada", "X-Session-Handle": "h"}

// A page that was opened before another user signed in to the same browser does not break that user's session.
func TestPlayIsOfThePagesSession(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{publicURL: "http://127.0.0.1:1"})
	others := map[string]string{"Cookie": "sAccessToken=" + accessToken("other", "hash-9", "", time.Now().Unix())}
	for _, path := range []string{"/stage/expire", "/stage/thief"} {
		resp := serve(t, app.network, "POST", path, app.page, others)
		if got := object(t, resp); resp.StatusCode != 409 || len(resp.Cookies()) > 0 || got["handle"] != "other" || got["message"] != otherSession {
			t.Errorf("%s: %d %v, cookies %v", path, resp.StatusCode, got, resp.Cookies())
		}
		for _, page := range []string{"{}", `{"handle":"h"}`, `{"handle":"h","proof":"x"}`, strings.Replace(app.page, `"h"`, `"other"`, 1)} {
			resp := serve(t, app.network, "POST", path, page, nil)
			if got := object(t, resp); resp.StatusCode != 409 || len(resp.Cookies()) > 0 || got["message"] != forgotten {
				t.Errorf("%s of the page %q: %d %v, cookies %v", path, page, resp.StatusCode, got, resp.Cookies())
			}
		}
	}
}

func TestHomeTellsTheScriptOfTheChain(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{attempt: 3 * time.Second})
	header := map[string]string{
		"X-Session-User-Id": "ada", "X-Session-Handle": "h",
		// A neighbouring host has planted one of its own session.
		"Cookie": "sAccessToken=" + accessToken("other", "planted", "", time.Now().Unix()+1) + "; sAccessToken=" + accessToken("h", "hash-1", "hash-0", time.Now().Unix()),
	}
	body := text(t, serve(t, app.handler(), "GET", "/", "", header))
	for _, want := range []string{`data-session="h"`, `data-first="hash-0"`, `data-own="hash-1"`, `data-parent="hash-0"`, `data-attempt="3000"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(body, "planted") {
		t.Error("the page knows too much")
	}
	if proof := app.proof(t); strings.Contains(body, proof) {
		t.Error("a page that did not come by the network holds the proof")
	}
	if strings.Contains(body, "signature") || strings.Contains(body, "refresh-0") {
		t.Error("the page holds a token")
	}
	header[networkHeader] = app.way
	if body := text(t, serve(t, app.handler(), "GET", "/", "", header)); !strings.Contains(body, app.proof(t)) {
		t.Error("the page has no proof")
	}
}

// proof is the page's.
func (p played) proof(t *testing.T) string {
	t.Helper()
	s, ok := p.signIns.get("h")
	if !ok {
		t.Fatal("the sign-in is forgotten")
	}
	return s.proof
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
	for name, header := range map[string]map[string]string{
		"its access token": {"Cookie": "sAccessToken=" + accessToken("h", "hash-0", "", time.Now().Unix())},
		"a spoiled one":    {"Cookie": "sAccessToken=spoiled-by-the-demo"},
		"none":             nil,
	} {
		resp := serve(t, app.network, "POST", "/stage/expire", app.page, header)
		if want := "sAccessToken=spoiled-by-the-demo; " + accessAttributes; resp.StatusCode != 200 || resp.Header.Get("Set-Cookie") != want {
			t.Errorf("%s: %d, cookie %q, want %q", name, resp.StatusCode, resp.Header.Get("Set-Cookie"), want)
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
	name, _ := object(t, serve(t, app.network, "POST", "/stage/thief", app.page, nil))["thief"].(string)
	if len(name) < 20 {
		t.Fatalf("a thief's name of %d characters can be guessed", len(name))
	}
	command := func(what string) map[string]any {
		t.Helper()
		return object(t, serve(t, app.network, "POST", "/stage/thief/"+what, fmt.Sprintf(`{"actor":%q}`, name), jsonType))
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

// No user can have a thief act on another user's session, and no other site's page can play.
func TestPlayRefused(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{publicURL: "http://127.0.0.1:1"})
	for name, test := range map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
	}{
		"no page":              {"POST", "/stage/thief", "", nil, 400},
		"a GET":                {"GET", "/stage/thief", "", nil, 405},
		"a foreign page":       {"POST", "/stage/thief", app.page, map[string]string{"Origin": "https://evil.example"}, 403},
		"a guess":              {"POST", "/stage/thief/refresh", `{"actor":"x"}`, jsonType, 404},
		"no name":              {"POST", "/stage/thief/call", `{}`, jsonType, 404},
		"no JSON":              {"POST", "/stage/thief/call", ``, jsonType, 400},
		"a command by a GET":   {"GET", "/stage/thief/refresh", "", nil, 405},
		"a foreign command":    {"POST", "/stage/thief/refresh", `{"actor":"x"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"spoiling, by a GET":   {"GET", "/stage/expire", "", nil, 405},
		"spoiling from abroad": {"POST", "/stage/expire", app.page, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"no page of a laptop":  {"POST", "/stage/laptop", "", nil, 400},
		"a laptop's guess":     {"POST", "/stage/laptop/signin", `{"actor":"x"}`, jsonType, 404},
		"a guess to steal":     {"POST", "/stage/laptop/steal", `{"actor":"x"}`, jsonType, 404},
		"a laptop by a GET":    {"GET", "/stage/laptop", "", nil, 405},
		"a foreign laptop":     {"POST", "/stage/laptop", app.page, map[string]string{"Origin": "https://evil.example"}, 403},
		"another's laptop":     {"POST", "/stage/laptop", `{"handle":"h","proof":"x"}`, jsonType, 409},
		"a request's guess":    {"GET", "/stage/wire/x", "", nil, 404},
	} {
		if resp := serve(t, app.network, test.method, test.path, test.body, test.header); resp.StatusCode != test.status {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, test.status)
		}
	}
	alone := newSignedIn(t, stage{})
	for _, path := range []string{"/stage/thief", "/stage/laptop"} {
		if resp := serve(t, alone.network, "POST", path, alone.page, nil); resp.StatusCode != 404 {
			t.Errorf("%s without Envoy's address: %d, want 404", path, resp.StatusCode)
		}
	}
	// What comes by Envoy is a checked request, and no word of the stage.
	if resp := serve(t, app.handler(), "POST", "/stage/expire", app.page, ada); resp.StatusCode != 404 && resp.StatusCode != 405 {
		t.Errorf("by way of Envoy: %d, want none", resp.StatusCode)
	}
}

func TestThiefWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	app := newSignedIn(t, stage{publicURL: "http://127.0.0.1:1"})
	name, _ := object(t, serve(t, app.network, "POST", "/stage/thief", app.page, nil))["thief"].(string)
	resp := serve(t, app.network, "POST", "/stage/thief/refresh", fmt.Sprintf(`{"actor":%q}`, name), jsonType)
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
	if v, ok := r.get("b"); !ok || v != 2 {
		t.Errorf("b is %d, %t", v, ok)
	}
	r.add("d", 5)
	if len(r.held) != 2 || len(r.names) != 2 {
		t.Errorf("it holds %v, %v", r.held, r.names)
	}
}
