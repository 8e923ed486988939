package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// testMetrics are metrics of a process that does nothing.
func testMetrics(t testing.TB) *metrics {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), "postgres://none@127.0.0.1:1/none") // connects to nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	m := newMetrics()
	m.now = func() state { return state{pool: pool.Stat()} }
	return m
}

// scrape is what GET /metrics answers, without comments.
func scrape(t *testing.T, m *metrics) map[string]string {
	t.Helper()
	r := httptest.NewRecorder()
	m.handler().ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if r.Code != http.StatusOK || !strings.HasPrefix(r.Header().Get("Content-Type"), "text/plain; version=0.0.4") || r.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", r.Code, r.Header())
	}
	series := map[string]string{}
	for line := range strings.Lines(r.Body.String()) {
		if at := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			series[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return series
}

func TestMetricsPageIsTheTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := run(t, nil, "metrics")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("docs/metrics.md is not what `sessiongate metrics` prints (-printed +page):\n%s", diff)
	}
}

// Each line of the table is in the answer once something happened, and nothing else of ours is.
func TestTableIsWhatIsAnswered(t *testing.T) {
	t.Parallel()
	m := testMetrics(t)
	m.request("public")(sessionhttp.Observation{Route: "other", Method: "GET", Status: 404})
	m.now = func() state {
		return state{started: true, pool: testMetrics(t).now().pool, engine: sessions.Stats{Keys: []sessions.KeyStats{{Kind: sessions.KeySigning}}}}
	}
	answered := map[string]bool{}
	for series := range scrape(t, m) {
		name, _, _ := strings.Cut(series, "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		answered[name] = true
	}
	for _, line := range m.table() {
		if !answered[line.name] {
			t.Errorf("%s is not answered", line.name)
		}
		delete(answered, line.name)
		if (line.make == nil) == (line.read == nil) || !strings.HasSuffix(line.help, ".") || (line.kind == "counter") != strings.HasSuffix(line.name, "_total") {
			t.Errorf("%s: %+v", line.name, line)
		}
	}
	for name := range answered {
		if strings.HasPrefix(name, "sessiongate") {
			t.Errorf("%s is not in the table", name)
		}
	}
	if !answered["go_goroutines"] || !answered["process_resident_memory_bytes"] {
		t.Error("nothing of the runtime and the process")
	}
}

// Counters that have not risen are there as 0: what comes into being with its first event never rises.
func TestWhatMayHappenIsThereBefore(t *testing.T) {
	t.Parallel()
	m := testMetrics(t)
	before := scrape(t, m)
	for _, o := range authz.Observations() {
		o.Took = time.Millisecond
		m.check(o)
	}
	for _, e := range allEvents() {
		m.event(e)
	}
	rose := 0
	for series, value := range scrape(t, m) {
		if !strings.HasPrefix(series, "sessiongate_") {
			continue
		}
		was, ok := before[series]
		if !ok {
			t.Errorf("%s came into being", series)
		}
		if was != value {
			rose++
		}
	}
	if rose < 2*len(authz.Observations()) {
		t.Errorf("%d rose", rose)
	}
	for series := range before {
		if strings.Contains(series, `sessiongate_checks_total`) && scrape(t, m)[series] != "1" {
			t.Errorf("%s: %s", series, scrape(t, m)[series])
		}
	}
}

// allEvents are one of each that is counted, with all that must not become a label.
func allEvents() []sessions.Event {
	secret := sessions.Event{Handle: sessions.Handle{1}, UserID: "hush-user", Actor: "hush-actor", Count: 3}
	kinds := []sessions.EventKind{
		sessions.EventCreated, sessions.EventRefreshed, sessions.EventSuperseded, sessions.EventRefreshRefused, sessions.EventClaims, sessions.EventPromoted,
		sessions.EventPromotionsFailed, sessions.EventFeedFailed, sessions.EventFeedRecovered, sessions.EventSwept, sessions.EventSweepFailed,
		sessions.EventStartRetried, sessions.EventReady,
	}
	var all []sessions.Event
	for _, kind := range kinds {
		e := secret
		e.Kind = kind
		all = append(all, e)
	}
	for _, reason := range []sessions.Reason{"theft", "rolled_back", "refresh_abuse", "signed_out", "revoked", "evicted"} {
		e := secret
		e.Kind, e.Reason = sessions.EventEnded, reason
		all = append(all, e)
	}
	for _, r := range refreshes {
		e := secret
		e.Kind, e.Rule, e.Err, e.Took = sessions.EventRefreshAnswered, r.rule, r.err, time.Millisecond
		all = append(all, e)
	}
	return all
}

var refreshes = []struct {
	rule sessions.Rule
	err  error
	want string // rule and answer
}{
	{"R1", sessions.ErrSessionEnded, "R1 ended"},
	{"R2", sessions.ErrSessionEnded, "R2 ended"},
	{"R2", sessions.ErrSuperseded, "R2 superseded"},
	{"R2", fmt.Errorf("%w: %w", sessions.ErrUnavailable, sessions.ErrSessionEnded), "none unavailable"},
	{"R3", nil, "R3 tokens"},
	{"R4", nil, "R4 tokens"},
	{"R4", sessions.ErrSessionEnded, "R4 ended"},
	{"R5", sessions.ErrSessionEnded, "R5 ended"},
	{"R5", sessions.ErrSuperseded, "R5 superseded"},
	{"R6", nil, "R6 tokens"},
	{"R7", nil, "R7 tokens"},
	{"R7", sessions.ErrSuperseded, "R7 superseded"},
	{"R8", sessions.ErrTheft, "R8 theft"},
	{"R8", sessions.ErrSessionEnded, "R8 ended"},
	{"", errors.Join(sessions.ErrUnavailable, errors.New("hush-error")), "none unavailable"},
	{"", &sessions.RateError{RetryAfter: time.Second}, "none limited"},
	{"", nil, "none unavailable"}, // it panicked
}

func TestRefreshAnswer(t *testing.T) {
	t.Parallel()
	for _, r := range refreshes {
		if rule, answer := refreshAnswer(sessions.Event{Rule: r.rule, Err: r.err}); rule+" "+answer != r.want {
			t.Errorf("%s, %v: %s %s, want %s", r.rule, r.err, rule, answer, r.want)
		}
	}
}

func TestNoLabelIsAStrangersWord(t *testing.T) {
	t.Parallel()
	m := testMetrics(t)
	for _, e := range allEvents() {
		m.event(e)
	}
	for _, status := range []int{0, 200, 302, 440, 503} {
		m.request("internal")(sessionhttp.Observation{Route: "/v1/sessions/{handle}", Method: "other", Status: status})
	}
	label := regexp.MustCompile(`^[a-z_]+(\{([a-z_]+="[^"]*",?)+\})?$`)
	statuses := map[string]bool{}
	for series := range scrape(t, m) {
		if strings.Contains(series, "hush") || strings.Contains(series, sessions.Handle{1}.String()) {
			t.Errorf("%s", series)
		}
		if strings.HasPrefix(series, "sessiongate_") && !label.MatchString(series) {
			t.Errorf("%s is odd", series)
		}
		if _, after, ok := strings.Cut(series, `status="`); ok {
			statuses[after[:strings.IndexByte(after, '"')]] = true
		}
	}
	if want := map[string]bool{"none": true, "200": true, "302": true, "440": true, "503": true}; !cmp.Equal(want, statuses) {
		t.Errorf("statuses %v", statuses)
	}
}

func TestMetricsIsReadOnly(t *testing.T) {
	t.Parallel()
	r := httptest.NewRecorder()
	testMetrics(t).handler().ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/metrics", nil))
	if r.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", r.Code)
	}
}

// The hot path is counted without an allocation.
func TestCountingACheckAllocatesNothing(t *testing.T) {
	m := testMetrics(t)
	all := authz.Observations()
	if n := testing.AllocsPerRun(100, func() {
		for _, o := range all {
			o.Took = time.Microsecond
			m.check(o)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCountingACheck(b *testing.B) {
	m := testMetrics(b)
	o := authz.Observations()[0]
	o.Took = 2 * time.Microsecond
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.check(o)
		}
	})
}
