package envoy_test

// Request forgery, with a real browser: pages of other origins make a signed-in user's browser send requests, in every way that there is.
// A request must be seen to reach Envoy, with the user's cookies wherever the browser sends them; and the app must see no one.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/authority"
)

// way is one way in which a page makes a browser send a request.
type way struct {
	name   string // also the end of the request's path
	method string
	script string // sends the request to the address in to
	kind   kind
}

type kind string

const (
	plain       kind = ""
	windows     kind = "opens a window"    // behind which the page that opened it is in the background
	worker      kind = "works in a worker" // where there is no document
	preflighted kind = "asks first"        // whether the other origin wants it
	ahead       kind = "in advance"        // of a navigation that may never be
)

// ways are those of HTML and its scripts. With whatever makes the browser send cookies to another origin, where there is a choice.
var ways = []way{
	{"image", "GET", `put("img", { src: to })`, plain},
	{"image-cors", "GET", `put("img", { crossOrigin: "use-credentials", src: to })`, plain},
	{"picture-in-svg", "GET", `put("div", { innerHTML: '<svg><image href="' + to + '"></image></svg>' })`, plain},
	{"video", "GET", `put("video", { src: to })`, plain},
	{"audio", "GET", `put("audio", { src: to })`, plain},
	{"track", "GET", `put("video", { crossOrigin: "use-credentials", innerHTML: '<track default src="' + to + '">' }).textTracks[0].mode = "showing"`, plain},
	{"mask", "GET", `put("div", { style: 'width: 9px; height: 9px; mask-image: url("' + to + '")' })`, plain},
	{"script", "GET", `put("script", { src: to })`, plain},
	{"script-cors", "GET", `put("script", { crossOrigin: "use-credentials", src: to })`, plain},
	{"module", "GET", `put("script", { type: "module", crossOrigin: "use-credentials", src: to })`, plain},
	{"import", "GET", `import(to)`, plain},
	{"style", "GET", `put("link", { rel: "stylesheet", href: to })`, plain},
	{"style-cors", "GET", `put("link", { rel: "stylesheet", crossOrigin: "use-credentials", href: to })`, plain},
	{"style-import", "GET", `put("style", { textContent: '@import url("' + to + '")' })`, plain},
	{"font", "GET", `new FontFace("f", 'url("' + to + '")').load()`, plain},
	{"preload", "GET", `put("link", { rel: "preload", as: "image", href: to })`, plain},
	{"preload-fetch", "GET", `put("link", { rel: "preload", as: "fetch", crossOrigin: "use-credentials", href: to })`, plain},
	{"modulepreload", "GET", `put("link", { rel: "modulepreload", crossOrigin: "use-credentials", href: to })`, plain},
	{"prefetch", "GET", `put("link", { rel: "prefetch", href: to })`, plain},
	{"prefetch-document", "GET", `put("link", { rel: "prefetch", as: "document", href: to })`, ahead},
	{"prefetch-rule", "GET", `speculate("prefetch", to)`, ahead},
	{"prerender", "GET", `speculate("prerender", to)`, ahead},
	{"fetch", "GET", `fetch(to, { credentials: "include" })`, worker},
	{"fetch-no-cors", "GET", `fetch(to, { mode: "no-cors", credentials: "include" })`, worker},
	{"fetch-like-a-page", "GET", `fetch(to, { mode: "no-cors", credentials: "include", headers: { Accept: "text/html,*/*" } })`, worker},
	{"fetch-head", "HEAD", `fetch(to, { method: "HEAD", mode: "no-cors", credentials: "include" })`, worker},
	{"fetch-post", "POST", `fetch(to, { method: "POST", credentials: "include", body: "x" })`, worker},
	{"fetch-post-no-cors", "POST", `fetch(to, { method: "POST", mode: "no-cors", credentials: "include", body: "x" })`, worker},
	{"fetch-post-no-referrer", "POST", `fetch(to, { method: "POST", mode: "no-cors", credentials: "include", body: "x", referrerPolicy: "no-referrer" })`, worker},
	{"fetch-keepalive", "POST", `fetch(to, { method: "POST", mode: "no-cors", credentials: "include", keepalive: true, body: "x" })`, worker},
	{"fetch-put", "PUT", `fetch(to, { method: "PUT", credentials: "include", body: "x" })`, preflighted},
	{"fetch-json", "POST", `fetch(to, { method: "POST", credentials: "include", headers: { "Content-Type": "application/json" }, body: "{}" })`, preflighted},
	{"xhr", "GET", `xhr("GET", to)`, plain},
	{"xhr-post", "POST", `xhr("POST", to)`, plain},
	{"beacon", "POST", `navigator.sendBeacon(to, "x")`, plain},
	{"ping", "POST", `put("a", { ping: to, href: "about:blank", target: put("iframe", { name: unique() }).name }).click()`, plain},
	{"websocket", "GET", `new WebSocket(to.replace("http", "ws"))`, worker},
	{"eventsource", "GET", `new EventSource(to, { withCredentials: true })`, worker},
	{"fetch-in-worker", "POST", `new Worker(URL.createObjectURL(new Blob(["fetch(" + JSON.stringify(to) + ", { method: 'POST', mode: 'no-cors', credentials: 'include' })"])))`, plain},
	{"frame", "GET", `put("iframe", { src: to })`, plain},
	{"frame-credentialless", "GET", `put("iframe", { credentialless: true, src: to })`, plain},
	{"object", "GET", `put("object", { data: to, type: "text/html" })`, plain},
	{"embed", "GET", `put("embed", { src: to, type: "text/html" })`, plain},
	{"form-in-frame", "GET", `send("GET", to, put("iframe", { name: unique() }).name)`, plain},
	{"form-post-in-frame", "POST", `send("POST", to, put("iframe", { name: unique() }).name)`, plain},
	{"form-post", "POST", `((name) => { open("about:blank", name); send("POST", to, name); })(unique())`, windows},
	{"form-post-no-referrer", "POST", `send("POST", to, "_blank", { rel: "noreferrer" })`, windows},
}

