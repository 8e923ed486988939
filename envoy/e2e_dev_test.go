package envoy_test

// What sessiongate dev promises: in front of an app it answers as the real Envoy with the shipped envoy.yaml does, request by request, and
// the app sees the same.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
	"github.com/sessiongate/sessiongate/internal/process"
	"github.com/sessiongate/sessiongate/sessions/sessiondev"
)

// partnerOrigin is the one that the shipped envoy.yaml names in its cors policy.
const partnerOrigin = "http://app.localhost:10000"

// devRoutes are the policies of both sides: beside these, the shipped envoy.yaml says the same in its context_extensions.
var devRoutes = []authz.Route{
	{PathPrefix: "/api", Policy: map[string]string{"on_unauthorised": "auto"}},
	{PathPrefix: "/optional", Policy: map[string]string{"session": "optional"}},
}

const devRoutesSetting = `[{path_prefix: /api, policy: {on_unauthorised: auto}}, {path_prefix: /optional, policy: {session: optional}}]`

// side is one of the two: the whole product behind the real Envoy, or dev.
type side struct {
	*stack

	name   string
	target string // where browsers go
	seen   arrived
	expire func()
	outage func() (over func())
}

// arrived is what came to the app, by the row that sent it.
type arrived struct {
	mu   sync.Mutex
	rows map[string]seenRow
}

type seenRow struct {
	target string
	header http.Header
}

func (a *arrived) handle(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.rows[r.Header.Get("X-Row")] = seenRow{r.RequestURI, r.Header.Clone()}
	a.mu.Unlock()
	w.Header().Set("Access-Control-Allow-Origin", "*") // which is not the app's to say
	if r.Header.Get("Upgrade") == "" {
		w.Header().Set("X-From", "app")
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.URL.Path, r.Header})
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_ = conn.Close()
}

