package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// metrics are what /metrics answers with. What happens is counted as it happens,
// what is so is read when /metrics is asked. No label has a value that a client
// chooses: not a path, not a user, not a token.
type metrics struct {
	registry *prometheus.Registry
	// now is what the metrics that are read are read from; it is set before
	// /metrics is asked.
	now func() state

	checks          *prometheus.CounterVec
	checkTook       *prometheus.HistogramVec
	refreshes       *prometheus.CounterVec
	refreshTook     *prometheus.HistogramVec
	created         *prometheus.CounterVec
	ended           *prometheus.CounterVec
	bound           *prometheus.CounterVec
	unproven        *prometheus.CounterVec
	keysLost        *prometheus.CounterVec
	proofsRefused   *prometheus.CounterVec
	claimsChanged   *prometheus.CounterVec
	promotions      *prometheus.CounterVec
	promotionErrors *prometheus.CounterVec
	swept           *prometheus.CounterVec
	sweepErrors     *prometheus.CounterVec
	requests        *prometheus.CounterVec
	requestTook     *prometheus.HistogramVec

	observed []checkMetrics // as [authz.Observations]
}

// checkMetrics are those of one result of a Check, so that a check looks nothing up by
// label.
type checkMetrics struct {
	count prometheus.Counter
	took  prometheus.Observer
}

// state is what can be read of the process at one moment.
type state struct {
	engine    sessions.Stats
	started   bool // keys and feed have been read once
	ready     bool
	feedBound time.Duration
	pool      *pgxpool.Stat
	withheld  uint64 // log lines
}

// A metric is one line of the table below.
type metric struct {
	name   string
	help   string // one sentence, as the page and /metrics have it
	labels []label
	kind   string // counter, gauge or histogram
	// make registers what is counted as it happens; read puts what can be read of
	// a state when /metrics is asked. A line has one of them.
	make func(*prometheus.Registry)
	read func(s state, put putter)
}

// putter takes a value and those of the labels, in the table's order.
type putter func(value float64, labels ...string)

// A label is a name and, for the page, the values that it may have.
type label struct{ name, values string }

