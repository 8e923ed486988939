package envoyrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/internal/process"
)

const (
	// startTimeout bounds the time from exec to a ready Envoy; its clusters' first health checks are part of it.
	startTimeout = 30 * time.Second
	// stopTimeout is what Envoy gets to end after SIGTERM before it is killed.
	stopTimeout = 10 * time.Second
	// readyInterval is the pause between two looks whether Envoy is ready.
	readyInterval = 20 * time.Millisecond
	// logFlush is how long an access log line may wait in Envoy (its default of 10 s is no use to someone who watches).
	logFlush = 100 * time.Millisecond
)

// Options says how to run the shipped Envoy configuration.
type Options struct {
	// Binary is the path of Envoy. Empty: what [Binary] finds or fetches.
	Binary string
	// Listeners and Clusters give every name of envoy.yaml its address; see [envoy.Readdress]. A listener's port 0 lets the kernel choose.
	Listeners map[string]string
	Clusters  map[string][]string
	// Edit, if set, changes the bootstrap after its addresses were replaced and before Envoy reads it: JSON, with the names of envoy.yaml.
	// Package typed makes one of a change of Envoy's types.
	Edit func(config []byte) ([]byte, error)
	// PrivateAdmin makes the admin interface a unix socket in a folder of this user. At a port, pages of any site could stop Envoy.
	PrivateAdmin bool
	// Concurrency is the number of worker threads; 0 means 1.
	Concurrency int
	// Log, if set, receives Envoy's log and its access log while it runs, from one goroutine; Stop waits for its last Write.
	Log io.Writer
}

// Proxy is a running Envoy. Its methods may be called from several goroutines.
type Proxy struct {
	dir         string
	admin       string
	adminSocket string
	client      *http.Client // of the admin interface
	listeners   map[string]string

	process  *process.Process
	log      *process.Tail
	stopOnce sync.Once
	stopErr  error
}

// Start runs the shipped configuration and returns once Envoy is ready to serve, its clusters' first health checks included (whatever
// they found). ctx and a fixed limit bound the start only; the caller ends the process with [Proxy.Stop]. The error of a failed start carries
// the end of Envoy's log.
func Start(ctx context.Context, options Options) (*Proxy, error) {
	binary := options.Binary
	if binary == "" {
		progress := options.Log
		if progress == nil {
			progress = io.Discard
		}
		var err error
		if binary, err = Binary(ctx, progress); err != nil {
			return nil, err
		}
	}

	p := &Proxy{log: &process.Tail{Tee: options.Log}, client: adminClient}
	var err error
	if p.dir, err = os.MkdirTemp("", "sessiongate-envoy-"); err != nil {
		return nil, fmt.Errorf("starting Envoy: %w", err)
	}
	admin := map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0}} // the kernel chooses
	if options.PrivateAdmin {
		p.adminSocket = filepath.Join(p.dir, "admin.sock")
		admin = map[string]any{"pipe": map[string]any{"path": p.adminSocket}}
		p.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.adminSocket)
		}}}
	}
	config, err := configure(options, admin)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	configPath := filepath.Join(p.dir, "bootstrap.json")
	adminPath := filepath.Join(p.dir, "admin-address")
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Envoy: %w", err), os.RemoveAll(p.dir))
	}
	command := exec.Command(binary, //nolint:noctx // the caller's binary; ctx bounds the start, not the process's life.
		"--config-path", configPath,
		"--admin-address-path", adminPath,
		"--disable-hot-restart", // it shares memory by a base id, which a second Envoy on this machine would collide with
		"--concurrency", strconv.Itoa(max(options.Concurrency, 1)),
		"--file-flush-interval-msec", strconv.FormatInt(logFlush.Milliseconds(), 10),
		"--log-level", "warning",
	)
	command.Stdout, command.Stderr = p.log, p.log
	if p.process, err = process.Start(command, syscall.SIGKILL); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Envoy: %w", err), os.RemoveAll(p.dir))
	}

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.awaitReady(ctx, adminPath); err != nil {
		_ = p.Stop()
		return nil, fmt.Errorf("starting Envoy: %w\n%s", err, p.log)
	}
	return p, nil
}

