package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// What a build is told, by -ldflags "-X main.stampedVersion=…": by make, the Dockerfile and the
// configuration of the release. `go build` and `go install` know it without.
var stampedVersion, stampedRevision, stampedDate string

// unknown is what a build does not know of itself.
const unknown = "unknown"

// build is what this program was built from and for.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // the commit
	// Date is that of the commit: two builds of one commit are the same bytes.
	Date     string `json:"date"`
	Modified bool   `json:"modified"` // the checkout had changes beside the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Schema   int64  `json:"schema"` // the newest migration
	Envoy    string `json:"envoy"`  // tested with
}

func built() build {
	b := build{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Envoy: envoy.Version}
	vcs := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = info.Main.Version
		for _, s := range info.Settings {
			vcs[s.Key] = s.Value
		}
	}
	b.Version = cmp.Or(stampedVersion, b.Version, unknown)
	b.Revision = cmp.Or(stampedRevision, vcs["vcs.revision"], unknown)
	b.Date = cmp.Or(stampedDate, vcs["vcs.time"], unknown)
	b.Modified = vcs["vcs.modified"] == "true" || strings.HasSuffix(b.Revision, "-dirty")
	b.Revision = strings.TrimSuffix(b.Revision, "-dirty")
	// An error is a name of a migration that no build passes its tests with.
	b.Schema, _ = postgres.NewestMigration()
	return b
}

// version is the version, the commit as far as it is known, and Go's version, in one line.
func version() string {
	b := built()
	words := []string{b.Version}
	if b.Revision != unknown {
		words = append(words, b.Revision)
	}
	return strings.Join(append(words, b.Go), " ")
}

type versionCmd struct {
	JSON bool `help:"Print it as JSON."`
}

// Run implements the command.
func (k versionCmd) Run(p process) error { return built().write(p.stdout, k.JSON) }

func (b build) write(w io.Writer, asJSON bool) error {
	if asJSON {
		to := json.NewEncoder(w)
		to.SetIndent("", "  ")
		return to.Encode(b)
	}
	changed := ""
	if b.Modified {
		changed = ", and changes that are not committed"
	}
	_, err := fmt.Fprintf(w, "sessiongate %s\ncommit      %s%s\ndate        %s\nGo          %s\nplatform    %s\nschema      %d\nEnvoy       %s (tested with)\n",
		b.Version, b.Revision, changed, b.Date, b.Go, b.Platform, b.Schema, b.Envoy)
	return err
}
