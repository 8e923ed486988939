package doctor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/envoy/guides/standalone"
)

const (
	beforeOpen   = "                        # Files that are open to all."
	beforeCheck  = "                  # 3. Room for the check."
	beforeRouter = "                  # 5. On to the cluster"
	beforeClaims = "                  # 1. Whatever a client claims"
	theClusters  = "  clusters:\n"
	noUpgrade    = "upgrade_configs: [{ upgrade_type: websocket, enabled: false }]"
	ownRouter    = `filters: [{ name: envoy.filters.http.router, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }]`
	ownCheck     = `filters: [{ name: x, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, grpc_service: { envoy_grpc: { cluster_name: sessiongate_authz } } } }, { name: envoy.filters.http.router, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }]`
	removeClaims = `                          - remove_on_match:
                              key_matcher:
                                safe_regex: { regex: "x[^a-z0-9]session[^a-z0-9](user[^a-z0-9]id|handle|claims)" }
`
	rerouted = `                          - remove: x-original-url
                          - remove: x-rewrite-url
`
	theDomains = `                      domains: ["*"]
                      typed_per_filter_config:
`
	appOptions = `          # CHANGE where your server speaks HTTP/2: http2_protocol_options.
`
	setIdentity  = `{ append: { header: { key: x-session-user-id, value: "%REQ(x-user)%" } } }`
	mutationURL  = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
	uncheckedAny = `typed_per_filter_config: { envoy.filters.http.ext_authz: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true } }`
)

// attack is the shipped envoy.yaml with edits: a text, which is in the file once, becomes the next one.
type attack struct {
	name  string
	edits []string
	probe string // none: it is harmless
	at    string // the text on each line that is found
}

