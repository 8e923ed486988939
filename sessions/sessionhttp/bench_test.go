package sessionhttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/memory"
)

const (
	apiKey    = "0123456789abcdef0123456789abcdef"
	apiCaller = "login"
	host      = "app.eu.example.com"
	userAgent = "Mozilla/5.0 (test)"
	peer      = "198.51.100.7"
)

var errDown = errors.New("connection refused by the test")

// shifted is a store that may be down, and whose clock a test may set forward.
type shifted struct {
	sessions.Store

	down   atomic.Bool
	deaf   atomic.Bool // to the feed
	offset atomic.Int64
	gets   atomic.Int64
}

func (s *shifted) err() error {
	if s.down.Load() {
		return errDown
	}
	return nil
}

func (s *shifted) Create(ctx context.Context, n sessions.NewRecord) (sessions.Record, error) {
	if err := s.err(); err != nil {
		return sessions.Record{}, err
	}
	return s.Store.Create(ctx, n)
}

func (s *shifted) CreateWithin(ctx context.Context, n sessions.NewRecord, l sessions.UserLimit) (sessions.Record, []sessions.Handle, error) {
	if err := s.err(); err != nil {
		return sessions.Record{}, nil, err
	}
	return s.Store.CreateWithin(ctx, n, l)
}

func (s *shifted) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	s.gets.Add(1)
	if err := s.err(); err != nil {
		return sessions.Record{}, time.Time{}, err
	}
	r, now, err := s.Store.Get(ctx, h)
	return r, now.Add(time.Duration(s.offset.Load())), err
}

// Rotate only reads: it would decide by a clock that is not set forward.
func (s *shifted) Rotate(ctx context.Context, h sessions.Handle, rotation sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	r, now, err := s.Get(ctx, h)
	if !rotation.WithData {
		r.Data = nil
	}
	return r, now, false, err
}

func (s *shifted) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	if err := s.err(); err != nil {
		return false, err
	}
	return s.Store.End(ctx, h, e)
}

func (s *shifted) ListUser(ctx context.Context, id string, limit int) ([]sessions.Record, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.ListUser(ctx, id, limit)
}

func (s *shifted) UserRows(ctx context.Context, id string, limit int) ([]sessions.Row, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.UserRows(ctx, id, limit)
}

func (s *shifted) Update(ctx context.Context, h sessions.Handle, c sessions.Attributes) (sessions.Record, error) {
	if err := s.err(); err != nil {
		return sessions.Record{}, err
	}
	return s.Store.Update(ctx, h, c)
}

func (s *shifted) EndUser(ctx context.Context, id string, e sessions.Ending) ([]sessions.Handle, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.EndUser(ctx, id, e)
}

func (s *shifted) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	if s.deaf.Load() {
		return sessions.Page{}, errDown
	}
	p, err := s.Store.Poll(ctx, since)
	p.Now = p.Now.Add(time.Duration(s.offset.Load()))
	return p, err
}

// bench is both listeners over a running engine.
type bench struct {
	store    *shifted
	ahead    atomic.Int64 // nanoseconds that the clock of the engine's machine is ahead
	engine   *sessions.Engine
	public   http.Handler
	internal http.Handler
	cfg      Config
	log      *lockedBuffer

	mu     sync.Mutex
	events []sessions.Event
}

func (b *bench) actors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var actors []string
	for _, e := range b.events {
		if e.Kind == sessions.EventEnded {
			actors = append(actors, string(e.Reason)+" by "+e.Actor)
		}
	}
	return actors
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (b *bench) server(t testing.TB) server {
	t.Helper()
	s, err := newServer(b.engine, b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newIdleBench is a bench whose engine has not been started.
func newIdleBench(t testing.TB, change ...func(*Config)) (*bench, func()) {
	t.Helper()
	b := &bench{store: &shifted{Store: memory.New()}, log: &lockedBuffer{}}
	kek, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = kek
	cfg.RefreshesPerSession, cfg.RefreshesPerAddress = sessions.Rate{PerSecond: 2, Burst: 100}, sessions.Rate{PerSecond: 200, Burst: 5000}
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }
	cfg.Observe = func(e sessions.Event) {
		if e.Kind == sessions.EventReady {
			close(ready)
		}
		b.mu.Lock()
		b.events = append(b.events, e)
		b.mu.Unlock()
	}
	if b.engine, err = sessions.New(b.store, cfg); err != nil {
		t.Fatal(err)
	}
	b.cfg = Defaults()
	b.cfg.APIKeys = map[string]APIKey{apiCaller: {DigestKey(apiKey), AllScopes}, "other": {DigestKey("another key, also of 32 characters"), AllScopes}}
	b.cfg.AllowedOrigins = []string{"https://admin.example.net", "http://localhost:3000"}
	b.cfg.Log = slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, f := range change {
		f(&b.cfg)
	}
	b.public, b.internal = handlers(t, b.engine, b.cfg)
	return b, func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.engine.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		select {
		case <-ready:
		case <-time.After(30 * time.Second):
			t.Fatal("engine did not get ready")
		}
	}
}

func handlers(t testing.TB, engine *sessions.Engine, cfg Config) (public, internal http.Handler) {
	t.Helper()
	public, err := Public(engine, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if internal, err = Internal(engine, cfg); err != nil {
		t.Fatal(err)
	}
	return public, internal
}

func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b, start := newIdleBench(t, change...)
	start()
	return b
}

