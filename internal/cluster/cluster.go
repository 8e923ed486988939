// Package cluster owns throw-away Postgres servers: it starts one on this
// machine from the Postgres that is installed here, for tests and for the demo.
//
// What it promises:
//
//   - Data and socket are in one fresh folder, readable by their owner alone.
//     Nothing listens on TCP unless asked, so any number of clusters run side
//     by side.
//   - Nothing outlives the process that called [Start], however it ends: not the
//     server, not its backends, not the folder (see parent.go).
//   - Postgres refuses to run as root; called by root, the server belongs to an
//     unprivileged user.
//
// It is not for data that must be kept.
package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/process"
)

const (
	superuser   = "postgres"
	defaultPort = 5432 // without TCP only a part of the socket's name

	startTimeout = 60 * time.Second // initdb, and again the server; about a second on an idle machine
	stopTimeout  = 15 * time.Second // the postmaster itself kills a stuck backend after 5 s
	pingInterval = 10 * time.Millisecond

	// Postgres allows 107 bytes for the socket's path on Linux, 103 on macOS.
	maxDirLength = 103 - len("/.s.PGSQL.65535")
)

// Options say how a cluster is started. The zero value is what tests want: fast,
// durable across a crash of the server but not of the machine, socket only.
type Options struct {
	// BinDir holds initdb and postgres. Empty: the newest one installed in a
	// distribution's folder, else the one in PATH.
	BinDir string
	// TCP makes the server listen on a free port of 127.0.0.1 as well. Every
	// local user can connect to a port, so there it asks for a password.
	TCP bool
	// Dir is where the cluster's folder is made, for one on a small disk (see
	// [SmallDisk]). Empty: the temporary directory.
	Dir string
	// Durable leaves fsync and full-page writes on, for measurements.
	Durable bool
	// Settings are further lines of postgresql.conf. They override the
	// settings of this package.
	Settings map[string]string
}

// Cluster is one Postgres server with its data. Its methods may be called from
// several goroutines at once.
type Cluster struct {
	binDir   string
	dir      string // holds data, log and the socket
	port     int
	tcp      bool
	password string
	owner    *syscall.Credential // nil: the caller's own

	mu     sync.Mutex       // held while the server is started or stopped
	server *process.Process // nil while it is down
	frozen bool             // its processes are stopped
	pooler *Pooler          // nil where there is none
	warden *warden          // nil once stopped
}

// Start creates a cluster and returns once it answers. ctx bounds the start only;
// the cluster runs until [Cluster.Stop], or until this process ends. Where no
// Postgres is installed the error is [ErrNotInstalled].
func Start(ctx context.Context, o Options) (*Cluster, error) {
	return start(ctx, o, rand.Text(), func(ctx context.Context, c *Cluster) error { return c.create(ctx) })
}

// start makes a cluster whose data fill provides.
func start(ctx context.Context, o Options, password string, fill func(context.Context, *Cluster) error) (*Cluster, error) {
	binDir := o.BinDir
	if binDir == "" {
		var err error
		if binDir, err = find(distributionFolders); err != nil {
			return nil, err
		}
	} else if !complete(binDir) {
		return nil, fmt.Errorf("looking into %s: %w", binDir, ErrNotInstalled)
	}
	owner, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(o.Dir, owner)
	if err != nil {
		return nil, err
	}
	c := &Cluster{binDir: binDir, dir: dir, port: defaultPort, tcp: o.TCP, password: password, owner: owner}
	if c.warden, err = startWarden(dir, owner); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	err = fill(ctx, c)
	if err == nil {
		err = c.configure(o)
	}
	if err == nil {
		err = c.Restart(ctx)
	}
	if err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// URL is the address of a database over the unix socket, for pgx and for libpq's
// tools. The user is a superuser and needs no password.
func (c *Cluster) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {c.dir}, "port": {strconv.Itoa(c.port)}}.Encode(),
	}
	return u.String()
}

