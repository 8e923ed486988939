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
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

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
		if path, unix := strings.CutPrefix(l.address, "unix:"); unix && l.into == &s.profilesListener {
			// A profile is a secret. Envoy may be another user, so the other sockets keep what the umask gives.
			if err := os.Chmod(path, 0o600); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", l.key, err), plain.Close())
				continue
			}
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
	if s.profilesListener != nil { // last, so that a stop can be profiled; no stop waits for a profile
		_ = s.profiles.Close()
	}
}

// plainEverywhere are the listeners without TLS on every interface of the host.
func (s *servers) plainEverywhere(certs Certificates) (names []string) {
	for _, l := range []struct {
		key string
		at  *listener
		tls *certificate
	}{
		{"listen.authz", s.authzListener, certs.authz}, {"listen.public", s.publicListener, certs.public}, {"listen.internal", s.internalListener, certs.internal},
	} {
		if at, ok := l.at.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() && l.tls == nil {
			names = append(names, l.key)
		}
	}
	return names
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

// writeAddresses tells the process that started this one with port 0 where it listens.
func (s *servers) writeAddresses(file string) error {
	if file == "" {
		return nil
	}
	if err := writeJSONFile(file, s.addresses()); err != nil {
		return fmt.Errorf("listen.address_file: %w", err)
	}
	return nil
}

// writeJSONFile writes a file that appears whole, and that only its owner reads.
func writeJSONFile(file string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".addresses-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
