package envoy_test

// What Istio, Envoy Gateway and Contour make of the guides' manifests: testdata/planes has it, as the real ones generated it (`make planes`).

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sessiongate/sessiongate/envoy"
)

type object = map[string]any

// at follows keys and indices down a tree.
func at(tree any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			tree = tree.(object)[step]
		case int:
			tree = tree.([]any)[step]
		}
	}
	return tree
}

func parse(t *testing.T, text string) object {
	t.Helper()
	var tree object
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// manager is the connection manager of a bootstrap with one listener.
func manager(bootstrap object) object {
	return at(bootstrap, "static_resources", "listeners", 0, "filter_chains", 0, "filters", 0, "typed_config").(object)
}

// recording is what a control plane made of manifests.
type recording struct {
	Plane, Version, Date string
	Manifests            map[string]string
	Bootstrap            object
}

// planes are the recordings, and the guides that they belong to. inputs are the manifests of a guide that are for the plane; what else it shows is
// for sessiongate.
var planes = map[string]struct {
	file, guide string
	inputs      []string
}{
	"Istio":         {"istio.yaml", "istio.md", []string{"istio/authorization.yaml", "istio/hardening.yaml", "istio/mesh.yaml", "istio/routes.yaml"}},
	"Envoy Gateway": {"envoy-gateway.yaml", "envoy-gateway.md", []string{"envoy-gateway/gateway.yaml", "envoy-gateway/hardening.yaml", "envoy-gateway/routes.yaml", "envoy-gateway/security.yaml"}},
	"Contour":       {"contour.yaml", "contour.md", []string{"contour/extension.yaml", "contour/proxies.yaml"}},
}

// recorded reads a recording, a new copy each time.
func recorded(t *testing.T, plane string) recording {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/planes", planes[plane].file))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := yaml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Plane != plane {
		t.Fatalf("%s is a recording of %q", planes[plane].file, r.Plane)
	}
	return r
}

