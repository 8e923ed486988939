package doctor_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
)

// misbehaving are faults that an attack on the doctor found it blind to: the shipped file with old, which is there
// once, become new. at is the line to change; cured is what new becomes by the cure, "" where that is old.
// Without a probe it is an edit that does no harm.
var misbehaving = []struct {
	name, old, new, probe, at, cured string
}{
	// Local replies.
	{"a text for every local reply", localReplies, localReplies + "                  body_format: { text_format_source: { inline_string: oops } }\n", "D2", "body_format:", ""},
	{
		"the text of body_format as the cure has it", firstMapper, replaces(allOf(except(440), except(401), except(403)), "body_format_override: { text_format_source: { inline_string: oops } }") + firstMapper, "", "", "",
	},
	{"a mapper by the flag of the check", firstMapper, replaces("response_flag_filter: { flags: [UAEX] }", "status_code: 401") + firstMapper, "D2", "status_code: 401", ""},
	{"a mapper by any flag", firstMapper, replaces("response_flag_filter: {}", "status_code: 401") + firstMapper, "D2", "status_code: 401", ""},
	{"a mapper by another flag", firstMapper, replaces("response_flag_filter: { flags: [NR] }", "status_code: 401") + firstMapper, "", "", ""},
	{"a mapper of no health check", firstMapper, replaces("not_health_check_filter: {}", "status_code: 401") + firstMapper, "D2", "status_code: 401", ""},
	{
		"a mapper by a header", firstMapper, replaces(allOf(status("EQ", 440), "header_filter: { header: { name: accept, present_match: true } }"), "status_code: 401") + firstMapper, "D2", "status_code: 401", "",
	},
	{"an outage becomes a verdict", "                      headers_to_add: *try_again\n", "                      headers_to_add: *try_again\n                      status_code: 401\n", "D2", "status_code: 401", ""},
	{
		"an outage becomes a success", firstMapper, replaces(status("GE", 500), "status_code: 200") + firstMapper, "D2", "status_code: 200",
		replaces(allOf(status("GE", 500), except(503)), "status_code: 200") + firstMapper,
	},
	{"other errors become one", firstMapper, replaces(status("EQ", 502), "status_code: 503") + firstMapper, "", "", ""},
	{"no session becomes forbidden", firstMapper, replaces(status("EQ", 401), "status_code: 403") + firstMapper, "D2", "status_code: 403", ""},
	{"the page that refreshes is replaced", firstMapper, replaces(status("EQ", 401), "body: { inline_string: gone }") + firstMapper, "D2", "body: { inline", ""},
	{
		"every error is replaced, with its cure", firstMapper, replaces(status("GE", 400), "status_code: 400") + firstMapper, "D2", "status_code: 400",
		replaces(allOf(status("GE", 400), except(440), except(401), except(403), except(503)), "status_code: 400") + firstMapper,
	},
	{"a status that is not in use", firstMapper, replaces(status("EQ", 419), "status_code: 401") + firstMapper, "", "", ""},

	// Cookies.
	{"cookies of answers are replaced", hostRemoves, `                      response_headers_to_add: [{ header: { key: set-cookie, value: "lb=1" }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }]` + "\n" + hostRemoves, "D8", "key: set-cookie", ""},
	{"cookies of answers are replaced, the old way", hostRemoves, `                      response_headers_to_add: [{ header: { key: Set-Cookie, value: "lb=1" }, append: false }]` + "\n" + hostRemoves, "D8", "key: Set-Cookie", ""},
	{"a cookie is added", hostRemoves, `                      response_headers_to_add: [{ header: { key: set-cookie, value: "lb=1" } }]` + "\n" + hostRemoves, "", "", ""},
	{"a host's filter removes cookies", hostFilters, hostFilters + ofHost("response_mutations: [{ remove: set-cookie }]"), "D8", "remove: set-cookie", ""},
	{"a host's filter replaces cookies", hostFilters, hostFilters + ofHost("response_mutations: [{ append: { header: { key: set-cookie, value: x }, append_action: OVERWRITE_IF_EXISTS } }]"), "D8", "key: set-cookie", ""},
	{"a host's filter removes another header", hostFilters, hostFilters + ofHost("response_mutations: [{ remove: server }]"), "", "", ""},
	{"a filter removes what scripts keep", mutationList, "                        response_mutations: [{ remove_on_match: { key_matcher: { prefix: st- } } }]\n" + mutationList, "D8", "prefix: st-", ""},
	{"a mapper replaces cookies", firstMapper, replaces(status("EQ", 401), "headers_to_add: [{ header: { key: set-cookie, value: x }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }]") + firstMapper, "D8", "key: set-cookie", ""},
	{"tokens of scripts are removed", hostRemoves, hostRemoves + "                        - Front-Token\n", "D8", "- Front-Token", ""},
	{"cookies of requests are removed", hostRemoves, "                      request_headers_to_remove: [cookie]\n" + hostRemoves, "D8", "request_headers_to_remove:", ""},
	{"cookies of requests to the app are removed", defaultRoute, strings.Replace(defaultRoute, "route: *app", "route: *app\n                          request_headers_to_remove: [cookie]", 1), "", "", ""},
	{"cookies are removed before the check", "                          - remove: x-original-url\n", "                          - remove: x-original-url\n                          - remove: Cookie\n", "D8", "- remove: Cookie", ""},
	{"cookies are removed early", localReplies, earlyRemoves("cookie") + localReplies, "D8", "remove: cookie", ""},
	{"a route's filter removes cookies before the check", defaultRoute, defaultRoute + "    " + ofHost("request_mutations: [{ remove: cookie }]"), "D8", "remove: cookie", ""},
	{"origin is removed before the check", "                          - remove: x-original-url\n", "                          - remove: x-original-url\n                          - remove: origin\n", "D18", "- remove: origin", ""},
	{"what the browser says is replaced", "                          - remove: x-original-url\n", "                          - remove: x-original-url\n                          - append: { header: { key: sec-fetch-site, value: same-origin }, append_action: OVERWRITE_IF_EXISTS }\n", "D18", "key: sec-fetch-site", ""},
	{"the scheme is set", "                          - remove: x-original-url\n", "                          - remove: x-original-url\n                          - append: { header: { key: x-forwarded-proto, value: https }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }\n", "", "", ""},

	// The auth path.
	{"a part of the auth path is the app's", authRoute, toApp("prefix: /auth/admin") + authRoute, "D7", "- name: mine", ""},
	{"the auth path itself is the app's", authRoute, toApp("path: /auth") + authRoute, "D7", "- name: mine", ""},
	{"a part of the auth path by an expression", authRoute, toApp("safe_regex: { regex: '/auth/[a-z]+[.]html' }") + authRoute, "D7", "- name: mine", ""},
	{"the auth path of some is the app's", authRoute, toApp("prefix: /auth, headers: [{ name: x-canary, present_match: true }]") + authRoute, "D7", "- name: mine", ""},
	{"all of some is the app's", authRoute, toApp("prefix: /, headers: [{ name: x-canary, present_match: true }]") + authRoute, "D7", "- name: mine", ""},
	{"a path like the auth path", authRoute, toApp("prefix: /authors/") + authRoute, "", "", ""},
	{"a part of the auth path that is never reached", "                        # Public keys, for", toApp("prefix: /auth/admin") + "                        # Public keys, for", "", "", ""},
	{"the auth path with a slash", "match: { path_separated_prefix: /auth }", "match: { prefix: /auth/ }", "", "", ""},
	{"a part of the auth path is sessiongate's", authRoute, strings.Replace(toApp("path: /auth/keys"), "cluster: app", "cluster: sessiongate_public", 1) + authRoute, "", "", ""},
	{"refreshes of some are repeated", authRoute, strings.Replace(toApp("prefix: /auth/, headers: [{ name: x-canary, present_match: true }]"), "cluster: app", "cluster: sessiongate_public, timeout: 5s, retry_policy: { retry_on: 5xx }", 1) + "                          typed_per_filter_config: { envoy.filters.http.ext_authz: { \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true } }\n" + authRoute, "D7", "retry_on: 5xx", ""},
	{"the auth path is mirrored", authTimeout, authTimeout + "                            request_mirror_policies: [{ cluster: app }]\n", "D7", "request_mirror_policies", ""},
	{"all paths are mirrored", hostRemoves, "                      request_mirror_policies: [{ cluster: app }]\n" + hostRemoves, "D7", "request_mirror_policies", ""},
	{"the auth path is rewritten", authTimeout, authTimeout + "                            prefix_rewrite: /\n", "D7", "prefix_rewrite", ""},
	{"the auth path is rewritten by an expression", authTimeout, authTimeout + "                            regex_rewrite: { pattern: { regex: ^/auth }, substitution: '' }\n", "D7", "regex_rewrite", ""},
	{"the auth path is rewritten as it is", authTimeout, authTimeout + "                            prefix_rewrite: /auth\n", "", "", ""},

	// Whose address it is, and who may steer Envoy.
	{"all clients are internal", internal, strings.Replace(internal, "255.255.255.255, prefix_len: 32", "0.0.0.0, prefix_len: 0", 1), "D7", "address_prefix: 0.0.0.0", ""},
	{"half of all clients are internal", internal, strings.Replace(internal, "255.255.255.255, prefix_len: 32", "128.0.0.0, prefix_len: 1", 1), "D7", "address_prefix: 128.0.0.0", ""},
	{"clients by IPv6 are internal", internal, strings.Replace(internal, "{ address_prefix: 255.255.255.255, prefix_len: 32 }", `{ address_prefix: "::" }`, 1), "D7", `address_prefix: "::"`, ""},
	{"more than a private network", internal, strings.Replace(internal, "255.255.255.255, prefix_len: 32", "10.0.0.0, prefix_len: 7", 1), "D7", "address_prefix: 10.0.0.0", ""},
	{"a private network is internal", internal, strings.Replace(internal, "255.255.255.255, prefix_len: 32", "10.1.0.0, prefix_len: 16", 1), "", "", ""},
	{"an address with its port", peerValue, `value: "%DOWNSTREAM_REMOTE_ADDRESS%"`, "D11", "value: \"%DOWN", ""},
	{"the address of the cluster", peerValue, `value: "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"`, "D11", "value: \"%UP", ""},
	{"what the client says and its address", peerValue, `value: "%REQ(x-real-ip)%-%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"`, "D11", "value: \"%REQ", ""},
	{"an address for all", peerValue, `value: 192.0.2.1`, "D11", "value: 192.0.2.1", ""},
	{"the host sets another address", hostRemoves, "                      request_headers_to_add: [{ header: { key: X-Sessiongate-Peer, value: '%REQ(x-real-ip)%' }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }]\n" + hostRemoves, "D11", "%REQ(x-real-ip)%", ""},

	// Origins.
	{"an expression without the dot before the site", origin, regex("https://.*example[.]com"), "D9", "regex:", ""},
	{"an expression without an end", origin, regex("https://app[.]example[.]com.*"), "D9", "regex:", ""},
	{"an expression with an open end of letters", origin, regex("https://app[.]example[.]com[a-z.]*"), "D9", "regex:", ""},
	{"an expression with an open end before the port", origin, regex("https://app[.]example[.]com.*:8443"), "D9", "regex:", ""},
	{"an expression with a bare dot", origin, regex("https://app.example.com"), "D9", "regex:", ""},
	{"one of two names has a bare dot", origin, regex("https://(app[.]example[.]com|www.example[.]com)"), "D9", "regex:", ""},
	{"an expression for every .com", origin, regex("https://[a-z]+[.]com"), "D9", "regex:", ""},
	{"a suffix that anyone registers", origin, "- suffix: .com", "D9", "suffix:", ""},
	{"a suffix that anyone is given", origin, "- suffix: .github.io", "D9", "suffix:", ""},
	{"a suffix without the dot", origin, "- suffix: example.com", "D9", "suffix:", ""},
	{"a part of an origin", origin, "- contains: example.com", "D9", "contains:", ""},
	{"an expression for the subdomains", origin, regex("https://[a-z0-9-]+[.]example[.]com"), "", "", ""},
	{"an expression with any subdomain", origin, regex("https://(.*[.])?example[.]com"), "", "", ""},
	{"an expression for this computer", origin, regex("http://(localhost|127.0.0.1)(:[0-9]+)?"), "", "", ""},
	{"an expression with ports", origin, regex("https?://app[.]example[.]com(:.*)?"), "", "", ""},
	{"a suffix of subdomains", origin, "- suffix: .example.com", "", "", ""},
	{"a suffix of your own network", origin, "- suffix: .internal", "", "", ""},
	{"a suffix with its scheme", origin, "- suffix: '://app.example.com'", "", "", ""},
	{"a prefix up to the port", origin, "- prefix: 'https://app.example.com:'", "", "", ""},
	{"the former field of a host", corsOfHost, "                      cors: " + formerCORS + "\n" + strings.Replace(corsOfHost, "envoy.filters.http.cors", "unused", 1), "D9", "cors: ", ""},
	{"answers allow whichever asks", hostRemoves, strings.Replace(echo, "}]", "}, { header: { key: access-control-allow-credentials, value: 'true' } }]", 1) + hostRemoves, "D9", "REQ(origin)", ""},
	{"answers allow whichever asks, without credentials", hostRemoves, echo + hostRemoves, "", "", ""},
	{"a host's filter allows whichever asks", hostFilters, hostFilters + ofHost("response_mutations: [{ append: { header: { key: access-control-allow-origin, value: '%REQ(origin)%' } } }, { append: { header: { key: access-control-allow-credentials, value: 'true' } } }]"), "D9", "REQ(origin)", ""},
	{"CORS is off", "                          allow_credentials: true\n", "                          allow_credentials: true\n                          filter_enabled: { default_value: { numerator: 0 } }\n", "D9", "filter_enabled", ""},

	// What the check gets, and how long a stream may be open.
	{"the check gets bodies", "                      failure_mode_allow: false\n", "                      failure_mode_allow: false\n                      with_request_body: { max_request_bytes: 10 }\n", "D17", "with_request_body", ""},
	{"the check gets the bodies of a route", "context_extensions: { session: optional }", "{ context_extensions: { session: optional }, with_request_body: { max_request_bytes: 10 } }", "D17", "with_request_body", ""},
	{"a stream for a hundred years", "max_stream_duration: 3600s", "max_stream_duration: 3153600000s", "D19", "max_stream_duration:", ""},
	{"a stream for a working day", "max_stream_duration: 3600s", "max_stream_duration: 28800s", "", "", ""},
	{
		"a tunnel stays open", "upgrade_configs: [{ upgrade_type: websocket }]", "upgrade_configs: [{ upgrade_type: websocket, enabled: false }, { upgrade_type: CONNECT }]\n                            max_stream_duration: { max_stream_duration: 0s }", "D19", "max_stream_duration: 0s",
		"upgrade_configs: [{ upgrade_type: websocket, enabled: false }, { upgrade_type: CONNECT }]",
	},
	{"no stream stays open", "upgrade_configs: [{ upgrade_type: websocket }]", "upgrade_configs: [{ upgrade_type: websocket, enabled: false }]\n                            max_stream_duration: { max_stream_duration: 0s }", "", "", ""},
}

