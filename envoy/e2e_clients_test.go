package envoy_test

// What is no browser, as people use it: HTTP clients and the cookie jars that come with them. Each signs in, calls, refreshes and signs out
// through the real Envoy with the shipped configuration, while the test moves the clock between its requests.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clientPatience is how long a client may take for one request, and to start: Java compiles its program first.
const clientPatience = 4 * patience

// clientProgram is one of testdata/clients.
type clientProgram struct {
	name, tool, remedy string
	may                bool // be missing, but in CI
	follows            bool // redirects, by default
	command            []string
	needs              func(context.Context) (environment string, err error)
	test               func(*client) // nil: testWholeSession
}

var clientPrograms = []clientProgram{
	{name: "java.net.http", tool: "java", remedy: javaRemedy, may: true, command: []string{"Clients.java", "HttpClient", baseURL}},
	{name: "HttpURLConnection", tool: "java", remedy: javaRemedy, may: true, follows: true, command: []string{"Clients.java", "HttpURLConnection", baseURL}},
	{name: "urllib", tool: "python3", remedy: pipRemedy, follows: true, command: []string{"clients.py", "urllib", baseURL}},
	{name: "requests", tool: "python3", remedy: pipRemedy, follows: true, command: []string{"clients.py", "requests", baseURL}, needs: needRequests},
	{name: "tough-cookie", tool: "node", remedy: nodeRemedy, follows: true, command: []string{"client.mjs", baseURL}, needs: needToughCookie},
	{name: "curl", tool: "curl", remedy: "apt-get install curl", command: []string{"curl.sh", baseURL}, test: testKeepsAccessToken},
	{name: "wget", tool: "wget", remedy: wgetRemedy, may: true, follows: true, command: []string{"wget.sh", baseURL, "cookies"}, test: testWithoutRefreshToken},
	{name: "wget with bearer tokens", tool: "wget", remedy: wgetRemedy, may: true, follows: true, command: []string{"wget.sh", baseURL, "bearer"}},
}

const (
	clientsDir = "testdata/clients"
	baseURL    = "BASE" // stands for Envoy's address
	javaRemedy = "apt-get install default-jdk-headless"
	nodeRemedy = "apt-get install nodejs npm, then make clients"
	wgetRemedy = "apt-get install wget"
)

func TestClients(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{settings: []string{"SESSIONGATE_COOKIES_SECURE=false", followsFast}})
	for _, p := range clientPrograms {
		t.Run(p.name, func(t *testing.T) {
			c := p.start(t, s)
			if p.test == nil {
				p.test = testWholeSession
			}
			p.test(c)
		})
	}
	t.Run("cookiejar", func(t *testing.T) { testWholeSession(s.newGoClient(t)) })
	t.Run("RFC 2965", func(t *testing.T) { testOldCookies(t, s) })
}

// testWholeSession signs in, and out after two refreshes: the second shows that the client kept what the first one gave it.
func testWholeSession(c *client) {
	c.session()
	c.isOut("")
}

// testKeepsAccessToken: curl 7.88 reads its jar once more before it writes it, and so keeps all but the last of the cookies that one answer
// deletes. Its access token is worth nothing by then.
func testKeepsAccessToken(c *client) {
	c.session()
	c.isOut("sAccessToken")
	c.signIn()
	c.call()
}

// session begins, is refreshed twice, and ends.
func (c *client) session() {
	c.Helper()
	c.signIn()
	handle := c.call()
	for range 2 {
		c.stack.advance(accessLife)
		c.pleaseRefresh()
		c.must(http.StatusOK, "POST", refreshPath)
		c.call()
		c.stack.awaitPromoted(handle)
	}
	c.must(http.StatusOK, "POST", "/auth/signout")
}

// testWithoutRefreshToken: a client that keeps no cookie of another path than that of the request can do all but refresh.
func testWithoutRefreshToken(c *client) {
	c.signIn()
	c.call()
	c.must(http.StatusOK, "POST", "/auth/signout")
	c.isOut("")

	c.signIn()
	c.stack.advance(accessLife)
	c.pleaseRefresh()
	if got := c.must(440, "POST", refreshPath); strings.TrimSpace(got) != `{"error":"unauthorised"}` {
		c.Errorf("a refresh without a refresh token: %q", got)
	}
	c.isOut("")
	c.signIn()
	c.call()
	c.must(http.StatusOK, "POST", "/auth/signout")
}

