package helm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// build is what kustomize makes of a folder.
func build(t *testing.T, folder string) []object {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return documents(t, string(text))
}

const manifests = "../kubernetes"

// TestKustomize: the folder of manifests is a base, and comes out as it is.
func TestKustomize(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(manifests + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var plain []string
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		plain = append(plain, string(text))
	}
	if diff := cmp.Diff(documents(t, strings.Join(plain, "\n---\n")), build(t, manifests)); diff != "" {
		t.Errorf("the manifests (-) and what kustomize makes of them (+):\n%s", diff)
	}
}

// TestOverlay changes what the guide's overlay does: the version of both images, the configuration, the number of replicas.
func TestOverlay(t *testing.T) {
	t.Parallel()
	base, err := filepath.Abs(manifests)
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join(root, "docs/guides/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, overlay, found := strings.Cut(string(guide), "cat > kustomization.yaml <<'END'\n")
	overlay, _, ended := strings.Cut(overlay, "END\n")
	if !found || !ended {
		t.Fatal("the guide has no overlay")
	}
	folder := t.TempDir()
	base, err = filepath.Rel(folder, base) // kustomize takes no absolute path
	if err != nil {
		t.Fatal(err)
	}
	const remote = "https://github.com/sessiongate/sessiongate//envoy/guides/kubernetes?ref=main"
	if !strings.Contains(overlay, remote) {
		t.Fatalf("the overlay has no %s", remote)
	}
	for name, text := range map[string]string{
		"kustomization.yaml": strings.Replace(overlay, remote, base, 1),
		"sessiongate.yaml":   "listen: {authz: 0.0.0.0:9001}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	images, replicas, text, names := []string{}, 0, "", map[string]any{}
	for _, o := range build(t, folder) {
		plain, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		// Nothing is left of what a reader has to change.
		for _, left := range []string{"registry.example/", "db.example.internal", "192.0.2.10", "kubernetes.io/metadata.name: ingress", "kubernetes.io/metadata.name: app\n", "name: envoy"} {
			if strings.Contains(string(plain), left) {
				t.Errorf("%v of the overlay has a default that says CHANGE: %s", o["kind"], left)
			}
		}
		for line := range strings.Lines(string(plain)) {
			if _, image, ok := strings.Cut(strings.TrimSpace(line), "image: "); ok {
				images = append(images, image)
			}
		}
		switch o["kind"] {
		case "Deployment":
			spec := o["spec"].(object)
			replicas = spec["replicas"].(int)
			volumes := spec["template"].(object)["spec"].(object)["volumes"].([]any)
			names["mounted"] = volumes[0].(object)["configMap"].(object)["name"]
		case "ConfigMap":
			text, names["made"] = o["data"].(object)["sessiongate.yaml"].(string), o["metadata"].(object)["name"]
		}
	}
	if len(images) != 2 || images[0] != images[1] || !strings.HasPrefix(images[0], "registry.example.com/identity/sessiongate@sha256:") {
		t.Errorf("images %v", images)
	}
	if replicas != 4 || text != "listen: {authz: 0.0.0.0:9001}\n" {
		t.Errorf("%d replicas, configuration %q", replicas, text)
	}
	if names["made"] != names["mounted"] {
		t.Errorf("the configuration is not what is mounted: %v", names)
	}
}