// toolbox is what the ways' scripts are written with.
const toolbox = `
	const unique = () => "n" + Math.random();
	const put = (tag, properties) => {
		const e = Object.assign(document.createElement(tag), properties);
		document.body.append(e);
		return e;
	};
	const send = (method, action, target, more) => put("form", { method, action, target, ...more }).submit();
	const speculate = (action, url, more) => put("script", {
		type: "speculationrules", textContent: JSON.stringify({ [action]: [{ source: "list", urls: [url], eagerness: "immediate", ...more }] }),
	});
	const xhr = (method, url) => {
		const x = new XMLHttpRequest();
		x.open(method, url);
		x.withCredentials = true;
		x.send(method === "POST" ? "x" : null);
	};
`

// A route that wants a session, and one that can do without. Each request is tried on both.
const guarded, optional = "/guarded/", "/optional/"

var routes = []string{guarded, optional}

// those are the ways for which which holds.
func those(which func(way) bool) []way {
	var some []way
	for _, w := range ways {
		if which(w) {
			some = append(some, w)
		}
	}
	return some
}

func called(names ...string) []way {
	return those(func(w way) bool { return slices.Contains(names, w.name) })
}

func notCalled(names ...string) []way {
	return those(func(w way) bool { return !slices.Contains(names, w.name) })
}

// sending is a script that sends a request in each way. One that the browser refuses throws.
func sending(some []way, to func(way) []string) string {
	var b strings.Builder
	b.WriteString("{" + toolbox)
	for _, w := range some {
		for _, address := range to(w) {
			fmt.Fprintf(&b, "(async (to) => { await (%s); })(%s).catch(() => {});\n", w.script, quote(address))
		}
	}
	return b.String() + "}"
}

// arrival is a request at Envoy, as its access log tells of it.
type arrival struct {
	Method  string  `json:"method"`
	Path    string  `json:"path"`
	Status  float64 `json:"status"`
	Outcome string  `json:"outcome"`
	Code    string  `json:"code"`
	Cookies string  `json:"cookies"`
	Origin  string  `json:"origin"`
	Site    string  `json:"site"`
	Mode    string  `json:"mode"`
	Dest    string  `json:"dest"`
	Purpose string  `json:"purpose"`
}

// noting makes Envoy's access log tell what browsers say of the initiator, and the beginning of the cookies: a name, and no more.
func noting(b *bootstrapv3.Bootstrap) error {
	return typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
		log, packed := new(streamv3.StdoutAccessLog), m.GetAccessLog()[0].GetTypedConfig()
		if err := packed.UnmarshalTo(log); err != nil {
			return err
		}
		for name, format := range map[string]string{
			"cookies": fmt.Sprintf("%%REQ(COOKIE):%d%%", len(sessionCookie)), "origin": "%REQ(ORIGIN)%", "site": "%REQ(SEC-FETCH-SITE)%",
			"mode": "%REQ(SEC-FETCH-MODE)%", "dest": "%REQ(SEC-FETCH-DEST)%", "purpose": "%REQ(SEC-PURPOSE)%",
			"code": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:code)%",
		} {
			log.GetLogFormat().GetJsonFormat().GetFields()[name] = structpb.NewStringValue(format)
		}
		return packed.MarshalFrom(log)
	})
}

const sessionCookie = "sAccessToken="

