package doctor_test

import (
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
)

// TestReadAsEnvoyReads: a value counts as what Envoy takes it for, in each spelling that it knows.
func TestReadAsEnvoyReads(t *testing.T) {
	t.Parallel()
	half := "failure_mode_allow: false\n                      filter_enabled: { default_value: { numerator: "
	for _, test := range []struct{ name, old, new, probe string }{
		{"yes opens", "failure_mode_allow: false", "failure_mode_allow: yes", "D15"},
		{"On opens", "failure_mode_allow: false", "failure_mode_allow: On", "D15"},
		{"Y opens", "failure_mode_allow: false", "failure_mode_allow: Y", "D15"},
		{"a tag does not hide it", "failure_mode_allow: false", "failure_mode_allow: !!str yes", "D15"},
		{"yes disables", defaultCheck, "\n                            envoy.filters.http.ext_authz: { \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: yes }\n", "D16"},
		{"no opens nothing", "failure_mode_allow: false", "failure_mode_allow: no", ""},
		{"on normalizes", "normalize_path: true", "normalize_path: on", ""},
		{"Yes encodes", "encode_raw_headers: true", "encode_raw_headers: Yes", ""},
		{"Y uses the address", "use_remote_address: true", "use_remote_address: Y", ""},
		{"oN is a text", "normalize_path: true", "normalize_path: oN", "D6"},
		{"0100 is octal", "failure_mode_allow: false", half + "0100 } }", "D15"},
		{"0x64 is 100", "failure_mode_allow: false", half + "0x64 } }", ""},
		{"a duration as a message", "                            timeout: 5s\n", "                            timeout: { seconds: 5 }\n", ""},
		{"a long one", "                            timeout: 5s\n", "                            timeout: { seconds: 50, nanos: 1 }\n", "D7"},
		{"the check's", "                        timeout: 1s\n", "                        timeout: { seconds: 1 }\n", ""},
		{"the check's is short", "                        timeout: 1s\n", "                        timeout: { nanos: 1000 }\n", "D17"},
		{"a stream's", "max_stream_duration: 3600s", "max_stream_duration: { seconds: 3600 }", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(string(envoy.Shipped()), test.old, test.new, 1)
			if text == string(envoy.Shipped()) {
				t.Fatal("nothing is replaced")
			}
			found := examine(t, text).Findings
			for _, f := range found {
				if f.Probe != test.probe {
					t.Errorf("found:\n%s", show(found))
				}
			}
			if test.probe != "" && len(found) == 0 {
				t.Error("nothing is found")
			}
		})
	}
}

// TestSpeltTwice: of one field in both spellings one counts. Which one is not for a reader to know.
func TestSpeltTwice(t *testing.T) {
	t.Parallel()
	shipped := string(envoy.Shipped())
	for name, text := range map[string]string{
		"the check's":       strings.Replace(shipped, "failure_mode_allow: false", "failureModeAllow: false\n                      failure_mode_allow: true", 1),
		"the other way":     strings.Replace(shipped, "failure_mode_allow: false", "failure_mode_allow: false\n                      failureModeAllow: true", 1),
		"in a map's values": strings.Replace(shipped, "disabled: true\n", "disabled: true\n                              isOptional: true\n                              is_optional: true\n", 1),
	} {
		if _, err := doctor.Examine([]byte(text), doctor.Options{}); err == nil || !strings.Contains(err.Error(), "twice") || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"a map's keys": strings.Replace(shipped, "typed_per_filter_config: { envoy.filters.http.ext_authz: *no_check }", "typed_per_filter_config: { envoy.filters.http.ext_authz: *no_check, a_b: *no_check, aB: *no_check }", 1),
		"metadata":     strings.Replace(shipped, "match: { path: /login }", "match: { path: /login }\n                          metadata: { filter_metadata: { a: { x_y: 1, xY: { a_b: 1, aB: 2 } } } }", 1),
	} {
		if report := examine(t, text); text == shipped || len(report.Findings) > 0 {
			t.Errorf("%s: found:\n%s", name, show(report.Findings))
		}
	}
}
