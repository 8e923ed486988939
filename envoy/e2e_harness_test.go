package envoy_test

// The whole product, as it is deployed: the real Envoy with the shipped configuration, two built sessiongate processes behind it, the real
// Postgres, and an "existing system" that records what it gets. Nothing is replaced but addresses, and the database's clock.

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
	"github.com/sessiongate/sessiongate/internal/process"
)

const (
	// patience bounds every wait for something that must happen. It is a limit for broken code, not a promise.
	patience = 30 * time.Second
	// The durations of the protocol, as the processes have them by default.
	accessLife = time.Hour
	attempt    = 10 * time.Second // D
	grace      = attempt          // G
	repeat     = attempt * 5 / 2  // W
	// moment is what a step may take at most without leaving a window, and more than the leeway on clocks.
	moment = 6 * time.Second
)

// program builds sessiongate, with the race detector, once per run. SESSIONGATE_TEST_OVERLAY names a file for go build -overlay, with which
// one can break the product and see which tests notice.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sessiongate-e2e-")
	if err != nil {
		return "", err
	}
	afterAllTests(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "sessiongate")
	args := []string{"build", "-race", "-o", file}
	if overlay := os.Getenv("SESSIONGATE_TEST_OVERLAY"); overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	output, err := exec.Command("go", append(args, "../cmd/sessiongate")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building sessiongate: %w\n%s", err, output)
	}
	return file, nil
})

// database is the one cluster that all tests share but those that kill it.
var database = sync.OnceValues(func() (*cluster.Cluster, error) {
	c, err := cluster.Start(context.Background(), clusterOptions())
	if err == nil {
		afterAllTests(c.Stop)
	}
	return c, err
})

func clusterOptions() cluster.Options {
	return cluster.Options{Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}}
}

var databases atomic.Int64

// stack is one deployment.
type stack struct {
	*testing.T

	db        *pgx.Conn // of the test itself
	name, url string    // of the database
	processes []*replica
	options   []stackOptions // of each process
	app       *app
	proxy     *envoyrun.Proxy
	secrets   secrets
	logs      []string // files
	key       string   // key-encryption key
	apiKey    string
	dir       string
	moved     time.Duration
	hashes    atomic.Int64 // of traffic
	// scheme and host are where browsers find Envoy; empty: http and app.localhost.
	scheme, host string
}

type stackOptions struct {
	cluster   *cluster.Cluster // nil: the shared one
	processes int              // 0: two
	sockets   bool             // Check over unix sockets
	settings  []string         // more environment of the processes
	each      []string         // of it for each process: entries with a space between
	stdout    *os.File         // of the processes; nil: their log
	notReady  bool             // do not wait until the processes are ready
	noEnvoy   bool
	edit      func(*bootstrapv3.Bootstrap) error
	// more is further environment of the processes, once the database is there.
	more func(*stack) []string
	// former is the program of the last process, where that is another version.
	former string
	// program is that of all processes, where it is not program().
	program string
	// tls is how the test itself talks to the check, and internal to the internal listener; nil: without TLS.
	tls, internal *tls.Config
	// url is the database's address for each process, where it is not the stack's own.
	url func(s *stack, process int) string
	// existing starts another existing system than app, and returns its address.
	existing func(*stack) string
}

