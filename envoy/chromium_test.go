package envoy_test

// A real browser in front of the real Envoy. One Chromium process serves all tests; each test takes a profile (cookies, storage) of its own
// and opens tabs in it.

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// chromium starts the one browser process. It ends with the test program, however that ends.
var chromium = sync.OnceValues(func() (context.Context, error) { return startChromium("") })

// startChromium starts a browser process with preferences (a JSON object), and more flags than the usual ones.
func startChromium(preferences string, more ...chromedp.ExecAllocatorOption) (context.Context, error) {
	file, err := findChromium()
	if err != nil {
		return nil, err
	}
	// Its profile and what it would leave in the temporary folder; the name is short, for a socket is in it.
	dir, err := os.MkdirTemp("", "sge2e-")
	if err != nil {
		return nil, err
	}
	if preferences != "" {
		if err := os.Mkdir(filepath.Join(dir, "Default"), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "Default", "Preferences"), []byte(preferences), 0o600); err != nil {
			return nil, err
		}
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(file),
		chromedp.UserDataDir(dir),
		chromedp.Env("TMPDIR="+dir),
		chromedp.WindowSize(1000, 800),
		// The names of the tests' hosts lead to this machine. Names below localhost do by themselves.
		chromedp.Flag("host-resolver-rules", "MAP *.example.test 127.0.0.1"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("lang", "en"),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium has none for root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	ctx, cancel := chromedp.NewContext(allocator)
	afterAllTests(func() { cancel(); stop(); _ = os.RemoveAll(dir) })
	if err := chromedp.Do(ctx); err != nil {
		return nil, fmt.Errorf("starting %s: %w", file, err)
	}
	return ctx, nil
}

func findChromium() (string, error) {
	names := []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}
	if file := os.Getenv("CHROMIUM"); file != "" {
		names = []string{file}
	}
	for _, name := range names {
		if file, err := exec.LookPath(name); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("no Chromium: none of %s is in PATH; install one (Debian: apt-get install chromium) or name it in CHROMIUM", strings.Join(names, ", "))
}

// needChromium fails a test early, with one line, where there is none.
func needChromium(t *testing.T) {
	t.Helper()
	if _, err := findChromium(); err != nil {
		t.Fatal(err)
	}
}

// profile is a browser with an empty jar.
type profile struct {
	*stack
	*testing.T // the test that the profile lives for

	ctx context.Context // chromedp's handle of a browser
}

func (s *stack) newProfile() *profile {
	s.Helper()
	return s.newProfileFor(s.T)
}

// newProfileFor gives a subtest a profile that ends with it.
func (s *stack) newProfileFor(t *testing.T) *profile {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	return s.newProfileIn(browser, t)
}

// newProfileIn gives a test a profile of a browser.
func (s *stack) newProfileIn(browser context.Context, t *testing.T) *profile {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return &profile{s, t, ctx}
}

// site is the address of a path at Envoy, as the browser knows it: below localhost, where Chromium takes plain HTTP for a secure context.
func (s *stack) site(path string) string { return s.siteAt(cmp.Or(s.host, "app.localhost"), path) }

func (s *stack) siteAt(name, path string) string {
	s.Helper()
	u, err := url.Parse(s.proxy.URL("ingress"))
	if err != nil {
		s.Fatal(err)
	}
	return cmp.Or(s.scheme, "http") + "://" + name + ":" + u.Port() + path
}

// proxyURL is where a program that is no browser finds Envoy.
func (s *stack) proxyURL() string {
	return strings.Replace(s.proxy.URL("ingress"), "http://", cmp.Or(s.scheme, "http")+"://", 1)
}

// directly is direct for Envoy, whatever certificate it has: the browser judges it.
func (s *stack) directly() *http.Client {
	if s.scheme != "https" {
		return direct
	}
	return &http.Client{CheckRedirect: direct.CheckRedirect, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

// tab is one tab of a profile, and what happened in it.
type tab struct {
	*profile

	ctx context.Context // chromedp's handle of a tab

	mu        sync.Mutex
	exchanges []*exchange
	byID      map[network.RequestID]*exchange
	faults    []string
}

// exchange is one request of a tab, as the browser tells of it. Redirects are exchanges of their own.
type exchange struct {
	method, path, kind string // kind as in Chromium's network panel: Document, Fetch, XHR, Preflight, ...
	requestHeaders     map[string]string
	status             int // 0: no answer yet, or none that the page may see
	headers            map[string]string
	failed             string
}

// newTab opens an empty tab.
func (p *profile) newTab() *tab {
	p.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	p.Cleanup(cancel)
	t := &tab{profile: p, ctx: ctx, byID: map[network.RequestID]*exchange{}}
	if err := chromedp.Listen(ctx, t.listen); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if p.Failed() {
			p.Logf("--- a tab\n%s", t)
		}
	})
	return t
}

// frame attaches to a frame that has a process of its own, by a part of its address.
func (p *profile) frame(address string) *tab {
	p.Helper()
	var id target.ID
	p.eventually("a frame of "+address, func() bool {
		targets, err := chromedp.Targets(p.ctx)
		if err != nil {
			p.Fatal(err)
		}
		for _, info := range targets {
			if info.Type == "iframe" && strings.Contains(info.URL, address) {
				id = info.TargetID
			}
		}
		return id != ""
	})
	ctx, cancel := chromedp.NewContext(p.ctx, chromedp.WithTargetID(id))
	p.Cleanup(cancel)
	return &tab{profile: p, ctx: ctx}
}

// open opens a tab and navigates it.
func (p *profile) open(address string) *tab {
	p.Helper()
	t := p.newTab()
	t.goTo(address)
	return t
}

// listen notes what happens. It runs in chromedp's own loop.
func (t *tab) listen(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.RedirectResponse != nil && t.byID[e.RequestID] != nil {
			t.byID[e.RequestID].answered(e.RedirectResponse)
		}
		x := &exchange{method: e.Request.Method, path: pathOf(e.Request.URL), kind: string(e.Type), requestHeaders: texts(e.Request.Headers)}
		t.exchanges = append(t.exchanges, x)
		t.byID[e.RequestID] = x
	case *network.EventResponseReceived:
		if x := t.byID[e.RequestID]; x != nil {
			x.answered(e.Response)
		}
	case *network.EventLoadingFailed:
		if x := t.byID[e.RequestID]; x != nil {
			x.failed = e.ErrorText
		}
	case *runtime.EventExceptionThrown:
		t.faults = append(t.faults, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			t.faults = append(t.faults, fmt.Sprintf("console.error: %s", e.Args[0].Value))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			t.faults = append(t.faults, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

func (x *exchange) answered(r *network.Response) {
	x.status, x.headers = int(r.Status), texts(r.Headers)
}

func texts(headers network.Headers) map[string]string {
	m := make(map[string]string, len(headers))
	for name, value := range headers {
		m[strings.ToLower(name)] = fmt.Sprint(value)
	}
	return m
}

// pathOf is an address without its origin: path, query and fragment.
func pathOf(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if i := strings.IndexByte(rest, '/'); ok && i >= 0 {
		return rest[i:]
	}
	return address
}

// String is what happened, for the log of a test that failed. It shows no header: they hold tokens.
func (t *tab) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, x := range t.exchanges {
		fmt.Fprintf(&b, "%s %s (%s): %d %s\n", x.method, x.path, x.kind, x.status, x.failed)
	}
	for _, fault := range t.faults {
		fmt.Fprintln(&b, fault)
	}
	return b.String()
}

// seen are the exchanges so far for which which holds.
func (t *tab) seen(which func(*exchange) bool) []exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []exchange
	for _, x := range t.exchanges {
		if which(x) {
			found = append(found, *x)
		}
	}
	return found
}

// sent counts the requests so far of a method for a path, query excluded.
func (t *tab) sent(method, path string) int {
	return len(t.seen(func(x *exchange) bool {
		p, _, _ := strings.Cut(x.path, "?")
		return x.method == method && p == path && x.kind != "Preflight"
	}))
}

// refreshes counts the refreshes so far, over all tabs that are given. One that the browser was sent to prove first is one.
func refreshes(tabs ...*tab) int {
	n := 0
	for _, t := range tabs {
		n += t.sent("POST", refreshPath) - len(t.seen(func(x *exchange) bool { return x.path == refreshPath+"?bound=1" }))
	}
	return n
}

// mishaps are the errors on the console so far. What the browser says itself of an answer from 400 on is none: the tests look at the answers.
func (t *tab) mishaps() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.faults), func(fault string) bool {
		return strings.Contains(fault, "the server responded with a status of")
	})
}

