package doctor_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
)

func examine(t *testing.T, text string) doctor.Report {
	t.Helper()
	report, err := doctor.Examine([]byte(text), doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func show(findings []doctor.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "  %s line %d, %s: %s (%s)\n", f.Probe, f.Line, f.In, f.Fault, f.Path)
	}
	return cmp.Or(b.String(), "  nothing\n")
}

func TestShippedFileIsClean(t *testing.T) {
	t.Parallel()
	report := examine(t, string(envoy.Shipped()))
	if report.Check != "sessiongate_authz" || len(report.Findings) > 0 || len(report.Skipped) > 0 {
		t.Errorf("check %q, skipped %v, found:\n%s", report.Check, report.Skipped, show(report.Findings))
	}
	var routes []string
	for _, x := range report.Exceptions {
		routes = append(routes, x.Route)
	}
	if want := []string{"auth (path_separated_prefix /auth)", "jwks (path /.well-known/jwks.json)", "login (path /login)", "static (prefix /static/)"}; !slices.Equal(routes, want) {
		t.Errorf("exceptions are %q, want %q", routes, want)
	}
}

// TestMutants: each fault is found by its probe alone, on the line to change, with a reason and a cure.
func TestMutants(t *testing.T) {
	t.Parallel()
	shipped := string(envoy.Shipped())
	for _, m := range everyMutant(shipped) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if m.old != "" && strings.Count(shipped, m.old) != 1 || m.text == shipped {
				t.Fatalf("envoy.yaml has %q %d times", m.old, strings.Count(shipped, m.old))
			}
			report := examine(t, m.text)
			if len(report.Findings) == 0 {
				t.Fatal("nothing is found")
			}
			line := ""
			for _, f := range report.Findings {
				if f.Probe != m.probe {
					t.Errorf("found by %s, want %s", f.Probe, m.probe)
				}
				if f.Why == "" || f.Cure == "" || f.Where == "" || f.Path == "" || f.Line == 0 {
					t.Errorf("it does not say everything: %+v", f)
				}
				line = strings.Split(m.text, "\n")[max(0, f.Line-1)]
			}
			if !strings.Contains(line, m.at) {
				t.Errorf("the line is %q, want the one with %q", line, m.at)
			}
			if t.Failed() {
				t.Logf("found:\n%s", show(report.Findings))
			}
		})
	}
}