// newStack deploys over a new, empty database, and takes everything down when the test ends: then every process must have ended well,
// without a data race, and without a secret in its log.
func newStack(t *testing.T, o stackOptions) *stack {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if o.program != "" {
		file = o.program
	}
	c := o.cluster
	if c == nil {
		if c, err = database(); err != nil {
			t.Fatal(err)
		}
	}
	s := &stack{T: t, dir: t.TempDir(), key: newSecret(), apiKey: newSecret()}
	s.secrets.add(s.key, s.apiKey)
	t.Cleanup(s.checkLogs) // runs last
	s.name = fmt.Sprintf("e2e_%d", databases.Add(1))
	s.url = c.URL(s.name)
	if !o.notReady {
		if err := c.CreateDatabase(t.Context(), s.name, ""); err != nil {
			t.Fatal(err)
		}
	}
	s.app = newApp(s)
	count := o.processes
	if count == 0 {
		count = 2
	}
	if o.more != nil {
		o.settings = append(o.more(s), o.settings...)
	}
	for i := range count {
		o := o
		if o.url != nil {
			o.settings = append([]string{"SESSIONGATE_DATABASE_URL=" + o.url(s, i)}, o.settings...)
		}
		if o.each != nil {
			o.settings = append(strings.Fields(o.each[i]), o.settings...)
		}
		if o.former != "" && i == count-1 {
			file = o.former
		}
		s.options = append(s.options, o)
		s.processes = append(s.processes, s.launch(file, fmt.Sprintf("sessiongate-%d", i+1), o))
	}
	for _, p := range s.processes {
		p.awaitAddresses()
		if !o.notReady {
			p.awaitReady()
		}
	}
	if !o.notReady {
		s.connect()
	}
	if o.existing != nil {
		s.app.address = o.existing(s)
	}
	if !o.noEnvoy {
		s.proxy = s.startEnvoy("envoy", o.edit)
	}
	return s
}

func newSecret() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	return base64.StdEncoding.EncodeToString(secret[:])
}

// reconnect is for after a restart of Postgres.
func (s *stack) reconnect() {
	s.Helper()
	_ = s.db.Close(context.Background())
	s.connect()
}

// connect gives the test its own connection to the database.
func (s *stack) connect() {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.url)
	if err != nil {
		s.Fatal(err)
	}
	s.db = conn
	s.Cleanup(func() { _ = conn.Close(context.Background()) })
}

// startEnvoy runs the shipped configuration in front of the stack, with edit on top.
func (s *stack) startEnvoy(name string, edit func(*bootstrapv3.Bootstrap) error) *envoyrun.Proxy {
	s.Helper()
	return s.runEnvoy(name, typed.Edit(func(b *bootstrapv3.Bootstrap) error {
		if err := patient(b); err != nil {
			return err
		}
		if edit != nil {
			return edit(b)
		}
		return nil
	}))
}

// runEnvoy runs what edit makes of the shipped configuration, its text, in front of the stack.
func (s *stack) runEnvoy(name string, edit func(config []byte) ([]byte, error)) *envoyrun.Proxy {
	s.Helper()
	log := s.logFile(name)
	options := envoyrun.Options{
		Listeners: map[string]string{"ingress": "127.0.0.1:0"},
		Clusters:  map[string][]string{"app": {s.app.address}},
		Log:       log,
		Edit:      edit,
	}
	for _, p := range s.processes {
		options.Clusters["sessiongate_authz"] = append(options.Clusters["sessiongate_authz"], p.authz)
		options.Clusters["sessiongate_public"] = append(options.Clusters["sessiongate_public"], p.public)
	}
	proxy, err := envoyrun.Start(s.Context(), options)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("--- %s, what it counted\n%s", name, stats(proxy))
		}
		if err := proxy.Stop(); err != nil {
			s.Error(err)
		}
	})
	return proxy
}

// stats are Envoy's counters of the check and of the clusters behind it, those that are not 0.
func stats(proxy *envoyrun.Proxy) string {
	response, err := direct.Get(proxy.AdminURL() + "/stats?usedonly&filter=sessiongate|ext_authz")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(response.Body)
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, ": 0\n") && !strings.Contains(line, "P0(") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func (s *stack) logFile(name string) *os.File {
	s.Helper()
	file, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		s.Fatal(err)
	}
	s.logs = append(s.logs, file.Name())
	return file
}

