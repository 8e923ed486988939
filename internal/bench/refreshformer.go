package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// formerCommit is the version that this one is measured against.
const (
	formerCommit = "fac4fcc"
	formerName   = "sessiongate at " + formerCommit
)

// buildFormer builds sessiongate of formerCommit from the history of this repository, once: the
// program is kept in .cache. A clone without that commit gives "", and a line that says so.
func buildFormer(ctx context.Context, out io.Writer) (string, error) {
	top, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	root := strings.TrimSpace(string(top))
	if err == nil {
		err = exec.CommandContext(ctx, "git", "-C", root, "cat-file", "-e", formerCommit+"^{commit}").Run()
	}
	if err != nil {
		_, err = fmt.Fprintf(out, "Commit %s is not in this clone: the former version is not measured.\n", formerCommit)
		return "", err
	}
	dir := filepath.Join(root, ".cache", "bench", formerCommit)
	program := filepath.Join(dir, "sessiongate")
	if _, err := os.Stat(program); !errors.Is(err, fs.ErrNotExist) {
		return program, err
	}
	source, err := os.MkdirTemp("", "sessiongate-former-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(source) }()
	build := exec.CommandContext(ctx, "sh", "-c", `set -e
		mkdir -p "$1"
		git -C "$2" archive "$3" | tar -x -C "$4"
		cd "$4"
		CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$1/sessiongate.new" ./cmd/sessiongate
		mv "$1/sessiongate.new" "$1/sessiongate"`, "sh", dir, root, formerCommit, source)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building sessiongate of %s: %w: %s", formerCommit, err, out)
	}
	return program, nil
}
