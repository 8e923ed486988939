package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDev: the command serves an app with the policies of the configuration until it is stopped, and names all that is needed.
func TestDev(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "hello, %s", r.Header.Get("X-Session-User-Id"))
	}))
	t.Cleanup(app.Close)
	dir := t.TempDir()
	file, configuration := filepath.Join(dir, "addresses"), filepath.Join(dir, "sessiongate.yaml")
	if err := os.WriteFile(configuration, []byte("login_url: /signin\nroutes:\n  - path: /open\n    policy: {session: optional}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := newSecret()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var out bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		command := devCmd{App: app.URL, Listen: "127.0.0.1:0", ListenAPI: "127.0.0.1:0", AddressFile: file}
		ended <- command.Run(&flags{ConfigFile: configuration}, process{ctx: ctx, environ: []string{apiKeyVariable + "=" + key}, stdout: &out, stderr: io.Discard})
	}()
	var at struct {
		URL      string `json:"url"`
		Internal string `json:"internal_url"`
		Key      string `json:"api_key"`
	}
	for text, err := os.ReadFile(file); json.Unmarshal(text, &at) != nil; text, err = os.ReadFile(file) {
		select {
		case err := <-ended:
			t.Fatalf("dev ended: %v", err)
		case <-time.After(10 * time.Millisecond): // between two looks
		}
		_ = err
	}
	if at.Key != key {
		t.Errorf("the key is %q", at.Key)
	}
	for path, want := range map[string]string{"/": "302 /signin", "/open": "200 hello, ", "/signin": "200 hello, "} {
		response, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get(at.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if got := fmt.Sprintf("%d %s%s", response.StatusCode, response.Header.Get("Location"), body); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.Internal+"/v1/sessions", strings.NewReader(`{"user_id": "ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Errorf("a sign-in: %d", response.StatusCode)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, named := range []string{"never for production", at.URL, at.Internal, app.URL, key, at.URL + "/signin", "/v1/sessions", "/dev/expire", "/dev/end", "/dev/theft", "/dev/outage"} {
		if !strings.Contains(out.String(), named) {
			t.Errorf("it does not name %s:\n%s", named, out.String())
		}
	}
}

func TestDevRefuses(t *testing.T) {
	t.Parallel()
	var wait sync.WaitGroup
	for _, tt := range []struct {
		environ, args []string
		says          string
	}{
		{nil, nil, "--app"},
		{nil, []string{"--app", "localhost:3000"}, "http://HOST"},
		{nil, []string{"--app", "http://localhost:3000", "--listen", "0.0.0.0:0"}, "development"},
		{[]string{apiKeyVariable + "=short"}, []string{"--app", "http://localhost:3000"}, apiKeyVariable},
		{[]string{"SESSIONGATE_ROUTES=[{path: x, policy: {}}]"}, []string{"--app", "http://localhost:3000"}, "routes[0].path"},
	} {
		wait.Go(func() {
			if _, err := run(t, tt.environ, append([]string{"dev"}, tt.args...)...); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v: %v, want a word on %s", tt.args, err, tt.says)
			}
		})
	}
	wait.Wait()
}
