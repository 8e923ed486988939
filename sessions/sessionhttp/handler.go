package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// handler answers a request or, before it has written anything, returns why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// methods is what may be done at one path.
type methods map[string]handler

func (m methods) serve(w http.ResponseWriter, r *http.Request) error {
	h, ok := m[r.Method]
	if !ok && r.Method == http.MethodHead {
		h, ok = m[http.MethodGet] // net/http sends no body for HEAD
	}
	if !ok {
		return &methodError{m.allow()}
	}
	return h(w, r)
}

// allow is the value of the Allow header (RFC 9110 §10.2.1).
func (m methods) allow() string {
	var names []string
	for name := range m {
		names = append(names, name)
		if name == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// wrap gives every answer of h a deadline, headers and a log line. It answers where h
// returns an error or panics.
func (s *server) wrap(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), s.answerMax)
		defer cancel()
		if r.ContentLength != 0 {
			// net/http reads the rest of a body before it writes the answer. It must not
			// wait for the body after the answer's deadline.
			_ = http.NewResponseController(w).SetReadDeadline(began.Add(s.answerMax)) // in tests there is no connection
		}
		about := &subject{}
		r = r.WithContext(context.WithValue(ctx, subjectKey{}, about))
		out := &recorder{ResponseWriter: w}
		defer func() {
			if cause := recover(); cause != nil {
				if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
					panic(cause)
				}
				// A panic's value may be any error, and hold a token: only the runtime's
				// own text is logged.
				what := fmt.Sprintf("%T", cause)
				if err, ok := cause.(runtime.Error); ok {
					what = err.Error()
				}
				s.log(r, slog.LevelError, "handler panicked", "panic", what, "stack", string(debug.Stack()))
				if out.status == 0 {
					s.refuse(out, r, errPanicked)
				}
			}
			// The pattern, not the path: a path or query that a client sends may hold a
			// secret.
			took := time.Since(began)
			if s.cfg.Log.Enabled(ctx, slog.LevelDebug) {
				s.log(r, slog.LevelDebug, "request", "method", methodName(r.Method), "route", r.Pattern, "status", out.status, "duration", took)
			}
			if s.cfg.Observe != nil {
				s.cfg.Observe(ctx, Observation{Route: routeName(r.Pattern), Method: methodName(r.Method), Status: out.status, Code: about.code, Rule: about.rule, Took: took})
			}
		}()
		s.setDefaults(out.Header())
		if err := h(out, r); err != nil {
			s.refuse(out, r, err)
		}
	})
}

func (s *server) setDefaults(h http.Header) {
	setDefaults(h)
	h.Add("Vary", s.vary)
}

// setDefaults sets what every answer has.
func setDefaults(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// refuse answers with the problem that err is to a client, and logs err.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	// No header of an unfinished answer goes out with an error, least of all a
	// Set-Cookie.
	clear(w.Header())
	s.setDefaults(w.Header())
	writeProblem(w, s.refusal(w, r, err))
}

// refusal is the problem that err is to a client. It logs err with the user and session
// that it is about, counts it and, with DenialHeader, tells the client its code.
func (s *server) refusal(w http.ResponseWriter, r *http.Request, err error) problem {
	p := s.cfg.classify(err, w.Header())
	level := slog.LevelInfo
	if p.Status >= http.StatusInternalServerError {
		level = slog.LevelWarn
		if errors.Is(err, errPanicked) || errors.Is(r.Context().Err(), context.Canceled) {
			level = slog.LevelDebug // a panic is logged already; a client that went away is no failure here
		}
	}
	about := subjectOf(r)
	about.code = p.Code
	if denial := (*sessions.Denial)(nil); errors.As(err, &denial) {
		about.rule = denial.Rule
	}
	if s.cfg.DenialHeader {
		w.Header().Set(browser.HeaderDenial, p.Code)
	}
	args := []any{"code", p.Code, "route", routeName(r.Pattern), "method", methodName(r.Method), "status", p.Status}
	for _, known := range [][2]string{{"caller", about.caller}, {"user_id", about.userID}, {"session", about.session}, {"host", loggedHost(r.Host)}} {
		if known[1] != "" {
			args = append(args, known[0], known[1])
		}
	}
	s.log(r, level, "request refused", append(args, "error", err)...)
	return p
}

// recorder remembers the status that was sent; 0: none yet.
type recorder struct {
	http.ResponseWriter

	status int
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}
