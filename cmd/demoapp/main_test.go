package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func settings(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, keyFile := filepath.Join(dir, "address"), filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte(testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, calls := standIn(t, http.StatusCreated, nil, createdAnswer)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-listen", "127.0.0.1:0"}, settings(map[string]string{
			"DEMOAPP_LISTEN":        "127.0.0.1:1", // the flag counts
			"DEMOAPP_ADDRESS_FILE":  file,
			"SESSIONS_URL":          g.BaseURL,
			"SESSIONS_API_KEY_FILE": keyFile,
		}), io.Discard)
	}()
	address := awaitFile(t, file, ended)

	resp, err := http.Get("http://" + address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("healthz answers %d", resp.StatusCode)
	}
	resp, err = http.Post("http://"+address+"/login", "application/json", strings.NewReader(`{"user":"ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || len(*calls) != 1 || (*calls)[0].Authorization != "Bearer "+testKey {
		t.Errorf("login answers %d, calls %v", resp.StatusCode, *calls)
	}
	http.DefaultClient.CloseIdleConnections()

	stop()
	if err := <-ended; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func awaitFile(t *testing.T, file string, ended <-chan error) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(file); err == nil {
			return string(b)
		}
		select {
		case err := <-ended:
			t.Fatalf("ended before it listened: %v", err)
		case <-tick.C:
		}
	}
}

func TestRunRefusesBadSettings(t *testing.T) {
	t.Parallel()
	good := map[string]string{"DEMOAPP_LISTEN": "127.0.0.1:0", "SESSIONS_URL": "http://127.0.0.1:1", "SESSIONS_API_KEY": "k"}
	tests := map[string]struct {
		name, value string
		args        []string
		want        string
	}{
		"no URL":         {"SESSIONS_URL", "", nil, "SESSIONS_URL"},
		"not a URL":      {"SESSIONS_URL", "localhost:1", nil, "SESSIONS_URL"},
		"no key":         {"SESSIONS_API_KEY", "", nil, "SESSIONS_API_KEY_FILE"},
		"no such file":   {"SESSIONS_API_KEY_FILE", "/no/such/file", nil, "/no/such/file"},
		"no such listen": {"DEMOAPP_LISTEN", "nowhere", nil, "listening"},
		"no such folder": {"DEMOAPP_ADDRESS_FILE", "/no/such/folder/file", nil, "/no/such/folder"},
		"an argument":    {"", "", []string{"serve"}, "serve"},
		"no public URL":  {"DEMOAPP_PUBLIC_URL", "envoy:10000", nil, "DEMOAPP_PUBLIC_URL"},
		"no duration":    {"DEMOAPP_REFRESH_ATTEMPT_MAX", "10", nil, "DEMOAPP_REFRESH_ATTEMPT_MAX"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{test.name: test.value}
			for k, v := range good {
				if k != test.name {
					env[k] = v
				}
			}
			err := run(t.Context(), test.args, settings(env), io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one that says %q", err, test.want)
			}
		})
	}
}
