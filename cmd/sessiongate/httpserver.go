package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// httpServer is an [http.Server] that stops without a request being lost.
type httpServer struct {
	http.Server

	draining *atomic.Bool
	open     atomic.Int64  // connections
	closed   chan struct{} // has a value after a connection closed
}

// newHTTPServer makes a server; once draining says so, each answer closes its connection.
func newHTTPServer(c Config, draining *atomic.Bool, h http.Handler) *httpServer {
	s := &httpServer{draining: draining, closed: make(chan struct{}, 1)}
	s.Server = http.Server{
		Handler: countedByConnection(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(&lastWhileDraining{w, draining}, r)
		})),
		ConnContext: withConnection,
		// HTTP/1 alone: HTTP/2's floods (resets, CONTINUATION) have nothing to meet.
		Protocols:         http1(),
		ReadHeaderTimeout: c.Listen.ReadTimeout,
		ReadTimeout:       c.Listen.ReadTimeout,
		// The work ends after AnswerWithin(D) or RequestMax; what is left is for a small answer.
		WriteTimeout:   c.Listen.ReadTimeout + c.Engine.RefreshAttemptMax + sessionhttp.RequestMax,
		IdleTimeout:    c.Listen.IdleTimeout,
		MaxHeaderBytes: c.Listen.HeaderMax,
		// net/http would log a broken handshake with the peer's bytes in it.
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ConnState: s.count,
	}
	return s
}

func http1() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

func (s *httpServer) count(_ net.Conn, state http.ConnState) {
	switch state { //nolint:exhaustive // the others change no number
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed:
		s.open.Add(-1)
		select {
		case s.closed <- struct{}{}:
		default:
		}
	}
}

func (s *httpServer) serve(l net.Listener) error {
	err := s.Serve(l)
	if errors.Is(err, http.ErrServerClosed) || s.draining.Load() && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// stop closes the listener, answers on open connections until they are gone or
// linger has passed, closes the idle and the silent ones, and waits for the others
// until ctx ends.
// An idle connection that closed at once could meet a refresh that is on its way,
// which nobody may repeat unasked.
func (s *httpServer) stop(ctx context.Context, l *listener, linger time.Duration) error {
	if err := l.Close(); err != nil {
		return err
	}
	over := time.After(linger)
wait:
	for s.open.Load() > 0 {
		select {
		case <-s.closed:
		case <-over:
			break wait
		case <-ctx.Done():
			break wait
		}
	}
	l.connections.closeSilent() // Shutdown would wait up to 5 s for their first request
	return s.Shutdown(ctx)
}

// lastWhileDraining has an answer that begins while draining close its connection:
// the client's next request then goes to a replica that stays.
type lastWhileDraining struct {
	http.ResponseWriter

	draining *atomic.Bool
}

// Unwrap is for [http.ResponseController].
func (w *lastWhileDraining) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *lastWhileDraining) WriteHeader(status int) {
	if w.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *lastWhileDraining) Write(b []byte) (int, error) {
	if w.draining.Load() {
		w.Header().Set("Connection", "close") // without effect after WriteHeader
	}
	return w.ResponseWriter.Write(b)
}
