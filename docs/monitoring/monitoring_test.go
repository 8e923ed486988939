// Package monitoring holds what Prometheus and Grafana read, and is nothing but
// the test of it. That the metrics exist is a test of the running product (envoy).
package monitoring

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"go.yaml.in/yaml/v3"
)

// promtool runs Prometheus' own tool.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is needed, Prometheus' own tool: install it (Debian: apt-get install prometheus)")
	}
	if output, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

type rule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []rule }
	}
	read(t, "alerts.yaml", &file)
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestAlertsParse(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "--lint-fatal", "alerts.yaml")
}

func TestAlertsFire(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "alerts_test.yaml")
}

// Each alert says since when, how bad, what and what to do, and is tried where it fires and where it does not.
func TestAlertsAreWhole(t *testing.T) {
	t.Parallel()
	var tried struct {
		Tests []struct {
			Rules []struct {
				Alert  string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	read(t, "alerts_test.yaml", &tried)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range tried.Tests {
		for _, r := range test.Rules {
			if len(r.Expect) > 0 {
				fires[r.Alert] = true
			} else {
				rests[r.Alert] = true
			}
		}
	}
	all := alerts(t)
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	for _, r := range all {
		if r.For == "" || r.Annotations["summary"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s lacks for, severity or summary", r.Alert)
		}
		if want := "https://github.com/sessiongate/sessiongate/blob/main/docs/operations.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook %s, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		if !fires[r.Alert] || !rests[r.Alert] {
			t.Errorf("%s is not tried both ways: fires %t, does not %t", r.Alert, fires[r.Alert], rests[r.Alert])
		}
	}
}

// board is a dashboard as every Grafana imports it.
type board = dashboard.Dashboard //nolint:staticcheck // the one that it prefers is an object of newer Grafanas' own API

func readDashboard(t *testing.T) board {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	// The strict reading finds faults, but its empty list of them is an error that
	// is not nil, by which it drops each panel; so the other one is what is read.
	var faults cog.BuildErrors
	if err := new(board).UnmarshalJSONStrict(text); !errors.As(err, &faults) || len(faults) > 0 {
		t.Fatalf("dashboard.json is not as Grafana's schema has it: %v", err)
	}
	var d board
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Fatalf("dashboard.json: %v", err)
	}
	return d
}

// The dashboard is what Grafana's schema has, works with any Prometheus, and each panel has an explained place of its own.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	ids := map[uint32]bool{}
	taken := map[[2]uint32]string{}
	variables := map[string]bool{"__rate_interval": true, "__range": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	if d.Templating.List[0].Type != "datasource" || d.Id != nil {
		t.Error("the dashboard belongs to one Grafana")
	}
	used := regexp.MustCompile(`\$\{?(\w+)`)
	seen := 0
	for _, p := range d.Panels {
		if p.RowPanel != nil {
			if len(p.RowPanel.Panels) > 0 {
				t.Error("a panel in a row is not looked at here")
			}
			continue
		}
		panel := p.Panel
		title := *panel.Title
		if ids[*panel.Id] {
			t.Errorf("%s: id %d is another's", title, *panel.Id)
		}
		ids[*panel.Id] = true
		position := panel.GridPos
		if position.X+position.W > 24 {
			t.Errorf("%s is beyond the edge", title)
		}
		for x := range position.W {
			for y := range position.H {
				at := [2]uint32{position.X + x, position.Y + y}
				if other, ok := taken[at]; ok {
					t.Fatalf("%s covers %s", title, other)
				}
				taken[at] = title
			}
		}
		if *panel.Datasource.Uid != "${datasource}" || len(panel.Targets) == 0 {
			t.Errorf("%s asks another Prometheus, or nothing", title)
		}
		for _, target := range panel.Targets {
			seen++
			query := target.(*prometheus.Dataquery)
			if *query.Datasource.Uid != "${datasource}" || !strings.Contains(query.Expr, `{job="$job",instance=~"$instance"`) {
				t.Errorf("%s: %s is not of the process that was chosen", title, query.Expr)
			}
			for _, m := range used.FindAllStringSubmatch(query.Expr, -1) {
				if !variables[m[1]] {
					t.Errorf("%s: there is no variable %s", title, m[1])
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("%d queries", seen)
	}
}
