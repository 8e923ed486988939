package monitoring

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// selector is a metric of ours with its matchers.
	selector = regexp.MustCompile(`(sessiongate_\w+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)\\?"([^"\\]*)\\?"`)
	row      = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*$")
	label    = regexp.MustCompile("(?m)^- `(\\w+)` of (?:`\\w+`,\\s+)*`\\w+`:((?:.*\n)(?:  .*\n)*)")
	quoted   = regexp.MustCompile("`([^`]+)`")
)

// labels are the values that each label of each metric can have, as docs/metrics.md and
// docs/denials.md tell; nil where they are not listed.
func labels(t *testing.T) (ofMetric map[string][]string, values map[string][]string) {
	t.Helper()
	metrics, err := os.ReadFile("../metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	denials, err := os.ReadFile("../denials.md")
	if err != nil {
		t.Fatal(err)
	}
	ofMetric, values = map[string][]string{}, map[string][]string{}
	for _, line := range row.FindAllStringSubmatch(string(metrics), -1) {
		cells := strings.Split(strings.Trim(line[0], "| "), " | ")
		metric, last := line[1], cells[len(cells)-1]
		ofMetric[metric] = []string{}
		for _, name := range quoted.FindAllStringSubmatch(last, -1) {
			ofMetric[metric] = append(ofMetric[metric], name[1])
		}
	}
	for _, item := range label.FindAllStringSubmatch(string(metrics), -1) {
		for _, value := range quoted.FindAllStringSubmatch(item[2], -1) {
			values[item[1]] = append(values[item[1]], value[1])
		}
	}
	values["code"] = nil // in a table of their own
	for _, line := range row.FindAllStringSubmatch(string(denials), -1) {
		values["code"] = append(values["code"], line[1])
	}
	_, passed, _ := strings.Cut(string(denials), "\n## Allowed requests\n")
	for _, code := range quoted.FindAllStringSubmatch(passed, -1) {
		values["code"] = append(values["code"], code[1])
	}
	if len(ofMetric) < 20 || len(values["code"]) < 30 || len(values["answer"]) < 5 || len(values["outcome"]) < 5 {
		t.Fatalf("the tables of metrics and codes are not understood: %d metrics, %v", len(ofMetric), values)
	}
	return ofMetric, values
}

// An alert, and a panel, that asks for a label value which no metric has would never show anything.
func TestLabelsExist(t *testing.T) {
	t.Parallel()
	ofMetric, values := labels(t)
	checked := 0
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range selector.FindAllStringSubmatch(string(text), -1) {
			metric := found[1]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, ok := strings.CutSuffix(metric, suffix); ok && ofMetric[base] != nil {
					metric = base
				}
			}
			if ofMetric[metric] == nil {
				t.Errorf("%s asks for %s, which docs/metrics.md does not have", file, found[1])
				continue
			}
			for _, m := range matcher.FindAllStringSubmatch(found[2], -1) {
				name := m[1]
				if slices.Contains([]string{"job", "instance", "le"}, name) {
					continue // Prometheus' own
				}
				if !slices.Contains(ofMetric[metric], name) {
					t.Errorf("%s: %s has no label %s", file, metric, name)
				}
				if !slices.Contains([]string{"code", "answer", "outcome"}, name) {
					continue // not all values of other labels are listed
				}
				for value := range strings.SplitSeq(m[3], "|") {
					checked++
					if value != "" && !slices.Contains(values[name], value) {
						t.Errorf("%s: %s never has %s=%q", file, metric, name, value)
					}
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d values were looked at", checked)
	}
}