// attacks are ways on which everyone was let in, or an identity was forged, and what only looks like one.
var attacks = []attack{
	{"an upgrade has filters of its own", []string{noUpgrade, strings.Replace(noUpgrade, "false", "false, "+ownRouter, 1)}, "D16", noUpgrade[:40]},
	{"an upgrade that no route has, with filters of its own", []string{noUpgrade, "upgrade_configs: [{ upgrade_type: foo, enabled: false, " + ownRouter + " }]"}, "", ""},

	{"a matcher decides whether identity is removed", []string{beforeClaims, matched("claims", removeClaims) + beforeClaims, removeClaims, ""}, "D3", "- name: claims"},
	{"a matcher decides about all that is removed", []string{beforeClaims, matched("claims", removeClaims+rerouted) + beforeClaims, removeClaims, "", rerouted, ""}, "D3", "- name: claims"},
	{"a matcher decides whether x-original-url is removed", []string{beforeClaims, matched("rerouted", rerouted) + beforeClaims, rerouted, ""}, "D6", "request_mutations:"},
	{"a matcher removes identity once more", []string{beforeRouter, matched("late", removeClaims) + beforeRouter}, "D4", "- name: late"},

	{"an open route sets identity", []string{loginRoute, loginRoute + `                          request_headers_to_add: [{ header: { key: x-session-user-id, value: "%REQ(x-user)%" } }]` + "\n"}, "D3", "key: x-session-user-id"},
	{"an open route sets what looks like identity", []string{loginRoute, loginRoute + `                          request_headers_to_add: [{ header: { key: X_Session_User_Id, value: root } }]` + "\n"}, "D3", "X_Session_User_Id"},
	{"the auth route sets identity, for sessiongate alone", []string{peerHeader, peerHeader + "                            - header: { key: x-session-user-id, value: x }\n"}, "", ""},
	{"a virtual host sets identity", []string{theDomains, "                      request_headers_to_add: [{ header: { key: x-session-user-id, value: x } }]\n" + theDomains}, "D4", "key: x-session-user-id"},
	{"the first filter sets identity", []string{rerouted, rerouted + "                          - " + setIdentity + "\n"}, "D3", setIdentity},
	{"the first filter sets identity, and then removes it", []string{removeClaims, "                          - " + setIdentity + "\n" + removeClaims}, "", ""},
	{"the first filter overwrites identity that it has removed", []string{rerouted, rerouted + "                          - " + strings.Replace(setIdentity, " } }", " }, append_action: OVERWRITE_IF_EXISTS }", 1) + "\n"}, "", ""},
	{"the first filter sets another header", []string{rerouted, rerouted + "                          - " + strings.Replace(setIdentity, "x-session-user-id", "x-other", 1) + "\n"}, "", ""},
	{"a virtual host sets identity in the first filter", []string{theDomains, theDomains + perRouteMutation("envoy.filters.http.header_mutation", setIdentity)}, "D3", setIdentity},
	{"a filter behind the check sets identity", []string{beforeRouter, late(setIdentity) + beforeRouter}, "D4", setIdentity},
	{"a filter behind the check removes claims", []string{beforeRouter, late("{ remove: X-Session-Claims }") + beforeRouter}, "D4", "- name: late"},
	{"a filter behind the check removes another header", []string{beforeRouter, late("{ remove: x-other }") + beforeRouter}, "", ""},
	{"a virtual host removes identity behind the check", []string{beforeRouter, late("") + beforeRouter, theDomains, theDomains + perRouteMutation("late", "{ remove: x-session-handle }")}, "D4", "x-session-handle"},
	{"a cluster removes identity", []string{appOptions, upstreamFilter("{ remove: x-session-handle }")}, "D4", "http_filters:"},
	{"a cluster sets identity", []string{appOptions, upstreamFilter(setIdentity)}, "D4", setIdentity},

	{"a virtual host asks another service", []string{theDomains, theDomains + perRouteCheck("app")}, "D16", "app"},
	{"a virtual host asks another service, in a wrapper", []string{theDomains, theDomains + wrapped(perRouteCheck("app"))}, "D16", "app"},
	{"a virtual host asks the same service", []string{theDomains, theDomains + wrapped(perRouteCheck("sessiongate_authz }, timeout: 2s, retry_policy: {"))}, "", ""},
	{"a virtual host gives the check no limit", []string{theDomains, theDomains + wrapped(perRouteCheck("sessiongate_authz }, timeout: 0s, retry_policy: {"))}, "D17", "timeout: 0s"},

	{"a rewrite leads out of an open folder", []string{beforeOpen, open("{ prefix: /assets/ }", "{ cluster: app, prefix_rewrite: / }") + beforeOpen}, "D16", "prefix_rewrite: /"},
	{"a rewrite stays in an open folder", []string{beforeOpen, open("{ prefix: /assets/ }", "{ cluster: app, prefix_rewrite: /assets/v2/ }") + beforeOpen}, "", ""},
	{"a rewrite leads to another open folder", []string{beforeOpen, open("{ path_separated_prefix: /assets }", "{ cluster: app, prefix_rewrite: /static }") + beforeOpen}, "", ""},
	{"a rewrite of one page", []string{beforeOpen, open("{ path: /favicon.ico }", "{ cluster: app, prefix_rewrite: /icons/favicon.ico }") + beforeOpen}, "", ""},
	{"an expression rewrites out of an open folder", []string{beforeOpen, open("{ prefix: /img/ }", `{ cluster: app, regex_rewrite: { pattern: { regex: "^/img/(.*)$" }, substitution: '/\1' } }`) + beforeOpen}, "D16", "regex_rewrite"},

	{"an expression is all but the home page", []string{beforeOpen, open(`{ safe_regex: { regex: "/.+" } }`, "{ cluster: app }") + beforeOpen}, "D16", "disabled: true"},
	{"an expression opens names in every folder", []string{beforeOpen, open(`{ safe_regex: { regex: ".*[.](css|js|png)" } }`, "{ cluster: app }") + beforeOpen}, "D16", "safe_regex"},
	{"an alternative of an expression opens names in every folder", []string{beforeOpen, open(`{ safe_regex: { regex: "/robots[.]txt|(/.*)?/[^/]+[.]css" } }`, "{ cluster: app }") + beforeOpen}, "D16", "safe_regex"},
	{"an expression names pages", []string{beforeOpen, open(`{ safe_regex: { regex: "/(robots[.]txt|favicon[.]ico|app[.][0-9a-z]+[.]js|[a-z]+/login|assets/.*)" } }`, "{ cluster: app }") + beforeOpen}, "", ""},
	{"an expression takes a checked folder", []string{beforeOpen, open(`{ safe_regex: { regex: "/(api|x)/.+" } }`, "{ cluster: app }") + beforeOpen}, "D16", "disabled: true"},
	{"a template is everything", []string{beforeOpen, open(template("/**"), "{ cluster: app }") + beforeOpen}, "D16", "disabled: true"},
	{"a template is a folder", []string{beforeOpen, open(template("/assets/{name}/*.css"), "{ cluster: app }") + beforeOpen}, "", ""},
	{"a header opens a checked folder", []string{beforeOpen, open("{ prefix: /api/, headers: [{ name: x-internal, present_match: true }] }", "{ cluster: app }") + beforeOpen}, "D16", "disabled: true"},
	{"a parameter opens a checked folder", []string{beforeOpen, open("{ path_separated_prefix: /api, query_parameters: [{ name: debug, present_match: true }] }", "{ cluster: app }") + beforeOpen}, "D16", "disabled: true"},
	{"preflights of a checked folder are open", []string{beforeOpen, open(`{ prefix: /api/, headers: [{ name: ":method", string_match: { exact: OPTIONS } }] }`, "{ cluster: app }") + beforeOpen}, "", ""},
	{"a certificate opens a checked folder", []string{beforeOpen, open("{ prefix: /api/, tls_context: { validated: true } }", "{ cluster: app }") + beforeOpen}, "", ""},
	{"one page of a checked folder is open", []string{beforeOpen, open("{ path: /api/health }", "{ cluster: app }") + beforeOpen}, "", ""},

	{"an open route leads to the app by another cluster", []string{beforeOpen, open("{ prefix: / }", "{ cluster: app2 }") + beforeOpen, theClusters, cluster("app2", "App.", 8080)}, "D16", "disabled: true"},
	{"an open route leads to another app", []string{beforeOpen, open("{ prefix: /other }", "{ cluster: app2 }") + beforeOpen, theClusters, cluster("app2", "app", 8081)}, "", ""},
	{"a listener leads to the app by another cluster", []string{theClusters, strings.Replace(secondListener, "cluster: app", "cluster: app2", 1) + cluster("app2", "app", 8080)}, "D16", "http_filters: # of the second"},
	{"a listener passes bytes on by another cluster", []string{theClusters, strings.Replace(thirdListener, "cluster: app", "cluster: app2", 1) + cluster("app2", "app", 8080)}, "D16", "# of the third"},
	{"the auth path leads to the app by another cluster", []string{"cluster: sessiongate_public\n                            # D/2", "cluster: app2\n                            # D/2", theClusters, cluster("app2", "app", 8080)}, "D7", "- name: auth"},

	{"a route leads to the admin interface", []string{beforeOpen, open("{ prefix: /stats/ }", "{ cluster: stats }") + beforeOpen, theClusters, cluster("stats", "localhost", 9901)}, "D14", "cluster: stats"},
	{"a route leads to another port of this host", []string{beforeOpen, open("{ prefix: /stats/ }", "{ cluster: stats }") + beforeOpen, theClusters, cluster("stats", "127.0.0.1", 9902)}, "", ""},
	{"a listener passes bytes on to the admin interface", []string{theClusters, strings.Replace(thirdListener, "cluster: app", "cluster: stats", 1) + cluster("stats", "127.0.0.1", 9901)}, "D14", "# of the third"},
	{"a listener passes bytes on to the check", []string{theClusters, strings.Replace(thirdListener, "cluster: app", "cluster: sessiongate_authz", 1) + theClusters}, "D14", "# of the third"},

	{"a cache before the check", []string{beforeClaims, cache + beforeClaims}, "D1", "- name: cache"},
	{"a cache behind the check", []string{beforeRouter, cache + beforeRouter}, "", ""},
}

