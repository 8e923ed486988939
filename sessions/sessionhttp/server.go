package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Config is what the handlers need to know. Start from [Defaults].
type Config struct {
	Cookies browser.Cookies
	// RefreshPath and SignoutPath are exact paths under Cookies.AuthPath, or the
	// refresh token's cookie never arrives.
	RefreshPath, SignoutPath string
	// SessionExpiredStatus answers a refresh of a session that is over, and a
	// sign-out that must refresh first.
	SessionExpiredStatus int
	// AllowedOrigins are other origins whose pages may refresh and sign out:
	// SCHEME://HOST[:PORT].
	AllowedOrigins []string
	// RefreshAttemptMax is D: answers at the auth path come within
	// [sessions.AnswerWithin] of it. 0: as in Defaults.
	RefreshAttemptMax time.Duration
	// BodyMax bounds a body of the sessions API, in bytes.
	BodyMax int64
	// APIKeys are the callers of the sessions API, by the name that becomes the
	// actor of what they end. None: nobody may call it.
	APIKeys map[string]APIKey
	// Log gets a line for every refusal. nil: slog.Default().
	Log *slog.Logger
	// DenialHeader tells clients the code of a refusal, in [browser.HeaderDenial].
	DenialHeader bool
	// Observe is called for every answer, from any goroutine; it must not wait.
	// nil: nobody counts.
	// ctx is the request's.
	Observe func(ctx context.Context, o Observation)
}

// Observation is what may be counted of an answer: few values each, whatever a
// stranger sends.
type Observation struct {
	// Route is the pattern that the path matched, or "other"; Method one of HTTP's
	// own (RFC 9110 §9, PATCH), or "other".
	Route, Method string
	Status        int    // 0: the client was cut off
	Code          string // of a refusal, one of Refusals or of sessions.Denials; empty for a success
	Rule          string // of docs/protocol.md, that decided a refresh or denied an access token; empty where none did
	Took          time.Duration
}

// Defaults is a Config without API keys.
func Defaults() Config {
	return Config{
		Cookies:              browser.DefaultCookies(),
		RefreshPath:          "/auth/session/refresh",
		SignoutPath:          "/auth/signout",
		SessionExpiredStatus: 440,
		RefreshAttemptMax:    10 * time.Second,
		BodyMax:              64 << 10,
		Log:                  slog.Default(),
	}
}

// requestMax bounds the work on one request of the sessions API, whose callers have
// timeouts of their own. What browsers reach has a shorter bound.
const requestMax = 10 * time.Second

// RequestMax is the same, for whoever chooses a server's WriteTimeout.
const RequestMax = requestMax

// server is what both listeners share.
type server struct {
	engine *sessions.Engine
	cfg    Config
	trust  browser.Trust
	// answerMax bounds the time from a request's header to its answer.
	answerMax time.Duration
	// vary are the headers on which answers depend. A cache must not give one
	// client another's, and some keep what is no-store.
	vary string
}

func newServer(engine *sessions.Engine, cfg Config) server {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := server{engine: engine, cfg: cfg, answerMax: requestMax, vary: "Authorization, Content-Type"}
	for _, text := range cfg.AllowedOrigins {
		if origin, ok := browser.ParseOrigin(text); ok {
			s.trust.Origins = append(s.trust.Origins, origin)
		}
	}
	return s
}

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

// wrap gives h what every answer has: a deadline, headers, a log line, and an
// answer where h returns an error or panics.
func (s *server) wrap(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), s.answerMax)
		defer cancel()
		if r.ContentLength != 0 {
			// net/http reads what is left of a body before it writes the answer. It
			// must not wait longer for it than the answer may.
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
				// A panic's value may be an error about anything, a token
				// included: only the runtime's own words are logged.
				what := fmt.Sprintf("%T", cause)
				if err, ok := cause.(runtime.Error); ok {
					what = err.Error()
				}
				s.log(r, slog.LevelError, "handler panicked", "panic", what, "stack", string(debug.Stack()))
				if out.status == 0 {
					s.refuse(out, r, errPanicked)
				}
			}
			// The pattern, not the path: what a stranger puts in a path, or
			// behind it, may be a secret.
			took := time.Since(began)
			s.log(r, slog.LevelDebug, "request", "method", methodName(r.Method), "route", r.Pattern, "status", out.status, "duration", took)
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

