package tool_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/tool"
)

// TestTools: every tool has a version, is built from what is pinned, and a kept one is not built again.
func TestTools(t *testing.T) {
	for _, of := range []tool.Tool{tool.Etcd, tool.KubeAPIServer, tool.Contour, tool.EnvoyGateway} {
		version, err := of.Version()
		if err != nil {
			t.Fatal(err)
		}
		path, err := of.Binary(t.Context(), os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(filepath.Base(path), "-"+strings.TrimPrefix(version, "v")) {
			t.Errorf("%s is %s, whatever its version is", version, path)
		}
		// The version of a tool is of a module that is built in.
		built, err := exec.CommandContext(t.Context(), "go", "version", "-m", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(built), "\t"+version+"\t") && !strings.Contains(string(built), "\t"+version+"\n") {
			t.Errorf("%s has no module of version %s", path, version)
		}
		var said strings.Builder
		if again, err := of.Binary(t.Context(), &said); err != nil || again != path || said.Len() > 0 {
			t.Errorf("the second call builds again: %s, %v, %q", again, err, said.String())
		}
	}
}
