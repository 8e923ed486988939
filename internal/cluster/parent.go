package cluster

// Two things see to it that nothing outlives this process, even where it is
// killed and cannot clean up. On Linux the kernel signals the server when its
// parent ends (package process). And a warden, a shell that waits for the end of
// a pipe whose other end only this process holds, stops the server where the
// kernel does not, and removes the folder.

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sessiongate/sessiongate/internal/process"
)

// immediateShutdown is Postgres's immediate shutdown: the postmaster ends its children and then itself.
// SIGKILL would leave backends, shared memory and semaphores.
const immediateShutdown = syscall.SIGQUIT

func (c *Cluster) startServer() (*process.Process, error) {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(filepath.Join(c.binDir, "postgres"), "-D", c.data()) //nolint:noctx // Stop ends it, in order
	c.prepare(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	return process.Start(cmd, immediateShutdown)
}

// prepare makes a command run as the cluster's owner, in its folder. Package process ties it to this
// process.
func (c *Cluster) prepare(cmd *exec.Cmd) {
	cmd.Dir = c.dir // ours may be closed to the owner
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: c.owner,
		Setpgid:    true, // ^C at the terminal is for us; we then stop the server
	}
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
	// As the owner it may remove the folder, and can signal no process of another user.
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
