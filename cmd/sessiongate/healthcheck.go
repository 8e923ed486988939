package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// healthcheckTimeout is less than the interval at which orchestrators usually
// ask (10s and more).
const healthcheckTimeout = 3 * time.Second

type healthcheckCmd struct{}

// Run implements the command.
func (healthcheckCmd) Run(f *flags, p process) error {
	config, _, err := load(f.ConfigFile, p.environ)
	if err != nil {
		return err
	}
	return healthcheck(p.ctx, p.stdout, config.Listen.Internal, config.TLS.Internal.Cert != "")
}

// healthcheck asks the internal listener at address whether it is ready and
// says so in one line.
func healthcheck(ctx context.Context, w io.Writer, address string, encrypted bool) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reading listen.internal: %w", err)
	}
	if port == "0" {
		return errors.New("listen.internal has port 0: a health check needs a fixed one")
	}
	// A listener on every interface is asked on this machine's own.
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	scheme := "http://"
	if encrypted {
		scheme = "https://"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("asking /readyz: %w", err)
	}
	// Without a proxy: the process is next to us, whatever HTTP_PROXY says. Its
	// certificate has the names by which others call it, and may be renewed at
	// this moment; nothing secret is sent, and whoever could answer here in its
	// place would gain only that this line says "ready".
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}} //nolint:gosec // see above
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking /readyz: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", response.Status)
	}
	_, err = fmt.Fprintln(w, "ready")
	return err
}
