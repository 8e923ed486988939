// Command demoapp is the existing system of the demo: a sign-in page, a page, a
// small API and static files. It stands behind Envoy and shows how little such a
// system has to do to live with sessiongate: ask its HTTP API for a session at
// sign-in, copy the answer's cookies, and read who is signed in from the header
// x-session-user-id.
//
// It believes that header and asks for no password. A client that reaches it without
// Envoy can claim any identity, so it must listen where only Envoy is.
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
	"strings"
	"syscall"
	"time"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 15 * time.Second
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
	s := stage{publicURL: *publicURL, publicURLFile: *publicURLFile}
	var err error
	if s.attempt, err = time.ParseDuration(*attempt); err != nil || s.attempt < 0 {
		return fmt.Errorf("DEMOAPP_REFRESH_ATTEMPT_MAX must be a duration such as 10s, not %q", *attempt)
	}
	key, err := apiKey(getenv("SESSIONS_API_KEY"), *keyFile)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{
		Handler:           newHandler(newGate(*gateURL, key), s, log),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("listening", "address", listener.Addr().String())
	if *addressFile != "" {
		if err := writeAddress(*addressFile, listener.Addr().String()); err != nil {
			return errors.Join(fmt.Errorf("writing the address file: %w", err), server.Close(), ended(<-served))
		}
	}

	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err = server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stopping: %w", err), server.Close())
	}
	return errors.Join(err, ended(<-served))
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
