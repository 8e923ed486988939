package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
)

// doctorOf runs the command on a configuration of Envoy and gives its output and exit status.
func doctorOf(t *testing.T, config string, args ...string) (string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, nil, append([]string{"doctor", "--envoy", file}, args...)...)
	if err != nil {
		out += err.Error()
		return out, exitStatus(err)
	}
	return out, 0
}

// TestDoctor: 0 is clean, 1 are findings, 2 is that it could not look.
func TestDoctor(t *testing.T) {
	t.Parallel()
	shipped := string(envoy.Shipped())
	open := strings.Replace(shipped, "failure_mode_allow: false", "failure_mode_allow: true", 1)
	for _, test := range []struct {
		name, config string
		args         []string
		status       int
		says         []string
	}{
		{"clean", shipped, nil, 0, []string{"Nothing was found.", "login (path /login)"}},
		{"fail-open", open, nil, 1, []string{"D15  failure_mode_allow is true", "envoy.yaml:", "why", "        failure_mode_allow: false", "1 finding (exit status 1)"}},
		{"accepted", open, []string{"--accept", "D15"}, 0, []string{"D15 (accepted)"}},
		{"another accepted", open, []string{"--accept", "D5"}, 1, []string{"D15  "}},
		{"no such probe", open, []string{"--accept", "D99"}, 2, []string{"D1 to D20", "exit status 2"}},
		{"no such cluster", shipped, []string{"--cluster", "x"}, 2, []string{"sessiongate_authz"}},
		{"no Envoy", "a: b", nil, 2, []string{"static_resources"}},
		{"routes elsewhere", "dynamic_resources: { lds_config: { ads: {} } }", nil, 2, []string{"Not looked at:", "control plane"}},
		{"another auth path", shipped, []string{"--config", write(t, "paths: { auth: /own, refresh: /own/refresh, signout: /own/out }")}, 1, []string{"D7  ", "path_separated_prefix: /own"}},
		{"a name that steers a terminal", strings.ReplaceAll(open, "name: login", `name: "log\u001b[2Jin"`), nil, 1, []string{"log?[2Jin"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, status := doctorOf(t, test.config, test.args...)
			if status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			for _, want := range test.says {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q", want)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	out, err := run(t, nil, "doctor", "--json", "--envoy", write(t, strings.Replace(string(envoy.Shipped()), "failure_mode_allow: false", "failure_mode_allow: true", 1)))
	var report struct {
		doctor.Report

		Source string
	}
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil || exitStatus(err) != 1 {
		t.Fatalf("%v, %v\n%s", err, jsonErr, out)
	}
	if len(report.Findings) != 1 || report.Findings[0].Probe != "D15" || report.Check != "sessiongate_authz" || report.Source == "" {
		t.Errorf("report %+v", report)
	}
	out, err = run(t, nil, "doctor", "--json", "--envoy", write(t, string(envoy.Shipped())))
	if err != nil || !strings.Contains(out, `"findings": []`) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDoctorAsksEnvoy: an address without a path is that of the admin interface.
func TestDoctorAsksEnvoy(t *testing.T) {
	t.Parallel()
	admin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/config_dump?include_eds" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(`{"configs": []}`))
	})
	server := httptest.NewServer(admin)
	defer server.Close()
	dir, err := os.MkdirTemp("", "doctor-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", dir+"/admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	private := &httptest.Server{Listener: listener, Config: &http.Server{Handler: admin, ReadHeaderTimeout: time.Minute}}
	private.Start()
	defer private.Close()
	for address, says := range map[string]string{
		server.URL: "it has no listener", "unix:" + dir + "/admin.sock": "it has no listener", server.URL + "/stats": "404",
		"http://127.0.0.1:1": "refused", "unix:" + dir + "/none": "no such file",
	} {
		out, err := run(t, nil, "doctor", "--envoy", address)
		if err == nil || !strings.Contains(err.Error(), says) || exitStatus(err) != 2 {
			t.Errorf("%s: %v\n%s", address, err, out)
		}
	}
	if _, err := run(t, nil, "doctor"); exitStatus(err) != 2 {
		t.Errorf("nothing to look at: %v", err)
	}
}

// TestDoctorPage: docs/doctor.md has each probe, with the words of the code.
func TestDoctorPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range doctor.Probes() {
		shows := "outside"
		if p.Configuration {
			shows = "configuration"
			if p.Outside {
				shows = "both"
			}
		}
		if row := "| " + p.ID + " | " + p.Fault + " | " + shows + " |"; !strings.Contains(string(page), row) {
			t.Errorf("docs/doctor.md has no row %q", row)
		}
	}
}
