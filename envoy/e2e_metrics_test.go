package envoy_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"go.yaml.in/yaml/v3"
)

// scrape is what a process answers to GET /metrics, and the values in it by series.
func (p *replica) scrape() (text []byte, series map[string]float64) {
	p.Helper()
	response, err := direct.Get("http://" + p.internal + "/metrics")
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err = io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		p.Fatalf("metrics: %d, %v", response.StatusCode, err)
	}
	series = map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && !strings.HasPrefix(line, "#") {
			if series[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
				p.Errorf("metrics: %s", line)
			}
		}
	}
	return text, series
}

// TestMetrics: what happens is what is counted; no other listener tells it, no secret and no user is in it; Prometheus' own tool finds nothing
// to say against it; and whatever the alert rules and the dashboard ask for is there.
func TestMetrics(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1, edit: editRoutes(func(v *routev3.VirtualHost) error {
		return addRoute(v, "default", "/closed", map[string]string{"sesion": "required"})
	})})
	p := s.processes[0]
	_, before := p.scrape()

	// Everything once.
	b, none := s.newBrowser(networkV), s.newBrowser(networkX)
	handle := b.signIn("alice-of-the-metrics")
	b.mustGet(t)
	none.send(http.MethodGet, "/", script)
	none.send(http.MethodGet, "/", script, with("Cookie", "sAccessToken=rubbish"))
	none.send(http.MethodGet, "/optional", script)
	b.send(http.MethodGet, "/", script, with("Accept", "text/event-stream"), with("Origin", "https://evil.example"))
	b.send(http.MethodGet, "/closed", script)
	none.send(http.MethodGet, "/auth/secret-in-a-path", script)
	s.advance(grace + moment)
	thief := b.stolenBy(networkX)
	b.mustRefresh(t)
	b.use(handle)
	s.awaitPromoted(handle)
	s.advance(grace + moment)
	thief.refresh()
	other := p.create("bob-of-the-metrics")
	p.api(http.MethodPatch, "/v1/sessions/"+other.Session.Handle, map[string]any{"claims": map[string]any{"a": 1}}, nil)
	p.api(http.MethodDelete, "/v1/sessions/"+other.Session.Handle, nil, nil)
	p.api(http.MethodGet, "/v1/sessions/nothing", nil, nil)

	var text []byte
	var after map[string]float64
	s.eventually("a connection is idle", func() bool {
		text, after = p.scrape()
		return after[`sessiongate_database_connections{state="idle"}`] > 0
	})
	t.Run("counted", func(t *testing.T) {
		for series, want := range map[string]float64{
			`sessiongate_checks_total{code="no_token",outcome="UNAUTHORISED",rule="V0"}`:                                                     1,
			`sessiongate_checks_total{code="malformed",outcome="TRY_REFRESH",rule="V1"}`:                                                     1,
			`sessiongate_checks_total{code="optional",outcome="ALLOW",rule="pass"}`:                                                          1,
			`sessiongate_checks_total{code="foreign_origin",outcome="FORBIDDEN",rule="origin"}`:                                              1,
			`sessiongate_checks_total{code="policy",outcome="UNAVAILABLE",rule="policy"}`:                                                    1,
			`sessiongate_check_duration_seconds_count{outcome="FORBIDDEN"}`:                                                                  1,
			`sessiongate_refreshes_total{answer="tokens",rule="R4"}`:                                                                         1,
			`sessiongate_refreshes_total{answer="theft",rule="R8"}`:                                                                          1,
			`sessiongate_refresh_duration_seconds_count{answer="theft"}`:                                                                     1,
			`sessiongate_sessions_created_total`:                                                                                             4, // and one for each move of the clock
			`sessiongate_sessions_ended_total{reason="theft"}`:                                                                               1,
			`sessiongate_sessions_ended_total{reason="revoked"}`:                                                                             3,
			`sessiongate_claims_changed_total`:                                                                                               1,
			`sessiongate_promotions_total`:                                                                                                   1,
			`sessiongate_feed_entries{kind="ended"}`:                                                                                         4,
			`sessiongate_feed_entries{kind="claims"}`:                                                                                        1,
			`sessiongate_http_requests_total{code="no_route",listener="public",method="GET",route="other",status="404"}`:                     1,
			`sessiongate_http_requests_total{code="theft",listener="public",method="POST",route="/auth/session/refresh",status="440"}`:       1,
			`sessiongate_http_requests_total{code="no_session",listener="internal",method="GET",route="/v1/sessions/{handle}",status="404"}`: 1,
			`sessiongate_http_requests_total{code="",listener="internal",method="POST",route="/v1/sessions",status="201"}`:                   4,
			`sessiongate_http_request_duration_seconds_count{listener="internal",method="POST",route="/v1/sessions"}`:                        4,
			`sessiongate_log_lines_withheld_total`:                                                                                           0,
		} {
			got, ok := after[series]
			if got -= before[series]; !ok || got != want {
				t.Errorf("%s rose by %v (there: %t), want %v", series, got, ok, want)
			}
		}
		for series, want := range map[string]float64{
			`sessiongate_ready`: 1, `sessiongate_feed_bound_seconds`: 1, `sessiongate_database_connections_max`: 10,
			`sessiongate_promotion_queue_capacity`: 4096, `sessiongate_keys{kind="signing"}`: 1, `sessiongate_keys{kind="sealing"}`: 1,
		} {
			if after[series] != want {
				t.Errorf("%s is %v, want %v", series, after[series], want)
			}
		}
		for _, series := range []string{
			`sessiongate_token_cache_entries`, `sessiongate_token_cache_hits_total`, `sessiongate_token_cache_misses_total`,
			`sessiongate_key_age_seconds{kind="signing"}`, `sessiongate_feed_age_seconds`, `sessiongate_feed_polls_total`,
			`sessiongate_database_acquires_total`, `sessiongate_database_connections{state="idle"}`,
		} {
			if after[series] <= 0 {
				t.Errorf("%s is %v", series, after[series])
			}
		}
	})

	t.Run("no secret", func(t *testing.T) {
		if n := s.secrets.in(text); n > 0 {
			t.Errorf("%d secrets are in the metrics", n)
		}
		for _, word := range []string{"alice", "bob-of", handle, other.Session.Handle, "secret-in-a-path", "sesion", networkV, "127.0.0.1"} {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s is in the metrics", word)
			}
		}
	})

	t.Run("nowhere else", func(t *testing.T) {
		for _, address := range []string{p.public, strings.TrimPrefix(s.proxy.URL("ingress"), "http://")} {
			response, err := direct.Get("http://" + address + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK || bytes.Contains(body, []byte("sessiongate_")) {
				t.Errorf("%s tells metrics", address)
			}
		}
	})

	t.Run("well formed", func(t *testing.T) {
		promtool(t, text, "check", "metrics")
	})

	t.Run("what is asked for is there", func(t *testing.T) {
		asked := append(dashboardQueries(t), alertSelectors(t)...)
		if len(asked) < 60 {
			t.Fatalf("%d queries", len(asked))
		}
		// Prometheus itself answers each query over the series of this process, all of them rising.
		type sample struct {
			Value float64 `yaml:"value"`
		}
		type question struct {
			Expr   string   `yaml:"expr"`
			At     string   `yaml:"eval_time"`
			Expect []sample `yaml:"exp_samples"`
		}
		type input struct {
			Series string `yaml:"series"`
			Values string `yaml:"values"`
		}
		series := []input{{`up{job="sessiongate",instance="a:9003"}`, "1x20"}}
		for _, name := range slices.Sorted(maps.Keys(after)) {
			metric, labels, labelled := strings.Cut(name, "{")
			if labels = strings.TrimSuffix(labels, "}"); labelled {
				labels = "," + labels
			}
			series = append(series, input{metric + `{job="sessiongate",instance="a:9003"` + labels + "}", "1+1x20"})
		}
		var questions []question
		for _, expr := range asked {
			questions = append(questions, question{"count(" + expr + ") > bool 0", "15m", []sample{{1}}})
		}
		file, err := yaml.Marshal(map[string]any{"tests": []any{map[string]any{"interval": "1m", "input_series": series, "promql_expr_test": questions}}})
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "queries_test.yaml")
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
		promtool(t, nil, "test", "rules", name)
	})
}