// newSides deploys both, with the same policies and a user, alice, of each.
func newSides(t *testing.T) []*side {
	t.Helper()
	product := &side{name: "envoy", seen: arrived{rows: map[string]seenRow{}}}
	product.stack = newStack(t, stackOptions{processes: 1, settings: []string{
		"SESSIONGATE_ROUTES=" + devRoutesSetting, "SESSIONGATE_COOKIES_SECURE=false", "SESSIONGATE_RESPONSES_DENIAL_HEADER=true",
		"SESSIONGATE_ALLOWED_ORIGINS=" + partnerOrigin,
	}})
	product.target = product.proxy.URL("ingress")
	product.expire = func() { product.advance(accessLife + moment) }
	product.outage = func() func() {
		tx, err := product.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `LOCK TABLE sessiongate.active_sessions IN ACCESS EXCLUSIVE MODE`); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}

	dev := &side{name: "dev", seen: arrived{rows: map[string]seenRow{}}}
	dev.stack = &stack{T: t, dir: t.TempDir()}
	dev.app = newApp(dev.stack)
	server, err := sessiondev.Start(t.Context(), sessiondev.Options{
		App: "http://" + dev.app.address, LoginURL: "/login", Routes: devRoutes, AllowedOrigins: []string{partnerOrigin},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	dev.apiKey, dev.target = server.APIKey, server.URL
	dev.processes = []*replica{{stack: dev.stack, name: "dev", internal: strings.TrimPrefix(server.InternalURL, "http://")}}
	dev.expire = func() {
		if err := server.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	dev.outage = func() func() {
		server.Outage(true)
		return func() { server.Outage(false) }
	}
	sides := []*side{product, dev, newDevProcess(t, "--envoy")}
	for _, s := range sides {
		s.app.pages.HandleFunc("/", s.seen.handle)
	}
	return sides
}

// newDevProcess runs sessiongate dev with the same policies as a process of its own, with more flags.
func newDevProcess(t *testing.T, flags ...string) *side {
	t.Helper()
	s := &side{name: "dev " + strings.Join(flags, " "), seen: arrived{rows: map[string]seenRow{}}}
	s.stack = &stack{T: t, dir: t.TempDir()}
	t.Cleanup(s.checkLogs)
	s.app = newApp(s.stack)
	d := s.startDev(append([]string{"--app", "http://" + s.app.address, "--login", "/login"}, flags...),
		"SESSIONGATE_ROUTES="+devRoutesSetting, "SESSIONGATE_ALLOWED_ORIGINS="+partnerOrigin)
	s.apiKey, s.target, s.processes = d.apiKey, d.url, []*replica{d.replica}
	s.expire = func() { d.control("expire") }
	s.outage = func() func() {
		d.control("outage?on=true")
		return func() { d.control("outage?on=false") }
	}
	return s
}

// devProcess is a running sessiongate dev.
type devProcess struct {
	*replica

	url, apiKey string
}

// startDev starts sessiongate dev at free ports, and returns when it is ready.
func (s *stack) startDev(args []string, environment ...string) *devProcess {
	s.Helper()
	file, err := program()
	if err != nil {
		s.Fatal(err)
	}
	log := s.logFile("dev")
	p := &replica{stack: s, name: "dev", log: log.Name(), addressFile: filepath.Join(s.dir, "dev.json")}
	command := exec.Command(file, append([]string{"dev", "--listen", "127.0.0.1:0", "--listen-api", "127.0.0.1:0", "--address-file", p.addressFile}, args...)...)
	command.Env = append([]string{
		"GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "XDG_CACHE_HOME=" + os.Getenv("XDG_CACHE_HOME"),
		envoyrun.BinaryEnv + "=" + os.Getenv(envoyrun.BinaryEnv), "SESSIONGATE_LOG_LEVEL=debug",
	}, environment...)
	command.Stderr = log // what it prints has the key, and is for the developer
	p.run, err = process.Start(command, syscall.SIGKILL)
	_ = log.Close()
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(p.stop)
	at := p.awaitDev()
	p.internal, s.apiKey = strings.TrimPrefix(at["internal_url"], "http://"), at["api_key"]
	s.secrets.add(at["api_key"])
	return &devProcess{replica: p, url: at["url"], apiKey: at["api_key"]}
}

// awaitDev waits until dev has written where it is.
func (p *replica) awaitDev() (at map[string]string) {
	p.Helper()
	p.eventually("dev writes its addresses", func() bool {
		text, err := os.ReadFile(p.addressFile)
		return p.alive() && err == nil && json.Unmarshal(text, &at) == nil
	})
	return at
}

// control presses a button of /dev/.
func (d *devProcess) control(name string) {
	d.Helper()
	response, err := direct.Post(d.url+"/dev/"+name, "", nil)
	if err != nil {
		d.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		d.Fatalf("/dev/%s: %d", name, response.StatusCode)
	}
}

// outcome is all that must be equal.
type outcome struct {
	Status int
	// Target and App are what the app saw; nil: nothing.
	Target string
	App    map[string]string
	// Client is what the client is told, but by the app.
	Client map[string]string
	Body   string
}

// differing are headers that no two deployments have equal.
var differing = []string{"X-Request-Id", "X-Forwarded-For", "X-Envoy-External-Address", "Content-Length", "X-Row", "User-Agent"}

// toldHeaders are the headers of an answer that a client acts on.
var toldHeaders = []string{
	"Location", "X-Sessiongate-Denial", "Cache-Control", "Retry-After", "Set-Cookie", "Content-Security-Policy", "Vary", "Upgrade",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Headers", "Access-Control-Max-Age",
}

// ask sends a row's bytes, with the tokens of a session in the place of {access} and {csrf}.
func (s *side) ask(t *testing.T, id, text string, c created) outcome {
	t.Helper()
	hide := strings.NewReplacer(c.Tokens.Access, "{access}", c.Session.Handle, "{handle}", c.Tokens.AntiCSRF, "{csrf}")
	text = strings.NewReplacer("{access}", c.Tokens.Access, "{csrf}", c.Tokens.AntiCSRF, "{handle}", c.Session.Handle).Replace(text)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.target, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(conn, text) }() // which may be refused before it has come whole
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: strings.Fields(text + " x")[0]})
	if err != nil {
		return outcome{Body: "no answer: " + err.Error()}
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	o := outcome{Status: response.StatusCode, Client: map[string]string{}}
	for _, name := range toldHeaders {
		if values := response.Header.Values(name); len(values) > 0 {
			o.Client[name] = hide.Replace(strings.Join(values, ","))
		}
	}
	s.seen.mu.Lock()
	row, arrived := s.seen.rows[id]
	s.seen.mu.Unlock()
	if !arrived {
		if o.Client["X-Sessiongate-Denial"] != "" || o.Status == http.StatusRequestHeaderFieldsTooLarge && bytes.HasPrefix(body, []byte("{")) {
			o.Body = hide.Replace(string(body))
		}
		return o
	}
	o.Target, o.App = row.target, map[string]string{}
	for name, values := range row.header {
		if !slices.Contains(differing, name) {
			o.App[name] = hide.Replace(strings.Join(values, ","))
		}
	}
	return o
}

