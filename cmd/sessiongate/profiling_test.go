package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// withoutDatabase are the settings of a process that serves and waits for its database.
func withoutDatabase(more ...string) []string {
	return append([]string{
		"SESSIONGATE_DATABASE_URL=postgres:///nowhere?host=/nowhere", "SESSIONGATE_KEY=" + testKey, "SESSIONGATE_API_KEYS=app:" + testKey,
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0", "SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0", "SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0",
		"SESSIONGATE_SHUTDOWN_DRAIN_DELAY=0s", "SESSIONGATE_SHUTDOWN_LINGER=10ms",
	}, more...)
}

// ask gets a path from a listener, by a name of its own for the Host header, with headers
// (name, value, ...).
func (s *served) ask(listener, host, path string, headers ...string) (int, []byte) {
	s.Helper()
	return s.send(http.MethodGet, listener, host, path, "", headers...)
}

func (s *served) send(method, listener, host, path, body string, headers ...string) (int, []byte) {
	s.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, listener) }}
	request, err := http.NewRequestWithContext(s.Context(), method, "http://"+host+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return response.StatusCode, text
}

// isProfile says whether these bytes are what `go tool pprof` reads: gzip.
func isProfile(b []byte) bool {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return false
	}
	content, err := io.ReadAll(r)
	return err == nil && len(content) > 0
}

// TestProfilingIsOff: by default there is no fourth listener, and no other listener serves
// http.DefaultServeMux, with which net/http/pprof registers.
func TestProfilingIsOff(t *testing.T) {
	t.Parallel()
	if _, pattern := http.DefaultServeMux.Handler(&http.Request{Method: http.MethodGet, URL: mustURL(t, "http://h/debug/pprof/")}); pattern == "" {
		t.Fatal("net/http/pprof registers nothing: this test shows nothing")
	}
	for name, more := range map[string][]string{"off": nil, "on": {"SESSIONGATE_PROFILING_LISTEN=127.0.0.1:0"}} {
		s := serving(t, nil, withoutDatabase(more...)...)
		if len(s.addresses) != 3+len(more) {
			t.Errorf("%s: addresses %v", name, s.addresses)
		}
		for _, listener := range []string{"public", "internal"} {
			for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/requests", "/debug/vars"} {
				if status, body := s.ask(listener, "localhost", path); status != http.StatusNotFound {
					t.Errorf("%s: %s answers %s with %d %s", name, listener, path, status, body)
				}
			}
		}
	}
}

func TestProfiling(t *testing.T) {
	sockets, err := os.MkdirTemp("", "sg") // t.TempDir's name may be longer than a socket's may be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	for name, address := range map[string]string{"TCP": "127.0.0.1:0", "IPv6": "[::1]:0", "socket": "unix:" + filepath.Join(sockets, "profiles")} {
		t.Run(name, func(t *testing.T) { // in turn: a process has one CPU profile at a time
			if probe, err := net.Listen("tcp", "[::1]:0"); name == "IPv6" && err != nil {
				t.Skip("there is no IPv6 here")
			} else if err == nil {
				_ = probe.Close()
			}
			file := filepath.Join(t.TempDir(), "addresses")
			s := serving(t, nil, withoutDatabase("SESSIONGATE_PROFILING_LISTEN="+address, "SESSIONGATE_LISTEN_ADDRESS_FILE="+file)...)
			if status, page := s.ask("profiling", "localhost:6060", "/debug/pprof/"); status != http.StatusOK || !strings.Contains(string(page), "goroutine") {
				t.Errorf("the page: %d %s", status, page)
			}
			for _, path := range []string{"heap", "goroutine", "allocs", "profile?seconds=1"} {
				if status, profile := s.ask("profiling", "127.0.0.1", "/debug/pprof/"+path); status != http.StatusOK || !isProfile(profile) {
					t.Errorf("%s: %d, %d bytes", path, status, len(profile))
				}
			}
			// A page whose own name has the address 127.0.0.1.
			want := http.StatusForbidden
			if name == "socket" { // which no browser reaches
				want = http.StatusOK
			}
			if status, body := s.ask("profiling", "evil.example:6060", "/debug/pprof/heap?debug=1"); status != want {
				t.Errorf("by another Host: %d %s", status, body)
			}
			// What a web page sends across sites, and what a user's own tools send.
			for _, test := range []struct {
				headers []string
				want    int
			}{
				{[]string{"Origin", "https://evil.example"}, want},
				{[]string{"Origin", "null"}, want},
				{[]string{"Sec-Fetch-Site", "cross-site"}, want},
				{[]string{"Sec-Fetch-Site", "same-site"}, want},
				{[]string{"Sec-Fetch-Site", "same-origin"}, want},
				{[]string{"Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"}, want},
				{[]string{"Sec-Fetch-Site", "none"}, http.StatusOK},
				{[]string{"Sec-Fetch-Site", ""}, http.StatusOK},
			} {
				if status, body := s.ask("profiling", "127.0.0.1:6060", "/debug/pprof/heap?debug=1", test.headers...); status != test.want {
					t.Errorf("with %q: %d %s, want %d", test.headers, status, body, test.want)
				}
			}
			if name == "socket" {
				_, path := s.where("profiling")
				if info, err := os.Stat(path); err != nil {
					t.Error(err)
				} else if info.Mode().Perm() != 0o600 {
					t.Errorf("the socket has mode %s", info.Mode())
				}
			}
			written, err := os.ReadFile(file)
			var addresses map[string]string
			if err != nil || json.Unmarshal(written, &addresses) != nil || addresses["profiling"] != s.addresses["profiling"] || addresses["profiling"] == "" {
				t.Errorf("the address file has %s, %v", written, err)
			}
			// The same by the command, which the image has in place of curl.
			for _, profile := range []string{"heap", "goroutine", "cpu"} {
				out, err := run(t, []string{"SESSIONGATE_PROFILING_LISTEN=" + s.addresses["profiling"]}, "profile", "--seconds", "1", profile)
				if err != nil || !isProfile([]byte(out)) {
					t.Errorf("profile %s: %d bytes, %v", profile, len(out), err)
				}
			}
			// The command says why there is none.
			if out, err := run(t, []string{"SESSIONGATE_PROFILING_LISTEN=" + s.addresses["profiling"]}, "profile", "--seconds", "301", "cpu"); out != "" || err == nil || !strings.Contains(err.Error(), "seconds must be at most 300") {
				t.Errorf("profile of 301 seconds: %q, %v", out, err)
			}
			// A stop waits for no profile.
			connection, err := s.dial(t.Context(), "profiling")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = connection.Close() }()
			if _, err := io.WriteString(connection, "GET /debug/pprof/trace?seconds=300 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if log := s.stop(); strings.Contains(log, "cut what was still under way") {
				t.Errorf("the stop waited for a profile:\n%s", log)
			}
			if _, err := s.dial(t.Context(), "profiling"); err == nil {
				t.Error("profiles are served after the stop")
			}
		})
	}
}

