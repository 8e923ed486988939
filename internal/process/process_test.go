package process

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell starts a script and returns once it has written its first line.
func shell(t *testing.T, script string) *Process {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	output, said := io.Pipe() // not StderrPipe, which the end of a short script closes
	cmd.Stderr = said
	read := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(output).ReadString('\n')
		read <- err
	}()
	p, err := Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script   string
		patience time.Duration
		ended    bool   // before Stop
		want     string // of the error; "" for none
		exit     string
	}{
		"in order":       {`trap 'exit 0' TERM; echo ready >&2; while :; do sleep 0.01; done`, time.Minute, false, "", ""},
		"with a status":  {`trap 'exit 3' TERM; echo ready >&2; while :; do sleep 0.01; done`, time.Minute, false, "", "exit status 3"},
		"by the signal":  {`echo ready >&2; exec sleep 600`, time.Minute, false, "", "signal: terminated"},
		"deaf":           {`trap '' TERM; echo ready >&2; while :; do sleep 0.01; done`, time.Millisecond, false, "killed after 1ms without an end", "signal: killed"},
		"ended before":   {`echo ready >&2`, time.Minute, true, "it had ended already: exit status 0", ""},
		"crashed before": {`echo ready >&2; exit 7`, time.Minute, true, "it had ended already: exit status 7", "exit status 7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := shell(t, test.script)
			if test.ended {
				<-p.Exited()
			}
			if err := p.Stop(syscall.SIGTERM, test.patience); test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("stopping: %v, want %q", err, test.want)
			}
			<-p.Exited()
			if err := p.Err(); test.exit == "" && err != nil || test.exit != "" && (err == nil || err.Error() != test.exit) {
				t.Errorf("it ended by %v, want %q", err, test.exit)
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	if _, err := Start(exec.Command("/nowhere/at/all"), syscall.SIGKILL); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	tail := Tail{Tee: &all}
	for range 3 {
		if n, err := tail.Write([]byte(strings.Repeat("x", tailBytes))); n != tailBytes || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := tail.Write([]byte("the end\n")); err != nil {
		t.Fatal(err)
	}
	if got := tail.String(); len(got) != tailBytes-1 || !strings.HasSuffix(got, "xthe end") {
		t.Errorf("it kept %d bytes, the last of them %q", len(got), got[max(0, len(got)-10):])
	}
	if all.Len() != 3*tailBytes+len("the end\n") {
		t.Errorf("%d bytes were passed on", all.Len())
	}
}
