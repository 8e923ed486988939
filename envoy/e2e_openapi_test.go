package envoy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestOpenAPI holds the description of the sessions API against the real process over a real Postgres: Schemathesis makes requests of it, good
// ones and bad ones, and checks every answer.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	packages, err := schemathesis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("testdata/schemathesis/schemathesis.toml")
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, stackOptions{noEnvoy: true, processes: 1})
	url := "http://" + s.processes[0].internal
	run := exec.CommandContext(t.Context(), "python3", "-m", "schemathesis.cli", "--config-file", config, "run", "--no-color", url+"/openapi.json")
	run.Dir = t.TempDir()
	run.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + run.Dir, "PYTHONPATH=" + packages, "PYTHONNOUSERSITE=1", "NO_PROXY=*", "SESSIONS_API_KEY=" + s.apiKey}
	output, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("Schemathesis: %v\n%s", err, output)
	}
	// What was checked: each operation's answers to good and to bad requests.
	log, err := os.ReadFile(s.processes[0].log)
	if err != nil {
		t.Fatal(err)
	}
	statuses := map[string]int{}
	for _, m := range regexp.MustCompile(`"method":"([A-Z]+)","route":"(/v1/[^"]+)","status":(\d+)`).FindAllStringSubmatch(string(log), -1) {
		statuses[m[1]+" "+m[2]+" "+m[3]]++
	}
	for _, operation := range []string{
		"POST /v1/sessions 201", "POST /v1/sessions/verify 200", "POST /v1/sessions/refresh 200", "GET /v1/sessions/{handle} 200",
		"PATCH /v1/sessions/{handle} 200", "DELETE /v1/sessions/{handle} 200", "GET /v1/users/{user_id}/sessions 200", "DELETE /v1/users/{user_id}/sessions 200",
	} {
		for _, answer := range []string{operation, operation[:len(operation)-3] + "400", operation[:len(operation)-3] + "401"} {
			if statuses[answer] == 0 && answer != "GET /v1/sessions/{handle} 400" {
				t.Errorf("no answer %s was checked", answer)
			}
		}
	}
}
