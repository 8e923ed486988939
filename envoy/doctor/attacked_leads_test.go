package doctor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/envoy/guides/standalone"
)

const (
	beforeOpen   = "                        # Files that are open to all.\n"
	beforeClaims = "                  # 1. Whatever a client claims"
	beforeCheck  = "                  # 3. Room for the check."
	beforeRouter = "                  # 5. On to the cluster"
	noUpgrade    = "upgrade_configs: [{ upgrade_type: websocket, enabled: false }]"
	ownRouter    = `filters: [{ name: envoy.filters.http.router, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }]`
	ownCheck     = `filters: [{ name: x, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, grpc_service: { envoy_grpc: { cluster_name: sessiongate_authz } } } }]`
)

// attack is the shipped envoy.yaml with one edit: the first text, which is in the file once, becomes the second.
type attack struct {
	name     string
	old, new string
	probe    string // none: it is harmless
	at       string // the text on each line that is found
}

// attacks are ways on which everyone was let in, or an identity was forged, and what only looks like one.
var attacks = []attack{
	{"an upgrade has filters of its own", noUpgrade, strings.Replace(noUpgrade, "false", "false, "+ownRouter, 1), "D16", noUpgrade[:40]},
	{"an upgrade that no route has, with filters of its own", noUpgrade, "upgrade_configs: [{ upgrade_type: foo, enabled: false, " + ownRouter + " }]", "", ""},
}

// TestAttacks: each is found by its probe alone, on its line, with a reason and a cure; and what is harmless is not.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			report := examine(t, attacked(t, a.old, a.new))
			if (len(report.Findings) > 0) != (a.probe != "") || report.Incomplete() {
				t.Errorf("want %q, skipped %v", a.probe, report.Skipped)
			}
			lines := strings.Split(attacked(t, a.old, a.new), "\n")
			for _, f := range report.Findings {
				if f.Probe != a.probe || !strings.Contains(lines[max(0, f.Line-1)], a.at) {
					t.Errorf("found by %s on the line %q, want %s on the one with %q", f.Probe, lines[max(0, f.Line-1)], a.probe, a.at)
				}
				if f.Why == "" || f.Cure == "" || f.Where == "" || f.Path == "" || f.Line == 0 {
					t.Errorf("it does not say everything: %+v", f)
				}
			}
			if t.Failed() {
				t.Logf("found:\n%s", show(report.Findings))
			}
		})
	}
}

// attacked is the shipped file with one edit.
func attacked(t *testing.T, old, replacement string) string {
	t.Helper()
	shipped := string(envoy.Shipped())
	if strings.Count(shipped, old) != 1 {
		t.Fatalf("envoy.yaml has %q %d times", old, strings.Count(shipped, old))
	}
	return strings.Replace(shipped, old, replacement, 1)
}

// unknown are configurations that the doctor does not understand in full: it must not call them clean.
var unknown = []struct{ name, old, new string }{
	{"an upgrade has a chain of its own with a check", noUpgrade, strings.Replace(noUpgrade, "false", "false, "+ownCheck, 1)},
}

// TestUnknown: what the doctor cannot judge, it says.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for _, u := range unknown {
		if report := examine(t, attacked(t, u.old, u.new)); len(report.Findings) > 0 || !report.Incomplete() {
			t.Errorf("%s: skipped %v, found:\n%s", u.name, report.Skipped, show(report.Findings))
		}
	}
}

// TestPatchOfUpgrades: a check in http_filters is not in an upgrade's own filters, so such a file is not patched to look like a checked one.
func TestPatchOfUpgrades(t *testing.T) {
	t.Parallel()
	manager := `"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager` + "\n"
	text := strings.Replace(standalone.Block("existing"), manager, manager+"                upgrade_configs: [{ upgrade_type: websocket, "+ownRouter+" }]\n", 1)
	if out, err := doctor.Patch([]byte(text), doctor.Options{}, addresses); !errors.Is(err, doctor.ErrNotPatched) || !strings.Contains(err.Error(), "upgrades to websocket") {
		t.Errorf("%v\n%s", err, out)
	}
}

var _ = slices.Contains[[]string]
