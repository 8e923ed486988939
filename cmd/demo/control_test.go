package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeDatabase counts.
type fakeDatabase struct{ kills, restarts int }

func (f *fakeDatabase) Kill()                         { f.kills++ }
func (f *fakeDatabase) Restart(context.Context) error { f.restarts++; return nil }

func ask(t *testing.T, method, address, secret, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(text))
}

// Every user and page of this machine reaches loopback: without the secret nothing is told, and nothing is killed.
func TestControlAsksForItsSecret(t *testing.T) {
	t.Parallel()
	c, err := startControl(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db := &fakeDatabase{}
	c.add("postgres", &databaseSwitch{database: db})
	c.serve()
	defer func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, secret := range []string{"", "x", c.secret + "x"} {
		for _, path := range []string{"/parts", "/parts/postgres"} {
			if status, _ := ask(t, "POST", c.url()+path, secret, `{"on":false}`); status != http.StatusForbidden {
				t.Errorf("%s with the secret %q: %d", path, secret, status)
			}
		}
	}
	if db.kills > 0 {
		t.Error("Postgres was killed")
	}
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/parts", "", 200, `[{"name":"postgres","state":"on"}]`},
		{"POST", "/parts/envoy", `{"on":false}`, 404, `{"message":"There is no such switch."}`},
		{"POST", "/parts/postgres", `off`, 404, `{"message":"There is no such switch."}`},
		{"POST", "/parts/postgres", `{"on":false}`, 200, `{"name":"postgres","state":"off"}`},
		{"POST", "/parts/postgres", `{"on":false}`, 200, `{"name":"postgres","state":"off"}`},
		{"GET", "/parts", "", 200, `[{"name":"postgres","state":"off"}]`},
		{"POST", "/parts/postgres", `{"on":true}`, 200, `{"name":"postgres","state":"on"}`},
		{"POST", "/parts/postgres", `{"on":true}`, 200, `{"name":"postgres","state":"on"}`},
	} {
		if status, answer := ask(t, step.method, c.url()+step.path, c.secret, step.body); status != step.status || answer != step.want {
			t.Errorf("%s %s %s: %d %s, want %d %s", step.method, step.path, step.body, status, answer, step.status, step.want)
		}
	}
	if *db != (fakeDatabase{1, 1}) {
		t.Errorf("it was killed and started %v, want once each", *db)
	}
}

// visitor is a browser of the page, as far as switches go.
type visitor struct {
	*testing.T

	page, handle, proof string
	cookies             []*http.Cookie
}

func (v *visitor) send(method, path, body string) (status int, answer string) {
	v.Helper()
	r, err := http.NewRequestWithContext(v.Context(), method, v.page+path, strings.NewReader(body))
	if err != nil {
		v.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "cors")
	r.Header.Set("Sec-Fetch-Dest", "empty")
	for _, c := range v.cookies {
		r.AddCookie(c)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		v.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.Fatal(err)
	}
	if path == "/login" {
		v.cookies, v.proof = response.Cookies(), response.Header.Get("X-Stage-Proof")
	}
	return response.StatusCode, string(text)
}

func (v *visitor) turn(part string, on bool) {
	v.Helper()
	if status, answer := v.send("POST", "/stage/switches/"+part, fmt.Sprintf(`{"handle":%q,"proof":%q,"on":%t}`, v.handle, v.proof, on)); status != 200 {
		v.Fatalf("switching %s to %t: %d %s", part, on, status, answer)
	}
}

func (v *visitor) wants(status int, method, path string) {
	v.Helper()
	got := 0
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got, _ = v.send(method, path, ""); got == status {
			return
		}
	}
	v.Fatalf("%s %s: %d, want %d", method, path, got, status)
}

func (v *visitor) wantsState(want string) {
	v.Helper()
	answer := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, answer = v.send("GET", "/stage/switches", ""); strings.TrimSpace(answer) == want {
			return
		}
	}
	v.Fatalf("the switches are %s, want %s", answer, want)
}

// TestSwitches: the page kills Postgres and a replica and brings them back, while requests pass. The demo is not ended by it, and ends
// well with both switched off.
func TestSwitches(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "sgd-") // see TestNothingOutlivesTheDemo
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := demo(t)
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var failure strings.Builder
	cmd.Stderr = &failure
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &visitor{T: t}
	lines := bufio.NewScanner(stdout)
	for v.page == "" && lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "The page: "); ok {
			v.page, _, _ = strings.Cut(strings.TrimSuffix(rest, " "), "/ ")
		}
	}
	if v.page == "" {
		t.Fatalf("the demo names no page:\n%s", failure.String())
	}
	if status, answer := v.send("POST", "/login", `{"user":"ada"}`); status != 200 || v.proof == "" {
		t.Fatalf("sign-in: %d %s", status, answer)
	}
	_, answer := v.send("GET", "/api/me", "")
	var me struct{ Handle string }
	if err := json.Unmarshal([]byte(answer), &me); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	v.handle = me.Handle

	v.turn("replica", false)
	v.wantsState(`[{"name":"postgres","state":"on"},{"name":"replica","state":"off"}]`)
	v.wants(200, "GET", "/api/me")
	v.wants(200, "POST", refreshPath)
	v.turn("replica", true)
	v.wantsState(`[{"name":"postgres","state":"on"},{"name":"replica","state":"on"}]`)
	v.turn("postgres", false)
	v.wants(200, "GET", "/api/me")
	v.wants(503, "POST", refreshPath)
	v.turn("postgres", true)
	v.wants(200, "POST", refreshPath)
	v.turn("replica", false)
	v.turn("postgres", false)

	if err := syscall.Kill(cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the demo ended with %v:\n%s", err, failure.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}
