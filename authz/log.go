package authz

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// loggedMax bounds a request's path, method and id in a log line.
const loggedMax = 256 // bytes

// logDecision writes one line. It holds no header, no cookie and no query, for a query may
// hold secrets.
func (s *Server) logDecision(ctx context.Context, r *request, d decision) {
	level, told := slog.LevelDebug, d.report()
	outcome, rule, code, why := told.Outcome, told.Rule, told.Code, told.message
	if d.denial != nil {
		level, outcome, rule, why = slog.LevelInfo, d.denial.Outcome, d.denial.Rule, d.denial.Message
	}
	if outcome == sessions.Unavailable {
		level = slog.LevelWarn
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	switch {
	case len(d.claims) > 0:
		why += ": " + d.claims[0].ID
	case d.fault != nil:
		why = strings.Clone(d.fault.Error())
	}
	attrs := append(make([]slog.Attr, 0, 11),
		slog.String("outcome", outcome.String()), slog.String("rule", rule), slog.String("code", code), slog.String("why", why),
		slog.String("method", clip(r.method)), slog.String("path", clip(r.path)), slog.String("request_id", clip(r.name())))
	if d.access != nil {
		attrs = append(attrs, slog.String("user_id", d.access.UserID), slog.String("session", d.access.Handle.String()))
	}
	if traceID, spanID, ok := browser.ParseTraceparent(r.traceparent); ok {
		attrs = append(attrs, slog.String("trace_id", strings.Clone(traceID)), slog.String("span_id", strings.Clone(spanID)))
	}
	s.log.LogAttrs(ctx, level, "check", attrs...)
}

// logPanic logs where the check panicked. Of the panic's value it logs only a runtime
// error's own text: another value may hold part of the request.
func (s *Server) logPanic(ctx context.Context, v any) {
	what := fmt.Sprintf("%T", v)
	if err, ok := v.(runtime.Error); ok {
		what = err.Error()
	}
	s.log.LogAttrs(ctx, slog.LevelError, "check panicked",
		slog.String("outcome", denyPanic.Outcome.String()), slog.String("rule", denyPanic.Rule), slog.String("code", denyPanic.Code), slog.String("panic", what), slog.String("stack", string(debug.Stack())))
}

// name is what the request is called in logs: Envoy's x-request-id, or the number that Envoy
// gives a stream.
func (r *request) name() string {
	if browser.IsRequestID(r.requestID) {
		return r.requestID
	}
	return r.id
}

// clip is a copy of text's beginning: a log may keep it longer than the request's bytes are
// good.
func clip(text string) string { return strings.Clone(text[:min(len(text), loggedMax)]) }
