package main

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ask sends one request to the app and returns its answer.
func ask(t *testing.T, g *gate, method, target, body string, header map[string]string) *http.Response {
	t.Helper()
	return serve(t, newApp(g, stage{}, slog.New(slog.DiscardHandler)).handler(), method, target, body, header)
}

// serve is ask, of an app that goes on.
func serve(t *testing.T, app http.Handler, method, target, body string, header map[string]string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "http://demo.example"+target, strings.NewReader(body))
	for name, value := range header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	app.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return body
}

func object(t *testing.T, resp *http.Response) map[string]any {
	t.Helper()
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q, want application/json", got)
	}
	var o map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil {
		t.Fatal(err)
	}
	return o
}

var (
	formType = map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	jsonType = map[string]string{"Content-Type": "application/json"}
)

func TestLogin(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body     string
		header   map[string]string
		status   int
		location string
	}{
		"form":                       {"user=ada", formType, 303, "/"},
		"form with a way back":       {"user=ada&return_to=" + url.QueryEscape("/shop?a=1&b=2"), formType, 303, "/shop?a=1&b=2"},
		"form with a foreign target": {"user=ada&return_to=" + url.QueryEscape("//evil.example/"), formType, 303, "/"},
		"script":                     {`{"user":"ada"}`, jsonType, 200, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, calls := standIn(t, http.StatusCreated, nil, createdAnswer)
			resp := ask(t, g, "POST", "/login", test.body, test.header)
			if resp.StatusCode != test.status || resp.Header.Get("Location") != test.location {
				t.Errorf("answer %d to %q, want %d to %q", resp.StatusCode, resp.Header.Get("Location"), test.status, test.location)
			}
			if diff := cmp.Diff([]string{"sAccessToken=a; Path=/", "sRefreshToken=r; Path=/auth"}, resp.Header.Values("Set-Cookie")); diff != "" {
				t.Errorf("cookies (-want +got):\n%s", diff)
			}
			if got := resp.Header.Get("Anti-Csrf"); got != "c" {
				t.Errorf("anti-csrf %q, want c", got)
			}
			if test.status == 200 {
				if diff := cmp.Diff(map[string]any{"status": "OK"}, object(t, resp)); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
			}
			if len(*calls) != 1 || (*calls)[0].Body["user_id"] != "ada" || (*calls)[0].Body["host"] != "demo.example" {
				t.Errorf("calls %v, want one for ada at demo.example", *calls)
			}
		})
	}
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	crossSite := map[string]string{"Content-Type": formType["Content-Type"], "Sec-Fetch-Site": "cross-site"}
	foreignOrigin := map[string]string{"Content-Type": formType["Content-Type"], "Origin": "https://evil.example"}
	tests := map[string]struct {
		body   string
		header map[string]string
		status int
	}{
		"no user":              {"user=", formType, 400},
		"no user in JSON":      {"{}", jsonType, 400},
		"broken JSON":          {`{"user":`, jsonType, 400},
		"no content type":      {"user=ada", nil, 400},
		"another content type": {"user=ada", map[string]string{"Content-Type": "text/plain"}, 400},
		"too large":            {"user=" + strings.Repeat("a", maxBody), formType, 413},
		"from a foreign site":  {"user=ada", crossSite, 403},
		"of a foreign origin":  {"user=ada", foreignOrigin, 403},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, calls := standIn(t, http.StatusCreated, nil, createdAnswer)
			resp := ask(t, g, "POST", "/login", test.body, test.header)
			if resp.StatusCode != test.status {
				t.Errorf("answer %d, want %d", resp.StatusCode, test.status)
			}
			if len(resp.Cookies()) > 0 || len(*calls) > 0 {
				t.Errorf("refused, but cookies %v and calls %v", resp.Cookies(), *calls)
			}
		})
	}
}

func TestLoginWhileTheGateFails(t *testing.T) {
	t.Parallel()
	for answer, want := range map[int]int{400: 400, 401: 502, 429: 502, 500: 502, 503: 503} {
		g, _ := standIn(t, answer, http.Header{"Retry-After": {"2"}}, `{"title":"the cause"}`)
		resp := ask(t, g, "POST", "/login", `{"user":"ada"}`, jsonType)
		if resp.StatusCode != want {
			t.Errorf("the gate says %d, the app %d, want %d", answer, resp.StatusCode, want)
		}
		if got := resp.Header.Get("Retry-After"); (got == "2") != (want == 503) {
			t.Errorf("the gate says %d: Retry-After %q", answer, got)
		}
		if body := text(t, resp); strings.Contains(body, "the cause") {
			t.Errorf("the cause reaches the browser: %s", body)
		}
	}
}

