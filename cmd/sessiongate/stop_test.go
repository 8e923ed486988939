package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// served is a process that serves, inside the test's own.
type served struct {
	*testing.T

	addresses map[string]string
	dial      func(ctx context.Context, listener string) (net.Conn, error)
	stop      func() (log string) // and waits
}

// serving serves until it is stopped, with what a caller must have to call.
func serving(t *testing.T, client *tls.Config, environ ...string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		p := process{ctx: ctx, environ: environ, stdout: io.Discard, stderr: writer}
		done <- serveCmd{}.Run(&flags{}, p)
		_ = writer.Close()
	}()
	var log bytes.Buffer
	listening := make(chan map[string]string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			log.Write(lines.Bytes())
			log.WriteByte('\n')
			var line struct {
				Msg       string
				Addresses map[string]string
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				listening <- line.Addresses
			}
		}
	}()
	s := &served{T: t}
	s.stop = sync.OnceValue(func() string {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
		<-read
		return log.String()
	})
	t.Cleanup(func() { s.stop() })
	select {
	case s.addresses = <-listening:
	case err := <-done:
		done <- err
		t.Fatalf("it does not serve: %v\n%s", err, s.stop())
	}
	s.dial = func(ctx context.Context, listener string) (net.Conn, error) {
		network, address := s.where(listener)
		if client == nil {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		return (&tls.Dialer{Config: client}).DialContext(ctx, network, address)
	}
	return s
}

// keepAlive makes one request and leaves its connection open.
func (s *served) keepAlive(listener, path string) {
	s.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, listener) }}
	s.Cleanup(transport.CloseIdleConnections)
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "http://h"+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		s.Error(err)
	}
	_ = response.Body.Close()
}

// silent opens a connection and says nothing: no TLS, where that is spoken.
func (s *served) silent(listener string) {
	s.Helper()
	network, address := s.where(listener)
	connection, err := new(net.Dialer).DialContext(s.Context(), network, address)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = connection.Close() })
}

// where is the address of a listener.
func (s *served) where(listener string) (network, address string) {
	if path, unix := strings.CutPrefix(s.addresses[listener], "unix:"); unix {
		return "unix", path
	}
	return "tcp", s.addresses[listener]
}

// health asks the check's listener, as Envoy does, and leaves the connection open.
func (s *served) health(client *tls.Config) {
	s.Helper()
	security := insecure.NewCredentials()
	dial := s.dial
	if client != nil { // gRPC shakes hands itself
		security = grpccreds.NewTLS(client)
		dial = func(ctx context.Context, listener string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.addresses[listener])
		}
	}
	connection, err := grpc.NewClient("passthrough:authz", grpc.WithTransportCredentials(security),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, "authz") }))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = connection.Close() })
	if _, err := healthv1.NewHealthClient(connection).Check(s.Context(), new(healthv1.HealthCheckRequest)); err != nil {
		s.Fatal(err)
	}
}

// A stop that cuts nothing must not say so: an operator who reads the warning looks for
// a request that was lost.
func TestStopWithNothingUnderWay(t *testing.T) {
	t.Parallel()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := c.CreateDatabase(t.Context(), "stop", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, []string{"SESSIONGATE_DATABASE_URL=" + c.URL("stop")}, "migrate"); err != nil {
		t.Fatal(err)
	}
	ours := newAuthority(t)
	dir := newTLSDir(t, ours).files()
	var inTLS []string
	for _, listener := range []string{"AUTHZ", "PUBLIC", "INTERNAL"} {
		inTLS = append(inTLS, "SESSIONGATE_TLS_"+listener+"_CERT_FILE="+dir.Cert, "SESSIONGATE_TLS_"+listener+"_KEY_FILE="+dir.Key)
	}
	for name, how := range map[string]struct {
		sockets  bool
		settings []string
		client   *tls.Config
	}{
		"plain":   {},
		"TLS":     {settings: inTLS, client: client(t, ours, nil)},
		"sockets": {sockets: true},
	} {
		for state, reach := range map[string]func(s *served){
			"no one came": func(*served) {},
			"idle connections": func(s *served) {
				s.keepAlive("public", "/nothing")
				s.keepAlive("internal", "/healthz")
				s.health(how.client)
			},
			"connections without a word": func(s *served) {
				for listener := range s.addresses {
					s.silent(listener)
				}
			},
			"connections that are over": func(s *served) {
				for listener := range s.addresses {
					connection, err := s.dial(s.Context(), listener)
					if err != nil {
						s.Fatal(err)
					}
					_ = connection.Close()
				}
			},
		} {
			t.Run(name+", "+state, func(t *testing.T) {
				t.Parallel()
				settings := append([]string{
					"SESSIONGATE_DATABASE_URL=" + c.URL("stop"), "SESSIONGATE_KEY=" + testKey, "SESSIONGATE_API_KEYS=app:" + testKey,
					"SESSIONGATE_SHUTDOWN_DRAIN_DELAY=0s", "SESSIONGATE_SHUTDOWN_LINGER=10ms",
					"SESSIONGATE_FEED_BOUND=10s", // a poll that took longer would be a warning of its own
				}, how.settings...)
				sockets, err := os.MkdirTemp("", "sg") // t.TempDir's name may be longer than a socket's may be
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.RemoveAll(sockets) })
				for _, listener := range []string{"AUTHZ", "PUBLIC", "INTERNAL"} {
					address := "127.0.0.1:0"
					if how.sockets && listener == "AUTHZ" { // the one that may
						address = "unix:" + filepath.Join(sockets, listener)
					}
					settings = append(settings, fmt.Sprintf("SESSIONGATE_LISTEN_%s=%s", listener, address))
				}
				s := serving(t, how.client, settings...)
				reach(s)
				log := s.stop()
				for line := range strings.Lines(log) {
					if strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) {
						t.Errorf("a stop says %s", line)
					}
				}
				if !strings.Contains(log, `"msg":"stopped"`) {
					t.Errorf("it did not stop:\n%s", log)
				}
			})
		}
	}
}

