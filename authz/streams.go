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

// stream is one call. It is the context of the call, too, and gives itself as the value of
// streamKey.
type stream struct {
	context.Context //nolint:containedctx // it is one

	of      *streams
	conn    *peer.Peer
	counted Counted     // conn's, once the call has begun there; or nil
	stop    func() bool // keeps the end of its context from ending it
}

type streamKey struct{}

// Value implements [context.Context].
func (c *stream) Value(key any) any {
	if key == (streamKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// begin counts a call at its header, before it has a goroutine, or refuses it. The call ends when it
// has been answered, or with its context, which a reset ends: gRPC answers some calls by itself.
func (s *streams) begin(ctx context.Context, _ *tap.Info) (context.Context, error) {
	conn, _ := peer.FromContext(ctx)
	if !s.admit(conn) {
		return ctx, status.Error(codes.ResourceExhausted, "too many calls at once")
	}
	call := &stream{Context: ctx, of: s, conn: conn}
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= streamMax {
		call.stop = context.AfterFunc(ctx, call.end)
		return call, nil
	}
	bounded, cancel := context.WithTimeout(ctx, streamMax)
	call.Context = bounded
	// cancel must not run earlier: the answer is written under this context.
	call.stop = context.AfterFunc(bounded, func() { cancel(); call.end() })
	return call, nil
}

func (s *streams) admit(conn *peer.Peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.most && s.of[conn] >= streamsFair {
		return false
	}
	s.total++
	s.of[conn]++
	return true
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

// endAnswered ends a call once it is answered.
func endAnswered(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	call := streamOf(ctx)
	defer call.answered()
	if err := call.arrived(); err != nil {
		return nil, err
	}
	return handler(ctx, request)
}

// streamOf is the call of a context, or nil where it was not counted.
func streamOf(ctx context.Context) *stream {
	call, _ := ctx.Value(streamKey{}).(*stream)
	return call
}

// arrived tells the connection that the call has arrived whole.
func (c *stream) arrived() error {
	if c == nil {
		return nil
	}
	conn, ok := c.conn.Addr.(Counted)
	if !ok {
		return nil
	}
	if !conn.Begin() {
		return status.Error(codes.Unavailable, "the connection is closed")
	}
	c.counted = conn
	return nil
}

// answered tells the connection that the call is answered, and ends it. The end of its context would
// do that, too, but in another goroutine.
func (c *stream) answered() {
	if c == nil {
		return
	}
	if c.counted != nil {
		c.counted.End()
	}
	if c.stop() {
		c.end()
	}
}
