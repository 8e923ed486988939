package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
)

// asProgram is the environment variable that makes the test binary the program.
const asProgram = "TEST_RUNS_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// run runs a command line as main does, and gives what it printed.
func run(t *testing.T, environ []string, args ...string) (string, error) {
	t.Helper()
	var c commands
	var out bytes.Buffer
	p := process{ctx: t.Context(), environ: environ, stdin: strings.NewReader(""), stdout: &out, stderr: &out}
	parser, err := kong.New(&c, append(grammar(&c, p), kong.Writers(&out, &out), kong.Exit(func(int) { t.Error("exit") }))...)
	if err != nil {
		t.Fatal(err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return out.String(), err
	}
	err = command.Run()
	return out.String(), err
}

func TestServeRefusesToStartWithoutKey(t *testing.T) {
	t.Parallel()
	_, err := run(t, nil, "serve")
	if all := faultsOf(t, err); len(all) != 2 || !strings.Contains(err.Error(), "sessiongate keys new") || !strings.Contains(err.Error(), "database.url") {
		t.Errorf("error %v, want the missing database and key, and how to make one", err)
	}
}

func TestConfigCommand(t *testing.T) {
	t.Parallel()
	out, err := run(t, []string{"SESSIONGATE_ISSUER=here"}, "config")
	if err != nil || !strings.Contains(out, `issuer: "here" # SESSIONGATE_ISSUER`) {
		t.Errorf("config: %v\n%s", err, out)
	}
	out, err = run(t, nil, "config", "--reference")
	if err != nil {
		t.Fatal(err)
	}
	oneLine := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	for _, s := range table(new(Config)).Settings {
		if !strings.Contains(out, "\n### `"+s.Key+"`\n") || !strings.Contains(out, "\n- Environment variable: `"+envOf(s)+"`\n") || !strings.Contains(oneLine(out), oneLine(s.Doc)) {
			t.Errorf("%s is not in the reference", s.Key)
		}
	}
}

func TestKeysNewPrintsASecret(t *testing.T) {
	t.Parallel()
	first, err := run(t, nil, "keys", "new")
	second, _ := run(t, nil, "keys", "new")
	if err != nil || !isKey(strings.TrimSuffix(first, "\n")) || first == second {
		t.Errorf("printed %q, then %q, %v", first, second, err)
	}
}

func TestKeysNewKeepsWhatExists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, kept := filepath.Join(dir, "made"), filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, nil, "keys", "new", "--mode", "0440", made, kept)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := readSecretFile(made)
	if err != nil || !isKey(secret) || !isAPISecret(secret) {
		t.Errorf("made %q, %v", secret, err)
	}
	if strings.Contains(out, secret) || !strings.Contains(out, "made "+made) || !strings.Contains(out, "kept "+kept) {
		t.Errorf("output %q", out)
	}
	if info, err := os.Stat(made); err != nil || info.Mode() != 0o440 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if content, _ := readSecretFile(kept); content != "mine" {
		t.Errorf("overwritten with %q", content)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left %v", entries)
	}
}

func TestKeysNewReportsWhatItCannotDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty, dangling, good := filepath.Join(dir, "empty"), filepath.Join(dir, "dangling"), filepath.Join(dir, "good")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	_, err := run(t, nil, "keys", "new", dir, empty, dangling, filepath.Join(dir, "no", "file"), good)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("error %v, want four", err)
	}
	if _, err := os.Stat(good); err != nil {
		t.Errorf("the fault of one file kept another from being made: %v", err)
	}
	if _, err := run(t, nil, "keys", "new", "--mode", "0000", good); err == nil {
		t.Error("a mode without reading was taken")
	}
}

// Replicas that start together must end up with one key.
func TestKeysNewRaces(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	var made sync.Map
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			var out bytes.Buffer
			if err := writeSecret(&out, file, 0o400); err != nil {
				t.Error(err)
			}
			if strings.HasPrefix(out.String(), "made ") {
				made.Store(i, true)
			}
			if secret, err := readSecretFile(file); err != nil || !isKey(secret) {
				t.Errorf("half a file: %q, %v", secret, err)
			}
		})
	}
	wg.Wait()
	n := 0
	made.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d made the file, want 1", n)
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	environ := []string{"SESSIONGATE_LISTEN_INTERNAL=" + strings.TrimPrefix(server.URL, "http://")}

	if out, err := run(t, environ, "healthcheck"); err != nil || out != "ready\n" {
		t.Errorf("ready: %q, %v", out, err)
	}
	status = http.StatusServiceUnavailable
	if _, err := run(t, environ, "healthcheck"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("not ready: %v", err)
	}
	server.Close()
	if _, err := run(t, environ, "healthcheck"); err == nil {
		t.Error("nothing there, and yet ready")
	}
	if _, err := run(t, []string{"SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0"}, "healthcheck"); err == nil {
		t.Error("port 0 was asked")
	}
}

// A slip must not end other sessions than were meant.
func TestSessionsEndRefuses(t *testing.T) {
	t.Parallel()
	environ := []string{"SESSIONGATE_DATABASE_URL=postgres:///nowhere?host=/nowhere"}
	for want, args := range map[string][]string{
		"missing flags":               {},
		"can't be used together":      {"--user", "a", "--created-before", "now"},
		"a time with its zone":        {"--created-before", "2026-01-31"},
		"22 characters of base64url":  {"--handle", "abc"},
		"1 to 64 of a-z":              {"--user", "a", "--actor", "Me and you"},
		"allowed: postgres://":        {"--user", "a"},
		"deleting sessions":           {"--user", "a", "--yes"},
		"selecting the sessions of a": {"--user", "a"},
		"counting sessions":           {"--created-before", "now", "--dry-run"},
		"after 0 sessions ended: r":   {"--created-before", "now", "--yes"},
	} {
		env := environ
		if strings.HasPrefix(want, "allowed:") {
			env = nil
		}
		if out, err := run(t, env, append([]string{"sessions", "end"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", args, out, err, want)
		}
	}
}

// A command line that is wrong costs one line.
func TestUnknownCommandIsOneLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"sevre"}, {"config", "explian"}, {"serve", "--no-such"}, {}} {
		c := exec.CommandContext(t.Context(), os.Args[0], args...)
		c.Env = append(os.Environ(), asProgram+"=1")
		out, err := c.CombinedOutput()
		if lines := strings.Count(string(out), "\n"); err == nil || lines != 1 || !strings.HasPrefix(string(out), "sessiongate: error: ") {
			t.Errorf("%q: %v, %d lines:\n%s", args, err, lines, out)
		}
	}
}

func TestOpenAPICommand(t *testing.T) {
	t.Parallel()
	out, err := run(t, nil, "openapi")
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, `"/v1/sessions"`) {
		t.Errorf("%v: %.100s", err, out)
	}
}