// checkLogs holds every log against every secret of the test, and shows the logs' ends where the test failed.
func (s *stack) checkLogs() {
	for _, file := range s.logs {
		log, err := os.ReadFile(file)
		if err != nil {
			s.Error(err)
			continue
		}
		if n := s.secrets.in(log); n > 0 {
			s.Errorf("%s holds %d secrets", filepath.Base(file), n)
		}
		if at := bytes.Index(log, []byte("WARNING: DATA RACE")); at >= 0 {
			s.Errorf("%s: %s", filepath.Base(file), log[at:min(len(log), at+6000)])
		}
		if s.Failed() {
			s.Logf("--- end of %s\n%s", filepath.Base(file), log[max(0, len(log)-4000):])
		}
	}
}

// secrets are the texts that may be in no log.
type secrets struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (s *secrets) add(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	for _, text := range texts {
		if len(text) >= 16 { // shorter ones are no tokens, and would be found anywhere
			s.seen[text] = true
		}
		if _, signature, ok := strings.Cut(strings.TrimPrefix(text, "ey"), "."); ok && strings.HasPrefix(text, "ey") {
			s.seen[signature[strings.LastIndex(signature, ".")+1:]] = true // half a token is one too many
		}
	}
}

// in counts the secrets that a log holds. It walks over the log once, by what secrets begin with: a test under load sees thousands of
// secrets, and megabytes of log.
func (s *secrets) in(log []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	type head [16]byte
	beginning := map[head][]string{}
	found := map[string]bool{}
	for text := range s.seen {
		if len(text) >= len(head{}) {
			beginning[head([]byte(text))] = append(beginning[head([]byte(text))], text)
		} else if text != "" && bytes.Contains(log, []byte(text)) {
			found[text] = true
		}
	}
	for i := range len(log) - len(head{}) + 1 {
		for _, text := range beginning[head(log[i:])] {
			if bytes.HasPrefix(log[i:], []byte(text)) {
				found[text] = true
			}
		}
	}
	return len(found)
}

func TestSecretsInLogs(t *testing.T) {
	var s secrets
	one, two, other := strings.Repeat("a", 20)+"1", strings.Repeat("a", 20)+"2", strings.Repeat("b", 16)
	s.add(one, two, other, "ey.short", "too short a text")
	for log, want := range map[string]int{
		"": 0, "nothing": 0, one: 1, "x" + one + two: 2, two + "x" + other: 2, other[1:] + one[1:]: 0, "x" + other + other: 1, "x short": 1,
		strings.Repeat("x", 1000) + one: 1, strings.Repeat("a", 100): 0,
	} {
		if n := s.in([]byte(log)); n != want {
			t.Errorf("%.40q holds %d, want %d", log, n, want)
		}
	}
}

// addFrom takes the tokens of an answer.
func (s *secrets) addFrom(header http.Header) {
	for _, line := range header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil {
			s.add(c.Value)
		}
	}
	for _, name := range []string{"Anti-Csrf", "St-Access-Token", "St-Refresh-Token"} {
		s.add(header.Get(name))
	}
}

