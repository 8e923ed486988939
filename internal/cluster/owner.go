package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// unprivileged is the user that the server runs as where we are root, as which
// Postgres refuses to start; nil where we are not.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("choosing the server's user: Postgres does not run as root, and there is neither a user postgres nor nobody")
}

// makeDir makes the cluster's folder under parent; by default under the temporary
// directory, or under /tmp where that one's path is too long for a socket's, or
// closed to the owner.
func makeDir(parent string, owner *syscall.Credential) (string, error) {
	asked := parent != ""
	if !asked {
		parent = os.TempDir()
	}
	if !asked && (len(parent)+len("/sgpg-0123456789") > maxDirLength || owner != nil && !open(parent)) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "sgpg-") // mode 0700: the socket asks for no password
	if err != nil {
		return "", fmt.Errorf("making the cluster's folder: %w", err)
	}
	if owner == nil {
		return dir, nil
	}
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		return "", errors.Join(fmt.Errorf("making the cluster's folder: %w", err), os.Remove(dir))
	}
	return dir, nil
}

// open reports whether every user may pass through a folder and those above it.
func open(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}
