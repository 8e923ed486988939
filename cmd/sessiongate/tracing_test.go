package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// otlpCollector receives spans as OTLP over HTTP.
type otlpCollector struct {
	*httptest.Server

	mu       sync.Mutex
	exported bytes.Buffer // all bytes, as they came
	header   http.Header
	spans    []*tracepb.Span
}

func newCollector(t *testing.T) *otlpCollector {
	t.Helper()
	c := new(otlpCollector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request coltracepb.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/tenant/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(body, &request) != nil {
			t.Errorf("exported to %s as %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.exported.Write(body)
		c.header = r.Header
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// named are the spans of a name.
func (c *otlpCollector) named(name string) []*tracepb.Span {
	return slices.DeleteFunc(slices.Clone(c.spans), func(s *tracepb.Span) bool { return s.GetName() != name })
}

// attributes are a span's, as text.
func attributes(s *tracepb.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.GetAttributes() {
		text := a.GetValue().GetStringValue()
		if text == "" {
			text = strings.TrimPrefix(a.GetValue().String(), "int_value:")
		}
		all[a.GetKey()] = text
	}
	return all
}

const (
	traceSampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	traceUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b8-00"
)

// post sends a request and returns status and body.
func (s *served) post(listener, path, body string, headers ...string) (int, []byte) {
	s.Helper()
	return s.send(http.MethodPost, listener, "app.example", path, body, headers...)
}

// traceable is a process that is ready, with a database.
func traceable(t *testing.T, more ...string) *served {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := c.CreateDatabase(t.Context(), "traces", ""); err != nil {
		t.Fatal(err)
	}
	s := serving(t, nil, withoutDatabase(append([]string{"SESSIONGATE_DATABASE_URL=" + c.URL("traces")}, more...)...)...)
	for status := 0; status != http.StatusOK; status, _ = s.ask("internal", "h", "/readyz") {
		time.Sleep(10 * time.Millisecond)
	}
	return s
}

// create is a sign-in of a client that sends its tokens in headers.
func (s *served) create(headers ...string) (access, refresh string) {
	s.Helper()
	status, text := s.post("internal", "/v1/sessions", `{"user_id":"alice","transport":"header"}`,
		append([]string{"Authorization", "Bearer " + testKey, "Content-Type", "application/json"}, headers...)...)
	var created struct {
		Tokens struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
	}
	if err := json.Unmarshal(text, &created); err != nil || status != http.StatusCreated || created.Tokens.Refresh == "" {
		s.Fatalf("creating: %d %s, %v", status, text, err)
	}
	return created.Tokens.Access, created.Tokens.Refresh
}

func TestTracing(t *testing.T) { // not parallel: the exporter reads the environment
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=mine")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	// A poll of the feed that took longer than its bound would be a warning of its own.
	s := traceable(t, "SESSIONGATE_TRACING_OTLP_ENDPOINT="+c.URL+"/tenant", "SESSIONGATE_FEED_BOUND=10s")

	access, refresh := s.create("Traceparent", traceSampled, "Tracestate", "vendor=hush")
	bearer := []string{"St-Auth-Mode", "header", "Authorization", "Bearer " + refresh}
	if status, text := s.post("public", "/auth/session/refresh?hush", "", append(bearer, "Traceparent", traceSampled)...); status != http.StatusOK {
		t.Fatalf("refreshing: %d %s", status, text)
	}
	if status, _ := s.post("public", "/auth/session/refresh", "", "St-Auth-Mode", "header", "Traceparent", traceSampled); status != 440 {
		t.Errorf("refreshing without a token: %d", status)
	}
	// Checks, one of them with a traceparent.
	connection, err := grpc.NewClient("passthrough:authz", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.dial(ctx, "authz") }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	for _, token := range []string{access, "hush"} {
		if _, err := authv3.NewAuthorizationClient(connection).Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Host: "app.example", Path: "/check", Scheme: "https",
				Headers: map[string]string{"authorization": "Bearer " + token, "st-auth-mode": "header", "traceparent": traceSampled},
			}},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	// What is not traced: not sampled by its parent, other paths.
	s.create("Traceparent", traceUnsampled)
	s.post("public", "/nothing", "", "Traceparent", traceSampled)
	s.ask("internal", "h", "/metrics")
	if status, _ := s.post("public", "/auth/signout", "", append(bearer, "Traceparent", traceSampled)...); status != http.StatusOK {
		t.Errorf("signing out: %d", status)
	}
	log := s.stop() // which exports what is left
	if strings.Contains(log, `"WARN"`) || strings.Contains(log, "exported") {
		t.Errorf("the log:\n%s", log)
	}

	var names []string
	for _, span := range c.spans {
		names = append(names, span.GetName())
		if id := span.GetTraceId(); !bytes.Equal(id, []byte("\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36")) {
			t.Errorf("%s belongs to trace %x", span.GetName(), id)
		}
	}
	for name, want := range map[string]map[string]string{
		"POST /v1/sessions":          {"http.route": "/v1/sessions", "http.request.method": "POST", "http.response.status_code": "201"},
		"POST /auth/session/refresh": {"http.route": "/auth/session/refresh", "http.request.method": "POST", "http.response.status_code": "200", "sessiongate.rule": "R3"},
		"POST /auth/signout":         {"http.route": "/auth/signout", "http.request.method": "POST", "http.response.status_code": "200"},
	} {
		all := c.named(name)
		if len(all) == 0 {
			t.Errorf("no span %s among %v", name, names)
			continue
		}
		got := attributes(all[0])
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", name, key, got[key], value)
			}
		}
		if string(all[0].GetParentSpanId()) != "\x00\xf0\x67\xaa\x0b\xa9\x02\xb7" || all[0].GetKind() != tracepb.Span_SPAN_KIND_SERVER {
			t.Errorf("%s: parent %x, kind %s", name, all[0].GetParentSpanId(), all[0].GetKind())
		}
	}
	refreshes := c.named("POST /auth/session/refresh")
	if len(refreshes) != 2 || attributes(refreshes[1])["sessiongate.code"] != "no_token" {
		t.Errorf("refreshes: %v", refreshes)
	}
	if len(c.named("POST /v1/sessions")) != 1 {
		t.Errorf("spans that no one asked for: %v", names)
	}
	get := c.named("store.Rotate")
	if len(get) != 1 || !bytes.Equal(get[0].GetParentSpanId(), refreshes[0].GetSpanId()) || attributes(get[0])["db.system.name"] != "postgresql" {
		t.Errorf("store.Rotate: %v among %v", get, names)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "POST ") && !strings.HasPrefix(name, "store.") {
			t.Errorf("a span %s", name)
		}
	}
	exported := c.exported.Bytes()
	for what, secret := range map[string]string{
		"the access token": access, "the refresh token": refresh, "the API key": testKey, "text of a client": "hush", "the user": "alice", "a check": "/check",
		"the access token's signature": access[strings.LastIndexByte(access, '.')+1:], "the refresh token's beginning": refresh[:min(len(refresh), 40)],
	} {
		if bytes.Contains(exported, []byte(secret)) {
			t.Errorf("%s was exported", what)
		}
	}
	if !bytes.Contains(exported, []byte("deployment.environment.name")) || c.header.Get("X-Tenant") != "mine" {
		t.Errorf("the environment is not taken: %v", c.header)
	}
}

