package sessiondev

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// Options say what a [Server] stands in front of. Only App is required.
type Options struct {
	// App is the address of the app: http://HOST[:PORT] or https://HOST[:PORT].
	App string
	// Listen is where browsers connect, Internal where the app calls the sessions API: HOST:PORT,
	// where HOST is of this machine alone. Empty: a free port of 127.0.0.1.
	Listen, Internal string
	// LoginURL is where a request without a session is sent. Where it is a path, that path has no
	// check. Empty: a form of this package, at [LoginPath], which signs anybody in.
	LoginURL string
	// Default is the policy of requests for which Routes has no entry. nil: as sessiongate's own
	// default, anti_csrf is attested.
	Default *authz.Policy
	// Routes are policies for hosts, paths and methods.
	Routes []authz.Route
	// AllowedOrigins are other origins whose pages may act as the signed-in user.
	AllowedOrigins []string
	// StripCookies takes the session's tokens from what the app sees.
	StripCookies bool
	// APIKey is the key of the sessions API. Empty: one is made.
	APIKey string
	// Envoy has the real Envoy with the shipped envoy.yaml stand in front, in the place of the proxy of
	// this package. It is the one that the environment variable ENVOY names, or it is fetched. The app is
	// then at an address of http.
	Envoy bool
	// Log gets a line for every denial. nil: none is written.
	Log *slog.Logger
}

// Server is a running sessiongate in front of an app.
type Server struct {
	// URL is where browsers go, InternalURL where the sessions API is: http://HOST:PORT.
	URL, InternalURL string
	// APIKey is the key of the sessions API.
	APIKey string

	engine  *sessions.Engine
	store   *memory.Store
	cookies browser.Cookies
	life    time.Duration // of an access token
	attempt time.Duration // D of docs/protocol.md
	seen    *seenTokens
	playing sync.Mutex // one fault at a time
	out     atomic.Bool

	ended <-chan struct{}
	stop  func() error
}

// The limits of the listeners. They are not settings: this is no production.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 300 * time.Second
	// stopTimeout is what requests under way get when the server is closed.
	stopTimeout = time.Second
	// feedPoll is short, so that a fault is heard of soon.
	feedPoll = 50 * time.Millisecond
)

// Start runs sessiongate in front of an app until the Server is closed. ctx bounds the start alone.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	app, err := parseApp(o.App)
	if err != nil {
		return nil, err
	}
	if o.Envoy && app.Scheme != scheme {
		return nil, fmt.Errorf("app: found %q; allowed behind Envoy: http://HOST[:PORT]", o.App)
	}
	if o.LoginURL == "" {
		o.LoginURL = LoginPath
	}
	s := &Server{APIKey: o.APIKey, store: memory.New(), cookies: cookies(), seen: newSeenTokens()}
	if s.APIKey == "" {
		s.APIKey = rand.Text() + rand.Text()
	}
	ready, err := s.newEngine()
	if err != nil {
		return nil, err
	}
	p := &proxy{app: app, authPath: s.cookies.AuthPath, login: loginPath(o.LoginURL), origins: slices.Clone(o.AllowedOrigins), log: o.Log, control: s.controls()}
	p.transport = &http.Transport{DisableCompression: true, IdleConnTimeout: appIdle, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}
	backends, err := s.serveEngine(p, o)
	if err != nil {
		return nil, err
	}
	var d door = &proxyDoor{address: o.Listen, proxy: p}
	if o.Envoy {
		d = &envoyDoor{address: o.Listen, proxy: p, log: o.Log, ready: s.engine.Ready}
	}
	return s, s.run(ctx, o, d, backends, ready)
}

// cookies are those of sessiongate, for plain http.
func cookies() browser.Cookies {
	c := browser.DefaultCookies()
	c.Secure, c.HostPrefix, c.Partitioned = false, false, false
	return c
}

// loginPath is the path of a login address of this host, or empty.
func loginPath(login string) string {
	at, err := url.Parse(login)
	if err != nil || at.Host != "" {
		return ""
	}
	return at.Path
}

// newEngine makes the engine over an empty store. ready is closed once it answers.
func (s *Server) newEngine() (ready chan struct{}, err error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	cfg := sessions.Defaults()
	if cfg.KeyEncryptionKey, err = sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(secret[:])); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	ready = make(chan struct{})
	cfg.FeedPoll = feedPoll
	cfg.Observe = func(e sessions.Event) {
		switch e.Kind { //nolint:exhaustive // the others are for a production's log
		case sessions.EventReady:
			close(ready)
		case sessions.EventCreated:
			s.seen.created(e.Handle, e.UserID)
		}
	}
	s.life, s.attempt = cfg.AccessTokenLife, cfg.RefreshAttemptMax
	if s.engine, err = sessions.New(s.store, cfg); err != nil {
		return nil, fmt.Errorf("making the engine: %w", err)
	}
	return ready, nil
}

