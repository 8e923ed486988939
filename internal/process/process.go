// Package process runs child programs for the demo and the tests.
//
// It promises that a child ends when this process ends: on Linux the kernel signals it, even where
// this process is killed. A child does not get the terminal's Ctrl-C there, so that its owner stops
// what it started in order. Elsewhere the kernel has no such signal, and the child stays in the
// terminal's process group unless its owner says otherwise.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a running child. Its methods may be called from several goroutines.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once it was waited for
	err    error         // how it ended; read after exited
}

// Start starts cmd. The kernel sends onParentDeath to the child when this process ends (on Linux).
func Start(cmd *exec.Cmd, onParentDeath syscall.Signal) (*Process, error) {
	tie(cmd, onParentDeath)
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// "Parent" means the thread that forked. This goroutine keeps it until the child has ended:
		// otherwise the runtime might end the thread, and with it a child that is in use.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// CombinedOutput runs cmd to its end, tied to this process as [Start] ties it.
func CombinedOutput(cmd *exec.Cmd, onParentDeath syscall.Signal) ([]byte, error) {
	tie(cmd, onParentDeath)
	runtime.LockOSThread() // see Start
	defer runtime.UnlockOSThread()
	return cmd.CombinedOutput()
}

// Path is the program.
func (p *Process) Path() string { return p.cmd.Path }

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal. It fails where the child has ended.
func (p *Process) Signal(signal os.Signal) error { return p.cmd.Process.Signal(signal) }

// Exited is closed when the child has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err waits for the child's end and returns how it ended: nil means exit status 0.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// Kill kills the child and returns once it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only where it has ended
	<-p.exited
}

// Stop sends signal and returns once the child has ended; a child that has not after patience is
// killed, which is an error. It is an error, too, where the child had ended before. How the child
// ended after the signal is in [Process.Err].
func (p *Process) Stop(signal os.Signal, patience time.Duration) error {
	select {
	case <-p.exited:
		return fmt.Errorf("it had ended already: %w", Cause(p.err))
	default:
	}
	_ = p.Signal(signal) // fails only where it has just ended
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("killed after %s without an end", patience)
	}
}

// Cause names an end that was not asked for, an orderly one as well.
func Cause(exit error) error {
	if exit == nil {
		return errors.New("exit status 0")
	}
	return exit
}
