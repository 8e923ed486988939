package planes

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"

	_ "istio.io/istio/pkg/config/xds" // Envoy's types: protojson resolves them by their registration
)

// generated is what a control plane sends to an Envoy.
type generated struct {
	listeners []*listenerv3.Listener
	routes    []*routev3.RouteConfiguration
	clusters  []*clusterv3.Cluster
	endpoints []*endpointv3.ClusterLoadAssignment
}

// bootstrap has it all in one: route configurations are where the listeners ask for them, and endpoints where the clusters do. Left out are the
// listeners and clusters that the manifests have no part in: a plane's own, for readiness and counters, and Services that no route leads to.
// Left out are also the texts of secrets.
func (g *generated) bootstrap() (any, error) {
	routes := map[string]*routev3.RouteConfiguration{}
	for _, config := range g.routes {
		routes[config.GetName()] = config
	}
	whole := &bootstrapv3.Bootstrap{StaticResources: &bootstrapv3.Bootstrap_StaticResources{}}
	for _, listener := range g.listeners {
		found, err := inline(listener, routes)
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w", listener.GetName(), err)
		}
		if found {
			whole.StaticResources.Listeners = append(whole.StaticResources.Listeners, listener)
		}
	}
	if len(whole.GetStaticResources().GetListeners()) == 0 {
		return nil, errors.New("no listener has routes")
	}
	slices.SortFunc(whole.GetStaticResources().GetListeners(), func(a, b *listenerv3.Listener) int { return cmp.Compare(a.GetName(), b.GetName()) })
	tree, err := toTree(whole)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	texts(tree, func(text string) { named[text] = true })
	endpoints := map[string]*endpointv3.ClusterLoadAssignment{}
	for _, assignment := range g.endpoints {
		endpoints[assignment.GetClusterName()] = assignment
	}
	for _, cluster := range g.clusters {
		if named[cluster.GetName()] {
			if assignment := endpoints[cmp.Or(cluster.GetEdsClusterConfig().GetServiceName(), cluster.GetName())]; assignment != nil {
				cluster.LoadAssignment = assignment
			}
			whole.StaticResources.Clusters = append(whole.StaticResources.Clusters, cluster)
		}
	}
	slices.SortFunc(whole.GetStaticResources().GetClusters(), func(a, b *clusterv3.Cluster) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return toTree(whole)
}

// inline puts route configurations into a listener, and says whether it asks for any.
func inline(listener *listenerv3.Listener, routes map[string]*routev3.RouteConfiguration) (found bool, err error) {
	err = managers(listener, func(manager *hcmv3.HttpConnectionManager) error {
		name := manager.GetRds().GetRouteConfigName()
		if name == "" {
			return nil
		}
		config, ok := routes[name]
		if !ok {
			return fmt.Errorf("it asks for routes %q, and there are %q", name, slices.Sorted(maps.Keys(routes)))
		}
		found = true
		manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: config}
		return nil
	})
	return found, err
}

// asked are the names of the route configurations that a listener asks for.
func asked(listener *listenerv3.Listener) (names []string, err error) {
	err = managers(listener, func(manager *hcmv3.HttpConnectionManager) error {
		if name := manager.GetRds().GetRouteConfigName(); name != "" {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// managers lets edit change each connection manager of a listener.
func managers(listener *listenerv3.Listener, edit func(*hcmv3.HttpConnectionManager) error) error {
	chains := listener.GetFilterChains()
	if chain := listener.GetDefaultFilterChain(); chain != nil {
		chains = append(slices.Clone(chains), chain)
	}
	for _, chain := range chains {
		for _, filter := range chain.GetFilters() {
			manager, packed := new(hcmv3.HttpConnectionManager), filter.GetTypedConfig()
			if !packed.MessageIs(manager) {
				continue
			}
			if err := packed.UnmarshalTo(manager); err != nil {
				return fmt.Errorf("unpacking connection manager: %w", err)
			}
			if err := edit(manager); err != nil {
				return err
			}
			if err := packed.MarshalFrom(manager); err != nil {
				return fmt.Errorf("packing connection manager: %w", err)
			}
		}
	}
	return nil
}

// toTree is a bootstrap with the names of envoy.yaml.
func toTree(whole *bootstrapv3.Bootstrap) (tree any, err error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("writing bootstrap: %w", err)
	}
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("writing bootstrap: %w", err)
	}
	return tree, nil
}

// texts calls do with every text in a tree.
func texts(tree any, do func(string)) {
	switch tree := tree.(type) {
	case map[string]any:
		for _, value := range tree {
			texts(value, do)
		}
	case []any:
		for _, value := range tree {
			texts(value, do)
		}
	case string:
		do(tree)
	}
}
