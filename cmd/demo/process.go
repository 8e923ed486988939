package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sessiongate/sessiongate/internal/process"
)

const (
	stopTimeout  = 10 * time.Second // after SIGTERM; then SIGKILL
	pollInterval = 20 * time.Millisecond
	tailLines    = 12
)

// child is a part of the demo whose output goes to a log file.
type child struct {
	*process.Process

	name string
	// wanted: a switch of the page killed it, or it had an end to come to.
	wanted atomic.Bool
}

// startProcess runs a program that was built beside this one. The environment is ours
// without what configures the children, and settings.
func startProcess(name, program, log string, settings map[string]string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), program)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("starting %s: %w; `make demo` builds it", name, err)
	}
	output, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer func() { _ = output.Close() }() // the child has its own

	cmd := exec.Command(path, args...) //nolint:noctx // our own program; it is stopped in order, not by a context
	cmd.Env = environment(settings)
	cmd.Stdout, cmd.Stderr = output, output
	// Ctrl-C at the terminal reaches only the demo, which then stops everything in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return &child{Process: p, name: name}, nil
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
func (p *child) await(ctx context.Context, what string, look func() bool) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !look() {
		select {
		case <-p.Exited():
			return fmt.Errorf("%s ended before it was %s: %w", p.name, what, process.Cause(p.Err()))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to be %s: %w", p.name, what, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// stop returns once the process has ended. It is an error if it had ended by itself.
func (p *child) stop() error {
	if p.wanted.Load() {
		return nil
	}
	err := p.Stop(syscall.SIGTERM, stopTimeout)
	if err == nil {
		err = p.Err()
	}
	if err != nil {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	return nil
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
