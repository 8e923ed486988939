package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/pprof" // it registers with http.DefaultServeMux, too, which no listener serves; a test looks
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiongate/sessiongate/internal/settings"
)

const (
	// pprofPath is where [pprof.Index] expects to be.
	pprofPath = "/debug/pprof/"

	// profileSecondsMax bounds what one forgotten request costs.
	profileSecondsMax = 300
)

// loopbackAddress takes literal addresses only: what a name means, a resolver decides.
func loopbackAddress(p *string) settings.Kind {
	return settings.Text(p, fmt.Sprintf("HOST:PORT with a loopback address as HOST, 127.0.0.1:6060 or [::1]:6060 (port 0: any free one), or unix:/PATH of at most %d bytes", maxSocketPath),
		func(s string) bool {
			if strings.HasPrefix(s, "unix:") {
				return isSocket(s)
			}
			address, err := netip.ParseAddrPort(s)
			return err == nil && isTCPAddress(s) && address.Addr().IsLoopback() && address.Addr().Zone() == "" && !address.Addr().Is4In6()
		})
}

// newProfileServer serves the profiles of this process. A CPU profile takes as long as
// its client asks, up to [profileSecondsMax], so there is no limit on writing.
func newProfileServer(c Config) *http.Server {
	return &http.Server{
		Handler:           countedByConnection(profiles(strings.HasPrefix(c.Profiling.Listen, "unix:"))),
		ConnContext:       withConnection,
		Protocols:         http1(),
		ReadHeaderTimeout: c.Listen.ReadTimeout,
		IdleTimeout:       c.Listen.IdleTimeout,
		MaxHeaderBytes:    c.Listen.HeaderMax,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}

// profiles answers with the profiles of this process. A browser on this machine
// reaches a loopback address, too, and a page can give its own name that address (DNS
// rebinding): on TCP, only a Host that is a loopback address or localhost is answered.
// A page needs no answer to start a profile, so what a page sends is refused, too.
func profiles(socket bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(pprofPath, bounded(pprof.Index)) // heap, goroutine and the others by name
	mux.HandleFunc(pprofPath+"cmdline", pprof.Cmdline)
	mux.HandleFunc(pprofPath+"profile", bounded(pprof.Profile))
	mux.HandleFunc(pprofPath+"symbol", pprof.Symbol)
	mux.HandleFunc(pprofPath+"trace", bounded(pprof.Trace))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !socket && !isLoopbackHost(r.Host) {
			http.Error(w, "Call profiles by a loopback address or localhost.", http.StatusForbidden)
			return
		}
		if !socket && isFromPage(r.Header) {
			http.Error(w, "Call profiles with the command sessiongate profile, with curl, or by the address bar of a browser: a web page may not.", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// isFromPage says whether a page in a browser caused a request, as opposed to a user who
// typed the address. Browsers send Sec-Fetch-Site to loopback addresses, under HTTP too.
func isFromPage(h http.Header) bool {
	return len(h.Values("Origin")) > 0 ||
		slices.ContainsFunc(h.Values("Sec-Fetch-Site"), func(site string) bool { return site != "" && site != "none" })
}

// bounded refuses a profile that takes too long. It reads seconds as net/http/pprof
// does: one that is no number is the default there.
func bounded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seconds, _ := strconv.ParseFloat(r.FormValue("seconds"), 64) // out of range: infinite
		if math.IsNaN(seconds) || seconds > profileSecondsMax {
			http.Error(w, fmt.Sprintf("The parameter seconds must be at most %d. Ask for a shorter profile.", profileSecondsMax), http.StatusBadRequest)
			return
		}
		h(w, r)
	}
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
