package envoy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sessiongate/sessiongate/envoy/doctor"
)

// probesOf are the probes that find something in a configuration, each once.
func probesOf(t *testing.T, text []byte) (probes, all string) {
	t.Helper()
	report, err := doctor.Examine(text, doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	found, lines := map[string]bool{}, strings.Builder{}
	for _, f := range report.Findings {
		found[f.Probe] = true
		fmt.Fprintf(&lines, "%s: %s: %s\n", f.Probe, f.In, f.Fault)
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), " "), lines.String()
}

// TestDoctorOfGuides: what follows a guide is clean, but for what the guide itself says that its control plane cannot do.
func TestDoctorOfGuides(t *testing.T) {
	t.Parallel()
	text, err := protojson.Marshal(standalone(t))
	if err != nil {
		t.Fatal(err)
	}
	if probes, all := probesOf(t, text); probes != "" {
		t.Errorf("standalone: found\n%s", all)
	}
	for name, known := range map[string]string{
		"Istio": "",
		// 403 where there is no answer; look-alikes pass; Cookie lines are joined; escaped slashes are kept; the route cache is cleared, mutations are not validated.
		"Contour":       "D17 D2 D3 D5 D6",
		"Envoy Gateway": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if probes, all := probesOf(t, recorded(t, name).text(t)); probes != known {
				t.Errorf("found %s, want %q:\n%s", probes, known, all)
			}
		})
	}
}
