package envoy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// skewed builds sessiongate with a clock that is wrong by what TEST_CLOCK_WRONG_BY says, in seconds. Go asks the kernel without the C
// library, so nothing from outside can lie to it: package time itself is built another way. What measures durations stays right, as it does
// where a clock is set wrong.
func skewed(t *testing.T) (file string) {
	t.Helper()
	source := filepath.Join(runtime.GOROOT(), "src/time/time.go") //nolint:staticcheck // of the Go that runs the test
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const read = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	changed := strings.Replace(string(text), read, read+"\tsec += testClock\n", 1) + `
var testClock = func() int64 {
	text, _ := syscall.Getenv("TEST_CLOCK_WRONG_BY")
	seconds, _ := atoi(text)
	return int64(seconds)
}()
`
	changed = strings.Replace(changed, "import (\n", "import (\n\t\"syscall\"\n", 1)
	dir := t.TempDir()
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "time.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"time.go": changed, "overlay.json": string(overlay)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(dir, "sessiongate")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", file, "../cmd/sessiongate")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building with another clock: %v\n%s", err, out)
	}
	return file
}

// TestFaultReplicaClock: one process believes that it is an hour later, the other that it is an hour earlier. No one notices.
func TestFaultReplicaClock(t *testing.T) {
	t.Parallel()
	if !soak {
		t.Skip("builds the whole program, down to package time, again: a minute; make soak does") // TestWrongClocks plays it on the engine
	}
	s := faultStack(t, stackOptions{program: skewed(t), each: []string{"TEST_CLOCK_WRONG_BY=3600", "TEST_CLOCK_WRONG_BY=-3600"}})
	for i, p := range s.processes { // or nothing would be shown
		log, err := os.ReadFile(p.log)
		if err != nil {
			t.Fatal(err)
		}
		var line struct{ Time time.Time }
		first, _, _ := strings.Cut(string(log), "\n")
		if err := json.Unmarshal([]byte(first), &line); err != nil {
			t.Fatal(err)
		}
		if wrong := time.Until(line.Time); (wrong > 50*time.Minute) != (i == 0) || (wrong < -50*time.Minute) != (i == 1) {
			t.Fatalf("%s: its clock is wrong by %s", p.name, wrong)
		}
	}
	c := s.newCrowd(scale.clients)
	c.midway()
	victims := s.victims(scale.ends)
	s.allEnded(append(s.processes[0].end(victims[:scale.ends/2]), s.processes[1].end(victims[scale.ends/2:])...))
	s.recovers(time.Now())
	c.everyone()
	if n := c.unavailable.Load(); n > 0 {
		t.Errorf("%d answers 503", n)
	}
	c.settle()
}
