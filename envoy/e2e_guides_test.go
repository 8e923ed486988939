package envoy_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/typed"
)

// standalone follows docs/guides/envoy.md, step by step, with the blocks as they stand there, and returns the configuration that its
// reader ends with.
func standalone(t *testing.T) *bootstrapv3.Bootstrap {
	t.Helper()
	guide, err := os.ReadFile("../docs/guides/envoy.md")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) (tree any) {
		t.Helper()
		for _, b := range block.FindAllStringSubmatch(string(guide), -1) {
			if b[1] == "standalone/"+name {
				if err := yaml.Unmarshal([]byte(b[2]), &tree); err != nil {
					t.Fatal(err)
				}
				return tree
			}
		}
		t.Fatalf("docs/guides/envoy.md does not show %s", name)
		return nil
	}
	whole := read("existing.yaml").(object)
	resources := whole["static_resources"].(object)
	chain := resources["listeners"].([]any)[0].(object)["filter_chains"].([]any)[0].(object)
	manager := chain["filters"].([]any)[0].(object)["typed_config"].(object)
	host := manager["route_config"].(object)["virtual_hosts"].([]any)[0].(object)
	routes := host["routes"].([]any)

	clusters := resources["clusters"].([]any)
	maps.Copy(clusters[0].(object), read("app.yaml").(object))
	resources["clusters"] = append(clusters, read("clusters.yaml").([]any)...)
	maps.Copy(manager, read("connection-manager.yaml").(object))
	manager["http_filters"] = append(read("filters.yaml").([]any), manager["http_filters"].([]any)...)
	maps.Copy(host, read("virtual-host.yaml").(object))
	maps.Copy(routes[0].(object), read("unchecked.yaml").(object)) // /login
	maps.Copy(routes[1].(object), read("unchecked.yaml").(object)) // /static/
	maps.Copy(routes[2].(object), read("policy.yaml").(object))    // /api/
	host["routes"] = append(read("routes.yaml").([]any), routes...)

	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := typed.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return bootstrap
}

// parts takes out of a configuration what the guide's fragments are about. Of the cluster app that is its protocol alone.
func parts(t *testing.T, b *bootstrapv3.Bootstrap) (clusters map[string]*clusterv3.Cluster, manager *hcmv3.HttpConnectionManager, routes []*routev3.Route) {
	t.Helper()
	clusters = map[string]*clusterv3.Cluster{}
	for _, cluster := range b.GetStaticResources().GetClusters() {
		if cluster.GetName() == "app" {
			cluster = &clusterv3.Cluster{Name: "app", TypedExtensionProtocolOptions: cluster.GetTypedExtensionProtocolOptions()}
		}
		clusters[cluster.GetName()] = cluster
	}
	err := typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
		manager = m
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range manager.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		if slices.Contains([]string{"auth", "jwks"}, route.GetName()) {
			routes = append(routes, route)
		}
	}
	return clusters, manager, routes
}