// promtool runs Prometheus' own tool.
func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is needed, Prometheus' own tool: install it (Debian: apt-get install prometheus)")
	}
	command := exec.CommandContext(t.Context(), tool, args...)
	command.Stdin = bytes.NewReader(stdin)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output[:min(len(output), 4000)])
	}
}

// dashboardQueries are those of the shipped dashboard, with its variables set.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	set := strings.NewReplacer("$__rate_interval", "5m", "$__range", "10m", "$job", "sessiongate", "$instance", ".*")
	var all []string
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all = append(all, set.Replace(target.Expr))
		}
	}
	return all
}

// alertSelectors are the series that the shipped alert rules look at.
func alertSelectors(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	selector := regexp.MustCompile(`\b(up|(sessiongate|go|process)_\w+)(\{[^}]*\})?`)
	var all []string
	for _, r := range file.Groups[0].Rules {
		found := selector.FindAllString(r.Expr, -1)
		if len(found) == 0 {
			t.Errorf("%s looks at nothing", r.Alert)
		}
		all = append(all, found...)
	}
	return all
}

// TestFloodOfDenials: clients cannot fill the disk with lines about them, and the line that is written says how many were not.
func TestFloodOfDenials(t *testing.T) {
	s := newStack(t, stackOptions{processes: 1, noEnvoy: true, settings: []string{"SESSIONGATE_LOG_DENIALS_PER_SECOND=2"}})
	p := s.processes[0]
	written := func() (lines int, withheld float64) {
		text, err := os.ReadFile(p.log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == "check" && fields["level"] == "INFO" {
				lines++
				n, _ := fields["withheld"].(float64)
				withheld += n
			}
		}
		return lines, withheld
	}
	const flood = 100
	for range flood {
		p.check("rubbish", "")
	}
	// A second later at the latest, a line tells of the others.
	asked := flood
	s.eventually("the log tells of the lines that it withheld", func() bool {
		p.check("rubbish", "")
		asked++
		_, withheld := written()
		return withheld > 0
	})
	_, series := p.scrape()
	lines, withheld := written()
	total := series["sessiongate_log_lines_withheld_total"]
	if lines+int(total) != asked || withheld > total || withheld == 0 {
		t.Errorf("%d checks were denied: %d lines, which tell of %v more, and %v are counted", asked, lines, withheld, total)
	}
	const denied = `sessiongate_checks_total{code="malformed",outcome="TRY_REFRESH",rule="V1"}`
	if series[denied] != float64(asked) {
		t.Errorf("%v are counted as denied, want %d", series[denied], asked)
	}
}
