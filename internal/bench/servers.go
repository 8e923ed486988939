package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sessiongate/sessiongate/internal/process"
)

// child is a server under test, on a core of its own.
type child struct {
	*process.Process

	log string // file
	at  addresses
	// others are further processes of the same server, which take turns with it: from one process to
	// the next, the speed of plain grpc-go differs by a sixth.
	others []*child
}

// addresses are where a child listens. It writes them to a file.
type addresses struct {
	Authz     string `json:"authz"`
	Public    string `json:"public"`
	Internal  string `json:"internal"`
	Profiling string `json:"profiling"`
}

// lookEvery is the pause between two looks whether a child is ready.
const lookEvery = 10 * time.Millisecond

// start runs a program on the server's core, with one core for Go, and returns once it has written its
// addresses to file and is ready.
func (b *bench) start(ctx context.Context, file string, env []string, ready func(addresses) bool, path string, args ...string) (*child, error) {
	c, err := launch(ctx, file, append([]string{"GOMAXPROCS=1"}, env...), ready, path, args...)
	if err != nil {
		return nil, err
	}
	if err := pin(c.PID(), b.serverCore); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// launch is start on any core.
func launch(ctx context.Context, file string, env []string, ready func(addresses) bool, path string, args ...string) (*child, error) {
	c := &child{log: file + ".log"}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(path, args...) //nolint:noctx // it is stopped in order, not by a context
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	if c.Process, err = process.Start(cmd, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 4*patience) // a million feed entries are to be read
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for !c.listens(file) || !ready(c.at) {
		select {
		case <-c.Exited():
			return nil, fmt.Errorf("starting %s: it ended: %w\n%s", path, process.Cause(c.Err()), c.tail())
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("starting %s: waiting for it to be ready: %w\n%s", path, ctx.Err(), c.tail()), c.stop())
		case <-ticker.C:
		}
	}
	return c, nil
}

func (c *child) listens(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && json.Unmarshal(text, &c.at) == nil
}

// tail is the end of the child's log.
func (c *child) tail() []byte {
	text, _ := os.ReadFile(c.log)
	return text[max(0, len(text)-2000):]
}

func (c *child) stop() error {
	var errs []error
	for _, other := range c.others {
		errs = append(errs, other.stop())
	}
	if err := c.Stop(syscall.SIGTERM, patience); err != nil {
		errs = append(errs, fmt.Errorf("stopping what %s tells of: %w", c.log, err))
	}
	return errors.Join(errs...)
}

// allowAll is a Check server that allows everything: the baseline, in plain grpc-go with the generated
// code and all defaults, or a bare one.
func allowAll(ctx context.Context, file, variant string) error {
	listener, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	profiles, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		server := http.Server{Handler: pprof.Handler("heap"), ReadHeaderTimeout: patience}
		_ = server.Serve(profiles)
	}()
	server := grpc.NewServer()
	if variant == plainAllowAll {
		authv3.RegisterAuthorizationServer(server, allower{})
	} else if server, err = bareServer(variant); err != nil {
		return err
	}
	healthv1.RegisterHealthServer(server, health{})
	text, err := json.Marshal(addresses{Authz: listener.Addr().String(), Profiling: profiles.Addr().String()})
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600) //nolint:gosec // the benchmark names the file
	}
	if err == nil {
		err = os.Rename(file+".new", file) //nolint:gosec // see above
	}
	if err != nil {
		return fmt.Errorf("allowing all: telling the addresses: %w", err)
	}
	context.AfterFunc(ctx, server.Stop)
	if err := server.Serve(listener); err != nil {
		return fmt.Errorf("allowing all: %w", err)
	}
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return l, nil
}

// allower says yes, with the least that an answer may have.
type allower struct {
	authv3.UnimplementedAuthorizationServer
}

func (allower) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

// allowAllCommand is the hidden subcommand that is an allow-all server.
const allowAllCommand = "allow-all"

// The variants of an allow-all server. All but the first are bare ones.
const (
	plainAllowAll = "plain"
	bareAllowAll  = "bare"        // reads nothing
	scanAllowAll  = "scan"        // looks at each field of the request
	likeAllowAll  = "like"        // has the answer of sessiongate to a small session
	untoldAllow   = "like-untold" // the same without the metadata
)

// startAllowAll runs an allow-all server as a process.
func (b *bench) startAllowAll(ctx context.Context, variant string) (*child, error) {
	file := b.file(allowAllCommand)
	return b.start(ctx, file, []string{selfEnv + "=1"}, func(addresses) bool { return true }, b.self, allowAllCommand, file, variant)
}

// gate is a running sessiongate.
type gate struct {
	*child

	apiKey string
}

// startGate runs sessiongate on a database, with further settings as NAME=VALUE. All that run share
// their keys.
func (b *bench) startGate(ctx context.Context, database string, settings ...string) (*gate, error) {
	file := b.file("sessiongate")
	environment := slices.Concat(b.serving(database, file), []string{
		"SESSIONGATE_PROFILING_LISTEN=127.0.0.1:0",
		"SESSIONGATE_SHUTDOWN_DRAIN_DELAY=0s",
		"SESSIONGATE_SHUTDOWN_LINGER=0s",
		"SESSIONGATE_GRPC_CONNECTION_AGE=1d", // a connection that ends in a turn would be an error
	}, passedOn(), settings)
	c, err := b.start(ctx, file, environment, isReady(ctx), b.sessiongate, "serve")
	if err != nil {
		return nil, err
	}
	return &gate{child: c, apiKey: b.apiKey}, nil
}

