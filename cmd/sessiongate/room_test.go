package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

type dialer func(context.Context) (net.Conn, error)

// occupy opens more connections than a listener takes (16), says begin on each, and
// keeps it for as long as it may: a connection that is closed comes again, unless its client is deaf.
func occupy(t *testing.T, dial dialer, begin string, deaf bool) {
	t.Helper()
	const attackers = 24
	ctx, stop := context.WithCancel(t.Context())
	var came, all sync.WaitGroup
	came.Add(attackers)
	slowly := rate.NewLimiter(100, attackers) // they share the CPU with the honest clients
	for range attackers {
		all.Go(func() {
			first := sync.OnceFunc(came.Done)
			defer first()
			for slowly.Wait(ctx) == nil {
				c, err := dial(ctx)
				if err != nil {
					continue
				}
				leave := context.AfterFunc(ctx, func() { _ = c.Close() })
				_, _ = io.WriteString(c, begin)
				first()
				if deaf {
					<-ctx.Done()
				}
				_, _ = io.Copy(io.Discard, c)
				leave()
				_ = c.Close()
			}
		})
	}
	came.Wait()
	t.Cleanup(func() { stop(); all.Wait() })
}

const honest = 20

// askedBeside has honest clients ask at once, each on a connection of its own.
func askedBeside(t *testing.T, ask func() error) {
	t.Helper()
	var answered atomic.Int32
	var all sync.WaitGroup
	for range honest {
		all.Go(func() {
			if err := ask(); err != nil {
				t.Error(err)
				return
			}
			answered.Add(1)
		})
	}
	all.Wait()
	if n := answered.Load(); n != honest {
		t.Errorf("%d of %d honest requests were answered", n, honest)
	}
}

// A client that fills a listener and keeps it so, without having anything under way, costs others no answer.
func TestRoomForOthers(t *testing.T) { //nolint:tparallel // one attack at a time
	t.Parallel()
	a := newAuthority(t)
	certs, ours := publicTLS(t, a), issue(t, a, time.Hour)
	shows := client(t, a, &ours)
	const half = " HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf"
	for name, attack := range map[string]struct {
		begin string
		deaf  bool
	}{
		"nothing":                {},
		"half a header":          {begin: "GET / HTTP/1.1\r\nHost: h\r\nX: "},
		"asked once":             {begin: get},
		"half a body":            {begin: "POST /" + half},
		"a body that is unread":  {begin: "POST /unread" + half},
		"an answer that is left": {begin: "GET /large HTTP/1.1\r\nHost: h\r\n\r\n", deaf: true},
	} {
		for protocol, certs := range map[string]Certificates{"plain": {}, "TLS": certs} {
			t.Run(name+", "+protocol, func(t *testing.T) { //nolint:paralleltest // one attack at a time
				address := limitedBefore(t, "http: {read_timeout: 5m}", certs, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/unread" {
						_, _ = io.Copy(io.Discard, r.Body)
					}
					if r.URL.Path == "/large" {
						_, _ = w.Write(make([]byte, 16<<20))
					}
					w.WriteHeader(http.StatusNoContent)
				})
				url, dial := "http://"+address, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) }
				if protocol == "TLS" {
					url = "https://" + address
					dial = func(ctx context.Context) (net.Conn, error) {
						return (&tls.Dialer{Config: shows}).DialContext(ctx, "tcp", address)
					}
				}
				occupy(t, dial, attack.begin, attack.deaf)
				askedBeside(t, func() error {
					transport := &http.Transport{TLSClientConfig: shows}
					defer transport.CloseIdleConnections()
					request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("a body"))
					if err != nil {
						return err
					}
					response, err := transport.RoundTrip(request)
					if err != nil {
						return err
					}
					return response.Body.Close()
				})
			})
		}
	}
}