// testOldCookies sends cookies as java.net does where lines have no Expires, whatever ours have.
func testOldCookies(t *testing.T, s *stack) {
	ask := func(method, path, cookie, antiCSRF string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, s.proxy.URL("ingress")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Cookie", cookie)
		request.Header.Set("Anti-Csrf", antiCSRF)
		response, err := direct.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		s.secrets.addFrom(response.Header)
		return response
	}
	session := s.processes[0].create("old")
	access := fmt.Sprintf(`sAccessToken="%s";$Path="/"`, session.Tokens.Access)
	both := fmt.Sprintf(`$Version="1"; sRefreshToken="%s";$Path="/auth"; `, session.Tokens.Refresh) + access
	access = `$Version="1"; ` + access

	if got := ask("GET", callPath, access, session.Tokens.AntiCSRF); got.StatusCode != http.StatusOK {
		t.Errorf("a call: %d", got.StatusCode)
	}
	if got := ask("GET", callPath, access+`; sAccessToken="`+s.processes[0].create("other").Tokens.Access+`"`, session.Tokens.AntiCSRF); got.StatusCode != 440 {
		t.Errorf("a call with tokens of two sessions: %d", got.StatusCode)
	}
	s.advance(grace)
	got := ask("POST", refreshPath, both, session.Tokens.AntiCSRF)
	if got.StatusCode != http.StatusOK || !(answer{header: got.Header}).sets("sRefreshToken") {
		t.Errorf("a refresh: %d", got.StatusCode)
	}
	if got := ask("POST", "/auth/signout", both, session.Tokens.AntiCSRF); got.StatusCode != http.StatusOK {
		t.Errorf("a sign-out: %d", got.StatusCode)
	}
	s.denied(session.Tokens.Access, session.Tokens.AntiCSRF)
}

// client is a running one.
type client struct {
	*testing.T

	stack   *stack
	program string // its name and version
	follows bool   // redirects
	// ask sends a request and returns what came.
	ask  func(method, path, body string) (status int, text string)
	user string
}

func (p clientProgram) start(t *testing.T, s *stack) *client {
	t.Helper()
	tool, err := exec.LookPath(p.tool)
	if p.tool == "java" && err == nil {
		_, err = exec.LookPath("javac") // without which java runs no source file
	}
	switch {
	case err == nil:
	case p.may && os.Getenv("CI") == "":
		t.Skipf("there is no %s: %s", p.tool, p.remedy)
	default:
		t.Fatalf("this test needs %s: %s", p.tool, p.remedy)
	}
	environment := []string{"PATH=" + os.Getenv("PATH")} // and no proxy
	if p.needs != nil {
		more, err := p.needs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		environment = append(environment, more)
	}
	args := slices.Clone(p.command)
	args[slices.Index(args, baseURL)] = s.proxy.URL("ingress")
	if args[0], err = filepath.Abs(filepath.Join(clientsDir, args[0])); err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(args[0]) == ".sh" {
		tool = "bash"
	}
	command := exec.Command(tool, args...)
	command.Env, command.Dir = environment, t.TempDir()
	c := s.newClient(t, command)
	c.follows = p.follows
	if p.needs == nil {
		return c
	}
	// What a list pins, rather than this machine, is what the page says.
	page, err := os.ReadFile("../docs/frontends/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	version := strings.Trim(strings.Fields(c.program)[1], ",")
	if !strings.Contains(string(page), version+" |") {
		t.Errorf("docs/frontends/clients.md has no version %s", version)
	}
	return c
}

// newClient runs a program, which ends with the test.
func (s *stack) newClient(t *testing.T, command *exec.Cmd) *client {
	t.Helper()
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", command.Path, err, said.String())
		}
	})
	lines := bufio.NewReader(out)
	read := func() string {
		t.Helper()
		hung := time.AfterFunc(clientPatience, func() { _ = command.Process.Kill() })
		defer hung.Stop()
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("no answer from the client: %v", err)
		}
		return strings.TrimSuffix(line, "\n")
	}
	program := read()
	t.Logf("this is %s", program)
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		if _, err := fmt.Fprintln(in, strings.TrimSpace(method+" "+path+" "+body)); err != nil {
			t.Fatal(err)
		}
		line := read()
		number, text, _ := strings.Cut(line, " ")
		status, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("the client answers %q", line)
		}
		return status, text
	}
	return &client{T: t, stack: s, program: program, ask: ask, user: "user-of-" + filepath.Base(t.Name())}
}

