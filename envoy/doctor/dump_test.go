package doctor_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3" // typed.Parse finds it by its registration
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// elsewhere gives a configuration addresses of this machine, behind which nothing answers.
func elsewhere(t *testing.T, text string) *bootstrapv3.Bootstrap {
	t.Helper()
	listeners, clusters := map[string]string{}, map[string][]string{}
	spelt, err := typed.Edit(func(b *bootstrapv3.Bootstrap) error {
		for _, l := range b.GetStaticResources().GetListeners() {
			listeners[l.GetName()] = "127.0.0.1:0"
		}
		for _, c := range b.GetStaticResources().GetClusters() {
			clusters[c.GetName()] = []string{"127.0.0.1:1"}
		}
		return nil
	})([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	moved, err := envoy.Readdress(spelt, listeners, clusters)
	if err != nil {
		t.Fatal(err)
	}
	b, err := typed.Parse(moved)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dump runs the real Envoy with a configuration and returns what it says that it runs.
func dump(t *testing.T, text string) []byte {
	t.Helper()
	mine := elsewhere(t, text)
	proxy, err := envoyrun.Start(t.Context(), envoyrun.Options{
		Listeners: map[string]string{"ingress": "127.0.0.1:0"},
		Clusters:  map[string][]string{"app": {"127.0.0.1:1"}, "sessiongate_authz": {"127.0.0.1:1"}, "sessiongate_public": {"127.0.0.1:1"}},
		Edit: typed.Edit(func(b *bootstrapv3.Bootstrap) error {
			mine.Admin = b.GetAdmin()
			proto.Reset(b)
			proto.Merge(b, mine)
			return nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Stop(); err != nil {
			t.Error(err)
		}
	})
	response, err := http.Get(proxy.AdminURL() + "/config_dump?include_eds")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", response.StatusCode, err)
	}
	return body
}

// TestDumps: the running Envoy shows the same faults as its file, and Envoy takes each mutant: they are
// mistakes that one can make.
func TestDumps(t *testing.T) {
	t.Parallel()
	if _, err := envoyrun.Binary(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	shipped := string(envoy.Shipped())
	t.Run("shipped", func(t *testing.T) {
		t.Parallel()
		report := examine(t, string(dump(t, shipped)))
		if report.Check != "sessiongate_authz" || len(report.Findings) > 0 || report.Incomplete() || len(report.Exceptions) != 4 {
			t.Errorf("check %q, skipped %v, exceptions %v, found:\n%s", report.Check, report.Skipped, report.Exceptions, show(report.Findings))
		}
	})
	for _, m := range everyMutant(shipped) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if m.probe == "D14" && strings.Contains(m.name, "admin") {
				t.Skip("the test's Envoy has its own admin interface")
			}
			report := examine(t, string(dump(t, m.text)))
			if m.probe == "D13" { // what a route asks for is in no dump
				if len(report.Findings) > 0 || len(report.Skipped) != 1 || report.Skipped[0].Probe != "D13" {
					t.Errorf("want that D13 is skipped, got %v, found:\n%s", report.Skipped, show(report.Findings))
				}
				return
			}
			probes := map[string]bool{}
			for _, f := range report.Findings {
				probes[f.Probe] = true
			}
			if len(probes) != 1 || !probes[m.probe] {
				t.Errorf("want %s, found:\n%s", m.probe, show(report.Findings))
			}
		})
	}
}

// TestDiscoveredFilter: a check that comes by extension config discovery is looked at in the dump of the Envoy that got it. The file alone does
// not show it, and the doctor says so.
func TestDiscoveredFilter(t *testing.T) {
	t.Parallel()
	b, err := typed.Parse(envoy.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	var discovered *hcmv3.HttpFilter
	err = typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
		for _, f := range m.GetHttpFilters() {
			if f.GetName() == "envoy.filters.http.ext_authz" {
				discovered = f
			}
		}
		return nil
	})
	if err != nil || discovered == nil {
		t.Fatal(err)
	}
	packed := discovered.GetTypedConfig()
	b.Node = &corev3.Node{Id: "test", Cluster: "test"} // Envoy wants to have a name where it discovers anything
	for _, test := range []struct {
		name   string
		probes []string
		spoil  func(*authzv3.ExtAuthz)
	}{
		{"sound", nil, func(*authzv3.ExtAuthz) {}},
		{"lets everyone in", []string{"D15"}, func(c *authzv3.ExtAuthz) { c.FailureModeAllow = true }},
	} {
		config := new(authzv3.ExtAuthz)
		if err := packed.UnmarshalTo(config); err != nil {
			t.Fatal(err)
		}
		test.spoil(config)
		filter, err := anypb.New(config)
		if err != nil {
			t.Fatal(err)
		}
		resource, err := anypb.New(&corev3.TypedExtensionConfig{Name: discovered.GetName(), TypedConfig: filter})
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{resource}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "ecds.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		err = typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
			for _, f := range m.GetHttpFilters() {
				if f.GetName() == discovered.GetName() {
					f.ConfigType = &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
						ConfigSource: &corev3.ConfigSource{
							ResourceApiVersion:    corev3.ApiVersion_V3,
							ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{Path: file}},
						},
						TypeUrls: []string{packed.GetTypeUrl()},
					}}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if text, err = protojson.Marshal(b); err != nil {
			t.Fatal(err)
		}
		if report := examine(t, string(text)); !report.Incomplete() {
			t.Errorf("%s: the file seems to show all", test.name)
		}
		report := examine(t, string(dump(t, string(text))))
		var found []string
		for _, f := range report.Findings {
			found = append(found, f.Probe)
		}
		if !slices.Equal(found, test.probes) || report.Incomplete() {
			t.Errorf("%s: skipped %v, found\n%s", test.name, report.Skipped, show(report.Findings))
		}
	}
}

// TestCamelCase: protobuf's own JSON has the fields in camelCase, and enums by name.
func TestCamelCase(t *testing.T) {
	t.Parallel()
	for _, m := range append(everyMutant(string(envoy.Shipped())), mutated{text: string(envoy.Shipped())}) {
		b, err := typed.Parse([]byte(m.text))
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		report, err := doctor.Examine(text, doctor.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if m.probe == "" && len(report.Findings) > 0 {
			t.Errorf("shipped: found\n%s", show(report.Findings))
		}
		if m.probe != "" && (len(report.Findings) == 0 || report.Findings[0].Probe != m.probe) {
			t.Errorf("%s: want %s, found\n%s", m.name, m.probe, show(report.Findings))
		}
	}
}
