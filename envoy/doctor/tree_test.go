package doctor_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/envoy/guides/standalone"
)

// TestNothingToLookAt: what is no configuration of Envoy is an error, not a clean one.
func TestNothingToLookAt(t *testing.T) {
	t.Parallel()
	bomb := &strings.Builder{}
	bomb.WriteString("x0: &a0 {name: x}\n")
	for i := range 30 {
		fmt.Fprintf(bomb, "x%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i)
	}
	listeners := `&l {filter_chains: &c [*f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f, *f]}`
	nested := "f: &f {filters: &g [*h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h, *h]}\n"
	nested = "h: &h {typed_config: {'@type': x/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, " +
		"http_filters: &i [{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}]," +
		"route_config: {virtual_hosts: [&v {routes: *i}, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v]}}}\n" + nested
	nested += "static_resources: {listeners: [" + listeners + strings.Repeat(", *l", 2000) + "]}\n"
	for name, text := range map[string]string{
		"nothing":               "",
		"no YAML":               "\t{",
		"a list":                "- a",
		"a text":                "hello",
		"Kubernetes":            "apiVersion: v1\nkind: Service\n",
		"no listener":           "static_resources: { clusters: [] }",
		"an empty dump":         `{"configs": []}`,
		"two documents":         "static_resources: {}\n---\nstatic_resources: {}\n",
		"a key twice":           "static_resources: {}\nstatic_resources: { listeners: [{}] }\n",
		"a merge key":           "a: &a {}\nstatic_resources: { <<: *a, listeners: [{}] }\n",
		"a bomb of aliases":     bomb.String(),
		"a bomb of listeners":   nested,
		"larger than it may be": strings.Repeat("# \n", 65<<20/3),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if report, err := doctor.Examine([]byte(text), doctor.Options{}); err == nil {
				t.Errorf("no error, but %+v", report)
			} else if len(err.Error()) > 300 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestWhichCheck: where several services are asked, sessiongate is found by its name, or named.
func TestWhichCheck(t *testing.T) {
	t.Parallel()
	other := strings.Replace(string(envoy.Shipped()), "                  # 4. The check.\n", `                  - name: other
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      grpc_service: { envoy_grpc: { cluster_name: opa } }
`, 1)
	if report := examine(t, other); report.Check != "sessiongate_authz" || len(report.Findings) > 0 {
		t.Errorf("check %q, found:\n%s", report.Check, show(report.Findings))
	}
	unnamed := strings.ReplaceAll(other, "sessiongate", "gate")
	unnamed = strings.NewReplacer("x-gate-peer", "x-sessiongate-peer", "x-gate-denial", "x-sessiongate-denial").Replace(unnamed)
	_, err := doctor.Examine([]byte(unnamed), doctor.Options{})
	if ambiguous := (*doctor.AmbiguousError)(nil); !errors.As(err, &ambiguous) || !slices.Equal(ambiguous.Clusters, []string{"gate_authz", "opa"}) {
		t.Errorf("error %v", err)
	}
	report, err := doctor.Examine([]byte(unnamed), doctor.Options{Cluster: "gate_authz"})
	if err != nil || report.Check != "gate_authz" || len(report.Findings) > 0 {
		t.Errorf("check %q, %v, found:\n%s", report.Check, err, show(report.Findings))
	}
	if _, err := doctor.Examine([]byte(unnamed), doctor.Options{Cluster: "else"}); err == nil || !strings.Contains(err.Error(), "gate_authz") {
		t.Errorf("error %v does not list the clusters", err)
	}
	alone := strings.NewReplacer("sessiongate_", "gate_", "address: sessiongate", "address: gate").Replace(string(envoy.Shipped()))
	if report := examine(t, alone); report.Check != "gate_authz" || len(report.Findings) > 0 {
		t.Errorf("the only check is %q, found:\n%s", report.Check, show(report.Findings))
	}
}

// TestUnseen: what a control plane would say is not taken for clean.
func TestUnseen(t *testing.T) {
	t.Parallel()
	shipped := string(envoy.Shipped())
	start, end := strings.Index(shipped, "                route_config:\n"), strings.Index(shipped, "  clusters:\n")
	for name, text := range map[string]string{
		"routes":    shipped[:start] + "                rds: { route_config_name: ingress, config_source: { ads: {} } }\n" + shipped[end:],
		"scoped":    shipped[:start] + "                scoped_routes: { name: x }\n" + shipped[end:],
		"listeners": "dynamic_resources: { lds_config: { ads: {} } }\n" + shipped,
		"all":       "dynamic_resources: { lds_config: { ads: {} }, cds_config: { ads: {} } }\n",
		"a filter":  strings.Replace(shipped, "                  - name: envoy.filters.http.router\n", "                  - name: x\n                    config_discovery: { type_urls: [y] }\n                  - name: envoy.filters.http.router\n", 1),
	} {
		if report := examine(t, text); !report.Incomplete() {
			t.Errorf("%s: it is said to be complete", name)
		}
	}
}

// FuzzExamine: no file makes it panic.
func FuzzExamine(f *testing.F) {
	f.Add([]byte(standalone.Block("existing"))) // small: the fuzzer tries parts of each
	f.Add([]byte(`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump","static_listeners":[{"listener":{}}]}]}`))
	f.Add([]byte("a: &a [*a]\nstatic_resources: {listeners: *a}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := doctor.Examine(text, doctor.Options{})
		if err == nil && len(report.Findings) == 0 && report.Check == "" && len(report.Exceptions) > 0 {
			t.Error("exceptions of no check")
		}
	})
}
