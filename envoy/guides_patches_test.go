package envoy_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// generated is what a control plane might make of the guides' manifests: a connection manager with the check, cors behind it as Istio has
// it, and a cluster. The names are those by which the patches find their places.
const generated = `
static_resources:
  listeners:
    - name: ingress/app/https
      address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: ingress
                normalize_path: true
                http_filters:
                  - name: CHECK
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      transport_api_version: V3
                      grpc_service: { envoy_grpc: { cluster_name: authz }, timeout: 1s }
                      status_on_error: { code: ServiceUnavailable }
                  - name: envoy.filters.http.cors
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }
                  - name: envoy.filters.http.router
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
                route_config:
                  virtual_hosts:
                    - { name: app, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: "sessiongate.sessiongate.svc.cluster.local:9002" } }] }
  clusters:
    - { name: "sessiongate.sessiongate.svc.cluster.local:9002", type: STATIC }
    - name: authz
      type: STATIC
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: { http2_protocol_options: {} }
`

type object = map[string]any

// at follows keys and indices down a tree.
func at(tree any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			tree = tree.(object)[step]
		case int:
			tree = tree.([]any)[step]
		}
	}
	return tree
}

func parse(t *testing.T, text string) object {
	t.Helper()
	var tree object
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// manager is the connection manager of a bootstrap like generated.
func manager(bootstrap object) object {
	return at(bootstrap, "static_resources", "listeners", 0, "filter_chains", 0, "filters", 0, "typed_config").(object)
}

func filterNames(bootstrap object) (names []string) {
	for _, filter := range manager(bootstrap)["http_filters"].([]any) {
		names = append(names, at(filter, "name").(string))
	}
	return names
}

// merge is what MERGE does to a message: fields are set, messages merged, lists appended.
func merge(into, more object) {
	for key, value := range more {
		switch had := into[key].(type) {
		case object:
			merge(had, value.(object))
		case []any:
			into[key] = append(had, value.([]any)...)
		default:
			into[key] = value
		}
	}
}

// applyEnvoyFilter does what Istio's documentation of EnvoyFilter says, as far as our manifest goes.
func applyEnvoyFilter(t *testing.T, bootstrap, manifest object) {
	t.Helper()
	for _, patch := range at(manifest, "spec", "configPatches").([]any) {
		value, _ := at(patch, "patch", "value").(object)
		operation := at(patch, "patch", "operation").(string)
		switch applyTo := at(patch, "applyTo").(string); applyTo {
		case "NETWORK_FILTER":
			merge(manager(bootstrap), value["typed_config"].(object))
		case "CLUSTER":
			found := false
			for _, cluster := range at(bootstrap, "static_resources", "clusters").([]any) {
				m := at(patch, "match", "cluster").(object)
				if host, port, _ := strings.Cut(at(cluster, "name").(string), ":"); host == m["service"] && port == "9002" && m["portNumber"] == 9002 {
					merge(cluster.(object), value)
					found = true
				}
			}
			if !found {
				t.Error("the patch of a cluster finds none")
			}
		case "HTTP_FILTER":
			m, filters := manager(bootstrap), manager(bootstrap)["http_filters"].([]any)
			if operation == "INSERT_FIRST" {
				m["http_filters"] = append([]any{value}, filters...)
				continue
			}
			var kept []any
			name, found := at(patch, "match", "listener", "filterChain", "filter", "subFilter", "name"), false
			for _, filter := range filters {
				if at(filter, "name") != name {
					kept = append(kept, filter)
					continue
				}
				found = true
				if operation == "MERGE" {
					merge(filter.(object), value)
					kept = append(kept, filter)
				}
			}
			if !found {
				t.Errorf("%s finds no filter %v", operation, name)
			}
			m["http_filters"] = kept
		default:
			t.Errorf("this test cannot apply %s to %s", operation, applyTo)
		}
	}
}

// checkPath and filtersPath are the JSONPaths that the EnvoyPatchPolicy may use: this test knows what they find.
var checkPath = regexp.MustCompile(`^\.\.http_filters\[\?\(@\.name=~'(envoy\.filters\.http\.ext_authz\.\*)'\)\]\.typed_config$`)

const filtersPath = "..http_filters"

func applyEnvoyPatchPolicy(t *testing.T, bootstrap, manifest object) {
	t.Helper()
	for _, patch := range at(manifest, "spec", "jsonPatches").([]any) {
		operation := at(patch, "operation").(object)
		path := checkPath.FindStringSubmatch(operation["jsonPath"].(string))
		first := operation["jsonPath"] == filtersPath && operation["path"] == "0"
		if path == nil && !first || operation["op"] != "add" || at(patch, "name") != at(bootstrap, "static_resources", "listeners", 0, "name") {
			t.Errorf("this test cannot apply %v", patch)
			continue
		}
		m := manager(bootstrap)
		if first { // JSON Patch (RFC 6902) adds before what is there
			m["http_filters"] = append([]any{operation["value"]}, m["http_filters"].([]any)...)
			continue
		}
		for _, filter := range m["http_filters"].([]any) {
			if regexp.MustCompile(path[1]).MatchString(at(filter, "name").(string)) {
				at(filter, "typed_config").(object)[operation["path"].(string)] = operation["value"]
			}
		}
	}
}

// TestPatchesOfTheGuides gives the real Envoy what the guides' patches make of a generated configuration, and compares the check with the
// shipped one.
func TestPatchesOfTheGuides(t *testing.T) {
	t.Parallel()
	binary, err := envoyrun.Binary(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	shipped := at(manager(parse(t, string(envoy.Shipped()))), "http_filters").([]any)
	files := manifestFiles(t)
	for name, test := range map[string]struct {
		check, file string
		apply       func(*testing.T, object, object)
		order       string
		same        []string // settings of the check that must be the shipped ones
	}{
		"Istio": {
			"envoy.filters.http.ext_authz", "istio/hardening.yaml", applyEnvoyFilter,
			"envoy.filters.http.header_mutation envoy.filters.http.cors envoy.filters.http.ext_authz envoy.filters.http.router",
			[]string{"encode_raw_headers", "validate_mutations", "charge_cluster_response_stats", "allowed_headers", "decoder_header_mutation_rules"},
		},
		"Envoy Gateway": {
			"envoy.filters.http.ext_authz/securitypolicy/ingress/app", "envoy-gateway/hardening.yaml", applyEnvoyPatchPolicy,
			"envoy.filters.http.header_mutation envoy.filters.http.ext_authz/securitypolicy/ingress/app envoy.filters.http.cors envoy.filters.http.router",
			[]string{"encode_raw_headers", "validate_mutations", "decoder_header_mutation_rules"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bootstrap := parse(t, strings.Replace(generated, "CHECK", test.check, 1))
			test.apply(t, bootstrap, parse(t, files[test.file]))
			text, err := json.Marshal(bootstrap)
			if err != nil {
				t.Fatal(err)
			}
			if err := envoyrun.Validate(t.Context(), binary, text); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(filterNames(bootstrap), " "); got != test.order {
				t.Errorf("filters are\n%s, want\n%s", got, test.order)
			}
			for _, filter := range manager(bootstrap)["http_filters"].([]any) {
				if at(filter, "name") != test.check {
					continue
				}
				for _, key := range test.same {
					got, _ := json.Marshal(at(filter, "typed_config", key))
					want, _ := json.Marshal(at(shipped[3], "typed_config", key))
					if string(got) != string(want) {
						t.Errorf("%s is %s, in envoy.yaml %s", key, got, want)
					}
				}
			}
			if test.file == "istio/hardening.yaml" {
				got, _ := json.Marshal(at(manager(bootstrap)["http_filters"], 0, "typed_config"))
				want, _ := json.Marshal(at(shipped[0], "typed_config"))
				if string(got) != string(want) {
					t.Errorf("the identity headers are removed by %s, in envoy.yaml by %s", got, want)
				}
				return
			}
			// Envoy Gateway removes the others before, by its own API.
			mutations := func(filter any) []any { return at(filter, "typed_config", "mutations", "request_mutations").([]any) }
			own := mutations(shipped[0])
			got, _ := json.Marshal(mutations(at(manager(bootstrap)["http_filters"], 0)))
			want, _ := json.Marshal(own[len(own)-1:])
			if string(got) != string(want) {
				t.Errorf("Connection is rewritten by %s, in envoy.yaml by %s", got, want)
			}
		})
	}
}