// goTo navigates, and returns when the page has loaded. A page that goes on by itself may then still be under way.
func (t *tab) goTo(address string) {
	t.Helper()
	if strings.HasPrefix(address, "/") {
		address = t.site(address)
	}
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}

// await waits until a script's expression is true, through whatever navigations come before.
func (t *tab) await(expression string) {
	t.Helper()
	t.eventually(expression, func() bool {
		ctx, cancel := context.WithTimeout(t.ctx, patience)
		defer cancel()
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		return err == nil && ok // an error: a navigation took the page away
	})
}

// awaitPath waits until the tab has loaded an address: path, query and fragment.
func (t *tab) awaitPath(path string) {
	t.Helper()
	t.await(fmt.Sprintf(`location.pathname + location.search + location.hash === %q && document.readyState === "complete"`, path))
}

// addFrame puts a frame at the end of the page, and returns when it has loaded.
func (t *tab) addFrame(address string) {
	t.Helper()
	eval[int](t, fmt.Sprintf(`new Promise((loaded) => document.body.append(Object.assign(document.createElement("iframe"), { src: %s, onload: () => loaded(0) })))`, quote(address)))
}

// eval runs a script's expression, waits for it if it is a promise, and returns what it gives.
func eval[T any](t *tab, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		if thrown, ok := errors.AsType[*chromedp.ExceptionError](err); ok {
			t.Fatalf("%s: %s", expression, thrown.Error())
		}
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// quote is text as a script's string.
func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// signedIn opens a tab and signs a user in, as a page's script does.
func (p *profile) signedIn(user string) *tab {
	p.Helper()
	return p.signedInAt(cmp.Or(p.host, "app.localhost"), user)
}

// signedInAt is signedIn at another host.
func (p *profile) signedInAt(name, user string) *tab {
	p.Helper()
	t := p.open(p.siteAt(name, "/login"))
	if status := eval[int](t, fmt.Sprintf(`fetch("/login", { method: "POST", body: %s }).then((r) => r.status)`, quote(user))); status != 204 {
		p.Fatalf("sign-in: %d", status)
	}
	return t
}