func TestLoginPage(t *testing.T) {
	t.Parallel()
	resp := ask(t, nil, "GET", "/login?return_to="+url.QueryEscape(`/a?"><script>`), "", nil)
	body := text(t, resp)
	if resp.StatusCode != 200 || !strings.Contains(body, `value="/a?&#34;&gt;&lt;script&gt;"`) {
		t.Errorf("answer %d without the escaped way back:\n%s", resp.StatusCode, body)
	}
	if got := resp.Header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") || strings.Contains(got, "unsafe") {
		t.Errorf("content security policy %q", got)
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("cache control %q, want no-store", got)
	}
	if body := text(t, ask(t, nil, "GET", "/login?reauth=1", "", nil)); !strings.Contains(body, "once more") {
		t.Errorf("no word about the second sign-in:\n%s", body)
	}
}

func TestLocalPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/":                       "/",
		"/a/b?c=d&e=%2F#f":        "/a/b?c=d&e=%2F#f",
		"/a//b":                   "/a//b",
		"/search?u=https://x.com": "/search?u=https://x.com",
		"":                        "/",
		"a":                       "/",
		"//evil.example":          "/",
		"///evil.example":         "/",
		`/\evil.example`:          "/",
		`\/evil.example`:          "/",
		"/\t/evil.example":        "/",
		"/\n/evil.example":        "/",
		"\x20//evil.example":      "/",
		"https://evil.example":    "/",
		"https:evil.example":      "/",
		"javascript:alert(1)":     "/",
		"/%zz":                    "/",
	} {
		if got := localPath(in); got != want {
			t.Errorf("localPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	g, calls := standIn(t, http.StatusOK, nil, `{"set_cookie":["sAccessToken=; Max-Age=0"],"headers":{"front-token":"remove"}}`)
	resp := ask(t, g, "POST", "/logout", "", map[string]string{"X-Session-User-Id": "ada", "X-Session-Handle": "h"})
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/login" || resp.Header.Get("Set-Cookie") != "sAccessToken=; Max-Age=0" {
		t.Errorf("answer %d to %q, headers %v", resp.StatusCode, resp.Header.Get("Location"), resp.Header)
	}
	if len(*calls) != 1 || (*calls)[0].Method != "DELETE" || (*calls)[0].URI != "/v1/sessions/h?host=demo.example" {
		t.Errorf("calls %v, want one DELETE of the session", *calls)
	}
	if resp := ask(t, g, "POST", "/logout", "", nil); resp.StatusCode != 401 || len(*calls) != 1 {
		t.Errorf("without identity: %d, calls %v", resp.StatusCode, *calls)
	}
}

func TestLogoutEverywhere(t *testing.T) {
	t.Parallel()
	ended := `{"set_cookie":["sAccessToken=; Max-Age=0"],"headers":{"front-token":"remove"}}`
	identity := map[string]string{"X-Session-User-Id": "ada", "X-Session-Handle": "h"}

	g, calls := standIn(t, http.StatusOK, nil, ended)
	resp := ask(t, g, "POST", "/logout-everywhere", "", identity)
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/login" {
		t.Errorf("answer %d to %q, want 303 to /login", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp.Header.Get("Set-Cookie") != "sAccessToken=; Max-Age=0" || resp.Header.Get("Front-Token") != "remove" {
		t.Errorf("the answer does not end the session at the browser: %v", resp.Header)
	}
	if len(*calls) != 1 || (*calls)[0].Method != "DELETE" || (*calls)[0].URI != "/v1/users/ada/sessions?host=demo.example" {
		t.Errorf("calls %v, want one DELETE of ada's sessions", *calls)
	}

	identity["Accept"] = "application/json"
	if resp := ask(t, g, "POST", "/logout-everywhere", "", identity); resp.StatusCode != 200 || object(t, resp)["status"] != "OK" {
		t.Errorf("a script gets %d", resp.StatusCode)
	}

	g, calls = standIn(t, http.StatusOK, nil, ended)
	if resp := ask(t, g, "POST", "/logout-everywhere", "", nil); resp.StatusCode != 401 || len(*calls) > 0 {
		t.Errorf("without identity: answer %d, calls %v", resp.StatusCode, *calls)
	}
}

func TestMe(t *testing.T) {
	t.Parallel()
	got := object(t, ask(t, nil, "GET", "/api/me", "", map[string]string{
		"X-Session-User-Id": "ada", "X-Session-Handle": "h", "X-Session-Claims": "e30", "X-Other": "1",
		"Cookie": "sAccessToken=secret; theme=dark",
	}))
	want := map[string]any{
		"user_id": "ada",
		"handle":  "h",
		"headers": map[string]any{
			"x-session-user-id": []any{"ada"}, "x-session-handle": []any{"h"}, "x-session-claims": []any{"e30"},
		},
		"cookies": []any{"sAccessToken", "theme"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		got := object(t, ask(t, nil, method, "/api/echo?a=b", "text", map[string]string{"Cookie": "sAccessToken=secret"}))
		want := map[string]any{
			"method": method, "path": "/api/echo", "query": "a=b", "user_id": "", "body": "text", "header_names": []any{"cookie"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	}
	if resp := ask(t, nil, "POST", "/api/echo", strings.Repeat("a", maxBody+1), nil); resp.StatusCode != 413 {
		t.Errorf("a large body gets %d, want 413", resp.StatusCode)
	}
}

func TestHomeAndOptional(t *testing.T) {
	t.Parallel()
	evil := map[string]string{"X-Session-User-Id": "<b>ada</b>", "X-Session-Handle": "h"}
	if body := text(t, ask(t, nil, "GET", "/", "", evil)); !strings.Contains(body, "&lt;b&gt;ada&lt;/b&gt;") {
		t.Errorf("the page does not show the escaped user:\n%s", body)
	}
	if body := text(t, ask(t, nil, "GET", "/", "", nil)); !strings.Contains(body, "No one is signed in") {
		t.Errorf("the page shows a user:\n%s", body)
	}
	for _, user := range []string{"", "ada"} {
		got := object(t, ask(t, nil, "GET", "/optional", "", map[string]string{"X-Session-User-Id": user}))
		if diff := cmp.Diff(map[string]any{"signed_in": user != "", "user_id": user}, got); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/static/app.css":  "text/css; charset=utf-8",
		"/static/demo.js":  "text/javascript; charset=utf-8",
		"/static/icon.svg": "image/svg+xml",
	} {
		resp := ask(t, nil, "GET", path, "", nil)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != want {
			t.Errorf("%s: %d %q, want 200 %q", path, resp.StatusCode, got, want)
		}
	}
	for _, path := range []string{"/static/none", "/none", "/auth/signout"} {
		if resp := ask(t, nil, "GET", path, "", nil); resp.StatusCode != 404 {
			t.Errorf("%s: %d, want 404", path, resp.StatusCode)
		}
	}
}

// Behind Envoy the peer is Envoy; before it, x-forwarded-for is the browser's claim.
func TestBrowser(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		external  []string
		forwarded []string
		want      string
	}{
		"no proxy":             {nil, nil, "192.0.2.1"},
		"Envoy":                {[]string{"203.0.113.7"}, []string{"203.0.113.7"}, "203.0.113.7"},
		"Envoy's own machine":  {[]string{"127.0.0.1"}, []string{"192.0.2.2"}, "127.0.0.1"},
		"another proxy":        {nil, []string{"203.0.113.7"}, "203.0.113.7"},
		"a claim before it":    {nil, []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		"no address":           {nil, []string{"unknown"}, ""},
		"claims in lines":      {nil, []string{"198.51.100.1", "198.51.100.2,2001:db8::7"}, "2001:db8::7"},
		"Envoy sets one value": {[]string{"198.51.100.1", "198.51.100.2"}, []string{"203.0.113.7"}, "203.0.113.7"},
	}
	for name, test := range tests {
		r := httptest.NewRequest("POST", "/login", nil)
		r.Header["X-Envoy-External-Address"] = test.external
		r.Header["X-Forwarded-For"] = test.forwarded
		r.Header.Set("User-Agent", "agent")
		if diff := cmp.Diff(client{Address: test.want, UserAgent: "agent"}, browser(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A browser gets what it asks for: compressed, or as it is.
func TestStaticFiles(t *testing.T) {
	app := newApp(nil, stage{}, slog.New(slog.DiscardHandler)).handler()
	want, err := static.ReadFile("static/chain.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, accepts := range []string{"", "gzip", "br, gzip"} {
		r, w := httptest.NewRequest(http.MethodGet, "/static/chain.js", nil), httptest.NewRecorder()
		r.Header.Set("Accept-Encoding", accepts)
		app.ServeHTTP(w, r)
		body, encoding := io.Reader(w.Body), w.Header().Get("Content-Encoding")
		if (encoding == "gzip") != (accepts != "") {
			t.Fatalf("asked for %q, got %q", accepts, encoding)
		}
		if encoding == "gzip" {
			if w.Body.Len() > len(want)/2 {
				t.Errorf("%d bytes of %d", w.Body.Len(), len(want))
			}
			if body, err = gzip.NewReader(w.Body); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(body); err != nil || string(got) != string(want) || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/javascript") {
			t.Errorf("asked for %q: %v, %d bytes of %s", accepts, err, len(got), w.Header().Get("Content-Type"))
		}
	}
}