// TestTracingSamplePercent: the percent bounds all requests, those whose client asks for spans
// included. The trace id decides.
func TestTracingSamplePercent(t *testing.T) {
	t.Parallel()
	const (
		low         = "00-4bf92f3577b34da60000000000000001-00f067aa0ba902b7-01" // the ratio reads the last 8 bytes of the id
		high        = "00-4bf92f3577b34da6ffffffffffffffff-00f067aa0ba902b7-01"
		lowUnwanted = "00-4bf92f3577b34da60000000000000001-00f067aa0ba902b7-00"
	)
	for _, test := range []struct {
		percent     string
		parents     []string
		sampled     bool
		ownsTraceID bool // it begins a trace
	}{
		{"0", []string{low}, false, false},
		{"0", []string{high}, false, false},
		{"0", []string{lowUnwanted}, false, false},
		{"0", nil, false, true},
		{"0", []string{low, low}, false, true},
		{"1", []string{low}, true, false},
		{"99", []string{low}, true, false},
		{"1", []string{high}, false, false},
		{"99", []string{high}, false, false},
		{"99", []string{lowUnwanted}, false, false},
		{"100", []string{low}, true, false},
		{"100", []string{high}, true, false},
		{"100", []string{lowUnwanted}, false, false},
		{"100", nil, true, true},
		{"100", []string{low, low}, true, true},
	} {
		config, _ := mustParse(t, `tracing: {otlp_endpoint: "http://127.0.0.1:1", sample_percent: `+test.percent+"}")
		spans, err := newTracing(t.Context(), config, newLogger(io.Discard, config))
		if err != nil {
			t.Fatal(err)
		}
		var span, inner trace.SpanContext
		h := spans.handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			span = trace.SpanContextFromContext(r.Context())
			_, child := spans.tracer.Start(r.Context(), "child")
			defer child.End()
			inner = child.SpanContext()
		}), func(string) bool { return true })
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		request.Header["Traceparent"] = test.parents
		h.ServeHTTP(httptest.NewRecorder(), request)
		if span.IsSampled() != test.sampled || inner.IsSampled() != test.sampled {
			t.Errorf("%s percent, %v: sampled %v, and its child %v", test.percent, test.parents, span.IsSampled(), inner.IsSampled())
		}
		if own := !strings.HasPrefix(span.TraceID().String(), low[3:19]); own != test.ownsTraceID || inner.TraceID() != span.TraceID() {
			t.Errorf("%s percent, %v: trace %s, and its child %s", test.percent, test.parents, span.TraceID(), inner.TraceID())
		}
		spans.stop(t.Context(), 0)
	}
}

