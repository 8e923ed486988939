package envoy_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3" // typed.Parse finds it by its registration
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/typed"
)

// What the guides say of Istio, Envoy Gateway and Contour, played. None can be run here: the translations below do what their sources do with
// the very manifests of the guides, as far as these go, so that what an attacker can do behind each is seen and not supposed.

// plane is a control plane's configuration of the connection manager and of routes.
type plane struct {
	manager object // without filters and routes
	filters []any  // the check last
	routes  []route
}

// route is one of its routes. Routes are tried in the order of Gateway API and Contour: exact paths, then longer prefixes first.
type route struct {
	exact, prefix string
	separated     bool // the prefix is of whole segments
	service       string
	timeout       any // nil: Envoy's
	unchecked     bool
	extensions    object
	set, remove   []any
}

// configuration is a plane's, with the clusters of the shipped file.
func (p plane) configuration(t *testing.T) []byte {
	t.Helper()
	slices.SortStableFunc(p.routes, func(a, b route) int {
		return cmp.Or(cmp.Compare(len(b.exact), len(a.exact)), cmp.Compare(len(b.prefix), len(a.prefix)))
	})
	const perRoute = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
	var routes []any
	for _, r := range p.routes {
		match, cluster := object{"prefix": r.prefix}, "app"
		switch {
		case r.exact != "":
			match = object{"path": r.exact}
		case r.separated && r.prefix != "/":
			match = object{"path_separated_prefix": r.prefix}
		}
		if r.service == "sessiongate" {
			cluster = "sessiongate_public"
		}
		check := object{"@type": perRoute, "disabled": true}
		if !r.unchecked {
			check = object{"@type": perRoute, "check_settings": object{"context_extensions": r.extensions}}
		}
		var add []any
		for _, header := range r.set {
			add = append(add, object{
				"header":        object{"key": at(header, "name"), "value": at(header, "value")},
				"append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
			})
		}
		routes = append(routes, object{
			"match": match, "route": object{"cluster": cluster, "timeout": r.timeout}, "request_headers_to_add": add, "request_headers_to_remove": r.remove,
			"typed_per_filter_config": object{at(p.filters[len(p.filters)-1], "name").(string): check},
		})
	}
	whole := parse(t, string(envoy.Shipped())) // its clusters stay
	m := manager(whole)
	clear(m)
	maps.Copy(m, p.manager)
	m["@type"] = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	m["stat_prefix"] = "ingress"
	m["http_filters"] = append(p.filters, object{
		"name": "router", "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
	})
	m["route_config"] = object{"virtual_hosts": []any{object{"name": "app", "domains": []any{"*"}, "routes": routes}}}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// start runs the real Envoy with a plane's configuration in front of a stack.
func (p plane) start(s *stack) {
	s.Helper()
	mine, err := typed.Parse(p.configuration(s.T))
	if err != nil {
		s.Fatal(err)
	}
	s.proxy = s.startEnvoy("envoy", func(shipped *bootstrapv3.Bootstrap) error {
		mine.Admin, mine.GetStaticResources().Clusters = shipped.GetAdmin(), shipped.GetStaticResources().GetClusters()
		mine.GetStaticResources().GetListeners()[0].Address = shipped.GetStaticResources().GetListeners()[0].GetAddress()
		proto.Reset(shipped)
		proto.Merge(shipped, mine)
		return nil
	})
}

// check is an ext_authz filter with what a plane says of it. Patient, as in all tests: a second is no promise on a busy machine.
func check(name string, settings object) object {
	config := object{
		"@type":                 "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
		"transport_api_version": "V3",
		"grpc_service":          object{"envoy_grpc": object{"cluster_name": "sessiongate_authz"}, "timeout": patience.String()},
	}
	maps.Copy(config, settings)
	return object{"name": name, "typed_config": config}
}

var corsFilter = object{
	"name": "envoy.filters.http.cors", "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"},
}

