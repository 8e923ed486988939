package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

var built string // the folder of programs

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "sessiongate-demo-test-"); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

var build = sync.OnceValues(func() ([]byte, error) {
	const module = "github.com/sessiongate/sessiongate/cmd/"
	return exec.Command("go", "build", "-o", built+"/", module+"demo", module+"demoapp", module+"sessiongate").CombinedOutput()
})

// demo is the built program, as `make demo` runs it, without colours.
func demo(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if output, err := build(); err != nil {
		t.Fatalf("building: %v\n%s", err, output)
	}
	cmd := exec.CommandContext(t.Context(), built+"/demo", args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	return cmd
}

// TestJourneyNamesTheStepThatFailed: every step is needed for exit code 0.
func TestJourneyNamesTheStepThatFailed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Header().Set("Location", "/login")
			w.Header().Set("X-Sessiongate-Denial", "no_token")
			w.WriteHeader(http.StatusFound)
		}
	}))
	defer server.Close()
	var out strings.Builder
	err := run(t.Context(), []string{"-url", server.URL}, &report{w: &out}, io.Discard)
	if err == nil || err.Error() != "step 2, GET /api/me: want status 401" {
		t.Errorf("error %v, want one that names step 2", err)
	}
	if !strings.Contains(out.String(), "   2  GET  /api/me                   200  FAILED: want status 401\n") {
		t.Errorf("the output does not show it:\n%s", out.String())
	}
}

// TestJourneyHoldsDenialsToTheirCodes: a refusal for another reason is not the one that was promised.
func TestJourneyHoldsDenialsToTheirCodes(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Sessiongate-Denial", "policy")
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	var out strings.Builder
	err := play(t.Context(), &report{w: &out}, server.URL, []step{
		{by: &browser{}, method: http.MethodGet, path: "/", status: 403, denial: "policy", says: "Refused."},
		{by: &browser{}, method: http.MethodGet, path: "/", status: 403, denial: "foreign_origin"},
	})
	if err == nil || !strings.Contains(err.Error(), `step 2, GET /: want x-sessiongate-denial foreign_origin, got "policy"`) {
		t.Errorf("error %v, want one that names both codes", err)
	}
	if !strings.Contains(out.String(), "403  Refused. [policy]\n") {
		t.Errorf("the output does not show the code:\n%s", out.String())
	}
}

func TestStopsWhenAskedTo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := play(ctx, &report{w: io.Discard}, "http://127.0.0.1:1", []step{{by: &browser{}, method: "GET", path: "/", await: true}})
	if err == nil {
		t.Error("no error")
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"again"}, {"-url", "localhost:10000"}, {"-url", "ftp://localhost"}, {"-twice"}} {
		if err := run(t.Context(), args, &report{w: io.Discard}, io.Discard); err == nil {
			t.Errorf("run(%q): no error", args)
		}
	}
}

func TestBrowserStoresCookies(t *testing.T) {
	t.Parallel()
	b := &browser{}
	for _, lines := range [][]string{
		{"a=1; Path=/", "r=1; Path=/auth", "gone=1; Path=/"},
		{"a=2; Path=/", "a=elsewhere; Path=/auth; Max-Age=0", "gone=; Path=/; Max-Age=0"},
		{"late=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"},
	} {
		b.store(answer{header: http.Header{"Set-Cookie": lines}})
	}
	if len(b.cookies) != 2 || b.cookie("a") != "2" || b.cookie("r") != "1" {
		t.Errorf("cookies %v, want a=2 and r=1", b.cookies)
	}
}

func TestPathMatches(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path, cookie string
		want         bool
	}{
		{"/auth", "/auth", true},
		{"/auth/session/refresh", "/auth", true},
		{"/authors", "/auth", false},
		{"/api/me", "/auth", false},
		{"/api/me", "/", true},
		{"/api/me", "/api/", true},
	} {
		if got := pathMatches(test.path, test.cookie); got != test.want {
			t.Errorf("pathMatches(%q, %q) = %t", test.path, test.cookie, got)
		}
	}
}

// TestChecks: each kind of check says no to what it is there to find.
func TestChecks(t *testing.T) {
	t.Parallel()
	set := func(lines ...string) http.Header { return http.Header{"Set-Cookie": lines} }
	for name, test := range map[string]struct {
		check     func(answer) error
		good, bad answer
	}{
		"location": {
			toLogin,
			answer{header: http.Header{"Location": {"/login?return_to=%2F"}}},
			answer{header: http.Header{"Location": {"/loginx"}}},
		},
		"JSON": {
			isJSON,
			answer{header: http.Header{"Content-Type": {"application/json"}}, body: "{}"},
			answer{header: http.Header{"Content-Type": {"text/html"}}, body: "{}"},
		},
		"body":         {bodyIs("x"), answer{body: "x\n"}, answer{body: "xx"}},
		"part of body": {bodyHas("a", "b"), answer{body: "b a"}, answer{body: "a"}},
		"one identity": {
			appSawAda,
			answer{body: `{"headers":{"x-session-user-id":["ada"]}}`},
			answer{body: `{"headers":{"x-session-user-id":["ada","root"]}}`},
		},
		"new cookies":  {setsOnly("a"), answer{header: set("a=1", "b=; Max-Age=0")}, answer{header: set("a=1", "b=1")}},
		"a cookie":     {setsOnly("a"), answer{header: set("a=1")}, answer{header: set("b=1")}},
		"no cookie":    {setsOnly(), answer{}, answer{header: set("a=; Max-Age=0")}},
		"no device":    {endsDeviceSession, answer{body: `{"continue":false}`}, answer{body: `{"session_identifier":"h"}`}},
		"nor cookie":   {endsDeviceSession, answer{body: `{"continue":false}`}, answer{header: set("a=1"), body: `{"continue":false}`}},
		"public key":   {publicKeysOnly, answer{body: `{"keys":[{"kty":"EC"}]}`}, answer{body: `{"keys":[{"kty":"EC","d":"AA"}]}`}},
		"keys at all":  {publicKeysOnly, answer{body: `{"keys":[{"kty":"EC"}]}`}, answer{body: `{"keys":[]}`}},
		"keys as JSON": {publicKeysOnly, answer{body: `{"keys":[{"kty":"EC"}]}`}, answer{body: `<html>`}},
	} {
		if err := test.check(test.good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := test.check(test.bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
