package envoy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// pictured is a panel of docs/monitoring/dashboard.json with what Prometheus answers to its queries.
type pictured struct {
	Type   string          `json:"type"`
	Title  string          `json:"title"`
	Unit   string          `json:"unit"`
	X      int             `json:"x"`
	Y      int             `json:"y"`
	W      int             `json:"w"`
	H      int             `json:"h"`
	Series []pictureSeries `json:"series"`
}

type pictureSeries struct {
	Name   string       `json:"name"`
	Values [][2]float64 `json:"values"`
}

// TestDashboard: a real Prometheus that watches two processes under load has an answer to each query of the dashboard's first page, and a
// browser draws it. `make screenshots` takes docs/images/dashboard.png of it. The drawing is ours: Grafana itself cannot be had as a package.
func TestDashboard(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{})
	prometheus := s.startPrometheus()
	began, lead := time.Now(), time.Duration(0)
	if os.Getenv("SESSIONGATE_SCREENSHOTS") != "" {
		lead = 15 * time.Second // a rate needs some scrapes before it is level
		s.morning(90 * time.Second)
	} else {
		s.morning(time.Second)
	}
	var panels []pictured
	s.eventually("each panel shows something", func() bool {
		panels = readPanels(t, prometheus, began.Add(lead), time.Now())
		return !slices.ContainsFunc(panels, func(p pictured) bool { return p.Type != "row" && len(p.Series) == 0 })
	})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /panels.json", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(panels) })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/dashboard.html") })
	page := httptest.NewServer(mux)
	t.Cleanup(page.Close)
	d := demoPage{tab: s.newProfile().newTab()}
	d.tab.goTo(page.URL)
	d.viewport(1280, 800, 1)
	d.await(`document.title === "drawn"`)
	const lost = `[...document.querySelectorAll("section")].filter((s) => s.getBoundingClientRect().width < 150 || !s.querySelector("path[d^=M], .stat")).map((s) => s.textContent)`
	if panels := eval[[]string](d.tab, lost); len(panels) > 0 {
		t.Errorf("not drawn: %q", panels)
	}
	d.shoot("dashboard")
}

// startPrometheus has a Prometheus scrape the stack's processes every second, and returns its address.
func (s *stack) startPrometheus() string {
	s.Helper()
	dir := s.TempDir()
	var targets []string
	for _, p := range s.processes {
		targets = append(targets, strconv.Quote(p.internal))
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: sessiongate, static_configs: [{targets: [" + strings.Join(targets, ", ") + "]}]}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	address := freeAddress(s.T)
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, "prometheus", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address)
	if err := command.Start(); err != nil {
		s.Fatalf("Prometheus is needed for this picture (Debian: apt-get install prometheus): %v", err)
	}
	s.Cleanup(func() { stop(); _ = command.Wait() })
	s.eventually("Prometheus is ready", func() bool {
		response, err := direct.Get("http://" + address + "/-/ready")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return "http://" + address
}

// morning is one in small: users sign in, ask, refresh and sign out, and some of what comes is no one's.
func (s *stack) morning(length time.Duration) {
	var all sync.WaitGroup
	end := time.Now().Add(length)
	for i := range 12 {
		all.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				b := s.newBrowser(networkV)
				b.signIn(fmt.Sprintf("user-%d-%d", i, n))
				for range 20 + 3*i {
					b.get()
					time.Sleep(time.Duration(20+10*i) * time.Millisecond)
				}
				b.refresh()
				b.send(http.MethodGet, "/api/things", script, with("Cookie", "sAccessToken=expired"))
				if n%2 == 0 {
					b.do(http.MethodPost, "/auth/signout", script)
					b.send(http.MethodGet, "/", script)
				}
			}
		})
	}
	all.Wait()
}

func readPanels(t *testing.T, prometheus string, from, to time.Time) []pictured {
	t.Helper()
	text, err := os.ReadFile("../docs/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, LegendFormat string }
			FieldConfig struct{ Defaults struct{ Unit string } }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$job", "sessiongate", "$instance", ".+", "$__rate_interval", "10s", "$__range", "1m")
	var panels []pictured
	for _, p := range board.Panels {
		if p.GridPos.Y > 22 {
			continue // below the picture's edge
		}
		panel := pictured{Type: p.Type, Title: p.Title, Unit: p.FieldConfig.Defaults.Unit, X: p.GridPos.X, Y: p.GridPos.Y, W: p.GridPos.W, H: p.GridPos.H, Series: []pictureSeries{}}
		for _, target := range p.Targets {
			panel.Series = append(panel.Series, queryRange(t, prometheus, fill.Replace(target.Expr), target.LegendFormat, from, to)...)
		}
		panels = append(panels, panel)
	}
	return panels
}

var legend = regexp.MustCompile(`\{\{(\w+)\}\}`)

// queryRange leaves out series that are 0 all the time, but for one where all are: a picture would name a hundred.
func queryRange(t *testing.T, prometheus, query, format string, from, to time.Time) (series []pictureSeries) {
	t.Helper()
	response, err := direct.PostForm(prometheus+"/api/v1/query_range", url.Values{
		"query": {query}, "start": {strconv.FormatInt(from.Unix(), 10)}, "end": {strconv.FormatInt(to.Unix(), 10)}, "step": {"1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %s %v", query, answer.Error, err)
	}
	var quiet []pictureSeries
	for _, r := range answer.Data.Result {
		one := pictureSeries{Name: legend.ReplaceAllStringFunc(format, func(name string) string { return r.Metric[strings.Trim(name, "{}")] })}
		if one.Name == "" {
			one.Name = strings.Join(slices.Sorted(maps.Values(r.Metric)), " ")
		}
		moves := false
		for _, v := range r.Values {
			value, err := strconv.ParseFloat(v[1].(string), 64)
			if err != nil || value != value {
				continue
			}
			moves = moves || value != 0
			one.Values = append(one.Values, [2]float64{v[0].(float64), value})
		}
		if moves {
			series = append(series, one)
		} else if len(quiet) == 0 {
			quiet = append(quiet, one)
		}
	}
	if len(series) == 0 {
		return quiet
	}
	return series
}
