package envoy_test

// Apps of testdata, built by the tools that their users have: npm brought these, and nothing of them is in the repository.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// appBuild is how one app is built.
type appBuild struct {
	dir    string
	module string // where the app keeps its copy of docs/web/sessiongate.js
	tool   string // below node_modules
	args   []string
	out    string // the folder that the build makes
}

// build builds the app, unless the folder is there and was made of the very same files, and returns the folder.
func (a appBuild) build(t *testing.T) string {
	t.Helper()
	module, err := os.ReadFile("../docs/web/sessiongate.js")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, a.module), module, 0o600); err != nil {
		t.Fatal(err)
	}
	command, err := a.command(a.args...)
	if err != nil {
		t.Fatal(err)
	}
	of, err := a.sources()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(a.dir, a.out)
	stamp := filepath.Join(out, "built-from")
	if was, err := os.ReadFile(stamp); err == nil && string(was) == of {
		return out
	}
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building %s (does make apps mend it?): %v\n%s", a.dir, err, said)
	}
	if err := os.WriteFile(stamp, []byte(of), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// command runs the app's tool.
func (a appBuild) command(args ...string) (*exec.Cmd, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("the apps need node and npm: install them (Debian: apt-get install nodejs npm), then run make apps")
	}
	tool := filepath.Join("node_modules", a.tool)
	if _, err := os.Stat(filepath.Join(a.dir, tool)); err != nil {
		return nil, fmt.Errorf("the app is not installed: run make apps (npm ci in envoy/%s)", a.dir)
	}
	command := exec.Command(node, append([]string{tool}, args...)...)
	command.Dir = a.dir
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "NODE_ENV=production", "NEXT_TELEMETRY_DISABLED=1"}
	return command, nil
}

// sources is a digest of all that the build depends on.
func (a appBuild) sources() (string, error) {
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, a.args)
	err := filepath.WalkDir(a.dir, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (name == "node_modules" || name == ".next" || strings.HasPrefix(name, "dist")):
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		text, err := os.ReadFile(path)
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// logged is one line of Envoy's access log.
type logged struct {
	Method, Path string
	Status       int
}

// traffic is all that Envoy answered so far, to whichever part of a browser: also to workers, which no tab reports.
func (s *stack) traffic() []logged {
	s.Helper()
	hash := fmt.Sprintf("/static/mark-%d", s.hashes.Add(1))
	if response, err := s.directly().Get(s.proxyURL() + hash); err != nil {
		s.Fatal(err)
	} else {
		_ = response.Body.Close()
	}
	var lines []logged
	s.eventually("Envoy writes its access log", func() bool {
		text, err := os.ReadFile(filepath.Join(s.dir, "envoy.log"))
		if err != nil {
			s.Fatal(err)
		}
		lines = nil
		for line := range strings.Lines(string(text)) {
			var l logged
			if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &l) == nil {
				lines = append(lines, l)
			}
		}
		return slices.ContainsFunc(lines, func(l logged) bool { return l.Path == hash })
	})
	return slices.DeleteFunc(lines, func(l logged) bool { return strings.HasPrefix(l.Path, "/static/mark-") })
}

// refused are the requests so far that were not answered by 200, nor by 304, which stands for it; a sign-in is answered by 204.
func (s *stack) refused() []logged {
	s.Helper()
	return slices.DeleteFunc(s.traffic(), func(l logged) bool {
		return l.Status == 200 || l.Status == 304 || l.Status == 204 && l.Path == "/login"
	})
}

// loginPage asks for nothing.
func loginPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, `<!doctype html><title>Sign in</title><link rel="icon" href="data:,">`)
}

// openSignedIn signs a user in, and opens a page in a new tab.
func (p *profile) openSignedIn(path string) *tab {
	p.Helper()
	p.signedIn("alice")
	return p.open(p.site(path))
}

// complaints are what a tab's console has of errors, and the requests that had no answer. (Next.js breaks off what it loads ahead once it has
// read enough.)
func (t *tab) complaints() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := slices.Clone(t.faults)
	for _, x := range t.exchanges {
		if x.failed != "" && x.status == 0 {
			found = append(found, x.path+": "+x.failed)
		}
	}
	return found
}

// click clicks on an element, as a person does.
func (t *tab) click(selector string) {
	t.Helper()
	eval[any](t, fmt.Sprintf(`void document.querySelector(%q).click()`, selector))
}

// text is what an element says.
func (t *tab) text(selector string) string {
	t.Helper()
	return eval[string](t, fmt.Sprintf(`document.querySelector(%q)?.textContent ?? ""`, selector))
}
