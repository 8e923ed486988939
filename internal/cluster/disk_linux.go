package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// diskScript mounts a file system in the memory, in a name space of its own, and
// lives until its standard input ends. With it the mount goes. What follows $2 is
// run as the last step, as the owner of the cluster.
const diskScript = `size=$1 point=$2; shift 2
mount -t tmpfs -o "size=$size,mode=0777" tmpfs "$point" && exec "$@" /bin/sh -c 'echo ready; read -r _'`

// SmallDisk makes a file system of so many bytes, for [Options.Dir]. It needs no
// rights: a user may mount in a name space of its own, where the kernel lets it
// make one. Others of its processes reach into it through /proc, and so does a
// server that root starts as another user. It goes with remove, or with this
// process.
func SmallDisk(size int64) (dir string, remove func(), err error) {
	owner, err := unprivileged()
	if err != nil {
		return "", nil, err
	}
	point, err := makeDir("", owner)
	if err != nil {
		return "", nil, err
	}
	script := []string{"/bin/sh", "-c", diskScript, "sh", strconv.FormatInt(size, 10), point}
	var args []string
	if owner == nil {
		args = slices.Concat([]string{"--user", "--map-root-user", "--mount"}, script)
	} else {
		args = slices.Concat([]string{"--mount"}, script, []string{
			"setpriv", fmt.Sprint("--reuid=", owner.Uid), fmt.Sprint("--regid=", owner.Gid), "--clear-groups",
		})
	}
	cmd := exec.Command("unshare", args...) //nolint:noctx // it ends when the pipe closes
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(point))
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(point))
	}
	if err := cmd.Start(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mounting a small disk: %w", err), os.Remove(point))
	}
	remove = func() {
		_ = in.Close()
		_ = cmd.Wait()
		_ = os.Remove(point)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		remove()
		return "", nil, fmt.Errorf("mounting a small disk: %s (does the kernel let users make name spaces?)", strings.TrimSpace(said.String()))
	}
	return filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", point), remove, nil
}
