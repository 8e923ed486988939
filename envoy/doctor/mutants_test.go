package doctor_test

import (
	"regexp"
	"strings"
)

// mutant is the shipped envoy.yaml with one fault.
type mutant struct {
	name     string
	old, new string // the first, which is in the file once, becomes the second
	probe    string
	at       string // the text on the line to change, after the mutation
}

// mutated is a mutant with its text.
type mutated struct {
	mutant

	text string
}

// everyMutant are the mutants, and those that move or take out a whole filter.
func everyMutant(shipped string) (all []mutated) {
	for _, m := range mutants {
		all = append(all, mutated{m, strings.Replace(shipped, m.old, m.new, 1)})
	}
	between := func(from, to string) string {
		start := strings.Index(shipped, from)
		return shipped[start : start+strings.Index(shipped[start:], to)]
	}
	move := func(part string) string {
		return strings.Replace(strings.Replace(shipped, part, "", 1), router, part+router, 1)
	}
	check := between(checkFilter, "                  # 5. On to the cluster")
	claims := between("                  - name: envoy.filters.http.header_mutation\n", "                  # 2. CORS")
	return append(
		all,
		mutated{mutant{name: "there is no check", probe: "D1", at: "http_filters:"}, strings.Replace(shipped, check, "", 1)},
		mutated{mutant{name: "no route is checked", probe: "D1", at: "disabled: true"}, perRoute.ReplaceAllString(shipped, "envoy.filters.http.ext_authz: *no_check\n")},
		mutated{
			mutant{name: "the check is disabled and nowhere enabled", probe: "D1", at: "disabled: true # here"},
			perRoute.ReplaceAllString(strings.Replace(shipped, checkFilter, strings.Replace(checkFilter, "typed_config", "disabled: true # here\n                    typed_config", 1), 1), "unused: *no_check\n"),
		},
		mutated{mutant{name: "cors is behind the check", probe: "D9", at: "- name: envoy.filters.http.cors"}, move(corsFilter)},
		mutated{mutant{name: "identity is removed behind the check", probe: "D3", at: "- name: envoy.filters.http.header_mutation"}, move(claims)},
		mutated{mutant{name: "a second listener has no check", probe: "D16", at: "http_filters: # of the second"}, strings.Replace(shipped, "  clusters:\n", secondListener+"  clusters:\n", 1)},
		mutated{mutant{name: "a listener passes bytes on", probe: "D16", at: "cluster: app } # of the third"}, strings.Replace(shipped, "  clusters:\n", thirdListener+"  clusters:\n", 1)},
	)
}

// perRoute is what a route says of its check.
var perRoute = regexp.MustCompile(`envoy\.filters\.http\.ext_authz:\n +"@type": .*ExtAuthzPerRoute\n +check_settings:\n(?: +#.*\n)? +context_extensions: .*\n`)

const (
	secondListener = `    - name: second
      address: { socket_address: { address: 0.0.0.0, port_value: 10001 } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: second
                http_filters: # of the second
                  - name: envoy.filters.http.router
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
                route_config:
                  virtual_hosts: [{ name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: app } }] }]
`
	thirdListener = `    - name: third
      address: { socket_address: { address: 0.0.0.0, port_value: 10002 } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.tcp_proxy
              typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: third, cluster: app } # of the third
`
)

const (
	checkFilter = `                  - name: envoy.filters.http.ext_authz
                    typed_config:
`
	corsFilter = `                  - name: envoy.filters.http.cors
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
`
	router = `                  - name: envoy.filters.http.router
`
	defaultRoute = `                        - name: default
                          match: { prefix: / }
                          route: *app
                          typed_per_filter_config:
`
	defaultCheck = `
                            envoy.filters.http.ext_authz:
                              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                              check_settings:
                                context_extensions: { session: required }

`
	peerHeader = `                          request_headers_to_add:
                            - header: { key: x-sessiongate-peer, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" }
                              append_action: OVERWRITE_IF_EXISTS_OR_ADD
`
	loginRoute = `                          match: { path: /login }
`
)

