package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

const (
	// replicas are the sessiongate processes behind the one Envoy: any may answer.
	replicas = 2
	anyPort  = "127.0.0.1:0"
	// attemptMax is D of docs/protocol.md. It is below the default, to keep the waits short.
	attemptMax = "3s"
	// readyTimeout bounds the start of all parts but Envoy and Postgres, which have their own.
	readyTimeout = 60 * time.Second
)

// stack is everything that the demo starts, and the folder with its logs.
type stack struct {
	dir      string
	database *cluster.Cluster
	proxy    *envoyrun.Proxy
	envoyLog *os.File
	gates    [replicas]addresses
	apiKey   string
	first    *replicaSwitch
	control  *control
	page     string      // the address at which browsers come, through the demo's network
	ended    chan string // names of parts that ended by themselves

	mu        sync.Mutex // a switch starts a process while the others run
	logs      []string   // names, in order of start
	processes []*child
}

// auditFile is what both sessiongate processes write their audit to: one of them at
// a time.
func (s *stack) auditFile() string { return filepath.Join(s.dir, "audit.jsonl") }

// startStack returns what was started in any case; it is to be stopped.
func startStack(ctx context.Context, out *report, progress io.Writer) (*stack, error) {
	s := &stack{ended: make(chan string, 1)}
	var err error
	if s.dir, err = os.MkdirTemp("", "sessiongate-demo-"); err != nil {
		return s, fmt.Errorf("making a folder: %w", err)
	}
	// Open to all, but it shows no secret: the unprivileged user of root's Postgres
	// passes through, and what follows in it is readable by its owner alone.
	if err := os.Chmod(s.dir, 0o711); err != nil { //nolint:gosec // see above
		return s, fmt.Errorf("making a folder: %w", err)
	}

	// First what may be missing.
	binary, err := envoyrun.Binary(ctx, progress)
	if err != nil {
		return s, err
	}
	out.part("Postgres", "a throw-away server")
	if s.database, err = startPostgres(ctx, s.dir, progress); err != nil {
		return s, err
	}
	out.part("sessiongate", fmt.Sprintf("two processes; refresh_attempt_max is %s (default 10s), to keep the waits short", attemptMax))
	out.part("", "responses.denial_header is on: each refusal says why, here as [code]")
	out.part("", "binding.mode is offer: a browser that can binds its session to its device")
	if s.gates, err = s.startSessiongates(ctx); err != nil {
		return s, err
	}
	out.part("demo app", "the existing system: a sign-in page, a page, an API")
	if s.control, err = startControl(ctx); err != nil {
		return s, err
	}
	s.control.add("postgres", &databaseSwitch{database: s.database})
	s.control.add("replica", s.first)
	s.control.serve()
	// The app asks the second replica: the page's switch kills the first.
	app, err := s.startDemoApp(ctx, s.gates[1])
	if err != nil {
		return s, err
	}
	out.part("Envoy", "with envoy/envoy.yaml")
	return s, s.startEnvoy(ctx, s.gates, app, binary)
}

// addresses are what a sessiongate process says about its listeners.
type addresses struct {
	Authz    string `json:"authz"`
	Public   string `json:"public"`
	Internal string `json:"internal"`
}

func (s *stack) startSessiongates(ctx context.Context) (at [replicas]addresses, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	s.apiKey = rand.Text() + rand.Text()
	settings := func(i int) map[string]string {
		return map[string]string{
			"SESSIONGATE_DATABASE_URL":                s.database.URL("postgres"),
			"SESSIONGATE_KEY":                         base64.StdEncoding.EncodeToString(key[:]),
			"SESSIONGATE_API_KEYS":                    "demoapp:" + s.apiKey,
			"SESSIONGATE_LISTEN_AUTHZ":                cmp.Or(at[i].Authz, anyPort),
			"SESSIONGATE_LISTEN_PUBLIC":               cmp.Or(at[i].Public, anyPort),
			"SESSIONGATE_LISTEN_INTERNAL":             cmp.Or(at[i].Internal, anyPort),
			"SESSIONGATE_LISTEN_ADDRESS_FILE":         s.addressFile(i),
			"SESSIONGATE_COOKIES_SECURE":              "false", // plain http
			"SESSIONGATE_SESSION_REFRESH_ATTEMPT_MAX": attemptMax,
			"SESSIONGATE_RESPONSES_DENIAL_HEADER":     "true",
			"SESSIONGATE_BINDING_MODE":                "offer",
			"SESSIONGATE_SHUTDOWN_DRAIN_DELAY":        "0s", // Envoy is stopped first
			"SESSIONGATE_LOG_FORMAT":                  "text",
			"SESSIONGATE_AUDIT_OUTPUT":                s.auditFile(),
		}
	}
	var started [replicas]*child
	for i := range replicas {
		if started[i], err = s.start(replicaName(i), "sessiongate", settings(i), "serve"); err != nil {
			return at, err
		}
	}
	for i, p := range started {
		if err := p.await(ctx, "listening", func() bool {
			text, err := os.ReadFile(s.addressFile(i))
			return err == nil && json.Unmarshal(text, &at[i]) == nil
		}); err != nil {
			return at, err
		}
		if err := p.await(ctx, "ready", func() bool { return isReady(ctx, at[i].Internal) }); err != nil {
			return at, err
		}
	}
	s.first = &replicaSwitch{
		start:   func() (*child, error) { return s.start(replicaName(0), "sessiongate", settings(0), "serve") },
		address: at[0].Internal,
		process: started[0],
	}
	return at, nil
}

func replicaName(i int) string { return fmt.Sprintf("sessiongate-%d", i+1) }