// pass sets the store's clock forward, and returns when the engine has heard of it.
func (b *bench) pass(t *testing.T, d time.Duration) {
	t.Helper()
	b.store.offset.Add(int64(d))
	rec, err := b.engine.EndUser(t.Context(), "absent", sessions.Ending{Reason: sessions.ReasonRevoked}) // it polls
	if err != nil || rec != 0 {
		t.Fatal(rec, err)
	}
}

// call is one request; zero fields are filled as an honest browser behind Envoy
// would.
type call struct {
	method, path, body string
	host               string
	header             http.Header
}

func (c call) with(name string, values ...string) call {
	if c.header = maps.Clone(c.header); c.header == nil {
		c.header = http.Header{}
	}
	c.header[http.CanonicalHeaderKey(name)] = values
	return c
}

func do(h http.Handler, c call) *answer {
	r := httptest.NewRequestWithContext(context.Background(), c.method, "http://"+host+"/", strings.NewReader(c.body))
	if u, err := r.URL.Parse("http://" + host + c.path); err == nil {
		r.URL = u
	}
	r.Host = host
	if c.host != "" {
		r.Host = c.host
	}
	maps.Copy(r.Header, c.header)
	return ask(h, r)
}

func post(path string, cookies ...string) call {
	c := call{method: http.MethodPost, path: path}
	c = c.with("User-Agent", userAgent).with(peerHeader, peer).with("X-Forwarded-Proto", "https")
	if len(cookies) > 0 {
		c = c.with("Cookie", strings.Join(cookies, "; "))
	}
	return c
}

func refreshCall(cookies ...string) call { return post("/auth/session/refresh", cookies...) }
func signOutCall(cookies ...string) call { return post("/auth/signout", cookies...) }

func apiCall(method, path, body string) call {
	c := call{method: method, path: path, body: body}.with("Authorization", "Bearer "+apiKey)
	if body != "" {
		c = c.with("Content-Type", "application/json")
	}
	return c
}

// answer is what a client gets.
type answer struct {
	StatusCode int
	Header     http.Header
	Body       string
}

func (a *answer) Cookies() []*http.Cookie {
	var cookies []*http.Cookie
	for _, line := range a.Header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil {
			cookies = append(cookies, c)
		}
	}
	return cookies
}

func ask(h http.Handler, r *http.Request) *answer {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return &answer{w.Code, w.Header(), w.Body.String()}
}

// want fails unless r has the status and the headers of every answer.
func want(t *testing.T, r *answer, status int) {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", r.StatusCode, status, r.Body)
	}
	if got := r.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

// untouched fails if r changes anything at the client.
func untouched(t *testing.T, r *answer) {
	t.Helper()
	for _, name := range []string{"Set-Cookie", "Id-Refresh-Token", "Front-Token", "Anti-Csrf", "St-Access-Token", "St-Refresh-Token"} {
		if got := r.Header.Values(name); len(got) > 0 {
			t.Errorf("%s: %q, want none", name, got)
		}
	}
}

func wantProblem(t *testing.T, r *answer, status int) problem {
	t.Helper()
	want(t, r, status)
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	var p problem
	if err := json.Unmarshal([]byte(r.Body), &p, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if p.Status != status || p.Title == "" {
		t.Errorf("problem %+v", p)
	}
	return p
}

// jar is what a browser holds after an answer: name → value; "" where deleted.
func jar(r *answer) map[string]string {
	held := map[string]string{}
	for _, c := range r.Cookies() {
		if c.Domain == "" {
			held[c.Name] = c.Value
		}
	}
	return held
}

func wantCleared(t *testing.T, r *answer, names ...string) {
	t.Helper()
	for _, name := range append(names, "sAccessToken", "sRefreshToken") {
		var domains []string
		for _, c := range r.Cookies() {
			if c.Name != name {
				continue
			}
			path := "/"
			if name == "sRefreshToken" {
				path = "/auth"
			}
			readable := slices.Contains(browser.SDKCookieNames(), name)
			if c.Value != "" || c.MaxAge >= 0 || c.Path != path || c.HttpOnly == readable || c.Secure == readable {
				t.Errorf("cookie is not deleted: %s", c)
			}
			domains = append(domains, c.Domain)
		}
		slices.Sort(domains)
		if want := []string{"", "app.eu.example.com", "eu.example.com", "example.com"}; !slices.Equal(domains, want) {
			t.Errorf("%s is deleted on %q, want %q", name, domains, want)
		}
	}
}

func (b *bench) create(t *testing.T, body string) createResponse {
	t.Helper()
	r := do(b.internal, apiCall(http.MethodPost, "/v1/sessions", body))
	want(t, r, http.StatusCreated)
	var c createResponse
	if err := json.Unmarshal([]byte(r.Body), &c, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *bench) signIn(t *testing.T) createResponse {
	t.Helper()
	return b.create(t, `{"user_id":"u1"}`)
}

func (b *bench) alive(t *testing.T, handle string) bool {
	t.Helper()
	r := do(b.internal, apiCall(http.MethodGet, "/v1/sessions/"+handle, ""))
	return r.StatusCode == http.StatusOK
}

func refreshCookie(token string) string { return "sRefreshToken=" + token }
func accessCookie(token string) string  { return "sAccessToken=" + token }

// doRaw is do with a path that is not resolved against anything.
func doRaw(h http.Handler, c call, path string) *answer {
	r := httptest.NewRequestWithContext(context.Background(), c.method, "/", nil)
	r.URL.Path, r.RequestURI, r.Host = path, path, host
	r.Header = c.header
	return ask(h, r)
}
