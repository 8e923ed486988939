package planes

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/tool"
)

// gateway is the Gateway that routes.yaml takes for granted.
const gateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: app, namespace: istio-ingress }
spec:
  selector: { istio: ingress }
  servers:
    - port: { number: 443, name: https, protocol: HTTPS }
      hosts: [app.example.com]
      tls: { mode: SIMPLE, credentialName: app-example-com }
`

// TestIstio has Istio's discovery server, the one of istiod, generate the configuration of a gateway.
func TestIstio(t *testing.T) {
	for _, scope := range log.Scopes() { // it tells of each informer, at any level
		scope.SetOutputLevel(log.NoneLevel)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version, err := tool.Required(mod, "istio.io/istio")
	if err != nil {
		t.Fatal(err)
	}
	r := record{header: header{Plane: "Istio", Version: version}}
	values, err := r.read("istio/mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := r.readAll("istio/authorization.yaml", "istio/routes.yaml", "istio/hardening.yaml")
	if err != nil {
		t.Fatal(err)
	}
	others, err := r.readAll("kubernetes/namespace.yaml", "kubernetes/service.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := discovered(t, values, manifests, others)
	if r.Bootstrap, err = g.bootstrap(); err != nil {
		t.Fatal(err)
	}
	if err := r.keep("istio.yaml", recording()); err != nil {
		t.Error(err)
	}
}

// discovered is what Istio makes of its values, of manifests of its own kinds, and of the Services among others. Each must pass the validation that
// istiod's webhook does.
func discovered(t *testing.T, values string, manifests, others []string) generated {
	t.Helper()
	var helm struct {
		MeshConfig json.RawMessage `json:"meshConfig"`
	}
	if err := yaml.UnmarshalStrict([]byte(values), &helm); err != nil {
		t.Fatal(err)
	}
	meshConfig, err := mesh.ApplyMeshConfigDefaults(string(helm.MeshConfig)) // it validates, too
	if err != nil {
		t.Fatal(err)
	}
	var configs []config.Config
	for _, text := range append([]string{gateway}, manifests...) {
		valid, unknown, err := crd.ParseInputs(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if len(unknown) > 0 {
			t.Fatalf("Istio knows no %s", unknown[0].Kind)
		}
		configs = append(configs, valid...)
	}
	all, err := objects(append([]string{surroundings}, others...)...)
	if err != nil {
		t.Fatal(err)
	}
	addressed(all)
	services := slices.DeleteFunc(all, func(o object) bool { return o["kind"] != "Service" })

	server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{Configs: configs, KubernetesObjectString: text(t, services), MeshConfig: meshConfig})
	labels := map[string]string{"istio": "ingress"}
	proxy := server.SetupProxy(&model.Proxy{
		Type: model.Router, ConfigNamespace: "istio-ingress", Labels: labels,
		Metadata: &model.NodeMetadata{
			Namespace: "istio-ingress", Labels: labels, IstioVersion: "1.31.0", // of the gateway's pod
			ProxyConfig: (*model.NodeMetaProxyConfig)(meshConfig.GetDefaultConfig()), // as the agent in the gateway's pod sends it
		},
	})
	return generated{listeners: server.Listeners(proxy), routes: server.Routes(proxy), clusters: server.Clusters(proxy), endpoints: server.Endpoints(proxy)}
}
