package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// serve runs the process until ctx ends, and returns when all of it has stopped.
//
// Order of start: the listeners, so that a port in use is known at once; the
// schema; the engine. Until the engine has read keys and feed, everything is
// answered 503. A database that is away is waited for.
//
// Order of stop: readiness goes; the drain delay passes, so that Envoy sends no
// more, and each HTTP answer closes its connection; the listeners close, and
// what is under way is finished; the listener of profiles closes, and spans are
// exported; the engine flushes its promotions and audit events; the database
// connections close.
func serve(ctx context.Context, c Config, creds Credentials, certs Certificates, out *audit, log *slog.Logger) error {
	limitMemory(c.Memory.LimitPercent, memlimit.FromCgroup, log)
	store, err := openStore(ctx, c, creds)
	if err != nil {
		return err
	}
	defer store.Close()
	spans, err := newTracing(ctx, c, log)
	if err != nil {
		return err
	}
	counts := newMetrics()
	engine, err := newEngine(spans.store(store), c, creds, out, func(e sessions.Event) {
		counts.event(e)
		logEvent(ctx, log, e)
	})
	if err != nil {
		return err
	}
	logs := newRequestLogs(log.Handler(), c.Log.DenialsPerSecond)
	ask := authzConfig(c, slog.New(logs.authz))
	ask.Observe = counts.check
	check, err := authz.New(engine, ask)
	if err != nil {
		return err
	}
	s, err := listen(ctx, c, certs)
	if err != nil {
		return err
	}
	var draining atomic.Bool
	ready := func() bool { return engine.Ready() && !draining.Load() }
	s.authz = authz.NewGRPCServer(check, ready, grpcLimits(c))
	public, api := httpConfig(c, creds, slog.New(logs.public)), httpConfig(c, creds, slog.New(logs.internal))
	public.Observe, api.Observe = spans.observe(counts.request("public")), spans.observe(counts.request("internal"))
	browsers, err := sessionhttp.Public(engine, public)
	if err != nil {
		return err
	}
	backends, err := sessionhttp.Internal(engine, api)
	if err != nil {
		return err
	}
	browsers = spans.handler(browsers, func(path string) bool { return path == c.Paths.Refresh || path == c.Paths.Signout })
	backends = spans.handler(backends, func(path string) bool { return strings.HasPrefix(path, "/v1/") })
	s.public = newHTTPServer(c, &draining, browsers)
	internal := http.NewServeMux()
	internal.Handle("/", certs.internal.withClientCertificate(backends))
	counts.now = func() state {
		return state{
			engine: engine.Stats(), started: engine.Ready(), ready: ready(), feedBound: c.Feed.Bound,
			pool: store.PoolStats(), withheld: logs.withheld(),
		}
	}
	internal.Handle("/metrics", certs.internal.withClientCertificate(counts.handler()))
	health := sessionhttp.Health(engine, draining.Load)
	internal.Handle("/healthz", health)
	internal.Handle("/readyz", health)
	s.internal = newHTTPServer(c, &draining, sessionhttp.CleanPaths(internal, backends))
	s.profiles = newProfileServer(c)

	// The engine and the listeners outlive ctx by the drain.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(life)
	g.Go(func() error {
		if c.Database.Migrate {
			bringUpToDate(life, store, log)
		} else {
			awaitSchema(life, store, log)
		}
		return engine.Run(life)
	})
	g.Go(func() error { certs.follow(life, log); return nil })
	s.start(life, g, engine.Ready)
	g.Go(func() error {
		select {
		case <-ctx.Done():
			log.Info("draining", "delay", c.Shutdown.DrainDelay.String())
		case <-life.Done(): // a part failed; nothing is left to wait for
		}
		draining.Store(true)
		pause(life, c.Shutdown.DrainDelay)
		began := time.Now()
		s.stop(context.WithoutCancel(ctx), c.Shutdown.Timeout, c.Shutdown.Linger, log)
		spans.stop(context.WithoutCancel(ctx), c.Shutdown.Timeout-time.Since(began))
		end()
		return nil
	})
	if err := s.writeAddresses(c.Listen.AddressFile); err != nil {
		end()
		return errors.Join(err, g.Wait())
	}
	if len(creds.APIKeys)+len(c.API.KeyHashes) == 0 {
		log.Warn("there is no API key (api.key_files, api.key_hashes, api.keys): nobody can create a session")
	}
	log.Info("listening", "version", version(), "addresses", s.addresses())
	err = g.Wait()
	log.Info("stopped")
	return err
}

