// Package planes owns the recordings of what real control planes make of the guides' manifests. It gives the files of envoy/guides, as they
// are, to Istio, Envoy Gateway and Contour, and promises that envoy/testdata/planes has what they generate for Envoy from just these files.
//
// It is a module of its own: the product's go.mod knows nothing of what these programs are built from.
package planes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	// manifests is envoy/guides, as seen from here, where the tests run.
	manifests = ".."
	// records is where the recordings are.
	records = "../../testdata/planes"
)

// record is one recording.
type record struct {
	header

	// Bootstrap is what the plane generates, in the form of a bootstrap file.
	Bootstrap any `json:"bootstrap"`
}

// header says what a recording is of.
type header struct {
	// Plane is the control plane, Version what was run, and Date the day on which what it generates was last found different.
	Plane   string `json:"plane"`
	Version string `json:"version"`
	Date    string `json:"date"`
	// Manifests are the files that went in, below envoy/guides, and their SHA-256.
	Manifests map[string]string `json:"manifests"`
}

// read is a manifest of envoy/guides.
func (r *record) read(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(manifests, filepath.FromSlash(name)))
	if err != nil {
		return "", fmt.Errorf("reading manifest: %w", err)
	}
	if r.Manifests == nil {
		r.Manifests = map[string]string{}
	}
	sum := sha256.Sum256(text)
	r.Manifests[path.Clean(name)] = hex.EncodeToString(sum[:])
	return string(text), nil
}

// readAll are some of them.
func (r *record) readAll(names ...string) (texts []string, err error) {
	for _, name := range names {
		text, err := r.read(name)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// keep compares a recording with the one in the repository, and with write replaces it where it is different. The date alone is no difference.
func (r *record) keep(file string, write bool) error {
	file = filepath.Join(records, file)
	var had record
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &had)
	} else if write && errors.Is(err, os.ErrNotExist) {
		err = os.MkdirAll(records, 0o755) //nolint:gosec // a folder of the repository
	}
	if err != nil {
		return fmt.Errorf("reading recording: %w", err)
	}
	r.Date = had.Date
	if r.Date == "" {
		r.Date = today()
	}
	now, err := r.text()
	if err != nil {
		return err
	}
	if bytes.Equal(now, text) {
		return nil
	}
	if !write {
		return fmt.Errorf("%s is not what %s %s generates (make planes RECORD=1 writes it again):\n%s", file, r.Plane, r.Version, cmp.Diff(strings.Split(string(text), "\n"), strings.Split(string(now), "\n")))
	}
	r.Date = today()
	if now, err = r.text(); err != nil {
		return err
	}
	if err := os.WriteFile(file, now, 0o644); err != nil { //nolint:gosec // a file of the repository
		return fmt.Errorf("writing recording: %w", err)
	}
	return nil
}

func (r *record) text() ([]byte, error) {
	text := []byte("# Written by `make planes RECORD=1`. Do not edit: tests play a session's life behind just this.\n")
	for _, part := range []any{r.header, map[string]any{"bootstrap": r.Bootstrap}} {
		more, err := yaml.Marshal(part)
		if err != nil {
			return nil, fmt.Errorf("writing recording: %w", err)
		}
		text = append(text, more...)
	}
	return text, nil
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }
