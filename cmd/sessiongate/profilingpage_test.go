package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestProfilingPage runs the commands of docs/profiling.md as they stand there, but for the port and
// the seconds, and reads its configurations. What needs Docker or Kubernetes is not run.
func TestProfilingPage(t *testing.T) { // not parallel: a process has one CPU profile at a time
	text, err := os.ReadFile("../../docs/profiling.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "sessiongate")); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"curl", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s", tool)
		}
	}
	s := serving(t, nil, withoutDatabase("SESSIONGATE_PROFILING_LISTEN=127.0.0.1:0")...)
	address := s.addresses["profiling"]
	blocks := regexp.MustCompile("(?ms)^<!-- run: profiling -->\n```sh\n(.*?)^```$").FindAllStringSubmatch(page, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks to run", len(blocks))
	}
	short := strings.NewReplacer("127.0.0.1:6060", address, "seconds=10", "seconds=1", "--seconds 10", "--seconds 1")
	profiles := []string{"cpu.pprof", "heap.pprof", "goroutine.pprof"}
	for i, block := range blocks {
		command := exec.CommandContext(t.Context(), "bash", "-euc", short.Replace(block[1]))
		command.Dir = dir
		command.Env = append(os.Environ(), asProgram+"=1", "SESSIONGATE_PROFILING_LISTEN="+address, "PATH="+dir+":"+os.Getenv("PATH"), "PPROF_TMPDIR="+dir)
		output, err := command.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", block[1], err, output)
		}
		if i == len(blocks)-1 { // reads what the others took
			if n := strings.Count(string(output), "flat%"); n != len(profiles) {
				t.Errorf("%d profiles were read:\n%s", n, output)
			}
			continue
		}
		for _, name := range profiles {
			if profile, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !isProfile(profile) {
				t.Errorf("%s: %v", name, err)
			}
			if i == 0 {
				_ = os.Remove(filepath.Join(dir, name))
			}
		}
	}
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(block[1], "receivers:") {
			var collector map[string]any
			if err := yaml.Unmarshal([]byte(block[1]), &collector); err != nil || collector["service"] == nil {
				t.Errorf("the collector's configuration: %v", err)
			}
			continue
		}
		if c, _ := mustParse(t, block[1]); c.Profiling.Listen == "" && c.Tracing.OTLPEndpoint == "" {
			t.Errorf("this sets nothing:\n%s", block[1])
		}
	}
}