// migrate brings the schema up to date, once.
func migrate(ctx context.Context, store *postgres.Store, log *slog.Logger) error {
	applied, err := store.Migrate(ctx)
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	log.Info("schema is up to date", "applied", applied)
	return nil
}

const (
	migrateRetryFirst = 200 * time.Millisecond
	migrateRetryLast  = 5 * time.Second
)

// bringUpToDate migrates until it succeeds or ctx ends.
func bringUpToDate(ctx context.Context, store *postgres.Store, log *slog.Logger) {
	for wait := migrateRetryFirst; ctx.Err() == nil; wait = min(2*wait, migrateRetryLast) {
		applied, err := store.Migrate(ctx)
		if err == nil {
			log.Info("schema is up to date", "applied", applied)
			return
		}
		if ctx.Err() == nil {
			log.Warn("schema could not be brought up to date; trying again (a role that may not do it: database.migrate false, and `sessiongate migrate`)", "error", err.Error())
		}
		pause(ctx, wait)
	}
}

// awaitSchema waits until somebody else has brought the schema up to date and
// this role may use it, or ctx ends. Each reason is logged once.
func awaitSchema(ctx context.Context, store *postgres.Store, log *slog.Logger) {
	said := ""
	for wait := migrateRetryFirst; ctx.Err() == nil; wait = min(2*wait, migrateRetryLast) {
		err := store.CheckSchema(ctx)
		switch missing := (*postgres.SchemaError)(nil); {
		case err == nil:
			return
		case ctx.Err() != nil || err.Error() == said:
		case errors.As(err, &missing):
			log.Error("not ready: "+missing.Error(), "retried_every", migrateRetryLast.String())
		default:
			log.Warn("the schema could not be looked at; trying again", "error", err.Error())
		}
		said = err.Error()
		pause(ctx, wait)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func openStore(ctx context.Context, c Config, creds Credentials) (*postgres.Store, error) {
	store, err := postgres.Open(ctx, postgres.Config{
		URL:              string(c.Database.URL),
		Password:         string(creds.DatabasePassword),
		MaxConnections:   c.Database.MaxConnections,
		StatementTimeout: c.Database.StatementTimeout,
		ConnectTimeout:   c.Database.ConnectTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	return store, nil
}

func newEngine(store sessions.Store, c Config, creds Credentials, out *audit, events func(sessions.Event)) (*sessions.Engine, error) {
	keks, err := keyEncryption(creds)
	if err != nil {
		return nil, err
	}
	e := sessions.Defaults()
	e.KeyEncryptionKey, e.PreviousKeyEncryptionKey = keks.Key, keks.Previous
	e.RotateKeysEvery, e.KeyActivationDelay = c.Keys.RotateEvery, c.Keys.ActivationDelay
	e.Issuer = c.Issuer
	e.AccessTokenLife = c.Session.AccessTokenLife
	e.SlidingLife = c.Session.SlidingLife
	e.AbsoluteLife = c.Session.AbsoluteLife
	e.RefreshAttemptMax = c.Session.RefreshAttemptMax
	e.IssuesMax = c.Session.IssuesMax
	e.PerUser = sessions.UserLimit{Max: c.Session.MaxPerUser, EvictOldest: c.Session.WhenFull == "evict_oldest"}
	e.RefreshesPerSession = sessions.Rate{PerSecond: c.Refresh.PerSessionRate, Burst: c.Refresh.PerSessionBurst}
	e.RefreshesPerAddress = sessions.Rate{PerSecond: c.Refresh.PerAddressRate, Burst: c.Refresh.PerAddressBurst}
	e.FeedPoll = c.Feed.PollInterval
	e.FeedBound = c.Feed.Bound
	e.CachedTokens, e.UnverifiedCPU = c.Cache.Tokens, c.Cache.UnverifiedCPU
	e.PromotionQueue = c.Promotion.Queue
	e.PromotionBatch = c.Promotion.Batch
	e.SweepPause = c.Sweep.Interval
	e.SweepBatch = c.Sweep.Batch
	if out != nil {
		e.Audit = out.deliver
	}
	e.Observe = events
	return sessions.New(store, e)
}

func authzConfig(c Config, log *slog.Logger) authz.Config {
	antiCSRF := authz.AntiCSRF(slices.Index(authz.AntiCSRFModes(), c.AntiCSRF))                                 //nolint:gosec // one of them, says the table
	unauthorised := authz.OnUnauthorised(slices.Index(authz.OnUnauthorisedNames(), c.Responses.OnUnauthorised)) //nolint:gosec // one of them, says the table
	return authz.Config{
		Cookies: cookies(c), LoginURL: c.LoginURL, RefreshPath: c.Paths.Refresh, SignoutPath: c.Paths.Signout,
		SessionExpiredStatus: c.Responses.SessionExpiredStatus,
		Default:              authz.Policy{AntiCSRF: antiCSRF, OnUnauthorised: unauthorised},
		Routes:               c.Routes,
		AllowedOrigins:       c.AllowedOrigins, StripCookies: c.StripCookies, DenialHeader: c.Responses.DenialHeader,
		RefreshAttemptMax: c.Session.RefreshAttemptMax, Log: log,
	}
}

func grpcLimits(c Config) authz.Limits {
	return authz.Limits{
		MaxMessage: c.GRPC.MaxMessage, MaxStreams: uint32(c.GRPC.MaxStreams), //nolint:gosec // at most 1,000,000, says the table
		MaxCalls:      c.GRPC.MaxCalls,
		ConnectionAge: c.GRPC.ConnectionAge, ConnectionAgeGrace: c.GRPC.ConnectionAgeGrace,
		Handshake: authz.DefaultLimits().Handshake,
	}
}

func httpConfig(c Config, creds Credentials, log *slog.Logger) sessionhttp.Config {
	return sessionhttp.Config{
		Cookies: cookies(c), RefreshPath: c.Paths.Refresh, SignoutPath: c.Paths.Signout,
		SessionExpiredStatus: c.Responses.SessionExpiredStatus, AllowedOrigins: c.AllowedOrigins,
		RefreshAttemptMax: c.Session.RefreshAttemptMax,
		DenialHeader:      c.Responses.DenialHeader, BodyMax: int64(c.API.BodyMax), APIKeys: apiKeys(c, creds), Log: log,
	}
}

func cookies(c Config) browser.Cookies {
	sameSite := map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}
	return browser.Cookies{
		AccessName: c.Cookies.AccessName, RefreshName: c.Cookies.RefreshName, Domain: c.Cookies.Domain,
		SameSite: sameSite[c.Cookies.SameSite], Secure: c.Cookies.Secure, HostPrefix: c.Cookies.HostPrefix,
		Partitioned: c.Cookies.Partitioned, FrontendDomain: c.Cookies.FrontendDomain,
		AuthPath: c.Paths.Auth, FormerPaths: c.Cookies.FormerPaths,
	}
}

// servers are the three listeners and what answers on them. There is a fourth where
// profiling is on.
type servers struct {
	authzListener, publicListener, internalListener *listener
	profilesListener                                *listener // nil: off

	authz            *grpc.Server
	public, internal *httpServer
	profiles         *http.Server
}

func listen(ctx context.Context, c Config, certs Certificates) (*servers, error) {
	var s servers
	var faults []error
	for _, l := range []struct {
		key, address string
		tls          *certificate
		into         **listener
	}{
		{"listen.authz", c.Listen.Authz, certs.authz, &s.authzListener},
		{"listen.public", c.Listen.Public, certs.public, &s.publicListener},
		{"listen.internal", c.Listen.Internal, certs.internal, &s.internalListener},
		{"profiling.listen", c.Profiling.Listen, nil, &s.profilesListener},
	} {
		if l.address == "" { // profiling is off
			continue
		}
		plain, err := listenOn(ctx, l.address)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", l.key, err))
			continue
		}
		*l.into = newListener(plain, c.Listen.MaxConnections, l.tls.wrap)
	}
	if faults == nil {
		return &s, nil
	}
	for _, l := range []*listener{s.authzListener, s.publicListener, s.internalListener, s.profilesListener} {
		if l != nil {
			faults = append(faults, l.Close())
		}
	}
	return nil, errors.Join(faults...)
}

// listenOn listens on HOST:PORT or unix:/PATH. A socket that a killed process
// left is replaced; one that is answered is not.
func listenOn(ctx context.Context, address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	var l net.ListenConfig
	if !unix {
		return l.Listen(ctx, "tcp", address)
	}
	listener, err := l.Listen(ctx, "unix", path)
	if err == nil {
		return listener, nil
	}
	var d net.Dialer
	if conn, dialErr := d.DialContext(ctx, "unix", path); dialErr == nil {
		return nil, errors.Join(fmt.Errorf("another process answers on %s", path), conn.Close())
	}
	if info, statErr := os.Lstat(path); statErr != nil || info.Mode().Type() != fs.ModeSocket {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return l.Listen(ctx, "unix", path)
}

const (
	// startGrace is how long a process that starts lets browsers wait before it tells them
	// that it is not ready. Envoy sends them as soon as it can connect; in a rollout, with
	// a database that answers, none is to be refused.
	startGrace = 2 * time.Second
	startLook  = 10 * time.Millisecond
)

// start serves until stop, what browsers reach once ready says so.
func (s *servers) start(ctx context.Context, g *errgroup.Group, ready func() bool) {
	g.Go(func() error {
		if err := s.authz.Serve(s.authzListener); !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
			return err
		}
		return nil
	})
	g.Go(func() error {
		for began := time.Now(); !ready() && ctx.Err() == nil && time.Since(began) < startGrace; {
			pause(ctx, startLook)
		}
		return s.public.serve(s.publicListener)
	})
	g.Go(func() error { return s.internal.serve(s.internalListener) })
	if s.profilesListener != nil {
		g.Go(s.serveProfiles)
	}
}

// stop lets what is under way finish, for at most timeout; see [httpServer.stop].
// gRPC's server waits for connections that have not begun, too, so they go first;
// and where time is up, for those under TLS, which it does not know.
func (s *servers) stop(ctx context.Context, timeout, linger time.Duration, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return s.public.stop(ctx, s.publicListener, linger) })
	g.Go(func() error { return s.internal.stop(ctx, s.internalListener, linger) })
	g.Go(func() error {
		s.authzListener.connections.closeSilent()
		cut := context.AfterFunc(ctx, func() {
			s.authzListener.connections.closeAll()
			s.authz.Stop()
		})
		defer cut()
		s.authz.GracefulStop()
		return ctx.Err()
	})
	if err := g.Wait(); err != nil {
		log.Warn("shutdown cut what was still under way", "error", err.Error())
	}
	if s.profilesListener != nil { // the last, so that a stop can be profiled; no stop waits for a profile
		_ = s.profiles.Close()
	}
}

func (s *servers) addresses() map[string]string {
	text := func(l *listener) string {
		if l.Addr().Network() == "unix" {
			return "unix:" + l.Addr().String()
		}
		return l.Addr().String()
	}
	all := map[string]string{"authz": text(s.authzListener), "public": text(s.publicListener), "internal": text(s.internalListener)}
	if s.profilesListener != nil {
		all["profiling"] = text(s.profilesListener)
	}
	return all
}

// writeAddresses tells whoever started us with port 0 where we listen. The file
// appears whole.
func (s *servers) writeAddresses(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(s.addresses())
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".addresses-*")
	if err != nil {
		return fmt.Errorf("listen.address_file: %w", err)
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("listen.address_file: %w", errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}
