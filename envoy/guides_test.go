package envoy_test

// The guides in docs/guides and the manifests in envoy/guides, which are one text. Checked here is that they would be accepted as written.

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/envoy"
)

const manifests = "guides"

// manifestFiles are the files of envoy/guides, by their path below it.
func manifestFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := os.DirFS(manifests)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if entry != nil && (name == "helm" || name == "planes") {
			return fs.SkipDir // modules of their own: a chart, whose renders chart_test.go judges, and what gives the manifests to real control planes
		}
		if err != nil || entry.IsDir() || path.Ext(name) == ".go" {
			return err
		}
		text, err := fs.ReadFile(root, name)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// block is a fenced block of YAML in a guide, and the file that the line before it names.
var block = regexp.MustCompile("(?m)^(?:<!-- envoy/guides/(\\S+) -->\n)?```ya?ml\n((?:.*\n)*?)```$")

// TestGuidesShowTheManifests compares each block of each guide with the file that it shows: what is read is what is checked.
func TestGuidesShowTheManifests(t *testing.T) {
	t.Parallel()
	files := manifestFiles(t)
	guides, err := filepath.Glob("../docs/guides/*.md")
	if err != nil || len(guides) == 0 {
		t.Fatalf("no guides: %v", err)
	}
	shown := map[string]string{}
	for _, guide := range guides {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		found := block.FindAllStringSubmatch(string(text), -1)
		if fences := strings.Count(string(text), "```yaml"); fences != len(found) {
			t.Errorf("%s has %d blocks of YAML, but only %d are well-formed", guide, fences, len(found))
		}
		for _, b := range found {
			if b[1] == "" {
				t.Errorf("%s has a block of YAML that is no manifest: put it into envoy/guides and name it in a comment before the block\n%s", guide, b[2])
				continue
			}
			if _, twice := shown[b[1]]; twice {
				t.Errorf("%s is shown twice", b[1])
			}
			shown[b[1]] = b[2]
		}
	}
	if diff := cmp.Diff(files, shown); diff != "" {
		t.Errorf("envoy/guides (-) and what docs/guides shows of it (+):\n%s", diff)
	}
}

// notManifest tells the files that are for something else than the Kubernetes API.
func notManifest(name string) bool {
	return strings.HasPrefix(name, "standalone/") || name == "istio/mesh.yaml" || name == "kubernetes/kustomization.yaml"
}

