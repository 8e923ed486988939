package planes

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/tool"
)

// recording says whether what was generated is to replace what is in the repository.
func recording() bool { return os.Getenv("SESSIONGATE_RECORD") != "" }

// TestEnvoyGateway has Envoy Gateway's own translator, the one of its command line, translate the manifests with EnvoyPatchPolicies switched on.
// Each object must be accepted.
func TestEnvoyGateway(t *testing.T) {
	t.Parallel()
	version, err := tool.EnvoyGateway.Version()
	if err != nil {
		t.Fatal(err)
	}
	r := record{header: header{Plane: "Envoy Gateway", Version: version}}
	texts, err := r.readAll("envoy-gateway/gateway.yaml", "envoy-gateway/security.yaml", "envoy-gateway/routes.yaml", "envoy-gateway/hardening.yaml",
		"kubernetes/namespace.yaml", "kubernetes/service.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, err := objects(append([]string{surroundings}, texts...)...)
	if err != nil {
		t.Fatal(err)
	}
	g := translated(t, all)
	if r.Bootstrap, err = g.bootstrap(); err != nil {
		t.Fatal(err)
	}
	if err := r.keep("envoy-gateway.yaml", recording()); err != nil {
		t.Error(err)
	}
}

// translated is what Envoy Gateway makes of some objects. It must accept each.
func translated(t *testing.T, all []object) (g generated) {
	t.Helper()
	addressed(all)
	certificate, err := selfSigned("app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, certificate.secret("ingress", "app-example-com"))
	file := filepath.Join(t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(file, []byte(text(t, all)), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := tool.EnvoyGateway.Binary(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "experimental", "translate", "--from", "gateway-api", "--to", "gateway-api,xds", "--output", "json", "--file", file)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var result map[string]json.RawMessage
	if err := json.Unmarshal(output, &result); err != nil {
		t.Fatal(err)
	}
	accepted := map[string]int{}
	for field, text := range result {
		if field == "xds" {
			continue
		}
		var list []object
		if err := json.Unmarshal(text, &list); err != nil {
			var one object
			if err := json.Unmarshal(text, &one); err != nil {
				t.Fatal(err)
			}
			list = []object{one}
		}
		for _, o := range list {
			found := 0
			conditions(o["status"], func(kind, status, message string) {
				if found++; status != "True" {
					t.Errorf("%s is not %s: %s", nameOf(o), kind, message)
				}
			})
			if found > 0 {
				accepted[fmt.Sprint(o["kind"])]++
			}
		}
	}
	for _, o := range all { // none is overlooked: an object that the translator does not know has no condition
		switch o["kind"] {
		case "Namespace", "ServiceAccount", "Service", "Secret", "ReferenceGrant": // Kubernetes' own
		default:
			accepted[fmt.Sprint(o["kind"])]--
		}
	}
	for kind, difference := range accepted {
		if difference != 0 {
			t.Errorf("of kind %s, %+d objects have a condition beyond those in the manifests", kind, difference)
		}
	}

	var dumps map[string]json.RawMessage
	if err := json.Unmarshal(result["xds"], &dumps); err != nil {
		t.Fatal(err)
	}
	if len(dumps) != 1 {
		t.Fatalf("%d Gateways were translated", len(dumps))
	}
	for _, text := range dumps {
		if err := g.readDump(text); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// conditions calls do with each condition below a status.
func conditions(tree any, do func(kind, status, message string)) {
	switch tree := tree.(type) {
	case map[string]any:
		for name, value := range tree {
			list, ok := value.([]any)
			if name != "conditions" || !ok {
				conditions(value, do)
				continue
			}
			for _, c := range list {
				c, _ := c.(map[string]any)
				do(fmt.Sprint(c["type"]), fmt.Sprint(c["status"]), fmt.Sprint(c["message"]))
			}
		}
	case []any:
		for _, value := range tree {
			conditions(value, do)
		}
	}
}

// readDump takes what it is about out of a config dump.
func (g *generated) readDump(text []byte) error {
	dump := new(adminv3.ConfigDump)
	if err := protojson.Unmarshal(text, dump); err != nil {
		return fmt.Errorf("reading config dump: %w", err)
	}
	for _, section := range dump.GetConfigs() {
		message, err := section.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("reading config dump: %w", err)
		}
		switch section := message.(type) {
		case *adminv3.ListenersConfigDump:
			for _, l := range section.GetDynamicListeners() {
				err = unpack(&g.listeners, l.GetActiveState().GetListener(), new(listenerv3.Listener), err)
			}
		case *adminv3.RoutesConfigDump:
			for _, r := range section.GetDynamicRouteConfigs() {
				err = unpack(&g.routes, r.GetRouteConfig(), new(routev3.RouteConfiguration), err)
			}
		case *adminv3.ClustersConfigDump:
			for _, c := range section.GetDynamicActiveClusters() {
				err = unpack(&g.clusters, c.GetCluster(), new(clusterv3.Cluster), err)
			}
		case *adminv3.EndpointsConfigDump:
			for _, e := range section.GetDynamicEndpointConfigs() {
				err = unpack(&g.endpoints, e.GetEndpointConfig(), new(endpointv3.ClusterLoadAssignment), err)
			}
		}
		if err != nil {
			return fmt.Errorf("reading config dump: %w", err)
		}
	}
	return nil
}

func unpack[M proto.Message](into *[]M, packed *anypb.Any, message M, err error) error {
	if err == nil {
		err = packed.UnmarshalTo(message)
	}
	*into = append(*into, message)
	return err
}
