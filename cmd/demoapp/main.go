// Command demoapp is the existing system of the demo: a sign-in page, a page, a
// small API and static files. It stands behind Envoy and shows how little such a
// system has to do to live with sessiongate: ask its HTTP API for a session at
// sign-in, copy the answer's cookies, and read who is signed in from the header
// x-session-user-id.
//
// It believes that header and asks for no password. A client that reaches it without
// Envoy can claim any identity, so it must listen where only Envoy is.
//
// It is also the demo's stage. At a second address it is the network between browsers and
// Envoy, which can lose an answer and shows what passed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = time.Minute // a Postgres that was killed recovers before its switch is on
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 10 * time.Second
	maxHeaderBytes    = 64 << 10
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "demoapp:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then lets requests under way finish.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	env := func(name, fallback string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return fallback
	}
	flags := flag.NewFlagSet("demoapp", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", env("DEMOAPP_LISTEN", ":8080"), "`address` to listen on, :0 for any port (DEMOAPP_LISTEN)")
	addressFile := flags.String("address-file", getenv("DEMOAPP_ADDRESS_FILE"), "`file` to write the address to, once listening (DEMOAPP_ADDRESS_FILE)")
	gateURL := flags.String("sessiongate-url", getenv("SESSIONS_URL"), "base `URL` of sessiongate's internal API (SESSIONS_URL)")
	keyFile := flags.String("api-key-file", getenv("SESSIONS_API_KEY_FILE"), "`file` with the API key (SESSIONS_API_KEY_FILE); or the key itself in SESSIONS_API_KEY")
	publicURL := flags.String("public-url", getenv("DEMOAPP_PUBLIC_URL"), "base `URL` at which this program reaches Envoy, to play a thief; empty: no thief (DEMOAPP_PUBLIC_URL)")
	publicURLFile := flags.String("public-url-file", getenv("DEMOAPP_PUBLIC_URL_FILE"), "`file` with that address instead, which may come later (DEMOAPP_PUBLIC_URL_FILE)")
	networkListen := flags.String("network-listen", getenv("DEMOAPP_NETWORK_LISTEN"), "`address` at which browsers come to Envoy through a network that can lose answers; empty: none (DEMOAPP_NETWORK_LISTEN)")
	networkFile := flags.String("network-address-file", getenv("DEMOAPP_NETWORK_ADDRESS_FILE"), "`file` to write that address to (DEMOAPP_NETWORK_ADDRESS_FILE)")
	controlURL := flags.String("control-url", getenv("DEMOAPP_CONTROL_URL"), "base `URL` of what can end and start parts of the demo; its secret is in DEMOAPP_CONTROL_SECRET; empty: none (DEMOAPP_CONTROL_URL)")
	attempt := flags.String("refresh-attempt-max", env("DEMOAPP_REFRESH_ATTEMPT_MAX", "0s"), "sessiongate's session.refresh_attempt_max, so that the page can count down; 0s: it does not (DEMOAPP_REFRESH_ATTEMPT_MAX)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !isBaseURL(*gateURL) {
		return fmt.Errorf("SESSIONS_URL must be the http or https address of sessiongate's internal API, not %q", *gateURL)
	}
	if *publicURL != "" && !isBaseURL(*publicURL) {
		return fmt.Errorf("DEMOAPP_PUBLIC_URL must be the http or https address of Envoy, not %q", *publicURL)
	}
	if *controlURL != "" && !isBaseURL(*controlURL) {
		return fmt.Errorf("DEMOAPP_CONTROL_URL must be an http address, not %q", *controlURL)
	}
	s := stage{
		publicURL: *publicURL, publicURLFile: *publicURLFile,
		controlURL: strings.TrimSuffix(*controlURL, "/"), controlSecret: getenv("DEMOAPP_CONTROL_SECRET"),
	}
	var err error
	if s.attempt, err = time.ParseDuration(*attempt); err != nil || s.attempt < 0 {
		return fmt.Errorf("DEMOAPP_REFRESH_ATTEMPT_MAX must be a duration such as 10s, not %q", *attempt)
	}
	key, err := apiKey(getenv("SESSIONS_API_KEY"), *keyFile)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))

	app, err := listening(ctx, *listen)
	if err != nil {
		return err
	}
	doors := []door{app}
	if *networkListen != "" {
		network, err := listening(ctx, *networkListen)
		if err != nil {
			return errors.Join(err, app.listener.Close())
		}
		s.network = "http://" + network.listener.Addr().String() + "/"
		doors = append(doors, network)
	}
	a := newApp(newGate(*gateURL, key), s, log)
	doors[0].handler, doors[0].file = a.handler(), *addressFile
	if len(doors) > 1 {
		doors[1].handler, doors[1].file = a.network(), *networkFile
	}
	return serveUntil(ctx, log, doors)
}

// door is a listener, and what answers there.
type door struct {
	listener net.Listener
	handler  http.Handler
	file     string // gets the address once it is served
}

func listening(ctx context.Context, address string) (door, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return door{}, fmt.Errorf("listening: %w", err)
	}
	return door{listener: listener}, nil
}

// serveUntil serves all doors until ctx ends or one of them fails.
func serveUntil(ctx context.Context, log *slog.Logger, doors []door) error {
	served := make(chan error, len(doors))
	var servers []*http.Server
	for _, d := range doors {
		server := &http.Server{
			Handler:           d.handler,
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
		servers = append(servers, server)
		go func() { served <- server.Serve(d.listener) }()
		log.Info("listening", "address", d.listener.Addr().String())
	}
	running := len(doors)
	failed := func() error {
		for _, d := range doors {
			if d.file == "" {
				continue
			}
			if err := writeAddress(d.file, d.listener.Addr().String()); err != nil {
				return fmt.Errorf("writing the address file: %w", err)
			}
		}
		select {
		case err := <-served:
			running--
			return fmt.Errorf("serving: %w", err)
		case <-ctx.Done():
		}
		return nil
	}()
	log.Info("stopping")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	errs := []error{failed}
	// The network first: it still asks the app, by way of Envoy.
	for _, server := range slices.Backward(servers) {
		if err := server.Shutdown(stopping); err != nil {
			errs = append(errs, fmt.Errorf("stopping: %w", err), server.Close())
		}
	}
	for range running {
		errs = append(errs, ended(<-served))
	}
	return errors.Join(errs...)
}

// ended is what a server that was told to stop has to complain of.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// apiKey takes the key from where it was given; there is no flag for the key
// itself, since every local user can read the arguments of a process.
func apiKey(key, file string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading the API key: %w", err)
		}
		key = strings.TrimSpace(string(b))
	}
	if key == "" {
		return "", errors.New("no API key: set SESSIONS_API_KEY or SESSIONS_API_KEY_FILE")
	}
	return key, nil
}

// writeAddress writes by renaming, so that a process that waits for the file never reads half.
func writeAddress(file, address string) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(address)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
