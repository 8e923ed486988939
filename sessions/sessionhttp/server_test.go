package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
)

// TestClassify is the table of errors, each also wrapped.
func TestClassify(t *testing.T) {
	tests := []struct {
		err    error
		status int
		header string
	}{
		{sessions.ErrSessionEnded, 440, ""},
		{sessions.ErrTheft, 440, ""},
		{sessions.DenyExpired, 440, ""},
		{sessions.ErrSuperseded, http.StatusConflict, ""},
		{&sessions.RateError{RetryAfter: 1}, http.StatusTooManyRequests, "Retry-After"},
		{sessions.ErrTooManySessions, http.StatusConflict, ""},
		{sessions.DenyEnded, 440, ""},
		{sessions.DenyStarting, http.StatusServiceUnavailable, "Retry-After"},
		{&scopeError{ScopeRead}, http.StatusForbidden, "WWW-Authenticate"},
		{sessions.ErrUnavailable, http.StatusServiceUnavailable, "Retry-After"},
		{fmt.Errorf("%w: reading: %w", sessions.ErrUnavailable, sessions.ErrNotFound), http.StatusServiceUnavailable, "Retry-After"},
		{sessions.ErrNotFound, http.StatusNotFound, ""},
		{&sessions.InvalidError{Field: "f", Allowed: "a"}, http.StatusBadRequest, ""},
		{&bodyError{detail: "d"}, http.StatusBadRequest, ""},
		{&http.MaxBytesError{Limit: 1}, http.StatusRequestEntityTooLarge, ""},
		{denyMediaType, http.StatusUnsupportedMediaType, ""},
		{denyNoKey, http.StatusUnauthorized, "WWW-Authenticate"},
		{denyUnknownKey, http.StatusUnauthorized, "WWW-Authenticate"},
		{denyForeignOrigin, http.StatusForbidden, ""},
		{denyNoRoute, http.StatusNotFound, ""},
		{&methodError{"GET"}, http.StatusMethodNotAllowed, "Allow"},
		{errPanicked, http.StatusInternalServerError, ""},
		{errors.New("anything else"), http.StatusInternalServerError, ""},
	}
	for _, test := range tests {
		for _, err := range []error{test.err, fmt.Errorf("doing: %w", test.err)} {
			h := http.Header{}
			p := Defaults().classify(err, h)
			if p.Status != test.status || (test.header == "") != (len(h) == 0) || (test.header != "" && h.Get(test.header) == "") {
				t.Errorf("%v: %+v, %v", err, p, h)
			}
			if strings.Contains(p.Detail, "doing") || strings.Contains(p.Detail, "anything else") {
				t.Errorf("%v: the detail %q repeats the error", err, p.Detail)
			}
		}
	}
}

// TestPanic: a bug is a 500 that says nothing and changes nothing, and is logged.
func TestPanic(t *testing.T) {
	b := newBench(t)
	s := b.server(t)
	for name, cause := range map[string]any{"error": errors.New(secretText), "text": secretText} {
		t.Run(name, func(t *testing.T) {
			r := do(s.wrap(func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Set-Cookie", "a="+secretText)
				panic(cause)
			}), post("/"))
			p := wantProblem(t, r, http.StatusInternalServerError)
			untouched(t, r)
			if p.Detail != "" {
				t.Errorf("detail %q", p.Detail)
			}
		})
	}
	t.Run("runtime", func(t *testing.T) {
		var none map[string]int
		wantProblem(t, do(s.wrap(func(http.ResponseWriter, *http.Request) error {
			none["x"] = 1
			return nil
		}), post("/")), http.StatusInternalServerError)
	})
	log := b.log.String()
	if !strings.Contains(log, "server_test.go") || !strings.Contains(log, "assignment to entry in nil map") {
		t.Error("the panic is not logged with its stack")
	}
	if strings.Contains(log, secretText) {
		t.Error("the log repeats a panic's value")
	}
	t.Run("abort", func(t *testing.T) {
		defer func() {
			if recover() != http.ErrAbortHandler { //nolint:errorlint // as net/http does
				t.Error("http.ErrAbortHandler did not get through")
			}
		}()
		do(s.wrap(func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }), post("/"))
	})
}

// TestClientGone: a client that went away is not logged as a failure.
func TestClientGone(t *testing.T) {
	b := newBench(t)
	s := b.server(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	do(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.wrap(func(http.ResponseWriter, *http.Request) error { return sessions.ErrUnavailable }).ServeHTTP(w, r.WithContext(ctx))
	}), post("/"))
	if strings.Contains(b.log.String(), "WARN") {
		t.Error("logged as a warning")
	}
}

// TestDeadline: the work on every request ends.
func TestDeadline(t *testing.T) {
	b := newBench(t)
	s := b.server(t)
	do(s.wrap(func(_ http.ResponseWriter, r *http.Request) error {
		if _, ok := r.Context().Deadline(); !ok {
			t.Error("no deadline")
		}
		return denyNoRoute
	}), post("/"))
}

func TestHealth(t *testing.T) {
	b, start := newIdleBench(t)
	draining := false
	h := Health(b.engine, func() bool { return draining })
	get := func(path string) *answer { return do(h, call{method: http.MethodGet, path: path}) }

	want(t, get("/healthz"), http.StatusOK)
	r := get("/readyz")
	want(t, r, http.StatusServiceUnavailable)
	if got := r.Body; got != `{"ready":false,"draining":false}` {
		t.Errorf("before the start: %s", got)
	}
	start()
	b.store.down.Store(true) // an outage takes no process out of service
	r = get("/readyz")
	want(t, r, http.StatusOK)
	if got := r.Body; !strings.HasPrefix(got, `{"ready":true,"draining":false,"feed_age_ms":`) {
		t.Errorf("running: %s", got)
	}
	draining = true
	want(t, get("/readyz"), http.StatusServiceUnavailable)
	want(t, get("/healthz"), http.StatusOK)
	if r := do(h, post("/readyz")); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", r.StatusCode)
	}
}
