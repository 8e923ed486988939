package envoy_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sessiongate/sessiongate/internal/process"
)

var nextjs = appBuild{dir: "testdata/nextjs", module: "sessiongate.js", tool: "next/dist/bin/next", args: []string{"build"}, out: ".next"}

// startNextjs runs the built app of testdata/nextjs behind the stack's Envoy: what is neither the sign-in nor the API is its page. The server
// of its pages calls the API inside, and once by Envoy.
func (s *stack) startNextjs() {
	s.Helper()
	nextjs.build(s.T)
	command, err := nextjs.command("start", "--hostname", "127.0.0.1", "--port", "0")
	if err != nil {
		s.Fatal(err)
	}
	command.Env = append(command.Env, "API_URL=http://"+s.app.address, "PUBLIC_URL="+s.proxy.URL("ingress"))
	address := s.launchServer(command, regexp.MustCompile(`Local: +(http://\S+)`))
	pages := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(address)
			r.Out.Host = r.In.Host
		},
		// Node waits at its end for a connection on which nothing was ever asked; a pool has such.
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	s.app.pages.HandleFunc("GET /login", loginPage)
	s.app.pages.HandleFunc("/api/", s.app.echo)
	s.app.pages.Handle("/", pages)
}

// launchServer starts a server that says where it listens, and ends it with the test.
func (s *stack) launchServer(command *exec.Cmd, says *regexp.Regexp) *url.URL {
	s.Helper()
	output, said := io.Pipe()
	command.Stdout, command.Stderr = said, s.logFile("server-errors")
	listening := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if found := says.FindStringSubmatch(lines.Text()); found != nil {
				listening <- found[1]
			}
		}
	}()
	server, err := process.Start(command, syscall.SIGKILL)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		_ = server.Signal(syscall.SIGTERM) // fails where the server has ended, which is no fault of the test
		select {
		case <-server.Exited():
		case <-time.After(patience):
			server.Kill()
			s.Errorf("%s did not end after SIGTERM", command)
		}
		_ = said.Close()
	})
	select {
	case at := <-listening:
		address, err := url.Parse(at)
		if err != nil {
			s.Fatal(err)
		}
		return address
	case <-server.Exited():
		s.Fatalf("%s ended: %v", command, server.Err())
	case <-time.After(patience):
		s.Fatalf("%s does not say where it listens", command)
	}
	return nil
}

// openNextjs opens a page, waits until it is alive, and gives it a state.
func (p *profile) openNextjs(path string) *tab {
	p.Helper()
	t := p.openSignedIn(path)
	t.await(`Object.keys(document.querySelector("#count") ?? {}).some((key) => key.startsWith("__reactProps"))`)
	for range 3 {
		t.click("#count")
	}
	t.await(`document.querySelector("#count").textContent === "3"`)
	return t
}

// follow clicks on a link of the navigation, and waits until its page is there.
func (t *tab) follow(name string) {
	t.Helper()
	t.click(`nav a[href="/` + name + `"]`)
	t.await(`location.pathname === "/` + name + `" && document.querySelector("#` + name + `")`)
}

// kept fails the test where the page has lost its state, or was loaded again.
func (t *tab) kept() {
	t.Helper()
	if count, n := t.text("#count"), t.documents(); count != "3" || n != 1 {
		t.Errorf("the page's state is %q, want 3; %d pages were loaded, want 1", count, n)
	}
}