// Durations of a check, which reads memory, and of what waits for Postgres.
var (
	checkBuckets   = []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25}
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// table is the one table from which the metrics and their page are made.
func (m *metrics) table() []metric {
	outcome := label{"outcome", "`ALLOW`, `TRY_REFRESH`, `UNAUTHORISED`, `FORBIDDEN`, `UNAVAILABLE`"}
	listener := label{"listener", "`public`, `internal`"}
	route := label{"route", "the pattern that the path matched, or `other`"}
	method := label{"method", "a method of HTTP itself, or `other`"}
	answer := label{"answer", "`tokens`, `superseded`, `ended`, `theft`, `limited`, `unavailable`; of bound sessions also `challenge`, `not_this_device`, `prove`, `unproven`, `key_lost`"}
	kind := label{"kind", "`signing`, `sealing`"}
	return []metric{
		counter(&m.checks, "sessiongate_checks_total", "Checks that Envoy asked for.", outcome,
			label{"rule", "the rule that decided, as in the log and in [protocol.md](protocol.md): `V0` to `V3`, `anti-csrf`, `origin`, `require`, `max_age`, `policy` and others; `session` or `pass` where the request was allowed"},
			label{"code", "the denial's code, or what passed, as in [denials.md](denials.md)"}),
		histogram(&m.checkTook, "sessiongate_check_duration_seconds", "How long checks took, without Envoy's part and the network's.", checkBuckets, outcome),

		counter(&m.refreshes, "sessiongate_refreshes_total", "Refreshes of sessions.",
			label{"rule", "`R1` to `R8`, `B2` to `B10` for [bound sessions](bound.md), or `none` where nothing was decided"},
			answer),
		histogram(&m.refreshTook, "sessiongate_refresh_duration_seconds", "How long refreshes took.", requestBuckets,
			answer),
		counter(&m.created, "sessiongate_sessions_created_total", "Sessions created by this process."),
		counter(&m.ended, "sessiongate_sessions_ended_total", "Sessions ended by this process; those that expire are not counted.",
			label{"reason", "`signed_out`, `revoked`, `evicted`, `theft`, `refresh_abuse`, `rolled_back`"}),
		gauge("sessiongate_sessions_estimated", "Sessions in Postgres after the last sweep, at most once a minute: exact up to 10000, beyond that Postgres's own estimate. Those that expired and are not swept yet count, too. All processes have the same sessions, so do not add them up. Absent before the first count.",
			func(s state, put putter) {
				if s.engine.Sessions >= 0 {
					put(float64(s.engine.Sessions))
				}
			}),
		counter(&m.bound, "sessiongate_sessions_bound_total", "Sessions whose browser proved its key for the first time; from then on they are bound to the device."),
		counter(&m.unproven, "sessiongate_unproven_total", "Refreshes and sign-outs of bound sessions without a proof, after the browser was sent to prove: copied cookies, or a browser in trouble."),
		counter(&m.keysLost, "sessiongate_device_keys_lost_total", "Browsers that had to sign in again, because they had no device session any more."),
		counter(&m.proofsRefused, "sessiongate_proofs_refused_total", "Proofs that another key had signed than that of the session, and keys that could not be registered."),
		counter(&m.claimsChanged, "sessiongate_claims_changed_total", "Sessions that got new claims."),

		counter(&m.promotions, "sessiongate_promotions_total", "First uses of refreshed tokens that were written to Postgres."),
		counter(&m.promotionErrors, "sessiongate_promotions_failed_total", "First uses that could not be written; the next use writes them."),
		total("sessiongate_promotions_dropped_total", "First uses that found the queue full; the next use writes them.",
			func(s state, put putter) { put(float64(s.engine.PromotionsDropped)) }),
		gauge("sessiongate_promotion_queue_length", "First uses that wait.",
			func(s state, put putter) { put(float64(s.engine.PromotionsWaiting)) }),
		gauge("sessiongate_promotion_queue_capacity", "How many may wait (`promotion.queue`).",
			func(s state, put putter) { put(float64(s.engine.PromotionQueue)) }),

		gauge("sessiongate_ready", "1 where `/readyz` answers 200; 0 before the first keys and feed were read, and during drain.",
			func(s state, put putter) { put(truth(s.ready)) }),
		gauge("sessiongate_feed_age_seconds", "Age of what is known of the feed; above `sessiongate_feed_bound_seconds` it is stale. Absent before the first poll.",
			func(s state, put putter) {
				if s.started {
					put(s.engine.FeedAge.Seconds())
				}
			}),
		gauge("sessiongate_feed_bound_seconds", "The age from which it is stale (`feed.bound`).",
			func(s state, put putter) { put(s.feedBound.Seconds()) }),
		total("sessiongate_feed_polls_total", "Polls of the feed.", func(s state, put putter) { put(float64(s.engine.FeedPolls)) }),
		total("sessiongate_feed_polls_failed_total", "Polls that failed.", func(s state, put putter) { put(float64(s.engine.FeedPollsFailed)) }),
		gauge("sessiongate_feed_poll_seconds", "How long the last poll took: with the pause between polls, what the age of the feed grows to. Absent before the first poll.",
			func(s state, put putter) {
				if s.started {
					put(s.engine.FeedPollTook.Seconds())
				}
			}),
		total("sessiongate_feed_read_entries_total", "Entries that polls brought.", func(s state, put putter) { put(float64(s.engine.FeedRead)) }),
		total("sessiongate_feed_resyncs_total", "Full resyncs of the feed: at the start, and where the database is another server than before.",
			func(s state, put putter) { put(float64(s.engine.FeedResyncs)) }),
		gauge("sessiongate_feed_entries", "Entries of the feed that are held in memory.",
			func(s state, put putter) {
				put(float64(s.engine.FeedEnded), "ended")
				put(float64(s.engine.FeedLost), "lost")
				put(float64(s.engine.FeedClaims), "claims")
			}, label{"kind", "`ended`, `lost`, `claims`"}),

		gauge("sessiongate_token_cache_entries", "Verified access tokens in memory.", func(s state, put putter) { put(float64(s.engine.CachedTokens)) }),
		total("sessiongate_token_cache_hits_total", "Access tokens found there.", func(s state, put putter) { put(float64(s.engine.CacheHits)) }),
		total("sessiongate_token_cache_misses_total", "Access tokens not found there: those that are good cost a signature, invented ones most often do not.", func(s state, put putter) { put(float64(s.engine.CacheMisses)) }),
		gauge("sessiongate_keys", "Keys in the database.",
			func(s state, put putter) {
				for _, k := range s.engine.Keys {
					put(float64(k.Known), string(k.Kind))
				}
			}, kind),
		gauge("sessiongate_key_age_seconds", "How long the key in use has been in use.",
			func(s state, put putter) {
				for _, k := range s.engine.Keys {
					put(k.Age.Seconds(), string(k.Kind))
				}
			}, kind),

		gauge("sessiongate_database_connections", "Connections of the pool; the feed has one of its own.",
			func(s state, put putter) {
				put(float64(s.pool.AcquiredConns()), "acquired")
				put(float64(s.pool.IdleConns()), "idle")
				put(float64(s.pool.ConstructingConns()), "connecting")
			}, label{"state", "`acquired`, `idle`, `connecting`"}),
		gauge("sessiongate_database_connections_max", "How many there may be (`database.max_connections`).",
			func(s state, put putter) { put(float64(s.pool.MaxConns())) }),
		total("sessiongate_database_acquires_total", "Connections taken from the pool.",
			func(s state, put putter) { put(float64(s.pool.AcquireCount())) }),
		total("sessiongate_database_acquires_waited_total", "Those for which no idle connection was there.",
			func(s state, put putter) { put(float64(s.pool.EmptyAcquireCount())) }),
		total("sessiongate_database_acquires_canceled_total", "Waits that ended without a connection.",
			func(s state, put putter) { put(float64(s.pool.CanceledAcquireCount())) }),
		total("sessiongate_database_acquire_wait_seconds_total", "Time spent waiting for a connection.",
			func(s state, put putter) { put(s.pool.EmptyAcquireWaitTime().Seconds()) }),
		counter(&m.swept, "sessiongate_swept_rows_total", "Expired rows removed."),
		counter(&m.sweepErrors, "sessiongate_sweeps_failed_total", "Removals of expired rows that failed."),

		counter(&m.requests, "sessiongate_http_requests_total", "Requests of the HTTP listeners, but health and metrics.",
			listener, route, method, label{"status", "the status of the answer, or `none` where the client was cut off"}, label{"code", "the refusal's code, as in [denials.md](denials.md); empty for a success"}),
		histogram(&m.requestTook, "sessiongate_http_request_duration_seconds", "How long they took.", requestBuckets, listener, route, method),

		total("sessiongate_log_lines_withheld_total", "Log lines that were not written (`log.denials_per_second`).",
			func(s state, put putter) { put(float64(s.withheld)) }),
		gauge("sessiongate_build_info", "1; what this process was built from.",
			func(_ state, put putter) {
				b := built()
				put(1, b.Version, b.Revision, b.Date, b.Go)
			}, label{"version", "of sessiongate"}, label{"revision", "commit, or `unknown`"}, label{"date", "of the commit (RFC 3339), or `unknown`"}, label{"goversion", "of Go"}),
	}
}

