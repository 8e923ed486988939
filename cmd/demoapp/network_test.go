package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tokens are what may be shown to no one whole.
var tokens = []string{
	"eyJhbGciOiJFUzI1NiJ9.a-payload-of-some-length.a-signature-of-some-length", "sgr1_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-refresh", "an-anti-csrf-token-of-22",
}

// behind is an app and its network, before a stand-in for Envoy that hands all to the app but refreshes.
func behind(t *testing.T) (at string) {
	t.Helper()
	g, _ := standIn(t, http.StatusCreated, nil, createdAnswer)
	var app http.Handler
	envoy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == refreshPath {
			w.Header().Add("Set-Cookie", "sRefreshToken="+tokens[1]+"; Path=/auth; HttpOnly")
			w.Header().Set("Front-Token", frontToken("hash-1", "hash-0"))
			_, _ = io.WriteString(w, "{}")
			return
		}
		r.Header.Set("X-Session-User-Id", "ada")
		app.ServeHTTP(w, r)
	}))
	t.Cleanup(envoy.Close)
	a := newApp(g, stage{publicURL: envoy.URL}, slog.New(slog.DiscardHandler))
	app = a.handler()
	network := httptest.NewServer(a.network())
	t.Cleanup(network.Close)
	return network.URL
}

func send(t *testing.T, method, address string, header map[string]string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// The answer that gets lost does its work at the server, and nothing at the browser.
func TestNetworkLosesAnAnswer(t *testing.T) {
	t.Parallel()
	at := behind(t)
	resp := send(t, "POST", at+refreshPath, map[string]string{loseHeader: "1"})
	if resp.StatusCode != 504 || len(resp.Cookies()) > 0 || resp.Header.Get("Front-Token") != "" {
		t.Errorf("%d with cookies %v, want 504 without any", resp.StatusCode, resp.Cookies())
	}
	if got := object(t, resp); got["lost"] != 200.0 || got["front_token"] != frontToken("hash-1", "hash-0") {
		t.Errorf("the stage is told %v", got)
	}
	if resp := send(t, "POST", at+refreshPath, nil); resp.StatusCode != 200 || len(resp.Cookies()) != 1 {
		t.Errorf("the next one: %d, cookies %v", resp.StatusCode, resp.Cookies())
	}
}

// What passed is shown to those who know the request's name, and no token of it.
func TestWireShowsNoToken(t *testing.T) {
	t.Parallel()
	at := behind(t)
	sent := map[string]string{
		requestHeader: "a-name", "Cookie": "sAccessToken=" + tokens[0] + "; sRefreshToken=" + tokens[1], "Anti-Csrf": tokens[2],
		"Authorization": "Bearer " + tokens[0], "Sec-Fetch-Site": "same-origin", "X-Session-User-Id": "root",
	}
	for _, path := range []string{"/api/me", refreshPath} {
		method := "GET"
		if path == refreshPath {
			method = "POST"
		}
		if resp := send(t, method, at+path, sent); resp.StatusCode != 200 {
			t.Fatalf("%s: %d", path, resp.StatusCode)
		}
		shown := text(t, send(t, "GET", at+"/stage/wire/a-name", nil))
		for _, token := range tokens {
			if strings.Contains(shown, token) || strings.Contains(shown, token[len(token)/2:]) || strings.Contains(shown, token[:len(token)/2]) {
				t.Errorf("%s: half a token is shown:\n%s", path, shown)
			}
		}
		for _, want := range []string{`"sAccessToken=eyJhbG…ngth; sRefreshToken=sgr1_A…resh"`, method + " " + path} {
			if !strings.Contains(shown, want) {
				t.Errorf("%s: %q is not shown:\n%s", path, want, shown)
			}
		}
		if strings.Contains(strings.ToLower(shown), "x-stage-") {
			t.Errorf("%s: the stage's own headers are shown", path)
		}
	}
	if got := text(t, send(t, "GET", at+"/stage/wire/a-name", nil)); !strings.Contains(got, `{"name":"x-session-user-id","value":"ada","by":"sessiongate"}`) {
		t.Errorf("who set the identity is not told: %s", got)
	}
}

// The command is what a shell takes, with the tokens in variables.
func TestCurlIsACommand(t *testing.T) {
	t.Parallel()
	header := http.Header{
		"Cookie": {"sAccessToken=" + tokens[0] + "; other=1"}, "Anti-Csrf": {tokens[2]}, "Origin": {"http://demo.example"},
		"Sec-Fetch-Site": {"same-origin"}, "User-Agent": {"it's $(touch a-file) a `browser`"},
	}
	command := curl("POST", "http://demo.example/auth/session/refresh", header)
	for _, token := range tokens {
		if strings.Contains(command, token) {
			t.Errorf("the command holds a token: %s", command)
		}
	}
	dir := t.TempDir()
	// A curl that prints its arguments, a line each.
	if err := os.WriteFile(filepath.Join(dir, "curl"), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "sh", "-c", command)
	run.Dir = dir
	run.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "ACCESS_TOKEN=an-access-token", "ANTI_CSRF=a-csrf-token"}
	output, err := run.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, command)
	}
	want := "-i\n-X\nPOST\nhttp://demo.example/auth/session/refresh\n-H\nanti-csrf: a-csrf-token\n-H\ncookie: sAccessToken=an-access-token\n" +
		"-H\norigin: http://demo.example\n-H\nsec-fetch-site: same-origin\n-H\nuser-agent: it's $(touch a-file) a `browser`\n"
	if string(output) != want {
		t.Errorf("curl gets\n%s\nwant\n%s", output, want)
	}
	if signIn := curl("POST", "http://demo.example/login", http.Header{"Content-Type": {"application/json"}}); !strings.HasSuffix(signIn, `-d '{"user": "ada"}'`) {
		t.Errorf("a sign-in without its body: %s", signIn)
	}
}

