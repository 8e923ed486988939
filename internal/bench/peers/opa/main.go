// Command opa runs OPA-Envoy, which is OPA with the plugin for ext_authz, as `make bench-peers` needs
// it: with the policy beside this file, and with no question to others whether there is a newer OPA.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/open-policy-agent/opa-envoy-plugin/plugin"
	"github.com/open-policy-agent/opa/runtime"
)

//go:embed policy.rego
var policy []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "opa:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	addresses := flag.String("addresses", "", "file that gets the address, as JSON")
	jwks := flag.String("jwks", "", "file with the public keys, as a JWKS")
	cookie := flag.String("cookie", "", "name of the cookie with the token")
	header := flag.String("header", "", "name of the header that gets the token's subject")
	flag.Parse()

	paths, err := write(filepath.Dir(*addresses), *jwks, *cookie+"=", *header)
	if err != nil {
		return err
	}
	at, err := reserve(ctx)
	if err != nil {
		return err
	}
	runtime.RegisterPlugin(plugin.PluginName, plugin.Factory{})
	params := runtime.NewParams()
	params.Addrs = &[]string{"127.0.0.1:0"} // of OPA's own API, which is not used
	params.Paths = paths
	params.ConfigOverrides = []string{"plugins." + plugin.PluginName + ".addr=" + at}
	params.GracefulShutdownPeriod = 1
	opa, err := runtime.NewRuntime(ctx, params)
	if err != nil {
		return fmt.Errorf("making OPA ready: %w", err)
	}
	go func() {
		err := await(ctx, at)
		if err == nil {
			err = tell(*addresses, at)
		}
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "opa:", err)
		}
	}()
	if err := opa.Serve(ctx); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// write puts the policy and its data into files, which are all that OPA loads.
func write(dir, jwks, cookie, header string) (paths []string, err error) {
	keys, err := os.ReadFile(jwks)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	data, err := json.Marshal(map[string]string{"jwks": string(keys), "cookie": cookie, "header": header})
	if err != nil {
		return nil, fmt.Errorf("writing the policy's data: %w", err)
	}
	for name, text := range map[string][]byte{"policy.rego": policy, "data.json": data} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, fmt.Errorf("writing the policy: %w", err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// reserve finds a free port: the plugin does not tell which one it got.
func reserve(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	if err := l.Close(); err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().String(), nil
}

// await returns once the plugin listens.
func await(ctx context.Context, at string) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", at)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the plugin to listen: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// tell writes the address for the benchmark. It comes into being whole.
func tell(file, at string) error {
	text, err := json.Marshal(map[string]string{"authz": at})
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("telling the address: %w", err)
	}
	return nil
}