// permissive is a browser that sends cookies to a site within pages of another, as browsers do whose user did not forbid it; it has two
// extensions, and takes any certificate.
var permissive = sync.OnceValues(func() (*permissiveBrowser, error) {
	dir, err := os.MkdirTemp("", "sge2e-")
	if err != nil {
		return nil, err
	}
	afterAllTests(func() { _ = os.RemoveAll(dir) })
	b := &permissiveBrowser{extensions: map[string]string{}}
	var dirs []string
	for name, permissions := range map[string]string{"trusted": `"http://app.localhost/*"`, "untrusted": ""} {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			return nil, err
		}
		for file, content := range map[string]string{
			"manifest.json": fmt.Sprintf(`{"manifest_version": 3, "name": %q, "version": "1", "host_permissions": [%s]}`, name, permissions),
			"page.html":     "<!doctype html><title>extension</title>",
		} {
			if err := os.WriteFile(filepath.Join(at, file), []byte(content), 0o600); err != nil {
				return nil, err
			}
		}
		// Chromium's name for an extension without a key: a digest of its path, in letters from a to p.
		digest := sha256.Sum256([]byte(at))
		id := strings.Map(func(r rune) rune {
			if r <= '9' {
				return 'a' + r - '0'
			}
			return 'k' + r - 'a'
		}, hex.EncodeToString(digest[:16]))
		b.extensions[name] = "chrome-extension://" + id + "/page.html"
		dirs = append(dirs, at)
	}
	b.ctx, err = startChromium(`{"profile": {"cookie_controls_mode": 0}}`,
		chromedp.Flag("disable-extensions", false), chromedp.Flag("load-extension", strings.Join(dirs, ",")), chromedp.IgnoreCertErrors)
	return b, err
})

type permissiveBrowser struct {
	ctx        context.Context   // chromedp's handle
	extensions map[string]string // the address of a page of each
}

// battle is a deployment, its user's browser, and the pages of attackers beside it.
type battle struct {
	*stack

	browser *permissiveBrowser
	profile *profile
	port    string // of the attackers' pages

	arrivals map[string][]arrival // at Envoy, by method and path
	offsets  map[string]int       // how far its logs are read

	mu   sync.Mutex
	seen map[string][]http.Header // what the app received, by method and path
}

func newBattle(t *testing.T, settings ...string) *battle {
	t.Helper()
	b := &battle{seen: map[string][]http.Header{}, arrivals: map[string][]arrival{}, offsets: map[string]int{}}
	pages := httptest.NewServer(http.HandlerFunc(b.attackers))
	t.Cleanup(pages.Close)
	_, b.port, _ = strings.Cut(pages.Listener.Addr().String(), ":")
	settings = append(settings, "SESSIONGATE_ALLOWED_ORIGINS="+b.theirs(allowed["allowed"], "")+","+b.theirs(allowed["partner"], ""))
	b.stack = newStack(t, stackOptions{processes: 1, settings: settings, edit: noting})
	for _, route := range routes {
		b.app.pages.HandleFunc(route, b.receive)
	}
	b.app.pages.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) {
		if policy := r.URL.Query().Get("referrer"); policy != "" {
			w.Header().Set("Referrer-Policy", policy)
		}
		page(w, "app")
	})
	// A redirect that anybody can use.
	b.app.pages.HandleFunc("/static/go/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.TrimPrefix(r.URL.Path, "/static/go"), http.StatusTemporaryRedirect)
	})
	var err error
	if b.browser, err = permissive(); err != nil {
		t.Fatal(err)
	}
	b.profile = b.newProfileIn(b.browser.ctx, t)
	return b
}

func page(w http.ResponseWriter, title string) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = fmt.Fprintf(w, "<!doctype html><title>%s</title><body>", title)
}

// theirs is an address of the attackers, under a name of theirs.
func (b *battle) theirs(name, path string) string { return "http://" + name + ":" + b.port + path }

// attackers serves their pages, under whatever name.
func (b *battle) attackers(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Allow-Methods", "PUT")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
	}
	back, bounces := strings.CutPrefix(r.URL.Path, "/bounce")
	switch {
	case bounces && r.Method == http.MethodOptions:
	case bounces:
		http.Redirect(w, r, b.site(back), http.StatusTemporaryRedirect)
	case r.URL.Path == "/worker.js":
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = fmt.Fprintf(w, `
			onmessage = (event) => (0, eval)(event.data);
			onfetch = (event) => {
				const { pathname } = new URL(event.request.url);
				if (pathname.startsWith("/worker/")) event.respondWith(fetch(%s + pathname.slice(7), { mode: "no-cors", credentials: "include" }));
			};
			oninstall = () => skipWaiting();
			onactivate = (event) => event.waitUntil(clients.claim());`, quote(b.site("")))
	default:
		page(w, "attacker")
	}
}

