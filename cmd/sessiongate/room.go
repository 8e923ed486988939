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
	// settledAfter is after how many looks in a row, lookPause apart, a connection with
	// nothing under way has settled. Until then it is left alone: a client that has just connected
	// gets to speak, and what was just answered gets on its way. It is no time, for a
	// process that was denied the CPU would find every client silent.
	settledAfter = 10
	lookPause    = 50 * time.Millisecond
	// roomAtOnce is the part of its connections that a full listener closes at a time,
	// for a look at all of them at each new one would be an attack's work done for it.
	roomAtOnce = 64
	// closedForRoom, and anything near it, is the work of a connection that was closed
	// for want of room.
	closedForRoom = math.MinInt32 / 2
)

// Begin is told that the connection has work under way ([authz.Counted]). It is false
// where the connection was closed to make room: then the work must not begin, for
// its end would be lost.
func (c *connection) Begin() bool {
	if !c.resume() {
		return false
	}
	c.stirs()
	return true
}

// End is told that the work is done.
func (c *connection) End() {
	c.stirs()
	c.busy.Add(-1)
}

func (c *connection) stirs() {
	c.since.Store(int64(time.Since(c.of.began)))
	c.looks.Store(0)
}

// waiting does what waits for the other side. A request that comes byte by byte, or
// whose answer is not read, keeps no place.
func (c *connection) waiting(do func() (int, error)) (int, error) {
	c.busy.Add(-1)
	n, err := do()
	if !c.resume() {
		return 0, net.ErrClosed
	}
	return n, err
}

// resume is Begin for what began before: how long that has been does not start again.
func (c *connection) resume() bool {
	for {
		n := c.busy.Load()
		if n < 0 || c.busy.CompareAndSwap(n, n+1) {
			return n >= 0
		}
	}
}

// makeRoom closes those that have had nothing under way for longest. Without it,
// an attacker who fills a listener with silent connections, or asks once on each, would keep it
// closed for all others until they time out. It is false where none was idle.
func (l *connections) makeRoom() (made bool) {
	type rest struct {
		since int64
		of    *connection
	}
	var resting []rest
	l.mu.Lock()
	var one int32 // more look, or too early for it
	if time.Since(l.looked) >= lookPause {
		one, l.looked = 1, time.Now()
	}
	for c := range l.open {
		if c.busy.Load() == 0 && c.looks.Add(one) >= settledAfter {
			resting = append(resting, rest{c.since.Load(), c})
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