// devRow is a request that both are sent. as is whose session it has: alice's unless it says "".
type devRow struct {
	line    string // "" is GET /
	headers string // lines, with | between
	plain   bool   // without the headers by which a page's own script is known
	// dev is the status of dev, where net/http refuses what Envoy lets come to the check. why says so.
	dev int
	why string
}

func (r devRow) text(id string, signedIn bool) string {
	var b strings.Builder
	line := r.line
	if line == "" {
		line = "GET /"
	}
	fmt.Fprintf(&b, "%s HTTP/1.1\r\n", line)
	if !strings.Contains(strings.ToLower(r.headers), "host:") {
		b.WriteString("Host: app.example.test\r\n")
	}
	fmt.Fprintf(&b, "X-Row: %s\r\n", id)
	if !r.plain {
		b.WriteString("Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n")
	}
	if signedIn {
		b.WriteString("Cookie: a=1; sAccessToken={access}\r\n")
	}
	if r.headers != "" {
		for header := range strings.SplitSeq(r.headers, "|") {
			b.WriteString(header + "\r\n")
		}
	}
	if !strings.Contains(strings.ToLower(r.headers), "connection:") {
		b.WriteString("Connection: close\r\n")
	}
	return b.String() + "\r\n"
}

// devRows are the attacks, and what is beside them.
func devRows() map[string][]devRow {
	rows := map[string][]devRow{}

	for _, path := range []string{"/", "/optional", "/api/x", "/login"} {
		for _, name := range []string{
			"X-Session-User-Id", "x-session-user-id", "X-SESSION-USER-ID", "x.session.user.id", "x-session.user-id", "x!session~user'id", "x-session-handle",
			"x.session.handle", "X-Session-Claims", "x*session*claims", "x_session_user_id", "x-session-user_id", "X_Session_Handle", "x--session-user-id",
			"xx-session-user-id", "x-session-user-id2", "x-session-userid", "x-session-user-id ", "x-session-user-id\t", "x-original-url", "X-Rewrite-Url",
			"x-sessiongate-peer", "x-envoy-original-path", "x-envoy-max-retries", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id",
		} {
			rows["spoofed headers"] = append(rows["spoofed headers"], devRow{line: "GET " + path, headers: name + ": root"})
		}
	}
	for _, headers := range []string{
		"X-Session-User-Id: root|x-session-user-id: root", "X-Session-User-Id: root|X-Session-Handle: h|X-Session-Claims: e30",
		"Connection: x-session-user-id", "Connection: close, x-session-user-id|X-Session-User-Id: root", "Connection: cookie", "Connection: sec-fetch-site, sec-fetch-mode",
		"Connection: x-forwarded-proto", "Connection: x-forwarded-for", "Connection: host", "Connection: a,b,c,d,e,f,g,h,i", "Connection: a,b,c,d,e,f,g,h,i,j",
		"Connection: x-foo|X-Foo: 1", "Keep-Alive: 5", "Proxy-Connection: x", "TE: trailers", "TE: gzip", "Proxy-Authorization: Basic eA==",
	} {
		rows["spoofed headers"] = append(rows["spoofed headers"], devRow{headers: headers})
	}

	for _, path := range []string{
		"/", "//", "/.", "/..", "/../..", "/x", "//api", "///api/x", "/api", "/api/", "/api//x", "/api/./x", "/api/../x", "/x/../api", "/api/..", "/api/x/..", "/optional",
		"/optional/", "/optional/../x", "/optional/%2e%2e/x", "/optional/%2E./x", "/optional/.%2e/x", "/optional/%252e%252e/x", "/optional/..%2fx", "/optional%2f..%2fx",
		`/optional/..\x`, `\optional`, `/optional\x`, "/optional/..%5cx", "/optional/..;/x", "/optional/..;x=1/x", "/optional/..%3b/x", "/optional/../x//../../optional/y",
		"/%6fptional", "/%256fptional", "/OPTIONAL", "/Optional/x", "/optional;x", "/optional;x/y", "/;x/optional", "/optional%3bx", "/%2foptional", "/%5coptional",
		"/optional%3Fx", "/optional%23x", "/optional#x", "/optional?x#y", "/optional%00", "/optional%0a", "/optional%20", "/optional/...", "/optional/.;/x", "/optional/%2e%2e;/x", `/optional\..;/x`, `/optional/..;\x`, "/optional/...;/x", "/..;x/optional", "/optional.",
		"/optional?/../x", "/optional/?a=//b&c=%2f", "/optional?", "/optional??", "/%c3%b6ptional", "/\xc3\xb6", "/a\x01b", "/a\x7fb", "*", "x", "", "?x", "http://app.example.test/optional",
		"http://app.example.test", "http://evil.example/optional", "https://app.example.test/optional", "ftp://app.example.test/optional", "http://app.example.test?x",
		"/login", "/login/", "/LOGIN", "/login/../x", "/x/../login", "/login?x=1", "/%6cogin", "/login;x", "/auth", "/auth/", "/authors", "/auth/../x", "/x/../auth/session/refresh",
		"/auth//session/refresh", "/auth/session/refresh", "/auth/session/refresh/", "/AUTH/session/refresh", "/auth%2fsession/refresh", "/.well-known/jwks.json/", "/.well-known/x",
		"/.well-known/../.well-known/x", "/auth;x/y", "/%61uth/x",
	} {
		rows["paths"] = append(rows["paths"], devRow{line: "GET " + path}, devRow{line: "POST " + path, headers: "Content-Length: 0"})
	}
	for c := range 256 {
		rows["characters"] = append(rows["characters"], devRow{line: fmt.Sprintf("GET /optional/a%%%02Xb", c)})
		if c != '\r' && c != '\n' && c != '%' {
			rows["characters"] = append(rows["characters"], devRow{line: "GET /optional/a" + string([]byte{byte(c)}) + "b"})
		}
	}
	rows["broken escapes"] = []devRow{
		{line: "GET /optional/%zz", dev: 400, why: "net/http reads no broken escape"},
		{line: "GET /optional/%", dev: 400, why: "net/http reads no broken escape"},
		{line: "GET /optional/%2", dev: 400, why: "net/http reads no broken escape"},
		{line: "GET /optional?x=%zz"},
		{line: "GET /optional ", dev: 400, why: "net/http reads no second space"},
	}

	for _, headers := range []string{
		"Cookie: sAccessToken={access}", "Cookie: sAccessToken=rubbish", "Cookie: sAccessToken=\xff\xfe", "Cookie: b=2|Cookie: c=3", "Cookie: x=1,sAccessToken={access}",
		"Authorization: Bearer {access}", "Authorization: Bearer {access}|Authorization: Bearer {access}", "Authorization: Basic eA==|Authorization: Bearer x",
		"Origin: http://app.example.test|Origin: http://evil.example", "Origin: http://evil.example", "Origin: null", "Origin:", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate",
		"Accept: text/html|Accept: */*", "Anti-Csrf: {csrf}|Anti-Csrf: {csrf}", "Referer: http://evil.example/|Referer: http://app.example.test/", "X-Foo: 1|X-Foo: 2",
		"Content-Length: 1|Content-Length: 2", "Content-Length: +1", "X-Foo: \xff\xfe", "X-Foo: \x01", "X-Foo: a\x00b", "X-Foo", ": x",
		"X(Foo: 1", "X-Foo:", "X-Foo: a| b", "X-Forwarded-Proto: https|X-Forwarded-Proto: https", "Traceparent: a|Traceparent: b", "St-Auth-Mode: header", "Rid: x",
	} {
		rows["repeated headers"] = append(rows["repeated headers"], devRow{headers: headers}, devRow{headers: headers, plain: true}, devRow{line: "GET /optional", headers: headers},
			devRow{line: "POST /api/x", headers: headers + "|X-Last: 1", plain: true})
	}
	rows["hosts"] = []devRow{
		{headers: "Host: app.example.test|Host: evil.example", dev: 400, why: "net/http reads no second Host"},
		{headers: "Host: app.example.test,evil.example"},
		{headers: "Host: a@app.example.test", dev: 400, why: "net/http reads no user in Host"},
		{headers: "Host: app.example.test:80:80"},
		{headers: "Host: app.example.test/x"},
		{headers: "Host: [::1"},
		{headers: "Host:"},
		{headers: "Host: a b"},
		{headers: "Host: APP.example.test:80"},
		{headers: "Host: \xc3\xa9"},
		{headers: "X-No-Host: 1"},
	}
	for _, method := range []string{"HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get", "FOO", "PRI"} {
		rows["methods"] = append(rows["methods"], devRow{line: method + " /"}, devRow{line: method + " /api/x", plain: true})
	}

	for _, path := range []string{"/", "/api/x", "/optional", "/login", "/auth/session/refresh"} {
		for _, upgrade := range []string{"websocket", "WebSocket", "websocket, x", "x", "h2c"} {
			for _, connection := range []string{"Upgrade", "keep-alive, upgrade, x-session-user-id", "close"} {
				for _, origin := range []string{"http://app.example.test", "http://evil.example", partnerOrigin, "null"} {
					rows["websockets"] = append(rows["websockets"], devRow{line: "GET " + path, plain: true, headers: "Connection: " + connection + "|Upgrade: " + upgrade + "|Origin: " + origin})
				}
			}
		}
		rows["websockets"] = append(rows["websockets"], devRow{line: "GET " + path, plain: true, headers: "Connection: Upgrade|Upgrade: websocket"},
			devRow{line: "GET " + path, headers: "Upgrade: websocket"}, devRow{line: "GET " + path, headers: "Connection: Upgrade"})
	}

	for _, path := range []string{"/", "/api/x", "/login", "/auth/session/refresh"} {
		for _, origin := range []string{partnerOrigin, "http://evil.example", "null"} {
			for _, more := range []string{"", "|Access-Control-Request-Method: POST", "|Access-Control-Request-Method:"} {
				rows["cors"] = append(rows["cors"], devRow{line: "OPTIONS " + path, plain: true, headers: "Origin: " + origin + more}, devRow{line: "GET " + path, plain: true, headers: "Origin: " + origin + more})
			}
		}
	}

	short := func(n int) string {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf("X-N-%d: 1", i))
		}
		return strings.Join(lines, "|")
	}
	for n := 80; n <= 96; n++ {
		rows["header room"] = append(rows["header room"], devRow{headers: short(n)}, devRow{line: "GET /optional", headers: short(n), plain: true})
	}
	for _, n := range []int{200, 480} {
		rows["header room"] = append(rows["header room"], devRow{headers: short(n)})
	}
	for _, n := range []int{40 << 10, 56 << 10, 61 << 10, 64 << 10, 80 << 10} {
		rows["header room"] = append(rows["header room"], devRow{headers: "X-Large: " + strings.Repeat("x", n)}, devRow{headers: "Content-Length: 0|X-Large: " + strings.Repeat("x", n)})
	}
	rows["header room"] = append(rows["header room"], devRow{headers: strings.Repeat("X-N: 1|", 95) + "X-N: 1"}, devRow{headers: strings.Repeat("Anti-Csrf: 1|", 70) + "X-N: 1"})
	return rows
}

