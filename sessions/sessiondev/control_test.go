package sessiondev_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions/sessiondev"
)

// TestControls: hands and tests in other languages have each fault by HTTP.
func TestControls(t *testing.T) {
	t.Parallel()
	s := start(t, sessiondev.Options{})
	u := newUser(t, s)
	response, _ := u.do(http.MethodGet, "/x?y=1", "Sec-Fetch-Mode", "navigate")
	if at := response.Header.Get("Location"); response.StatusCode != http.StatusFound || at != "/dev/login?return_to=%2Fx%3Fy%3D1" {
		t.Fatalf("%d to %q", response.StatusCode, at)
	}
	u.must(http.StatusOK, http.MethodGet, "/dev/login?return_to=%2Fx")
	for path, want := range map[string]string{
		"/dev/login?user=ada&return_to=/x":           "/x",
		"/dev/login?user=ada":                        "/",
		"/dev/login?user=ada&return_to=//evil":       "/",
		"/dev/login?user=ada&return_to=/\\evil":      "/",
		"/dev/login?user=ada&return_to=http://e":     "/",
		"/dev/login?user=ada&return_to=/a%0d%0ab":    "/",
		"/dev/login?user=ada&return_to=/%09/evil":    "/",
		"/dev/login?user=ada&claims={\"role\":\"\"}": "/",
	} {
		if response, _ := u.do(http.MethodPost, path); response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", path, response.StatusCode, response.Header.Get("Location"), want)
		}
	}
	u.is("ada", u.must(http.StatusOK, http.MethodGet, "/"))
	for _, path := range []string{"/dev/login", "/dev/login?user=a%20b", "/dev/login?user=ada&claims=[]", "/dev/outage?on=x"} {
		u.must(http.StatusBadRequest, http.MethodPost, path)
	}

	u.must(http.StatusOK, http.MethodPost, "/dev/expire")
	u.must(440, http.MethodGet, "/")
	u.must(http.StatusOK, http.MethodPost, refreshPath)
	u.must(http.StatusOK, http.MethodPost, "/dev/outage?on=true")
	u.must(http.StatusServiceUnavailable, http.MethodPost, refreshPath)
	u.must(http.StatusServiceUnavailable, http.MethodPost, "/dev/login?user=ada")
	u.must(http.StatusOK, http.MethodPost, "/dev/outage?on=false")
	u.must(http.StatusOK, http.MethodPost, "/dev/theft")
	u.must(http.StatusFound, http.MethodGet, "/")
	u.must(http.StatusConflict, http.MethodPost, "/dev/theft")
	u.must(http.StatusSeeOther, http.MethodPost, "/dev/login?user=ada")
	u.must(http.StatusOK, http.MethodPost, "/dev/end?user=eve")
	u.must(http.StatusOK, http.MethodGet, "/")
	u.must(http.StatusOK, http.MethodPost, "/dev/end?user=ada")
	u.must(http.StatusFound, http.MethodGet, "/")

	response, err := http.Get(s.URL + "/dev/")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	for _, path := range []string{"/dev/login", "/dev/expire", "/dev/end", "/dev/theft", "/dev/outage"} {
		if !strings.Contains(string(page), path) {
			t.Errorf("the page does not name %s", path)
		}
	}
	for _, path := range []string{"/dev/expire", "/dev/end", "/dev/theft", "/dev/outage"} {
		u.must(http.StatusMethodNotAllowed, http.MethodGet, path)
	}
	u.must(http.StatusNotFound, http.MethodPost, "/dev/x")
	u.must(http.StatusFound, http.MethodGet, "/developers") // is the app's
}

// TestForeignPagesHaveNoControls: neither a page of another origin, nor one whose name leads here.
func TestForeignPagesHaveNoControls(t *testing.T) {
	t.Parallel()
	s := start(t, sessiondev.Options{})
	port := strings.TrimPrefix(s.URL, "http://127.0.0.1")
	for _, tt := range []struct {
		host, name, value string
		passes            bool
	}{
		{"127.0.0.1" + port, "Origin", s.URL, true},
		{"localhost" + port, "Origin", "http://localhost" + port, true},
		{"shop.localhost" + port, "Sec-Fetch-Site", "same-origin", true},
		{"[::1]" + port, "User-Agent", "curl", true},
		{"127.0.0.1" + port, "Origin", "http://evil.example", false},
		{"127.0.0.1" + port, "Origin", "http://127.0.0.1:1", false},
		{"127.0.0.1" + port, "Origin", "null", false},
		{"127.0.0.1" + port, "Sec-Fetch-Site", "cross-site", false},
		{"127.0.0.1" + port, "Sec-Fetch-Site", "same-site", false},
		{"evil.example" + port, "Sec-Fetch-Site", "same-origin", false},
		{"evil.example", "User-Agent", "curl", false},
		{"localhost.evil.example" + port, "User-Agent", "curl", false},
		{"127.0.0.1.evil.example" + port, "User-Agent", "curl", false},
		{"notlocalhost" + port, "User-Agent", "curl", false},
		{"10.0.0.1" + port, "User-Agent", "curl", false},
	} {
		for _, path := range []string{"/dev/login?user=root", "/dev/expire", "/dev/outage?on=false"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tt.host
			r.Header.Set(tt.name, tt.value)
			response, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if passes := response.StatusCode < 400; passes != tt.passes || !passes && (response.StatusCode != http.StatusForbidden || response.Header.Get("Set-Cookie") != "") {
				t.Errorf("%s at %s with %s: %s: %d, want it to pass: %t", path, tt.host, tt.name, tt.value, response.StatusCode, tt.passes)
			}
		}
	}
}