// TestNextjsPage: what docs/frontends/nextjs.md shows is what the app has.
func TestNextjsPage(t *testing.T) {
	var app strings.Builder
	for _, file := range []string{"instrumentation-client.js", "api.js"} {
		text, err := os.ReadFile(filepath.Join(nextjs.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		app.Write(text)
	}
	shown := documentedScript.FindAllStringSubmatch(document(t, "frontends/nextjs.md"), -1)
	if len(shown) != 3 {
		t.Errorf("the page shows %d scripts, want 3", len(shown))
	}
	for _, script := range shown {
		if !strings.Contains(app.String(), script[1]) {
			t.Errorf("the app has not what the page shows:\n%s", script[1])
		}
	}
}

// TestNextjs runs an app of Next.js, all of it behind the shipped default route.
func TestNextjs(t *testing.T) {
	needChromium(t)
	s := newStack(t, stackOptions{settings: []string{followsFast}})
	s.startNextjs()
	tab := s.newProfile().openNextjs("/")
	tab.eventually("Next.js loads pages ahead", func() bool {
		return len(tab.seen(func(x *exchange) bool { return strings.Contains(x.path, "?_rsc=") && x.status == 200 })) > 0
	})
	for _, name := range []string{"notes", "about", "looped", "notes"} {
		tab.follow(name)
		tab.kept()
	}
	if user := tab.text("#notes"); user != "alice" {
		t.Errorf("the page's server finds %q at the API", user)
	}
	tab.click("#call")
	tab.await(`document.querySelector("#called").textContent === "200 alice"`)
	tab.click("#save")
	tab.await(`document.querySelector("#saved").textContent === "POST alice"`)
	tab.click("#show")
	tab.await(`document.querySelector("#chart")`)
	tab.await(`document.fonts.status === "loaded"`)
	if refused, complaints := s.refused(), tab.complaints(); len(refused) > 0 || len(complaints) > 0 {
		t.Errorf("not answered by 200: %v; on the console: %q", refused, complaints)
	}
	traffic := s.traffic()
	for _, kind := range []string{".js", ".css", ".woff2"} {
		if !slices.ContainsFunc(traffic, func(l logged) bool {
			return strings.HasPrefix(l.Path, "/_next/static/") && strings.HasSuffix(l.Path, kind)
		}) {
			t.Errorf("the page did not load a %s", kind)
		}
	}

	t.Run("a navigation of the client after expiry", func(t *testing.T) {
		tab.follow("about")
		before := refreshes(tab)
		s.advance(accessLife)
		tab.follow("notes")
		tab.kept()
		if n := refreshes(tab) - before; n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
	})
	t.Run("a call after expiry", func(*testing.T) {
		s.advance(accessLife)
		tab.click("#call")
		tab.await(`document.querySelector("#called").textContent === "200 alice"`)
		tab.kept()
	})
	t.Run("a server action after expiry", func(*testing.T) {
		s.advance(accessLife)
		tab.click("#save")
		tab.await(`document.querySelector("#saved").textContent === "POST alice"`)
		tab.kept()
	})
	t.Run("a navigation after expiry", func(*testing.T) {
		s.advance(accessLife)
		tab.goTo("/notes")
		tab.await(`document.querySelector("#notes")?.textContent === "alice"`)
	})
	if mishaps := tab.mishaps(); len(mishaps) > 0 {
		t.Errorf("on the console: %q", mishaps)
	}
	t.Run("a session that has ended", func(t *testing.T) {
		if status, _ := s.processes[0].api(http.MethodDelete, "/v1/users/alice/sessions", nil, nil); status != http.StatusOK {
			t.Fatal(status)
		}
		s.advance(accessLife)
		eval[any](tab, `void document.querySelector('nav a[href="/looped"]')?.click()`) // if loading ahead has not told already
		tab.awaitPath("/login")
	})
}

// TestNextjsOpenFiles: with an open route for the files of the build, a part of the page that is loaded late is there, whatever has become of
// the session.
func TestNextjsOpenFiles(t *testing.T) {
	needChromium(t)
	s := newStack(t, stackOptions{settings: []string{followsFast}, edit: editRoutes(func(v *routev3.VirtualHost) error {
		if err := addRoute(v, "default", "/_next/static/", nil); err != nil {
			return err
		}
		unchecked, err := anypb.New(&routev3.FilterConfig{Disabled: true})
		v.Routes[0].TypedPerFilterConfig["envoy.filters.http.ext_authz"] = unchecked
		return err
	})})
	s.startNextjs()
	tab := s.newProfile().openNextjs("/notes")
	if _, err := chromedp.Call(tab.ctx, network.ClearBrowserCookies, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	tab.click("#show")
	tab.await(`document.querySelector("#chart")`)
	tab.kept()
}