const (
	firstMapper  = "                    # The auth path: in the form of sessiongate's own 503"
	localReplies = "                local_reply_config:\n"
	hostRemoves  = "                      response_headers_to_remove:\n"
	hostFilters  = "                      domains: [\"*\"]\n                      typed_per_filter_config:\n"
	authRoute    = "                        - name: auth\n"
	authTimeout  = "                            timeout: 5s\n"
	internal     = "cidr_ranges: [{ address_prefix: 255.255.255.255, prefix_len: 32 }]"
	peerValue    = `value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"`
	corsOfHost   = "                      typed_per_filter_config:\n                        envoy.filters.http.cors:\n"
	origin       = "- exact: http://app.localhost:10000"
	formerCORS   = `{ allow_origin_string_match: [{ safe_regex: { regex: '.*' } }], allow_credentials: true, allow_headers: "content-type, authorization, anti-csrf, rid, st-auth-mode", expose_headers: "front-token, anti-csrf, id-refresh-token, st-access-token, st-refresh-token" }`
	echo         = "                      response_headers_to_add: [{ header: { key: access-control-allow-origin, value: '%REQ(origin)%' } }]\n"
	mutationList = "                        request_mutations:\n"
)

// ofHost is what a virtual host, or a route, has its filter of headers do.
func ofHost(mutations string) string {
	return `                        envoy.filters.http.header_mutation: { "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute, mutations: { ` + mutations + " } }\n"
}

