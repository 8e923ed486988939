package sessiondev

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sessiongate/sessiongate/internal/envoyrun"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// recorder denies every request, and keeps what it is asked.
type recorder struct {
	authv3.UnimplementedAuthorizationServer
	healthv1.UnimplementedHealthServer

	asked chan *authv3.CheckRequest
}

func (r *recorder) Check(_ context.Context, c *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	r.asked <- c
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(code.Code_PERMISSION_DENIED)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden}},
		},
	}, nil
}

type serving struct {
	healthv1.UnimplementedHealthServer
}

func (serving) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

// TestCheckRequest: of each request, the real Envoy with the shipped envoy.yaml asks what this package asks.
func TestCheckRequest(t *testing.T) {
	t.Parallel()
	r := &recorder{asked: make(chan *authv3.CheckRequest, 1)}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, r)
	healthv1.RegisterHealthServer(server, serving{})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	const none = "127.0.0.1:1" // a port at which nothing listens
	proxied, err := envoyrun.Start(t.Context(), envoyrun.Options{
		Listeners: map[string]string{"ingress": "127.0.0.1:0"},
		Clusters:  map[string][]string{"sessiongate_authz": {listener.Addr().String()}, "sessiongate_public": {none}, "app": {none}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxied.Stop() })

	ours := make(chan *authv3.CheckRequest, 1)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		if asked, status := read(in); status == 0 {
			ours <- checkRequest(asked)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(front.Close)

	for _, text := range []string{
		"GET /",
		"GET /orders?page=2&x=%2f|Accept: text/html,*/*;q=0.8|Upgrade-Insecure-Requests: 1|Sec-Fetch-Dest: document|Sec-Fetch-Mode: navigate|Sec-Fetch-Site: none|Sec-Fetch-User: ?1|Cookie: theme=dark",
		"GET /api/orders|Accept: application/json|Content-Type: application/json|Referer: http://shop.example.com/orders|Sec-Fetch-Dest: empty|Sec-Fetch-Mode: cors|Sec-Fetch-Site: same-origin",
		"POST /x|Content-Length: 3||abc",
		"POST /x|Transfer-Encoding: chunked||3\r\nabc\r\n0\r\n\r\n",
		"PATCH /a/../b//c/%41%2e|Authorization: Bearer x|Authorization: Bearer y|Anti-Csrf: a|Anti-Csrf: b",
		"GET /|Cookie: a=1|Cookie: b=2; c=\xff|Origin: http://a|Origin: http://b|Accept: x|Accept: y|Referer: http://a|Referer: http://b",
		"GET /|X-Session-User-Id: root|X-Sessiongate-Peer: 1|X-Forwarded-Proto: https|X-Forwarded-For: 1.2.3.4|X-Request-Id: x|Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"GET /|Connection: Upgrade|Upgrade: websocket|Origin: http://shop.example.com|Sec-Fetch-Mode: websocket",
		"GET /|Upgrade: websocket", "GET /|Connection: cookie|Cookie: a=1",
		"GET /|Rid: 1|St-Auth-Mode: cookie|Supertokens-Sdk-Name: web|X-Requested-With: XMLHttpRequest|Sec-Purpose: prefetch|Access-Control-Request-Method: PUT|User-Agent: u|X-Foo: 1",
		"OPTIONS /|Access-Control-Request-Method: PUT", "HEAD /", "GET http://other.example/x?y", "GET /?", "GET /|Accept:|Origin:",
		"GET /|Referer: one,two", "GET /|Referer: a:b", "GET /|Referer: /a:b", "GET /|Referer: http://a b/", "GET /|Referer: http://a/ b", "GET /|Referer:", "GET /|Referer: about:blank",
		"GET /|Referer: https://shop.example.com:8443/x?y=%2f#z", "GET /|Referer: http://", "GET /|Referer: http://[::1]/", "GET /|Referer: <x>", "GET /|Referer: http://a/\xff",
		"GET /|Referer: http://u:p@a/", "GET /|Referer: //a/b", "GET /|Referer: android-app://com.example/",
	} {
		want := askBytes(t, strings.TrimPrefix(proxied.URL("ingress"), "http://"), text, r.asked)
		got := askBytes(t, front.Listener.Addr().String(), text, ours)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%q (-envoy +sessiondev):\n%s", text, diff)
		}
	}
}

// askBytes sends a request and returns what was asked about it, without what no two requests have equal.
func askBytes(t *testing.T, address, text string, asked <-chan *authv3.CheckRequest) *authv3.CheckRequest {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	head, body, _ := strings.Cut(text, "||")
	lines := strings.Split(head, "|")
	_, _ = io.WriteString(conn, lines[0]+" HTTP/1.1\r\nHost: shop.example.com\r\n"+strings.Join(append(lines[1:], ""), "\r\n")+"\r\n"+body)
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: strings.Fields(text)[0]})
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	var c *authv3.CheckRequest
	select {
	case c = <-asked:
	default:
		t.Fatalf("%q: %d, and nothing was asked", text, response.StatusCode)
	}
	attributes := c.GetAttributes()
	attributes.ContextExtensions = nil
	for _, peer := range []*authv3.AttributeContext_Peer{attributes.GetSource(), attributes.GetDestination()} {
		at := peer.GetAddress().GetSocketAddress()
		if at.GetPortValue() == 0 {
			t.Errorf("%q: there is no port", text)
		}
		at.PortSpecifier = nil
	}
	if attributes.GetRequest().GetTime() == nil || attributes.GetRequest().GetHttp().GetId() == "" {
		t.Errorf("%q: there is no time, or no id", text)
	}
	attributes.Request.Time, attributes.Request.Http.Id = nil, ""
	for _, h := range attributes.GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
		if h.GetKey() == "x-request-id" {
			if !browser.IsRequestID(string(h.GetRawValue())) {
				t.Errorf("%q: x-request-id is %q", text, h.GetRawValue())
			}
			h.RawValue = nil
		}
	}
	sortHeaders(attributes.GetRequest().GetHttp().GetHeaderMap())
	return c
}

// sortHeaders gives the lines an order, in which those of one name stay as they are.
func sortHeaders(m *corev3.HeaderMap) {
	for i := range m.GetHeaders() {
		for j := i; j > 0 && m.GetHeaders()[j].GetKey() < m.GetHeaders()[j-1].GetKey(); j-- {
			m.Headers[j], m.Headers[j-1] = m.GetHeaders()[j-1], m.GetHeaders()[j]
		}
	}
}
