package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof" // it registers with http.DefaultServeMux, too, which no listener serves; a test looks
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// pprofPath is where [pprof.Index] expects to be.
const pprofPath = "/debug/pprof/"

// loopbackAddress takes literal addresses only: what a name means, a resolver decides.
func loopbackAddress(p *string) kind {
	return text(p, fmt.Sprintf("HOST:PORT with a loopback address as HOST, 127.0.0.1:6060 or [::1]:6060 (port 0: any free one), or unix:/PATH of at most %d bytes", maxSocketPath),
		func(s string) bool {
			if strings.HasPrefix(s, "unix:") {
				return isSocket(s)
			}
			address, err := netip.ParseAddrPort(s)
			return err == nil && isTCPAddress(s) && address.Addr().IsLoopback() && address.Addr().Zone() == "" && !address.Addr().Is4In6()
		})
}

// newProfileServer serves the profiles of this process. A CPU profile takes as long as
// its client asks, so there is no limit on writing.
func newProfileServer(c Config) *http.Server {
	return &http.Server{
		Handler:           countedByConnection(profiles(strings.HasPrefix(c.Profiling.Listen, "unix:"))),
		ConnContext:       withConnection,
		Protocols:         http1(),
		ReadHeaderTimeout: c.HTTP.ReadTimeout,
		IdleTimeout:       c.HTTP.IdleTimeout,
		MaxHeaderBytes:    c.HTTP.HeaderMax,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}

// profiles answers with the profiles of this process. A browser on this machine
// reaches a loopback address, too, and a page can give its own name that address (DNS
// rebinding): on TCP, only a Host that is a loopback address or localhost is answered.
func profiles(socket bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(pprofPath, pprof.Index) // heap, goroutine and the others by name
	mux.HandleFunc(pprofPath+"cmdline", pprof.Cmdline)
	mux.HandleFunc(pprofPath+"profile", pprof.Profile)
	mux.HandleFunc(pprofPath+"symbol", pprof.Symbol)
	mux.HandleFunc(pprofPath+"trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !socket && !isLoopbackHost(r.Host) {
			http.Error(w, "Call profiles by a loopback address or localhost.", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && address.IsLoopback()
}

// serveProfiles serves until the server is closed.
func (s *servers) serveProfiles() error {
	if err := s.profiles.Serve(s.profilesListener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type profileCmd struct {
	Name    string `arg:""       enum:"cpu,heap,allocs,goroutine,trace"          help:"One of ${enum}."`
	Seconds int    `default:"30" help:"How long a cpu profile or a trace takes."`
}

// Run implements the command.
func (k profileCmd) Run(c *commands, p process) error {
	config, _, err := load(c.ConfigFile, p.environ)
	if err != nil {
		return err
	}
	address := config.Profiling.Listen
	switch {
	case address == "":
		return errors.New("profiling.listen is empty: profiling is off")
	case strings.HasSuffix(address, ":0"):
		return errors.New("profiling.listen has port 0: this command needs a fixed one")
	case k.Seconds < 1:
		return errors.New("--seconds must be at least 1")
	}
	return fetchProfile(p.ctx, p.stdout, address, k.Name, k.Seconds)
}

// profileSlack is how long a profile may take beyond the time that it measures.
const profileSlack = 30 * time.Second

// fetchProfile writes a profile of the process that listens at address.
func fetchProfile(ctx context.Context, w io.Writer, address, name string, seconds int) error {
	network, at, host := "tcp", address, address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, at, host = "unix", path, "localhost"
	}
	path := name
	switch name {
	case "cpu":
		path = "profile?seconds=" + strconv.Itoa(seconds)
	case "trace":
		path = "trace?seconds=" + strconv.Itoa(seconds)
	default:
		seconds = 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+profileSlack)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+pprofPath+path, nil)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("no profile: %s", response.Status)
	}
	_, err = io.Copy(w, response.Body)
	return err
}
