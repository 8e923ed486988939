// Package tool owns the programs of others that the recordings run: which version of each, with the sums of all that it is built from, and
// where the built program is kept. It promises that a program is built once for each version, and from nothing else than what is pinned here.
package tool

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Tool is a program.
type Tool struct{ name, module, program string }

var (
	// Etcd is the store of Kubernetes.
	Etcd = Tool{"etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"}
	// KubeAPIServer is the API of Kubernetes.
	KubeAPIServer = Tool{"kube-apiserver", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"}
	// Contour is the control plane of that name.
	Contour = Tool{"contour", "github.com/projectcontour/contour", "github.com/projectcontour/contour/cmd/contour"}
	// EnvoyGateway is the tool that has Envoy Gateway's translation.
	EnvoyGateway = Tool{"egctl", "github.com/envoyproxy/gateway", "github.com/envoyproxy/gateway/cmd/egctl"}
)

// pins has a go.mod and a go.sum of each tool. They are apart, for the tools do not agree on one version of Kubernetes' libraries.
//
//go:embed *.mod *.sum
var pins embed.FS

func (t Tool) String() string { return t.name }

// Version is the version that is pinned, as "v1.2.3".
func (t Tool) Version() (string, error) {
	pin, err := pins.ReadFile(t.name + ".mod")
	if err != nil {
		return "", fmt.Errorf("reading the version of %s: %w", t, err)
	}
	return Required(pin, t.module)
}

// Required is the version of a module in a go.mod.
func Required(mod []byte, module string) (string, error) {
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("no go.mod requires %s", module)
}

// Dir is the source of the tool's module, in Go's module cache. It has what the project ships beside the program: definitions of its kinds.
func (t Tool) Dir(ctx context.Context) (string, error) {
	dir, remove, err := t.pinned()
	if err != nil {
		return "", err
	}
	defer remove()
	output, err := command(ctx, dir, "mod", "download", "-json", t.module).Output()
	if err != nil {
		return "", fmt.Errorf("fetching the source of %s: %w: %s", t, err, output)
	}
	list := command(ctx, dir, "list", "-m", "-f", "{{.Dir}}", t.module)
	if output, err = list.Output(); err != nil {
		return "", fmt.Errorf("looking for the source of %s: %w", t, err)
	}
	return strings.TrimSpace(string(output)), nil
}

// Binary is the path of the program. It is built at the first call on a machine, which takes minutes, and then kept in the user's cache folder.
func (t Tool) Binary(ctx context.Context, progress io.Writer) (string, error) {
	version, err := t.Version()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for the cache: %w", err)
	}
	cache = filepath.Join(cache, "sessiongate", "planes")
	path := filepath.Join(cache, t.name+"-"+strings.TrimPrefix(version, "v"))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(cache, 0o750); err != nil {
		return "", fmt.Errorf("making the cache: %w", err)
	}
	unlock, err := lock(filepath.Join(cache, "."+t.name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil { // we waited for another test that built it
		return path, nil
	}
	dir, remove, err := t.pinned()
	if err != nil {
		return "", err
	}
	defer remove()
	// Beside its place, and renamed: a build that breaks off leaves no half program there.
	building, err := os.MkdirTemp(cache, ".building-")
	if err != nil {
		return "", fmt.Errorf("building %s: %w", t, err)
	}
	defer func() { _ = os.RemoveAll(building) }()
	_, _ = fmt.Fprintf(progress, "building %s %s (minutes, once)\n", t, version)
	output, err := command(ctx, dir, "build", "-trimpath", "-o", filepath.Join(building, t.name), t.program).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building %s %s: %w\n%s", t, version, err, bytes.TrimSpace(output))
	}
	if err := os.Rename(filepath.Join(building, t.name), path); err != nil {
		return "", fmt.Errorf("building %s: %w", t, err)
	}
	return path, nil
}

// lock waits until no other test builds the same: two builds at once take each twice as long.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("locking: %w", err)
	}
	return func() { _ = file.Close() }, nil
}

// pinned is a folder that is a module with nothing but the tool in it.
func (t Tool) pinned() (dir string, remove func(), err error) {
	if dir, err = os.MkdirTemp("", "sessiongate-tool-"); err != nil {
		return "", nil, fmt.Errorf("pinning %s: %w", t, err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	for from, to := range map[string]string{t.name + ".mod": "go.mod", t.name + ".sum": "go.sum"} {
		text, err := pins.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o600)
		}
		if err != nil {
			remove()
			return "", nil, fmt.Errorf("pinning %s: %w", t, err)
		}
	}
	return dir, remove, nil
}

func command(ctx context.Context, dir string, arguments ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "go", arguments...)
	EndWithParent(c)
	c.Dir, c.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	return c
}
