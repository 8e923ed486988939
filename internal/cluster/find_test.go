package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func install(t *testing.T, dir string, programs ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root") // its own path ends in a number
	pattern := filepath.Join(root, "*", "bin")
	t.Setenv("PATH", filepath.Join(root, "path"))

	if dir, err := find([]string{pattern}); !errors.Is(err, ErrNotInstalled) {
		t.Fatalf("found %q (%v) where nothing is", dir, err)
	}
	steps := []struct {
		what     string
		dir      string
		programs []string
		want     string
	}{
		{"the client alone", "path", []string{"psql", "initdb"}, ""},
		{"in PATH", "path", []string{"postgres"}, "path"},
		{"a distribution's folder goes first", "9.6/bin", []string{"initdb", "postgres"}, "9.6/bin"},
		{"newest, by number and not by letter", "15/bin", []string{"initdb", "postgres"}, "15/bin"},
		{"a newer one without the server", "18/bin", []string{"initdb"}, "15/bin"},
	}
	for _, step := range steps {
		install(t, filepath.Join(root, step.dir), step.programs...)
		dir, err := find([]string{pattern})
		if step.want == "" {
			if !errors.Is(err, ErrNotInstalled) {
				t.Errorf("%s: found %q (%v)", step.what, dir, err)
			}
			continue
		}
		if want := filepath.Join(root, step.want); dir != want || err != nil {
			t.Errorf("%s: found %q (%v), want %q", step.what, dir, err, want)
		}
	}
}