func regex(expression string) string { return "- safe_regex: { regex: '" + expression + "' }" }

func toApp(match string) string {
	return "                        - name: mine\n                          match: { " + match + " }\n                          route: { cluster: app }\n"
}

func earlyRemoves(header string) string {
	return `                early_header_mutation_extensions: [{ name: early, typed_config: { "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation, mutations: [{ remove: ` + header + " }] } }]\n"
}

func replaces(filter, by string) string {
	return "                    - filter: { " + filter + " }\n                      " + by + "\n"
}

func status(op string, code int) string {
	return "status_code_filter: { comparison: { op: " + op + ", value: { default_value: " + strconv.Itoa(code) + ", runtime_key: unused } } }"
}

func except(code int) string { return status("NE", code) }

func allOf(filters ...string) string {
	return "and_filter: { filters: [{ " + strings.Join(filters, " }, { ") + " }] }"
}

// TestMisbehaving: each is found by its probe alone, on the line to change, and its cure leaves nothing.
func TestMisbehaving(t *testing.T) {
	t.Parallel()
	shipped := string(envoy.Shipped())
	for _, a := range misbehaving {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			if n := strings.Count(shipped, a.old); n != 1 {
				t.Fatalf("envoy.yaml has %q %d times", a.old, n)
			}
			text := strings.Replace(shipped, a.old, a.new, 1)
			report := examine(t, text)
			if (len(report.Findings) == 0) != (a.probe == "") || report.Incomplete() {
				t.Errorf("want %q, skipped %v, found:\n%s", a.probe, report.Skipped, show(report.Findings))
			}
			for _, f := range report.Findings {
				line := strings.Split(text, "\n")[max(0, f.Line-1)]
				if f.Probe != a.probe || !strings.Contains(line, a.at) || f.Why == "" || f.Cure == "" || f.Where == "" || f.Path == "" {
					t.Errorf("want %s at %q, on the line %q found %+v", a.probe, a.at, line, f)
				}
			}
			if a.cured == "" {
				return
			}
			if report := examine(t, strings.Replace(shipped, a.old, a.cured, 1)); len(report.Findings) > 0 {
				t.Errorf("with its cure is found:\n%s", show(report.Findings))
			}
		})
	}
}

// TestSessionExpiredStatus: the answer that must not be replaced is the one of the setting.
func TestSessionExpiredStatus(t *testing.T) {
	t.Parallel()
	for code, probe := range map[int]string{419: "D2", 440: ""} {
		text := strings.Replace(string(envoy.Shipped()), firstMapper, replaces(status("EQ", code), "status_code: 401")+firstMapper, 1)
		report, err := doctor.Examine([]byte(text), doctor.Options{SessionExpired: 419})
		if err != nil {
			t.Fatal(err)
		}
		if (len(report.Findings) == 1 && report.Findings[0].Probe == probe) != (probe != "") {
			t.Errorf("a mapper for %d: want %q, found:\n%s", code, probe, show(report.Findings))
		}
		if probe != "" && !strings.Contains(report.Findings[0].Cure, "default_value: 419") {
			t.Errorf("the cure is %s", report.Findings[0].Cure)
		}
	}
}
