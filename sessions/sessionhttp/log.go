package sessionhttp

import (
	"log/slog"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// subject is the user, session and caller that a request is about, as far as its handler
// learns them.
type subject struct {
	caller          string // of the sessions API
	userID, session string // named by a valid token
	code            string // of the denial
	rule            string // that decided
}

type subjectKey struct{}

// subjectOf is that of a request which came through wrap.
func subjectOf(r *http.Request) *subject {
	about, ok := r.Context().Value(subjectKey{}).(*subject)
	if !ok {
		return &subject{}
	}
	return about
}

// names takes the session of a refused refresh.
func (a *subject) names(i sessions.Issued) {
	a.userID = i.Session.UserID
	if i.Session.Handle != (sessions.Handle{}) {
		a.session = i.Session.Handle.String()
	}
}

// verified takes the session of an access token with a good signature.
func (a *subject) verified(access *sessions.Access) {
	a.userID, a.session = access.UserID, access.Handle.String()
}

// loggedHost is a valid Host, or empty. A client chooses it, and may put a token there.
func loggedHost(host string) string {
	if len(host) > 253+len(":65535") || !hostPattern.MatchString(host) {
		return ""
	}
	return host
}

// log writes a line about r, with the request's id and trace: other systems that the
// request passed through log the same.
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

// routeName is "other" for paths that the handlers do not have.
func routeName(pattern string) string {
	if pattern == "" || pattern == "/" {
		return "other"
	}
	return pattern
}

// methodName keeps a client's words out of the log.
func methodName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
