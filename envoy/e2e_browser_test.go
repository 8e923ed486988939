package envoy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// host is the name that browsers reach Envoy by. It has a parent domain, where cookies might be planted.
const host = "app.example.test"

// Networks of one honest client, and a thief's. Each is its own /24 of loopback.
const (
	networkV = "127.1.0.1"
	networkW = "127.2.0.1"
	networkX = "127.3.0.1"
)

// browser is a client with a cookie jar and, like a page's scripts, the anti-CSRF token. Its methods may be called at once from several
// goroutines, which are its tabs.
type browser struct {
	stack  *stack
	target string // Envoy's address
	client *http.Client

	mu       sync.Mutex
	jar      map[cookieKey]string
	antiCSRF string
}

type cookieKey struct{ name, domain, path string }

func (s *stack) newBrowser(network string) *browser {
	return s.newBrowserAt(s.proxy.URL("ingress"), network, nil)
}

// newBrowserAt has a browser reach another Envoy, with the protocols that are given.
func (s *stack) newBrowserAt(target, network string, protocols *http.Protocols) *browser {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(network)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableCompression: true, Protocols: protocols, MaxIdleConnsPerHost: 16}
	s.Cleanup(transport.CloseIdleConnections)
	return &browser{
		stack: s, target: target, jar: map[cookieKey]string{},
		client: &http.Client{Transport: transport, CheckRedirect: direct.CheckRedirect},
	}
}

