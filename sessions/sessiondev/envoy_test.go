package sessiondev_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/internal/envoyrun"
	"github.com/sessiongate/sessiongate/sessions/sessiondev"
)

// TestEnvoy: the real Envoy stands in front, and nothing of it is left.
func TestEnvoy(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "sgdev-") // short, for the names of sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	s := start(t, sessiondev.Options{Envoy: true, Listen: "localhost:0"})
	u := newUser(t, s)
	u.must(http.StatusFound, http.MethodGet, "/")
	u.must(http.StatusSeeOther, http.MethodPost, "/dev/login?user=ada")
	u.is("ada", u.must(http.StatusOK, http.MethodGet, "/", "X-Session-User-Id", "root"))
	if err := s.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.must(440, http.MethodGet, "/")
	u.must(http.StatusOK, http.MethodPost, refreshPath)
	u.is("ada", u.must(http.StatusOK, http.MethodGet, "/"))

	address := strings.TrimPrefix(s.URL, "http://")
	for _, behind := range []bool{false, true} {
		if second, err := sessiondev.Start(t.Context(), sessiondev.Options{App: "http://localhost:1", Listen: address, Envoy: behind}); err == nil {
			t.Errorf("a second one listens at the same address, behind Envoy: %t", behind)
			_ = second.Close()
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-s.Ended()
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("it still listens")
	}
	if left, err := filepath.Glob(dir + "/*"); err != nil || len(left) > 0 {
		t.Errorf("files are left: %q, %v", left, err)
	}
}

// TestWithoutEnvoy: where there is none, one line says what to do, and nothing is left running.
func TestWithoutEnvoy(t *testing.T) {
	t.Setenv(envoyrun.BinaryEnv, filepath.Join(t.TempDir(), "none"))
	_, err := sessiondev.Start(t.Context(), sessiondev.Options{App: "http://localhost:1", Envoy: true})
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "without --envoy none is needed") || !strings.Contains(err.Error(), envoyrun.BinaryEnv) {
		t.Errorf("got %v, want one line that says what to do", err)
	}
}

// TestWithoutTemporaryFolder: what cannot be made is said, also where little has begun.
func TestWithoutTemporaryFolder(t *testing.T) {
	if _, err := envoyrun.Binary(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	if _, err := sessiondev.Start(t.Context(), sessiondev.Options{App: "http://localhost:1", Envoy: true}); err == nil || !strings.Contains(err.Error(), "making a folder") {
		t.Error(err)
	}
}