// What Go's parser of queries does not take reaches Envoy all the same.
func TestNetworkLeavesQueries(t *testing.T) {
	t.Parallel()
	var got string
	envoy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }))
	defer envoy.Close()
	network := newApp(nil, stage{publicURL: envoy.URL}, slog.New(slog.DiscardHandler)).network()
	network.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/a?x=1;y=%zz", nil))
	if got != "/a?x=1;y=%zz" {
		t.Errorf("Envoy gets %q", got)
	}
}

func TestSwitches(t *testing.T) {
	t.Parallel()
	var asked []string
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		_, _ = io.WriteString(w, `{"name":"postgres","state":"off"}`)
	}))
	defer control.Close()
	app := newSignedIn(t, stage{controlURL: control.URL, controlSecret: "secret"})
	off := strings.Replace(app.page, "}", `,"on":false}`, 1)
	local := "http://localhost:1/stage/switches/postgres"
	for name, test := range map[string]struct {
		address, body string
		header        map[string]string
		status        int
	}{
		"another site's name for this machine": {"http://evil.example/stage/switches/postgres", off, nil, 403},
		"another site":                         {local, off, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"a neighbour":                          {local, off, map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		"no proof":                             {local, `{"handle":"h","on":false}`, nil, 409},
		"no page":                              {local, "", nil, 400},
	} {
		r := httptest.NewRequest("POST", test.address, strings.NewReader(test.body))
		for name, value := range test.header {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		app.network.ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s: %d, want %d", name, w.Code, test.status)
		}
	}
	if len(asked) > 0 {
		t.Fatalf("a switch was turned: %q", asked)
	}
	w := httptest.NewRecorder()
	app.network.ServeHTTP(w, httptest.NewRequest("POST", local, strings.NewReader(off)))
	if w.Code != 200 || len(asked) != 1 || asked[0] != `POST /parts/postgres Bearer secret {"on":false}` {
		t.Errorf("%d, asked %q", w.Code, asked)
	}

	// Without what started the demo there is a reason instead.
	alone := newSignedIn(t, stage{})
	w = httptest.NewRecorder()
	alone.network.ServeHTTP(w, httptest.NewRequest("GET", "/stage/switches", nil))
	if body := w.Body.String(); w.Code != 200 || strings.Count(body, "docker compose kill postgres") != 1 || strings.Count(body, "docker compose scale sessiongate=1") != 1 {
		t.Errorf("%d %s", w.Code, body)
	}
}

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost:1": true, "app.localhost": true, "127.0.0.1:80": true, "[::1]:80": true,
		"evil.example": false, "localhost.evil.example:1": false, "10.0.0.1:80": false, "": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("isLoopback(%q) = %t", host, got)
		}
	}
}
