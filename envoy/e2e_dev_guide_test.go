package envoy_test

// What README.md and docs/guides/dev.md show of sessiongate dev, run as it stands there. Only the ports are others.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/internal/process"
)

// shownApp is where the pages have the user's app.
const shownApp = "http://localhost:3000"

// throwAway is an app that greets its user.
func throwAway(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "hello, %s", r.Header.Get("X-Session-User-Id"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// blocksBelow are the blocks of a language below a heading of a page.
func blocksBelow(t *testing.T, page, heading, fence string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n"+heading[:strings.Index(heading, " ")+1])
	var blocks []string
	for _, block := range regexp.MustCompile("(?ms)^```"+fence+"\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}

// inSuite runs a test suite of the guide in a folder of its own, with sessiongate in PATH.
func inSuite(t *testing.T, fence, name string, command ...string) {
	t.Helper()
	blocks := blocksBelow(t, "../docs/guides/dev.md", "## In a test suite", fence)
	if len(blocks) != 1 || !strings.Contains(blocks[0], shownApp) {
		t.Fatalf("the guide has %d blocks of %s, want one, with an app at %s", len(blocks), fence, shownApp)
	}
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	tool, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatalf("this test needs %s: %v", command[0], err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(blocks[0], shownApp, throwAway(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	suite := exec.CommandContext(t.Context(), tool, append(command[1:], name)...)
	suite.Dir = dir
	suite.Env = []string{"PATH=" + filepath.Dir(file) + ":" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GORACE=atexit_sleep_ms=0"}
	if said, err := suite.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
}

// TestDevGuide runs the test suites of the guide.
func TestDevGuide(t *testing.T) {
	t.Parallel()
	t.Run("node", func(t *testing.T) { inSuite(t, "js", "session.test.mjs", "node", "--test") })
	t.Run("python", func(t *testing.T) { inSuite(t, "python", "test_session.py", "python3", "-m", "unittest") })
	t.Run("go", func(t *testing.T) {
		blocks := blocksBelow(t, "../docs/guides/dev.md", "## In a test suite", "go")
		if len(blocks) != 1 {
			t.Fatalf("the guide has %d blocks of Go, want one", len(blocks))
		}
		// A module beside ours, with the same versions of all that ours needs.
		root, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		mod, err := os.ReadFile("../go.mod")
		if err != nil {
			t.Fatal(err)
		}
		sums, err := os.ReadFile("../go.sum")
		if err != nil {
			t.Fatal(err)
		}
		const ours = "github.com/sessiongate/sessiongate"
		dir := t.TempDir()
		for name, text := range map[string]string{
			"go.mod":          strings.Replace(string(mod), "module "+ours, "module example.com/myapp", 1) + "\nrequire " + ours + " v0.0.0\nreplace " + ours + " => " + root + "\n",
			"go.sum":          string(sums),
			"myapp.go":        "package myapp\n\nimport \"net/http\"\n\nfunc Handler() http.Handler { return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}) }\n",
			"session_test.go": blocks[0],
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		suite := exec.CommandContext(t.Context(), "go", "test", "-mod=mod", "./...")
		suite.Dir = dir
		suite.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
		if said, err := suite.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	})
}

// TestReadmeDev follows README.md from nothing to the first protected request of an app: two commands, and a browser.
func TestReadmeDev(t *testing.T) {
	t.Parallel()
	blocks := blocksBelow(t, "../README.md", "## In front of your own app", "sh")
	if want := []string{"make build\nbin/sessiongate dev --app " + shownApp + "\n"}; !slices.Equal(blocks, want) {
		t.Fatalf("README.md has the commands %q, want two: %q", blocks, want)
	}
	build, start, _ := strings.Cut(strings.TrimSpace(blocks[0]), "\n")
	dir := t.TempDir()
	// As it stands, but for where the program goes: this folder may have another one.
	command := exec.CommandContext(t.Context(), "sh", "-c", build+` BUILD="CGO_ENABLED=0 go build -trimpath -o `+dir+`/bin/"`)
	command.Dir = ".."
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	s := &stack{T: t, dir: dir}
	usage := exec.CommandContext(t.Context(), "sh", "-c", "bin/sessiongate dev --help")
	usage.Dir = dir
	said, err := usage.Output()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if address := regexp.MustCompile(`Open http://(\S+?): your app`).FindStringSubmatch(string(readme)); address == nil || !strings.Contains(string(said), "("+address[1]+")") {
		t.Errorf("README.md opens %q, which is no default of\n%s", address, said)
	}

	file := filepath.Join(dir, "dev.json")
	dev := exec.Command("sh", "-c", "exec "+strings.Replace(start, shownApp, throwAway(t), 1)+" --listen 127.0.0.1:0 --listen-api 127.0.0.1:0 --address-file "+file)
	dev.Dir = dir
	p := &replica{stack: s, name: "dev", addressFile: file}
	if p.run, err = process.Start(dev, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	at := p.awaitDev()

	b := s.newBrowserAt(at["url"], networkV, nil)
	a := b.send(http.MethodGet, "/orders", navigation)
	login, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusFound || login.Path != "/dev/login" || login.Query().Get("return_to") != "/orders" {
		t.Fatalf("a page without a session: %d to %q, %v", a.status, login, err)
	}
	response, err := direct.PostForm(at["url"]+"/dev/login", url.Values{"user": {"ada"}, "return_to": {login.Query().Get("return_to")}})
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at["url"]+response.Header.Get("Location"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Site", "none")
	request.Header.Set("Sec-Fetch-Mode", "navigate")
	for _, cookie := range response.Cookies() {
		request.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	if response, err = direct.Do(request); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if diff := cmp.Diff("200 hello, ada", fmt.Sprint(response.StatusCode, " ", string(body))); diff != "" || err != nil {
		t.Errorf("the first protected request, %v (-want +got):\n%s", err, diff)
	}
}
