package apiserver_test

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/apiserver"
)

// TestServer: what is applied is there, a dry run keeps nothing, and what a cluster refuses is refused.
func TestServer(t *testing.T) {
	s, err := apiserver.Start(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	apply := func(text string, dryRun bool) (map[string]any, error) {
		t.Helper()
		var document map[string]any
		if err := yaml.Unmarshal([]byte(text), &document); err != nil {
			t.Fatal(err)
		}
		return document, s.Apply(t.Context(), []map[string]any{document}, dryRun)
	}
	const service = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}"
	document, err := apply(service, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), document); err == nil {
		t.Error("a dry run keeps the object")
	}
	if _, err := apply(service, false); err != nil {
		t.Fatal(err)
	}
	object, err := s.Get(t.Context(), document)
	if err != nil {
		t.Fatal(err)
	}
	if object["spec"].(map[string]any)["clusterIP"] == "" {
		t.Error("the Service has no address")
	}
	for name, test := range map[string]struct{ text, said string }{
		"unknown field": {"{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {prots: []}}", "prots"},
		"wrong value":   {"{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {ports: [{port: 80000}]}}", "80000"},
		"unknown kind":  {"{apiVersion: v1, kind: Servce, metadata: {name: b}}", "Servce"},
	} {
		if _, err := apply(test.text, true); err == nil || !strings.Contains(err.Error(), test.said) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
