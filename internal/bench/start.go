package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// startPart measures what grows with the tables: the time of a start, of the migrations, of a refresh
// and of a read.
func startPart(ctx context.Context, b *bench) ([]result, error) {
	d, err := deploy(ctx, b, cluster.Options{})
	if err != nil {
		return nil, err
	}
	defer d.stop(ctx)
	var results []result
	for _, measure := range []func(context.Context) ([]result, error){d.measureStarts, d.measureMigrations, d.measureSizes} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		results = append(results, more...)
	}
	return results, nil
}

// size is a number of rows with its short name.
type size struct {
	name string
	rows int
}

// sizes are those of a run, from small to large. The first one is the baseline.
func (b *bench) sizes() []size {
	all := []size{{"1 k", 1_000}, {"10 k", 10_000}, {"100 k", 100_000}, {"1 M", 1_000_000}, {"10 M", 10_000_000}}
	switch {
	case b.quick:
		return all[:1]
	case !b.full:
		return all[:4]
	}
	return all
}

// startGoal is how soon a process must be ready, in milliseconds.
const startGoal = 1000

// measureStarts starts a process again and again, on databases of several sizes in turns, until it is
// ready. A process reads the keys and the whole feed first.
func (d *deployment) measureStarts(ctx context.Context) ([]result, error) {
	type database struct {
		*deployment

		name string
		goal float64   // ms; 0: none
		took []float64 // ms
	}
	var databases []*database
	add := func(name string, goal float64, rows, entries int) error {
		o, err := d.another(ctx, fmt.Sprintf("start_%d", len(databases)))
		if err != nil {
			return err
		}
		if err := o.migrate(ctx); err != nil {
			return err
		}
		databases = append(databases, &database{deployment: o, name: name, goal: goal})
		if rows > 0 {
			err = o.insertRows(ctx, 1, rows)
		}
		if entries > 0 {
			err = errors.Join(err, o.insertEnds(ctx, entries))
		}
		return err
	}
	if err := add("empty", startGoal, 0, 0); err != nil {
		return nil, err
	}
	sizes := d.sizes()
	for _, s := range sizes[max(0, len(sizes)-2):] {
		if s.rows < 1_000_000 && !d.quick {
			continue
		}
		if err := add(s.name+" sessions", startGoal, s.rows, 0); err != nil {
			return nil, err
		}
	}
	for _, s := range sizes {
		if s.rows > 1_000_000 {
			continue
		}
		if err := add(s.name+" entries in the feed", 0, 0, s.rows); err != nil {
			return nil, err
		}
	}
	for round := range d.rounds + 1 {
		for _, at := range databases {
			began := time.Now()
			c, err := at.serve(ctx, d.sessiongate)
			if err != nil {
				return nil, err
			}
			if round > 0 { // the first start of a database makes its keys
				at.took = append(at.took, float64(time.Since(began).Microseconds())/1e3)
			}
			c.Kill()
		}
	}
	r := result{
		title: "start", why: "From the start of the process until it says that it is ready.", unit: "ms",
		head: []string{"", "ms until ready", "aim"},
	}
	for _, at := range databases {
		aim := ""
		if at.goal > 0 {
			aim = fmt.Sprintf("< %.0f", at.goal)
		}
		r.rows = append(r.rows, []string{at.name, spreadOf(at.took).text(0), aim})
		r.bars = append(r.bars, bar{name: at.name, value: spreadOf(at.took), goal: at.goal})
		if err := d.drop(ctx, at.deployment); err != nil {
			return nil, err
		}
	}
	return []result{r}, nil
}

// migrate brings the schema up to date, by the program.
func (d *deployment) migrate(ctx context.Context) error {
	command := exec.CommandContext(ctx, d.sessiongate, "migrate")
	command.Env = []string{"SESSIONGATE_DATABASE_URL=" + d.url}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("migrating: %w: %s", err, out)
	}
	return nil
}

