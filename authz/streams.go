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
	// sweepShare: after an eighth of the calls that may be under way, those are counted no more that
	// have ended unseen.
	sweepShare = 8
)

// streams bounds the calls under way over all connections; gRPC bounds only those of each
// connection. A call holds some 14 KiB from its header on.
type streams struct {
	most int

	mu    sync.Mutex
	total int
	of    map[*peer.Peer]int // each connection has a Peer of its own
	// calls are all that are counted, in a ring; begun counts them since the last sweep.
	calls stream
	begun int
}

func newStreams(most int) *streams {
	s := &streams{most: most, of: make(map[*peer.Peer]int)}
	s.calls.next, s.calls.previous = &s.calls, &s.calls
	return s
}

// stream is one call. It is the context of the call, too, and gives itself as the value of
// streamKey.
type stream struct {
	context.Context //nolint:containedctx // it is one

	of             *streams
	conn           *peer.Peer
	counted        Counted // conn's, once the call has begun there; or nil
	next, previous *stream // of of.calls; nil once it has ended
}

type streamKey struct{}

// Value implements [context.Context].
func (c *stream) Value(key any) any {
	if key == (streamKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// begin counts a call at its header, before it has a goroutine, or refuses it.
func (s *streams) begin(ctx context.Context, _ *tap.Info) (context.Context, error) {
	conn, _ := peer.FromContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun++; s.begun > s.most/sweepShare {
		s.begun = 0
		s.sweep()
	}
	if s.total >= s.most && s.of[conn] >= streamsFair {
		return ctx, status.Error(codes.ResourceExhausted, "too many calls at once")
	}
	s.total++
	s.of[conn]++
	call := &stream{Context: bounded(ctx), of: s, conn: conn, next: &s.calls, previous: s.calls.previous}
	call.next.previous, call.previous.next = call, call
	return call, nil
}

// bounded is ctx with an end after streamMax at the latest.
func bounded(ctx context.Context) context.Context {
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= streamMax {
		return ctx
	}
	bounded, cancel := context.WithTimeout(ctx, streamMax)
	context.AfterFunc(ctx, cancel) // not earlier: the answer is written under this context
	return bounded
}

// sweep ends the calls that gRPC has answered by itself: one that no handler gets, of an unknown method
// or in an unknown encoding. A function that gRPC calls then ([context.AfterFunc]) would cost
// each Check three allocations.
func (s *streams) sweep() {
	for c := s.calls.next; c != &s.calls; {
		ended := c
		if c = c.next; ended.Err() != nil {
			s.end(ended)
		}
	}
}

// end counts a call no more. The caller holds mu.
func (s *streams) end(c *stream) {
	if c.next == nil {
		return
	}
	c.next.previous, c.previous.next = c.previous, c.next
	c.next, c.previous = nil, nil
	s.total--
	if s.of[c.conn]--; s.of[c.conn] == 0 {
		delete(s.of, c.conn)
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

// answered tells the connection that the call is answered, and ends it.
func (c *stream) answered() {
	if c == nil {
		return
	}
	if c.counted != nil {
		c.counted.End()
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.end(c)
}