func counter(into **prometheus.CounterVec, name, help string, labels ...label) metric {
	return metric{name: name, help: help, labels: labels, kind: "counter", make: func(r *prometheus.Registry) {
		*into = prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: plain(help)}, names(labels))
		r.MustRegister(*into)
		if len(labels) == 0 {
			(*into).WithLabelValues() // 0 from the start: the first one is a rise
		}
	}}
}

func histogram(into **prometheus.HistogramVec, name, help string, buckets []float64, labels ...label) metric {
	return metric{name: name, help: help, labels: labels, kind: "histogram", make: func(r *prometheus.Registry) {
		*into = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: plain(help), Buckets: buckets}, names(labels))
		r.MustRegister(*into)
	}}
}

func gauge(name, help string, read func(state, putter), labels ...label) metric {
	return metric{name: name, help: help, labels: labels, kind: "gauge", read: read}
}

// total is a counter that another part counts.
func total(name, help string, read func(state, putter)) metric {
	return metric{name: name, help: help, kind: "counter", read: read}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func names(labels []label) []string {
	all := make([]string, len(labels))
	for i, l := range labels {
		all[i] = l.name
	}
	return all
}

// plain is a sentence without the page's marks.
func plain(text string) string { return strings.ReplaceAll(text, "`", "") }

// newMetrics are the metrics of a process that nothing has happened to yet. They
// may be asked for once now is set.
func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{m})
	for _, line := range m.table() {
		if line.make != nil {
			line.make(m.registry)
		}
	}
	// What there can be is there from the start, as 0: else the first theft would
	// be no rise, and no alert.
	for _, o := range authz.Observations() {
		outcome := o.Outcome.String()
		m.observed = append(m.observed, checkMetrics{m.checks.WithLabelValues(outcome, o.Rule, o.Code), m.checkTook.WithLabelValues(outcome)})
	}
	for _, reason := range []sessions.Reason{
		sessions.ReasonSignedOut, sessions.ReasonRevoked, sessions.ReasonTheft, sessions.ReasonRefreshAbuse, sessions.ReasonRolledBack, sessions.ReasonEvicted,
	} {
		m.ended.WithLabelValues(string(reason))
	}
	for _, answer := range []string{"tokens", "superseded", "ended", "theft", "limited", "unavailable", "challenge", "not_this_device", "prove", "unproven", "key_lost"} {
		m.refreshTook.WithLabelValues(answer)
	}
	for _, r := range [][2]string{
		{"R1", "ended"},
		{"R2", "ended"},
		{"R2", "superseded"},
		{"R3", "tokens"},
		{"R3", "superseded"},
		{"R4", "tokens"},
		{"R4", "ended"},
		{"R5", "tokens"},
		{"R5", "superseded"},
		{"R5", "ended"},
		{"R6", "tokens"},
		{"R7", "tokens"},
		{"R7", "superseded"},
		{"R8", "theft"},
		{"R8", "ended"},
		{"B2", "not_this_device"},
		{"B3", "challenge"},
		{"B4", "tokens"},
		{"B5", "ended"},
		{"B5", "superseded"},
		{"B6", "not_this_device"},
		{"B8", "tokens"},
		{"B9", "prove"},
		{"B10", "unproven"},
		{"B10", "key_lost"},
		{"none", "limited"},
		{"none", "unavailable"},
	} {
		m.refreshes.WithLabelValues(r[0], r[1])
	}
	return m
}

