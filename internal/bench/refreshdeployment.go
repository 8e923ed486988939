package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/internal/process"
)

// startWithin bounds the wait for a process that starts. It is a limit for broken code.
const startWithin = 2 * time.Minute

// deployment is a Postgres server with a database, and the processes that serve from it.
type deployment struct {
	*cluster.Cluster

	url         string
	db          *pgx.Conn // of the benchmark itself
	postmaster  int       // process id
	dir         string    // for logs and addresses
	key, apiKey string
	processes   []*process.Process
}

// deploy starts a Postgres server with an empty database.
func deploy(ctx context.Context, b *bench, o cluster.Options) (*deployment, error) {
	dir, err := os.MkdirTemp(b.dir, "deployment-")
	if err != nil {
		return nil, err
	}
	c, err := cluster.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	d := &deployment{Cluster: c, dir: dir, key: newSecret(), apiKey: newSecret()}
	if err := d.use(ctx, "bench"); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// use creates a database, and makes it the one that is served from.
func (d *deployment) use(ctx context.Context, database string) error {
	if err := d.CreateDatabase(ctx, database, ""); err != nil {
		return err
	}
	if d.db != nil {
		_ = d.db.Close(ctx)
	}
	d.url = d.URL(database)
	var err error
	if d.db, err = pgx.Connect(ctx, d.url); err != nil {
		return err
	}
	d.postmaster, err = parentOf(int(d.db.PgConn().PID()))
	return err
}

// stop ends everything and removes the data.
func (d *deployment) stop() {
	for _, p := range d.processes {
		p.Kill()
	}
	if d.db != nil {
		_ = d.db.Close(context.Background())
	}
	d.Stop()
}

func newSecret() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	return base64.StdEncoding.EncodeToString(secret[:])
}

// execute runs SQL on the benchmark's own connection.
func (d *deployment) execute(ctx context.Context, sql string, args ...any) error {
	if _, err := d.db.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%.60s: %w", strings.Join(strings.Fields(sql), " "), err)
	}
	return nil
}

// replica is one running sessiongate.
type replica struct {
	*process.Process

	authz, public, internal string
}

// serve starts a sessiongate and waits until it is ready. settings are further environment.
func (d *deployment) serve(ctx context.Context, name, program string, settings ...string) (*replica, error) {
	addresses := filepath.Join(d.dir, name+".addresses")
	command := exec.Command(program, "serve") //nolint:noctx // it is stopped in order, not by a context
	command.Env = append([]string{
		"SESSIONGATE_KEY=" + d.key,
		"SESSIONGATE_API_KEYS=bench:" + d.apiKey,
		"SESSIONGATE_DATABASE_URL=" + d.url,
		"SESSIONGATE_LISTEN_AUTHZ=127.0.0.1:0",
		"SESSIONGATE_LISTEN_PUBLIC=127.0.0.1:0",
		"SESSIONGATE_LISTEN_INTERNAL=127.0.0.1:0",
		"SESSIONGATE_LISTEN_ADDRESS_FILE=" + addresses,
		// One client stands for all users here, and asks for a session more often than users do.
		"SESSIONGATE_REFRESH_PER_SESSION_RATE=1000",
		"SESSIONGATE_REFRESH_PER_ADDRESS_RATE=1000000",
		"SESSIONGATE_REFRESH_PER_ADDRESS_BURST=1000000",
	}, settings...)
	p, err := d.start(name, command)
	if err != nil {
		return nil, err
	}
	r := &replica{Process: p}
	err = await(ctx, p, func() bool {
		return r.read(addresses) && ready(ctx, r.internal)
	})
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w; its log is %s", name, err, filepath.Join(d.dir, name+".log"))
	}
	return r, nil
}

// read reads the addresses of a replica, once it has written them.
func (r *replica) read(file string) bool {
	text, err := os.ReadFile(file)
	var at map[string]string
	if err != nil || json.Unmarshal(text, &at) != nil {
		return false
	}
	r.authz, r.public, r.internal = at["authz"], at["public"], at["internal"]
	return true
}

// start starts a program whose output goes to a file.
func (d *deployment) start(name string, command *exec.Cmd) (*process.Process, error) {
	log, err := os.Create(filepath.Join(d.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own
	command.Stderr = log
	if command.Stdout == nil {
		command.Stdout = log
	}
	p, err := process.Start(command, syscall.SIGKILL)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	d.processes = append(d.processes, p)
	return p, nil
}

// await calls look until it reports true.
func await(ctx context.Context, p *process.Process, look func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !look() {
		select {
		case <-p.Exited():
			return fmt.Errorf("it ended: %w", process.Cause(p.Err()))
		case <-ctx.Done():
			return errors.New("it does not get ready")
		case <-tick.C:
		}
	}
	return nil
}

func ready(ctx context.Context, address string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}
