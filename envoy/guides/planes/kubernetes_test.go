package planes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/apiserver"
	"github.com/sessiongate/sessiongate/envoy/guides/planes/tool"
)

// TestKubernetesAPI has a real Kubernetes API judge every manifest of the guides, as `kubectl apply --dry-run=server` does: with the definitions of
// each control plane's kinds, and so with their rules (CEL), which no schema tells.
func TestKubernetesAPI(t *testing.T) {
	t.Parallel()
	server, err := apiserver.Start(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	source := func(of tool.Tool) string {
		t.Helper()
		dir, err := of.Dir(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	istio, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio").Output()
	if err != nil {
		t.Fatal(err)
	}
	gateway := filepath.Join(source(tool.EnvoyGateway), "charts/gateway-helm/charts/crds/crds")
	var texts []string
	for _, pattern := range []string{
		filepath.Join(strings.TrimSpace(string(istio)), "manifests/charts/base/files/crd-all.gen.yaml"),
		filepath.Join(gateway, "gatewayapi-crds.yaml"),
		filepath.Join(gateway, "generated/*.yaml"),
		filepath.Join(source(tool.Contour), "examples/contour/01-crds.yaml"),
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("there is no %s", pattern)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
	}
	var r record
	namespace, err := r.read("kubernetes/namespace.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, err := objects(append(texts, surroundings, namespace)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Apply(t.Context(), all, false); err != nil {
		t.Fatal(err)
	}

	judged := 0
	for _, folder := range []string{"kubernetes", "istio", "envoy-gateway", "contour"} {
		files, err := filepath.Glob(filepath.Join(manifests, folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("there are no manifests in %s", folder)
		}
		for _, file := range files {
			name := folder + "/" + filepath.Base(file)
			if name == "istio/mesh.yaml" || name == "kubernetes/kustomization.yaml" { // values of a Helm chart, which TestIstio reads; a list of the others
				continue
			}
			text, err := r.read(name)
			if err != nil {
				t.Fatal(err)
			}
			documents, err := objects(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Apply(t.Context(), documents, true); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			judged += len(documents)
		}
	}
	t.Logf("%d objects are accepted or refused above", judged)
}