// TestDevAttacks: each row is answered the same by both, and comes to the app the same.
func TestDevAttacks(t *testing.T) {
	t.Parallel()
	sides := newSides(t)
	var alice []created
	for _, s := range sides {
		alice = append(alice, s.processes[0].create("alice"))
	}
	sent := 0
	for title, rows := range devRows() {
		t.Run(title, func(t *testing.T) {
			for i, row := range rows {
				for _, signedIn := range []bool{false, true} {
					id := fmt.Sprintf("%s-%d-%t", strings.ReplaceAll(title, " ", "-"), i, signedIn)
					text := row.text(id, signedIn)
					want, got := sides[0].ask(t, id, text, alice[0]), sides[1].ask(t, id, text, alice[1])
					sent++
					if row.dev != 0 {
						if got.Status != row.dev || got.App != nil {
							t.Errorf("%q, signed in: %t: dev says %d, want %d: %s", row.line+" "+row.headers, signedIn, got.Status, row.dev, row.why)
						}
						continue
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%.300q, signed in: %t (-envoy +dev):\n%s", row.line+" "+row.headers, signedIn, diff)
					}
					if user := got.App["X-Session-User-Id"]; user != "" && (user != "alice" || !signedIn && !strings.Contains(row.headers, "{access}")) {
						t.Errorf("%.300q, signed in: %t: the app sees user %q", row.line+" "+row.headers, signedIn, user)
					}
				}
			}
		})
	}
	if sent < 2000 {
		t.Errorf("only %d rows", sent)
	}
}

