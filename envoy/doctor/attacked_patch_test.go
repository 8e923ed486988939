package doctor_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/envoy/guides/standalone"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
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

const (
	listOfFilters = "                http_filters:\n"
	prefixOfIn    = "                stat_prefix: ingress\n"
	loginMatch    = "- match: { path: /login }\n"
	cors          = listOfFilters + corsFilter
	luaThatEnds   = `                  - name: envoy.filters.http.lua
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
                      default_source_code:
                        inline_string: |
                          function envoy_on_request(h) end
                          --[[
                          # ]]
`
	foreignCheck = `                  - name: envoy.filters.http.ext_authz
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      grpc_service: { envoy_grpc: { cluster_name: app } }
`
	foreignMutation = `                  - name: envoy.filters.http.header_mutation
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation }
`
	foreignRules = `                  - name: envoy.filters.http.rbac
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC }
`
)

// changed is the file of the guide with a change.
func changed(t *testing.T, oldNew ...string) string {
	t.Helper()
	text := standalone.Block("existing")
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("there is no %q", oldNew[i])
		}
		text = strings.Replace(text, oldNew[i], oldNew[i+1], 1)
	}
	return text
}

// second is the first listener again, changed, at another port.
func second(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	existing := standalone.Block("existing")
	listener := existing[strings.Index(existing, "    - name: ingress"):strings.Index(existing, "  clusters:\n")]
	listener = strings.NewReplacer(append(oldNew, "10000", "10001", "name: ingress", "name: second")...).Replace(listener)
	return strings.Replace(text, "  clusters:\n", listener+"  clusters:\n", 1)
}

