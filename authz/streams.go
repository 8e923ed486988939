package authz

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

const (
	// streamMax is how long a call may take to arrive and be answered. gRPC by itself
	// would wait for the message of a call for as long as its connection lives.
	streamMax = 15 * time.Second
	// streamsFair are the calls that a connection may have under way however many
	// others have: an Envoy that asks beside a flood is answered.
	streamsFair = 32
)

// streams counts the calls under way, each of which holds some 14 KiB from its
// header on: over all connections, which are bounded one by one alone by gRPC.
type streams struct {
	most int

	mu    sync.Mutex
	total int
	of    map[*peer.Peer]int // a connection has one of its own
}

func newStreams(most int) *streams { return &streams{most: most, of: make(map[*peer.Peer]int)} }

// stream is one call.
type stream struct {
	of   *streams
	conn *peer.Peer
	stop func() bool // keeps the end of its context from ending it
}

type streamKey struct{}

// begin takes a call in at its header, before it has a goroutine, or refuses it.
// It ends with its context (a reset ends that) or when it has been answered.
func (s *streams) begin(ctx context.Context, _ *tap.Info) (context.Context, error) {
	conn, _ := peer.FromContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.most && s.of[conn] >= streamsFair {
		return ctx, status.Error(codes.ResourceExhausted, "too many calls at once")
	}
	s.total++
	s.of[conn]++
	call := &stream{of: s, conn: conn}
	cancel := func() {}
	if until, ok := ctx.Deadline(); !ok || time.Until(until) > streamMax {
		ctx, cancel = context.WithTimeout(ctx, streamMax)
	}
	// Not before: the answer is still to be written under this context.
	call.stop = context.AfterFunc(ctx, func() { cancel(); call.end() })
	return context.WithValue(ctx, streamKey{}, call), nil
}

func (c *stream) end() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.total--
	if c.of.of[c.conn]--; c.of.of[c.conn] == 0 {
		delete(c.of.of, c.conn)
	}
}

// Counted is a connection that knows what it has under way, so that a listener that is
// full closes one that has nothing. The address of a connection may be one:
// [NewGRPCServer]'s server tells it of each call that has arrived whole.
type Counted interface {
	// Begin is false where the connection has been closed.
	Begin() bool
	End()
}

// endAnswered ends a call once it is answered. The end of its context would do that,
// too, but in a goroutine of its own.
func endAnswered(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if call, ok := ctx.Value(streamKey{}).(*stream); ok {
		defer func() {
			if call.stop() {
				call.end()
			}
		}()
		if conn, ok := call.conn.Addr.(Counted); ok {
			if !conn.Begin() {
				return nil, status.Error(codes.Unavailable, "the connection is closed")
			}
			defer conn.End()
		}
	}
	return handler(ctx, request)
}
