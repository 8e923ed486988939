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

// TestDoctorOfIstiosExceptions: the doctor reads which paths an AuthorizationPolicy exempts, from what Istio makes of it.
func TestDoctorOfIstiosExceptions(t *testing.T) {
	t.Parallel()
	exempt := func(r recording) object { // what holds the list of paths
		_, chain := checked(t, r.Bootstrap)
		for _, filter := range at(chain, "filters", 0, "typed_config", "http_filters").([]any) {
			if rules, ok := at(filter, "typed_config").(object)["shadow_rules"].(object); ok {
				for _, policy := range rules["policies"].(object) {
					return at(policy, "permissions", 0, "and_rules", "rules", 0, "not_rule", "or_rules").(object)
				}
			}
		}
		t.Fatal("no filter has shadow rules")
		return nil
	}
	path := func(kind, value string) any { return object{"url_path": object{"path": object{kind: value}}} }
	for name, test := range map[string]struct {
		edit  func(paths []any) []any
		found string
	}{
		"the guide's":          {func(paths []any) []any { return paths }, ""},
		"not the auth path":    {func(paths []any) []any { return paths[2:] }, "D7"},
		"not the login page":   {func(paths []any) []any { return paths[:3] }, "D4"},
		"everything":           {func(paths []any) []any { return append(paths, path("prefix", "/")) }, "D1"},
		"one page of the app":  {func(paths []any) []any { return append(paths, path("exact", "/about")) }, ""},
		"what no path decides": {func([]any) []any { return []any{object{"header": object{"name": "x-open", "present_match": true}}} }, "D4 D7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := recorded(t, "Istio")
			list := exempt(r)
			list["rules"] = test.edit(list["rules"].([]any))
			if probes, all := probesOf(t, r.text(t)); probes != test.found {
				t.Errorf("found %s, want %q:\n%s", probes, test.found, all)
			}
			report, err := doctor.Examine(r.text(t), doctor.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings { // no route of Istio can have a typed_per_filter_config of ours
				if f.Probe == "D7" && f.Cure != "- /auth\n- /auth/*" {
					t.Errorf("the cure of %s is %s", f.Fault, f.Cure)
				}
			}
		})
	}
}