func asJSON(t *testing.T, text string) string {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(tree, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestPatchOfNotations: YAML has many ways to write a thing. Each file is clean after the patch, valid for Envoy, and
// not changed by a second one.
func TestPatchOfNotations(t *testing.T) {
	t.Parallel()
	binary, err := envoyrun.Binary(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	router := standalone.Block("existing")
	router = router[strings.Index(router, listOfFilters)+len(listOfFilters) : strings.Index(router, "                route_config:")]
	const ofCheck = "                  # 4. The check.\n"
	whole := patched(t, changed(t))
	room, check := strings.Index(whole, "                  # 3. Room"), strings.Index(whole, ofCheck)
	anchored := strings.Replace(router, "- name", "- &router\n                    name", 1)
	for _, test := range []struct {
		name, text string
		says       []string
	}{
		{"no options in brackets", changed(t, prefixOfIn, prefixOfIn+"                common_http_protocol_options: {}\n"), nil},
		{"no options in JSON", asJSON(t, changed(t, prefixOfIn, prefixOfIn+"                common_http_protocol_options: {}\n")), nil},
		{"JSON of PHP", strings.ReplaceAll(asJSON(t, changed(t)), "/", "\\/"), []string{"googleapis.com\\/envoy"}},
		{"JSON of Python", strings.Replace(asJSON(t, changed(t)), `"ingress"`, `"ingress\ud83d\ude00"`, 1), []string{`\ud83d\ude00`}},
		{"routes by an alias", changed(t, "                      routes:\n", "                      routes: &r\n", "  clusters:\n", "                    - name: b\n                      domains: [b.example]\n                      routes: *r\n  clusters:\n"), nil},
		{"filters by an alias", second(t, changed(t, listOfFilters, "                http_filters: &hf\n"), listOfFilters+router, "                http_filters: *hf\n"), nil},
		{"a filter by an alias", second(t, changed(t, listOfFilters+router, cors+anchored), listOfFilters+router, cors+"                  - *router\n"), nil},
		{"a filter by an alias in brackets", second(t, changed(t, router, anchored), listOfFilters+router, `                http_filters: [{ name: envoy.filters.http.cors, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors } }, *router]`+"\n"), nil},
		{"a first entry of two lines", changed(t, prefixOfIn, "", `                "@type": type.googleapis.com/envoy.extensions.filters.network.http`, "                stat_prefix: in\n                  gress\n"+`                "@type": type.googleapis.com/envoy.extensions.filters.network.http`), nil},
		{"a text that ends like a comment", whole[:room] + luaThatEnds + strings.TrimPrefix(whole[check:], ofCheck), []string{luaThatEnds}},
		{"a comment behind it", whole[:room] + luaThatEnds + whole[check:], []string{luaThatEnds, ofCheck + "                  - name: envoy.filters.http.ext_authz"}},
		{"CRLF", strings.ReplaceAll(changed(t), "\n", "\r\n"), nil},
		{"settings in other words", changed(t, prefixOfIn, prefixOfIn+"                use_remote_address: yes\n                normalize_path: On\n                path_with_escaped_slashes_action: 2\n"), []string{"use_remote_address: yes\n", "normalize_path: On\n", "action: 2\n"}},
		{"another check", changed(t, listOfFilters, listOfFilters+foreignCheck, loginMatch, `- match: { path: /login }
                          typed_per_filter_config: { envoy.filters.http.ext_authz: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true } }
`), []string{"- name: sessiongate.ext_authz\n", "sessiongate.ext_authz: {"}},
		{"changes of headers of its own", changed(t, listOfFilters, listOfFilters+foreignMutation), []string{"- name: sessiongate.header_mutation\n"}},
		{"a route's changes of headers", changed(t, loginMatch, `- match: { path: /login }
                          typed_per_filter_config: { envoy.filters.http.header_mutation: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true } }
`), []string{"- name: sessiongate.header_mutation\n"}},
		{"rules of its own", changed(t, listOfFilters, listOfFilters+foreignRules), []string{"- name: sessiongate.rbac\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			after := patched(t, test.text)
			for when, text := range map[string]string{"before": test.text, "after": after} {
				text = strings.ReplaceAll(text, `\ud83d\ude00`, "") // Envoy takes them in a file whose name ends in .json
				if err := envoyrun.Validate(t.Context(), binary, []byte(text)); err != nil {
					t.Errorf("%s: %v", when, err)
				}
			}
			if report := examine(t, after); len(report.Findings) > 0 || len(report.Exceptions) > 4 {
				t.Errorf("found:\n%s%v", show(report.Findings), report.Exceptions)
			}
			if patched(t, after) != after {
				t.Error("a second time changes it again")
			}
			for _, want := range test.says {
				if !strings.Contains(after, want) {
					t.Errorf("it does not have %q", want)
				}
			}
			if strings.Contains(test.text, "\r\n") && strings.Count(after, "\n") != strings.Count(after, "\r\n") {
				t.Error("lines end in two ways")
			}
			if t.Failed() {
				t.Log(after)
			}
		})
	}
}

// TestPatchRefuses: what it cannot do well it does not do, and says why, with the line of the file.
func TestPatchRefuses(t *testing.T) {
	t.Parallel()
	options := prefixOfIn + "                common_http_protocol_options:"
	authLine := "line 22: "
	for _, test := range []struct{ name, text, says string }{
		{"options are null", changed(t, prefixOfIn, options+"\n"), "line 13: give common_http_protocol_options a value"},
		{"a setting is null", changed(t, prefixOfIn, prefixOfIn+"                normalize_path: ~\n"), "line 13: give normalize_path a value"},
		{"a dash with a comment", changed(t, "    - name: app\n      type", "    - # ours\n      name: app\n      type"), "the line of its dash"},
		{"an explicit key", changed(t, "  clusters:\n", "  ? clusters\n  :\n"), "explicit keys"},
		{"options shared with a cluster", changed(t, prefixOfIn, options+" &o\n                  idle_timeout: 60s\n", "      type: STRICT_DNS\n", `      type: STRICT_DNS
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          common_http_protocol_options: *o
          explicit_http_config: { http_protocol_options: {} }
`), "would also change line 38"},
		{"a prefix of its own", changed(t, loginMatch, "- match: { prefix: /auth }\n"), authLine + "the route prefix /auth is yours"},
		{"a page below it", changed(t, loginMatch, "- match: { path: /auth/login }\n"), authLine + "the route path /auth/login is yours"},
		{"an expression", changed(t, loginMatch, `- match: { safe_regex: { regex: "/auth(/.*)?" } }`+"\n"), authLine},
		{"an upgrade with filters", changed(t, prefixOfIn, prefixOfIn+"                upgrade_configs: [{ upgrade_type: websocket, filters: [{ name: x }] }]\n"), "line 13: upgrades to websocket"},
		{"a tag", changed(t, prefixOfIn, prefixOfIn+"                normalize_path: !!bool false\n"), "line 13: write the value"},
		{"one anchor twice", second(t, changed(t, prefixOfIn, prefixOfIn+"                normalize_path: &no false\n"), prefixOfIn, prefixOfIn+"                normalize_path: *no\n"), "line 13: write the value"},
		{"no HTTP", "static_resources:\n  listeners:\n" + thirdListener + "  clusters:\n    - name: app\n", "no HTTP connection manager"},
		{"UTF-16", "\xff\xfea\x00", "UTF-16"},
		{"Latin-1", "# a\n# caf\xe9\n" + changed(t), "line 2: it is not written in UTF-8"},
	} {
		out, err := doctor.Patch([]byte(test.text), doctor.Options{}, addresses)
		if err == nil || len(out) > 0 || !strings.Contains(err.Error(), test.says) || strings.Count(err.Error(), "line 13") > 1 {
			t.Errorf("%s: %v", test.name, err)
		}
		if notUTF8 := strings.Contains(test.says, "UTF"); !notUTF8 && !errors.Is(err, doctor.ErrNotPatched) {
			t.Errorf("%s: %v is not that it cannot be patched", test.name, err)
		}
	}
}

// TestPatchLeavesDetection: Envoy takes one of the two ways to know the client, and the doctor says what it thinks.
func TestPatchLeavesDetection(t *testing.T) {
	t.Parallel()
	detection := prefixOfIn + `                original_ip_detection_extensions:
                  - name: envoy.http.original_ip_detection.xff
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig, xff_num_trusted_hops: 1 }
`
	for _, text := range []string{changed(t, prefixOfIn, detection), changed(t, prefixOfIn, detection+"                use_remote_address: false\n")} {
		after := patched(t, text)
		if found := examine(t, after).Findings; strings.Contains(after, "use_remote_address: true") || len(found) != 1 || found[0].Probe != "D11" {
			t.Errorf("found:\n%s", show(found))
		}
	}
}

// TestPatchMendsACheck: a check that is there gets what it lacks, in whatever notation it is.
func TestPatchMendsACheck(t *testing.T) {
	t.Parallel()
	whole := patched(t, changed(t))
	for name, change := range map[string][2]string{
		"no timeout":       {"      timeout: 1s\n", ""},
		"a message":        {"timeout: 1s\n", "timeout: { seconds: 5 }\n"},
		"opens":            {"failure_mode_allow: false", "failure_mode_allow: yes"},
		"numbers":          {"headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: 1"},
		"encodes, as said": {"encode_raw_headers: true", "encode_raw_headers: on"},
	} {
		text := strings.Replace(whole, change[0], change[1], 1)
		after := patched(t, text)
		if found := examine(t, after).Findings; text == whole || len(found) > 0 {
			t.Errorf("%s: found:\n%s", name, show(found))
		}
		if good := name != "opens" && name != "no timeout"; good && after != text {
			t.Errorf("%s: it is replaced, though it is not weaker", name)
		}
	}
}

// TestAskedByHTTP: sessiongate answers no check by HTTP, and what is wrong is not that it has no timeout.
func TestAskedByHTTP(t *testing.T) {
	t.Parallel()
	shipped := string(envoy.Shipped())
	start := strings.Index(shipped, "                      grpc_service:\n")
	end := start + strings.Index(shipped[start:], "timeout: 1s\n") + len("timeout: 1s\n")
	byHTTP := shipped[:start] + `                      http_service: { server_uri: { uri: "sessiongate:9001", cluster: sessiongate_authz, timeout: 1s } }` + "\n" + shipped[end:]
	found := examine(t, byHTTP).Findings
	if len(found) != 1 || found[0].Probe != "D1" || found[0].Line != strings.Count(shipped[:start], "\n")+1 {
		t.Fatalf("found:\n%s", show(found))
	}
	cured := shipped[:start] + "                      " + strings.ReplaceAll(found[0].Cure, "\n", "\n                      ") + "\n" + shipped[end:]
	if found := examine(t, cured).Findings; len(found) > 0 {
		t.Errorf("with the cure:\n%s", show(found))
	}
}

// TestOneFaultOnce: what several routes take from one anchor is one fault; what is written twice on one line is two.
func TestOneFaultOnce(t *testing.T) {
	t.Parallel()
	shipped := string(envoy.Shipped())
	anchored := strings.Replace(shipped, "upgrade_configs: [{ upgrade_type: websocket }]", "upgrade_configs: [{ upgrade_type: websocket }]\n                            max_stream_duration: { max_stream_duration: 0s }", 1)
	if found := examine(t, anchored).Findings; len(found) != 1 || found[0].Probe != "D19" {
		t.Errorf("found:\n%s", show(found))
	}
	routes := `
                        - { name: a, match: { path: /a }, route: { cluster: app, upgrade_configs: [{ upgrade_type: websocket }], max_stream_duration: { max_stream_duration: 0s } } }
`
	twice := strings.Replace(shipped, "\n                        - name: default\n", routes+strings.TrimPrefix(strings.Replace(routes, "name: a", "name: b", 1), "\n")+"                        - name: default\n", 1)
	if found := examine(t, twice).Findings; len(found) != 2 || found[0].Line == found[1].Line {
		t.Errorf("found:\n%s", show(found))
	}
	if found := examine(t, asJSON(t, twice)).Findings; len(found) != 2 {
		t.Errorf("in JSON found:\n%s", show(found))
	}
}
