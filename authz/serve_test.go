package authz

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

// dial serves g and connects to it in memory.
func dial(tb testing.TB, g *gate, ready func() bool) *grpc.ClientConn {
	tb.Helper()
	return connect(tb, NewGRPCServer(g.server, ready, DefaultLimits()))
}

func connect(tb testing.TB, server *grpc.Server) *grpc.ClientConn {
	tb.Helper()
	listener := bufconn.Listen(1 << 20)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///gate",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			tb.Errorf("serving: %v", err)
		}
	})
	return conn
}

func TestServeOverGRPC(t *testing.T) {
	g := newGate(t)
	client := authv3.NewAuthorizationClient(dial(t, g, g.engine.Ready))
	for _, tt := range []struct {
		ask    ask
		status int
		user   string
	}{
		{navigation.cookie(access(g.alice)), 0, "alice"},
		{navigation.cookie(access(g.alice)), 0, "alice"},
		{script.cookie(access(g.expired)), 440, ""},
		{navigation, 302, ""},
	} {
		response, err := client.Check(t.Context(), tt.ask.raw())
		if err != nil {
			t.Fatal(err)
		}
		if r := read(t, response); r.status != tt.status || r.user != tt.user {
			t.Errorf("got %d %q, want %d %q", r.status, r.user, tt.status, tt.user)
		}
	}
}

