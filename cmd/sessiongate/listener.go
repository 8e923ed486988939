package main

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiongate/sessiongate/authz"
)

// listener is one of the three. It speaks TLS where that is configured.
type listener struct {
	net.Listener

	connections *connections
}

// newListener puts wrap (TLS) around the connections that it knows, which are at most so many.
func newListener(plain net.Listener, most int, wrap func(net.Listener) net.Listener) *listener {
	c := &connections{
		Listener: plain, most: most, began: time.Now(),
		open: make(map[*connection]struct{}), freed: make(chan struct{}, 1), done: make(chan struct{}),
	}
	return &listener{wrap(c), c}
}

// connections is a listener that may be closed again, as a stop and then the
// server do, and that knows what it has accepted. gRPC's server knows a connection
// only once it has begun HTTP/2, and its stop waits for that.
type connections struct {
	net.Listener

	most  int
	began time.Time
	freed chan struct{} // has a value after one was closed
	once  sync.Once
	done  chan struct{} // closed by the first Close
	err   error         // of it

	mu     sync.Mutex
	open   map[*connection]struct{}
	hushed bool // a connection without a word is closed
	looked time.Time
}

// Accept implements [net.Listener]. One too many is given the place of another that
// has nothing under way, or waits for a place.
func (l *connections) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: accepted, of: l}
		if err := l.awaitRoom(); err != nil {
			_ = accepted.Close()
			return nil, err
		}
		if l.add(c) {
			return c, nil
		}
		_ = c.Close()
	}
}

func (l *connections) awaitRoom() error {
	for l.full() {
		if l.makeRoom() {
			continue
		}
		select {
		case <-l.freed:
		case <-time.After(lookPause): // one may be idle by now
		case <-l.done:
			return net.ErrClosed
		}
	}
	return nil
}

func (l *connections) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open) >= l.most
}

func (l *connections) add(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.stirs()
	l.open[c] = struct{}{}
	return !l.hushed
}

// Close implements [net.Listener].
func (l *connections) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.err = l.Listener.Close()
	})
	return l.err
}

// closeSilent closes those on which the other side has not said a word, and
// whatever is still accepted. Nothing is under way there.
func (l *connections) closeSilent() {
	l.closeIf(func(c *connection) bool { return !c.spoke.Load() })
}

// closeAll cuts whatever is under way.
func (l *connections) closeAll() {
	l.closeIf(func(*connection) bool { return true })
}

func (l *connections) closeIf(chosen func(*connection) bool) {
	l.mu.Lock()
	l.hushed = true
	var these []*connection
	for c := range l.open {
		if chosen(c) {
			these = append(these, c)
		}
	}
	l.mu.Unlock()
	for _, c := range these {
		_ = c.Close()
	}
}

// connection knows whether the other side has said anything, and whether it waits for
// an answer.
type connection struct {
	net.Conn

	of    *connections
	spoke atomic.Bool
	busy  atomic.Int32 // what is under way
	since atomic.Int64 // when something last began or ended, since of.began
	looks atomic.Int32 // that have found nothing under way since then
}

// RemoteAddr implements [net.Conn]. gRPC's server tells its handlers nothing else of
// a connection.
func (c *connection) RemoteAddr() net.Addr { return remoteAddr{c.Conn.RemoteAddr(), c} }

type remoteAddr struct {
	net.Addr
	authz.Counted
}

// Read implements [net.Conn]. A flood of streams that are reset at once fills the queues of gRPC's
// server before the goroutines that empty them get their turn: hundreds of MiB. So the reader waits
// its turn, too.
func (c *connection) Read(b []byte) (int, error) {
	runtime.Gosched()
	n, err := c.Conn.Read(b)
	if n > 0 && !c.spoke.Load() {
		c.spoke.Store(true)
	}
	return n, err
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	select {
	case c.of.freed <- struct{}{}:
	default:
	}
	return c.Conn.Close()
}
