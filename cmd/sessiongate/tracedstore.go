package main

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sessiongate/sessiongate/sessions"
)

// store is s, with a span for each call that a request with a span makes.
func (t *tracing) store(s sessions.Store) sessions.Store {
	if t == nil {
		return s
	}
	return tracedStore{s, t.tracer}
}

// tracedStore has the methods that requests wait for. The others run in the background,
// and belong to no trace. A span holds no argument of its call.
type tracedStore struct {
	sessions.Store

	tracer trace.Tracer
}

func (s tracedStore) span(ctx context.Context, method string) (context.Context, func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := s.tracer.Start(ctx, "store."+method, //nolint:spancheck // its caller ends it
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(semconv.DBSystemNamePostgreSQL))
	return ctx, func(err error) { //nolint:spancheck // its caller ends it
		if err != nil && !errors.Is(err, sessions.ErrNotFound) && !errors.Is(err, sessions.ErrTooManySessions) {
			span.SetStatus(codes.Error, "") // the log has the error, whose text may have values
		}
		span.End()
	}
}

// Create implements [sessions.Store].
func (s tracedStore) Create(ctx context.Context, n sessions.NewRecord) (r sessions.Record, err error) {
	ctx, end := s.span(ctx, "Create")
	defer func() { end(err) }()
	return s.Store.Create(ctx, n)
}

// CreateWithin implements [sessions.Store].
func (s tracedStore) CreateWithin(ctx context.Context, n sessions.NewRecord, l sessions.UserLimit) (r sessions.Record, ended []sessions.Handle, err error) {
	ctx, end := s.span(ctx, "CreateWithin")
	defer func() { end(err) }()
	return s.Store.CreateWithin(ctx, n, l)
}

// Get implements [sessions.Store].
func (s tracedStore) Get(ctx context.Context, h sessions.Handle) (r sessions.Record, now time.Time, err error) {
	ctx, end := s.span(ctx, "Get")
	defer func() { end(err) }()
	return s.Store.Get(ctx, h)
}

// ListUser implements [sessions.Store].
func (s tracedStore) ListUser(ctx context.Context, userID string, limit int) (all []sessions.Record, err error) {
	ctx, end := s.span(ctx, "ListUser")
	defer func() { end(err) }()
	return s.Store.ListUser(ctx, userID, limit)
}

// Update implements [sessions.Store].
func (s tracedStore) Update(ctx context.Context, h sessions.Handle, a sessions.Attributes) (r sessions.Record, err error) {
	ctx, end := s.span(ctx, "Update")
	defer func() { end(err) }()
	return s.Store.Update(ctx, h, a)
}

// Swap implements [sessions.Store].
func (s tracedStore) Swap(ctx context.Context, old, next sessions.Row, rule sessions.Rule) (done bool, err error) {
	ctx, end := s.span(ctx, "Swap")
	defer func() { end(err) }()
	return s.Store.Swap(ctx, old, next, rule)
}

// Rotate implements [sessions.Store].
func (s tracedStore) Rotate(ctx context.Context, h sessions.Handle, o sessions.Rotation) (r sessions.Record, now time.Time, done bool, err error) {
	ctx, end := s.span(ctx, "Rotate")
	defer func() { end(err) }()
	return s.Store.Rotate(ctx, h, o)
}

// End implements [sessions.Store].
func (s tracedStore) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (done bool, err error) {
	ctx, end := s.span(ctx, "End")
	defer func() { end(err) }()
	return s.Store.End(ctx, h, e)
}

// EndIf implements [sessions.Store].
func (s tracedStore) EndIf(ctx context.Context, old sessions.Row, e sessions.Ending) (done bool, err error) {
	ctx, end := s.span(ctx, "EndIf")
	defer func() { end(err) }()
	return s.Store.EndIf(ctx, old, e)
}

// EndUser implements [sessions.Store].
func (s tracedStore) EndUser(ctx context.Context, userID string, e sessions.Ending) (ended []sessions.Handle, err error) {
	ctx, end := s.span(ctx, "EndUser")
	defer func() { end(err) }()
	return s.Store.EndUser(ctx, userID, e)
}

// EndOthers implements [sessions.Store].
func (s tracedStore) EndOthers(ctx context.Context, userID string, kept sessions.Handle, e sessions.Ending) (ended []sessions.Handle, err error) {
	ctx, end := s.span(ctx, "EndOthers")
	defer func() { end(err) }()
	return s.Store.EndOthers(ctx, userID, kept, e)
}

// Report implements [sessions.Store].
func (s tracedStore) Report(ctx context.Context, e sessions.AuditEvent) (err error) {
	ctx, end := s.span(ctx, "Report")
	defer func() { end(err) }()
	return s.Store.Report(ctx, e)
}
