package main

import (
	"os"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/guides/standalone"
)

// TestEnvoyPatch: the command prints a file, or writes it, and says what is left to do.
func TestEnvoyPatch(t *testing.T) {
	t.Parallel()
	existing := standalone.Block("existing")
	file := write(t, existing)
	out, err := run(t, nil, "envoy", "patch", "--authz", "gate:9001", file)
	if err != nil || !strings.Contains(out, `address: "gate", port_value: 9001`) || !strings.Contains(out, "# An Envoy in front of some app") {
		t.Errorf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != existing {
		t.Errorf("the file was written: %v", err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, nil, "envoy", "patch", "-w", "--authz", "gate:9001", file); err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != out {
		t.Errorf("what is written is not what is printed: %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	open := strings.Replace(string(envoy.Shipped()), "match: { path: /login }", "match: { prefix: /login }", 1)
	if out, err := run(t, nil, "envoy", "patch", write(t, open)); exitStatus(err) != 1 || !strings.Contains(out, "D16  ") {
		t.Errorf("what it cannot mend: %v\n%s", err, out)
	}
	for _, args := range [][]string{{write(t, "a: b")}, {"/nowhere"}, {"--public", "x", file + "x"}, {"--authz", "x", write(t, existing)}} {
		if out, err := run(t, nil, append([]string{"envoy", "patch"}, args...)...); exitStatus(err) != 2 || strings.Contains(out, "static_resources:") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}