// serveEngine gives p the check and the auth path, and returns the sessions API.
func (s *Server) serveEngine(p *proxy, o Options) (backends http.Handler, err error) {
	handlers := sessionhttp.Defaults()
	handlers.Cookies, handlers.AllowedOrigins, handlers.DenialHeader, handlers.Log = s.cookies, o.AllowedOrigins, true, o.Log
	handlers.RefreshAttemptMax = s.attempt
	handlers.OwnSessions.Enabled = true
	handlers.APIKeys = map[string]sessionhttp.APIKey{"dev": {Digest: sessionhttp.DigestKey(s.APIKey), Scopes: sessionhttp.AllScopes}}
	browsers, err := sessionhttp.Public(s.engine, handlers)
	if err != nil {
		return nil, fmt.Errorf("making the auth path: %w", err)
	}
	p.public = s.seen.watch(browsers, s.cookies)
	if backends, err = sessionhttp.Internal(s.engine, handlers); err != nil {
		return nil, fmt.Errorf("making the sessions API: %w", err)
	}
	policy := authz.Policy{AntiCSRF: authz.AntiCSRFAttested}
	if o.Default != nil {
		policy = *o.Default
	}
	policy.ReturnTo = policy.ReturnTo || o.LoginURL == LoginPath
	p.authz, err = authz.New(s.engine, authz.Config{
		Cookies: s.cookies, LoginURL: o.LoginURL, RefreshPath: handlers.RefreshPath, SignoutPath: handlers.SignoutPath,
		BindPath: handlers.Binding.At(s.cookies).BindPath, BoundPath: handlers.Binding.At(s.cookies).BoundPath,
		SessionExpiredStatus: handlers.SessionExpiredStatus, Default: policy, Routes: o.Routes, AllowedOrigins: o.AllowedOrigins,
		DenialHeader: true, StripCookies: o.StripCookies, RefreshAttemptMax: s.attempt, Log: o.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("making the check: %w", err)
	}
	return s.seen.watch(backends, s.cookies), nil
}

// door is what browsers come to: the proxy of this package, or the real Envoy.
type door interface {
	// open returns the address for browsers, once they are answered there. What it starts in g returns
	// an error where it ends by itself.
	open(ctx context.Context, g *errgroup.Group) (url string, err error)
	// close ends all of it; what is under way has until grace is over.
	close(grace context.Context) error
}

// run opens the sessions API and the door, and starts everything.
func (s *Server) run(ctx context.Context, o Options, d door, backends http.Handler, ready chan struct{}) error {
	internal, err := listen(ctx, o.Internal)
	if err != nil {
		return err
	}
	s.InternalURL = "http://" + internal.Addr().String()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	g, going := errgroup.WithContext(life)
	s.ended = going.Done()
	back := newHTTPServer(backends)
	g.Go(func() error { return s.engine.Run(life) })
	g.Go(func() error { return served(back.Serve(internal)) })
	s.stop = sync.OnceValue(func() error {
		grace, cancel := context.WithTimeout(life, stopTimeout)
		defer cancel()
		err := d.close(grace)
		shut(grace, back)
		end()
		return errors.Join(err, g.Wait())
	})
	select {
	case <-ready:
	case <-ctx.Done():
	case <-going.Done():
		return s.stop()
	}
	if err := ctx.Err(); err != nil { // it may be ready all the same
		return errors.Join(err, s.stop())
	}
	if s.URL, err = d.open(ctx, g); err != nil {
		return errors.Join(err, s.stop())
	}
	return nil
}

// proxyDoor is the proxy of this package.
type proxyDoor struct {
	address string
	proxy   *proxy

	front    *http.Server
	end      context.CancelFunc // of streams, too, which a server forgets once they are its handler's
	underWay sync.WaitGroup
}

func (d *proxyDoor) open(ctx context.Context, g *errgroup.Group) (string, error) {
	public, err := listen(ctx, d.address)
	if err != nil {
		return "", err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	d.end = end
	d.front = newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.underWay.Add(1)
		defer d.underWay.Done()
		d.proxy.ServeHTTP(w, r)
	}))
	d.front.BaseContext = func(net.Listener) context.Context { return life }
	g.Go(func() error { return served(d.front.Serve(public)) })
	return "http://" + public.Addr().String(), nil
}

func (d *proxyDoor) close(grace context.Context) error {
	if d.front == nil {
		return nil
	}
	shut(grace, d.front)
	d.end()
	d.underWay.Wait()
	d.proxy.transport.CloseIdleConnections()
	return nil
}

// shut ends a server. What is still under way after the grace is cut.
func shut(grace context.Context, server *http.Server) {
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
}

func newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: bytesMax,
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// listen opens a listener that only this machine can reach: the controls have no password, and the
// keys of a test are no secret.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listen: found %q; allowed: a loopback address, such as 127.0.0.1:8080: this is for development, and other machines must not reach it", address)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// Ended is closed when the server has ended by itself, as where Envoy was killed, or by Close. Close
// then says why.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Close ends the server and all sessions, and returns when nothing of it runs.
func (s *Server) Close() error { return s.stop() }