// check counts a check. It takes no lock.
func (m *metrics) check(o authz.Observation) {
	of := m.observed[o.Index]
	of.count.Inc()
	of.took.Observe(o.Took.Seconds())
}

// event counts what the engine tells.
func (m *metrics) event(e sessions.Event) {
	n := float64(e.Count)
	switch e.Kind {
	case sessions.EventRefreshAnswered:
		rule, answer := refreshAnswer(e)
		m.refreshes.WithLabelValues(rule, answer).Inc()
		m.refreshTook.WithLabelValues(answer).Observe(e.Took.Seconds())
	case sessions.EventCreated:
		m.created.WithLabelValues().Inc()
	case sessions.EventEnded:
		m.ended.WithLabelValues(string(e.Reason)).Inc()
	case sessions.EventBound:
		m.bound.WithLabelValues().Inc()
	case sessions.EventUnproven:
		m.unproven.WithLabelValues().Inc()
	case sessions.EventKeyLost:
		m.keysLost.WithLabelValues().Inc()
	case sessions.EventProofRefused:
		m.proofsRefused.WithLabelValues().Inc()
	case sessions.EventClaims:
		m.claimsChanged.WithLabelValues().Inc()
	case sessions.EventPromoted:
		m.promotions.WithLabelValues().Add(n)
	case sessions.EventPromotionsFailed:
		m.promotionErrors.WithLabelValues().Add(n)
	case sessions.EventSwept:
		m.swept.WithLabelValues().Add(n)
	case sessions.EventSweepFailed:
		m.sweepErrors.WithLabelValues().Inc()
	default: // the others are lines of the log
	}
}

