package doctor_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/envoy/guides/standalone"
	"github.com/sessiongate/sessiongate/internal/authority"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

var addresses = doctor.Addresses{Authz: "10.0.0.7:9001", Public: "10.0.0.7:9002"}

func patched(t *testing.T, text string) string {
	t.Helper()
	out, err := doctor.Patch([]byte(text), doctor.Options{}, addresses)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// bootstraps are files that are built in different ways.
func bootstraps(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"guide.yaml": standalone.Block("existing")}
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := authority.New("ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("app.example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	if err := errors.Join(os.WriteFile(cert, pair.Cert, 0o600), os.WriteFile(key, pair.Key, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = strings.NewReplacer("CERT", cert, "KEY", key).Replace(string(text))
	}
	if len(all) < 5 {
		t.Fatalf("only %d files", len(all))
	}
	return all
}

// TestPatch: each file is valid before and after, clean in the end, and has all that it had.
func TestPatch(t *testing.T) {
	t.Parallel()
	binary, err := envoyrun.Binary(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for name, before := range bootstraps(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := envoyrun.Validate(t.Context(), binary, []byte(before)); err != nil {
				t.Fatalf("before: %v", err)
			}
			if report := examine(t, before); len(report.Findings) == 0 {
				t.Error("there is nothing to patch")
			}
			after := patched(t, before)
			if err := envoyrun.Validate(t.Context(), binary, []byte(after)); err != nil {
				t.Errorf("after: %v", err)
			}
			if report := examine(t, after); len(report.Findings) > 0 || len(report.Skipped) > 0 || report.Check != "sessiongate_authz" {
				t.Errorf("check %q, found:\n%s", report.Check, show(report.Findings))
			}
			if again := patched(t, after); again != after {
				t.Error("a second time changes it again")
			}
			if lost := missing(before, after); len(lost) > 0 {
				t.Errorf("changed: %q", lost)
			}
			lines := strings.Split(before, "\n")
			for i, line := range lines[:len(lines)-1] {
				isComment := func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "#") }
				if isComment(line) && !isComment(lines[i+1]) && !strings.Contains(after, line+"\n"+lines[i+1]+"\n") {
					t.Errorf("the comment %q is no longer before %q", strings.TrimSpace(line), strings.TrimSpace(lines[i+1]))
				}
			}
			if !strings.Contains(after, "10.0.0.7") {
				t.Error("the addresses are not there")
			}
			if t.Failed() {
				t.Log(after)
			}
		})
	}
}

// words are the words of a file, those of comments as well, and its brackets.
var words = regexp.MustCompile(`[^\s\[\]{},]+|[\[\]{},]`)

// replaced are the values in testdata that are weaker than they may be.
var replaced = regexp.MustCompile(`(failure_mode_allow|use_remote_address|headers_with_underscores_action|"normalizePath"|timeout): (true|false|ALLOW|0\.2s)`)

// missing are the words of a file that are not in another one in their order.
func missing(before, after string) (lost []string) {
	rest := words.FindAllString(after, -1)
	for _, word := range words.FindAllString(replaced.ReplaceAllString(before, "$1:"), -1) {
		if i := slices.Index(rest, word); i >= 0 {
			rest = rest[i+1:]
		} else {
			lost = append(lost, word)
		}
	}
	return lost
}

// TestPatchOfShippedFile: it lacks nothing.
func TestPatchOfShippedFile(t *testing.T) {
	t.Parallel()
	if after := patched(t, string(envoy.Shipped())); after != string(envoy.Shipped()) {
		t.Error("it is changed")
	}
}

// TestNotPatched: what cannot be patched is said, and not half patched.
func TestNotPatched(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a config dump":     `{"configs": [{"@type": "x/envoy.admin.v3.ListenersConfigDump", "static_listeners": [{"listener": {"name": "a"}}]}]}`,
		"a control plane's": "dynamic_resources: { lds_config: { ads: {} } }",
		"no clusters":       strings.Replace(standalone.Block("existing"), "  clusters:\n", "  secrets: []\nx:\n", 1),
		"CR alone":          strings.Replace(standalone.Block("existing"), "\n", "\n# a\rb\n", 1),
		"CR at the end":     standalone.Block("existing") + "\r",
		"NEL":               strings.Replace(standalone.Block("existing"), "\n", "\n# a\u0085b\n", 1),
		"LS":                strings.Replace(standalone.Block("existing"), "\n", "\n# a\u2028b\n", 1),
		"routes elsewhere":  strings.Replace(standalone.Block("existing"), "                route_config:\n", "                rds: { route_config_name: x }\n                x:\n", 1),
	} {
		if out, err := doctor.Patch([]byte(text), doctor.Options{}, doctor.Addresses{}); !errors.Is(err, doctor.ErrNotPatched) || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if _, err := doctor.Patch([]byte(standalone.Block("existing")), doctor.Options{}, doctor.Addresses{Authz: "nowhere"}); !errors.Is(err, doctor.ErrNotPatched) {
		t.Errorf("an address without a port: %v", err)
	}
}

// FuzzPatch: what it makes of a file is a file that it does not change again.
func FuzzPatch(f *testing.F) {
	f.Add([]byte(standalone.Block("existing")))
	files, _ := filepath.Glob("testdata/*")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		after, err := doctor.Patch(text, doctor.Options{}, addresses)
		if err != nil {
			return
		}
		if again, err := doctor.Patch(after, doctor.Options{}, addresses); err == nil && !bytes.Equal(again, after) {
			t.Errorf("patched\n%s\nand again\n%s", after, again)
		}
	})
}
