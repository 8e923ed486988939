package authz

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// gate is a Server over a real engine, and a session of each kind.
type gate struct {
	server          *Server
	engine          *sessions.Engine
	alice, bob      sessions.Issued
	header, expired sessions.Issued
	ended           sessions.Issued
	headerEnded     sessions.Issued
}

// pleaseRefresh is what clients know TRY_REFRESH by.
const pleaseRefresh = "Please call the refresh token endpoint"

func testConfig() Config {
	return Config{
		Cookies: browser.DefaultCookies(), LoginURL: "/login", RefreshPath: "/auth/session/refresh", SignoutPath: "/auth/signout",
		BindPath: "/auth/session/bind", BoundPath: "/auth/session/bound",
		SessionExpiredStatus: 440, AllowedOrigins: []string{"https://partner.example"},
		RefreshAttemptMax: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
}

func newGate(tb testing.TB, change ...func(*Config)) *gate {
	tb.Helper()
	cfg := testConfig()
	for _, f := range change {
		f(&cfg)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	kek, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(secret))
	if err != nil {
		tb.Fatal(err)
	}
	engine := sessions.Defaults()
	engine.KeyEncryptionKey = kek
	// No goroutine of an engine works beside a test: one counts allocations.
	engine.FeedPoll, engine.FeedBound, engine.SweepPause = time.Hour/2, time.Hour, time.Hour
	engine.KeyActivationDelay = 2 * engine.FeedBound
	store := memory.New()
	// A day ago by the store's clock.
	store.Advance(-24 * time.Hour)
	before := sessionstest.StartEngine(tb, store, engine)
	g := &gate{expired: create(tb, before, sessions.NewSession{UserID: "alice"})}
	store.Advance(24 * time.Hour)
	g.engine = sessionstest.StartEngine(tb, store, engine)
	g.alice = create(tb, g.engine, sessions.NewSession{UserID: "alice", Claims: []byte(`{"role":"admin","n":[1,{"x":null}]}`)})
	g.bob = create(tb, g.engine, sessions.NewSession{UserID: "bob"})
	g.header = create(tb, g.engine, sessions.NewSession{UserID: "carol", Transport: sessions.TransportHeader})
	g.ended = create(tb, g.engine, sessions.NewSession{UserID: "dave"})
	if _, err := g.engine.End(tb.Context(), g.ended.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		tb.Fatal(err)
	}
	g.headerEnded = create(tb, g.engine, sessions.NewSession{UserID: "erin", Transport: sessions.TransportHeader})
	if _, err := g.engine.End(tb.Context(), g.headerEnded.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		tb.Fatal(err)
	}
	if g.server, err = New(g.engine, cfg); err != nil {
		tb.Fatal(err)
	}
	return g
}

func create(tb testing.TB, e *sessions.Engine, n sessions.NewSession) sessions.Issued {
	tb.Helper()
	issued, err := e.Create(context.Background(), n)
	if err != nil {
		tb.Fatal(err)
	}
	return issued
}

// aged is an engine whose clock is ahead, and which cannot confirm everything.
type aged struct {
	*sessions.Engine

	by         time.Duration
	checkStore *sessions.Denial
}

func (a aged) Now() time.Time { return a.Engine.Now().Add(a.by) }

func (a aged) CheckStore(context.Context, *sessions.Access) *sessions.Denial { return a.checkStore }

// verifierFunc stands for an engine in a state that takes a cluster to reach.
type verifierFunc func([]string) (*sessions.Access, *sessions.Denial)

func (verifierFunc) CheckStore(context.Context, *sessions.Access) *sessions.Denial { return nil }

func (verifierFunc) Now() time.Time { return time.Now() }

func (f verifierFunc) Verify(_ sessions.Transport, tokens []string) (*sessions.Access, *sessions.Denial) {
	return f(tokens)
}

func denying(d *sessions.Denial) verifierFunc {
	return func([]string) (*sessions.Access, *sessions.Denial) { return nil, d }
}

// ask is a request as a table writes it.
type ask struct {
	method, path string
	headers      [][2]string
	policy       map[string]string
	host, scheme string
}

func (a ask) with(headers ...string) ask {
	all := append([][2]string(nil), a.headers...)
	for pair := range slices.Chunk(headers, 2) {
		all = append(all, [2]string(pair))
	}
	a.headers = all
	return a
}

func (a ask) without(name string) ask {
	a.headers = slices.DeleteFunc(slices.Clone(a.headers), func(h [2]string) bool { return h[0] == name })
	return a
}

func (a ask) under(settings ...string) ask {
	a.policy = map[string]string{}
	for pair := range slices.Chunk(settings, 2) {
		a.policy[pair[0]] = pair[1]
	}
	return a
}

func (a ask) header(name string) bool {
	return slices.ContainsFunc(a.headers, func(h [2]string) bool { return h[0] == name })
}

func (a ask) cookie(value string) ask { return a.with("cookie", value) }

func access(i sessions.Issued) string { return "sAccessToken=" + i.Access.Reveal() }

// The kinds of request that browsers make. "script" is a same-origin fetch.
var (
	navigation = ask{method: "GET", path: "/page?q=1"}.with("accept", "text/html,*/*;q=0.8", "sec-fetch-mode", "navigate", "sec-fetch-site", "none")
	oldBrowser = ask{method: "GET", path: "/page"}.with("accept", "text/html,application/xhtml+xml")
	script     = ask{method: "GET", path: "/api"}.with("accept", "*/*", "sec-fetch-mode", "cors", "sec-fetch-site", "same-origin")
	curl       = ask{method: "GET", path: "/api"}.with("accept", "*/*")
	formPost   = ask{method: "POST", path: "/form"}.with("accept", "text/html", "sec-fetch-mode", "navigate", "sec-fetch-site", "same-origin", "origin", "https://app.example")
	socket     = ask{method: "GET", path: "/ws"}.with("upgrade", "websocket", "connection", "Upgrade")
	events     = ask{method: "GET", path: "/events"}.with("accept", "text/event-stream", "sec-fetch-mode", "cors", "sec-fetch-site", "same-origin")
	image      = ask{method: "GET", path: "/i.png"}.with("accept", "image/*", "sec-fetch-mode", "no-cors", "sec-fetch-site", "same-origin")
)

// raw gives the request as Envoy sends it with encode_raw_headers, mapped
// without.
func (a ask) raw() *authv3.CheckRequest {
	c := a.bare()
	m := &corev3.HeaderMap{}
	for _, h := range a.headers {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
	}
	c.Attributes.Request.Http.HeaderMap = m
	return c
}

func (a ask) mapped() *authv3.CheckRequest {
	c := a.bare()
	m := map[string]string{}
	for _, h := range a.headers {
		if old, ok := m[h[0]]; ok {
			m[h[0]] = old + "," + h[1]
		} else {
			m[h[0]] = h[1]
		}
	}
	c.Attributes.Request.Http.Headers = m
	return c
}

func (a ask) bare() *authv3.CheckRequest {
	host, scheme := a.host, a.scheme
	if host == "" {
		host = "app.example"
	}
	if scheme == "" {
		scheme = "https"
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: a.policy,
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: a.method, Path: a.path, Host: host, Scheme: scheme, Id: "1",
		}},
	}}
}
