package envoy_test

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/typed"
)

// everywhere gives each name of the shipped file an address.
func everywhere() (map[string]string, map[string][]string) {
	return map[string]string{"ingress": "127.0.0.1:0"}, map[string][]string{
		"sessiongate_authz":  {"127.0.0.1:1", "unix:/run/authz.sock"},
		"sessiongate_public": {"127.0.0.1:2"},
		"app":                {"app.example:3", "127.0.0.1:4"},
	}
}

func TestReaddressReplacesEveryAddress(t *testing.T) {
	listeners, clusters := everywhere()
	config, err := envoy.Readdress(envoy.Shipped(), listeners, clusters)
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := typed.Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, listener := range bootstrap.GetStaticResources().GetListeners() {
		if address := listener.GetAddress().GetSocketAddress(); address.GetAddress() != "127.0.0.1" || address.GetPortValue() != 0 {
			t.Errorf("listener %s has %v", listener.GetName(), address)
		}
	}
	want := map[string]clusterv3.Cluster_DiscoveryType{
		"sessiongate_authz":  clusterv3.Cluster_STATIC,
		"sessiongate_public": clusterv3.Cluster_STATIC,
		"app":                clusterv3.Cluster_STRICT_DNS,
	}
	for _, cluster := range bootstrap.GetStaticResources().GetClusters() {
		if got := cluster.GetType(); got != want[cluster.GetName()] {
			t.Errorf("cluster %s is %s, want %s", cluster.GetName(), got, want[cluster.GetName()])
		}
		var got []string
		for _, endpoint := range cluster.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints() {
			address := endpoint.GetEndpoint().GetAddress()
			if path := address.GetPipe().GetPath(); path != "" {
				got = append(got, "unix:"+path)
				continue
			}
			socket := address.GetSocketAddress()
			got = append(got, net.JoinHostPort(socket.GetAddress(), strconv.FormatUint(uint64(socket.GetPortValue()), 10)))
		}
		if want := clusters[cluster.GetName()]; !slices.Equal(got, want) {
			t.Errorf("cluster %s has %q, want %q", cluster.GetName(), got, want)
		}
	}
}

func TestReaddressRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(listeners map[string]string, clusters map[string][]string)
		want  string
	}{
		"missing listener": {func(l map[string]string, _ map[string][]string) { delete(l, "ingress") }, `listener "ingress" is given no address`},
		"unknown listener": {func(l map[string]string, _ map[string][]string) { l["ingres"] = "127.0.0.1:0" }, `no listener "ingres"`},
		"missing cluster":  {func(_ map[string]string, c map[string][]string) { delete(c, "app") }, `cluster "app" is given no endpoint`},
		"empty cluster":    {func(_ map[string]string, c map[string][]string) { c["app"] = nil }, `cluster "app" is given no endpoint`},
		"unknown cluster":  {func(_ map[string]string, c map[string][]string) { c["apps"] = []string{"a:1"} }, `no cluster "apps"`},
		"no port":          {func(_ map[string]string, c map[string][]string) { c["app"] = []string{"127.0.0.1"} }, `cluster "app": reading address`},
		"named port":       {func(_ map[string]string, c map[string][]string) { c["app"] = []string{"127.0.0.1:http"} }, "numeric port"},
		"no host":          {func(l map[string]string, _ map[string][]string) { l["ingress"] = ":0" }, `listener "ingress": reading address`},
		"socket and name": {
			func(_ map[string]string, c map[string][]string) { c["app"] = []string{"app.example:1", "unix:/a"} },
			"do not mix",
		},
	} {
		t.Run(name, func(t *testing.T) {
			listeners, clusters := everywhere()
			test.spoil(listeners, clusters)
			if _, err := envoy.Readdress(envoy.Shipped(), listeners, clusters); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, document := range map[string]string{
		"unknown field": "static_resources: { listenres: [] }",
		"unknown type":  `static_resources: { listeners: [{ listener_filters: [{ typed_config: { "@type": type.googleapis.com/envoy.Nothing } }] }] }`,
		"duplicate key": "admin: {}\nadmin: {}",
		"no mapping":    "- admin",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := typed.Parse([]byte(document)); err == nil {
				t.Error("accepted")
			}
		})
	}
}
