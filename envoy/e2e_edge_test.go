package envoy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/jackc/pgx/v5"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/cluster"
)

// unanswered fails unless an answer of the auth path tells the client to come back, and nothing else.
func (a answer) unanswered(t testing.TB, what string, statuses ...int) {
	t.Helper()
	known := false
	for _, status := range statuses {
		known = known || a.status == status
	}
	var problem struct {
		Code, Title, Detail string
		Status              int
	}
	err := json.Unmarshal([]byte(a.body), &problem)
	if !known || err != nil || problem.Code != "unavailable" || problem.Status != a.status || problem.Title == "" || problem.Detail == "" {
		t.Errorf("%s: %d %q, want %v and a problem", what, a.status, a.body, statuses)
	}
	if a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: headers %v", what, a.header)
	}
	for _, name := range []string{"Set-Cookie", "Id-Refresh-Token", "Front-Token", "Anti-Csrf"} {
		if lines := a.header.Values(name); len(lines) > 0 {
			t.Errorf("%s: %s %q", what, name, lines)
		}
	}
}

// TestUnansweredAuthPath: with the default settings, what waits for Postgres is answered by sessiongate before Envoy gives up, and what sessiongate
// does not answer is answered by Envoy in the same form. No one is signed out.
func TestUnansweredAuthPath(t *testing.T) {
	t.Parallel()
	c, err := cluster.Start(t.Context(), clusterOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	s := newStack(t, stackOptions{processes: 1, cluster: c})
	b := s.newBrowser(networkV)
	b.signIn("alice")
	b.mustGet(t)
	both := func(name string, want func(t *testing.T, what string, a answer)) {
		t.Run(name, func(t *testing.T) {
			var wait sync.WaitGroup
			for _, path := range []string{refreshPath, "/auth/signout"} {
				wait.Go(func() { want(t, path, b.do(http.MethodPost, path, script)) })
			}
			wait.Wait()
		})
	}

	tx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tx.Exec(t.Context(), `LOCK TABLE sessiongate.active_sessions IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ours := func(t *testing.T, what string, a answer) {
		t.Helper()
		a.unanswered(t, what, http.StatusServiceUnavailable)
		if !strings.Contains(a.body, "Nothing changed") {
			t.Errorf("%s: it is Envoy that answers: %s", what, a.body)
		}
	}
	both("a lock is held", ours)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.eventually("nothing waits for the lock", func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0
	})
	b = s.newBrowser(networkV) // the sign-out may have been carried out all the same
	b.signIn("alice")

	thaw := s.freeze()
	both("Postgres is frozen", ours)
	thaw()
	// Envoy as shipped; the other one has more time than a busy machine takes.
	s.proxy = s.startEnvoy("envoy-shipped", func(b *bootstrapv3.Bootstrap) error {
		return typed.EditConnectionManager(b, "ingress", authPathWithin(5*time.Second))
	})
	b = s.newBrowser(networkV)
	s.eventually("a sign-in", func() bool { return b.do(http.MethodPost, "/login", withBody("alice")).status == http.StatusNoContent })

	p := s.processes[0]
	if err := p.run.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	both("sessiongate hangs", func(t *testing.T, what string, a answer) { a.unanswered(t, what, http.StatusGatewayTimeout) })
	if err := p.run.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b = s.newBrowser(networkV) // the sign-out was under way, and is carried out now
	b.signIn("alice")
	b.mustGet(t)

	p.stop()
	both("sessiongate is gone", func(t *testing.T, what string, a answer) { a.unanswered(t, what, http.StatusServiceUnavailable) })
	if b.access() == "" || b.cookie("sRefreshToken") == "" {
		t.Error("cookies were touched")
	}
}

// freeze stops every process of Postgres that a connection may meet, until thaw is called.
func (s *stack) freeze() (thaw func()) {
	s.Helper()
	var dir string
	if err := s.db.QueryRow(s.Context(), `SHOW data_directory`).Scan(&dir); err != nil {
		s.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		s.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		s.Fatal(err)
	}
	rows, _ := s.db.Query(s.Context(), `SELECT pid::int FROM pg_stat_activity WHERE pid <> pg_backend_pid()`)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		s.Fatal(err)
	}
	pids = append(pids, postmaster)
	send := func(signal syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal) // one that has ended meanwhile delays nothing
		}
	}
	send(syscall.SIGSTOP)
	thaw = sync.OnceFunc(func() { send(syscall.SIGCONT) })
	s.Cleanup(thaw)
	return thaw
}

// ingress is where a test writes bytes of its own.
func (s *stack) ingress() string {
	address, err := url.Parse(s.proxy.URL("ingress"))
	if err != nil {
		s.Fatal(err)
	}
	return address.Host
}

// raw sends bytes to Envoy and reads one answer.
func (s *stack) raw(text string) answer {
	s.Helper()
	conn, err := (&net.Dialer{}).DialContext(s.Context(), "tcp", s.ingress())
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		s.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.Errorf("%q: %v", text[:min(len(text), 60)], err)
		return answer{}
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	s.secrets.addFrom(response.Header)
	a := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	if response.Header.Get("X-From") == "app" {
		a.app = new(seen)
		_ = json.Unmarshal(body, a.app)
	}
	return a
}

// TestTwoHosts: of two Host lines Envoy makes one. It is no client's own origin, and nothing goes upstream with it.
func TestTwoHosts(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1})
	b := s.newBrowser(networkV)
	handle := b.signIn("alice")
	b.mustGet(t)
	cookies := "Cookie: sAccessToken=" + b.access() + "; sRefreshToken=" + b.cookie("sRefreshToken") + "\r\nAnti-Csrf: " + b.antiCSRF + "\r\n"
	for _, hosts := range []string{
		"Host: app.example.test\r\nHost: evil.example\r\n", "Host: evil.example\r\nHost: app.example.test\r\n", "Host: app.example.test,evil.example\r\n",
		"Host: app.example.test\r\nhost: app.example.test\r\n", "Host: a@app.example.test\r\n", "Host: app.example.test evil.example\r\n", "Host:\r\n", "",
		"Host: app.example.test:80:80\r\n", "Host: app.example.test:\r\n", "Host: [::1\r\n", "Host: app.example.test/x\r\n",
	} {
		for _, more := range []string{
			"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n", "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n", "",
			"Origin: http://app.example.test\r\n", "Origin: http://app.example.test,evil.example\r\n", "Origin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n",
		} {
			for _, line := range []string{"GET /", "POST /api/x", "GET /optional", "POST " + refreshPath, "POST /auth/signout"} {
				a := s.raw(line + " HTTP/1.1\r\n" + hosts + cookies + more + "Content-Length: 0\r\nConnection: close\r\n\r\n")
				if a.app != nil || a.status < 400 || a.status > 499 || len(a.header.Values("Set-Cookie")) > 0 {
					t.Errorf("%s with %q, %q: %d, at the app: %v", line, hosts, more, a.status, a.app != nil)
				}
			}
		}
	}
	if s.endedFor(handle, "signed_out") != 0 {
		t.Error("a request with two hosts signed a user out")
	}
	if n := s.app.requests.Load(); n != 1 {
		t.Errorf("%d requests arrived at the app", n-1)
	}
	// An absolute address in the request line counts, whatever Host says (RFC 9112 §3.2.2).
	if a := s.raw("GET http://app.example.test/ HTTP/1.1\r\nHost: evil.example\r\n" + cookies + "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nConnection: close\r\n\r\n"); a.app == nil {
		t.Errorf("an absolute address: %d", a.status)
	}

	t.Run("HTTP/2", func(t *testing.T) {
		for _, c := range []struct {
			authority, host string
			passes          bool
		}{
			{"app.example.test", "", true},
			{"app.example.test,evil.example", "", false},
			{"app.example.test, evil.example", "", false},
			{"a@app.example.test", "", false},
			{"app.example.test/x", "", false},
			{"app.example.test,evil.example", "app.example.test", false},
		} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.ingress())
			if err != nil {
				t.Fatal(err)
			}
			fields := [][2]string{{":method", "GET"}, {":path", "/"}, {":scheme", "http"}, {":authority", c.authority}}
			got := http2Status(conn, append(fields, b.lines(c.host)...), true)
			_ = conn.Close()
			if (got == http.StatusOK) != c.passes || !c.passes && got != 0 && (got < 400 || got > 499) {
				t.Errorf("%+v: %d", c, got)
			}
		}
	})
}

// http2Status sends one request with these very fields, which no client of Go's would; 0 where the stream was reset.
func http2Status(conn net.Conn, fields [][2]string, whole bool) int {
	const frame = 16384 // the largest (RFC 9113 §6.5.2)
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	part := block.Next(frame)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: part, EndHeaders: block.Len() == 0, EndStream: whole})
	for block.Len() > 0 {
		part = block.Next(frame)
		_ = framer.WriteContinuation(1, block.Len() == 0, part)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return 0
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			status, _ := strconv.Atoi(f.PseudoValue("status"))
			return status
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return 0
		}
	}
}

func (b *browser) lines(host string) [][2]string {
	lines := [][2]string{
		{"cookie", "sAccessToken=" + b.access()}, {"anti-csrf", b.antiCSRF}, {"sec-fetch-site", "same-origin"}, {"sec-fetch-mode", "cors"}, {"user-agent", "browser"},
	}
	if host != "" {
		lines = append(lines, [2]string{"host", host})
	}
	return lines
}

// TestHeaderRoom: sessiongate adds headers to a request, and Envoy has limits of their number and size. A client that leaves no room is told so; it is
// never a 500.
func TestHeaderRoom(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{processes: 1})
	b := s.newBrowser(networkV)
	b.signIn("alice")
	var large created
	claims := map[string]any{"text": strings.Repeat("x", 2000)}
	if status, _ := s.processes[0].api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": strings.Repeat("u", 128), "claims": claims}, &large); status != http.StatusCreated {
		t.Fatal(status)
	}
	heavy := s.newBrowser(networkV)
	heavy.setAccess(large.Tokens.Access)
	s.secrets.add(large.Tokens.Refresh, large.Tokens.AntiCSRF)
	heavy.antiCSRF = large.Tokens.AntiCSRF
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	ended := map[string]*http.Protocols{"HTTP/1": nil, "HTTP/2": &h2}
	for protocol, protocols := range ended {
		for client, from := range map[string]*browser{"small": b, "large": heavy, "no session": s.newBrowser(networkV)} {
			tab := s.newBrowserAt(from.target, networkV, protocols)
			tab.jar, tab.antiCSRF = from.jar, from.antiCSRF
			seen, path := map[int]int{}, "/"
			if client == "no session" {
				path = "/optional"
			}
			judge := func(what string, a answer, err error) {
				if err != nil {
					t.Errorf("%s, %s, %s: %v", protocol, client, what, err)
					return
				}
				seen[a.status]++
				switch {
				case a.status == http.StatusOK && a.app != nil:
				case a.status != http.StatusRequestHeaderFieldsTooLarge || a.app != nil:
					t.Errorf("%s, %s, %s: %d %q, want 200 or 431", protocol, client, what, a.status, a.body)
				}
			}
			for n := 60; n <= 130; n++ {
				var more []option
				for i := range n {
					more = append(more, with(fmt.Sprintf("X-N-%d", i), "1"))
				}
				a, err := tab.try(tab.request(http.MethodGet, path, append(more, script)...))
				judge(fmt.Sprint(n, " headers"), a, err)
			}
			for _, n := range []int{200, 400} {
				a, err := tab.try(tab.request(http.MethodGet, path, script, func(r *http.Request) {
					for i := range n {
						r.Header.Set(fmt.Sprintf("X-N-%d", i), "1")
					}
				}))
				judge(fmt.Sprint(n, " headers"), a, err)
			}
			for n := 48 << 10; n <= 66<<10; n += 331 {
				a, err := tab.try(tab.request(http.MethodGet, path, script, with("X-Large", strings.Repeat("x", n))))
				judge(fmt.Sprint(n, " bytes"), a, err)
			}
			if seen[http.StatusRequestHeaderFieldsTooLarge] == 0 || seen[http.StatusOK] == 0 {
				t.Errorf("%s, %s: answers %v", protocol, client, seen)
			}
		}
	}
	// Where Envoy by itself says 500, and what is said instead.
	for n := 88; n <= 94; n++ {
		var more []option
		for i := range n {
			more = append(more, with(fmt.Sprintf("X-N-%d", i), "1"))
		}
		a := b.send(http.MethodGet, "/", append(more, script, with("Origin", "http://app.localhost:10000"), without("Sec-Fetch-Site"))...)
		if a.status != http.StatusRequestHeaderFieldsTooLarge || !strings.Contains(a.body, `"code":"header_room"`) || a.header.Get("Cache-Control") != "no-store" ||
			a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%d headers: %d %q %v", n, a.status, a.body, a.header)
		}
	}
	// A body is no header, however it comes.
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		if a := b.send(http.MethodPost, "/", script, withBody(strings.Repeat("x", size))); a.status != http.StatusOK {
			t.Errorf("a body of %d bytes: %d %q", size, a.status, a.body)
		}
	}
}

// TestHeaderRoomBeforeTheCheck: what leaves no room is refused before the check adds anything, so that no Content-Length, and no number or size near
// Envoy's own limits (500; 96 KiB, over HTTP/2 64 KiB in one header), makes it a 500 or lets it through. Beyond these, Envoy refuses by itself.
func TestHeaderRoomBeforeTheCheck(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{processes: 1})
	b := s.newBrowser(networkV)
	b.signIn("alice")
	b.mustGet(t)
	type sent struct {
		lines  int // short ones
		large  int // large ones, of
		bytes  int // each
		length string
	}
	var passes, refused, limits []sent
	for _, n := range []int{0, 60, 70, 80} {
		passes = append(passes, sent{lines: n}, sent{lines: n, length: "0"})
	}
	for _, n := range []int{88, 89, 90, 91, 92, 93, 94, 200, 470, 480} {
		refused = append(refused, sent{lines: n}, sent{lines: n, length: "300000"})
	}
	for n := 481; n <= 505; n++ {
		limits = append(limits, sent{lines: n})
	}
	for n := 94 << 10; n <= 98<<10; n += 101 {
		limits = append(limits, sent{large: 1, bytes: n}, sent{large: 3, bytes: n / 3})
	}
	for _, n := range []int{40 << 10, 55 << 10} {
		passes = append(passes, sent{large: 1, bytes: n}, sent{large: 1, bytes: n, length: "0"})
	}
	for _, n := range []int{62 << 10, 70 << 10, 90 << 10} {
		for _, length := range []string{"", "0", "1", "200000", "9223372036854775807"} {
			refused = append(refused, sent{large: 3, bytes: n / 3, length: length})
		}
		for _, length := range []string{"", "0", "200000", "18446744073709551615", "99999999999999999999"} {
			limits = append(limits, sent{large: 1, bytes: n, length: length})
		}
	}
	// try returns the status of HTTP/1 and, 0 where the stream was reset, of HTTP/2.
	try := func(path string, c sent) map[string]int {
		method, fields := "GET", b.lines("")
		if c.length != "" {
			method, fields = "POST", append(fields, [2]string{"content-length", c.length})
		}
		for i := range c.lines {
			fields = append(fields, [2]string{fmt.Sprintf("x-n-%d", i), "1"})
		}
		for i := range c.large {
			fields = append(fields, [2]string{fmt.Sprintf("x-large-%d", i), strings.Repeat("x", c.bytes)})
		}
		var text strings.Builder
		for _, field := range fields {
			text.WriteString(field[0] + ": " + field[1] + "\r\n")
		}
		first := s.raw(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + text.String() + "\r\n")
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.ingress())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		pseudo := [][2]string{{":method", method}, {":path", path}, {":scheme", "http"}, {":authority", host}}
		return map[string]int{"HTTP/1": first.status, "HTTP/2": http2Status(conn, append(pseudo, fields...), c.length == "" || c.length == "0")}
	}
	for _, c := range passes {
		for protocol, got := range try("/", c) {
			if got != http.StatusOK {
				t.Errorf("%s, %+v: %d, want 200", protocol, c, got)
			}
		}
	}
	before := s.app.requests.Load()
	for _, path := range []string{"/", "/optional", "/login", refreshPath} {
		for _, c := range refused {
			for protocol, got := range try(path, c) {
				if got != http.StatusRequestHeaderFieldsTooLarge {
					t.Fatalf("%s, %s, %+v: %d, want 431", path, protocol, c, got) // where they pass, each waits for its body
				}
			}
		}
	}
	for _, c := range limits {
		for protocol, got := range try("/", c) {
			if got != http.StatusRequestHeaderFieldsTooLarge && (protocol != "HTTP/2" || got != 0) && (c.length == "" || got != http.StatusBadRequest) {
				t.Errorf("%s, %+v: %d, want 431", protocol, c, got)
			}
		}
	}
	if n := s.app.requests.Load() - before; n != 0 {
		t.Errorf("%d of them arrived at the app", n)
	}
}
