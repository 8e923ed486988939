package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	// The types that envoy.yaml names in "@type": protojson resolves them by their registration.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// unixPrefix marks an endpoint that is a unix socket: "unix:/run/authz.sock".
const unixPrefix = "unix:"

// Parse reads an Envoy bootstrap written in YAML. A field or a type that Envoy's API (go-control-plane) does not know is an error.
func Parse(document []byte) (*bootstrapv3.Bootstrap, error) {
	var tree any
	if err := yaml.Unmarshal(document, &tree); err != nil {
		return nil, fmt.Errorf("parsing Envoy bootstrap: %w", err)
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("converting Envoy bootstrap to JSON: %w", err)
	}
	bootstrap := new(bootstrapv3.Bootstrap)
	if err := protojson.Unmarshal(asJSON, bootstrap); err != nil {
		return nil, fmt.Errorf("reading Envoy bootstrap: %w", err)
	}
	return bootstrap, nil
}

// Readdress replaces the address of every static listener ("host:port") and the endpoints of every static cluster (each "host:port"
// or "unix:/path"), by name. The endpoints of a cluster share its load; a host that is no IP address is looked up by DNS. A name
// of the bootstrap that is missing from the maps, and one in the maps that the bootstrap has not, are errors; all of them are reported.
func Readdress(bootstrap *bootstrapv3.Bootstrap, listeners map[string]string, clusters map[string][]string) error {
	var faults []error
	resources := bootstrap.GetStaticResources()

	unused := maps.Clone(listeners)
	for _, listener := range resources.GetListeners() {
		name := listener.GetName()
		delete(unused, name)
		hostport, ok := listeners[name]
		if !ok {
			faults = append(faults, fmt.Errorf("listener %q is given no address", name))
			continue
		}
		address, err := socketAddress(hostport)
		if err != nil {
			faults = append(faults, fmt.Errorf("listener %q: %w", name, err))
			continue
		}
		listener.Address = address
	}
	for _, name := range slices.Sorted(maps.Keys(unused)) {
		faults = append(faults, fmt.Errorf("there is no listener %q", name))
	}

	unknown := maps.Clone(clusters)
	for _, cluster := range resources.GetClusters() {
		name := cluster.GetName()
		delete(unknown, name)
		endpoints, ok := clusters[name]
		if !ok || len(endpoints) == 0 {
			faults = append(faults, fmt.Errorf("cluster %q is given no endpoint", name))
			continue
		}
		if err := setEndpoints(cluster, endpoints); err != nil {
			faults = append(faults, fmt.Errorf("cluster %q: %w", name, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		faults = append(faults, fmt.Errorf("there is no cluster %q", name))
	}

	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("replacing Envoy's addresses: %w", err)
	}
	return nil
}

// setEndpoints makes the cluster STATIC, or STRICT_DNS if an endpoint's host is a name; Envoy takes unix sockets only in the former.
func setEndpoints(cluster *clusterv3.Cluster, endpoints []string) error {
	discovery, sockets := clusterv3.Cluster_STATIC, false
	lb := make([]*endpointv3.LbEndpoint, 0, len(endpoints))
	for _, endpoint := range endpoints {
		var address *corev3.Address
		if path, isUnix := strings.CutPrefix(endpoint, unixPrefix); isUnix {
			sockets = true
			address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
		} else {
			var err error
			if address, err = socketAddress(endpoint); err != nil {
				return err
			}
			if _, err := netip.ParseAddr(address.GetSocketAddress().GetAddress()); err != nil {
				discovery = clusterv3.Cluster_STRICT_DNS
			}
		}
		lb = append(lb, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
		})
	}
	if sockets && discovery == clusterv3.Cluster_STRICT_DNS {
		return errors.New("unix sockets and host names do not mix in one cluster")
	}
	cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: discovery}
	cluster.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster.GetName(),
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: lb}},
	}
	return nil
}

func socketAddress(hostport string) (*corev3.Address, error) {
	host, text, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("reading address: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || host == "" {
		return nil, fmt.Errorf("reading address %q: want host:port with a numeric port", hostport)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}, nil
}

// EditConnectionManager lets edit change the HTTP connection manager of a listener, and with it its filters and
// its routes (GetRouteConfig), inside the bootstrap.
func EditConnectionManager(bootstrap *bootstrapv3.Bootstrap, listener string, edit func(*hcmv3.HttpConnectionManager) error) error {
	for _, candidate := range bootstrap.GetStaticResources().GetListeners() {
		if candidate.GetName() != listener {
			continue
		}
		for _, chain := range candidate.GetFilterChains() {
			for _, filter := range chain.GetFilters() {
				manager := new(hcmv3.HttpConnectionManager)
				packed := filter.GetTypedConfig()
				if !packed.MessageIs(manager) {
					continue
				}
				if err := packed.UnmarshalTo(manager); err != nil {
					return fmt.Errorf("unpacking connection manager of listener %q: %w", listener, err)
				}
				if err := edit(manager); err != nil {
					return fmt.Errorf("editing connection manager of listener %q: %w", listener, err)
				}
				if err := packed.MarshalFrom(manager); err != nil {
					return fmt.Errorf("packing connection manager of listener %q: %w", listener, err)
				}
				return nil
			}
		}
	}
	return fmt.Errorf("there is no HTTP connection manager in a listener %q", listener)
}