// newTab shares what the browser holds, and reaches another Envoy.
func (b *browser) newTab(proxy *envoyrun.Proxy) *browser {
	tab := b.stack.newBrowserAt(proxy.URL("ingress"), networkV, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	tab.jar, tab.antiCSRF = maps.Clone(b.jar), b.antiCSRF
	return tab
}

// stolenBy is a thief with a copy of everything, in another network.
func (b *browser) stolenBy(network string) *browser {
	thief := b.stack.newBrowserAt(b.target, network, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	thief.jar, thief.antiCSRF = maps.Clone(b.jar), b.antiCSRF
	return thief
}

// answer is a response, and what the app saw of the request if it got there.
type answer struct {
	status int
	header http.Header
	body   string
	app    *seen
}

// option changes a request before it is sent.
type option func(*http.Request)

func with(name string, values ...string) option {
	return func(r *http.Request) { r.Header[name] = append(r.Header[name], values...) } // spelt as it is, more than once
}

func without(name string) option { return func(r *http.Request) { r.Header.Del(name) } }

func withBody(text string) option {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

// A request of a script of the page's own origin, with or without the session's anti-CSRF token; a navigation; an image or style.
func script(r *http.Request) {
	r.Header.Set("Sec-Fetch-Mode", "cors")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
}

func navigation(r *http.Request) {
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "none")
	r.Header.Set("Accept", "text/html")
	r.Header.Del("Anti-Csrf")
}

func image(r *http.Request) {
	r.Header.Set("Sec-Fetch-Mode", "no-cors")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Accept", "image/*")
	r.Header.Del("Anti-Csrf")
}

// request makes what the browser would send now.
func (b *browser) request(method, path string, options ...option) *http.Request {
	r, err := http.NewRequestWithContext(b.stack.Context(), method, b.target+path, nil)
	if err != nil {
		b.stack.Fatal(err)
	}
	r.Host = host
	r.Header.Set("User-Agent", "browser")
	b.mu.Lock()
	if cookies := b.cookies(path); cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	if b.antiCSRF != "" {
		r.Header.Set("Anti-Csrf", b.antiCSRF)
	}
	b.mu.Unlock()
	for _, o := range options {
		o(r)
	}
	return r
}

// cookies is the Cookie header for a path (RFC 6265 §5.1.4). b.mu is held.
func (b *browser) cookies(path string) string {
	path, _, _ = strings.Cut(path, "?")
	var pairs []string
	for key, value := range b.jar {
		if path == key.path || strings.HasPrefix(path, strings.TrimSuffix(key.path, "/")+"/") {
			pairs = append(pairs, key.name+"="+value)
		}
	}
	return strings.Join(pairs, "; ")
}

// send sends a request and leaves the jar as it is: the answer is still under way.
func (b *browser) send(method, path string, options ...option) answer {
	a, err := b.try(b.request(method, path, options...))
	if err != nil {
		b.stack.Errorf("%s %s: %v", method, path, err)
	}
	return a
}

func (b *browser) try(r *http.Request) (answer, error) {
	response, err := b.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	b.stack.secrets.addFrom(response.Header)
	a := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	if response.Header.Get("X-From") == "app" {
		a.app = new(seen)
		if err := json.Unmarshal(body, a.app); err != nil {
			return answer{}, err
		}
	}
	return a, nil
}

// take stores what an answer brought.
func (b *browser) take(a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range a.header.Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			b.stack.Errorf("a Set-Cookie line is broken: %v", err)
			continue
		}
		key := cookieKey{c.Name, c.Domain, c.Path}
		if c.MaxAge < 0 { // net/http's word for Max-Age=0
			delete(b.jar, key)
		} else {
			b.jar[key] = c.Value
		}
	}
	if token := a.header.Get("Anti-Csrf"); token != "" {
		b.antiCSRF = token
	}
}

// do sends a request and stores what its answer brings.
func (b *browser) do(method, path string, options ...option) answer {
	a := b.send(method, path, options...)
	b.take(a)
	return a
}

// get is a script's GET of the session's page.
func (b *browser) get(options ...option) answer {
	return b.do(http.MethodGet, "/", append([]option{script}, options...)...)
}

const refreshPath = "/auth/session/refresh"

func (b *browser) refresh() answer { return b.do(http.MethodPost, refreshPath, script) }

// signIn signs a user in and returns the session's handle.
func (b *browser) signIn(user string) string {
	b.stack.Helper()
	a := b.do(http.MethodPost, "/login", withBody(user))
	if a.status != http.StatusNoContent {
		b.stack.Fatalf("sign-in: %d", a.status)
	}
	return a.header.Get("X-Handle")
}

func (b *browser) cookie(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, value := range b.jar {
		if key.name == name {
			return value
		}
	}
	return ""
}

func (b *browser) access() string { return b.cookie("sAccessToken") }

func (b *browser) setAccess(token string) {
	b.stack.secrets.add(token)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jar[cookieKey{"sAccessToken", "", "/"}] = token
}

func (b *browser) mustGet(t testing.TB) seen {
	t.Helper()
	a := b.get()
	if a.status != http.StatusOK || a.app == nil {
		t.Fatalf("%d %s, want 200 from the app", a.status, a.body)
	}
	return *a.app
}

// use is the first use of an access token, and waits until its promotion has happened.
func (b *browser) use(handle string) {
	b.stack.Helper()
	b.mustGet(b.stack)
	b.stack.awaitPromoted(handle)
}

// mustRefresh refreshes and says whether a refresh token came.
func (b *browser) mustRefresh(t testing.TB) (rotated bool) {
	t.Helper()
	a := b.refresh()
	if a.status != http.StatusOK {
		t.Fatalf("refresh: %d %s", a.status, a.body)
	}
	return a.sets("sRefreshToken")
}

// sets says whether an answer issues a cookie, rather than deletes it.
func (a answer) sets(name string) bool {
	for _, line := range a.header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == name && c.Value != "" {
			return true
		}
	}
	return false
}

// superseded fails unless the answer is a 409 that changes nothing at the client.
func (a answer) superseded(t testing.TB) {
	t.Helper()
	if a.status != http.StatusConflict || len(a.header.Values("Set-Cookie")) > 0 || a.header.Get("Id-Refresh-Token") != "" || a.header.Get("Anti-Csrf") != "" {
		t.Errorf("%d %s with %d cookies, want 409 without any", a.status, a.body, len(a.header.Values("Set-Cookie")))
	}
}

// over fails unless the answer ends the session at the client.
func (a answer) ended(t testing.TB, why string) {
	t.Helper()
	if want := fmt.Sprintf(`{"error":%q}`, why); a.status != 440 || a.body != want {
		t.Errorf("%d %s, want 440 %s", a.status, a.body, want)
	}
	if a.header.Get("Id-Refresh-Token") != "remove" || a.header.Get("Front-Token") != "remove" || a.sets("sAccessToken") || a.sets("sRefreshToken") {
		t.Error("the answer does not end the session at the client")
	}
}

// dropRefresh sends a refresh and closes the connection before any answer.
func (b *browser) dropRefresh() {
	b.stack.Helper()
	address, err := url.Parse(b.target)
	if err != nil {
		b.stack.Fatal(err)
	}
	var text bytes.Buffer
	if err := b.request(http.MethodPost, refreshPath, script).Write(&text); err != nil {
		b.stack.Fatal(err)
	}
	conn, err := b.client.Transport.(*http.Transport).DialContext(context.Background(), "tcp", address.Host)
	if err != nil {
		b.stack.Fatal(err)
	}
	if _, err := conn.Write(text.Bytes()); err != nil {
		b.stack.Error(err)
	}
	// Half-closed at first: Envoy must have read the request before the connection is gone.
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		b.stack.Error(err)
	}
	_ = conn.Close()
}
