package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/process"
)

// ErrPoolerNotInstalled is returned by [Cluster.StartPooler] where this machine
// has no PgBouncer.
var ErrPoolerNotInstalled = errors.New("no PgBouncer is installed: apt-get install pgbouncer (dnf install pgbouncer, brew install pgbouncer)")

// poolerServers is how many connections to one database, as one user, the clients
// of a pooler share: few, so that clients do meet on them.
const poolerServers = 3

// Pooler is a PgBouncer in transaction mode before a cluster. It lives in the
// cluster's folder, on a socket only, and ends with it.
type Pooler struct {
	dir     string
	process *process.Process
}

// StartPooler starts a PgBouncer before the cluster, for these users beside the
// superuser, and returns once it answers. It needs no password. Its settings are
// those that the documentation asks for. ctx bounds the start only.
func (c *Cluster) StartPooler(ctx context.Context, users ...string) (*Pooler, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warden == nil {
		return nil, errors.New("starting PgBouncer: the cluster was stopped")
	}
	binary, err := findPooler()
	if err != nil {
		return nil, err
	}
	p := &Pooler{dir: filepath.Join(c.dir, "pooler")}
	if err := p.configure(c, append(users, superuser)); err != nil {
		return nil, fmt.Errorf("starting PgBouncer: %w", err)
	}
	if err := p.start(c, binary); err != nil {
		return nil, fmt.Errorf("starting PgBouncer: %w", err)
	}
	c.pooler = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.awaitReady(ctx); err != nil {
		p.kill()
		log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		return nil, fmt.Errorf("starting PgBouncer: %w\n%s", err, log)
	}
	return p, nil
}

// URL is the address of a database through the pooler.
func (p *Pooler) URL(database, user string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(user), Path: "/" + database,
		RawQuery: url.Values{"host": {p.dir}, "port": {"6432"}}.Encode(),
	}
	return u.String()
}

func findPooler() (string, error) {
	// Debian's place is not in every user's PATH.
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrPoolerNotInstalled
}

func (p *Pooler) configure(c *Cluster, users []string) error {
	if err := os.RemoveAll(p.dir); err != nil { // of an earlier one
		return err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return err
	}
	var list strings.Builder
	for _, user := range users {
		fmt.Fprintf(&list, "%q \"\"\n", user)
	}
	settings := fmt.Sprintf(`[databases]
* = host=%[1]s port=%[2]d
[pgbouncer]
pool_mode = transaction
default_pool_size = %[4]d
max_client_conn = 1000
ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout
listen_addr =
listen_port = 6432
unix_socket_dir = %[3]s
auth_type = trust
auth_file = %[3]s/users
pidfile = %[1]s/pooler.pid
`, c.dir, c.port, p.dir, poolerServers)
	if err := writeFile(filepath.Join(p.dir, "users"), list.String(), c.owner); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(p.dir, "ini"), settings, c.owner); err != nil {
		return err
	}
	if c.owner == nil {
		return nil
	}
	return os.Chown(p.dir, int(c.owner.Uid), int(c.owner.Gid))
}

func (p *Pooler) start(c *Cluster, binary string) error {
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(binary, filepath.Join(p.dir, "ini")) //nolint:noctx // Stop ends it, in order
	c.prepare(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	p.process, err = process.Start(cmd, syscall.SIGKILL) // one process, with nothing to save
	return err
}

func (p *Pooler) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, p.URL("postgres", superuser))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.process.Exited():
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("waiting for its answer: %w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

func (p *Pooler) kill() { p.process.Kill() }
