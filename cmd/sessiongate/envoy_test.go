package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// TestEnvoyPatchWrites: a link stays a link, and what cannot be written is no finding.
func TestEnvoyPatchWrites(t *testing.T) {
	t.Parallel()
	file := write(t, standalone.Block("existing"))
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, nil, "envoy", "patch", "-w", link); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became a file: %v, %v", info, err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "sessiongate_authz") {
		t.Errorf("what it leads to is not patched: %v", err)
	}
	if _, err := run(t, nil, "envoy", "patch", "-w", "-"); exitStatus(err) != 2 {
		t.Errorf("standard input in place: %v", err)
	}
	// The lines of the report are those of what was printed, not of the file that was given.
	open := strings.Replace(string(envoy.Shipped()), "match: { path: /login }", "match: { prefix: /login }", 1)
	if out, err := run(t, nil, "envoy", "patch", write(t, open)); exitStatus(err) != 1 || !strings.Contains(out, "at    standard output:") {
		t.Errorf("%v\n%s", err, out)
	}
	full := process{ctx: t.Context(), stdin: strings.NewReader(""), stdout: fullDisk{}, stderr: io.Discard}
	if err := (envoyPatchCmd{File: file}).Run(&flags{}, full); exitStatus(err) != 2 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("envoy patch to a full disk: %v", err)
	}
	if err := (doctorCmd{Envoy: file}).Run(&flags{}, full); exitStatus(err) != 2 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("doctor to a full disk: %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestDoctorKeepsPassword: the password of an address is in no report and in no error.
func TestDoctorKeepsPassword(t *testing.T) {
	t.Parallel()
	open := strings.Replace(string(envoy.Shipped()), "failure_mode_allow: false", "failure_mode_allow: true", 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, open) }))
	defer server.Close()
	at := strings.Replace(server.URL, "//", "//reader:s3cret@", 1)
	for _, args := range [][]string{
		{"doctor", "--envoy", at},
		{"doctor", "--json", "--envoy", at},
		{"doctor", "--envoy", "http://reader:s3cret@127.0.0.1:1"},
		{"envoy", "patch", at},
		{"doctor", "--envoy", "http://reader:s3cret"},
		{"doctor", "--envoy", "http://reader:s3/cret@x"},
		{"doctor", "--envoy", at + "/%"},
		{"doctor", "--envoy", "HTTP://reader:s3cret@127.0.0.1:1"},
		{"doctor", "--envoy", "ftp://reader:s3cret@127.0.0.1:1"},
	} {
		out, err := run(t, nil, args...)
		if all := fmt.Sprint(out, err); strings.Contains(all, "s3cret") || strings.Contains(all, ":s3") {
			t.Errorf("%q: %s", args, all)
		}
	}
	if out, _ := run(t, nil, "doctor", "--envoy", at); !strings.Contains(out, "at    http://reader:xxxxx@127.0.0.1") {
		t.Error(out)
	}
}
