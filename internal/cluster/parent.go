package cluster

// Two things see to it that nothing outlives this process, even where it is
// killed and cannot clean up. On Linux the kernel signals the server when its
// parent ends (parent_linux.go). And a warden, a shell that waits for the end of
// a pipe whose other end only this process holds, stops the server where the
// kernel does not, and removes the folder.

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// server is one run of the postmaster.
type server struct {
	process *os.Process
	exited  chan struct{}
	state   *os.ProcessState // how it ended; read it after exited
}

func (c *Cluster) startServer() (*server, error) {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(filepath.Join(c.binDir, "postgres"), "-D", c.data()) //nolint:noctx // Stop ends it, in order
	// SIGQUIT is Postgres's immediate shutdown: the postmaster ends its children
	// and then itself. SIGKILL would leave backends, shared memory and semaphores.
	c.prepare(cmd, syscall.SIGQUIT)
	cmd.Stdout, cmd.Stderr = log, log

	s := &server{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(s.exited)
		// "Parent" in PR_SET_PDEATHSIG means the thread that forked. It belongs
		// to this goroutine until the server has ended; otherwise the runtime
		// might end it, and with it a server that is in use.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait()
			s.state = cmd.ProcessState
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return s, nil
}

// kill shuts the server down at once and waits until it and its children are gone.
func (s *server) kill() {
	_ = s.process.Signal(syscall.SIGQUIT) // fails only if it has ended
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.exited:
	case <-timer.C:
		_ = s.process.Kill()
		<-s.exited
	}
}

// combinedOutput runs a command to its end, with its parent thread kept alive.
func combinedOutput(cmd *exec.Cmd) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.CombinedOutput()
}

// prepare makes a command run as the cluster's owner, in its folder, and end by a
// signal when this process does.
func (c *Cluster) prepare(cmd *exec.Cmd, onParentDeath syscall.Signal) {
	cmd.Dir = c.dir // ours may be closed to the owner
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: c.owner,
		Setpgid:    true, // ^C at the terminal is for us; we then stop the server
	}
	setParentDeathSignal(cmd.SysProcAttr, onParentDeath)
}

// environment is ours without what would change a server's or initdb's behaviour.
// On macOS the postmaster refuses to start where LC_ALL is not set.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "LC_") && !strings.HasPrefix(v, "TZ=") {
			env = append(env, v)
		}
	}
	return env
}

// wardenScript gets the cluster's folder as $1. A postmaster.pid names the server;
// during initdb with a minus sign, which to kill would be a process group. A server
// that is frozen (see Freeze) must go on to hear the signal.
const wardenScript = `
trap '' INT TERM HUP QUIT
read -r _
pid=$(head -n 1 "$1/pooler.pid" 2>/dev/null) && kill -KILL "$pid" 2>/dev/null
while pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "${pid#-}" 2>/dev/null; do kill -CONT "${pid#-}" 2>/dev/null; sleep 0.1; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.2; done
`

// warden is the shell and our end of its pipe.
type warden struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

func startWarden(dir string, owner *syscall.Credential) (*warden, error) {
	cmd := exec.Command("/bin/sh", "-c", wardenScript, "sh", dir) //nolint:noctx // it ends when the pipe closes
	cmd.Dir = "/"
	// As the owner it may remove the folder, and can signal nobody else's process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner, Setpgid: true}
	// Close-on-exec: no other child of ours holds the pipe open.
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the cluster's warden: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the cluster's warden: %w", err)
	}
	return &warden{cmd, pipe}, nil
}

// stop returns once the warden has removed what is left, and ended.
func (w *warden) stop() {
	_ = w.pipe.Close()
	_ = w.cmd.Wait()
}