func refreshAnswer(e sessions.Event) (rule, answer string) {
	rule = string(e.Rule)
	if rule == "" {
		rule = "none"
	}
	limited := (*sessions.RateError)(nil)
	switch {
	case e.Err == nil && e.Rule != "":
		return rule, "tokens"
	case e.Err == nil, errors.Is(e.Err, sessions.ErrUnavailable): // it may wrap any other
		return "none", "unavailable"
	case errors.As(e.Err, &limited):
		return "none", "limited"
	case errors.Is(e.Err, sessions.ErrTheft):
		return rule, "theft"
	case errors.Is(e.Err, sessions.ErrSuperseded):
		return rule, "superseded"
	case errors.As(e.Err, new(*sessions.ChallengeError)):
		return rule, "challenge"
	case errors.Is(e.Err, sessions.ErrNotThisDevice):
		return rule, "not_this_device"
	case errors.Is(e.Err, sessions.ErrProve):
		return rule, "prove"
	case errors.Is(e.Err, sessions.ErrUnproven):
		return rule, "unproven"
	case errors.Is(e.Err, sessions.ErrKeyLost):
		return rule, "key_lost"
	default:
		return rule, "ended"
	}
}

// request counts the answers of a listener.
func (m *metrics) request(listener string) func(sessionhttp.Observation) {
	return func(o sessionhttp.Observation) {
		status := "none"
		if o.Status > 0 {
			status = strconv.Itoa(o.Status)
		}
		m.requests.WithLabelValues(listener, o.Route, o.Method, status, o.Code).Inc()
		m.requestTook.WithLabelValues(listener, o.Route, o.Method).Observe(o.Took.Seconds())
	}
}

// metricsAtOnce bounds what a client that asks too often costs.
const metricsAtOnce = 4

// handler answers GET /metrics.
func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	answer := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: metricsAtOnce})
	mux.Handle("GET /metrics", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		answer.ServeHTTP(w, r)
	}))
	return mux
}

// collector is the prometheus.Collector of the metrics that are read.
type collector struct{ *metrics }

// Describe implements [prometheus.Collector].
func (r collector) Describe(to chan<- *prometheus.Desc) {
	for _, line := range r.table() {
		if line.read != nil {
			to <- line.desc()
		}
	}
}

// Collect implements [prometheus.Collector].
func (r collector) Collect(to chan<- prometheus.Metric) {
	now := r.now()
	for _, line := range r.table() {
		if line.read == nil {
			continue
		}
		as := prometheus.GaugeValue
		if line.kind == "counter" {
			as = prometheus.CounterValue
		}
		line.read(now, func(value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(line.desc(), as, value, labels...)
		})
	}
}

func (line metric) desc() *prometheus.Desc {
	return prometheus.NewDesc(line.name, plain(line.help), names(line.labels), nil)
}

// writeMetrics prints the page of the metrics, in Markdown.
func writeMetrics(w io.Writer) error {
	var b strings.Builder
	b.WriteString(metricsHead)
	var labels []label
	of := make(map[label][]string) // metrics
	for _, line := range newMetrics().table() {
		marked := names(line.labels)
		for i, l := range line.labels {
			marked[i] = "`" + l.name + "`"
			if of[l] == nil {
				labels = append(labels, l)
			}
			of[l] = append(of[l], "`"+line.name+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", line.name, line.kind, line.help, strings.Join(marked, ", "))
	}
	b.WriteString("\n## Labels\n\n")
	for _, l := range labels {
		fmt.Fprintf(&b, "- %s\n", settings.Wrap("`"+l.name+"` of "+strings.Join(of[l], ", ")+": "+l.values+".", "  "))
	}
	b.WriteString(metricsTail)
	_, err := io.WriteString(w, b.String())
	return err
}

const metricsHead = `# Metrics

<!-- Made by "sessiongate metrics" from the table in cmd/sessiongate/metrics.go. -->

The internal listener answers GET /metrics, without an API key, in the text format of Prometheus.
No other listener does. Every series that can exist is there from the start, as 0, so that the first
event is a rise. No label has a value that a client chooses. [monitoring](monitoring/README.md) says
how to scrape the page, and has alert rules and a dashboard.

| Metric | Type | Meaning | Labels |
|---|---|---|---|
`

const metricsTail = `
Beside these there are the metrics of Go's runtime (` + "`go_*`" + `) and of the process (` + "`process_*`" + `: CPU,
memory, open files, start).
`
