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
	// Each call that begins looks whether some others have ended unseen: looksLeast of them, and one
	// more for each lookEvery that has passed since the last call began. So a replica that has
	// little to do forgets them all.
	looksLeast = 2
	lookEvery  = 100 * time.Microsecond
	// timerShort is how long the timer of a refused call may live. refusedMax is how long such a
	// call lives itself, where its timer would live longer.
	timerShort = 2 * time.Second
	refusedMax = 10 * time.Millisecond
)

// streams bounds the calls under way over all connections; gRPC bounds only those of each
// connection. A call holds some 14 KiB from its header on.
type streams struct {
	most int

	mu    sync.Mutex
	total int
	of    map[*peer.Peer]int // each connection has a Peer of its own
	// calls are all that are counted, in a ring: the one that was looked at last comes last.
	calls stream
	began time.Time // the last of them
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
	refused        bool    // and not counted; the answer says so
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

var errTooMany = status.Error(codes.ResourceExhausted, "too many calls at once")

// begin counts a call at its header, before it has a goroutine, or refuses it.
func (s *streams) begin(ctx context.Context, _ *tap.Info) (context.Context, error) {
	conn, _ := peer.FromContext(ctx)
	until, bound := ctx.Deadline()
	now := time.Now()
	left := until.Sub(now)
	call := &stream{Context: ctx, of: s, conn: conn}
	if s.admit(call, now, !bound || left > streamMax) {
		return call, nil
	}
	if bound && left > timerShort {
		// gRPC never stops the timer of a call that is refused here, and a client can ask for one
		// that runs for years. So the call goes on for a moment.
		call.Context, call.refused = endsAfter(ctx, refusedMax), true
		return call, nil
	}
	return ctx, errTooMany
}

// endsAfter is ctx with an earlier end.
func endsAfter(ctx context.Context, life time.Duration) context.Context {
	shorter, cancel := context.WithTimeout(ctx, life)
	context.AfterFunc(ctx, cancel) // not earlier: the answer is written under this context
	return shorter
}

func (s *streams) admit(call *stream, now time.Time, endless bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(looksLeast + int(now.Sub(s.began)/lookEvery))
	s.began = now
	if s.total >= s.most && s.of[call.conn] >= streamsFair {
		return false
	}
	if endless {
		call.Context = endsAfter(call.Context, streamMax)
	}
	s.total++
	s.of[call.conn]++
	s.calls.append(call)
	return true
}

// look ends those of the next n calls that gRPC has answered by itself: a call of an unknown method, or
// in an unknown encoding, has no handler. A function that gRPC calls then ([context.AfterFunc]) would
// cost each Check three allocations.
func (s *streams) look(n int) {
	for n = min(n, s.total); n > 0; n-- {
		c := s.calls.next
		if c.Err() != nil {
			s.end(c)
			continue
		}
		c.unlink()
		s.calls.append(c)
	}
}

// end counts a call no more. The caller holds mu.
func (s *streams) end(c *stream) {
	if c.next == nil {
		return
	}
	c.unlink()
	s.total--
	if s.of[c.conn]--; s.of[c.conn] == 0 {
		delete(s.of, c.conn)
	}
}

// append puts a call before c, which is the last place of c's ring.
func (c *stream) append(call *stream) {
	call.next, call.previous = c, c.previous
	call.next.previous, call.previous.next = call, call
}

func (c *stream) unlink() {
	c.next.previous, c.previous.next = c.previous, c.next
	c.next, c.previous = nil, nil
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
	if c.refused {
		return errTooMany
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
