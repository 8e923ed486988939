package authz

import (
	"cmp"
	"context"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Limits bound what a connection may cost. Start from [DefaultLimits]. A limit that is
// not positive is the default: forgetting one must not remove the bound.
type Limits struct {
	// MaxMessage is the largest CheckRequest that is read, in bytes.
	MaxMessage int
	// MaxStreams is how many Checks one connection may have under way.
	MaxStreams uint32
	// MaxCalls is how many all connections may have under way together. Beyond it each
	// connection may still have a few.
	MaxCalls int
	// ConnectionAge is when a connection is closed gently, so that Envoy finds new
	// replicas. ConnectionAgeGrace is the time that calls under way get then.
	ConnectionAge, ConnectionAgeGrace time.Duration
	// Handshake is the time that a connection gets to begin HTTP/2, and TLS where that
	// is spoken. A client that connects and sends nothing is disconnected then.
	Handshake time.Duration
	// StreamWorkers is how many goroutines wait for calls, over all connections. A call that
	// finds none free gets a goroutine of its own, whose stack must grow first: a fifth of
	// what a Check costs.
	StreamWorkers uint32
	// ReadBuffer and WriteBuffer are how many bytes one read or write of a connection takes at
	// most. ReadBuffer bounds how many calls one read can begin. After a read, the goroutines
	// that serve the calls get their turn. So a greater one makes a flood of calls that are
	// reset at once cost more memory; a smaller one makes more reads and writes.
	ReadBuffer, WriteBuffer int
}

// DefaultLimits is enough for Envoy's own default limits on requests.
func DefaultLimits() Limits {
	return Limits{
		MaxMessage: 256 << 10, MaxStreams: 1000, MaxCalls: 8192, ConnectionAge: 5 * time.Minute, ConnectionAgeGrace: time.Minute,
		Handshake: 10 * time.Second, StreamWorkers: 64, ReadBuffer: 32 << 10, WriteBuffer: 32 << 10,
	}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{
		MaxMessage: positive(l.MaxMessage, d.MaxMessage), MaxStreams: positive(l.MaxStreams, d.MaxStreams), MaxCalls: positive(l.MaxCalls, d.MaxCalls),
		ConnectionAge: positive(l.ConnectionAge, d.ConnectionAge), ConnectionAgeGrace: positive(l.ConnectionAgeGrace, d.ConnectionAgeGrace),
		Handshake: positive(l.Handshake, d.Handshake), StreamWorkers: positive(l.StreamWorkers, d.StreamWorkers),
		ReadBuffer: positive(l.ReadBuffer, d.ReadBuffer), WriteBuffer: positive(l.WriteBuffer, d.WriteBuffer),
	}
}

func positive[N cmp.Ordered](n, otherwise N) N {
	if n > *new(N) {
		return n
	}
	return otherwise
}

const (
	// shortestPing is how often Envoy may ping (connection_keepalive). By itself
	// grpc-go closes a connection that pings more often than every 5 minutes.
	shortestPing = 5 * time.Second
	// pingAfter and pingTimeout detect an Envoy that vanished without closing.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
	// headerListMax bounds the gRPC metadata of one call, in bytes as RFC 9113
	// §6.5.2 counts them. The request to check is in the message.
	headerListMax = 32 << 10
)

// NewGRPCServer returns a server of Check and of the gRPC health protocol
// (grpc.health.v1). The caller gives it a listener and stops it. Its health is what ready
// says when a client asks: ready must be false before the first keys and feed were read,
// and during drain.
func NewGRPCServer(s *Server, ready func() bool, limits Limits) *grpc.Server {
	limits = limits.orDefault()
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(limits.MaxMessage),
		grpc.MaxConcurrentStreams(limits.MaxStreams),
		grpc.ConnectionTimeout(limits.Handshake),
		grpc.MaxHeaderListSize(headerListMax),
		grpc.ReadBufferSize(limits.ReadBuffer),
		grpc.WriteBufferSize(limits.WriteBuffer),
		grpc.InTapHandle(newStreams(limits.MaxCalls).begin),
		grpc.UnaryInterceptor(endAnswered),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.NumStreamWorkers(limits.StreamWorkers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: shortestPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: limits.ConnectionAge, MaxConnectionAgeGrace: limits.ConnectionAgeGrace,
			Time: pingAfter, Timeout: pingTimeout,
		}),
	)
	g.RegisterService(&checkService, s)
	healthv1.RegisterHealthServer(g, health{ready: ready})
	return g
}

// health answers from the readiness itself: a copy could be out of date. Envoy and
// Kubernetes poll Check; they do not use Watch.
type health struct {
	healthv1.UnimplementedHealthServer

	ready func() bool
}

// Check implements grpc.health.v1.Health.
func (h health) Check(_ context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	switch r.GetService() {
	case "", authv3.Authorization_ServiceDesc.ServiceName:
	default:
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	if !h.ready() {
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}