const cache = `                  - name: cache
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig
                      typed_config: { "@type": type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig }
`

// open is a route without a check.
func open(match, route string) string {
	return "                        - match: " + match + "\n                          route: " + route + "\n                          " + uncheckedAny + "\n"
}

func template(path string) string {
	return `{ path_match_policy: { name: t, typed_config: { "@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: "` + path + `" } } }`
}

// cluster is one before the others.
func cluster(name, host string, port int) string {
	return theClusters + fmt.Sprintf("    - { name: %s, type: STRICT_DNS, load_assignment: { cluster_name: %s, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: %s, port_value: %d } } } }] }] } }\n", name, name, host, port)
}

func perRouteCheck(cluster string) string {
	return `                        envoy.filters.http.ext_authz: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, check_settings: { grpc_service: { envoy_grpc: { cluster_name: ` + cluster + " } } } }\n"
}

func wrapped(perRoute string) string {
	name, config, _ := strings.Cut(strings.TrimSuffix(perRoute, "\n"), ": {")
	return name + `: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {` + config + " }\n"
}

// matched is a filter of header_mutation that a client has skipped by a header.
func matched(name, mutations string) string {
	return "                  - name: " + name + `
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher
                      xds_matcher:
                        matcher_tree:
                          input: { name: h, typed_config: { "@type": type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x-skip } }
                          exact_match_map: { map: { "1": { action: { name: skip, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter } } } } }
                      extension_config:
                        name: x
                        typed_config:
                          "@type": ` + mutationURL + `
                          mutations:
                            request_mutations:
` + strings.ReplaceAll("\n"+mutations, "\n  ", "\n      ")[1:]
}

func late(mutation string) string {
	return "                  - name: late\n                    typed_config: { \"@type\": " + mutationURL + ",\n                                    mutations: { request_mutations: [" + mutation + "] } }\n"
}