// The same of the gRPC port.
func TestRoomForOtherChecks(t *testing.T) { //nolint:tparallel // one attack at a time
	t.Parallel()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := c.CreateDatabase(t.Context(), "room", ""); err != nil {
		t.Fatal(err)
	}
	s := serving(t, nil, "SESSIONGATE_DATABASE_URL="+c.URL("room"), "SESSIONGATE_KEY="+testKey, "SESSIONGATE_LISTEN_MAX_CONNECTIONS=16",
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0", "SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0", "SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0")
	begun := func(write func(f *http2.Framer)) string {
		var out bytes.Buffer
		out.WriteString(http2.ClientPreface)
		f := http2.NewFramer(&out, nil)
		_ = f.WriteSettings() // to memory
		write(f)
		return out.String()
	}
	call := func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header(), EndHeaders: true})
	}
	for name, begin := range map[string]string{
		"nothing": "",
		"no call": begun(func(*http2.Framer) {}),
		"half a header": begun(func(f *http2.Framer) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header()})
		}),
		"no message":     begun(call),
		"half a message": begun(func(f *http2.Framer) { call(f); _ = f.WriteData(1, false, []byte{0, 0, 0, 255, 255, 1}) }),
		"asked once":     begun(func(f *http2.Framer) { call(f); _ = f.WriteData(1, true, make([]byte, 5)) }),
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // one attack at a time
			occupy(t, func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, "authz") }, begin, false)
			askedBeside(t, func() error {
				envoy, err := grpc.NewClient(s.addresses["authz"], grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					return err
				}
				defer func() { _ = envoy.Close() }()
				_, err = authv3.NewAuthorizationClient(envoy).Check(t.Context(), new(authv3.CheckRequest))
				return err
			})
		})
	}
}

// A connection that was closed to make room begins nothing more, for its end would be lost. One with work under way is not closed.
func TestRoomIsNotTakenFromWork(t *testing.T) {
	t.Parallel()
	l := newListener(nil, 2, (*certificate)(nil).wrap).connections
	look := func() (made bool) {
		l.looked = time.Time{} // it is time for one
		return l.makeRoom()
	}
	settle := func() {
		for range settledAfter - 1 {
			if look() {
				t.Error("one that has not settled is closed")
			}
		}
	}
	connect := func() *connection {
		_, server := net.Pipe()
		c := &connection{Conn: server, of: l}
		l.add(c)
		return c
	}
	works, first, second := connect(), connect(), connect()
	if !works.Begin() {
		t.Fatal("it is closed")
	}
	settle()
	if l.makeRoom() {
		t.Error("two looks at one time")
	}
	if !look() || first.Begin() {
		t.Error("the one that has rested longest is not closed")
	}
	if !second.Begin() {
		t.Error("more was closed than there had to be")
	}
	for range 2 * settledAfter {
		if look() {
			t.Error("work was cut")
		}
	}
	second.End()
	settle()
	if !look() || second.Begin() || !works.Begin() {
		t.Error("who rests is not closed")
	}
}

// The HTTP listeners speak HTTP/1 alone, whatever TLS is offered: a flood of HTTP/2 is one request, and the end of its connection.
func TestNoHTTP2(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	certs, ours := publicTLS(t, a), issue(t, a, time.Hour)
	shows := client(t, a, &ours)
	secure := limited(t, "", certs)
	withTLS := func(protocols ...string) dialer {
		return func(ctx context.Context) (net.Conn, error) {
			config := shows.Clone()
			config.NextProtos = protocols
			return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", secure)
		}
	}
	if _, err := withTLS("h2")(t.Context()); err == nil || !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("h2 is offered: %v", err)
	}
	plain := limited(t, "", Certificates{})
	for name, dial := range map[string]dialer{
		"plain":           func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", plain) },
		"TLS":             withTLS(),
		"TLS, h2 offered": withTLS("h2", "http/1.1"),
	} {
		for attack, fl := range floods() {
			t.Run(name+", "+attack, func(t *testing.T) {
				t.Parallel()
				conn, err := dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				var out bytes.Buffer
				out.WriteString(http2.ClientPreface)
				f := http2.NewFramer(&out, nil)
				_ = f.WriteSettings()
				for i := range uint32(10) {
					fl(f, i)
				}
				_, _ = conn.Write(out.Bytes()) // it may be closed before that is written
				answer, err := io.ReadAll(conn)
				if err != nil && !strings.Contains(err.Error(), "reset") {
					t.Error(err)
				}
				if n := strings.Count(string(answer), "HTTP/1.1 "); n > 1 || n == 0 && len(answer) > 0 { // the first line is taken for a request
					t.Errorf("%d answers: %.100q", n, answer)
				}
			})
		}
	}
}
