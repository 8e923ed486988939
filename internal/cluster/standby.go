package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/process"
)

// standbyName is how a standby calls itself at its primary.
const standbyName = "standby"

// Standby makes a copy of the running cluster that follows it by streaming, and
// returns once it answers. It is a cluster like any other, with its own addresses
// and its own end. The password is the primary's.
func (c *Cluster) Standby(ctx context.Context, o Options) (*Cluster, error) {
	standby, err := start(ctx, o, c.password, func(ctx context.Context, standby *Cluster) error { return standby.follow(ctx, c) })
	if err != nil {
		return nil, fmt.Errorf("starting a standby: %w", err)
	}
	return standby, nil
}

// Follow throws away the data of a cluster and makes it a standby of another, as
// an operator does with a primary that was failed over.
func (c *Cluster) Follow(ctx context.Context, primary *Cluster) error {
	c.mu.Lock()
	c.kill()
	// Its own addresses, not the primary's.
	settings, kept := filepath.Join(c.data(), "postgresql.conf"), filepath.Join(c.dir, "postgresql.conf")
	err := os.Rename(settings, kept)
	if err == nil {
		err = c.follow(ctx, primary)
	}
	if err == nil {
		err = os.Rename(kept, settings)
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("following another primary: %w", err)
	}
	return c.Restart(ctx)
}

// follow fills the data folder from a primary.
func (c *Cluster) follow(ctx context.Context, primary *Cluster) error {
	if err := primary.copyTo(ctx, c, c.data()); err != nil {
		return err
	}
	// What ALTER SYSTEM set at the primary is not the standby's: one that waits
	// for standbys itself would never answer a commit after its promotion.
	source := fmt.Sprintf("host=%s port=%d user=%s application_name=%s", primary.dir, primary.port, superuser, standbyName)
	if err := writeFile(filepath.Join(c.data(), "postgresql.auto.conf"), "primary_conninfo = '"+source+"'\n", c.owner); err != nil {
		return err
	}
	return writeFile(filepath.Join(c.data(), "standby.signal"), "", c.owner)
}

// copyTo writes a base backup of the running cluster into a folder of another,
// or of its own.
func (c *Cluster) copyTo(ctx context.Context, to *Cluster, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	backup := exec.CommandContext(ctx, filepath.Join(to.binDir, "pg_basebackup"), "--pgdata", dir, "--checkpoint", "fast", "--wal-method", "stream",
		"--no-sync", "--host", c.dir, "--port", strconv.Itoa(c.port), "--username", superuser, "--no-password")
	backup.WaitDelay = time.Second
	to.prepare(backup)
	if out, err := process.CombinedOutput(backup, syscall.SIGKILL); err != nil {
		return fmt.Errorf("copying a cluster: %w: %s", cmp.Or(ctx.Err(), err), strings.TrimSpace(string(out)))
	}
	return nil
}

// Synchronous makes the primary answer a commit only once a standby has it; or no
// longer. Without a standby that follows, commits then wait for ever.
func (c *Cluster) Synchronous(ctx context.Context, on bool) error {
	names := ""
	if on {
		names = standbyName
	}
	if err := c.alter(ctx, "synchronous_standby_names", names); err != nil || !on {
		return err
	}
	return c.await(ctx, "a synchronous standby",
		`SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')`)
}

// Promote makes a standby a primary, and returns once it takes writes.
func (c *Cluster) Promote(ctx context.Context) error {
	if err := c.exec(ctx, "promoting a standby", `SELECT pg_promote()`); err != nil {
		return err
	}
	return c.await(ctx, "its promotion", `SELECT NOT pg_is_in_recovery()`)
}

// Isolate makes a standby hear nothing from its primary any more: what is
// committed from now on, a promotion loses.
func (c *Cluster) Isolate(ctx context.Context) error {
	if err := c.alter(ctx, "primary_conninfo", ""); err != nil {
		return err
	}
	return c.await(ctx, "the end of streaming", `SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)`)
}

// ReadOnly makes a primary refuse writes, on the connections that are there as
// well, and go on answering, as at a planned switchover; or take them again.
func (c *Cluster) ReadOnly(ctx context.Context, on bool) error {
	return c.alter(ctx, "default_transaction_read_only", map[bool]string{true: "on", false: "off"}[on])
}

// Backup keeps a copy of the data for [Cluster.Restore].
func (c *Cluster) Backup(ctx context.Context) error {
	return c.copyTo(ctx, c, filepath.Join(c.dir, "backup"))
}

// Restore goes back to the backup: what was committed since is lost. It may be
// done once.
func (c *Cluster) Restore(ctx context.Context) error {
	c.mu.Lock()
	c.kill()
	err := os.RemoveAll(c.data())
	if err == nil {
		err = os.Rename(filepath.Join(c.dir, "backup"), c.data())
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("restoring the backup: %w", err)
	}
	return c.Restart(ctx)
}

// Freeze stops every process of the server where it is: it accepts connections,
// keeps those it has, and answers nothing.
func (c *Cluster) Freeze() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = true
	return c.signalAll(syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (c *Cluster) Thaw() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.thaw()
}

func (c *Cluster) thaw() error {
	c.frozen = false
	return c.signalAll(syscall.SIGCONT)
}

// signalAll signals the postmaster first, so that it forks no more, and then its
// children.
func (c *Cluster) signalAll(signal syscall.Signal) error {
	if c.server == nil {
		return errors.New("signalling postgres: it does not run")
	}
	parent := c.server.PID()
	if err := c.server.Signal(signal); err != nil {
		return fmt.Errorf("signalling postgres: %w", err)
	}
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output() //nolint:noctx // it reads and ends
	if err != nil {
		return fmt.Errorf("looking for the processes of postgres: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err != nil || ppid != parent {
			continue
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signalling a process of postgres: %w", err)
		}
	}
	return nil
}

// alter changes a setting of the running server, and waits until it is in force:
// processes hear of it by a signal.
func (c *Cluster) alter(ctx context.Context, name, value string) error {
	quoted := "'" + strings.ReplaceAll(value, "'", "''") + "'"
	what := "setting " + name
	if err := c.exec(ctx, what, "ALTER SYSTEM SET "+name+" = "+quoted); err != nil {
		return err
	}
	if err := c.exec(ctx, what, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return c.await(ctx, name, "SELECT current_setting('"+name+"') = "+quoted)
}

func (c *Cluster) exec(ctx context.Context, what, statement string) error {
	conn, err := c.writer(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// await asks, on new connections, until the answer is true.
func (c *Cluster) await(ctx context.Context, what, query string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		var done bool
		conn, err := c.writer(ctx)
		if err == nil {
			err = conn.QueryRow(ctx, query).Scan(&done)
			_ = conn.Close(context.WithoutCancel(ctx))
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// writer is a connection that what the server is set to does not bind.
func (c *Cluster) writer(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, c.URL("postgres")+"&synchronous_commit=local")
}
