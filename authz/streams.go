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
	// streamMax is how long a call may take to arrive and be answered. Without it, gRPC
	// waits for the message of a call for as long as the connection lives.
	streamMax = 15 * time.Second
	// streamsFair is how many calls a connection may have under way, however many the
	// others have: an Envoy that asks during a flood is answered.
	streamsFair = 32
)

// streams bounds the calls under way over all connections; gRPC bounds only those of each
// connection. A call holds some 14 KiB from its header on.
type streams struct {
	most int

	mu    sync.Mutex
	total int
	of    map[*peer.Peer]int // each connection has a Peer of its own
}

func newStreams(most int) *streams { return &streams{most: most, of: make(map[*peer.Peer]int)} }

// stream is one call.
type stream struct {
	of   *streams
	conn *peer.Peer
	stop func() bool // keeps the end of its context from ending it
}

type streamKey struct{}

// begin counts a call at its header, before it has a goroutine, or refuses it. The call
// ends when it has been answered, or with its context, which a reset ends.
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
	// cancel must not run earlier: the answer is written under this context.
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

// Counted is a connection that counts its calls under way, so that a full listener can
// close one that has none. The address of a connection may implement it:
// [NewGRPCServer]'s server tells it of each call that has arrived whole.
type Counted interface {
	// Begin is false where the connection has been closed.
	Begin() bool
	End()
}

// endAnswered ends a call once it is answered. The end of its context would do that,
// too, but in another goroutine.
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