// contourPlane is what Contour 1.33.8 makes of the HTTPProxies: internal/envoy/v3/listener.go, route.go.
func contourPlane(t *testing.T) plane {
	t.Helper()
	p := plane{manager: object{"use_remote_address": true, "normalize_path": true, "merge_slashes": true}}
	host := object{}
	err := eachDocument([]byte(manifestFiles(t)["contour/proxies.yaml"]), func(proxy map[string]any) error {
		spec := proxy["spec"].(object)
		if v, ok := spec["virtualhost"].(object); ok {
			host = at(v, "authorization", "authPolicy", "context").(object)
			p.filters = []any{corsFilter, check("envoy.filters.http.ext_authz", object{
				"clear_route_cache": true, "failure_mode_allow": at(v, "authorization", "failOpen"), "status_on_error": object{"code": "Forbidden"},
			})}
		}
		for _, from := range spec["routes"].([]any) {
			r := route{prefix: "/", service: at(from, "services", 0, "name").(string), extensions: maps.Clone(host)}
			if conditions, ok := from.(object)["conditions"].([]any); ok {
				r.exact, _ = at(conditions, 0).(object)["exact"].(string)
				r.prefix, _ = at(conditions, 0).(object)["prefix"].(string)
			}
			if policy, ok := from.(object)["timeoutPolicy"].(object); ok && policy["response"] != "infinity" {
				r.timeout = policy["response"]
			}
			if policy, ok := from.(object)["authPolicy"].(object); ok {
				r.unchecked = policy["disabled"] == true
				context, _ := policy["context"].(object)
				maps.Copy(r.extensions, context)
			}
			if headers, ok := from.(object)["requestHeadersPolicy"].(object); ok {
				r.set, _ = headers["set"].([]any)
				r.remove, _ = headers["remove"].([]any)
			}
			p.routes = append(p.routes, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// gatewayPlane is what Envoy Gateway 1.9.1 makes of the manifests: internal/xds/translator/extauth.go, httpfilters.go, listener.go. Its filter
// of the check is there once for each policy; once will do here, for they differ in contextExtensions alone, which are the route's.
func gatewayPlane(t *testing.T) plane {
	t.Helper()
	files, p := manifestFiles(t), plane{}
	type target struct{ kind, name, section any }
	policies := map[target]object{}
	var auth object
	each := func(file string, do func(kind any, spec object)) {
		t.Helper()
		err := eachDocument([]byte(files[file]), func(d map[string]any) error {
			do(d["kind"], d["spec"].(object))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	each("envoy-gateway/gateway.yaml", func(kind any, spec object) {
		if kind != "ClientTrafficPolicy" {
			return
		}
		var mutations []any
		early := at(spec, "headers", "earlyRequestHeaders").(object)
		for _, name := range early["remove"].([]any) {
			mutations = append(mutations, object{"remove": name})
		}
		for _, m := range early["removeOnMatch"].([]any) {
			mutations = append(mutations, object{"remove_on_match": object{"key_matcher": object{"safe_regex": object{"regex": at(m, "value")}}}})
		}
		p.manager = object{
			"use_remote_address": true, "normalize_path": true, "merge_slashes": true,
			"path_with_escaped_slashes_action": map[any]any{"RejectRequest": "REJECT_REQUEST"}[at(spec, "path", "escapedSlashesAction")],
			"common_http_protocol_options": object{
				"headers_with_underscores_action": map[any]any{"RejectRequest": "REJECT_REQUEST"}[at(spec, "headers", "withUnderscoresAction")],
			},
			"early_header_mutation_extensions": []any{object{
				"name": "envoy.http.early_header_mutation.header_mutation",
				"typed_config": object{
					"@type":     "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
					"mutations": mutations,
				},
			}},
		}
	})
	each("envoy-gateway/security.yaml", func(kind any, spec object) {
		if kind != "SecurityPolicy" {
			return
		}
		for _, ref := range spec["targetRefs"].([]any) {
			policies[target{at(ref, "kind"), at(ref, "name"), ref.(object)["sectionName"]}] = spec
			if extAuth, ok := spec["extAuth"].(object); ok {
				auth = extAuth
			}
		}
	})
	var headers []any
	for _, header := range auth["headersToExtAuth"].([]any) {
		headers = append(headers, object{"exact": header, "ignore_case": true})
	}
	filter := check("envoy.filters.http.ext_authz/securitypolicy/ingress/app", object{
		"failure_mode_allow": auth["failOpen"], "status_on_error": object{"code": auth["statusOnError"]}, "allowed_headers": object{"patterns": headers},
	})
	p.filters = []any{corsFilter, filter}
	each("envoy-gateway/routes.yaml", func(kind any, spec object) {
		if kind != "HTTPRoute" {
			return
		}
		for _, rule := range spec["rules"].([]any) {
			name := map[any]string{"auth": "auth", "jwks": "auth", "login": "login"}[at(rule, "name")]
			policy := policies[target{"HTTPRoute", cmp.Or(name, "app"), at(rule, "name")}]
			if policy == nil {
				policy = policies[target{"HTTPRoute", cmp.Or(name, "app"), nil}]
			}
			if policy == nil {
				policy = policies[target{"Gateway", "app", nil}]
			}
			r := route{service: at(rule, "backendRefs", 0, "name").(string), extensions: object{}}
			if timeouts, ok := rule.(object)["timeouts"].(object); ok {
				r.timeout = timeouts["request"]
			}
			path, value := at(rule, "matches", 0, "path").(object), at(rule, "matches", 0, "path", "value").(string)
			if path["type"] == "Exact" {
				r.exact = value
			} else {
				r.prefix, r.separated = value, true
			}
			extAuth, checked := policy["extAuth"].(object)
			r.unchecked = !checked
			if checked {
				for _, e := range extAuth["contextExtensions"].([]any) {
					r.extensions[at(e, "name").(string)] = at(e, "value")
				}
			}
			if filters, ok := rule.(object)["filters"].([]any); ok {
				r.set = at(filters, 0, "requestHeaderModifier", "set").([]any)
			}
			p.routes = append(p.routes, r)
		}
	})
	return p
}

// istioPlane is what Istio 1.31 makes of the manifests, with the EnvoyFilter on top: the check before cors, for the paths that the
// AuthorizationPolicy does not exempt, and no word of policy on any route.
func istioPlane(t *testing.T) plane {
	t.Helper()
	files := manifestFiles(t)
	provider := at(parse(t, files["istio/mesh.yaml"]), "meshConfig", "extensionProviders", 0, "envoyExtAuthzGrpc").(object)
	base := parse(t, strings.Replace(generated, "CHECK", "envoy.filters.http.ext_authz", 1))
	m := manager(base)
	// pathNormalization: DECODE_AND_MERGE_SLASHES
	maps.Copy(m, object{"use_remote_address": true, "merge_slashes": true, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"})
	m["http_filters"].([]any)[0] = check("envoy.filters.http.ext_authz", object{
		"failure_mode_allow": provider["failOpen"], "clear_route_cache": provider["clearRouteCache"],
		"status_on_error": object{"code": map[any]any{"503": "ServiceUnavailable"}[provider["statusOnError"]]},
	})
	applyEnvoyFilter(t, base, parse(t, files["istio/hardening.yaml"]))
	filters := m["http_filters"].([]any)
	p := plane{manager: maps.Clone(m), filters: filters[:len(filters)-1]} // without the router

	var exempt []any
	err := eachDocument([]byte(files["istio/authorization.yaml"]), func(policy map[string]any) error {
		if spec := policy["spec"].(object); spec["action"] == "CUSTOM" {
			exempt = at(spec, "rules", 0, "to", 0, "operation", "notPaths").([]any)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range at(parse(t, files["istio/routes.yaml"]), "spec", "http").([]any) {
		service, _, _ := strings.Cut(at(from, "route", 0, "destination", "host").(string), ".")
		r := route{service: service, prefix: "/", timeout: from.(object)["timeout"]}
		if headers, ok := from.(object)["headers"].(object); ok {
			r.remove, _ = at(headers, "request").(object)["remove"].([]any)
			set, _ := at(headers, "request").(object)["set"].(object)
			for name, value := range set {
				r.set = append(r.set, object{"name": name, "value": value})
			}
		}
		matches, ok := from.(object)["match"].([]any)
		if !ok {
			matches = []any{object{"uri": object{"prefix": "/"}}}
		}
		for _, match := range matches {
			uri := at(match, "uri").(object)
			r.exact, _ = uri["exact"].(string)
			r.prefix, _ = uri["prefix"].(string)
			r.unchecked = slices.ContainsFunc(exempt, func(path any) bool {
				below, whole := strings.CutSuffix(path.(string), "*")
				return whole && r.prefix == below || path == r.exact
			})
			p.routes = append(p.routes, r)
		}
	}
	return p
}

// tableOfRoutes is a configuration file with nothing but the routes of istio/config.yaml.
func tableOfRoutes(t *testing.T) (setting string) {
	t.Helper()
	whole := parse(t, at(parse(t, manifestFiles(t)["istio/config.yaml"]), "data", "sessiongate.yaml").(string))
	text, err := yaml.Marshal(object{"routes": whole["routes"]})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return "SESSIONGATE_CONFIG=" + file
}

// TestControlPlanes plays a session's life, and the attacks of the guides' tables, behind each.
func TestControlPlanes(t *testing.T) {
	t.Parallel()
	type controlPlane struct {
		plane       func(*testing.T) plane
		lookAlikes  bool // pass, as the guide says
		spelling    int  // the answer to an escaped slash on a checked path
		unreachable int  // the answer where sessiongate is away
		twoLines    int  // the answer to a harmless second Cookie line, which only raw headers tell apart
		table       bool // policy is in sessiongate's table of routes
	}
	planes := map[string]controlPlane{
		"Contour":       {contourPlane, true, http.StatusFound, http.StatusForbidden, 440, false},
		"Envoy Gateway": {gatewayPlane, false, http.StatusBadRequest, http.StatusServiceUnavailable, 440, false},
	}
	if routesAreKnown {
		planes["Istio"] = controlPlane{istioPlane, false, http.StatusBadRequest, http.StatusServiceUnavailable, http.StatusOK, true}
	}
	for name, test := range planes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := stackOptions{noEnvoy: true}
			if test.table {
				options.settings = []string{tableOfRoutes(t)}
			}
			s := newStack(t, options)
			test.plane(t).start(s)
			b := s.newBrowser(networkV)
			expect := func(what string, a answer, status int) answer {
				t.Helper()
				return a.expect(t, what, status)
			}
			forged := with("X-Session-User-Id", "root")

			expect("a page without a session", b.do(http.MethodGet, "/", navigation), http.StatusFound)
			expect("a script without a session", b.do(http.MethodGet, "/api/", script), http.StatusUnauthorized)
			expect("the auth path, which answers for itself", b.do(http.MethodGet, refreshPath, script), http.StatusMethodNotAllowed)
			expect("an escaped slash", b.do(http.MethodGet, "/x%2F..%2Fapi", navigation), test.spelling)
			expect("public keys", b.do(http.MethodGet, "/.well-known/jwks.json"), http.StatusOK)
			b.signIn("ada")
			expect("not ours", b.do(http.MethodGet, "/authors", navigation, without("Cookie")), http.StatusFound)
			if got := expect("signed in", b.get(forged), http.StatusOK).app.Header["X-Session-User-Id"]; !slices.Equal(got, []string{"ada"}) {
				t.Errorf("the app sees user %q", got)
			}
			if got := expect("an unchecked route", b.do(http.MethodGet, "/login", forged), http.StatusOK).app.Header["X-Session-User-Id"]; got != nil {
				t.Errorf("the login page sees user %q", got)
			}
			a := b.get(with("x_session_user_id", "root"))
			if passed := a.app != nil && strings.Contains(a.body, "root"); passed != test.lookAlikes {
				t.Errorf("a look-alike passes: %v (%d)", passed, a.status)
			}
			expect("two Cookie lines", b.get(with("Cookie", "a=1")), test.twoLines)

			if test.table {
				expect("a claim that the table requires", b.do(http.MethodGet, "/admin/x", script), http.StatusForbidden)
				expect("another spelling of that path", b.do(http.MethodGet, "/ADMIN/x", script), http.StatusForbidden)
				anonymous := expect("optional", b.do(http.MethodGet, "/optional", script, forged, without("Cookie")), http.StatusOK)
				if got := anonymous.app.Header["X-Session-User-Id"]; got != nil {
					t.Errorf("on an optional route the app sees user %q", got)
				}
			}

			thief := b.stolenBy(networkX)
			s.advance(accessLife + moment)
			expect("expired", b.get(), 440)
			if !b.mustRefresh(t) {
				t.Error("the refresh brought no refresh token")
			}
			thief.do(http.MethodPost, refreshPath, script, with("X-Sessiongate-Peer", networkV)).superseded(t)
			b.mustGet(t)
			expect("sign-out", b.do(http.MethodPost, "/auth/signout", script), http.StatusOK)
			expect("signed out", b.do(http.MethodGet, "/", navigation), http.StatusFound)

			b.signIn("ada")
			for _, p := range s.processes {
				p.stop()
			}
			expect("without sessiongate", b.get(), test.unreachable)
		})
	}
}
