package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNothingOutlivesTheDemo: whatever ends it, and when, no process is left.
func TestNothingOutlivesTheDemo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]ending{
		"after the journey":       {args: []string{"--once"}},
		"Ctrl-C":                  {at: "The page: ", parts: 7, signal: syscall.SIGINT},
		"SIGTERM in the journey":  {at: "No one is signed in", parts: 7, signal: syscall.SIGTERM, code: 1},
		"SIGTERM in the start":    {at: "sessiongate ", parts: 3, signal: syscall.SIGTERM, code: 1},
		"SIGKILL in the journey":  {at: "No one is signed in", parts: 7, signal: syscall.SIGKILL, code: -1},
		"SIGKILL in the start":    {at: "sessiongate ", parts: 3, signal: syscall.SIGKILL, code: -1},
		"after a part that ended": {at: "The page: ", parts: 7, code: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Its path is in the environment, the arguments or the working folder of all
			// that the demo starts. Short, and open to Postgres's unprivileged user.
			dir, err := os.MkdirTemp("/tmp", "sgd-")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(dir) }()
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			test.play(t, dir)

			if test.signal == syscall.SIGKILL { // the kernel and the cluster's warden clean up
				deadline := time.Now().Add(30 * time.Second)
				for len(processes(t, dir)) > 0 && time.Now().Before(deadline) {
					time.Sleep(20 * time.Millisecond)
				}
			} else if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("files are left: %v, %v", left, err)
			}
			if left := processes(t, dir); len(left) > 0 {
				t.Errorf("processes are left: %q", left)
			}
		})
	}
}

type ending struct {
	args   []string
	at     string         // the beginning of a line of the output at which to act; "" for none
	parts  int            // processes that run then, at least
	signal syscall.Signal // for the demo; 0: the demo app is killed instead
	code   int            // -1: killed
}

// play runs the demo to its end, with dir as its temporary directory.
func (e ending) play(t *testing.T, dir string) {
	t.Helper()
	cmd := demo(t, e.args...)
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var failure strings.Builder
	cmd.Stderr = &failure
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for e.at != "" && lines.Scan() {
		if strings.HasPrefix(lines.Text(), e.at) {
			e.act(t, cmd.Process, processes(t, dir))
			break
		}
	}
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its error is the exit code
	if code := cmd.ProcessState.ExitCode(); code != e.code {
		t.Errorf("exit code %d, want %d:\n%s", code, e.code, failure.String())
	}
	if strings.Contains(failure.String(), "killed after") {
		t.Errorf("a part had to be killed:\n%s", failure.String())
	}
}

func (e ending) act(t *testing.T, demo *os.Process, running map[string]string) {
	t.Helper()
	if len(running) < e.parts {
		t.Errorf("only %d processes are seen: %q", len(running), running)
	}
	pid, signal := demo.Pid, e.signal
	switch signal {
	case syscall.SIGINT:
		pid = -pid // a terminal's Ctrl-C is for the whole process group
	case 0:
		pid, signal = pidOf(t, running, "demoapp"), syscall.SIGKILL
	default:
	}
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
}

// processes are those that know of dir: process id to command line.
func processes(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("looking into /proc: %v, %d processes", err, len(folders))
	}
	for _, folder := range folders {
		// A process may end while it is looked at; one of another user is not ours.
		environment, _ := os.ReadFile(folder + "/environ")
		arguments, _ := os.ReadFile(folder + "/cmdline")
		working, _ := os.Readlink(folder + "/cwd")
		if strings.Contains(string(environment)+string(arguments)+working, dir) {
			found[filepath.Base(folder)] = strings.ReplaceAll(string(arguments), "\x00", " ")
		}
	}
	return found
}

func pidOf(t *testing.T, running map[string]string, program string) int {
	t.Helper()
	for pid, command := range running {
		if filepath.Base(strings.TrimSpace(command)) == program {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no process of %s in %q", program, running)
	return 0
}