// eventually waits for what must happen.
func (s *stack) eventually(what string, happened func() bool) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for !happened() {
		if time.Now().After(deadline) {
			s.Fatalf("waited %s in vain: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// replica is one running sessiongate.
type replica struct {
	*stack

	name                    string
	run                     *process.Process
	log                     string
	addressFile             string
	authz, public, internal string
	gate                    authv3.AuthorizationClient
	tls, internalTLS        *tls.Config

	terminate sync.Once
	killed    bool // on purpose
}

// launch starts a process and returns at once.
func (s *stack) launch(file, name string, o stackOptions) *replica {
	s.Helper()
	log := s.logFile(name)
	p := &replica{stack: s, tls: o.tls, internalTLS: o.internal, name: name, log: log.Name(), addressFile: filepath.Join(s.dir, name+".addresses")}
	listen := "127.0.0.1:0"
	if o.sockets {
		// Not in s.dir, whose name may be longer than a socket's may be.
		dir, err := os.MkdirTemp("", "sge2e-")
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { _ = os.RemoveAll(dir) })
		listen = "unix:" + filepath.Join(dir, "authz.sock")
	}
	command := exec.Command(file, "serve")
	command.Env = append([]string{
		"GORACE=atexit_sleep_ms=0", // by default every race-built process waits a second at its end
		"SESSIONGATE_KEY=" + s.key,
		"SESSIONGATE_API_KEYS=app:" + s.apiKey,
		"SESSIONGATE_DATABASE_URL=" + s.url,
		"SESSIONGATE_LISTEN_AUTHZ=" + listen,
		"SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0",
		"SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0",
		"SESSIONGATE_LISTEN_ADDRESS_FILE=" + p.addressFile,
		"SESSIONGATE_SHUTDOWN_DRAIN_DELAY=0s",
		"SESSIONGATE_LOG_LEVEL=debug", // whatever may be logged is held against the secrets
	}, o.settings...)
	if file == o.former {
		command.Env = known(s.T, file, command.Env)
	}
	command.Stdout, command.Stderr = log, log
	if o.stdout != nil {
		command.Stdout = o.stdout
	}
	var err error
	p.run, err = process.Start(command, syscall.SIGKILL)
	_ = log.Close() // the child has its own
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(p.stop)
	return p
}

// migrate brings the schema up to date, as the role of this address.
func (s *stack) migrate(address string) {
	s.Helper()
	file, err := program()
	if err != nil {
		s.Fatal(err)
	}
	s.migrateBy(file, address)
}

func (s *stack) migrateBy(program, address string) {
	s.Helper()
	command := exec.Command(program, "migrate")
	command.Env = []string{"GORACE=atexit_sleep_ms=0", "SESSIONGATE_DATABASE_URL=" + address}
	if out, err := command.CombinedOutput(); err != nil {
		s.Fatalf("migrating: %v: %s", err, out)
	}
}

// stop ends the process as an orchestrator does. It must end by itself, and well.
func (p *replica) stop() {
	select {
	case <-p.run.Exited():
	default:
		p.signal()
		select {
		case <-p.run.Exited():
		case <-time.After(patience):
			p.run.Kill()
			p.Errorf("%s did not end after SIGTERM", p.name)
			return
		}
	}
	if err := p.run.Err(); err != nil && !p.killed {
		p.Errorf("%s: %v", p.name, err)
	}
}

// signal asks the process to end, once: a second SIGTERM ends it at once.
func (p *replica) signal() {
	p.terminate.Do(func() { _ = p.run.Signal(syscall.SIGTERM) })
}

// alive fails the test where the process has ended.
func (p *replica) alive() bool {
	select {
	case <-p.run.Exited():
		p.Fatalf("%s ended: %v", p.name, p.run.Err())
		return false
	default:
		return true
	}
}

func (p *replica) awaitAddresses() {
	p.Helper()
	var addresses map[string]string
	p.eventually(p.name+" writes its addresses", func() bool {
		text, err := os.ReadFile(p.addressFile)
		return p.alive() && err == nil && json.Unmarshal(text, &addresses) == nil
	})
	p.authz, p.public, p.internal = addresses["authz"], addresses["public"], addresses["internal"]
	target := p.authz
	if !strings.HasPrefix(target, "unix:") {
		target = "passthrough:///" + target
	}
	transport := insecure.NewCredentials()
	if p.tls != nil {
		transport = credentials.NewTLS(p.tls)
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(transport))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = conn.Close() })
	p.gate = authv3.NewAuthorizationClient(conn)
}

func (p *replica) ready() bool {
	base, client := p.inside()
	response, err := client.Get(base + "/readyz")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// inside is the internal listener, and who may ask there.
func (p *replica) inside() (base string, client *http.Client) {
	if p.internalTLS == nil {
		return "http://" + p.internal, direct
	}
	return "https://" + p.internal, &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: p.internalTLS}}
}

func (p *replica) awaitReady() {
	p.Helper()
	p.eventually(p.name+" is ready", func() bool { return p.alive() && p.ready() })
}

