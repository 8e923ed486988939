package authz

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// onWire answers a Check as over gRPC, and returns the answer once the bytes of the request
// have been used again; nil where the request cannot be sent, as a map of headers that are not UTF-8
// cannot. It fails the test where the wire was not read without the generated code.
func onWire(tb testing.TB, s *Server, c *authv3.CheckRequest) *authv3.CheckResponse {
	tb.Helper()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return nil
	}
	if !scans(wire) {
		tb.Errorf("the generated code had to read %v", c)
	}
	q := new(question)
	if err := q.take(mem.SliceBuffer(wire)); err != nil {
		tb.Fatal(err)
	}
	a := s.answer(context.Background(), q)
	q.release()
	for i := range wire {
		wire[i] = '#'
	}
	response := new(authv3.CheckResponse)
	if err := proto.Unmarshal(a.ReadOnlyData(), response); err != nil {
		tb.Fatal(err)
	}
	return response
}

func scans(wire []byte) bool {
	s := scanner{wire: wire, text: string(wire), into: new(question)}
	return s.message(span{0, len(wire)}, checkRequestShape, nestingMax)
}

// whole has a value in every part of a CheckRequest.
func whole() *authv3.CheckRequest {
	address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1}}}}
	about, _ := structpb.NewStruct(map[string]any{"a": 1, "b": []any{true, nil, "x"}, "c": map[string]any{"d": "e"}})
	c := navigation.with("cookie", "a=1", "cookie", "b=2", "authorization", "Bearer x", "x-request-id", "\xff").under("session", "optional").raw()
	at := c.GetAttributes()
	at.Source = &authv3.AttributeContext_Peer{Address: address, Service: "s", Labels: map[string]string{"l": "m"}, Principal: "p", Certificate: "c"}
	at.Destination = &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/p", Mode: 0o600}}}}
	at.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"f": about}}
	at.RouteMetadataContext = &corev3.Metadata{}
	at.TlsSession = &authv3.AttributeContext_TLSSession{Sni: "app.example"}
	at.Request.Time = &timestamppb.Timestamp{Seconds: 1, Nanos: 2}
	http := at.Request.Http
	http.Query, http.Fragment, http.Size, http.Protocol, http.Body, http.RawBody = "q", "f", -1, "HTTP/2", "b", []byte{0xff}
	return c
}

// What Envoy sends is read without the generated code.
func TestScan(t *testing.T) {
	t.Parallel()
	c := whole()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string][]byte{
		"every field":            nil,
		"a field of the future":  protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "\xff"),
		"a number of the future": protowire.AppendVarint(protowire.AppendTag(nil, 98, protowire.VarintType), 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, want := new(question), readRequest(c)
			wire := append(bytes.Clone(wire), more...)
			if !scans(wire) {
				t.Error("it is left to the generated code")
			}
			if err := got.read(wire); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.request, cmp.AllowUnexported(request{})); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.GetAttributes().GetContextExtensions(), got.extensions); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzScan: a message is read, or refused, as by the generated code.
func FuzzScan(f *testing.F) {
	for _, c := range []*authv3.CheckRequest{whole(), {}, navigation.mapped(), script.cookie("a=1").raw(), {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}}} {
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		f.Add(append(bytes.Clone(wire), wire...)) // each field twice
		f.Add(wire[:len(wire)/2])
		f.Add(bytes.ReplaceAll(wire, []byte("cookie"), []byte("COOKIE")))
		f.Add(bytes.ReplaceAll(wire, []byte("app.example"), []byte("app.\xffxample")))
	}
	// A group, a number that is too high, a number in several forms, and deep nesting.
	f.Add(protowire.AppendTag(protowire.AppendTag(nil, 7, protowire.StartGroupType), 7, protowire.EndGroupType))
	f.Add(protowire.AppendVarint(protowire.AppendVarint(nil, uint64(protowire.MaxValidNumber+1)<<3), 1))
	f.Fuzz(func(t *testing.T, wire []byte) {
		c := new(authv3.CheckRequest)
		want := proto.Unmarshal(wire, c)
		got := new(question)
		before := bytes.Clone(wire)
		err := got.take(mem.SliceBuffer(wire))
		if !bytes.Equal(before, wire) {
			t.Fatal("the message was changed")
		}
		if (err == nil) != (want == nil) || err != nil && err.Error() != want.Error() {
			t.Fatalf("%v, the generated code says %v", err, want)
		}
		if err != nil || hasNoOrder(c.GetAttributes().GetRequest().GetHttp().GetHeaders()) {
			return
		}
		if diff := cmp.Diff(readRequest(c), got.request, cmp.AllowUnexported(request{})); diff != "" {
			t.Error(diff)
		}
		if extensions := c.GetAttributes().GetContextExtensions(); len(extensions)+len(got.extensions) > 0 {
			if diff := cmp.Diff(extensions, got.extensions); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// hasNoOrder says whether names of a map differ only in case. Their values are joined in any order.
func hasNoOrder(headers map[string]string) bool {
	seen := map[string]bool{}
	for name := range headers {
		if lower := strings.ToLower(name); seen[lower] {
			return true
		}
		seen[strings.ToLower(name)] = true
	}
	return false
}

// keeper is a log that keeps what it is given.
type keeper struct{ records []slog.Record }

func (*keeper) Enabled(context.Context, slog.Level) bool { return true }
func (k *keeper) Handle(_ context.Context, r slog.Record) error {
	k.records = append(k.records, r)
	return nil
}
func (k *keeper) WithAttrs([]slog.Attr) slog.Handler { return k }
func (k *keeper) WithGroup(string) slog.Handler      { return k }

// The bytes of a request are used again for other requests. A log that keeps its lines keeps their words.
func TestLogKeepsItsWords(t *testing.T) {
	t.Parallel()
	log := new(keeper)
	g := newGate(t, func(c *Config) { c.Log = slog.New(log) })
	for _, a := range []ask{
		navigation.cookie(access(g.alice)).with("traceparent", goodTrace, "x-request-id", "8d3f1a9e"),
		navigation.with("traceparent", goodTrace),
		navigation.cookie(access(g.alice)).under("require.secret", "yes"),
		navigation.under("sesion", "optional"),
		script.cookie(access(g.ended)),
	} {
		onWire(t, g.server, a.raw())
	}
	for _, r := range log.records {
		r.Attrs(func(a slog.Attr) bool {
			if strings.Contains(a.Value.String(), "##") {
				t.Errorf("%s is now %q", a.Key, a.Value)
			}
			return true
		})
	}
	if len(log.records) != 5 {
		t.Errorf("%d lines", len(log.records))
	}
}
