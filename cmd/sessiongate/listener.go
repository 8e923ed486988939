package main

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
)

// listener is one of the three. It speaks TLS where that is configured.
type listener struct {
	net.Listener

	connections *connections
}

// newListener puts wrap (TLS) around the connections that it knows.
func newListener(plain net.Listener, wrap func(net.Listener) net.Listener) *listener {
	c := &connections{Listener: plain, open: make(map[*connection]struct{})}
	return &listener{wrap(c), c}
}

// connections is a listener that may be closed again, as a stop and then the
// server do, and that knows what it has accepted. gRPC's server knows a connection
// only once it has begun HTTP/2, and its stop waits for that.
type connections struct {
	net.Listener

	once sync.Once
	err  error // of the first Close

	mu     sync.Mutex
	open   map[*connection]struct{}
	hushed bool // a connection without a word is closed
}

// Accept implements [net.Listener].
func (l *connections) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: accepted, of: l}
		if l.add(c) {
			return c, nil
		}
		_ = c.Close()
	}
}

func (l *connections) add(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = struct{}{}
	return !l.hushed
}

// Close implements [net.Listener].
func (l *connections) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
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

// connection knows whether the other side has said anything.
type connection struct {
	net.Conn

	of    *connections
	spoke atomic.Bool
}

// Read implements [net.Conn]. Whoever floods with streams that it resets at once
// fills the queues of gRPC's server sooner than those who empty them get their turn:
// hundreds of MiB. So its reader waits its turn, too.
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
	return c.Conn.Close()
}
