package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// A build that is told what it is made from says so; make, the Dockerfile and the configuration of
// the release tell it by these names.
func TestVersionIsStamped(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "sessiongate")
	stamp := "-X main.stampedVersion=v9.8.7 -X main.stampedRevision=abc-dirty -X main.stampedDate=2026-01-02T03:04:05Z"
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags", stamp, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, "version", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got build
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	schema, err := postgres.NewestMigration()
	if err != nil {
		t.Fatal(err)
	}
	want := build{
		Version: "v9.8.7", Revision: "abc", Date: "2026-01-02T03:04:05Z", Modified: true,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Schema: schema, Envoy: envoy.Version,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	line, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if want := "v9.8.7 abc " + runtime.Version() + "\n"; err != nil || string(line) != want {
		t.Errorf("--version: %q, %v, want %q", line, err, want)
	}
	for _, file := range []string{"../../Makefile", "../../Dockerfile", "../../.goreleaser.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.FieldsSeq(stamp) {
			if name, _, ok := strings.Cut(part, "="); ok && !strings.Contains(string(text), "-X "+name+"=") {
				t.Errorf("%s does not stamp %s", file, name)
			}
		}
	}
}

// A build that is told nothing says what Go knows, and invents nothing.
func TestVersionWithoutStamp(t *testing.T) {
	t.Parallel()
	out, err := run(t, nil, "version")
	if err != nil || !strings.HasPrefix(out, "sessiongate ") || !strings.Contains(out, "\nEnvoy       "+envoy.Version+" ") || strings.Contains(out, "  \n") {
		t.Errorf("%v\n%s", err, out)
	}
}