// TestProfilingBoundsSeconds asks with requests that are cut at once, so that a profile that begins
// ends.
func TestProfilingBoundsSeconds(t *testing.T) { // not parallel: a process has one CPU profile at a time
	h := profiles(true)
	for _, path := range []string{"profile", "trace", "heap"} {
		for _, seconds := range []string{"301", "300.5", "99999999999", "1e3", "1e999", "0x1p10", "Inf", "NaN"} {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, pprofPath+path+"?seconds="+seconds, nil))
			if text := answer.Body.String(); answer.Code != http.StatusBadRequest || !strings.Contains(text, "seconds must be at most 300") {
				t.Errorf("%s, %s seconds: %d %.100q", path, seconds, answer.Code, text)
			}
		}
	}
	for _, path := range []string{"profile?seconds=300", "trace?seconds=300", "profile", "trace?seconds=long"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, pprofPath+path, nil))
		if answer.Code != http.StatusOK {
			t.Errorf("%s: %d %.100q", path, answer.Code, answer.Body)
		}
	}
	// `go tool pprof` sends its addresses as a form's type.
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, pprofPath+"symbol", strings.NewReader(fmt.Sprintf("%#x", reflect.ValueOf(profiles).Pointer())))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	if h.ServeHTTP(answer, request); !strings.Contains(answer.Body.String(), "main.profiles") && !strings.Contains(answer.Body.String(), "sessiongate.profiles") {
		t.Errorf("symbols: %s", answer.Body)
	}
}

// TestProfilingRefusesOtherAddresses: a profile shows memory.
func TestProfilingRefusesOtherAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:6060", ":6060", "192.0.2.1:6060", "[::]:6060", "sessiongate.internal:6060"} {
		_, err := run(t, withoutDatabase("SESSIONGATE_PROFILING_LISTEN="+address), "serve")
		if all := faultsOf(t, err); len(all) != 1 || all[0].Key != "profiling.listen" || !strings.Contains(err.Error(), "SESSIONGATE_PROFILING_LISTEN") || !strings.Contains(err.Error(), "a loopback address as HOST") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestProfileCommandRefuses(t *testing.T) {
	t.Parallel()
	for want, test := range map[string]struct{ listen, name, seconds string }{
		"profiling is off":  {"", "heap", "1"},
		"needs a fixed one": {"127.0.0.1:0", "heap", "1"},
		"at least 1":        {"127.0.0.1:6060", "cpu", "0"},
		"must be one of":    {"127.0.0.1:6060", "cmdline", "1"},
		"asking for a":      {"unix:/nowhere/profiles", "heap", "1"},
	} {
		if out, err := run(t, []string{"SESSIONGATE_PROFILING_LISTEN=" + test.listen}, "profile", "--seconds", test.seconds, test.name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v", want, out, err)
		}
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