// TestStartRefuses: what would be no development, or no app.
func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for _, o := range []sessiondev.Options{
		{App: "http://localhost:1", Listen: "0.0.0.0:0"},
		{App: "http://localhost:1", Listen: ":0"},
		{App: "http://localhost:1", Listen: "192.0.2.1:0"},
		{App: "http://localhost:1", Internal: "[::]:0"},
		{App: "http://localhost:1", Listen: "dev.example.com:0"},
		{App: "http://localhost:1", Listen: "127.0.0.1"},
		{},
		{App: "localhost:3000"},
		{App: "http://localhost:1/x"},
		{App: "http://u@localhost"},
		{App: "http://localhost?x"},
		{App: "ftp://localhost"},
		{App: "https://localhost:1", Envoy: true},
		{App: "http://localhost:1", Envoy: true, Listen: "0.0.0.0:0"},
		{App: "http://localhost:1", LoginURL: "login"},
		{App: "http://localhost:1", AllowedOrigins: []string{"*"}},
		{App: "http://localhost:1", Routes: []authz.Route{{Path: "x"}}},
	} {
		if s, err := sessiondev.Start(t.Context(), o); err == nil {
			t.Errorf("%+v starts", o)
			_ = s.Close()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sessiondev.Start(ctx, sessiondev.Options{App: "http://localhost:1"}); err == nil {
		t.Error("a start that is given up")
	}
}

// TestClose: nothing answers after it, also where requests are under way, and a second one does no harm.
func TestClose(t *testing.T) {
	t.Parallel()
	s, err := sessiondev.Start(t.Context(), sessiondev.Options{App: app(t)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, at := range []string{s.URL, s.InternalURL} {
		if response, err := http.Get(at); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s answers", at)
		}
	}
}

// TestStreams: bytes of a WebSocket go both ways, those of an event stream come at once, and neither outlives the server.
func TestStreams(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 2)
	streams := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- struct{}{} }()
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, "data: 1\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}))
	t.Cleanup(streams.Close)
	s := start(t, sessiondev.Options{App: streams.URL})
	u := newUser(t, s)
	u.signIn("ada")
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	open := func(more string) *bufio.Reader {
		conn, err := net.Dial("tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+at.Host+"\r\nCookie: sAccessToken="+u.client.Jar.Cookies(at)[0].Value+"\r\n"+more+"\r\n\r\n")
		from := bufio.NewReader(conn)
		if strings.Contains(more, "Upgrade") {
			if response, err := http.ReadResponse(from, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("no WebSocket: %v, %v", response, err)
			}
			_, _ = io.WriteString(conn, "ping\n")
		}
		return from
	}
	socket := open("Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: " + s.URL)
	events := open("Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors")
	for _, stream := range []struct {
		from *bufio.Reader
		line string
	}{{socket, "ping\n"}, {events, "data: 1\n"}} {
		for line := ""; line != stream.line; {
			if line, err = stream.from.ReadString('\n'); err != nil {
				t.Fatalf("waiting for %q: %v", stream.line, err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	<-ended
	for _, stream := range []*bufio.Reader{socket, events} {
		if _, err := io.Copy(io.Discard, stream); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a stream outlives the server")
		}
	}
}

// TestIndex: every path that the page of the sessions API names is there.
func TestIndex(t *testing.T) {
	t.Parallel()
	s := start(t, sessiondev.Options{})
	get := func(path string) (status int, body string) {
		response, err := http.Get(s.InternalURL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	named := 0
	_, index := get("/")
	for line := range strings.Lines(index) {
		if path, _, _ := strings.Cut(line, " "); strings.HasPrefix(path, "/") {
			named++
			if status, _ := get(path); status == http.StatusNotFound {
				t.Errorf("%s is named and is not there", path)
			}
		}
	}
	if named < 3 {
		t.Errorf("it names %d paths:\n%s", named, index)
	}
}

// TestAway: an app that is not running is named.
func TestAway(t *testing.T) {
	t.Parallel()
	s := start(t, sessiondev.Options{App: "http://127.0.0.1:1"})
	u := newUser(t, s)
	u.must(http.StatusSeeOther, http.MethodPost, "/dev/login?user=ada")
	response, _ := u.do(http.MethodGet, "/")
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "1" {
		t.Errorf("%d %v", response.StatusCode, response.Header)
	}
}

// TestPolicies: the table of routes holds.
func TestPolicies(t *testing.T) {
	t.Parallel()
	s := start(t, sessiondev.Options{
		LoginURL: "https://login.example.com/", StripCookies: true,
		Routes: []authz.Route{
			{PathPrefix: "/admin", Policy: map[string]string{"require.role": "admin", "on_unauthorised": "401"}},
			{Path: "/", Policy: map[string]string{"session": "optional"}},
		},
	})
	u := newUser(t, s)
	u.must(http.StatusOK, http.MethodGet, "/")
	u.must(http.StatusUnauthorized, http.MethodGet, "/admin")
	u.must(http.StatusFound, http.MethodGet, "/x")
	u.must(http.StatusSeeOther, http.MethodPost, "/dev/login?user=ada")
	u.must(http.StatusForbidden, http.MethodGet, "/admin/x")
	u.must(http.StatusSeeOther, http.MethodPost, "/dev/login?user=ada&claims="+url.QueryEscape(`{"role":"admin"}`))
	seen := u.must(http.StatusOK, http.MethodGet, "/admin/x")
	u.is("ada", seen)
	if strings.Contains(seen.Get("Cookie"), "sAccessToken") {
		t.Error("the app sees the token")
	}
}