// receive is the app's: it notes what arrives.
func (b *battle) receive(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	key := r.Method + " " + r.URL.Path
	b.seen[key] = append(b.seen[key], r.Header.Clone())
	b.mu.Unlock()
	switch {
	case r.Header.Get("Upgrade") != "":
		w.WriteHeader(http.StatusBadRequest)
	case r.Header.Get("Accept") == "text/event-stream":
		w.WriteHeader(http.StatusNoContent) // and the browser does not try again
	case slices.Contains([]string{"script", "worker", "sharedworker"}, r.Header.Get("Sec-Fetch-Dest")):
		w.Header().Set("Content-Type", "text/javascript")
	case r.Header.Get("Sec-Fetch-Dest") == "style":
		w.Header().Set("Content-Type", "text/css")
	default:
		page(w, "app")
	}
}

func (b *battle) received(key string) []http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen[key])
}

// awaitArrivals waits until requests have come to Envoy, and gives all so far, by method and path.
func (b *battle) awaitArrivals(t *testing.T, keys []string) map[string][]arrival {
	t.Helper()
	missing := keys
	look := func() bool {
		b.read()
		missing = slices.DeleteFunc(slices.Clone(missing), func(key string) bool { return len(b.arrivals[key]) > 0 })
		return len(missing) == 0
	}
	deadline := time.Now().Add(patience)
	for !look() {
		if time.Now().After(deadline) {
			t.Fatalf("never sent, so this test shows nothing of them: %q", missing)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	return b.arrivals
}

// read takes what is new in the access logs.
func (b *battle) read() {
	for _, file := range b.logs {
		if !strings.HasPrefix(filepath.Base(file), "envoy") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		text = text[b.offsets[file]:]
		whole := bytes.LastIndexByte(text, '\n') + 1
		b.offsets[file] += whole
		for line := range bytes.Lines(text[:whole]) {
			var a arrival
			if line[0] == '{' && json.Unmarshal(line, &a) == nil {
				key := a.Method + " " + a.Path
				b.arrivals[key] = append(b.arrivals[key], a)
			}
		}
	}
}

// run runs a script where requests come from.
type run func(script string)

func in(t *tab) run { return func(script string) { eval[any](t, script+"void 0") } }

// inSandbox runs scripts in sandboxed frames of a tab's page.
func inSandbox(t *tab) run {
	return func(script string) {
		eval[any](t, fmt.Sprintf(`{ const frame = document.createElement("iframe");
			frame.sandbox = "allow-scripts allow-forms allow-popups";
			frame.srcdoc = "<!doctype html><body><script>" + %s + "<" + "/script>";
			document.body.append(frame); } void 0`, quote(script)))
	}
}

// underServiceWorker runs scripts in a tab's page whose requests a service worker answers.
func underServiceWorker(t *tab) run {
	eval[any](t, `navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready).then(() => void 0)`)
	t.await(`navigator.serviceWorker.controller`)
	return in(t)
}

func inServiceWorker(t *tab) run {
	return func(script string) {
		eval[any](t, fmt.Sprintf(`navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready)
			.then((registration) => registration.active.postMessage(%s))`, quote(script)))
	}
}

// source is where requests come from, and what the browser makes of the ways there.
type source struct {
	at   func() run
	base string // of the addresses: the app's, or a detour's to it
	ways []way
	// silent are the ways that the browser refuses to go, bare are those that it goes without cookies.
	silent, bare []string
	// unknown is the code of the denials where the browser does not tell what the source is.
	unknown string
}

// anonymous are the ways that take no cookies to another origin.
var anonymous = []string{"mask", "import", "font", "frame-credentialless"}

// send has a source send a request in each of its ways to each of the routes, and waits until Envoy has seen them.
func (b *battle) send(t *testing.T, name string, from source) map[string][]arrival {
	t.Helper()
	run := from.at()
	var arrivals map[string][]arrival
	// Those that open a window come last: a page in the background loads no video and renders nothing in advance.
	for _, opening := range []bool{false, true} {
		var some []way
		var keys []string
		for _, w := range from.ways {
			if (w.kind == windows) != opening {
				continue
			}
			some = append(some, w)
			refused := slices.Contains(from.silent, w.name)
			for _, route := range routes {
				switch {
				case !refused:
					keys = append(keys, w.key(route, name))
				case w.kind == preflighted:
					keys = append(keys, "OPTIONS "+route+name+"/"+w.name)
				}
			}
		}
		if len(some) == 0 {
			continue
		}
		run(sending(some, func(w way) []string {
			var to []string
			for _, route := range routes {
				to = append(to, from.base+route+name+"/"+w.name)
			}
			return to
		}))
		arrivals = b.awaitArrivals(t, keys)
	}
	return arrivals
}

func (w way) key(route, name string) string { return w.method + " " + route + name + "/" + w.name }

// attack has a foreign source send its requests. None may reach the app with an identity, though the cookies were there.
func (b *battle) attack(t *testing.T, name string, from source) {
	t.Helper()
	arrivals := b.send(t, name, from)
	for _, w := range from.ways {
		for _, route := range routes {
			key := w.key(route, name)
			for _, a := range arrivals[key] {
				with := strings.HasPrefix(a.Cookies, sessionCookie)
				switch {
				case slices.Contains(from.silent, w.name):
					t.Errorf("%s: sent, though it was said that the browser refuses to", key)
				case with == slices.Contains(from.bare, w.name):
					t.Errorf("%s: with the session's cookie: %t", key, with)
				case route == guarded && a.Outcome == "ALLOW":
					t.Errorf("%s: passes: %+v", key, a)
				case route == optional && a.Code != "optional" && a.Code != from.unknown && w.kind != ahead:
					t.Errorf("%s: not the answer that there is without cookies: %+v", key, a)
				}
			}
			for _, header := range b.received(key) {
				if route == guarded {
					t.Errorf("%s: reached the app", key)
				}
				for _, identity := range []string{"X-Session-User-Id", "X-Session-Handle", "X-Session-Claims"} {
					if header[identity] != nil {
						t.Errorf("%s: reached the app with %s", key, identity)
					}
				}
			}
		}
	}
}

// use has a trusted source send its requests. All that have cookies must reach the app, as the user's.
func (b *battle) use(t *testing.T, name string, from source) {
	t.Helper()
	arrivals := b.send(t, name, from)
	for _, w := range from.ways {
		for _, route := range routes {
			key := w.key(route, name)
			if slices.Contains(from.bare, w.name) {
				continue
			}
			for _, a := range arrivals[key] {
				if a.Code != "session" {
					t.Errorf("%s: does not pass: %+v", key, a)
				}
			}
			received := b.received(key)
			for _, header := range received {
				if got := header.Get("X-Session-User-Id"); got != "alice" {
					t.Errorf("%s: reached the app as %q, want alice", key, got)
				}
			}
			if len(received) == 0 {
				t.Errorf("%s: did not reach the app", key)
			}
		}
	}
}

// allowed are the hosts of allowed origins: one of the app's site, and one of another.
var allowed = map[string]string{"allowed": "allowed.app.localhost", "partner": "partner.localhost"}

// page gives a source a page of its own. It is opened just before it is needed: in the background the browser holds requests back.
func (b *battle) page(of func(*tab) run, address string) func() run {
	return func() run { return of(b.profile.open(address)) }
}

const (
	site    = "evil.localhost"        // another registrable domain than the app's
	sibling = "sibling.app.localhost" // of one site with the app: its cookies travel in spite of SameSite
)

var (
	// asking are sent only after the other origin said yes to a preflight.
	asking = []string{"fetch-put", "fetch-json"}
	// byRule, Chromium loads nothing from a site whose cookies it has, unless the page is of the same site.
	byRule = []string{"prefetch-rule", "prerender"}
	// own are the ways of the app's own pages, to which their scripts and styles lead, too.
	own = append(slices.Clone(ways),
		way{"worker", "GET", `new Worker(to)`, plain},
		way{"shared-worker", "GET", `new SharedWorker(to)`, plain},
		way{"svg-use", "GET", `put("div", { innerHTML: '<svg><use href="' + to + '#x"></use></svg>' })`, plain},
	)
)

// TestRequestForgery: the cookies are SameSite=None, so every site's requests carry them, and nothing but the rule of the initiator stands
// before the app.
func TestRequestForgery(t *testing.T) {
	t.Parallel()
	needChromium(t)
	b := newBattle(t, "SESSIONGATE_COOKIES_SAME_SITE=none")
	user := b.profile.signedIn("alice")
	app := b.site("")

	// What the ways are worth: the app's own page sends the same requests, and they pass.
	t.Run("own", func(t *testing.T) {
		b.use(t, "own", source{at: b.page(in, b.site("/page")), base: app, ways: own, bare: []string{"frame-credentialless"}})
	})

	working := those(func(w way) bool { return w.kind == worker })
	noRule := append(slices.Clone(byRule), asking...)
	detour := append([]string{"websocket"}, asking...)
	for _, s := range []struct {
		name string
		from source
	}{
		{"site", source{at: b.page(in, b.theirs(site, "/")), base: app, ways: ways, silent: noRule, bare: anonymous}},
		{"sibling", source{at: b.page(in, b.theirs(sibling, "/")), base: app, ways: ways, silent: asking, bare: anonymous}},
		// The app's own page sends it to another origin, which sends it back: as with a link or an image in what a visitor wrote. A rule's
		// requests tell nothing of that: they are left out.
		{"through-site", source{
			at: b.page(in, b.site("/page")), base: b.theirs(site, "/bounce"), ways: notCalled(byRule...), silent: detour, bare: anonymous,
		}},
		{"through-sibling", source{
			at: b.page(in, b.site("/page")), base: b.theirs(sibling, "/bounce"), ways: notCalled(byRule...), silent: detour, bare: anonymous,
		}},
		// The other way round. What asks for CORS ends there: the redirect grants none.
		{"site-through-app", source{at: b.page(in, b.theirs(site, "/")), base: b.site("/static/go"), ways: called(
			"image", "video", "script", "style", "prefetch", "fetch-no-cors", "fetch-post-no-cors", "beacon", "ping",
			"frame", "object", "embed", "form-in-frame", "form-post-in-frame", "form-post",
		)}},
		{"site-sandbox", source{at: b.page(inSandbox, b.theirs(site, "/")), base: app, ways: ways, silent: noRule, bare: anonymous}},
		{"own-sandbox", source{at: b.page(inSandbox, b.site("/page")), base: app, ways: ways, silent: noRule, bare: anonymous}},
		{"site-worker", source{at: b.page(inServiceWorker, b.theirs(site, "/")), base: app, ways: working}},
		{"sibling-worker", source{at: b.page(inServiceWorker, b.theirs(sibling, "/")), base: app, ways: working}},
		{"through-sibling-worker", source{
			at: b.page(underServiceWorker, b.theirs(sibling, "/")), base: b.theirs(sibling, "/worker"),
			ways: called("image", "script", "style", "frame", "fetch"),
		}},
	} {
		t.Run(s.name, func(t *testing.T) { b.attack(t, s.name, s.from) })
	}

	t.Run("a downgraded origin", func(t *testing.T) {
		const name = "app.example.test"
		proxy := b.startEnvoy("envoy-tls", encrypted(t, name))
		secure := strings.Replace(proxy.URL("ingress"), "http://127.0.0.1", "https://"+name, 1)
		p := b.profile.open(secure + "/login")
		if status := eval[int](p, `fetch("/login", { method: "POST", body: "alice" }).then((r) => r.status)`); status != http.StatusNoContent {
			t.Fatalf("sign-in: %d", status)
		}
		b.use(t, "secure", source{at: b.page(in, secure+"/page"), base: secure, ways: called("image", "fetch", "fetch-post", "frame", "form-post")})
		b.attack(t, "downgraded", source{at: b.page(in, b.theirs(name, "/")), base: secure, ways: ways, silent: noRule, bare: anonymous})
	})

	t.Run("extensions", func(t *testing.T) {
		// They are not in profiles of their own.
		p := &profile{b.stack, t, b.browser.ctx}
		p.signedIn("alice")
		page := func(name string) func() run {
			return func() run {
				tab := p.open(b.browser.extensions[name])
				if eval[string](tab, `document.title`) != "extension" {
					t.Fatal("this browser takes no --load-extension: Chromium does, Google Chrome does not")
				}
				return in(tab)
			}
		}
		// Chromium forbids an extension's pages all code from elsewhere.
		code := []string{"script", "script-cors", "module", "import", "modulepreload", "object", "embed", "prefetch-rule", "prerender"}
		b.attack(t, "extension", source{at: page("untrusted"), base: app, ways: ways, silent: append(slices.Clone(asking), code...), bare: anonymous})
		// Its user let it act on the app's origin. Even so nothing passes by itself.
		b.attack(t, "permitted-extension", source{
			at: page("trusted"), base: app, ways: ways, silent: code, bare: []string{"frame-credentialless"}, unknown: "anti_csrf",
		})
	})

	t.Run("a form that is sent again by a reload", func(t *testing.T) {
		for _, name := range []string{site, sibling} {
			path := guarded + "reload-" + name
			p := b.profile.open(b.theirs(name, "/"))
			eval[any](p, "{"+toolbox+fmt.Sprintf(`send("POST", %s, "_self")} void 0`, quote(b.site(path))))
			p.awaitPath(path)
			p.do(chromedp.Reload())
			b.eventually("the form is sent twice", func() bool { b.read(); return len(b.arrivals["POST "+path]) == 2 })
			for _, a := range b.arrivals["POST "+path] {
				if a.Code != "foreign_origin" || !strings.HasPrefix(a.Cookies, sessionCookie) {
					t.Errorf("%s: %s, %s, cookies %q", path, a.Outcome, a.Code, a.Cookies)
				}
			}
		}
	})

	t.Run("an allowed origin", func(t *testing.T) { b.testAllowed(t, "partner", anonymous) })

	t.Run("refresh and sign-out", func(t *testing.T) { b.testForgedEnds(t, user) })
}

// testAllowed: what the browser says of a page of an allowed origin passes, by Origin or, for frames, by Referer. Of images and the like it
// says neither.
func (b *battle) testAllowed(t *testing.T, name string, bare []string) {
	at := b.page(in, b.theirs(allowed[name], "/"))
	b.use(t, name, source{at: at, base: b.site(""), ways: called(
		"image-cors", "track", "script-cors", "module", "style-cors", "preload-fetch", "modulepreload", "fetch", "fetch-post", "fetch-post-no-cors",
		"fetch-keepalive", "xhr", "xhr-post", "beacon", "ping", "websocket", "eventsource", "frame", "object", "embed", "form-in-frame",
		"form-post-in-frame", "form-post")})
	b.attack(t, name+"-unsaid", source{at: at, base: b.site(""), bare: bare, ways: called(
		"image", "video", "script", "style", "mask", "font", "prefetch", "fetch-no-cors", "fetch-like-a-page", "form-post-no-referrer")})
}

// testForgedEnds: a foreign page can neither refresh the session nor end it, and the app's own can.
func (b *battle) testForgedEnds(t *testing.T, user *tab) {
	posts := called("fetch-post", "fetch-post-no-cors", "fetch-post-no-referrer", "fetch-keepalive", "xhr-post", "beacon", "ping",
		"fetch-in-worker", "form-post-in-frame", "form-post")
	gets := called("image", "fetch-no-cors", "frame", "form-in-frame")
	const signoutPath = "/auth/signout"
	for _, path := range []string{refreshPath, signoutPath} {
		for i, run := range []run{b.page(in, b.theirs(site, "/"))(), b.page(in, b.theirs(sibling, "/"))(), b.page(inSandbox, b.site("/page"))()} {
			run(sending(append(slices.Clone(posts), gets...), func(way) []string { return []string{b.site(path)} }))
			b.eventually("all requests", func() bool {
				b.read()
				return len(b.arrivals["POST "+path]) == (i+1)*len(posts) && len(b.arrivals["GET "+path]) == (i+1)*len(gets)
			})
		}
		for _, a := range append(slices.Clone(b.arrivals["POST "+path]), b.arrivals["GET "+path]...) {
			if a.Cookies != "sRefreshToken" {
				t.Errorf("%s %s: came with %q: the refresh token is not there, so this shows nothing", a.Method, path, a.Cookies)
			}
			if a.Method == "POST" && a.Status != http.StatusForbidden || a.Status < 400 {
				t.Errorf("%s %s: %v", a.Method, path, a.Status)
			}
		}
	}
	const untouched = `SELECT count(*) FROM sessiongate.active_sessions WHERE user_id = 'alice' AND issues = 0 AND previous_hash IS NULL`
	const living = `SELECT count(*) FROM sessiongate.active_sessions WHERE user_id = 'alice'`
	if n, m := b.count(untouched), b.count(living); n != m || n == 0 {
		t.Errorf("%d of %d sessions are untouched", n, m)
	}
	before := b.count(living)
	for _, r := range []struct{ method, path string }{{"GET", "/page"}, {"POST", refreshPath}, {"POST", signoutPath}} {
		if status := eval[int](user, fmt.Sprintf(`fetch(%s, { method: %s }).then((r) => r.status)`, quote(r.path), quote(r.method))); status != http.StatusOK {
			t.Errorf("the app's own page: %s %s: %d", r.method, r.path, status)
		}
	}
	if n := b.count(living); n != before-1 {
		t.Errorf("%d sessions after the sign-out of one of %d", n, before)
	}
}

// TestRequestForgeryUnderLax is the default: SameSite=Lax keeps other sites' requests from having cookies, and siblings' not.
func TestRequestForgeryUnderLax(t *testing.T) { // not beside the other one: they share the browser that is in the foreground
	needChromium(t)
	b := newBattle(t)
	user := b.profile.signedIn("alice")
	app := b.site("")
	// A cookie without SameSite, two minutes young, and later in the header than the session's.
	eval[any](user, `document.cookie = "plain=1; path=/"; void 0`)

	t.Run("own", func(t *testing.T) {
		bare := []string{"frame-credentialless"}
		b.use(t, "own", source{at: b.page(in, b.site("/page")), base: app, ways: own, bare: bare})
		// A page loads in advance what its rules say only where it tells who it is.
		open := slices.DeleteFunc(slices.Clone(own), func(w way) bool { return slices.Contains(byRule, w.name) })
		b.use(t, "no-referrer", source{at: b.page(in, b.site("/page?referrer=no-referrer")), base: app, ways: open, bare: bare})
		b.use(t, "through-app", source{at: b.page(in, b.site("/page")), base: b.site("/static/go"), ways: called("image", "fetch", "fetch-post", "frame", "form-post")})
	})

	t.Run("a person", func(t *testing.T) {
		link := way{"link", "GET", `put("a", { href: to, target: "_blank", rel: "noreferrer" }).click()`, windows}
		for _, name := range []string{site, sibling} {
			b.use(t, "from-"+name, source{at: b.page(in, b.theirs(name, "/")), base: app, ways: []way{link}})
		}
		for _, route := range routes {
			path := route + "address-bar"
			b.profile.open(path)
			if got := b.received("GET " + path); len(got) != 1 || got[0].Get("X-Session-User-Id") != "alice" {
				t.Errorf("%s: %v", path, got)
			}
		}
	})

	bare := append([]string{"prefetch-document"}, anonymous...)
	t.Run("sibling", func(t *testing.T) {
		b.attack(t, "sibling", source{at: b.page(in, b.theirs(sibling, "/")), base: app, ways: ways, silent: asking, bare: bare})
		// Rules whose requests do not say by Referer where they are from, and rules that lead through the app itself.
		hidden := way{"hidden-rule", "GET", `speculate("prefetch", to, { referrer_policy: "no-referrer" })`, ahead}
		b.attack(t, "hidden", source{at: b.page(in, b.theirs(sibling, "/")), base: app, ways: []way{hidden}})
		b.attack(t, "sibling-through-app", source{at: b.page(in, b.theirs(sibling, "/")), base: b.site("/static/go"), ways: called(byRule...)})
	})
	t.Run("through-site", func(t *testing.T) {
		b.attack(t, "through-site", source{
			at: b.page(in, b.site("/page")), base: b.theirs(site, "/bounce"), ways: notCalled(byRule...),
			silent: append([]string{"websocket"}, asking...), bare: bare,
		})
	})
	t.Run("site", func(t *testing.T) {
		var all []string
		for _, w := range ways {
			all = append(all, w.name)
		}
		b.attack(t, "site", source{at: b.page(in, b.theirs(site, "/")), base: app, ways: ways, silent: append(slices.Clone(byRule), asking...), bare: all})
		// In the first two minutes Chromium sends cookies without SameSite with a foreign form, too. The session's has one.
		for _, route := range routes {
			if a := b.arrivals["POST "+route+"site/form-post"][0]; a.Cookies != "plain=1" {
				t.Errorf("a form that opens a page came with %q: the two minutes are not shown", a.Cookies)
			}
		}
	})
	t.Run("an allowed origin", func(t *testing.T) { b.testAllowed(t, "allowed", bare) })
}

// TestRequestForgeryWithoutFetchMetadata: to plain http beyond localhost browsers send no Sec-Fetch headers, as old ones send none at all. A
// foreign page still causes nothing but what looks like a person opening a page.
func TestRequestForgeryWithoutFetchMetadata(t *testing.T) {
	needChromium(t)
	b := newBattle(t, "SESSIONGATE_COOKIES_SECURE=false")
	const name, neighbour = "app.example.test", "evil.example.test"
	b.profile.signedInAt(name, "alice")
	app := b.siteAt(name, "")
	opens := []string{"frame", "object", "embed", "form-in-frame", "prefetch", "fetch-like-a-page"}
	b.use(t, "opens", source{at: b.page(in, b.theirs(neighbour, "/")), base: app, ways: called(opens...)})
	b.attack(t, "neighbour", source{
		at: b.page(in, b.theirs(neighbour, "/")), base: app, ways: notCalled(opens...),
		silent: append(slices.Clone(byRule), asking...), bare: append([]string{"prefetch-document"}, anonymous...), unknown: "anti_csrf",
	})
}

// encrypted makes Envoy end TLS for a name, and note what comes.
func encrypted(t *testing.T, name string) func(*bootstrapv3.Bootstrap) error {
	t.Helper()
	ours, err := authority.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ours.Issue(name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return endTLS(t, pair, noting)
}

// endTLS makes Envoy end TLS with a certificate, with edit on top. The protocols are offered to clients; none: HTTP/1.1.
func endTLS(t *testing.T, pair authority.Pair, edit func(*bootstrapv3.Bootstrap) error, protocols ...string) func(*bootstrapv3.Bootstrap) error {
	t.Helper()
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	packed, err := anypb.New(&tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: inline(pair.Cert), PrivateKey: inline(pair.Key)}},
		AlpnProtocols:   protocols,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return func(b *bootstrapv3.Bootstrap) error {
		b.GetStaticResources().GetListeners()[0].GetFilterChains()[0].TransportSocket = &corev3.TransportSocket{
			Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed},
		}
		return edit(b)
	}
}
