package envoy_test

// What a client can say of Connection where it asks for an upgrade. A proxy drops each header that Connection names (RFC 9110 §7.6.1). So a
// client that names x-session-user-id there would have a proxy between Envoy and the app drop the identity that sessiongate set.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// rawApp keeps the lines of each request's head as they came, and echoes what follows an upgrade.
type rawApp struct {
	address string
	heads   chan []string
}

func newRawApp(t *testing.T) *rawApp {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &rawApp{address: listener.Addr().String(), heads: make(chan []string, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go a.answer(connection)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return a
}

func (a *rawApp) answer(connection net.Conn) {
	defer func() { _ = connection.Close() }()
	in := bufio.NewReader(connection)
	lines := textproto.NewReader(in)
	var head []string
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return // Envoy's connection, without a request
		}
		if line == "" {
			break
		}
		head = append(head, line)
	}
	a.heads <- head
	if !slices.ContainsFunc(head, func(line string) bool { return strings.HasPrefix(strings.ToLower(line), "upgrade:") }) {
		_, _ = io.WriteString(connection, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		return
	}
	_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	_, _ = io.Copy(connection, in)
}

// field is each value of a header among the lines of a head.
func field(head []string, name string) (values []string) {
	for _, line := range head {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// identified runs the shipped file in front of a raw app, with a check that says who it is.
func identified(t *testing.T, edit func(*hcmv3.HttpConnectionManager)) (*envoyrun.Proxy, *rawApp) {
	t.Helper()
	app := newRawApp(t)
	check, endpoint := newCheck(t)
	check.say(setting("x-session-user-id", "u1", "x-session-handle", "h1"))
	options := nowhere()
	options.Clusters["app"], options.Clusters["sessiongate_authz"] = []string{app.address}, []string{endpoint}
	options.Edit = typed.Edit(func(bootstrap *bootstrapv3.Bootstrap) error {
		if err := patient(bootstrap); err != nil || edit == nil {
			return err
		}
		return typed.EditConnectionManager(bootstrap, "ingress", func(manager *hcmv3.HttpConnectionManager) error {
			edit(manager)
			return nil
		})
	})
	return start(t, options), app
}

func dialIngress(t *testing.T, proxy *envoyrun.Proxy) net.Conn {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(proxy.URL("ingress"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func TestClientsCannotNameHeadersHopByHop(t *testing.T) {
	t.Parallel()
	proxy, app := identified(t, nil)
	const socket = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for name, test := range map[string]struct {
		lines   string
		upgrade bool // the app is asked for one
	}{
		"as browsers send it":   {"Connection: Upgrade\r\nUpgrade: websocket\r\n", true},
		"as Firefox sends it":   {"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", true},
		"the user":              {"Connection: Upgrade, x-session-user-id\r\nUpgrade: websocket\r\n", true},
		"first":                 {"Connection: X-Session-Handle,upgrade\r\nUpgrade: websocket\r\n", true},
		"among others":          {"Connection: keep-alive, Upgrade, X-Session-Handle, cookie\r\nUpgrade: WebSocket\r\n", true},
		"tabs":                  {"Connection:\tUPGRADE\t,\tx-session-user-id\t\r\nUpgrade:\twebsocket\r\n", true},
		"a second line":         {"Connection: Upgrade\r\nConnection: x-session-user-id\r\nUpgrade: websocket\r\n", true},
		"a line before":         {"connection: x-session-user-id\r\nUpgrade: websocket\r\nCONNECTION: upgrade\r\n", true},
		"empty elements":        {"Connection: ,,Upgrade,,x-session-user-id,,\r\nUpgrade: websocket\r\n", true},
		"close":                 {"Connection: close, Upgrade, x-session-user-id\r\nUpgrade: websocket\r\n", true},
		"no upgrade":            {"Connection: close, x-session-user-id\r\n", false},
		"an upgrade of no name": {"Connection: Upgrade, x-session-user-id\r\n", false},
		"Upgrade not named":     {"Connection: x-session-user-id\r\nUpgrade: websocket\r\n", false},
		"h2c":                   {"Connection: Upgrade, HTTP2-Settings, x-session-user-id\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n", false},
		"Proxy-Connection":      {"Connection: Upgrade\r\nProxy-Connection: x-session-user-id\r\nUpgrade: websocket\r\n", true},
		"Keep-Alive beside it":  {"Connection: Upgrade, Keep-Alive\r\nKeep-Alive: x-session-user-id\r\nUpgrade: websocket\r\n", true},
		"Upgrade on both lines": {"Connection: Upgrade\r\nConnection: Upgrade, x-session-claims\r\nUpgrade: websocket\r\n", true},
	} {
		connection := dialIngress(t, proxy)
		if _, err := fmt.Fprintf(connection, "GET /api/socket HTTP/1.1\r\nHost: h\r\n%s%s\r\n", socket, test.lines); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(connection)
		status, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := map[bool]string{true: "HTTP/1.1 101 ", false: "HTTP/1.1 204 "}[test.upgrade]; !strings.HasPrefix(status, want) {
			t.Errorf("%s: %q, want %q", name, status, want)
			continue
		}
		head := <-app.heads
		var want []string
		if test.upgrade {
			want = []string{"Upgrade"}
		}
		if got := field(head, "connection"); !slices.Equal(got, want) {
			t.Errorf("%s: the app sees Connection %q, want %q", name, got, want)
		}
		if got := field(head, "x-session-user-id"); !slices.Equal(got, []string{"u1"}) {
			t.Errorf("%s: the app sees user %q", name, got)
		}
		for _, other := range []string{"proxy-connection", "keep-alive"} {
			if got := field(head, other); got != nil {
				t.Errorf("%s: the app sees %s %q", name, other, got)
			}
		}
		if !test.upgrade {
			continue
		}
		for { // the rest of the head
			if line, err := in.ReadString('\n'); err != nil {
				t.Fatalf("%s: %v", name, err)
			} else if line == "\r\n" {
				break
			}
		}
		if _, err := io.WriteString(connection, "hello"); err != nil {
			t.Fatal(err)
		}
		echo := make([]byte, len("hello"))
		if _, err := io.ReadFull(in, echo); err != nil || string(echo) != "hello" {
			t.Errorf("%s: the socket says %q, %v", name, echo, err)
		}
	}
}

// TestSocketsOverHTTP2: with allow_connect, which the shipped file leaves to you, browsers open them by extended CONNECT (RFC 8441). Envoy
// makes it an upgrade before the filters see it.
func TestSocketsOverHTTP2(t *testing.T) {
	t.Parallel()
	proxy, app := identified(t, func(manager *hcmv3.HttpConnectionManager) { manager.GetHttp2ProtocolOptions().AllowConnect = true })
	open := func(more ...hpack.HeaderField) (status, echo string) {
		t.Helper()
		connection := dialIngress(t, proxy)
		if _, err := io.WriteString(connection, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		framer := http2.NewFramer(connection, connection)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for _, f := range append([]hpack.HeaderField{
			{Name: ":method", Value: "CONNECT"},
			{Name: ":protocol", Value: "websocket"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: "/api/socket"},
			{Name: ":authority", Value: "h"},
			{Name: "sec-websocket-version", Value: "13"},
		}, more...) {
			if err := encoder.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		for {
			frame, err := framer.ReadFrame()
			if errors.Is(err, io.EOF) {
				return "refused", ""
			} else if err != nil {
				t.Fatal(err)
			}
			switch frame := frame.(type) {
			case *http2.MetaHeadersFrame:
				if status = frame.PseudoValue("status"); status != "200" {
					return status, ""
				}
				if err := framer.WriteData(1, false, []byte("hello")); err != nil {
					t.Fatal(err)
				}
			case *http2.DataFrame:
				if echo += string(frame.Data()); len(echo) >= len("hello") {
					return status, echo
				}
			case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				return "refused", ""
			}
		}
	}
	if status, echo := open(); status != "200" || echo != "hello" {
		t.Fatalf("%s, and the socket says %q", status, echo)
	}
	head := <-app.heads
	if got := field(head, "connection"); len(got) != 1 || got[0] != "Upgrade" {
		t.Errorf("the app sees Connection %q", got)
	}
	if got := field(head, "x-session-user-id"); !slices.Equal(got, []string{"u1"}) {
		t.Errorf("the app sees user %q", got)
	}
	// HTTP/2 has no such header, and Envoy refuses one.
	if status, _ := open(hpack.HeaderField{Name: "connection", Value: "Upgrade, x-session-user-id"}); status == "200" {
		t.Errorf("with Connection: %s, and the app sees %q", status, <-app.heads)
	}
}