// text is the recorded configuration, as it is.
func (r recording) text(t *testing.T) []byte {
	t.Helper()
	text, err := json.Marshal(r.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRecordingsAreOfTheManifests: a change of a manifest shows what the real control plane makes of it, before users see it.
func TestRecordingsAreOfTheManifests(t *testing.T) {
	t.Parallel()
	files := manifestFiles(t)
	pins, err := os.ReadFile("guides/planes/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if version := recorded(t, "Istio").Version; !strings.Contains(string(pins), "\tistio.io/istio "+version+"\n") {
		t.Errorf("envoy/guides/planes/go.mod has another Istio than %s: run make planes RECORD=1", version)
	}
	for name, plane := range planes {
		r := recorded(t, name)
		if r.Manifests["kubernetes/service.yaml"] == "" {
			t.Errorf("the recording of %s is not of kubernetes/service.yaml: run make planes RECORD=1", name)
		}
		for _, input := range plane.inputs {
			if r.Manifests[input] == "" {
				t.Errorf("the recording of %s is not of %s: run make planes RECORD=1", name, input)
			}
		}
		for input, want := range r.Manifests {
			if sum := sha256.Sum256([]byte(files[input])); hex.EncodeToString(sum[:]) != want {
				t.Errorf("%s is not what it was when %s was recorded: run make planes RECORD=1", input, name)
			}
		}
		for input := range files {
			if folder, _, _ := strings.Cut(plane.inputs[0], "/"); strings.HasPrefix(input, folder+"/") && input != "istio/config.yaml" && !slices.Contains(plane.inputs, input) {
				t.Errorf("%s is in no recording: name it in planes, here and in envoy/guides/planes", input)
			}
		}
	}
}

// TestGuidesNameTheRecording: what a guide says of the control plane that was run is what the recording says.
func TestGuidesNameTheRecording(t *testing.T) {
	t.Parallel()
	for name, plane := range planes {
		r := recorded(t, name)
		guide, err := os.ReadFile("../docs/guides/" + plane.guide)
		if err != nil {
			t.Fatal(err)
		}
		plain := strings.Join(strings.Fields(string(guide)), " ")
		if want := "`" + r.Version + "`, recorded on " + r.Date; !strings.Contains(plain, want) {
			t.Errorf("docs/guides/%s does not say %q", plane.guide, want)
		}
		for plane, schemas := range map[string]module{"Envoy Gateway": envoyGateway, "Contour": contour} {
			if name == plane && r.Version != schemas.version {
				t.Errorf("%s %s was run, and the manifests are held against the schemas of %s", name, r.Version, schemas.version)
			}
		}
	}
}

// TestKubernetesGuideNamesTheAPI: the version that the guide says is the one that make planes runs.
func TestKubernetesGuideNamesTheAPI(t *testing.T) {
	t.Parallel()
	pin, err := os.ReadFile("guides/planes/tool/kube-apiserver.mod")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../docs/guides/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`k8s\.io/kubernetes v(\d+\.\d+)\.`).FindSubmatch(pin)
	if version == nil || !strings.Contains(string(guide), "A real Kubernetes API ("+string(version[1])+")") {
		t.Errorf("docs/guides/kubernetes.md does not name version %q", version)
	}
}

// checked is the filter chain of a bootstrap that has the check, and the listener that it is in.
func checked(t *testing.T, bootstrap object) (listener, chain object) {
	t.Helper()
	for _, l := range at(bootstrap, "static_resources", "listeners").([]any) {
		chains, _ := l.(object)["filter_chains"].([]any)
		for _, c := range chains {
			filters, _ := at(c, "filters", 0, "typed_config").(object)["http_filters"].([]any)
			if slices.ContainsFunc(filters, isCheck) {
				if chain != nil {
					t.Fatal("two filter chains have the check")
				}
				listener, chain = l.(object), c.(object)
			}
		}
	}
	if chain == nil {
		t.Fatal("no filter chain has the check")
	}
	return listener, chain
}

func isCheck(filter any) bool {
	config, _ := filter.(object)["typed_config"].(object)
	return config["@type"] == "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
}

// message reads a typed_config into Envoy's type.
func message[M proto.Message](t *testing.T, config any, into M) M {
	t.Helper()
	fields := object{}
	for key, value := range config.(object) {
		if key != "@type" {
			fields[key] = value
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// TestPatchesOfTheGuides compares what the guides' patches brought into the configuration of the control planes with the shipped one.
func TestPatchesOfTheGuides(t *testing.T) {
	t.Parallel()
	shipped := at(manager(parse(t, string(envoy.Shipped()))), "http_filters").([]any)
	want := message(t, at(shipped[3], "typed_config"), new(extauthzv3.ExtAuthz))
	mutations := message(t, at(shipped[0], "typed_config"), new(mutationv3.HeaderMutation)).GetMutations().GetRequestMutations()
	for name, test := range map[string]struct {
		order     *regexp.Regexp // of the filters
		more      bool           // also which headers are asked for, and no counters of responses
		mutations int            // how many of the shipped file's, the last ones; Envoy Gateway makes the others by its own API
	}{
		"Istio":         {regexp.MustCompile(`^envoy\.filters\.http\.header_mutation envoy\.filters\.http\.cors .*envoy\.filters\.http\.ext_authz .*envoy\.filters\.http\.router$`), true, len(mutations)},
		"Envoy Gateway": {regexp.MustCompile(`^envoy\.filters\.http\.header_mutation envoy\.filters\.http\.cors envoy\.filters\.http\.ext_authz/\S+ envoy\.filters\.http\.ext_authz/\S+ envoy\.filters\.http\.router$`), false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, chain := checked(t, recorded(t, name).Bootstrap)
			filters := at(chain, "filters", 0, "typed_config", "http_filters").([]any)
			var names []string
			for _, filter := range filters {
				names = append(names, at(filter, "name").(string))
				if !isCheck(filter) {
					continue
				}
				got := message(t, at(filter, "typed_config"), new(extauthzv3.ExtAuthz))
				settings := func(e *extauthzv3.ExtAuthz) *extauthzv3.ExtAuthz {
					kept := &extauthzv3.ExtAuthz{
						EncodeRawHeaders: e.GetEncodeRawHeaders(), ValidateMutations: e.GetValidateMutations(), FailureModeAllow: e.GetFailureModeAllow(),
						DecoderHeaderMutationRules: e.GetDecoderHeaderMutationRules(), StatusOnError: e.GetStatusOnError(), ClearRouteCache: e.GetClearRouteCache(),
						Services: &extauthzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{Timeout: e.GetGrpcService().GetTimeout()}},
					}
					if test.more {
						kept.AllowedHeaders, kept.ChargeClusterResponseStats = e.GetAllowedHeaders(), e.GetChargeClusterResponseStats()
					}
					return kept
				}
				if diff := cmp.Diff(settings(want), settings(got), protocmp.Transform()); diff != "" {
					t.Errorf("%s: envoy.yaml (-) and what is generated (+):\n%s", at(filter, "name"), diff)
				}
			}
			if got := strings.Join(names, " "); !test.order.MatchString(got) {
				t.Errorf("filters are\n%s, want\n%s", got, test.order)
			}
			got := message(t, at(filters[0], "typed_config"), new(mutationv3.HeaderMutation)).GetMutations().GetRequestMutations()
			if diff := cmp.Diff(mutations[len(mutations)-test.mutations:], got, protocmp.Transform()); diff != "" {
				t.Errorf("headers are changed by envoy.yaml (-) and by what is generated (+):\n%s", diff)
			}
		})
	}
}