// newGoClient is Go's own, here.
func (s *stack) newGoClient(t *testing.T) *client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	own := &http.Client{Transport: direct.Transport, Jar: jar}
	antiCSRF := ""
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, s.proxy.URL("ingress")+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if antiCSRF != "" {
			request.Header.Set("Anti-Csrf", antiCSRF)
		}
		response, err := own.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if token := response.Header.Get("Anti-Csrf"); token != "" {
			antiCSRF = token
		}
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	return &client{T: t, stack: s, follows: true, ask: ask, user: "user-of-cookiejar"}
}

func (c *client) must(status int, method, path string) (text string) {
	c.Helper()
	got, text := c.ask(method, path, "")
	if got != status {
		c.Fatalf("%s %s: %d, want %d", method, path, got, status) // the text may hold tokens
	}
	return text
}

func (c *client) signIn() {
	c.Helper()
	if status, text := c.ask("POST", "/login", c.user); status != http.StatusNoContent {
		c.Fatalf("sign-in: %d %s", status, text)
	}
}

// call must reach the app as the user's, with cookies as browsers send them. It returns the session's handle.
func (c *client) call() (handle string) {
	c.Helper()
	saw := c.reached(callPath)
	if got := saw.Header["X-Session-User-Id"]; !slices.Equal(got, []string{c.user}) {
		c.Fatalf("the app sees user %q, want %q", got, c.user)
	}
	c.stack.secrets.add(saw.Header.Get("Anti-Csrf"), strings.TrimPrefix(saw.Header.Get("Authorization"), "Bearer "))
	for _, cookie := range (&http.Request{Header: saw.Header}).Cookies() {
		c.stack.secrets.add(cookie.Value)
	}
	cookie := saw.Header.Get("Cookie")
	if strings.ContainsAny(cookie, `$"`) {
		c.Error("the client speaks RFC 2965")
	}
	if strings.Contains(cookie, "sRefreshToken") {
		c.Error("the client sends the refresh token to the app")
	}
	return saw.Header.Get("X-Session-Handle")
}

func (c *client) reached(path string) seen {
	c.Helper()
	var saw seen
	if text := c.must(http.StatusOK, "GET", path); json.Unmarshal([]byte(text), &saw) != nil {
		c.Fatalf("%s did not reach the app", path)
	}
	return saw
}

// pleaseRefresh: the client can tell what a call is answered after expiry.
func (c *client) pleaseRefresh() {
	c.Helper()
	if text := c.must(440, "GET", callPath); !strings.HasPrefix(text, "Please call the refresh token endpoint") {
		c.Errorf("440 says %q", text)
	}
}

// isOut: the client has no access, and its jar holds nothing of ours but perhaps a cookie of that name.
func (c *client) isOut(kept string) {
	c.Helper()
	c.stack.eventually("the session's end is known", func() bool {
		status, _ := c.ask("GET", callPath, "")
		return status == http.StatusUnauthorized
	})
	// A page says so by a redirect, and a client that follows it sees the login page. A client that keeps its token is let in by the other
	// replica until that one knows.
	c.stack.eventually("a page leads to /login", func() bool {
		status, text := c.ask("GET", "/page", "")
		if !c.follows {
			return status == http.StatusFound
		}
		var saw seen
		return status == http.StatusOK && json.Unmarshal([]byte(text), &saw) == nil && saw.Path == "/login"
	})
	for _, cookie := range (&http.Request{Header: c.reached("/static/x").Header}).Cookies() {
		if cookie.Name != kept {
			c.Errorf("the client keeps %s", cookie.Name)
		}
	}
}

// needRequests is where the Python package requests is.
func needRequests(ctx context.Context) (string, error) {
	dir, err := pythonPackages(ctx, "clients", clientsDir+"/requirements.txt")
	return "PYTHONPATH=" + dir, err
}

// needToughCookie says whether the npm package is there, which Node finds by itself.
func needToughCookie(context.Context) (string, error) {
	if _, err := os.Stat(clientsDir + "/node_modules/tough-cookie"); err != nil {
		return "", errors.New("tough-cookie is not installed: run make clients (npm ci in envoy/" + clientsDir + ")")
	}
	return "NODE_PATH=", nil
}