// direct knows no proxy, whatever the environment says, and follows no redirect.
var direct = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// check asks this process alone, as Envoy would for a script's GET, and returns the HTTP status of its denial; 200 is an allow.
func (p *replica) check(access, antiCSRF string) int {
	p.Helper()
	response, err := p.gate.Check(p.Context(), checkRequest(access, antiCSRF), grpc.WaitForReady(true))
	if err != nil {
		p.Fatal(err)
	}
	if response.GetStatus().GetCode() == int32(codes.OK) && response.GetStatus() != nil {
		return http.StatusOK
	}
	return int(response.GetDeniedResponse().GetStatus().GetCode())
}

func checkRequest(access, antiCSRF string) *authv3.CheckRequest {
	headers := map[string]string{"sec-fetch-mode": "cors", "anti-csrf": antiCSRF}
	if access != "" {
		headers["cookie"] = "sAccessToken=" + access
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"session": "required", "on_unauthorised": "401"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: http.MethodGet, Path: "/", Host: host, Scheme: "http", Headers: headers,
		}},
	}}
}

// created is the sessions API's answer to a sign-in.
type created struct {
	Session struct {
		Handle string `json:"handle"`
	} `json:"session"`
	Tokens struct {
		Access   string `json:"access_token"`
		Refresh  string `json:"refresh_token"`
		AntiCSRF string `json:"anti_csrf"`
	} `json:"tokens"`
	SetCookie []string          `json:"set_cookie"`
	Headers   map[string]string `json:"headers"`
}

// api calls the sessions API of this process. into may be nil.
func (p *replica) api(method, path string, body, into any) (status int, header http.Header) {
	p.Helper()
	status, header, err := p.tryAPI(method, path, body, into)
	if err != nil {
		p.Errorf("%s %s: %d, %v", method, path, status, err)
	}
	return status, header
}

// tryAPI is for a process that may be away.
func (p *replica) tryAPI(method, path string, body, into any) (status int, header http.Header, err error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(text)
	}
	// Not the test's context: a cleanup may call.
	base, client := p.inside()
	request, err := http.NewRequestWithContext(context.Background(), method, base+path, reader)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+p.apiKey)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	return response.StatusCode, response.Header, err
}

// create signs a user in at this process.
func (p *replica) create(user string) created {
	p.Helper()
	var c created
	if status, _ := p.api(http.MethodPost, "/v1/sessions", map[string]any{"user_id": user}, &c); status != http.StatusCreated {
		p.Fatalf("creating a session: %d", status)
	}
	p.secrets.add(c.Tokens.Access, c.Tokens.Refresh, c.Tokens.AntiCSRF)
	return c
}

// advance moves the database's clock by more than the leeway, and returns when every process has followed: each then allows a token that
// was issued at the new time, which before was from the future.
func (s *stack) advance(by time.Duration) {
	s.Helper()
	if by < moment {
		s.Fatalf("a move of %s cannot be seen", by)
	}
	s.moved += by
	s.setClock()
	for _, p := range s.processes {
		c := p.create("clock")
		for _, q := range s.processes {
			s.eventually(q.name+" follows the clock", func() bool { return q.check(c.Tokens.Access, c.Tokens.AntiCSRF) == http.StatusOK })
		}
		p.api(http.MethodDelete, "/v1/sessions/"+c.Session.Handle, nil, nil)
	}
}

// polledSince says whether a poll of the feed that began after a moment has ended.
func (p *replica) polledSince(moment time.Time) bool {
	asked := time.Now()
	age, err := p.feedAge()
	return err == nil && asked.Add(-age).After(moment)
}

// feedAge is how long ago the last complete poll of the feed began, or a little longer.
func (p *replica) feedAge() (time.Duration, error) {
	base, client := p.inside()
	response, err := client.Get(base + "/readyz")
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	var state struct {
		Age *int64 `json:"feed_age_ms"`
	}
	if err := json.NewDecoder(response.Body).Decode(&state); err != nil {
		return 0, err
	}
	if state.Age == nil {
		return 0, errors.New("no poll has ended yet")
	}
	return time.Duration(*state.Age+1) * time.Millisecond, nil
}