// lagging is a listener whose server notices late that it was closed.
type lagging struct {
	net.Listener

	noticed chan struct{}
}

func (l lagging) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		<-l.noticed
	}
	return connection, err
}

// TestStopClosesAListenerTwice: the stop does, and then the server, where it has
// not noticed the first time yet. That is no reason for a warning.
func TestStopClosesAListenerTwice(t *testing.T) {
	t.Parallel()
	s, draining, g := newServers(t)
	late := make(chan struct{})
	s.public.RegisterOnShutdown(func() { close(late) }) // runs after the server has closed its listeners
	s.publicListener.Listener = lagging{s.publicListener.Listener, late}
	s.start(t.Context(), g, func() bool { return true })
	draining.Store(true)
	var log bytes.Buffer
	s.stop(t.Context(), time.Minute, 0, slog.New(slog.NewTextHandler(&log, nil)))
	if err := g.Wait(); err != nil || log.Len() > 0 {
		t.Errorf("serving: %v, the stop says %s", err, &log)
	}
}

// TestStopBeforeTheFirstRequest: a signal may come before the servers have begun.
func TestStopBeforeTheFirstRequest(t *testing.T) {
	t.Parallel()
	s, draining, g := newServers(t)
	draining.Store(true)
	var log bytes.Buffer
	s.stop(t.Context(), time.Minute, 0, slog.New(slog.NewTextHandler(&log, nil)))
	s.start(t.Context(), g, func() bool { return true })
	if err := g.Wait(); err != nil || log.Len() > 0 {
		t.Errorf("serving: %v, the stop says %s", err, &log)
	}
}

// newServers are the three listeners, with nothing behind them.
func newServers(t *testing.T) (*servers, *atomic.Bool, *errgroup.Group) {
	t.Helper()
	c, _ := mustParse(t, `listen: {authz: "127.0.0.1:0", public: "127.0.0.1:0", internal: "127.0.0.1:0"}`)
	s, err := listen(t.Context(), c, Certificates{})
	if err != nil {
		t.Fatal(err)
	}
	draining := new(atomic.Bool)
	s.authz = grpc.NewServer(grpc.ConnectionTimeout(time.Hour)) // who waits for it never ends
	s.public, s.internal = newHTTPServer(c, draining, http.NotFoundHandler()), newHTTPServer(c, draining, http.NotFoundHandler())
	return s, draining, new(errgroup.Group)
}

// TestStopWithSilentConnections: gRPC's own stop would wait for them, for
// connections that have begun TLS alone even when time is up.
func TestStopWithSilentConnections(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		said    string
		timeout time.Duration
		cut     bool
	}{
		"no word":         {"", time.Minute, false},
		"half a greeting": {"PRI * HTTP/2", time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, draining, g := newServers(t)
			s.start(t.Context(), g, func() bool { return true })
			connection := dialRaw(t, s.authzListener.Addr().String())
			connection.send(test.said)
			s.authzListener.connections.await(t, len(test.said) > 0)
			draining.Store(true)
			var log bytes.Buffer
			s.stop(t.Context(), test.timeout, 0, slog.New(slog.NewTextHandler(&log, nil)))
			if err := g.Wait(); err != nil || (log.Len() > 0) != test.cut {
				t.Errorf("serving: %v, the stop says %s", err, &log)
			}
			_, _ = io.Copy(io.Discard, connection) // ends with the connection
		})
	}
}

// await waits until a connection is accepted, and has spoken.
func (l *connections) await(t *testing.T, spoke bool) {
	t.Helper()
	for t.Context().Err() == nil {
		l.mu.Lock()
		for c := range l.open {
			if c.spoke.Load() == spoke {
				l.mu.Unlock()
				return
			}
		}
		l.mu.Unlock()
		runtime.Gosched()
	}
}