// TestManifests holds each manifest against the schema that the project publishes for it.
func TestManifests(t *testing.T) {
	t.Parallel()
	s, err := published()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range manifestFiles(t) {
		if notManifest(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := eachDocument([]byte(text), func(manifest map[string]any) error {
				if err := s.check(manifest); err != nil {
					t.Errorf("%v %v: %v", manifest["kind"], manifest["metadata"], err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMeshConfig knows each field of istio/mesh.yaml from Istio's own API: MeshConfig has no schema but its protobuf source.
func TestMeshConfig(t *testing.T) {
	t.Parallel()
	dir, err := istioAPI.dir()
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string][]string{} // message → its fields, in camelCase
	for _, file := range []string{"config", "proxy"} {
		source, err := os.ReadFile(filepath.Join(dir, "mesh/v1alpha1", file+".proto"))
		if err != nil {
			t.Fatal(err)
		}
		var open []string
		for line := range strings.Lines(string(source)) {
			line = strings.TrimSpace(line)
			if m := regexp.MustCompile(`^(message|enum|oneof) (\w+) \{(\}?)`).FindStringSubmatch(line); m != nil {
				if m[3] == "" {
					if m[1] == "oneof" {
						m[2] = open[len(open)-1] // its fields are the message's
					}
					open = append(open, m[2])
				}
			} else if line == "}" {
				open = open[:len(open)-1]
			} else if m := regexp.MustCompile(`^(?:repeated )?[\w.<>, ]+ (\w+) = \d+`).FindStringSubmatch(line); m != nil && len(open) > 0 {
				camel := regexp.MustCompile(`_\w`).ReplaceAllStringFunc(m[1], func(s string) string { return strings.ToUpper(s[1:]) })
				message := open[len(open)-1]
				fields[message] = append(fields[message], camel)
			}
		}
	}
	text := manifestFiles(t)["istio/mesh.yaml"]
	known := func(message string, object any) {
		t.Helper()
		for field := range object.(map[string]any) {
			if !slices.Contains(fields[message], field) {
				t.Errorf("%s has no field %s, but %v", message, field, fields[message])
			}
		}
	}
	err = eachDocument([]byte(text), func(values map[string]any) error {
		mesh := values["meshConfig"].(map[string]any)
		known("MeshConfig", mesh)
		known("ProxyPathNormalization", mesh["pathNormalization"])
		known("ProxyConfig", mesh["defaultConfig"])
		known("Topology", mesh["defaultConfig"].(map[string]any)["gatewayTopology"])
		provider := mesh["extensionProviders"].([]any)[0].(map[string]any)
		known("EnvoyExternalAuthorizationGrpcProvider", provider["envoyExtAuthzGrpc"])
		delete(provider, "name")
		known("ExtensionProvider", provider)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// eachManifest calls do with every manifest that is for the Kubernetes API, and the file it is in.
func eachManifest(t *testing.T, do func(file string, manifest object)) {
	t.Helper()
	for file, text := range manifestFiles(t) {
		if strings.HasPrefix(file, "standalone/") {
			continue
		}
		if err := eachDocument([]byte(text), func(manifest map[string]any) error {
			do(file, manifest)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// leaves calls do with every value below a tree that has a name, and that name.
func leaves(tree any, do func(name string, value any)) {
	switch tree := tree.(type) {
	case object:
		for name, value := range tree {
			do(name, value)
			leaves(value, do)
		}
	case []any:
		for _, value := range tree {
			leaves(value, do)
		}
	}
}

// TestDurationsOfVirtualServices: istiod refuses a duration below 1 ms. The schemas do not tell.
func TestDurationsOfVirtualServices(t *testing.T) {
	t.Parallel()
	found := 0
	eachManifest(t, func(file string, manifest object) {
		if manifest["kind"] != "VirtualService" {
			return
		}
		leaves(manifest["spec"], func(name string, value any) {
			text, _ := value.(string)
			if d, err := time.ParseDuration(text); err == nil {
				if found++; d < time.Millisecond {
					t.Errorf("%s: %s is %s, which istiod refuses", file, name, text)
				}
			}
		})
	})
	if found == 0 {
		t.Error("no VirtualService has a duration")
	}
}

// TestGuidesSayWhatTheShippedFileSays compares what each control plane's manifests repeat of envoy.yaml in words of their own.
func TestGuidesSayWhatTheShippedFileSays(t *testing.T) {
	t.Parallel()
	m := manager(parse(t, string(envoy.Shipped())))
	check := at(m, "http_filters", 3, "typed_config").(object)
	cors := at(m, "route_config", "virtual_hosts", 0, "typed_per_filter_config", "envoy.filters.http.cors").(object)
	var asked []string
	for _, pattern := range at(check, "allowed_headers", "patterns").([]any) {
		exact, _ := pattern.(object)["exact"].(string)
		if pattern.(object)["prefix"] == "sec-fetch-" { // a list of names cannot say it
			asked = append(asked, "sec-fetch-mode", "sec-fetch-site", "sec-fetch-dest", "sec-fetch-user")
		} else {
			asked = append(asked, exact)
		}
	}
	timeout, err := time.ParseDuration(at(check, "grpc_service", "timeout").(string))
	if err != nil {
		t.Fatal(err)
	}
	list := func(value any) (words []string) {
		for _, word := range value.([]any) {
			words = append(words, word.(string))
		}
		return words
	}
	found := map[string]int{}
	same := func(file, name string, got, want any) {
		t.Helper()
		found[name]++
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s, envoy.yaml (-) and the guide (+):\n%s", file, name, diff)
		}
	}
	eachManifest(t, func(file string, manifest object) {
		leaves(manifest, func(name string, value any) {
			switch name {
			case "allowHeaders":
				same(file, name, list(value), strings.Split(cors["allow_headers"].(string), ", "))
			case "exposeHeaders":
				same(file, name, list(value), strings.Split(cors["expose_headers"].(string), ", "))
			case "headersToExtAuth":
				same(file, name, list(value), asked)
			case "extAuth", "envoyExtAuthzGrpc", "authorization":
				text := value.(object)["timeout"]
				if text == nil {
					text = value.(object)["responseTimeout"]
				}
				got, err := time.ParseDuration(text.(string))
				if err != nil {
					t.Errorf("%s: %v", file, err)
				}
				same(file, name, got, timeout)
			}
		})
	})
	for name, want := range map[string]int{
		"allowHeaders": 4, "exposeHeaders": 4, "headersToExtAuth": 2, // Contour 1, Envoy Gateway 3
		"extAuth": 2, "envoyExtAuthzGrpc": 1, "authorization": 1, // Envoy Gateway, Istio, Contour
	} {
		if found[name] != want {
			t.Errorf("%d times %s, want %d", found[name], name, want)
		}
	}
}