// mutants are faults that were made by hand somewhere, or that a guide warns of.
var mutants = []mutant{
	{"an outage is a verdict", "status_on_error: { code: ServiceUnavailable }", "status_on_error: { code: Forbidden }", "D2", "code: Forbidden"},
	{"an outage is Envoy's default verdict", "status_on_error: { code: ServiceUnavailable }", "# none", "D2", "                    typed_config:"},
	{"a mapper replaces every error", "                    # Elsewhere, where sessiongate cannot be asked", `                    - filter: { status_code_filter: { comparison: { op: GE, value: { default_value: 400, runtime_key: unused } } } }
                      status_code: 401
                    # Elsewhere, where sessiongate cannot be asked`, "D2", "status_code: 401"},
	{"identity headers are not removed", `                          - remove_on_match:
                              key_matcher:
                                safe_regex: { regex: "x[^a-z0-9]session[^a-z0-9](user[^a-z0-9]id|handle|claims)" }
`, "", "D3", "request_mutations:"},
	{"one identity header is forgotten", `](user[^a-z0-9]id|handle|claims)" }`, `](user[^a-z0-9]id|handle)" }`, "D3", "request_mutations:"},
	{"look-alikes pass", `"x[^a-z0-9]session[^a-z0-9](user[^a-z0-9]id|handle|claims)"`, `"x-session-(user-id|handle|claims)"`, "D3", "request_mutations:"},
	{"underscores pass", "headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW", "D3", "headers_with_underscores_action: ALLOW"},
	{"an upgrade's Connection passes", "append_action: OVERWRITE_IF_EXISTS\n", "append_action: ADD_IF_ABSENT\n", "D3", "request_mutations:"},
	{"a route removes identity behind the check", defaultRoute, strings.Replace(defaultRoute, "route: *app", "route: *app\n                          request_headers_to_remove: [x-session-user-id]", 1), "D4", "request_headers_to_remove: [x-"},
	{"the check may not set claims", "|x-session-claims|cookie", "|cookie", "D4", "decoder_header_mutation_rules:"},
	{"Cookie lines are joined", "encode_raw_headers: true", "encode_raw_headers: false", "D5", "encode_raw_headers: false"},
	{"dots are not resolved", "normalize_path: true", "normalize_path: false", "D6", "normalize_path: false"},
	{"slashes are not merged", "merge_slashes: true", "# none", "D6", "              typed_config:"},
	{"escaped slashes pass", "path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED", "D6", "KEEP_UNCHANGED"},
	{"another path in a header", "                          - remove: x-original-url\n", "", "D6", "request_mutations:"},
	{"the auth path goes to the app", "                            cluster: sessiongate_public\n                            # D/2", "                            cluster: app\n                            # D/2", "D7", "- name: auth"},
	{
		"the auth path is checked", "envoy.filters.http.ext_authz: &no_check\n                              # The filter is not built at all. ExtAuthzPerRoute's disabled would build it and then skip it.\n                              \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig\n                              disabled: true",
		"envoy.filters.http.ext_authz:\n                              \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n                              check_settings: {}\n                            unused: &no_check\n                              \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig\n                              disabled: true", "D7", "                            envoy.filters.http.ext_authz:",
	},
	{"a refresh is repeated", "                            retry_policy:\n                              retry_on: connect-failure\n", "                            retry_policy:\n                              retry_on: connect-failure,5xx\n", "D7", "retry_on: connect-failure,5xx"},
	{"a refresh may take for ever", "                            timeout: 5s\n", "                            timeout: 0s\n", "D7", "                            timeout: 0s"},
	{"cookies are dropped", "                      response_headers_to_remove:\n", "                      response_headers_to_remove:\n                        - set-cookie\n", "D8", "- set-cookie"},
	{"every origin with credentials", "- exact: http://app.localhost:10000", `- safe_regex: { regex: "https?://.*" }`, "D9", `- safe_regex: { regex: "https?://.*" }`},
	{"a prefix of an origin", "- exact: http://app.localhost:10000", "- prefix: http://app.localhost", "D9", "- prefix: http://app.localhost"},
	{"anti-csrf may not be sent", "allow_headers: content-type, authorization, anti-csrf, rid", "allow_headers: content-type, authorization, rid", "D9", "allow_headers:"},
	{"front-token cannot be read", "expose_headers: front-token, anti-csrf", "expose_headers: anti-csrf", "D10", "expose_headers:"},
	{"clients choose their address", "use_remote_address: true", "use_remote_address: false", "D11", "use_remote_address: false"},
	{"sessiongate hears no address", peerHeader, "", "D11", "- name: auth"},
	{"anti-CSRF is off", "context_extensions: { session: required, on_unauthorised: auto }", `context_extensions: { session: required, anti_csrf: "off" }`, "D13", `anti_csrf: "off"`},
	{"a policy is misspelt", "context_extensions: { session: optional }", "context_extensions: { sesion: optional }", "D13", "sesion: optional"},
	{"the admin interface is open", "socket_address: { address: 127.0.0.1, port_value: 9901 }", "socket_address: { address: 0.0.0.0, port_value: 9901 }", "D14", "port_value: 9901"},
	{"the check is routed", "route: { cluster: sessiongate_public, timeout: 5s }", "route: { cluster: sessiongate_authz, timeout: 5s }", "D14", "route: { cluster: sessiongate_authz, timeout: 5s }"},
	{"no answer is a yes", "failure_mode_allow: false", "failure_mode_allow: true", "D15", "failure_mode_allow: true"},
	{"half of the requests are checked", "failure_mode_allow: false", "failure_mode_allow: false\n                      filter_enabled: { default_value: { numerator: 50 } }", "D15", "filter_enabled:"},
	{"the runtime switches the check off", "failure_mode_allow: false", "failure_mode_allow: false\n                      filter_enabled: { runtime_key: check, default_value: { numerator: 100 } }", "D15", "filter_enabled:"},
	{"the last route is open", defaultRoute + strings.TrimLeft(defaultCheck, "\n"), defaultRoute + "                            envoy.filters.http.ext_authz: *no_check\n\n", "D16", "disabled: true"},
	{"a prefix opens more than it says", loginRoute, "                          match: { prefix: /login }\n", "D16", "match: { prefix: /login }"},
	{"a checked route is never reached", "                        # Files that are open to all.", `                        - name: icons
                          match: { path_separated_prefix: /api }
                          route: { cluster: app }
                          typed_per_filter_config: { envoy.filters.http.ext_authz: *no_check }
                        # Files that are open to all.`, "D16", "disabled: true"},
	{"the route is chosen again", "clear_route_cache: false", "clear_route_cache: true", "D17", "clear_route_cache: true"},
	{"mutations are not validated", "validate_mutations: true", "validate_mutations: false", "D17", "validate_mutations: false"},
	{"the check may set anything", `regex: "^(x-session-user-id|x-session-handle|x-session-claims|cookie|authorization)$"`, `regex: ".*"`, "D17", "decoder_header_mutation_rules:"},
	{"the check has no time", "                        timeout: 1s\n                      # No answer", "                        # none\n                      # No answer", "D17", "grpc_service:"},
	{"sessiongate does not get sec-fetch-site", "- prefix: sec-fetch-", "- exact: sec-fetch-mode", "D18", "patterns:"},
	{"sessiongate does not get Origin", "                          - exact: origin\n", "", "D18", "patterns:"},
	{"a WebSocket stays open", "                  max_stream_duration: 3600s\n", "", "D19", "common_http_protocol_options:"},
}