func perRouteMutation(filter, mutation string) string {
	return "                        " + filter + ": { \"@type\": " + mutationURL + "PerRoute, mutations: { request_mutations: [\n                          " + mutation + " ] } }\n"
}

func upstreamFilter(mutation string) string {
	return `          http_filters: [{ name: late, typed_config: { "@type": ` + mutationURL + ", mutations: { request_mutations: [" + mutation + `] } } },
                         { name: envoy.filters.http.upstream_codec, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec } }]
`
}

// TestAttacks: each is found by its probe alone, on its line, with a reason and a cure; and what is harmless is not.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			text := attacked(t, a.edits)
			report := examine(t, text)
			if (len(report.Findings) > 0) != (a.probe != "") || report.Incomplete() {
				t.Errorf("want %q, skipped %v", a.probe, report.Skipped)
			}
			for _, f := range report.Findings {
				line := strings.Split(text, "\n")[max(0, f.Line-1)]
				if f.Probe != a.probe || !strings.Contains(line, a.at) {
					t.Errorf("found by %s on the line %q, want %s on the one with %q", f.Probe, line, a.probe, a.at)
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

// attacked is the shipped file with edits.
func attacked(t *testing.T, edits []string) string {
	t.Helper()
	text := string(envoy.Shipped())
	for i := 0; i < len(edits); i += 2 {
		if strings.Count(string(envoy.Shipped()), edits[i]) != 1 {
			t.Fatalf("envoy.yaml has %q %d times", edits[i], strings.Count(string(envoy.Shipped()), edits[i]))
		}
		at := strings.LastIndex(text, edits[i]) // what was put in is before it
		text = text[:at] + edits[i+1] + text[at+len(edits[i]):]
	}
	return text
}

// unknown are configurations that the doctor does not understand in full: it must not call them clean.
var unknown = []struct {
	name  string
	edits []string
}{
	{"an upgrade has a chain of its own with a check", []string{noUpgrade, strings.Replace(noUpgrade, "false", "false, "+ownCheck, 1)}},
	{"an open route is matched by something else", []string{beforeOpen, open("{ connect_matcher: {} }", "{ cluster: app }") + beforeOpen}},
	{"an open route is rewritten by something else", []string{beforeOpen, open("{ prefix: /assets/ }", `{ cluster: app, path_rewrite: "/%REQ(x-page)%" }`) + beforeOpen}},
}

// TestUnknown: what the doctor cannot judge, it says.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for _, u := range unknown {
		if report := examine(t, attacked(t, u.edits)); len(report.Findings) > 0 || !report.Incomplete() {
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

// TestNothingAsks: where there is no HTTP connection manager there is no check, and that is no clean configuration.
func TestNothingAsks(t *testing.T) {
	t.Parallel()
	report := examine(t, "static_resources:\n  listeners:\n"+thirdListener+"  clusters: [{ name: app }]\n")
	if len(report.Findings) != 1 || report.Findings[0].Probe != "D1" || report.Findings[0].Line == 0 {
		t.Errorf("a listener that passes bytes on: found\n%s", show(report.Findings))
	}
	if report := examine(t, "static_resources: { listeners: [{ name: x }] }"); !report.Incomplete() {
		t.Errorf("a listener without a filter: found\n%s", show(report.Findings))
	}
}

// TestLarge: a rule looks at each route a bounded number of times, so a large file is one that can be read.
func TestLarge(t *testing.T) {
	t.Parallel()
	var routes, hosts strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&routes, "                        - { match: { path: /page%d }, route: { cluster: app } }\n", i)
		if i%2 == 0 {
			routes.WriteString(open(fmt.Sprintf("{ path: /open%d }", i), "{ cluster: app }"))
			fmt.Fprintf(&hosts, "                    - { name: h%d, domains: [h%d.example], routes: [{ match: { prefix: / }, route: { cluster: app } }] }\n", i, i)
		}
	}
	if report := examine(t, attacked(t, []string{beforeOpen, routes.String() + beforeOpen})); len(report.Findings) > 0 || report.Incomplete() || len(report.Exceptions) != 1004 {
		t.Errorf("%d exceptions, skipped %v, found:\n%s", len(report.Exceptions), report.Skipped, show(report.Findings))
	}
	out, err := doctor.Patch([]byte(strings.Replace(standalone.Block("existing"), theClusters, hosts.String()+theClusters, 1)), doctor.Options{}, addresses)
	if err != nil || strings.Count(string(out), "sessiongate_public") < 1000 {
		t.Fatalf("%v, %d bytes", err, len(out))
	}
	if report := examine(t, string(out)); len(report.Findings) > 0 {
		t.Errorf("patched: found\n%s", show(report.Findings))
	}
}