// The answer to a session is shared by all its Checks.
func TestManyChecksAtOnce(t *testing.T) {
	g := newGate(t)
	client := authv3.NewAuthorizationClient(dial(t, g, g.engine.Ready))
	request := navigation.cookie(access(g.alice)).raw()
	var group errgroup.Group
	for range 16 {
		group.Go(func() error {
			for range 20 {
				response, err := client.Check(t.Context(), request)
				if err != nil {
					return err
				}
				if r := read(t, response); r.user != "alice" {
					t.Errorf("got %d %q", r.status, r.user)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMessageLimit(t *testing.T) {
	g := newGate(t)
	client := authv3.NewAuthorizationClient(dial(t, g, g.engine.Ready))
	huge := navigation.with("accept", string(make([]byte, DefaultLimits().MaxMessage+1)))
	if _, err := client.Check(t.Context(), huge.raw()); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

// A connection is told its limits, and a client that sends nothing is disconnected.
func TestConnectionLimits(t *testing.T) {
	g := newGate(t)
	limits := DefaultLimits()
	limits.MaxStreams, limits.Handshake = 7, 50*time.Millisecond
	server := NewGRPCServer(g.server, g.engine.Ready, limits)
	listener := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := listener.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	framer := http2.NewFramer(conn, conn)
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	got := map[http2.SettingID]uint32{}
	_ = frame.(*http2.SettingsFrame).ForeachSetting(func(s http2.Setting) error {
		got[s.ID] = s.Val
		return nil
	})
	if got[http2.SettingMaxConcurrentStreams] != 7 || got[http2.SettingMaxHeaderListSize] != headerListMax {
		t.Errorf("told %v", got)
	}
	for err == nil { // the peer goes on to say nothing
		_, err = framer.ReadFrame()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("ended by %v", err)
	}
}

func TestHealthFollowsReadiness(t *testing.T) {
	var ready atomic.Bool
	client := healthv1.NewHealthClient(dial(t, newGate(t), ready.Load))
	for _, want := range []bool{false, true, false} {
		ready.Store(want)
		for _, service := range []string{"", "envoy.service.auth.v3.Authorization"} {
			r, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil || (r.GetStatus() == healthv1.HealthCheckResponse_SERVING) != want {
				t.Errorf("%q: %v %v, want %v", service, r, err, want)
			}
		}
	}
	if _, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("unknown service: %v", err)
	}
}

func BenchmarkCheckAllow(b *testing.B) {
	g := newGate(b)
	browser := navigation.cookie(access(g.alice)).with("user-agent", "Mozilla/5.0", "x-request-id", "00000000-0000-0000-0000-000000000000").
		under("session", "required", "on_unauthorised", "auto")
	app := script.with("user-agent", "app/1.0", "authorization", "Bearer "+g.header.Access.Reveal()).under("session", "required", "on_unauthorised", "auto")
	for name, c := range map[string]*authv3.CheckRequest{
		"raw": browser.raw(), "mapped": browser.mapped(), "bearer": app.mapped(),
		"claim": browser.under("session", "required", "require.role", "admin").mapped(),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r, _ := g.server.Check(context.Background(), c); r.GetStatus().GetCode() != 0 {
					b.Fatal("denied")
				}
			}
		})
	}
	tabled := newGate(b, func(c *Config) { c.Routes = largeTable() })
	b.Run("table of 501", func(b *testing.B) {
		a := navigation
		a.path = "/Page/of/some/depth?q=1"
		c := a.cookie(access(tabled.alice)).with("user-agent", "Mozilla/5.0").mapped()
		b.ReportAllocs()
		for b.Loop() {
			if r, _ := tabled.server.Check(context.Background(), c); r.GetStatus().GetCode() != 0 {
				b.Fatal("denied")
			}
		}
	})
}

// countedConn is a connection whose address counts what is under way, as a listener's may.
type countedConn struct {
	net.Conn

	begun, ended atomic.Int32
	closed       atomic.Bool
}

func (c *countedConn) Begin() bool { c.begun.Add(1); return !c.closed.Load() }
func (c *countedConn) End()        { c.ended.Add(1) }

type countedAddr struct {
	net.Addr
	Counted
}

func (c *countedConn) RemoteAddr() net.Addr { return countedAddr{c.Conn.RemoteAddr(), c} }

type countedListener struct {
	net.Listener

	accepted chan *countedConn
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &countedConn{Conn: conn}
	l.accepted <- c
	return c, nil
}

// A connection learns of each call, once it is whole, and of its end. One that was closed meanwhile begins none.
func TestConnectionIsToldOfCalls(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	var calls atomic.Int32
	server := NewGRPCServer(newGate(t).server, func() bool {
		if calls.Add(1) > 1 {
			return true // on a closed connection
		}
		<-asked
		asked <- struct{}{}
		return true
	}, DefaultLimits())
	memory := bufconn.Listen(1 << 20)
	listener := countedListener{memory, make(chan *countedConn, 1)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///gate", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return memory.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	health := healthv1.NewHealthClient(conn)
	answered := make(chan error, 1)
	go func() { _, err := health.Check(t.Context(), new(healthv1.HealthCheckRequest)); answered <- err }()
	counted := <-listener.accepted
	asked <- struct{}{}
	if b, e := counted.begun.Load(), counted.ended.Load(); b != 1 || e != 0 {
		t.Errorf("under way: begun %d, ended %d", b, e)
	}
	<-asked
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if e := counted.ended.Load(); e != 1 {
		t.Errorf("answered: ended %d", e)
	}
	counted.closed.Store(true)
	if _, err := health.Check(t.Context(), new(healthv1.HealthCheckRequest)); status.Code(err) != codes.Unavailable {
		t.Errorf("on a closed one: %v", err)
	}
	if b, e := counted.begun.Load(), counted.ended.Load(); b != 2 || e != 1 {
		t.Errorf("on a closed one: begun %d, ended %d", b, e)
	}
}

func TestForgottenLimits(t *testing.T) {
	t.Parallel()
	for _, forgotten := range []Limits{{}, {MaxMessage: -1, MaxCalls: -1, ConnectionAge: -1, ConnectionAgeGrace: -1, Handshake: -1}} {
		if got := forgotten.orDefault(); got != DefaultLimits() {
			t.Errorf("%+v", got)
		}
	}
	own := Limits{1, 2, 3, 4, 5, 6, 7, 8, 9}
	if got := own.orDefault(); got != own {
		t.Errorf("%+v", got)
	}
}

// BenchmarkAnswer is a Check of a valid token without gRPC: from the bytes of the question
// to those of the answer.
func BenchmarkAnswer(b *testing.B) {
	g := newGate(b)
	browser := navigation.cookie(access(g.alice)).with("user-agent", "Mozilla/5.0", "x-request-id", "00000000-0000-0000-0000-000000000000")
	for name, c := range map[string]*authv3.CheckRequest{"raw": browser.raw(), "mapped": browser.mapped()} {
		b.Run(name, func(b *testing.B) {
			wire, err := proto.Marshal(c)
			if err != nil {
				b.Fatal(err)
			}
			read := func(v any) error { return newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, v) }
			b.ReportAllocs()
			for b.Loop() {
				a, err := handleCheck(g.server, context.Background(), read, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := newCodec().Marshal(a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
