package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// serve runs the process until ctx ends, and returns when all of it has stopped.
//
// Order of start: the listeners, so that a port in use is known at once; the
// schema; the engine. Until the engine has read keys and feed, everything is
// answered 503. A database that is away is waited for.
//
// Order of stop: readiness goes; the drain delay passes, in which each HTTP
// answer closes its connection; the listeners close, and
// what is under way is finished; the listener of profiles closes, and spans are
// exported; the engine flushes its promotions and audit events; the database
// connections close.
func serve(ctx context.Context, c Config, creds Credentials, certs Certificates, out *audit, above supervisor, log *slog.Logger) error {
	limitMemory(c.Memory.LimitPercent, memlimit.FromCgroup, log)
	collectGarbage(c.Memory.GCPercent, os.Getenv("GOGC"))
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
	s.authz = authz.NewGRPCServer(check, ready, c.GRPC)
	public, api := httpConfig(c, creds, slog.New(logs.public)), httpConfig(c, creds, slog.New(logs.internal))
	public.Observe, api.Observe = spans.observe(counts.request("public")), spans.observe(counts.request("internal"))
	browsers, err := sessionhttp.Public(engine, public)
	if err != nil {
		return err
	}
	api.Beside = [][2]string{{"/readyz, /healthz", "whether it can serve, and whether it runs"}, {"/metrics", "for Prometheus"}} // mounted below
	backends, err := sessionhttp.Internal(engine, api)
	if err != nil {
		return err
	}
	spanned := []string{ask.RefreshPath, ask.SignoutPath, ask.BindPath, ask.BoundPath}
	browsers = spans.handler(browsers, func(path string) bool { return slices.Contains(spanned, path) })
	backends = spans.handler(backends, func(path string) bool { return strings.HasPrefix(path, "/v1/") })
	s.public = newHTTPServer(c, &draining, browsers)
	internal := http.NewServeMux()
	internal.Handle("/", certs.internal.withClientCertificate(backends))
	counts.now = func() state {
		return state{
			engine: engine.Stats(), started: engine.Ready(), ready: ready(), feedBound: c.Engine.FeedBound,
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
			above.tell(stops, log)
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
		log.Warn("there is no API key (api.key_files, api.key_hashes, api.keys): no backend can create a session until one is set")
	}
	if open := s.plainEverywhere(certs); len(open) > 0 {
		log.Warn("plain text on every interface: a client that reaches such a listener reads and sends tokens; "+
			"listen on one address or on a unix socket, or give it TLS (tls.*), unless the network is closed to others", "listeners", strings.Join(open, ", "))
	}
	above.tell(listens, log)
	log.Info("listening", "version", version(), "addresses", s.addresses())
	err = g.Wait()
	log.Info("stopped")
	return err
}