// addressFile gets what addresses a sessiongate process has.
func (s *stack) addressFile(i int) string { return filepath.Join(s.dir, replicaName(i)+".addresses") }

func isReady(ctx context.Context, address string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (s *stack) startDemoApp(ctx context.Context, gate addresses) (address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	file, networkFile := filepath.Join(s.dir, "demoapp.address"), filepath.Join(s.dir, "network.address")
	p, err := s.start("demoapp", "demoapp", map[string]string{
		"DEMOAPP_LISTEN":               anyPort,
		"DEMOAPP_ADDRESS_FILE":         file,
		"DEMOAPP_PUBLIC_URL_FILE":      s.urlFile(), // Envoy, which needs the app's address first
		"DEMOAPP_NETWORK_LISTEN":       anyPort,
		"DEMOAPP_NETWORK_ADDRESS_FILE": networkFile,
		"DEMOAPP_CONTROL_URL":          s.control.url(),
		"DEMOAPP_CONTROL_SECRET":       s.control.secret,
		"DEMOAPP_REFRESH_ATTEMPT_MAX":  attemptMax,
		"SESSIONS_URL":                 "http://" + gate.Internal,
		"SESSIONS_API_KEY":             s.apiKey,
	})
	if err != nil {
		return "", err
	}
	err = p.await(ctx, "listening", func() bool {
		text, err := os.ReadFile(file)
		network, networkErr := os.ReadFile(networkFile)
		address, s.page = string(text), "http://"+string(network)+"/"
		return err == nil && networkErr == nil
	})
	return address, err
}

func (s *stack) startEnvoy(ctx context.Context, gates [replicas]addresses, app, binary string) (err error) {
	if s.envoyLog, err = os.Create(s.log("envoy")); err != nil {
		return fmt.Errorf("starting Envoy: %w", err)
	}
	var authz, public []string
	for _, gate := range gates {
		authz, public = append(authz, gate.Authz), append(public, gate.Public)
	}
	s.proxy, err = envoyrun.Start(ctx, envoyrun.Options{
		Binary:    binary,
		Listeners: map[string]string{"ingress": anyPort},
		Clusters:  map[string][]string{"sessiongate_authz": authz, "sessiongate_public": public, "app": {app}},
		Log:       s.envoyLog,
		// At a port, a page of any site could stop Envoy.
		PrivateAdmin: true,
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.urlFile(), []byte(s.url()), 0o600); err != nil {
		return fmt.Errorf("telling the demo app where Envoy is: %w", err)
	}
	return nil
}

// examine has the doctor look at this Envoy, in its configuration and from outside.
func (s *stack) examine(ctx context.Context, out *report) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	p, err := s.start("doctor", "sessiongate", map[string]string{"SESSIONS_API_KEY": s.apiKey}, "doctor",
		"--envoy=unix:"+s.proxy.AdminSocket(), "--url="+s.url(), "--api=http://"+s.gates[1].Internal,
		"--page="+mePath, "--user-page="+mePath, "--open-path=/static/")
	if err != nil {
		return err
	}
	p.wanted.Store(true) // it ends by itself
	select {
	case <-p.Exited():
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.Stop(syscall.SIGTERM, stopTimeout)) // it ends its session
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("sessiongate doctor: %w", err)
	}
	out.linef("sessiongate doctor looked at this Envoy, in its configuration and from outside: no finding.")
	return nil
}

// urlFile is where the demo app finds the address of Envoy.
func (s *stack) urlFile() string { return filepath.Join(s.dir, "envoy.url") }

func (s *stack) start(name, program string, settings map[string]string, args ...string) (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := startProcess(name, program, s.log(name), settings, args...)
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, p)
	go func() {
		<-p.Exited()
		if !p.wanted.Load() {
			s.tell(p.name)
		}
	}()
	return p, nil
}

// tell notes the first part that ended by itself.
func (s *stack) tell(name string) {
	select {
	case s.ended <- name:
	default:
	}
}

// log is the path of a log, which goes on where a part is started again.
func (s *stack) log(name string) string {
	if !slices.Contains(s.logs, name) {
		s.logs = append(s.logs, name)
	}
	return filepath.Join(s.dir, name+".log")
}

// url is where browsers go.
func (s *stack) url() string { return s.proxy.URL("ingress") }

// watch returns when ctx ends, or with an error when a part ends by itself.
func (s *stack) watch(ctx context.Context) error {
	go func() {
		<-s.proxy.Exited()
		s.tell("envoy")
	}()
	select {
	case <-ctx.Done():
		return nil
	case name := <-s.ended:
		if ctx.Err() == nil {
			return fmt.Errorf("%s ended by itself", name)
		}
		return nil // a part that ended because all of them do
	}
}

// writeTails shows the end of each log.
func (s *stack) writeTails(w io.Writer) {
	for _, name := range s.logs {
		_, _ = fmt.Fprintf(w, "\nThe end of %s's log:\n%s\n", name, tail(filepath.Join(s.dir, name+".log")))
	}
}

// stop ends what was started, in the reverse order, and removes the folder. Nothing of
// it runs when it returns.
func (s *stack) stop() error {
	// A server that stops waits 5 s for a request on a connection that never had one.
	transport.CloseIdleConnections()
	var errs []error
	if s.control != nil {
		errs = append(errs, s.control.stop()) // no part comes back from here on
	}
	if s.proxy != nil {
		errs = append(errs, s.proxy.Stop())
	}
	if s.envoyLog != nil {
		errs = append(errs, s.envoyLog.Close())
	}
	for len(s.processes) > 0 {
		last := len(s.processes) - 1
		errs = append(errs, s.processes[last].stop())
		s.processes = s.processes[:last]
	}
	if s.database != nil {
		s.database.Stop()
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}
