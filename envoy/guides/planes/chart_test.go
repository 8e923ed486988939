package planes

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// chart is where `make chart` records what Helm makes of the chart.
const chart = "../../testdata/chart"

// objectsOf are those of a file.
func objectsOf(t *testing.T, file string) []object {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := objects(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rendered are the objects that Helm makes of the chart with a set of values, without those that are the same for every control plane.
func rendered(t *testing.T, values string) (planes, services []object) {
	t.Helper()
	for _, o := range objectsOf(t, filepath.Join(chart, values)) {
		version, _ := o["apiVersion"].(string)
		switch {
		case o["kind"] == "Service":
			services = append(services, o)
		case strings.Contains(version, "istio.io/") || strings.Contains(version, "gateway.networking.k8s.io/") || strings.Contains(version, "gateway.envoyproxy.io/"):
			planes = append(planes, o)
		}
	}
	return planes, services
}

// written are the objects of a guide's file whose names are given.
func written(t *testing.T, file string, names ...string) (some []object) {
	t.Helper()
	for _, o := range objectsOf(t, filepath.Join(manifests, file)) {
		if slices.Contains(names, nameOf(o)) {
			some = append(some, o)
		}
	}
	if len(some) != len(names) {
		t.Fatalf("%s has %d of %q", file, len(some), names)
	}
	return some
}

// text is objects as a file of manifests.
func text(t *testing.T, some []object) string {
	t.Helper()
	var all strings.Builder
	for _, o := range some {
		one, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = all.Write(append(one, "---\n"...))
	}
	return all.String()
}

// address is that of a Service without one. Which it is depends on the number of objects before it: see addressed.
var address = regexp.MustCompile(`10\.96\.1\.\d+`)

// sameAs compares what is generated with a record of what the guide's own manifests make.
func sameAs(t *testing.T, file string, g generated) {
	t.Helper()
	if recording() {
		t.Skip("the record is being written, perhaps at this moment: run it again without RECORD")
	}
	bootstrap, err := g.bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	var guide record
	recorded, err := os.ReadFile(filepath.Join(records, file))
	if err == nil {
		err = yaml.Unmarshal(recorded, &guide)
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := yaml.Marshal(guide.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(text []byte) []string {
		plain := address.ReplaceAllLiteralString(string(text), "10.96.1.0")
		return strings.Split(strings.ReplaceAll(plain, "virtual-service/sessiongate", "virtual-service/app"), "\n") // whose a route is
	}
	if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("what is made of the guide's manifests (-) and of the chart (+):\n%s", diff)
	}
}

// TestChartOfEnvoyGateway: Envoy Gateway makes of the chart, with the reader's own Gateway and routes, what it makes of the guide's manifests. The
// objects get the guide's names first: what is generated is in the order of names.
func TestChartOfEnvoyGateway(t *testing.T) {
	t.Parallel()
	all, services := rendered(t, "gateway-api.yaml")
	for _, o := range all {
		metadata := o["metadata"].(object)
		name, found := strings.CutPrefix(metadata["name"].(string), "sessiongate-") // auth, api, unchecked
		if !found && (o["kind"] == "SecurityPolicy" || o["kind"] == "ClientTrafficPolicy") {
			name = "app"
		}
		metadata["name"] = name
		targets, _ := o["spec"].(object)["targetRefs"].([]any)
		for _, target := range targets {
			if target := target.(object); target["name"] == "sessiongate-auth" {
				target["name"] = "auth"
			}
		}
	}
	around, err := objects(surroundings)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.Concat(around, services, all,
		written(t, "kubernetes/namespace.yaml", "Namespace <nil>/sessiongate"),
		written(t, "envoy-gateway/gateway.yaml", "GatewayClass <nil>/envoy", "Gateway ingress/app"),
		written(t, "envoy-gateway/routes.yaml", "HTTPRoute ingress/login", "HTTPRoute ingress/app", "BackendTrafficPolicy ingress/app"))
	sameAs(t, "envoy-gateway.yaml", translated(t, all))
}

// TestChartOfIstio: the chart's VirtualService has the auth path alone. Istio puts it before a route of another one that takes every path.
func TestChartOfIstio(t *testing.T) {
	values, err := os.ReadFile(filepath.Join(manifests, "istio/mesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	all, services := rendered(t, "istio.yaml")
	routes := written(t, "istio/routes.yaml", "VirtualService istio-ingress/app", "DestinationRule istio-ingress/app")
	for _, o := range routes {
		if spec := o["spec"].(object); o["kind"] == "VirtualService" {
			spec["http"] = spec["http"].([]any)[2:] // what the chart does not have
		}
	}
	// With either first, as either may be older.
	sameAs(t, "istio.yaml", discovered(t, string(values), []string{text(t, all), text(t, routes)}, []string{text(t, services)}))
	g := discovered(t, string(values), []string{text(t, routes), text(t, all)}, []string{text(t, services)})
	bootstrap, err := g.bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	generated, err := yaml.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, found := range regexp.MustCompile(`(?m)^ +name: (auth|jwks|login|app)$`).FindAllStringSubmatch(string(generated), -1) {
		order = append(order, found[1])
	}
	if !strings.HasSuffix(strings.Join(order, " "), "login auth auth jwks app") {
		t.Errorf("routes come in the order %q", order)
	}
}
