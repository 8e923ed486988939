package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/authz"
)

// Every fault of a table has its own line, key and words, all at once.
func TestFaultsOfRoutes(t *testing.T) {
	t.Parallel()
	const content = `routes:
  - path: /a
    policy:
      session: never
      max_age: 10m
      sesion: optional
  - path_prefix: a/
    host: A.example
    methods: [GET, GTE]
    polcy: {}
  - policy: {}
    path: /same
  -
    policy: {session: optional}
    path: /same
  - path: /x
    path: /y
    policy: {session: required, session: optional}
  - nothing
  - policy: {require.n: 1.50, strict: off, "bad\u0007key": x}
    <<: {host: x}
`
	want := []string{
		`test.yaml:4: routes[0].policy.session: found "never"; allowed: required or optional`,
		`test.yaml:5: routes[0].policy.max_age: found "10m"; allowed: whole seconds from 1 to 3155760000`,
		`test.yaml:6: routes[0].policy.sesion: found an unknown key (did you mean session?); allowed: session, anti_csrf, on_unauthorised, login_url, return_to, max_age, strict, bound, require.<claim>`,
		`test.yaml:7: routes[1].path_prefix: found "a/"; allowed: ` + authz.AllowedRoutePath,
		`test.yaml:7: routes[1].policy: found none; allowed: a policy; an empty one is the default`,
		`test.yaml:8: routes[1].host: found "A.example"; allowed: ` + authz.AllowedRouteHost,
		`test.yaml:9: routes[1].methods: found "GTE"; allowed: a list, without repetition, of ` + strings.Join(authz.RouteMethods, ", "),
		`test.yaml:10: routes[1]: found the unknown key polcy (did you mean policy?); allowed: keys among host, path, path_prefix, methods, policy`,
		`test.yaml:14: routes[3]: found requests that routes[2] has (test.yaml:11: path /same); allowed: one entry for a host, path and method`,
		`test.yaml:17: routes[4].path: found a second value (the first is in line 16); allowed: one value`,
		`test.yaml:18: routes[4].policy.session: found a second value (the first is in line 18); allowed: one value`,
		`test.yaml:19: routes[5]: found the text "nothing"; allowed: a mapping of host, path, path_prefix, methods, policy`,
		`test.yaml:20: routes[6].policy: found the key "bad\akey"; allowed: keys of at most 128 printable bytes`,
		`test.yaml:20: routes[6].policy.require.n: found the number 1.50; allowed: a text, in quotes where YAML reads something else`,
		`test.yaml:20: routes[6].policy.strict: found "off"; allowed: true or false`,
		`test.yaml:21: routes[6]: found a key that is no text; allowed: keys among host, path, path_prefix, methods, policy`,
	}
	_, _, err := parse("test.yaml", []byte(content), nil)
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	_, list, _ := strings.Cut(content, "\n")
	_, _, err = parse("", nil, []string{"SESSIONGATE_ROUTES=" + list})
	for i, line := range strings.Split(err.Error(), "\n") {
		if !strings.HasPrefix(line, "SESSIONGATE_ROUTES: routes[") {
			t.Errorf("fault %d of the environment: %s", i, line)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != len(want) {
		t.Errorf("%d faults of the environment, want %d", n, len(want))
	}
}

func TestRoutesOfTheEnvironmentWin(t *testing.T) {
	t.Parallel()
	const file = "routes:\n  - {path: /file, policy: {session: optional}}\n  - {path: /file2, policy: {}}\n"
	c, from := mustParse(t, file, `SESSIONGATE_ROUTES=[{"path": "/env", "policy": {"session": "optional"}}]`)
	want := []authz.Route{{Path: "/env", Policy: map[string]string{"session": "optional"}}}
	if diff := cmp.Diff(want, c.Check.Routes); diff != "" {
		t.Error(diff)
	}
	if out := printed(t, c, from); !strings.Contains(out, "routes: # SESSIONGATE_ROUTES\n  - {path: \"/env\", policy: {session: \"optional\"}} # SESSIONGATE_ROUTES\n") {
		t.Errorf("printed:\n%s", out)
	}
	for _, none := range []string{"", "[]", "# none"} {
		if c, _ := mustParse(t, file, "SESSIONGATE_ROUTES="+none); c.Check.Routes != nil {
			t.Errorf("%q leaves %v", none, c.Check.Routes)
		}
	}
	for _, broken := range []string{"[", "[] ---\n[]", "[]\n---\n[]", "{}", "x", "- *a", "&a []"} {
		if _, _, err := parse("", nil, []string{"SESSIONGATE_ROUTES=" + broken}); len(faultsOf(t, err)) != 1 || !strings.Contains(err.Error(), "SESSIONGATE_ROUTES: routes: found") {
			t.Errorf("%q: %v", broken, err)
		}
	}
}

// A scalar is what it looks like, or refused.
func TestPolicyScalars(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"off", "no", "600", "-5", "0", "true", "false", "1.5", `"010"`, "'0x10'", "admin|owner", "a b"} {
		c, _ := mustParse(t, "routes: [{policy: {require.x: "+text+"}}]")
		if got := c.Check.Routes[0].Policy["require.x"]; got != strings.Trim(text, `"'`) {
			t.Errorf("%s is read as %q", text, got)
		}
	}
	for _, text := range []string{"010", "0x10", "0o7", "1_0", "+5", "1e3", "1.0", ".5", "5.", ".inf", "True", "~", "null", "", "2026-01-01", "99999999999999999999", "[a]", "{a: b}"} {
		if _, _, err := parse("test.yaml", []byte("routes: [{policy: {require.x: "+text+"}}]"), nil); len(faultsOf(t, err)) != 1 {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The example of the reference page is one.
func TestRoutesExampleIsTaken(t *testing.T) {
	t.Parallel()
	example := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindStringSubmatch(routesReference)
	if c, _ := mustParse(t, example[1]); len(c.Check.Routes) != 4 {
		t.Errorf("%d entries", len(c.Check.Routes))
	}
	variable := regexp.MustCompile("`SESSIONGATE_ROUTES='(.*?)'`").FindStringSubmatch(routesReference)
	if c, _ := mustParse(t, "", "SESSIONGATE_ROUTES="+variable[1]); len(c.Check.Routes) != 1 {
		t.Errorf("%d entries", len(c.Check.Routes))
	}
}

const explained = `anti_csrf: unsafe
routes:
  - path_prefix: /admin
    policy: {require.role: admin, max_age: 600}
  - path: /admin
    methods: [GET]
    policy:
      session: optional
      login_url: /admin/in
  - {host: "*.example.com", path_prefix: /, policy: {on_unauthorised: 401}}
`

const explainedKeys = `
The keys of a policy:
  session          whether a request needs a session; optional lets it pass without identity
  anti_csrf        how a request proves that the user's own page sent it: the browser attests it, or the anti-CSRF token
  on_unauthorised  the answer to a request without a session; auto is 401 for scripts, and a redirect for people
  login_url        where a redirect sends people to sign in
  return_to        whether the login address gets the requested path
  max_age          how old the sign-in may be, in seconds
  strict           whether each check also asks the database if the session has ended
  bound            whether the session must be bound to the device that sends the request; 403 otherwise
  require.<claim>  the values that a claim may have; 403 otherwise
`

func TestExplainCommand(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(explained), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string // FILE stands for the file
		fail error
	}{
		{"an entry", []string{"POST", "https://app.test/admin/x?y"}, `POST https://app.test/admin/x?y

Entries of routes, the most specific first:
  FILE:10  host *.example.com, path_prefix /  another host
  FILE:5   GET, path /admin                   another path
  FILE:3   path_prefix /admin                 APPLIES: it is the most specific that fits

Policy:
  session          required  default
  anti_csrf        unsafe    default, from anti_csrf in FILE:1
  on_unauthorised  redirect  default
  login_url        /login    default
  return_to        false     default
  max_age          600       FILE:4
  strict           false     default
  bound false default
  require.role     admin     FILE:4

So:
  A client without a session is sent to /login.

The context_extensions of Envoy's route, if it has any, come on top, key by key: give them with --extension KEY=VALUE.
`, nil},
		{"extensions", []string{"GET", "http://app.test:80/admin", "--extension", "max_age=5", "--extension=login_url=/a;b=c,d"}, `GET http://app.test:80/admin

Entries of routes, the most specific first:
  FILE:10  host *.example.com, path_prefix /  another host
  FILE:5   GET, path /admin                   APPLIES: it is the most specific that fits
  FILE:3   path_prefix /admin                 fits, but is less specific

Policy:
  session          required    the context_extensions ask for a session, so optional in FILE:5 does not count
  anti_csrf        unsafe      default, from anti_csrf in FILE:1
  on_unauthorised  redirect    default
  login_url        /a;b=c,d    context_extensions (--extension)
  return_to        false       default
  max_age          5           context_extensions (--extension)
  strict           false       default
  bound false default
  require.<claim>  none        default

So:
  A client without a session is sent to /a;b=c,d.
`, nil},
		{"no entry", []string{"OPTIONS", "https://app.test"}, `OPTIONS https://app.test

Entries of routes, the most specific first:
  FILE:10  host *.example.com, path_prefix /  another host
  FILE:5   GET, path /admin                   another path
  FILE:3   path_prefix /admin                 another path
None applies: the default policy holds.

Policy:
  session          required  default
  anti_csrf        unsafe    default, from anti_csrf in FILE:1
  on_unauthorised  redirect  default
  login_url        /login    default
  return_to        false     default
  strict           false     default
  bound false default
  max_age          none      default
  require.<claim>  none      default

So:
  A client without a session is sent to /login.
  A CORS preflight passes whatever the policy, without identity.

The context_extensions of Envoy's route, if it has any, come on top, key by key: give them with --extension KEY=VALUE.
`, nil},
		{"denied", []string{"GET", "https://app.test//admin"}, `GET https://app.test//admin

Entries of routes, the most specific first:
  FILE:10  host *.example.com, path_prefix /  another host
  FILE:5   GET, path /admin                   its path, to some servers, but not as it is spelt
  FILE:3   path_prefix /admin                 another path

So:
  Denied with 403 to every client: the path is that of an entry of routes to some servers, but is spelt otherwise (rule "path" in the log).

The context_extensions of Envoy's route, if it has any, come on top, key by key: give them with --extension KEY=VALUE.
`, deniedToAll{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, nil, append([]string{"--config", file, "config", "explain"}, tt.args...)...)
			if !errors.Is(err, tt.fail) {
				t.Errorf("error %v, want %v", err, tt.fail)
			}
			lines := regexp.MustCompile(` +`)
			got := lines.ReplaceAllString(strings.ReplaceAll(out, file, "FILE"), " ")
			if tt.fail == nil {
				tt.want += explainedKeys
			}
			if diff := cmp.Diff(lines.ReplaceAllString(tt.want, " "), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, tt := range []struct {
		method, url, want string
		fail              error
	}{
		{"GET", "/login?x", "It is the login page: it passes whatever the outcome", nil},
		{"GET", "https://app.test/login", "It is the login page: it passes whatever the outcome", nil},
		{"GET", "https://app.test/admin", "A client without a session passes, without identity.", nil},
		{"POST", "https://app.test/auth/session/refresh", "It is the refresh (POST): it passes whatever the policy", nil},
		{"POST", "https://app.test/auth/signout?x", "It is the sign-out (POST): it passes whatever the policy", nil},
		{"GET", "https://app.test/auth/signout", "It is under /auth, which Envoy should route to sessiongate without a check", nil},
		{"GET", "https://x.example.com/", "A client without a session gets 401.", nil},
		{"GET", "https://app.test/x/%2e%2e/admin", `Denied with 403 to every client: the path is not absolute, or has a broken escape`, deniedToAll{}},
		{"GET", "https://app..test/", `(rule "host" in the log)`, deniedToAll{}},
	} {
		if out, err := run(t, nil, "--config", file, "config", "explain", tt.method, tt.url); !errors.Is(err, tt.fail) || !strings.Contains(out, tt.want) {
			t.Errorf("%s %s: %v, no %q in\n%s", tt.method, tt.url, err, tt.want, out)
		}
	}
	out, err := run(t, []string{`SESSIONGATE_ROUTES=[{path: /e, policy: {strict: true}}]`}, "config", "explain", "GET", "https://x/e")
	if err != nil || !strings.Contains(out, "routes[0] of SESSIONGATE_ROUTES  path /e  APPLIES") || !strings.Contains(out, "true      routes[0] of SESSIONGATE_ROUTES") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(t, nil, "config", "explain", "GET", "https://x/"); err != nil || !strings.Contains(out, "There are no entries in routes: the default policy holds.") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestExplainRefusesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"get", "https://x/"},
		{"", "https://x/"},
		{"GET POST", "https://x/"},
		{"GET", "admin"},
		{"GET", "x/admin"},
		{"GET", "ftp://x/"},
		{"GET", "https:///admin"},
		{"GET", "https://u:p@x/"},
		{"GET", "https://x/#y"},
		{"GET", "https://x/a b"},
		{"GET", "https://x/ü"},
		{"GET", `https://x\y`},
		{"GET", "https://x/", "--extension", "strict"},
		{"GET", "https://x/", "--extension", "=true"},
		{"GET", "https://x/", "--extension", "strict=true", "--extension", "strict=false"},
		{"GET", "https://x/", "more"},
		{"GET"},
	} {
		if out, err := run(t, nil, append([]string{"config", "explain"}, args...)...); err == nil || out != "" {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
	_, err := run(t, nil, "config", "explain", "get", "x", "--extension", "y")
	if err == nil || strings.Count(err.Error(), "; allowed: ") != 3 {
		t.Errorf("not all at once: %v", err)
	}
	// A request cannot be explained by a configuration with faults.
	if _, err := run(t, []string{"SESSIONGATE_ROUTES=[{}]"}, "config", "explain", "GET", "https://x/"); len(faultsOf(t, err)) != 1 {
		t.Error(err)
	}
	out, err := run(t, nil, "config", "explain", "GET", "https://x/", "--extension", "sesion=optional")
	if !errors.Is(err, deniedToAll{}) || !strings.Contains(out, `Denied with 503 to every client: route policy "sesion": "optional" is not understood (rule "policy" in the log).`) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestExplainExitStatus runs the program itself: what a script sees.
func TestExplainExitStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args   string
		status int
		said   string // on stderr
	}{
		{"GET https://x/", 0, ""},
		{"GET https://x/ --extension session=optional", 0, ""},
		{"GET https://x/ --extension session=none", 3, "denies this request to every client"},
		{"GET https://x/ --extension sesion=optional", 3, "denies this request to every client"},
		{"GET https://x/b/%2e%2e/a", 3, "denies this request to every client"},
		{"GET https://x//a", 3, "denies this request to every client"},
		{"get https://x/", 1, "METHOD: found"},
		{"GET", 80, "expected"}, // Kong's, of every wrong command line
	} {
		program := exec.CommandContext(t.Context(), os.Args[0], append([]string{"config", "explain"}, strings.Fields(tt.args)...)...)
		program.Env = []string{asProgram + "=1", "GORACE=atexit_sleep_ms=0", `SESSIONGATE_ROUTES=[{path: /a, policy: {session: optional}}]`}
		var stdout, stderr bytes.Buffer
		program.Stdout, program.Stderr = &stdout, &stderr
		err := program.Run()
		if status := program.ProcessState.ExitCode(); status != tt.status || !strings.Contains(stderr.String(), tt.said) || tt.status == 0 && stderr.Len() > 0 {
			t.Errorf("%s: %d (%v), want %d and %q\n%s%s", tt.args, status, err, tt.status, tt.said, &stdout, &stderr)
		}
		if said := strings.Contains(stdout.String(), "to every client"); said != (tt.status == 3) {
			t.Errorf("%s: it is said: %v\n%s", tt.args, said, &stdout)
		}
	}
}

// A route for bound sessions alone is open to no new session while none is offered to be bound.
func TestExplainBound(t *testing.T) {
	t.Parallel()
	const route = "routes: [{path: /vault, policy: {bound: 'true'}}]\n"
	const denied, off = "A session that its browser has not bound to the device gets 403.", "binding.mode is off"
	for name, tt := range map[string]struct {
		content, url string
		denied, off  bool
	}{
		"offered":     {route + "binding: {mode: offer}\n", "https://app.test/vault", true, false},
		"not offered": {route, "https://app.test/vault", true, true},
		"elsewhere":   {route, "https://app.test/", false, false},
	} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := run(t, nil, "--config", file, "config", "explain", "GET", tt.url)
		if err != nil || strings.Contains(out, denied) != tt.denied || strings.Contains(out, off) != tt.off {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	out, err := run(t, nil, "config", "explain", "GET", "https://app.test/auth/session/bound")
	if err != nil || !strings.Contains(out, "POST /auth/session/refresh, /auth/signout, /auth/session/bind and /auth/session/bound would pass one.") {
		t.Errorf("%v\n%s", err, out)
	}
}
