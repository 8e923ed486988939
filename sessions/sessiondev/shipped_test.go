package sessiondev

import (
	"strings"
	"testing"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/typed"
)

// shipped gives test the connection manager of the shipped envoy.yaml.
func shipped(t *testing.T, test func(*hcmv3.HttpConnectionManager)) {
	t.Helper()
	bootstrap, err := typed.Parse(envoy.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	if err := typed.EditConnectionManager(bootstrap, "ingress", func(m *hcmv3.HttpConnectionManager) error { test(m); return nil }); err != nil {
		t.Fatal(err)
	}
}

// filter is the configuration of one filter, in m.
func filter[M proto.Message](t *testing.T, m *hcmv3.HttpConnectionManager, into M) M {
	t.Helper()
	for _, f := range m.GetHttpFilters() {
		if f.GetTypedConfig().MessageIs(into) {
			if err := f.GetTypedConfig().UnmarshalTo(into); err != nil {
				t.Fatal(err)
			}
			return into
		}
	}
	t.Fatalf("there is no filter of type %T", into)
	return into
}

// TestShipped holds what this package repeats of envoy.yaml to the file.
func TestShipped(t *testing.T) {
	t.Parallel()
	same := func(t *testing.T, what string, shipped, ours any) {
		t.Helper()
		if diff := cmp.Diff(shipped, ours); diff != "" {
			t.Errorf("%s (-envoy.yaml +sessiondev):\n%s", what, diff)
		}
	}
	shipped(t, func(m *hcmv3.HttpConnectionManager) {
		var order []string
		for _, f := range m.GetHttpFilters() {
			order = append(order, strings.TrimPrefix(f.GetName(), "envoy.filters.http."))
		}
		same(t, "the order of filters, which is that of ServeHTTP", order, []string{"header_mutation", "cors", "rbac", "ext_authz", "router"})
		same(t, "limits", []int{int(m.GetCommonHttpProtocolOptions().GetMaxHeadersCount().GetValue()), int(m.GetMaxRequestHeadersKb().GetValue()) << 10}, []int{linesMax, bytesMax})

		var names, prefixes []string
		for _, p := range filter(t, m, new(extauthzv3.ExtAuthz)).GetAllowedHeaders().GetPatterns() {
			if p.GetPrefix() != "" {
				prefixes = append(prefixes, p.GetPrefix())
			} else {
				names = append(names, p.GetExact())
			}
		}
		same(t, "allowed_headers", names, allowedHeaders)
		same(t, "allowed_headers", prefixes, []string{allowedPrefix})

		var removed, patterns []string
		for _, mutation := range filter(t, m, new(mutationv3.HeaderMutation)).GetMutations().GetRequestMutations() {
			switch {
			case mutation.GetRemove() != "":
				removed = append(removed, mutation.GetRemove())
			case mutation.GetRemoveOnMatch() != nil:
				patterns = append(patterns, mutation.GetRemoveOnMatch().GetKeyMatcher().GetSafeRegex().GetRegex())
			default:
				same(t, "what is overwritten", mutation.GetAppend().GetHeader().GetKey()+": "+mutation.GetAppend().GetHeader().GetValue(), "connection: Upgrade")
			}
		}
		same(t, "removed headers", removed, removedHeaders)
		same(t, "removed headers", patterns, []string{identityPattern})

		room := filter(t, m, new(rbacv3.RBAC)).GetRules()
		same(t, "header_room", room.GetAction(), rbacconfigv3.RBAC_DENY)
		var limits []int64
		for _, side := range room.GetPolicies()["header_room"].GetCondition().GetCallExpr().GetArgs() {
			limits = append(limits, side.GetCallExpr().GetArgs()[1].GetConstExpr().GetInt64Value())
		}
		same(t, "header_room", limits, []int64{roomHeaders, roomBytes})

		host := m.GetRouteConfig().GetVirtualHosts()[0]
		cors := new(corsv3.CorsPolicy)
		if err := host.GetTypedPerFilterConfig()["envoy.filters.http.cors"].UnmarshalTo(cors); err != nil {
			t.Fatal(err)
		}
		same(t, "cors", []string{cors.GetAllowMethods(), cors.GetAllowHeaders(), cors.GetExposeHeaders(), cors.GetMaxAge()}, []string{corsMethods, corsHeaders, corsExposed, corsMaxAge})
		same(t, "what an app may not say of CORS", host.GetResponseHeadersToRemove(), corsRemoved)
	})

	bootstrap, err := typed.Parse(envoy.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range bootstrap.GetStaticResources().GetClusters() {
		if cluster.GetName() != "app" {
			continue
		}
		for _, packed := range cluster.GetTypedExtensionProtocolOptions() {
			options := new(upstreamsv3.HttpProtocolOptions)
			if err := packed.UnmarshalTo(options); err != nil {
				t.Fatal(err)
			}
			same(t, "idle connections to the app", options.GetCommonHttpProtocolOptions().GetIdleTimeout().AsDuration(), appIdle)
		}
	}
}
