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

	"go.yaml.in/yaml/v3"
)

// unixPrefix marks an endpoint that is a unix socket: "unix:/run/authz.sock".
const unixPrefix = "unix:"

// Readdress replaces the address of every static listener ("host:port") and the endpoints of every static cluster (each "host:port"
// or "unix:/path") of a bootstrap, by name, and returns it as JSON. The endpoints of a cluster share its load; a host that is no IP address
// is looked up by DNS. A name of the bootstrap that is missing from the maps, and one in the maps that the bootstrap has not, are errors;
// all of them are reported. The bootstrap is YAML or JSON, its fields are spelt as in envoy.yaml.
func Readdress(config []byte, listeners map[string]string, clusters map[string][]string) ([]byte, error) {
	var bootstrap map[string]any
	if err := yaml.Unmarshal(config, &bootstrap); err != nil {
		return nil, fmt.Errorf("parsing Envoy bootstrap: %w", err)
	}
	resources, _ := bootstrap["static_resources"].(map[string]any)
	var faults []error

	unused := maps.Clone(listeners)
	for name, listener := range named(resources["listeners"]) {
		delete(unused, name)
		hostport, ok := listeners[name]
		if !ok {
			faults = append(faults, fmt.Errorf("listener %q is given no address", name))
			continue
		}
		address, _, err := socketAddress(hostport)
		if err != nil {
			faults = append(faults, fmt.Errorf("listener %q: %w", name, err))
			continue
		}
		listener["address"] = address
	}
	for _, name := range slices.Sorted(maps.Keys(unused)) {
		faults = append(faults, fmt.Errorf("there is no listener %q", name))
	}

	unknown := maps.Clone(clusters)
	for name, cluster := range named(resources["clusters"]) {
		delete(unknown, name)
		endpoints, ok := clusters[name]
		if !ok || len(endpoints) == 0 {
			faults = append(faults, fmt.Errorf("cluster %q is given no endpoint", name))
			continue
		}
		if err := setEndpoints(name, cluster, endpoints); err != nil {
			faults = append(faults, fmt.Errorf("cluster %q: %w", name, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		faults = append(faults, fmt.Errorf("there is no cluster %q", name))
	}

	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("replacing Envoy's addresses: %w", err)
	}
	changed, err := json.Marshal(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("writing Envoy bootstrap: %w", err)
	}
	return changed, nil
}

// named are the entries of a list, in its order, by their names.
func named(list any) func(yield func(string, map[string]any) bool) {
	return func(yield func(string, map[string]any) bool) {
		entries, _ := list.([]any)
		for _, entry := range entries {
			fields, _ := entry.(map[string]any)
			if name, _ := fields["name"].(string); fields != nil && !yield(name, fields) {
				return
			}
		}
	}
}

// setEndpoints makes the cluster STATIC, or STRICT_DNS if an endpoint's host is a name; Envoy takes unix sockets only in the former.
func setEndpoints(name string, cluster map[string]any, endpoints []string) error {
	discovery, sockets := "STATIC", false
	var lb []any
	for _, endpoint := range endpoints {
		var address map[string]any
		if path, isUnix := strings.CutPrefix(endpoint, unixPrefix); isUnix {
			sockets = true
			address = map[string]any{"pipe": map[string]any{"path": path}}
		} else {
			var host string
			var err error
			if address, host, err = socketAddress(endpoint); err != nil {
				return err
			}
			if _, err := netip.ParseAddr(host); err != nil {
				discovery = "STRICT_DNS"
			}
		}
		lb = append(lb, map[string]any{"endpoint": map[string]any{"address": address}})
	}
	if sockets && discovery == "STRICT_DNS" {
		return errors.New("unix sockets and host names do not mix in one cluster")
	}
	cluster["type"] = discovery
	cluster["load_assignment"] = map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{"lb_endpoints": lb}}}
	return nil
}

func socketAddress(hostport string) (address map[string]any, host string, err error) {
	host, text, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, "", fmt.Errorf("reading address: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || host == "" {
		return nil, "", fmt.Errorf("reading address %q: want host:port with a numeric port", hostport)
	}
	return map[string]any{"socket_address": map[string]any{"address": host, "port_value": port}}, host, nil
}