// serving are the settings of a sessiongate on a database, which writes its addresses to file.
func (b *bench) serving(database, file string) []string {
	return []string{
		"SESSIONGATE_KEY=" + b.key,
		"SESSIONGATE_API_KEYS=bench:" + b.apiKey,
		"SESSIONGATE_DATABASE_URL=" + database,
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0",
		"SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0",
		"SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0",
		"SESSIONGATE_LISTEN_ADDRESS_FILE=" + file,
	}
}

// passedOn are the settings of the environment that the measured process gets as well: with
// SESSIONGATE_PROFILING_LISTEN one can look at it while it is measured.
func passedOn() []string {
	var settings []string
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "SESSIONGATE_") {
			settings = append(settings, v)
		}
	}
	return settings
}

// isReady asks a sessiongate whether it is.
func isReady(ctx context.Context) func(addresses) bool {
	return func(at addresses) bool {
		_, err := ask(ctx, http.MethodGet, "http://"+at.Internal+"/readyz", "", nil)
		return err == nil
	}
}

// migrate brings a database's schema up to date.
func (b *bench) migrate(ctx context.Context, database string) error {
	cmd := exec.CommandContext(ctx, b.sessiongate, "migrate")
	cmd.Env = []string{"SESSIONGATE_DATABASE_URL=" + database}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("migrating: %w\n%s", err, text)
	}
	return nil
}

// file is a new name in the folder of the run.
func (b *bench) file(name string) string {
	b.files++
	return filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, b.files))
}

// transport keeps no connection: a server that stops would wait for it.
var transport = &http.Transport{DisableKeepAlives: true}

// ask sends one request, as the holder of an API key where there is one.
func ask(ctx context.Context, method, url, apiKey string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking a server: %w", err)
	}
	if apiKey != "" {
		request.Header.Set("Authorization", "Bearer "+apiKey)
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("asking a server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("asking a server: %w", err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("asking a server: %s %s answered %d", method, request.URL.Path, response.StatusCode)
	}
	return text, nil
}

// signedIn is a new session.
type signedIn struct {
	handle string
	access string // token
	cookie string // NAME=VALUE of the access token
}

// createdSession is what is read of the answer to POST /v1/sessions.
type createdSession struct {
	Session struct {
		Handle string `json:"handle"`
	} `json:"session"`
	Tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	} `json:"tokens"`
	Lines   []string          `json:"set_cookie"`
	Headers map[string]string `json:"headers"`
}

// signIn creates a session with claims as a small system has them.
func (g *gate) signIn(ctx context.Context) (signedIn, error) {
	text, err := ask(ctx, http.MethodPost, "http://"+g.at.Internal+"/v1/sessions", g.apiKey, []byte(`{"user_id":"ada","claims":{"role":"editor","org":"lovelace"}}`))
	if err != nil {
		return signedIn{}, err
	}
	var answer createdSession
	if err := json.Unmarshal(text, &answer); err != nil {
		return signedIn{}, fmt.Errorf("reading a new session: %w", err)
	}
	for _, line := range answer.Lines {
		if cookie, err := http.ParseSetCookie(line); err == nil && cookie.Value == answer.Tokens.Access {
			return signedIn{answer.Session.Handle, answer.Tokens.Access, cookie.Name + "=" + cookie.Value}, nil
		}
	}
	return signedIn{}, errors.New("reading a new session: no cookie has its access token")
}

// end ends a session.
func (g *gate) end(ctx context.Context, handle string) error {
	_, err := ask(ctx, http.MethodDelete, "http://"+g.at.Internal+"/v1/sessions/"+handle, g.apiKey, nil)
	return err
}

// heap is what the Go runtime counts in a child.
type heap struct {
	alloc               int64 // bytes in use after a garbage collection
	mallocs, totalAlloc int64 // allocations and their bytes, so far
}

var memStat = regexp.MustCompile(`(?m)^# (HeapAlloc|Mallocs|TotalAlloc) = (\d+)$`)

// heap collects garbage, then asks.
func (c *child) heap(ctx context.Context) (heap, error) {
	text, err := ask(ctx, http.MethodGet, "http://"+c.at.Profiling+"/debug/pprof/heap?gc=1&debug=1", "", nil)
	if err != nil {
		return heap{}, err
	}
	stats := map[string]int64{}
	for _, m := range memStat.FindAllSubmatch(text, -1) {
		if stats[string(m[1])], err = strconv.ParseInt(string(m[2]), 10, 64); err != nil {
			return heap{}, fmt.Errorf("reading the heap profile: %w", err)
		}
	}
	if len(stats) != 3 {
		return heap{}, errors.New("reading the heap profile: it has no counters")
	}
	return heap{stats["HeapAlloc"], stats["Mallocs"], stats["TotalAlloc"]}, nil
}

// secret is a new key, as settings have it.
func secret() string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	return base64.StdEncoding.EncodeToString(key[:])
}