// TCPURL is the address of a database over TCP, with its password. It is empty
// unless the cluster was started with Options.TCP.
func (c *Cluster) TCPURL(database string) string {
	if !c.tcp {
		return ""
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, c.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// BinDir is the folder of pg_dump, pg_basebackup and the other tools that fit the
// server's version.
func (c *Cluster) BinDir() string { return c.binDir }

// CreateDatabase creates a database as a copy of another, to which no client may be
// connected meanwhile; with an empty template, an empty one.
func (c *Cluster) CreateDatabase(ctx context.Context, name, template string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("creating database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	statement := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() +
		" TEMPLATE " + pgx.Identifier{cmp.Or(template, "template1")}.Sanitize()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("creating database %s: %w", name, err)
	}
	return nil
}

// Kill ends the server as a crash would: connections drop, nothing is written
// down, and the next start recovers. It returns once no process of the server
// is left. Committed transactions survive.
func (c *Cluster) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kill()
}

// Restart starts the server again, with the same data and addresses, and returns
// once it answers. One that still runs is killed first.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warden == nil {
		return errors.New("starting postgres: the cluster was stopped")
	}
	c.kill()
	s, err := c.startServer()
	if err != nil {
		return fmt.Errorf("starting postgres: %w", err)
	}
	c.server = s
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.awaitReady(ctx); err != nil {
		c.kill()
		return fmt.Errorf("starting postgres: %w%s", err, c.logTail())
	}
	return nil
}

// Stop kills the server and removes its data. A second call does nothing.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warden == nil {
		return
	}
	if c.pooler != nil {
		c.pooler.kill()
	}
	c.kill()
	_ = os.RemoveAll(c.dir) // what it cannot remove, the warden tries again
	c.warden.stop()
	c.warden = nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// create makes the data folder.
func (c *Cluster) create(ctx context.Context) error {
	password := filepath.Join(c.dir, "password")
	if err := writeFile(password, c.password, c.owner); err != nil {
		return fmt.Errorf("creating a cluster: %w", err)
	}
	defer func() { _ = os.Remove(password) }()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	initdb := exec.CommandContext(ctx, filepath.Join(c.binDir, "initdb"),
		"--pgdata", c.data(), "--username", superuser, "--encoding", "UTF8", "--locale", "C",
		"--auth-local", "trust", "--auth-host", "scram-sha-256", "--pwfile", password, "--no-sync")
	initdb.WaitDelay = time.Second // its own children may hold the pipe
	c.prepare(initdb)
	if out, err := process.CombinedOutput(initdb, syscall.SIGKILL); err != nil {
		return fmt.Errorf("creating a cluster: %w: %s", cmp.Or(ctx.Err(), err), strings.TrimSpace(string(out)))
	}
	return nil
}

// configure writes the settings, after those that are there: the last line of a
// setting counts.
func (c *Cluster) configure(o Options) error {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": c.dir,
		"max_connections":         "200",
		"jit":                     "off",
	}
	if o.TCP {
		port, err := process.Port()
		if err != nil {
			return fmt.Errorf("creating a cluster: %w", err)
		}
		c.port = port
		settings["listen_addresses"] = "127.0.0.1"
	}
	settings["port"] = strconv.Itoa(c.port)
	if !o.Durable {
		// The operating system keeps what a killed server wrote. So
		// synchronous_commit stays on: with it off, Kill would lose commits.
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, o.Settings)
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&lines, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	if err := appendFile(filepath.Join(c.data(), "postgresql.conf"), lines.String()); err != nil {
		return fmt.Errorf("creating a cluster: %w", err)
	}
	return nil
}

// awaitReady pings until the server answers or has ended.
func (c *Cluster) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		err := c.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.server.Exited():
			return fmt.Errorf("the server ended (%w)", process.Cause(c.server.Err()))
		case <-ctx.Done():
			return fmt.Errorf("waiting for its answer: %w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

func (c *Cluster) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// kill does what Kill does, with c.mu held.
func (c *Cluster) kill() {
	if c.server != nil {
		if c.frozen {
			_ = c.thaw() // else it would not hear the signal
		}
		_ = c.server.Stop(immediateShutdown, stopTimeout) // it may have ended by itself
		c.server = nil
	}
}

// logTail is the end of the server's log, for an error.
func (c *Cluster) logTail() string {
	const size = 2048
	log, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil || len(log) == 0 {
		return ""
	}
	return "\n" + string(log[max(0, len(log)-size):])
}

func writeFile(name, text string, owner *syscall.Credential) error {
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return err
	}
	if owner == nil {
		return nil
	}
	return os.Chown(name, int(owner.Uid), int(owner.Gid))
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