// TestDevJourney: the life of a session is the same at both, step by step.
func TestDevJourney(t *testing.T) {
	t.Parallel()
	sides := newSides(t)
	told := make([][]string, len(sides))
	defer func() {
		for _, lines := range told {
			t.Log("\n" + strings.Join(lines, "\n"))
		}
	}()
	for i, s := range sides {
		b := s.newBrowserAt(s.target, networkV, nil)
		thief := s.newBrowserAt(s.target, networkX, nil)
		step := func(name string, a answer) {
			user := "-"
			if a.app != nil {
				user = strings.Join(a.app.Header.Values("X-Session-User-Id"), ",")
			}
			told[i] = append(told[i], fmt.Sprintf("%s: %d %s, user %s, a new access token: %t, %s", name, a.status,
				a.header.Get("X-Sessiongate-Denial"), user, a.sets("sAccessToken"), a.header.Get("Location")))
		}
		step("no session, a page", b.send(http.MethodGet, "/", navigation))
		step("no session, a script", b.send(http.MethodGet, "/api/me", script))
		step("no session, open to all", b.send(http.MethodGet, "/optional", navigation, with("X-Session-User-Id", "root")))
		b.signIn("ada")
		step("signed in", b.get(with("X-Session-User-Id", "root")))
		step("cookies alone", b.send(http.MethodPost, "/api/x", without("Anti-Csrf")))
		s.expire()
		step("expired, a script", b.get())
		step("expired, a page", b.send(http.MethodGet, "/", navigation))
		stolen := b.stolenBy(networkX)
		step("refresh", b.refresh())
		step("refreshed", b.get())
		for range 2 { // a promotion may be late, so the chain may go on at the second
			s.expire()
			step("refresh again", b.refresh())
			step("refreshed again", b.get())
		}
		step("the thief refreshes", stolen.refresh())
		s.eventually("the end is heard", func() bool { return b.get().status == http.StatusFound })
		step("the owner", b.get())
		step("the owner refreshes", b.refresh())
		b.signIn("ada")
		over := s.outage()
		step("in an outage", b.get())
		step("a refresh in an outage", b.refresh())
		over()
		s.eventually("a refresh", func() bool { return b.refresh().status == http.StatusOK })
		step("after the outage", b.get())
		step("sign-out", b.do(http.MethodPost, "/auth/signout", script))
		step("signed out", b.get())
		step("no session, a refresh", thief.refresh())
		step("keys", b.send(http.MethodGet, "/.well-known/jwks.json"))
	}
	for i, s := range sides[1:] {
		if diff := cmp.Diff(told[0], told[1+i]); diff != "" {
			t.Errorf("(-envoy +%s):\n%s", s.name, diff)
		}
	}
}
