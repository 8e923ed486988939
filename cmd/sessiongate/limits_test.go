package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// limited starts the public listener as serve does, with an empty handler behind it.
func limited(t *testing.T, content string, certs Certificates) (address string) {
	t.Helper()
	return limitedBefore(t, content, certs, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
}

func limitedBefore(t *testing.T, content string, certs Certificates, h http.HandlerFunc) (address string) {
	t.Helper()
	c, _ := mustParse(t, `listen: {authz: "127.0.0.1:0", public: "127.0.0.1:0", internal: "127.0.0.1:0", max_connections: 16}`+"\n"+content)
	s, err := listen(t.Context(), c, certs)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.authzListener.Close(), s.internalListener.Close()
	server := newHTTPServer(c, new(atomic.Bool), h)
	done := make(chan error)
	go func() { done <- server.serve(s.publicListener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.publicListener.Addr().String()
}

type rawConn struct {
	*testing.T
	net.Conn

	in *bufio.Reader
}

func dialRaw(t *testing.T, address string) rawConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return rawConn{t, conn, bufio.NewReader(conn)}
}

func (c rawConn) send(text string) {
	c.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.Fatal(err)
	}
}

func (c rawConn) status() int {
	c.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// A flood of connections leaves the other listeners alone; the next one waits where all have a request under way.
func TestConnectionsPerListener(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}), make(chan struct{})
	address := limitedBefore(t, "", Certificates{}, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
		w.WriteHeader(http.StatusNoContent)
	})
	var held []rawConn
	for range 16 {
		c := dialRaw(t, address)
		c.send(get)
		<-arrived
		held = append(held, c)
	}
	waits := dialRaw(t, address) // the kernel takes it
	waits.send(get)
	_ = waits.SetReadDeadline(time.Now().Add(2 * settledAfter * lookPause))
	if _, err := waits.in.Peek(1); err == nil {
		t.Fatal("one connection too many is served")
	}
	select {
	case <-arrived:
		t.Fatal("one request too many is served")
	default:
	}
	_ = waits.SetReadDeadline(time.Time{})
	waits.in.Reset(waits)
	answer <- struct{}{}
	<-arrived // the place of the client that was answered
	for range 16 {
		answer <- struct{}{}
	}
	for _, c := range append(held, waits) { // not one was cut
		if status := c.status(); status != http.StatusNoContent {
			t.Errorf("status %d", status)
		}
	}
}

// Who sends a header byte by byte, or begins a TLS handshake and goes silent, is hung up on.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	certs := publicTLS(t, newAuthority(t))
	for name, test := range map[string]struct {
		certs Certificates
		begin string
	}{
		"nothing":       {Certificates{}, ""},
		"half a header": {Certificates{}, "GET / HTTP/1.1\r\nHost: h\r\nX: "},
		"half a TLS":    {certs, "\x16\x03\x01\x02\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dialRaw(t, limited(t, "http: {read_timeout: 100ms}", test.certs))
			conn.send(test.begin)
			// It ends by itself, with or without a word, while nothing more is sent.
			if _, err := io.Copy(io.Discard, conn.in); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Error(err)
			}
		})
	}
}

func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	address := limited(t, "http: {header_max: 8KiB}", Certificates{})
	const slack = 4096 // that net/http adds
	for size, want := range map[int]int{4 << 10: http.StatusNoContent, 8<<10 + slack: http.StatusRequestHeaderFieldsTooLarge} {
		conn := dialRaw(t, address)
		conn.send("GET / HTTP/1.1\r\nHost: h\r\nCookie: " + strings.Repeat("x", size) + "\r\n\r\n")
		if status := conn.status(); status != want {
			t.Errorf("%d bytes: %d, want %d", size, status, want)
		}
	}
}

func TestIdleLimit(t *testing.T) {
	t.Parallel()
	conn := dialRaw(t, limited(t, "http: {idle_timeout: 1s}", Certificates{}))
	conn.send(get)
	_ = conn.status()
	if _, err := conn.in.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection ended by %v", err)
	}
}