// configure is the shipped configuration at other addresses, with the changes that a caller wants.
func configure(options Options, admin map[string]any) ([]byte, error) {
	config, err := envoy.Readdress(envoy.Shipped(), options.Listeners, options.Clusters)
	if err != nil {
		return nil, err
	}
	var bootstrap map[string]any
	if err = json.Unmarshal(config, &bootstrap); err != nil {
		return nil, fmt.Errorf("reading Envoy bootstrap: %w", err)
	}
	bootstrap["admin"] = map[string]any{"address": admin}
	if config, err = json.Marshal(bootstrap); err != nil {
		return nil, fmt.Errorf("writing Envoy bootstrap: %w", err)
	}
	if options.Edit != nil {
		if config, err = options.Edit(config); err != nil {
			return nil, fmt.Errorf("editing Envoy bootstrap: %w", err)
		}
	}
	return config, nil
}

func (p *Proxy) awaitReady(ctx context.Context, adminPath string) error {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		reason := p.look(ctx, adminPath)
		if reason == nil {
			return nil
		}
		select {
		case <-p.process.Exited():
			return fmt.Errorf("it ended: %w", process.Cause(p.process.Err()))
		case <-ctx.Done():
			return fmt.Errorf("waiting for it to be ready: %w (%w)", ctx.Err(), reason)
		case <-ticker.C:
		}
	}
}

// look asks the admin interface once whether Envoy is ready, and where it listens.
func (p *Proxy) look(ctx context.Context, adminPath string) error {
	address, err := os.ReadFile(adminPath)
	if err != nil {
		return fmt.Errorf("reading admin address: %w", err)
	}
	p.admin = "http://" + string(address)
	if filepath.IsAbs(string(address)) {
		p.admin = "http://admin" // at its socket
	} else if _, _, err := net.SplitHostPort(string(address)); err != nil {
		return fmt.Errorf("reading admin address: %w", err)
	}
	if _, err := p.get(ctx, "/ready"); err != nil {
		return err
	}
	body, err := p.get(ctx, "/listeners?format=json")
	if err != nil {
		return err
	}
	var answer struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("reading listeners: %w", err)
	}
	listeners := make(map[string]string, len(answer.Statuses))
	for _, status := range answer.Statuses {
		host, port := status.Address.Socket.Address, status.Address.Socket.Port
		if port == 0 {
			return fmt.Errorf("listener %q has no port yet", status.Name)
		}
		listeners[status.Name] = net.JoinHostPort(host, strconv.Itoa(port))
	}
	p.listeners = listeners
	return nil
}

func (p *Proxy) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy's admin interface: %w", err)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy's admin interface: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy's admin interface: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d %s", path, response.StatusCode, bytes.TrimSpace(body))
	}
	return body, nil
}

// adminClient keeps no connection open and knows no proxy: HTTP_PROXY must not come between us and our own process.
var adminClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// URL returns "http://host:port" of a listener, with the port that the kernel chose, or "" where there is no such listener.
func (p *Proxy) URL(listener string) string {
	address, ok := p.listeners[listener]
	if !ok {
		return ""
	}
	return "http://" + address
}

// AdminURL returns "http://host:port" of the admin interface, where it is not private.
func (p *Proxy) AdminURL() string { return p.admin }

// AdminSocket returns the path of the admin interface's unix socket, where that is private.
func (p *Proxy) AdminSocket() string { return p.adminSocket }

// PID is Envoy's process id.
func (p *Proxy) PID() int { return p.process.PID() }

// Exited is closed when the process has ended, by [Proxy.Stop] or by itself.
func (p *Proxy) Exited() <-chan struct{} { return p.process.Exited() }

// Stop ends Envoy, kills it where it does not end within 10 s, and waits for it. Connections are not drained. It returns an error if Envoy had ended by
// itself before, with the end of its log. Further calls wait too, and return the same.
func (p *Proxy) Stop() error {
	p.stopOnce.Do(func() {
		defer func() { _ = os.RemoveAll(p.dir) }()
		if err := p.process.Stop(syscall.SIGTERM, stopTimeout); err != nil {
			p.stopErr = fmt.Errorf("stopping Envoy: %w\n%s", err, p.log)
		}
	})
	return p.stopErr
}

// Validate checks a bootstrap, YAML or JSON, with the binary's own --mode validate. The error carries what Envoy said.
func Validate(ctx context.Context, binary string, config []byte) error {
	file, err := os.CreateTemp("", "sessiongate-envoy-*.yaml")
	if err != nil {
		return fmt.Errorf("validating Envoy bootstrap: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(config)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("validating Envoy bootstrap: %w", err)
	}
	output, err := exec.CommandContext(ctx, binary, "--mode", "validate", "--log-level", "warning", "--config-path", file.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("validating Envoy bootstrap: %w\n%s", err, strings.TrimSpace(string(output)))
	}
	return nil
}
