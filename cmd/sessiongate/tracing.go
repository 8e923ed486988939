package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

const (
	// exportMax is how long one export may take. It is not tried again: a collector that
	// is away costs spans, and nothing else.
	exportMax = 5 * time.Second
	tracesAt  = "/v1/traces"

	exportFails = "spans cannot be exported, and are dropped"
)

// tracing makes spans and exports them in the background. nil: off, and then nothing
// is wrapped.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	log      *slog.Logger
}

// isOTLPEndpoint takes the base of a URL, as OTEL_EXPORTER_OTLP_ENDPOINT does.
func isOTLPEndpoint(s string) bool {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || (u.Path != "" && !isPath(u.Path)) {
		return false
	}
	host := u.Host
	if u.Port() == "" {
		host += ":1"
	}
	return u.Host != "" && u.Hostname() != "" && strings.ToLower(u.Host) == u.Host && isTCPAddress(host) && s == u.Scheme+"://"+u.Host+u.Path
}

func newTracing(ctx context.Context, c Config, log *slog.Logger) (*tracing, error) {
	if c.Tracing.OTLPEndpoint == "" {
		return nil, nil
	}
	// By default the library writes to standard error, lines that are no JSON and may
	// repeat the headers of the environment.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", "error", err.Error()) }))
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("sessiongate"), semconv.ServiceVersion(version())), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: reading OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.Tracing.OTLPEndpoint+tracesAt),
		otlptracehttp.WithTimeout(exportMax), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	if err != nil {
		return nil, fmt.Errorf("tracing.otlp_endpoint: %w", err)
	}
	// A client can set the sampled flag of a traceparent, so the flag alone forces nothing. The
	// ratio looks at the trace id only: processes with the same percent keep the same traces.
	ratio := sdktrace.TraceIDRatioBased(float64(c.Tracing.SamplePercent) / 100)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithSampler(sdktrace.ParentBased(ratio, sdktrace.WithRemoteParentSampled(ratio))),
		sdktrace.WithBatcher(&loggedExporter{SpanExporter: exporter, log: log}, sdktrace.WithExportTimeout(exportMax)),
		sdktrace.WithoutPanicRecording(), // a panic's value may be an error about anything, a token included
	)
	return &tracing{provider, provider.Tracer("github.com/sessiongate/sessiongate"), log}, nil
}

// loggedExporter says once that exports fail, and once that they succeed again. It is
// called by one goroutine.
type loggedExporter struct {
	sdktrace.SpanExporter

	log     *slog.Logger
	failing bool
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !e.failing:
		e.log.Warn(exportFails, "error", err.Error())
	case err == nil && e.failing:
		e.log.Info("spans are exported again")
	}
	e.failing = err != nil
	return nil
}

// stop exports what is left, for at most so long.
func (t *tracing) stop(ctx context.Context, most time.Duration) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(max(most, 0), exportMax))
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn(exportFails, "error", err.Error())
	}
}

// handler gives each request whose path is traced a span. Its name and attributes
// come with the observation: before the answer, no route is known.
func (t *tracing) handler(h http.Handler, traced func(path string) bool) http.Handler {
	if t == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !traced(r.URL.Path) {
			h.ServeHTTP(w, r)
			return
		}
		ctx, span := t.tracer.Start(withParent(r.Context(), r.Header), "HTTP", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// withParent has the span that a request's traceparent names. Its tracestate is free
// text that a client chooses: it goes nowhere.
func withParent(ctx context.Context, h http.Header) context.Context {
	lines := h.Values("Traceparent")
	if len(lines) != 1 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": lines[0]})
}

// observe is count, which tells the request's span the same.
func (t *tracing) observe(count func(sessionhttp.Observation)) func(context.Context, sessionhttp.Observation) {
	return func(ctx context.Context, o sessionhttp.Observation) {
		count(o)
		if t != nil {
			describeSpan(trace.SpanFromContext(ctx), o)
		}
	}
}

// describeSpan uses OpenTelemetry's names for HTTP servers. There is no url.path: it may
// have a user id.
func describeSpan(span trace.Span, o sessionhttp.Observation) {
	if !span.IsRecording() {
		return
	}
	name, method := o.Method, semconv.HTTPRequestMethodKey.String(o.Method)
	if o.Method == "other" {
		name, method = "HTTP", semconv.HTTPRequestMethodOther
	}
	about := []attribute.KeyValue{method}
	if o.Route != "other" {
		name += " " + o.Route
		about = append(about, semconv.HTTPRoute(o.Route))
	}
	if o.Status > 0 {
		about = append(about, semconv.HTTPResponseStatusCode(o.Status))
	}
	if o.Code != "" {
		about = append(about, attribute.String("sessiongate.code", o.Code))
	}
	if o.Rule != "" {
		about = append(about, attribute.String("sessiongate.rule", o.Rule))
	}
	if o.Status >= http.StatusInternalServerError || o.Status == 0 {
		about = append(about, semconv.ErrorTypeKey.String(o.Code))
		span.SetStatus(codes.Error, o.Code)
	}
	span.SetName(name)
	span.SetAttributes(about...)
}
