package sessiondev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// scheme is the one that this proxy speaks.
const scheme = "http"

// appIdle is how long a connection to the app may be idle: as in envoy.yaml, less than Node keeps
// one open.
const appIdle = 4 * time.Second

// proxy stands for Envoy with the shipped envoy.yaml.
type proxy struct {
	app       *url.URL
	authz     *authz.Server
	public    http.Handler // of sessiongate: refresh, sign-out, keys
	control   http.Handler
	authPath  string
	login     string   // the path of the login page; empty: it is elsewhere
	origins   []string // others that may act as the signed-in user
	transport *http.Transport
	log       *slog.Logger
}

// request is a request on its way. header is a copy.
type request struct {
	method, host string
	target       target
	header       http.Header
	upgrade      string
	peer, local  string // addresses
	id           uint64
	began        time.Time
}

// ServeHTTP does what Envoy does with envoy.yaml, in its order: one reading of the request, the
// route, the filters, and on to sessiongate or to the app.
func (p *proxy) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	r, status := read(in)
	if status != 0 {
		answer(w, status, http.StatusText(status))
		return
	}
	to := p.route(r.target.path)
	if r.upgrade != "" && (!to.upgrades || !strings.EqualFold(r.upgrade, "websocket")) {
		w.Header().Set("Connection", "close")
		answer(w, http.StatusForbidden, "")
		return
	}
	out := &corsWriter{ResponseWriter: w, origin: p.listed(r)}
	switch {
	case preflight(out, r):
	case !hasRoom(r):
		noRoom(out)
	case to.control:
		p.control.ServeHTTP(out, p.asRead(in, r))
	case to.public:
		p.public.ServeHTTP(out, p.asRead(in, r))
	case !to.checked || p.check(in.Context(), out, r):
		p.forward(out, in, r)
	}
}

// read reads a request as Envoy does. status is not 0 where Envoy refuses it.
func read(in *http.Request) (r *request, status int) {
	if !in.ProtoAtLeast(1, 1) {
		return nil, http.StatusUpgradeRequired
	}
	if !slices.Contains(methods, in.Method) {
		return nil, http.StatusBadRequest
	}
	r = &request{method: in.Method, host: in.Host, header: in.Header.Clone(), peer: in.RemoteAddr, id: newID(), began: time.Now()}
	if r.target, status = readTarget(in.RequestURI); status != 0 {
		return nil, status
	}
	if r.upgrade, status = clean(r.header); status != 0 {
		return nil, status
	}
	if local, ok := in.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		r.local = local.String()
	}
	if len(in.TransferEncoding) > 0 {
		r.header.Set("Transfer-Encoding", in.TransferEncoding[0]) // net/http takes it out
	}
	// What the client says of these does not count (use_remote_address).
	peer, _, _ := net.SplitHostPort(r.peer)
	r.header.Set("X-Forwarded-For", strings.Join(append(r.header.Values("X-Forwarded-For"), peer), ","))
	r.header.Set("X-Forwarded-Proto", scheme)
	r.header.Set("X-Envoy-External-Address", peer)
	r.header.Set("X-Request-ID", newRequestID())
	return r, 0
}

// destination is where a path leads.
type destination struct{ control, public, checked, upgrades bool }

// route finds the destination of a path. Only the controls, the auth path, the public keys and the
// login page have no check: guarded, the refresh that mends an expired token would be told to refresh, and the
// login page would be sent to itself.
func (p *proxy) route(to string) destination {
	switch {
	case strings.HasPrefix(to, controlPath):
		return destination{control: true}
	case to == p.authPath, strings.HasPrefix(to, p.authPath+"/"), to == sessionhttp.JWKSPath:
		return destination{public: true}
	case p.login != "" && to == p.login:
		return destination{}
	default:
		return destination{checked: true, upgrades: true}
	}
}

// asRead is a request for a handler of this process, as another server would get it from Envoy.
func (p *proxy) asRead(in *http.Request, r *request) *http.Request {
	out := in.Clone(in.Context())
	out.Header, out.RequestURI = r.header, r.target.String()
	out.Header.Del("Transfer-Encoding")
	peer, _, _ := net.SplitHostPort(r.peer)
	out.Header.Set("X-Sessiongate-Peer", peer)
	if at, err := url.ParseRequestURI(out.RequestURI); err == nil {
		out.URL = at
	}
	return out
}

// forward sends a request to the app.
func (p *proxy) forward(w http.ResponseWriter, in *http.Request, r *request) {
	(&httputil.ReverseProxy{
		Transport: p.transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), ErrorHandler: p.away,
		Rewrite: func(pr *httputil.ProxyRequest) {
			// The headers are those that were checked: what ReverseProxy removes by itself, Envoy passes on.
			pr.Out.Header, pr.Out.Host = r.header, r.host
			pr.Out.Header.Del("Transfer-Encoding")
			pr.Out.URL = &url.URL{Scheme: p.app.Scheme, Host: p.app.Host, RawQuery: r.target.query, ForceQuery: r.target.hasQuery}
			if strings.HasPrefix(r.target.path, "//") {
				pr.Out.URL.Path = r.target.path // as Opaque it would be a host
			} else {
				pr.Out.URL.Opaque = r.target.path // byte by byte
			}
		},
	}).ServeHTTP(w, in)
}

// away answers where the app does not.
func (p *proxy) away(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(r.Context().Err(), context.Canceled) {
		return // no client waits
	}
	p.log.WarnContext(r.Context(), "the app did not answer", "app", p.app.String(), "error", err)
	unavailable(w, fmt.Sprintf("The app at %s does not answer. Is it running?\n", p.app))
}

// unavailable is Envoy's 503, with words for a developer.
func unavailable(w http.ResponseWriter, text string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Retry-After", "1")
	answer(w, http.StatusServiceUnavailable, text)
}

// noRoom is the 431 of envoy.yaml.
func noRoom(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/problem+json")
	answer(w, http.StatusRequestHeaderFieldsTooLarge, `{"code":"header_room","detail":"The request has too many headers, or too large ones. Send fewer, or delete cookies.",`+
		`"status":431,"title":"Request Header Fields Too Large"}`+"\n")
}

// answer is a reply of the proxy itself.
func answer(w http.ResponseWriter, status int, body string) {
	if w.Header().Get("Content-Type") == "" && body != "" {
		w.Header().Set("Content-Type", "text/plain")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) //nolint:gosec // plain text, or what the check says with a type of its own
}

// parseApp reads the address of the app.
func parseApp(text string) (*url.URL, error) {
	app, err := url.Parse(text)
	if err != nil || app.Scheme != "http" && app.Scheme != "https" || app.Host == "" || app.User != nil || app.RawQuery != "" || app.Fragment != "" ||
		path.Clean("/"+app.Path) != "/" {
		return nil, fmt.Errorf("app: found %q; allowed: http://HOST[:PORT] or https://HOST[:PORT]", text)
	}
	return app, nil
}