// TestStandaloneGuideIsTheShippedFile compares what the guide adds with envoy.yaml, so that neither is mended without the other.
func TestStandaloneGuideIsTheShippedFile(t *testing.T) {
	t.Parallel()
	shipped, err := typed.Parse(envoy.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	wantClusters, want, wantRoutes := parts(t, shipped)
	gotClusters, got, gotRoutes := parts(t, standalone(t))
	for what, pair := range map[string][2]any{
		"clusters":     {wantClusters, gotClusters},
		"auth routes":  {wantRoutes, gotRoutes},
		"filters":      {want.GetHttpFilters()[:4], got.GetHttpFilters()[:4]},
		"local reply":  {want.GetLocalReplyConfig(), got.GetLocalReplyConfig()},
		"internal":     {want.GetInternalAddressConfig(), got.GetInternalAddressConfig()},
		"virtual host": {want.GetRouteConfig().GetVirtualHosts()[0].GetTypedPerFilterConfig(), got.GetRouteConfig().GetVirtualHosts()[0].GetTypedPerFilterConfig()},
		"removed": {
			want.GetRouteConfig().GetVirtualHosts()[0].GetResponseHeadersToRemove(),
			got.GetRouteConfig().GetVirtualHosts()[0].GetResponseHeadersToRemove(),
		},
		"paths": {
			[]any{want.GetNormalizePath(), want.GetMergeSlashes(), want.GetPathWithEscapedSlashesAction(), want.GetUseRemoteAddress()},
			[]any{got.GetNormalizePath(), got.GetMergeSlashes(), got.GetPathWithEscapedSlashesAction(), got.GetUseRemoteAddress()},
		},
		"headers": {
			[]any{want.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction(), want.GetCommonHttpProtocolOptions().GetMaxStreamDuration()},
			[]any{got.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction(), got.GetCommonHttpProtocolOptions().GetMaxStreamDuration()},
		},
	} {
		if diff := cmp.Diff(pair[0], pair[1], protocmp.Transform()); diff != "" {
			t.Errorf("%s of envoy.yaml (-) and of docs/guides/envoy.md (+):\n%s", what, diff)
		}
	}
}

// expect fails unless the answer has the status. What the app saw is not shown: cookies are among it.
func (a answer) expect(t *testing.T, what string, status int) answer {
	t.Helper()
	switch {
	case a.status == status:
	case a.app != nil:
		t.Fatalf("%s: %d from the app, want %d", what, a.status, status)
	default:
		t.Fatalf("%s: %d %s, want %d", what, a.status, a.body, status)
	}
	return a
}

// TestStandaloneGuide follows the guide with some app's Envoy, and plays a session's life behind it.
func TestStandaloneGuide(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{noEnvoy: true})
	mine := standalone(t)
	addresses := map[string][]string{"app": {s.app.address}}
	for _, p := range s.processes {
		addresses["sessiongate_authz"] = append(addresses["sessiongate_authz"], p.authz)
		addresses["sessiongate_public"] = append(addresses["sessiongate_public"], p.public)
	}
	config, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(mine)
	if err != nil {
		t.Fatal(err)
	}
	if config, err = envoy.Readdress(config, map[string]string{"ingress": "127.0.0.1:0"}, addresses); err != nil {
		t.Fatal(err)
	}
	if mine, err = typed.Parse(config); err != nil {
		t.Fatal(err)
	}
	if err := patient(mine); err != nil {
		t.Fatal(err)
	}
	s.proxy = s.startEnvoy("envoy", func(shipped *bootstrapv3.Bootstrap) error {
		mine.Admin = shipped.GetAdmin() // its address is a free one
		proto.Reset(shipped)
		proto.Merge(shipped, mine)
		return nil
	})
	b := s.newBrowser(networkV)
	expect := func(what string, a answer, status int) answer {
		t.Helper()
		return a.expect(t, what, status)
	}
	forged := with("X-Session-User-Id", "root")
	anonymous := func(what string, a answer) {
		t.Helper()
		if expect(what, a, http.StatusOK); a.app == nil || a.app.Header["X-Session-User-Id"] != nil {
			t.Errorf("%s: the app sees an identity that the client brought", what)
		}
	}

	if a := expect("a page without a session", b.do(http.MethodGet, "/", navigation), http.StatusFound); a.header.Get("Location") != "/login" {
		t.Errorf("to %q", a.header.Get("Location"))
	}
	expect("a script without a session", b.do(http.MethodGet, "/api/", script), http.StatusUnauthorized)
	anonymous("/static/ without a session", b.do(http.MethodGet, "/static/a.css", forged))
	expect("a refresh without a session, which no check answers", b.do(http.MethodPost, refreshPath, script), 440)
	expect("a path of two readings", b.do(http.MethodGet, "/static/..%2Fapi/", script), http.StatusBadRequest)

	b.signIn("ada")
	if user := expect("signed in", b.get(forged), http.StatusOK).app.Header["X-Session-User-Id"]; !slices.Equal(user, []string{"ada"}) {
		t.Errorf("the app sees user %q", user)
	}
	unattested := []option{without("Anti-Csrf"), without("Sec-Fetch-Site"), without("Sec-Fetch-Mode")}
	expect("neither attested nor with the anti-CSRF token", b.get(unattested...), 440)
	expect("of another site", b.get(append(unattested, with("Sec-Fetch-Site", "cross-site"), with("Sec-Fetch-Mode", "no-cors"))...), http.StatusForbidden)
	anonymous("/static/ with a session", b.do(http.MethodGet, "/static/a.css", forged))

	s.advance(accessLife + moment)
	expect("expired", b.get(), 440)
	if !b.mustRefresh(t) {
		t.Error("the refresh brought no refresh token")
	}
	b.mustGet(t)
	expect("sign-out", b.do(http.MethodPost, "/auth/signout", script), http.StatusOK)
	expect("signed out", b.do(http.MethodGet, "/", navigation), http.StatusFound)

	b.signIn("ada")
	for _, p := range s.processes {
		p.stop()
	}
	if a := expect("without sessiongate", b.get(), http.StatusServiceUnavailable); a.header.Get("Cache-Control") != "no-store" {
		t.Error("Envoy's own 503 may be stored")
	}
	anonymous("/static/ without sessiongate", b.do(http.MethodGet, "/static/a.css", forged))
}