// measureMigrations migrates tables from the first version of the schema to the newest one, while
// one client refreshes in a loop, with the statements of that version: the former process runs on
// during a rollout.
func (d *deployment) measureMigrations(ctx context.Context) ([]result, error) {
	r := result{
		title: "migrations", why: "From the first schema to the newest one, while one client refreshes in a loop. " +
			"A statement waits for a lock at most as long as its longest pause.",
		head: []string{"sessions", "migrations, ms", "longest pause before, ms", "longest pause meanwhile, ms"},
	}
	sizes := d.sizes()
	for _, s := range sizes[max(0, len(sizes)-2):] {
		o, err := d.another(ctx, "migrate_"+strings.ReplaceAll(s.name, " ", "_"))
		if err != nil {
			return nil, err
		}
		if err := o.firstSchema(ctx, s.rows); err != nil {
			return nil, err
		}
		before, err := o.pauses(ctx, s.rows, func() error {
			pause := time.NewTimer(d.turn)
			defer pause.Stop()
			select {
			case <-pause.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil {
			return nil, err
		}
		var took time.Duration
		meanwhile, err := o.pauses(ctx, s.rows, func() error {
			began := time.Now()
			err := o.migrate(ctx)
			took = time.Since(began)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := d.drop(ctx, o); err != nil {
			return nil, err
		}
		r.rows = append(r.rows, []string{s.name, inMilliseconds(took), inMilliseconds(before), inMilliseconds(meanwhile)})
	}
	return []result{r}, nil
}

func inMilliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f", float64(d.Microseconds())/1e3)
}

// firstSchema makes a database as the first version of sessiongate left it, with rows.
func (d *deployment) firstSchema(ctx context.Context, rows int) error {
	dir, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/sessiongate/sessiongate/sessions/postgres").Output()
	if err != nil {
		return fmt.Errorf("looking for the migrations: %w", err)
	}
	if err := d.execute(ctx, `CREATE SCHEMA sessiongate`); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(d.url)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	versions, err := database.NewStore(goose.DialectPostgres, "sessiongate.schema_versions")
	if err != nil {
		return err
	}
	files := os.DirFS(filepath.Join(strings.TrimSpace(string(dir)), "migrations"))
	provider, err := goose.NewProvider("", db, files, goose.WithStore(versions), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := provider.UpTo(ctx, 1); err != nil {
		return fmt.Errorf("applying the first migration: %w", err)
	}
	return errors.Join(
		d.execute(ctx, fillHandles(`INSERT INTO sessiongate.sessions (handle, user_id, current, current_client, promoted_at, created_at, expires_at, absolute_expires_at)
			SELECT HANDLE, 'row-' || g, $2, $3, n, n, n + interval '30 days', n + interval '100 days' FROM generate_series(1, $1::bigint) g, (SELECT now() AS n) t`),
			rows, []byte(rowHash), []byte(rowClient)),
		d.execute(ctx, fillHandles(`INSERT INTO sessiongate.session_contents (handle, claims, data)
			SELECT HANDLE, '{"role":"member","plan":"team"}', '{}' FROM generate_series(1, $1::bigint) g`), rows),
		d.execute(ctx, `INSERT INTO sessiongate.feed (kind, handle, reason)
			SELECT 'ended', decode(md5(g::text), 'hex'), 'revoked' FROM generate_series(1, $1::bigint) g`, rows/10),
		d.execute(ctx, `VACUUM (ANALYZE)`),
	)
}

// pauses has one client refresh in a loop until do returns. It returns the longest time that a
// refresh took.
func (d *deployment) pauses(ctx context.Context, rows int, do func() error) (longest time.Duration, err error) {
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	// Unnamed statements, as the first version sent them: a table may have become a view meanwhile.
	mode := pgx.QueryExecModeExec
	refresh := func() error {
		handle := handleOf(1 + rand.IntN(rows)) //nolint:gosec // no secret
		var current []byte
		if err := conn.QueryRow(ctx, `SELECT s.current FROM sessiongate.sessions s JOIN sessiongate.session_contents c USING (handle) WHERE s.handle = $1`,
			mode, handle[:]).Scan(&current); err != nil {
			return err
		}
		tag, err := conn.Exec(ctx, `UPDATE sessiongate.sessions SET next_nonce = $3, next_client = $3, handed_at = now(), hand_outs = 1, expires_at = now() + interval '1 day'
			WHERE handle = $1 AND current = $2`, mode, handle[:], current, []byte(rowClient))
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("a refresh changed %d rows", tag.RowsAffected())
		}
		return err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		began := time.Now()
		if err := refresh(); err != nil {
			return longest, errors.Join(fmt.Errorf("refreshing during a migration: %w", err), <-done)
		}
		longest = max(longest, time.Since(began))
		select {
		case err := <-done:
			return longest, err
		default:
		}
	}
}

// measureSizes compares databases with more and more sessions, side by side on one server.
func (d *deployment) measureSizes(ctx context.Context) ([]result, error) {
	refresh := contest{title: "sessions in the table: refresh, R4", unit: "requests", why: "The users are 2,000 of the rows."}
	read := contest{title: "sessions in the table: read one (Get)", unit: "reads", why: "One of all rows, by 8 clients. The CPU is that of Postgres."}
	users := 2_000
	if d.quick {
		users = 64
	}
	for _, s := range d.sizes() {
		o, err := d.another(ctx, "sizes_"+strings.ReplaceAll(s.name, " ", "_"))
		if err != nil {
			return nil, err
		}
		gate, err := o.serve(ctx, d.sessiongate)
		if err != nil {
			return nil, err
		}
		// Half of the rows are older than the users, half are younger.
		if err := o.insertRows(ctx, 1, s.rows/2); err != nil {
			return nil, err
		}
		signedIn, err := o.signInAll(ctx, gate, users)
		if err != nil {
			return nil, err
		}
		if err := o.insertRows(ctx, s.rows/2+1, s.rows); err != nil {
			return nil, err
		}
		store, err := postgres.Open(ctx, postgres.Config{URL: o.url})
		if err != nil {
			return nil, err
		}
		defer store.Close()
		a := action{before: o.before(due), once: true, judge: answers(true), after: o.issuedOnce}
		refresh.contenders = append(refresh.contenders, contender{s.name + " sessions", func(ctx context.Context) (measurement, error) {
			m, _, err := o.play(ctx, a, rival{"", gate.PID(), gate.at.Public, browserRequests(signedIn, refreshPath)})
			return m, err
		}})
		read.contenders = append(read.contenders, contender{s.name + " sessions", func(ctx context.Context) (measurement, error) {
			return o.playStore(ctx, d.bench, store, o.statements(d.bench, s.rows)[0])
		}})
	}
	var results []result
	for _, c := range []contest{refresh, read} {
		table, err := c.run(ctx, d.rounds)
		if err != nil {
			return nil, err
		}
		results = append(results, table)
	}
	return results, nil
}
