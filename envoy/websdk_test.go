package envoy_test

// The published SuperTokens web SDKs, as npm has them: bundled into one script each, with the axios that a page would use, and served by a
// page of the "existing system". Nothing of them is in the repository.

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

const websdk = "testdata/websdk"

// bundles are the scripts by name.
var bundles = sync.OnceValues(func() (map[string][]byte, error) {
	scripts := map[string][]byte{}
	for _, name := range []string{"websdk-4", "websdk-20"} {
		script, err := bundle("", name+".js")
		if err != nil {
			return nil, err
		}
		scripts[name] = script
	}
	return scripts, nil
})

// bundle makes one script of a module, given as text or as a file's name, and what it imports.
func bundle(module string, args ...string) ([]byte, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("the web SDKs need node and npm: install them (Debian: apt-get install nodejs npm), then run make websdk")
	}
	esbuild := filepath.Join("node_modules", "esbuild", "bin", "esbuild")
	if _, err := os.Stat(filepath.Join(websdk, esbuild)); err != nil {
		return nil, errors.New("the web SDKs are not installed: run make websdk (npm ci in envoy/" + websdk + ")")
	}
	args = append([]string{esbuild, "--bundle", "--format=iife", "--target=es2022", "--log-level=warning", "--define:process=undefined"}, args...)
	command := exec.Command(node, args...)
	command.Dir = websdk
	command.Stdin = strings.NewReader(module)
	var said strings.Builder
	command.Stderr = &said
	script, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("bundling (does make websdk mend it?): %w\n%s", err, said.String())
	}
	return script, nil
}

// sdk is one way to run one of them.
type sdk struct {
	bundle, version string
	by              string // what it intercepts: fetch or axios
}

var sdks = []sdk{
	{"websdk-4", "4.2.0", "fetch"},
	{"websdk-4", "4.2.0", "axios"},
	{"websdk-20", "20.1.6", "fetch"},
	{"websdk-20", "20.1.6", "axios"},
}

func (k sdk) String() string { return k.version + " " + k.by }

// is20 says whether it is of the generation that knows user, payload, sign-out and both transports.
func (k sdk) is20() bool { return k.bundle == "websdk-20" }

// options are the SDK's own, for an API at an origin.
func (k sdk) options(api string) map[string]any {
	if k.is20() {
		return map[string]any{"apiDomain": api, "apiBasePath": "/auth", "sessionExpiredStatusCode": 440}
	}
	return map[string]any{"refreshTokenUrl": api + refreshPath, "sessionExpiredStatusCode": 440}
}

// frontends serves the pages of all SDKs, and their scripts.
func frontends(t *testing.T) http.Handler {
	t.Helper()
	scripts, err := bundles()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for name, script := range scripts {
		mux.HandleFunc("GET /static/"+name+".js", serveScript(script))
		mux.HandleFunc("GET /static/"+name, servePage("/static/"+name+".js"))
	}
	return mux
}

func serveScript(script []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(script)
	}
}

// servePage serves a page that has nothing but a script.
func servePage(script string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,"><script src="%s"></script>`, script)
	}
}

// sdkPage is a tab with a page in it that runs an SDK.
type sdkPage struct {
	*tab
	sdk

	site, api string         // the origins that it is at and that it calls
	more      map[string]any // options of the SDK over the usual ones; nil for its own default
}

// run opens the page of an SDK in a new tab and initialises the SDK.
func (p *profile) run(k sdk, site, api string, more map[string]any) *sdkPage {
	p.Helper()
	g := &sdkPage{p.newTab(), k, site, api, more}
	g.load()
	return g
}

// another opens the page in another tab.
func (g *sdkPage) another() *sdkPage {
	g.Helper()
	return g.run(g.sdk, g.site, g.api, g.more)
}

// subtests run on one tab, each with an empty jar: opening a profile takes longer than most of them.
func (g *sdkPage) subtests(whole *testing.T, tests map[string]func(*testing.T, *sdkPage)) {
	for name, test := range tests {
		whole.Run(name, func(t *testing.T) {
			g.T = t
			defer func() { g.T = whole }()
			if _, err := chromedp.Call(g.ctx, network.ClearBrowserCookies, cdp.Empty{}); err != nil {
				t.Fatal(err)
			}
			eval[any](g.tab, `localStorage.clear()`)
			g.load()
			defer g.cookie("") // for the secrets in it
			test(t, g)
		})
	}
}

// load opens the page, or opens it again.
func (g *sdkPage) load() {
	g.Helper()
	g.goTo(g.site + "/static/" + g.bundle)
	g.start()
}

// start initialises the SDK in the page that is open.
func (g *sdkPage) start() {
	g.Helper()
	options := g.options(g.api)
	maps.Copy(options, g.more)
	maps.DeleteFunc(options, func(_ string, v any) bool { return v == nil })
	if version := eval[string](g.tab, `frontend.version`); version != g.version {
		g.Fatalf("the page runs supertokens-website %s, want %s: run make websdk", version, g.version)
	}
	eval[any](g.tab, fmt.Sprintf(`frontend.init(%q, %s)`, g.by, literal(options)))
}

