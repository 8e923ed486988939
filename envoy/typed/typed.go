// Package typed reads an Envoy bootstrap, as envoy.yaml is one, into Envoy's own types, for tests and benchmarks that
// look into it or change more of it than its addresses.
//
// It links all of Envoy's API, a quarter of the size of sessiongate: the product itself must not import it.
package typed

import (
	"encoding/json"
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
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

// Edit makes of a change of Envoy's types a change of the text of a bootstrap, which comes out as JSON with the names of envoy.yaml.
func Edit(change func(*bootstrapv3.Bootstrap) error) func(config []byte) ([]byte, error) {
	return func(config []byte) ([]byte, error) {
		bootstrap, err := Parse(config)
		if err != nil {
			return nil, err
		}
		if err := change(bootstrap); err != nil {
			return nil, err
		}
		changed, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(bootstrap)
		if err != nil {
			return nil, fmt.Errorf("writing Envoy bootstrap: %w", err)
		}
		return changed, nil
	}
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