// With a collector that is away, or says nothing, requests are answered and the process stops. The log says once that
// spans are lost.
func TestTracingWithoutCollector(t *testing.T) {
	t.Parallel()
	t.Run("silent", withSilentCollector)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	s := traceable(t, "SESSIONGATE_TRACING_OTLP_ENDPOINT=http://"+gone.Addr().String(), "SESSIONGATE_SHUTDOWN_TIMEOUT=2s")
	for range 20 {
		s.create() // which fails where it is not answered
	}
	saysOnce(t, s.stop())
}

// withSilentCollector holds an export until the process has answered and stopped. Each time, the
// export must still be under way: an answer after its end may have waited for it.
func withSilentCollector(t *testing.T) {
	t.Parallel()
	begun, release := make(chan context.Context, 1), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // until then, the server does not see that the exporter gives up
		select {
		case begun <- r.Context():
		default: // a later export
		}
		<-release
	}))
	t.Cleanup(collector.Close)
	t.Cleanup(func() { close(release) }) // before Close, which waits for the handler
	s := traceable(t, "SESSIONGATE_TRACING_OTLP_ENDPOINT="+collector.URL, "SESSIONGATE_SHUTDOWN_TIMEOUT=1s")
	s.create() // which gives the exporter spans
	export := <-begun
	s.create()
	if export.Err() != nil {
		t.Error("a request waited for the export")
	}
	log := s.stop()
	if export.Err() != nil {
		t.Error("the stop waited for the export")
	}
	saysOnce(t, log)
}

func saysOnce(t *testing.T, log string) {
	t.Helper()
	if n := strings.Count(log, "spans cannot be exported"); n != 1 || !strings.Contains(log, `"stopped"`) {
		t.Errorf("said %d times:\n%s", n, log)
	}
}

// TestTracingIsOff: by default nothing is wrapped, so it costs nothing.
func TestTracingIsOff(t *testing.T) { // not parallel: it counts allocations
	c, _ := mustParse(t, "")
	off, err := newTracing(t.Context(), c, nil)
	if err != nil || off != nil {
		t.Fatalf("%v, %v", off, err)
	}
	mux := http.NewServeMux()
	if h := off.handler(mux, nil); h != http.Handler(mux) {
		t.Errorf("a handler is wrapped: %T", h)
	}
	var s sessions.Store = &struct{ sessions.Store }{}
	if got := off.store(s); got != s {
		t.Errorf("a store is wrapped: %T", got)
	}
	observe := off.observe(func(sessionhttp.Observation) {})
	if n := testing.AllocsPerRun(100, func() { observe(t.Context(), sessionhttp.Observation{Route: "/v1/sessions"}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	off.stop(t.Context(), time.Second)
}

// A failure is one line, and so is its end.
func TestExporterSaysFailuresOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	failing := &fakeExporter{err: io.ErrUnexpectedEOF}
	e := &loggedExporter{SpanExporter: failing, log: newLogger(&log, Config{})}
	for _, err := range []error{failing.err, failing.err, nil, nil, failing.err} {
		failing.err = err
		if err := e.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if all := lines(t, &log); len(all) != 3 || all[0]["error"] != "unexpected EOF" || all[1]["level"] != "INFO" {
		t.Errorf("the log: %v", all)
	}
}

type fakeExporter struct {
	sdktrace.SpanExporter

	err error
}

func (f *fakeExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return f.err }