// literal is a value as a script's literal.
func literal(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// reply is what the page's code gets for a request.
type reply struct {
	Status  int    `json:"status"`
	Body    string `json:"body"`
	Thrown  bool   `json:"thrown"`  // as an exception that is the answer to another request
	Message string `json:"message"` // of an exception that is no answer
}

func (r reply) String() string {
	return fmt.Sprintf("%d (thrown: %t) %s", r.Status, r.Thrown, r.Message) // a body may hold tokens
}

// sending is the expression by which the page's code sends a request.
func (g *sdkPage) sending(method, path string, headers map[string]string, body any) string {
	if headers == nil {
		headers = map[string]string{}
	}
	return fmt.Sprintf(`frontend.send(%q, %q, %q, %s, %s ?? undefined)`, g.by, method, g.api+path, literal(headers), literal(body))
}

func (g *sdkPage) send(method, path string) reply {
	g.Helper()
	return eval[reply](g.tab, g.sending(method, path, nil, nil))
}

const callPath = "/api/call"

// get is an API call.
func (g *sdkPage) get() reply {
	g.Helper()
	return g.send("GET", callPath)
}

// call is an API call that must reach the app as the user's, and returns what the app saw.
func (g *sdkPage) call(user string) seen {
	g.Helper()
	return g.reached(user, g.get())
}

func (g *sdkPage) reached(user string, r reply) seen {
	g.Helper()
	var saw seen
	if r.Status != http.StatusOK || r.Thrown || json.Unmarshal([]byte(r.Body), &saw) != nil {
		g.Fatalf("a call: %s", r)
	}
	if got := saw.Header["X-Session-User-Id"]; !slices.Equal(got, []string{user}) {
		g.Fatalf("the app sees user %q, want %q", got, user)
	}
	return saw
}

// signIn signs a user in by the page's script, and returns the session's handle.
func (g *sdkPage) signIn(user string) string {
	g.Helper()
	if r := eval[reply](g.tab, g.sending("POST", "/login", nil, user)); r.Status != http.StatusNoContent {
		g.Fatalf("sign-in: %s", r)
	}
	handle := g.call(user).Header.Get("X-Session-Handle")
	if g.host == boundHost {
		// The browser registers its key beside what the page does, and proves it before a request of after that.
		g.eventually("the session is bound", func() bool { g.call(user); return g.isBound(handle) })
	}
	return handle
}

// signOut signs out as the SDK does it, or, where it has no word for it, by a request of the page.
func (g *sdkPage) signOut() {
	g.Helper()
	if g.is20() {
		eval[any](g.tab, `frontend.signOut()`)
	} else if r := g.send("POST", "/auth/signout"); r.Status != http.StatusOK {
		g.Fatalf("sign-out: %s", r)
	}
}

// exists asks the SDK whether there is a session.
func (g *sdkPage) exists() bool {
	g.Helper()
	return eval[bool](g.tab, `frontend.exists()`)
}

// events are those that the SDK has told of so far.
func (g *sdkPage) events() []string {
	g.Helper()
	return eval[[]string](g.tab, `frontend.events.map((e) => e.action)`)
}

// refreshed counts the refreshes that doing something takes.
func (g *sdkPage) refreshed(do func()) int {
	g.Helper()
	before := refreshes(g.tab)
	do()
	return refreshes(g.tab) - before
}

// cookie is the value of a cookie that the browser holds for the API or the page.
func (g *sdkPage) cookie(name string) string {
	g.Helper()
	return g.held(name, g.api+refreshPath, g.site+"/")
}

// held is the value of a cookie that the browser would send to one of the addresses.
func (t *tab) held(name string, addresses ...string) string {
	t.Helper()
	jar, err := chromedp.Call(t.ctx, network.GetCookies, network.GetCookiesParams{URLs: addresses})
	if err != nil {
		t.Fatal(err)
	}
	value := ""
	for _, c := range jar.Cookies {
		t.secrets.add(c.Value)
		if c.Name == name {
			value = c.Value
		}
	}
	return value
}

// header is a header of the last request for a path.
func (g *sdkPage) header(path, name string) string {
	sent := g.seen(func(x *exchange) bool { return x.path == path && x.method != http.MethodOptions })
	if len(sent) == 0 {
		return ""
	}
	return sent[len(sent)-1].requestHeaders[name]
}

// block makes the tab's requests for addresses fail, as without a network.
func (g *sdkPage) block(patterns ...string) {
	g.Helper()
	params := network.SetBlockedURLsParams{}
	for _, p := range patterns {
		params.URLPatterns = append(params.URLPatterns, &network.BlockPattern{URLPattern: p, Block: true})
	}
	if _, err := chromedp.Call(g.ctx, network.SetBlockedURLs, params); err != nil {
		g.Fatal(err)
	}
}