// refuse answers with the problem that err is to a client, and logs what it is.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	// Nothing of a half-made answer goes out with an error, least of all a
	// Set-Cookie.
	clear(w.Header())
	s.setDefaults(w.Header())
	writeProblem(w, s.refusal(w, r, err))
}

// refusal is the problem that err is to a client. It logs what err is and whom it is
// about, counts it and, where the deployment wants that, tells the client its code.
func (s *server) refusal(w http.ResponseWriter, r *http.Request, err error) problem {
	p := s.cfg.classify(err, w.Header())
	level := slog.LevelInfo
	if p.Status >= http.StatusInternalServerError {
		level = slog.LevelWarn
		if errors.Is(err, errPanicked) || errors.Is(r.Context().Err(), context.Canceled) {
			level = slog.LevelDebug // said already; a client that went away is none of our failures
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

// subject is what is learnt of whom a request is about, while it is answered.
type subject struct {
	caller          string // of the sessions API
	userID, session string // that a token which opened, or the caller, named
	code            string // of the refusal
	rule            string // that decided
}

type subjectKey struct{}

// subjectOf is that of a request which wrap hands on.
func subjectOf(r *http.Request) *subject {
	about, ok := r.Context().Value(subjectKey{}).(*subject)
	if !ok {
		return &subject{}
	}
	return about
}

// names takes what a refused refresh tells of its session.
func (a *subject) names(i sessions.Issued) {
	a.userID = i.Session.UserID
	if i.Session.Handle != (sessions.Handle{}) {
		a.session = i.Session.Handle.String()
	}
}

// verified takes what an access token with a good signature tells.
func (a *subject) verified(access *sessions.Access) {
	a.userID, a.session = access.UserID, access.Handle.String()
}

// loggedHost is a Host that is one. A stranger chooses it, and might put a token there.
func loggedHost(host string) string {
	if len(host) > 253+len(":65535") || !hostPattern.MatchString(host) {
		return ""
	}
	return host
}

// log writes a line about r. It names the request's id and trace, by which the other
// systems that it passed through know it.
func (s *server) log(r *http.Request, level slog.Level, message string, args ...any) {
	if !s.cfg.Log.Enabled(r.Context(), level) {
		return
	}
	if id := r.Header.Get("X-Request-ID"); browser.IsRequestID(id) {
		args = append(args, "request_id", id)
	}
	if lines := r.Header.Values("Traceparent"); len(lines) == 1 {
		if traceID, spanID, ok := browser.ParseTraceparent(lines[0]); ok {
			args = append(args, "trace_id", traceID, "span_id", spanID)
		}
	}
	s.cfg.Log.Log(r.Context(), level, message, args...)
}

// routeName is "other" for the paths at which nothing is.
func routeName(pattern string) string {
	if pattern == "" || pattern == "/" {
		return "other"
	}
	return pattern
}

// renew refreshes with the tokens that a request carries. None is over.
func (s *server) renew(r *http.Request, by sessions.Transport, tokens []string, addr netip.Addr, userAgent string) (sessions.Issued, error) {
	if len(tokens) == 0 {
		return sessions.Issued{}, errNoToken // a first visit; costs nothing
	}
	if err := s.engine.AdmitRefresh(addr, by, tokens); err != nil {
		return sessions.Issued{}, err
	}
	issued, err := s.engine.Refresh(r.Context(), by, tokens, sessions.NewClient(addr, userAgent))
	subjectOf(r).rule = string(issued.Rule)
	if err != nil {
		subjectOf(r).names(issued)
	}
	return issued, err
}

// methodName keeps a stranger's words out of the log.
func methodName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
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
