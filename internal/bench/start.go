package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

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
