package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"time"
)

const (
	// settled is how long a connection is left alone: who has just connected gets to
	// speak, and what was just answered gets on its way, even where the process has
	// been denied the CPU meanwhile.
	settled = time.Second
	// roomAtOnce is the part of its connections that a full listener closes at a time,
	// for a look at all of them at each new one would be an attack's work done for it.
	roomAtOnce = 64
	// closedForRoom, and anything near it, is the work of a connection that was closed
	// for want of room.
	closedForRoom = math.MinInt32 / 2
)

// Begin is told that the connection has work under way ([authz.Counted]). It is false
// where the connection was closed to make room: then the work must not begin, for
// nobody would hear of its end.
func (c *connection) Begin() bool {
	if !c.resume() {
		return false
	}
	c.since.Store(int64(time.Since(c.of.began)))
	return true
}

// End is told that the work is done.
func (c *connection) End() {
	c.since.Store(int64(time.Since(c.of.began)))
	c.busy.Add(-1)
}

// waiting does what waits for the other side. A request that comes byte by byte, or
// whose answer nobody reads, keeps no place.
func (c *connection) waiting(do func() (int, error)) (int, error) {
	c.busy.Add(-1)
	n, err := do()
	if !c.resume() {
		return 0, net.ErrClosed
	}
	return n, err
}

// resume is Begin for what began before: how long that has been does not start anew.
func (c *connection) resume() bool {
	for {
		n := c.busy.Load()
		if n < 0 || c.busy.CompareAndSwap(n, n+1) {
			return n >= 0
		}
	}
}

// makeRoom closes those that have had nothing under way for longest. Without it,
// whoever fills a listener with connections on which he says nothing, or asked once,
// would keep it closed for everybody else until they time out. It is false where none had
// nothing.
func (l *connections) makeRoom() (made bool) {
	type rest struct {
		since int64
		of    *connection
	}
	var resting []rest
	last := int64(time.Since(l.began) - settled)
	l.mu.Lock()
	for c := range l.open {
		if since := c.since.Load(); c.busy.Load() == 0 && since <= last {
			resting = append(resting, rest{since, c})
		}
	}
	l.mu.Unlock()
	slices.SortFunc(resting, func(a, b rest) int { return cmp.Compare(a.since, b.since) })
	for _, r := range resting[:min(len(resting), 1+l.most/roomAtOnce)] {
		if r.of.busy.CompareAndSwap(0, closedForRoom) {
			_ = r.of.Close()
			made = true
		}
	}
	return made
}

type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// countedByConnection has each request's connection know when it begins and ends.
func countedByConnection(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connectionKey{}).(*connection)
		if !ok {
			h.ServeHTTP(w, r)
			return
		}
		if !c.Begin() {
			return
		}
		defer c.End()
		if r.Body != http.NoBody {
			r = r.WithContext(r.Context()) // net/http looks at its own
			r.Body = waitingBody{r.Body, c}
		}
		h.ServeHTTP(waitingWriter{w, c}, r)
	})
}

type waitingBody struct {
	io.ReadCloser

	of *connection
}

func (b waitingBody) Read(p []byte) (int, error) {
	return b.of.waiting(func() (int, error) { return b.ReadCloser.Read(p) })
}

type waitingWriter struct {
	http.ResponseWriter

	of *connection
}

// Unwrap is for [http.ResponseController].
func (w waitingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w waitingWriter) Write(p []byte) (int, error) {
	return w.of.waiting(func() (int, error) { return w.ResponseWriter.Write(p) })
}
