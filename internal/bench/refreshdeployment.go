package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// deployment is a database on a Postgres server of its own, and the processes that serve from it.
type deployment struct {
	*bench

	server     *cluster.Cluster
	postmaster int // process id
	url        string
	db         *pgx.Conn     // of the benchmark itself
	ahead      time.Duration // of the store's clock
	children   []*child
	left       map[string]time.Time // when the last turn of a rival ended
	others     []*deployment        // other databases of the server
}

// deploy starts a Postgres server with an empty database.
func deploy(ctx context.Context, b *bench, o cluster.Options) (*deployment, error) {
	server, err := cluster.Start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("starting Postgres: %w", err)
	}
	d := &deployment{bench: b, server: server}
	if err := d.open(ctx, "bench"); err != nil {
		d.stop(ctx)
		return nil, err
	}
	return d, nil
}

// open creates the database and connects to it.
func (d *deployment) open(ctx context.Context, name string) (err error) {
	if err := d.server.CreateDatabase(ctx, name, ""); err != nil {
		return err
	}
	d.url = d.server.URL(name)
	if d.db, err = pgx.Connect(ctx, d.url); err != nil {
		return fmt.Errorf("connecting to Postgres: %w", err)
	}
	d.postmaster, err = parentOf(int(d.db.PgConn().PID()))
	return err
}

// another is another database of the same server. It is stopped with d.
func (d *deployment) another(ctx context.Context, name string) (*deployment, error) {
	o := &deployment{bench: d.bench, server: d.server}
	d.others = append(d.others, o)
	return o, o.open(ctx, name)
}

// stop ends everything and removes the data.
func (d *deployment) stop(ctx context.Context) {
	d.leave(ctx)
	d.server.Stop()
}

// leave ends what uses the database.
func (d *deployment) leave(ctx context.Context) {
	for _, o := range d.others {
		o.leave(ctx)
	}
	for _, c := range d.children {
		c.Kill()
	}
	if d.db != nil {
		_ = d.db.Close(context.WithoutCancel(ctx)) // it is left also where ctx has ended
	}
}

// drop removes the data of another database, which may be large.
func (d *deployment) drop(ctx context.Context, o *deployment) error {
	name := o.db.Config().Database
	o.leave(ctx)
	return d.execute(ctx, `DROP DATABASE `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`)
}

// execute runs statements on the benchmark's own connection.
func (d *deployment) execute(ctx context.Context, sql string, args ...any) error {
	if _, err := d.db.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%.60s: %w", strings.Join(strings.Fields(sql), " "), err)
	}
	return nil
}

const refreshAttemptMax = time.Minute

// forgottenAfter is how long a process remembers which refresh token had no child to issue. The next
// turn resets the rows, so it must not come earlier.
const forgottenAfter = 1100 * time.Millisecond

// serve starts a sessiongate on any core, and waits until it is ready. settings are further
// environment.
func (d *deployment) serve(ctx context.Context, program string, settings ...string) (*child, error) {
	file := d.file("sessiongate")
	environment := slices.Concat(d.serving(d.url, file), []string{
		// One client stands for all users here, and asks for a session more often than users do.
		"SESSIONGATE_REFRESH_PER_SESSION_RATE=1000",
		// So few that a token is forgotten within forgottenAfter.
		"SESSIONGATE_REFRESH_PER_SESSION_BURST=10",
		"SESSIONGATE_REFRESH_PER_ADDRESS_RATE=1000000",
		"SESSIONGATE_REFRESH_PER_ADDRESS_BURST=1000000",
		// The longest one: on a busy machine, a turn must not outlast the time in which its rule holds.
		"SESSIONGATE_SESSION_REFRESH_ATTEMPT_MAX=" + refreshAttemptMax.String(),
	}, settings)
	c, err := launch(ctx, file, environment, isReady(ctx), program, "serve")
	if err == nil {
		d.children = append(d.children, c)
	}
	return c, err
}

// serveBare starts the bare handlers.
func (d *deployment) serveBare(ctx context.Context) (*child, error) {
	file := d.file("bare")
	c, err := launch(ctx, file, append(os.Environ(), selfEnv+"=1"), func(addresses) bool { return true }, d.self, bareCommand, d.url, file)
	if err == nil {
		d.children = append(d.children, c)
	}
	return c, err
}
