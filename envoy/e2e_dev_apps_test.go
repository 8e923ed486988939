package envoy_test

// sessiongate dev in front of apps as their developers run them, in Chromium: Vite's development server and Flask's.

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/sessiongate/sessiongate/internal/process"
)

// apiRoutes is what a page's scripts need.
const apiRoutes = "SESSIONGATE_ROUTES=[{path_prefix: /api, policy: {on_unauthorised: auto}}]"

// runApp runs an app until the test ends, and returns when it listens.
func (s *stack) runApp(command *exec.Cmd, address string) {
	s.Helper()
	log := s.logFile("app")
	command.Stdout, command.Stderr = log, log
	app, err := process.Start(command, syscall.SIGKILL)
	_ = log.Close()
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(app.Kill)
	s.eventually("the app listens", func() bool {
		select {
		case <-app.Exited():
			s.Fatalf("the app ended: %v", app.Err())
		default:
		}
		conn, err := new(net.Dialer).DialContext(s.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// newDevStack is for an app that is no part of these tests' program.
func newDevStack(t *testing.T) *stack {
	t.Helper()
	needChromium(t)
	s := &stack{T: t, dir: t.TempDir()}
	t.Cleanup(s.checkLogs)
	return s
}

// viteServer runs Vite's development server on a copy of testdata/vite, whose folder it returns.
func (s *stack) viteServer(address string) string {
	s.Helper()
	tool, err := appBuild{dir: "testdata/vite", tool: "vite/bin/vite.js"}.command()
	if err != nil {
		s.Fatal(err)
	}
	dir := filepath.Join(s.dir, "vite")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.Fatal(err)
	}
	for _, part := range []string{"index.html", "public", "src"} {
		if err := copyAll(filepath.Join("testdata/vite", part), filepath.Join(dir, part)); err != nil {
			s.Fatal(err)
		}
	}
	if err := copyAll("../docs/web/sessiongate.js", filepath.Join(dir, "src/sessiongate.js")); err != nil {
		s.Fatal(err)
	}
	packages, err := filepath.Abs("testdata/vite/node_modules")
	if err != nil {
		s.Fatal(err)
	}
	s.replaceIn(filepath.Join(dir, "src/call.js"), `"/login"`, `"/dev/login"`)
	s.replaceIn(filepath.Join(dir, "src/notes.js"), `saw.Header[`, `saw.Header?.[`) // a 401 has none, and the page is about to go
	config := `export default {
		cacheDir: ".vite", clearScreen: false, server: { fs: { strict: false } }, // node_modules is elsewhere
		plugins: [{ name: "api", configureServer: ({ middlewares }) => void middlewares.use("/api/notes", (request, response) =>
			response.end(JSON.stringify({ Header: { "X-Session-User-Id": request.headers["x-session-user-id"] } }))) }],
	};`
	if err := os.WriteFile(filepath.Join(dir, "vite.config.mjs"), []byte(config), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Symlink(packages, filepath.Join(dir, "node_modules")); err != nil {
		s.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(address)
	command := exec.Command(tool.Path, "node_modules/vite/bin/vite.js", "--host", host, "--port", port, "--strictPort")
	command.Dir = dir
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	s.runApp(command, address)
	return dir
}

func copyAll(from, to string) error {
	if info, err := os.Stat(from); err != nil || info.IsDir() {
		if err != nil {
			return err
		}
		return os.CopyFS(to, os.DirFS(from))
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// replaceIn changes a file as an editor does.
func (s *stack) replaceIn(file, before, after string) {
	s.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		s.Fatal(err)
	}
	if !strings.Contains(string(text), before) {
		s.Fatalf("%s has no %s", file, before)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), before, after)), 0o600); err != nil {
		s.Fatal(err)
	}
}

// TestDevVite: a page of Vite's development server keeps its session, and its hot reload comes through dev.
func TestDevVite(t *testing.T) {
	s := newDevStack(t)
	address := freeAddress(t)
	dir := s.viteServer(address)
	d := s.startDev([]string{"--app", "http://" + address}, apiRoutes)

	tab := s.newProfile().newTab()
	var mu sync.Mutex
	var sockets []string
	if err := chromedp.Listen(tab.ctx, func(event any) {
		if e, ok := event.(*network.EventWebSocketCreated); ok {
			mu.Lock()
			defer mu.Unlock()
			sockets = append(sockets, e.URL)
		}
	}); err != nil {
		t.Fatal(err)
	}
	d.signInByForm(tab)
	tab.await(`document.body.dataset.worker === "4" && document.body.dataset.serviceWorker && document.body.dataset.fonts === "1"`)
	again := func() {
		tab.click(`nav a[href="/"]`)
		tab.await(`document.querySelector("main").dataset.view === "/"`)
		tab.click(`nav a[href="/notes"]`)
	}
	again() // a module that is asked for after an expiry is another matter: TestViteChunksAfterExpiry
	d.shows(tab)

	for range 3 {
		tab.click("#count")
	}
	s.replaceIn(filepath.Join(dir, "src/notes.css"), "darkgreen", "rgb(1, 2, 3)")
	tab.await(`getComputedStyle(document.querySelector(".notes")).color === "rgb(1, 2, 3)"`)
	if count := tab.text("#count"); count != "3" {
		t.Errorf("the page's state is %q after a change of a style, want 3", count)
	}
	mu.Lock()
	if len(sockets) == 0 {
		t.Error("the page opened no WebSocket")
	}
	for _, socket := range sockets {
		if !strings.HasPrefix(socket, strings.Replace(d.url, "http", "ws", 1)+"/") {
			t.Errorf("a WebSocket goes to %s, past %s", socket, d.url)
		}
	}
	mu.Unlock()
	d.testInBrowser(tab, again)
}

// TestDevFlask: a page of Flask's development server keeps its session, behind both proxies.
func TestDevFlask(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--envoy"}} {
		t.Run(strings.Join(append([]string{"dev"}, flags...), " "), func(t *testing.T) {
			s := newDevStack(t)
			packages, err := pythonPackages(t.Context(), "flask", "testdata/flask/requirements.txt")
			if err != nil {
				t.Fatal(err)
			}
			address := freeAddress(t)
			_, port, _ := net.SplitHostPort(address)
			command := exec.Command("python3", "testdata/flask/app.py", port, "../docs/web/sessiongate.js")
			command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PYTHONPATH=" + packages}
			s.runApp(command, address)
			d := s.startDev(append([]string{"--app", "http://localhost:" + port}, flags...), apiRoutes)
			tab := s.newProfile().newTab()
			d.signInByForm(tab)
			d.testInBrowser(tab, func() { tab.click("#again") })
		})
	}
}

// signInByForm opens a page, is led to the form of dev, and back.
func (d *devProcess) signInByForm(t *tab) {
	t.Helper()
	t.goTo(d.url + "/notes")
	d.fillIn(t)
	t.awaitPath("/notes")
	d.shows(t)
}

func (d *devProcess) fillIn(t *tab) {
	t.Helper()
	t.await(`location.pathname === "/dev/login" && document.querySelector("input[name=user]")`)
	eval[any](t, `void (document.querySelector("input[name=user]").value = "alice")`)
	t.click("button")
	t.await(`location.pathname !== "/dev/login"`)
}

// shows waits until the page shows what its script got.
func (d *devProcess) shows(t *tab) {
	t.Helper()
	t.await(`document.querySelector("main")?.dataset.view === "/notes"`)
	if notes := t.text(".notes"); notes != "200 alice" {
		d.Errorf("the page says %q, want that it is alice's", notes)
	}
}

// press presses a button of /dev/ in a tab of its own, and holds its answer against a word.
func (d *devProcess) press(t *tab, form, says string) {
	t.Helper()
	t.goTo(d.url + "/dev/")
	t.click(fmt.Sprintf(`form[action="/dev/%s"] button`, form))
	t.await(fmt.Sprintf(`document.body.textContent.includes(%q)`, says))
}

// testInBrowser plays what can go wrong while a page is open. again has the page call its API again.
func (d *devProcess) testInBrowser(t *tab, again func()) {
	t.Helper()
	buttons := t.newTab()
	call := func() {
		t.Helper()
		eval[any](t, `void delete document.querySelector("main").dataset.view`)
		again()
	}
	refresh := func() int {
		t.Helper()
		return eval[int](t, fmt.Sprintf(`fetch(%q, { method: "POST" }).then((answer) => answer.status)`, refreshPath))
	}

	d.press(buttons, "expire", "Every access token has expired.")
	before := refreshes(t)
	call()
	d.shows(t)
	if n := refreshes(t) - before; n != 1 {
		d.Errorf("a call after the expiry: %d refreshes, want 1", n)
	}
	d.press(buttons, "expire", "Every access token has expired.")
	t.goTo(d.url + "/notes")
	d.shows(t)

	d.press(buttons, "outage?on=true", "The store is away.")
	if status := refresh(); status != 503 {
		d.Errorf("a refresh in an outage: %d, want 503", status)
	}
	call()
	d.shows(t)
	t.goTo(d.url + "/notes")
	d.shows(t)
	d.press(buttons, "outage?on=false", "The store is back.")
	if status := refresh(); status != 200 {
		d.Errorf("a refresh after the outage: %d, want 200", status)
	}
	call()
	d.shows(t)

	d.press(buttons, "theft", "A thief reused a refresh token of the session that began last. It has ended, for both.")
	call()
	d.fillIn(t) // the page's script was told that its user is signed out
	t.goTo(d.url + "/notes")
	d.shows(t)

	if status := eval[int](t, `fetch("/auth/signout", { method: "POST" }).then((answer) => answer.status)`); status != 200 {
		d.Errorf("the sign-out: %d", status)
	}
	t.goTo(d.url + "/notes")
	t.awaitPath("/dev/login?return_to=" + url.QueryEscape("/notes"))
	for _, tab := range []*tab{t, buttons} {
		if mishaps := tab.mishaps(); len(mishaps) > 0 {
			d.Errorf("on the console: %q", mishaps)
		}
	}
}