// setClock replaces the one function by which everything reads the time.
func (s *stack) setClock() {
	s.Helper()
	s.exec(fmt.Sprintf(`CREATE OR REPLACE FUNCTION sessiongate.now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
		AS $$ SELECT clock_timestamp() + interval '%d milliseconds' $$`, s.moved.Milliseconds()))
}

// awaitPromoted waits until the session's child, once used, is the current one.
func (s *stack) awaitPromoted(handle string) {
	s.Helper()
	s.eventually("a promotion", func() bool {
		return s.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = $1 AND previous_hash IS NOT NULL AND next_nonce IS NULL`, handleBytes(handle)) == 1
	})
}

// issues is how often the session's row was written for a issue of its child.
func (s *stack) issues(handle string) int {
	s.Helper()
	return s.count(`SELECT issues FROM sessiongate.active_sessions WHERE handle = $1`, handleBytes(handle))
}

// endedFor counts the events that say that a session ended for a reason.
func (s *stack) endedFor(handle, reason string) int {
	s.Helper()
	return s.count(`SELECT count(*) FROM sessiongate.audit_events WHERE handle = $1 AND reason = $2`, handleBytes(handle), reason)
}

// denied waits until each process by itself knows that an access token's session has ended.
func (s *stack) denied(access, antiCSRF string) {
	s.Helper()
	for _, p := range s.processes {
		s.eventually(p.name+" denies", func() bool { return p.check(access, antiCSRF) == http.StatusUnauthorized })
	}
}

// lockSessions holds the rows of some sessions until release is called.
func (s *stack) lockSessions(where string, args ...any) (release func()) {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.url)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if _, err := tx.Exec(s.Context(), `SELECT FROM sessiongate.active_sessions WHERE `+where+` FOR UPDATE`, args...); err != nil {
		s.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(s.Context()); err != nil {
			s.Error(err)
		}
	}
}

// exec and count are for what only the database can show.
func (s *stack) exec(statement string) {
	s.Helper()
	if _, err := s.db.Exec(s.Context(), statement); err != nil {
		s.Fatalf("%s: %v", statement, err)
	}
}

func (s *stack) count(query string, args ...any) int {
	s.Helper()
	var n int
	if err := s.db.QueryRow(s.Context(), query, args...).Scan(&n); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	return n
}

func handleBytes(handle string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(handle)
	if err != nil {
		panic(err)
	}
	return b
}

// app is the "existing system". POST /login signs in the user whom the body names; what pages has is served from there; anything else is answered
// with what arrived.
type app struct {
	stack    *stack
	pages    http.ServeMux
	address  string
	requests atomic.Int64 // but sign-ins
	next     atomic.Int64 // the process that is asked next
	// tellsClient: a sign-in names the client, as Envoy reports it.
	tellsClient atomic.Bool
}

// seen is a request as it arrived at the app.
type seen struct {
	Method, Path string
	Header       http.Header
}

func newApp(s *stack) *app {
	a := &app{stack: s}
	server := httptest.NewServer(a)
	s.Cleanup(server.Close)
	a.address = server.Listener.Addr().String()
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && r.URL.Path == "/login" {
		a.signIn(w, r)
		return
	}
	a.requests.Add(1)
	if handler, pattern := a.pages.Handler(r); pattern != "" {
		handler.ServeHTTP(w, r)
		return
	}
	a.echo(w, r)
}

// echo answers with what arrived.
func (a *app) echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-From", "app")
	w.Header().Set("X-Target", r.RequestURI)
	_ = json.NewEncoder(w).Encode(seen{r.Method, r.URL.Path, r.Header})
}

// signIn does what a login handler of a user's system does.
func (a *app) signIn(w http.ResponseWriter, r *http.Request) {
	user, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1024))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	session := map[string]any{"user_id": string(user), "claims": map[string]any{"role": "tester"}, "host": r.Host}
	if r.Header.Get("St-Auth-Mode") == "header" {
		session["transport"] = "header"
	}
	if a.tellsClient.Load() {
		session["client"] = map[string]any{"address": r.Header.Get("X-Forwarded-For"), "user_agent": r.UserAgent()}
	}
	if c, ok := a.copySession(w, session); ok {
		w.Header().Set("X-Handle", c.Session.Handle)
		w.WriteHeader(http.StatusNoContent)
	}
}

// copySession creates a session and copies what sessiongate gives for the answer, or answers 502.
func (a *app) copySession(w http.ResponseWriter, session map[string]any) (c created, ok bool) {
	p := a.stack.processes[int(a.next.Add(1))%len(a.stack.processes)]
	if status, _ := p.api(http.MethodPost, "/v1/sessions", session, &c); status != http.StatusCreated {
		w.WriteHeader(http.StatusBadGateway)
		return c, false
	}
	for _, line := range c.SetCookie {
		w.Header().Add("Set-Cookie", line)
	}
	for name, value := range c.Headers {
		w.Header().Set(name, value)
	}
	return c, true
}

// editRoutes changes the routes of the shipped configuration.
func editRoutes(edit func(*routev3.VirtualHost) error) func(*bootstrapv3.Bootstrap) error {
	return func(b *bootstrapv3.Bootstrap) error {
		return typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
			return edit(m.GetRouteConfig().GetVirtualHosts()[0])
		})
	}
}

// addRoute puts a copy of a route before all others, for the paths under prefix, with another policy: nil for a check that the route says
// nothing about.
func addRoute(v *routev3.VirtualHost, copied, prefix string, policy map[string]string) error {
	for _, r := range v.GetRoutes() {
		if r.GetName() != copied {
			continue
		}
		added := proto.CloneOf(r)
		added.Name = prefix
		added.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}}
		delete(added.TypedPerFilterConfig, "envoy.filters.http.ext_authz")
		if policy != nil {
			packed, err := anypb.New(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{
				CheckSettings: &extauthzv3.CheckSettings{ContextExtensions: policy},
			}})
			if err != nil {
				return err
			}
			added.TypedPerFilterConfig["envoy.filters.http.ext_authz"] = packed
		}
		v.Routes = append([]*routev3.Route{added}, v.GetRoutes()...)
		return nil
	}
	return errors.New("there is no route " + copied)
}

// mapped makes Envoy send headers as a map, as control planes do that cannot ask for the raw lines.
func mapped(b *bootstrapv3.Bootstrap) error {
	return editCheck(b, func(check *extauthzv3.ExtAuthz) { check.EncodeRawHeaders = false })
}

// editCheck changes the ext_authz filter.
func editCheck(b *bootstrapv3.Bootstrap, edit func(*extauthzv3.ExtAuthz)) error {
	return typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
		for _, filter := range m.GetHttpFilters() {
			check := new(extauthzv3.ExtAuthz)
			if !filter.GetTypedConfig().MessageIs(check) {
				continue
			}
			if err := filter.GetTypedConfig().UnmarshalTo(check); err != nil {
				return err
			}
			edit(check)
			return filter.GetTypedConfig().MarshalFrom(check)
		}
		return errors.New("there is no ext_authz filter")
	})
}

// awaitLine waits for a log line that holds text.
func (p *replica) awaitLine(text string) {
	p.Helper()
	p.eventually(p.name+" logs "+text, func() bool { return p.wrote(text) })
}

// wrote says whether a text is in the log.
func (p *replica) wrote(text string) bool {
	log, err := os.ReadFile(p.log)
	return err == nil && bytes.Contains(log, []byte(text))
}

// freeAddress is for a program that cannot be told to take any port.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := process.Port()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}
