package envoy_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeVerify runs the README's call as it stands there, with the token of a signed-in user, and without a session.
func TestReadmeVerify(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```bash\n(.*?)^```$").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 1 {
		t.Fatalf("README.md has %d blocks of bash, want one", len(blocks))
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("this test needs curl: apt-get install curl")
	}
	s := newStack(t, stackOptions{noEnvoy: true})
	one, two := s.processes[0], s.processes[1]
	c := one.create("ada")
	call := func(access, antiCSRF string) (string, error) {
		shell := exec.CommandContext(t.Context(), "bash", "-c", blocks[0][1])
		shell.Env = []string{
			"PATH=" + os.Getenv("PATH"), "NO_PROXY=*", "SESSIONS_URL=http://" + two.internal, "SESSIONS_API_KEY=" + s.apiKey,
			"ACCESS_TOKEN=" + access, "ANTI_CSRF=" + antiCSRF,
		}
		output, err := shell.Output()
		return string(output), err
	}
	text, err := call(c.Tokens.Access, c.Tokens.AntiCSRF)
	var answer struct {
		Outcome string
		Session struct {
			Handle string
			UserID string `json:"user_id"`
		}
	}
	if err != nil || json.Unmarshal([]byte(text), &answer) != nil || answer.Outcome != "ALLOW" || answer.Session.UserID != "ada" || answer.Session.Handle != c.Session.Handle {
		t.Errorf("%v, outcome %q for %q", err, answer.Outcome, answer.Session.UserID)
	}
	for name, tokens := range map[string][2]string{"no token": {"", ""}, "no anti-CSRF token": {c.Tokens.Access, ""}, "rubbish": {"x", c.Tokens.AntiCSRF}} {
		if text, err := call(tokens[0], tokens[1]); err == nil || strings.Contains(text, "ALLOW") {
			t.Errorf("%s: allowed", name)
		}
	}
	one.api(http.MethodDelete, "/v1/sessions/"+c.Session.Handle, nil, nil)
	s.eventually("the other process denies", func() bool {
		text, err := call(c.Tokens.Access, c.Tokens.AntiCSRF)
		return err != nil && strings.Contains(text, "UNAUTHORISED")
	})
}
