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
	type chain struct {
		manager object
		rbac    object // the filter, with its shadow rules
		policy  object
		exempt  object // has the list of paths
		check   object
	}
	read := func(r recording) (c chain) {
		_, filters := checked(t, r.Bootstrap)
		c.manager = at(filters, "filters", 0, "typed_config").(object)
		for _, filter := range c.manager["http_filters"].([]any) {
			config, _ := filter.(object)["typed_config"].(object)
			if rules, ok := config["shadow_rules"].(object); ok {
				c.rbac = filter.(object)
				for _, policy := range rules["policies"].(object) {
					c.policy = policy.(object)
				}
			}
			if isCheck(filter) {
				c.check = config
			}
		}
		c.exempt = at(c.policy, "permissions", 0, "and_rules", "rules", 0, "not_rule", "or_rules").(object)
		return c
	}
	rename := func(c chain, name string) {
		at(c.rbac, "typed_config", "shadow_rules").(object)["policies"] = object{name: c.policy}
	}
	path := func(kind, value string) any { return object{"url_path": object{"path": object{kind: value}}} }
	paths := func(edit func(paths []any) []any) func(chain) {
		return func(c chain) { c.exempt["rules"] = edit(c.exempt["rules"].([]any)) }
	}
	only := func(rule any) func(chain) {
		return func(c chain) { c.policy["permissions"] = []any{rule} }
	}
	header := object{"header": object{"name": "x-open", "present_match": true}}
	for name, test := range map[string]struct {
		edit   func(chain)
		found  string
		unsure bool // it says that it cannot tell
	}{
		"the guide's":         {paths(func(paths []any) []any { return paths }), "", false},
		"not the auth path":   {paths(func(paths []any) []any { return paths[2:] }), "D7", false},
		"not the login page":  {paths(func(paths []any) []any { return paths[:3] }), "D4", false},
		"everything":          {paths(func(paths []any) []any { return append(paths, path("prefix", "/")) }), "D1", false},
		"one page of the app": {paths(func(paths []any) []any { return append(paths, path("exact", "/about")) }), "", false},
		"no path decides":     {paths(func([]any) []any { return []any{header} }), "", true},
		"a header as well":    {func(c chain) { c.policy["principals"] = []any{header} }, "", true},
		"the first page only": {only(path("exact", "/")), "", true},
		"a part by a pattern": {only(path("contains", "admin")), "", true},
		// Nothing switches the check on.
		"another name":   {func(c chain) { rename(c, "istio-ext-authz-other-ns[x]-policy[y]-rule[0]") }, "D1", false},
		"another key":    {func(c chain) { at(c.check, "filter_enabled_metadata", "path", 0).(object)["key"] = "nope" }, "D15 D4 D7", false},
		"another prefix": {func(c chain) { delete(c.rbac["typed_config"].(object), "shadow_rules_stat_prefix") }, "D15 D4 D7", false},
		"RBAC is off":    {func(c chain) { c.rbac["disabled"] = true }, "D1 D15", false},
		"another is before": {func(c chain) {
			at(c.rbac, "typed_config", "shadow_rules", "policies").(object)["a"] = object{"permissions": []any{object{"any": true}}, "principals": []any{object{"any": true}}}
		}, "D1", false},
		// Of two RBAC filters the check reads one.
		"a dry run before": {func(c chain) {
			dry := object{"name": "dry", "typed_config": object{
				"@type": at(c.rbac, "typed_config", "@type"), "shadow_rules_stat_prefix": "istio_dry_run_allow_",
				"shadow_rules": object{"policies": object{"istio-ext-authz-sessiongate": object{"permissions": []any{object{"any": true}}, "principals": []any{object{"any": true}}}}},
			}}
			c.manager["http_filters"] = append([]any{dry}, c.manager["http_filters"].([]any)...)
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := recorded(t, "Istio")
			test.edit(read(r))
			if probes, all := probesOf(t, r.text(t)); probes != test.found {
				t.Errorf("found %s, want %q:\n%s", probes, test.found, all)
			}
			report, err := doctor.Examine(r.text(t), doctor.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if report.Incomplete() != test.unsure {
				t.Errorf("skipped %v", report.Skipped)
			}
			for _, f := range report.Findings { // no route of Istio can have a typed_per_filter_config of ours
				if f.Probe == "D7" && test.found == "D7" && f.Cure != "- /auth\n- /auth/*" {
					t.Errorf("the cure of %s is %s", f.Fault, f.Cure)
				}
			}
		})
	}
}

// TestDoctorOfRulesOfThemselves: rules of RBAC that contain themselves by an alias neither hang the doctor nor fill its memory.
func TestDoctorOfRulesOfThemselves(t *testing.T) {
	t.Parallel()
	for _, rules := range []string{
		"[&a {not_rule: *a}]", "[&a {or_rules: {rules: [*a, *a]}}]", "[&a {and_rules: {rules: [*a, *a]}}]", "[&a {not_rule: {or_rules: {rules: [*a, *a, *a]}}}]",
	} {
		r := recorded(t, "Istio")
		_, filters := checked(t, r.Bootstrap)
		for _, filter := range at(filters, "filters", 0, "typed_config", "http_filters").([]any) {
			if shadow, ok := at(filter, "typed_config").(object)["shadow_rules"].(object); ok {
				for _, policy := range shadow["policies"].(object) {
					policy.(object)["permissions"] = "RULES"
				}
			}
		}
		text := strings.Replace(string(r.text(t)), `"RULES"`, rules, 1)
		if !strings.Contains(text, rules) {
			t.Fatal("the rules are not in")
		}
		if report, err := doctor.Examine([]byte(text), doctor.Options{}); err == nil && !report.Incomplete() {
			t.Errorf("%s: it tells what it cannot: %+v", rules, report)
		}
	}
}
