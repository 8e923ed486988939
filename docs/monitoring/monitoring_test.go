// Package monitoring contains only tests: of the files that Prometheus and Grafana
// read. A test of the running product (package envoy) checks that the metrics exist.
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

// Each alert has a duration, a severity, a summary and a runbook. Its tests cover a case in which it
// fires and one in which it does not.
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
			t.Errorf("%s is not tested both ways: fires %t, does not fire %t", r.Alert, fires[r.Alert], rests[r.Alert])
		}
	}
}

// board is a dashboard in the form that every Grafana imports.
type board = dashboard.Dashboard //nolint:staticcheck // the preferred type is an object of the API of newer Grafanas

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
	// The strict decoder finds faults. But its empty list of faults is an error that is
	// not nil, and with it the decoder drops each panel. So the lenient one decodes.
	var faults cog.BuildErrors
	if err := new(board).UnmarshalJSONStrict(text); !errors.As(err, &faults) || len(faults) > 0 {
		t.Fatalf("dashboard.json does not follow Grafana's schema: %v", err)
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

// The dashboard follows Grafana's schema and works with any Prometheus. No two panels overlap.
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
		t.Error("the dashboard works in one Grafana only")
	}
	used := regexp.MustCompile(`\$\{?(\w+)`)
	seen := 0
	for _, p := range d.Panels {
		if p.RowPanel != nil {
			if len(p.RowPanel.Panels) > 0 {
				t.Error("this test does not look at a panel inside a row")
			}
			continue
		}
		panel := p.Panel
		title := *panel.Title
		if ids[*panel.Id] {
			t.Errorf("%s: another panel has the id %d", title, *panel.Id)
		}
		ids[*panel.Id] = true
		position := panel.GridPos
		if position.X+position.W > 24 {
			t.Errorf("%s ends beyond the right edge", title)
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
			t.Errorf("%s queries another Prometheus, or nothing", title)
		}
		for _, target := range panel.Targets {
			seen++
			query := target.(*prometheus.Dataquery)
			if *query.Datasource.Uid != "${datasource}" || !strings.Contains(query.Expr, `{job="$job",instance=~"$instance"`) {
				t.Errorf("%s: %s does not select the chosen process", title, query.Expr)
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
