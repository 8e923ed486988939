package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	stopTimeout  = 10 * time.Second // after SIGTERM; then SIGKILL
	pollInterval = 20 * time.Millisecond
	tailLines    = 12
)

// process is a child whose output goes to a log file.
type process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed once it was waited for
	exit   error         // how it ended; read after exited
}

// startProcess runs a program that was built beside this one. The environment is ours
// without what configures the children, and settings.
func startProcess(name, program, log string, settings map[string]string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), program)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("starting %s: %w; `make demo` builds it", name, err)
	}
	output, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer func() { _ = output.Close() }() // the child has its own

	p := &process{name: name, exited: make(chan struct{})}
	p.cmd = exec.Command(path, args...) //nolint:noctx // our own program; it is stopped in order, not by a context
	p.cmd.Env = environment(settings)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = childAttributes()
	started := make(chan error)
	go func() {
		// The kernel's parent-death signal comes when the thread that forked ends:
		// this goroutine keeps it until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.exit = p.cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

func environment(settings map[string]string) []string {
	var env []string
	for _, v := range os.Environ() {
		// PG*: what libpq's and pgx's connections take for default.
		if !strings.HasPrefix(v, "SESSIONGATE_") && !strings.HasPrefix(v, "DEMOAPP_") && !strings.HasPrefix(v, "PG") {
			env = append(env, v)
		}
	}
	for name, value := range settings {
		env = append(env, name+"="+value)
	}
	return env
}

// await calls look until it reports true. It gives up when the process or ctx ends.
func (p *process) await(ctx context.Context, what string, look func() bool) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !look() {
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it was %s: %w", p.name, what, cause(p.exit))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to be %s: %w", p.name, what, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// stop returns once the process has ended. It is an error if it had ended by itself.
func (p *process) stop() error {
	select {
	case <-p.exited:
		return fmt.Errorf("stopping %s: it had ended already: %w", p.name, cause(p.exit))
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only where it has just ended
	select {
	case <-p.exited:
		if p.exit != nil {
			return fmt.Errorf("stopping %s: %w", p.name, p.exit)
		}
		return nil
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("stopping %s: killed after %s without an end", p.name, stopTimeout)
	}
}

// cause gives an orderly exit that nobody asked for a name.
func cause(exit error) error {
	if exit == nil {
		return errors.New("exit status 0")
	}
	return exit
}

// tail is the end of a log.
func tail(log string) string {
	content, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n")))
}
