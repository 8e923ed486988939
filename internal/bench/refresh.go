package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// rival is a server that answers the requests of one action.
type rival struct {
	name     string
	pid      int
	address  string // of the listener that the action asks
	requests [][]byte
}

// action is what a browser or a login service asks for, again and again.
type action struct {
	name, why string
	goal      float64
	before    func(ctx context.Context) error // before each turn
	once      bool                            // a request has its effect once
	judge     func(i int, head, body []byte) error
	// after proves that the requests of a turn had their effect.
	after func(ctx context.Context, requests int) error
}

// turn plays one turn, and returns the CPU time of Postgres beside that of the server.
type turn func(ctx context.Context) (measurement, time.Duration, error)

// compare plays an action on all rivals.
func (d *deployment) compare(ctx context.Context, a action, rivals []rival) (result, error) {
	c := contest{title: a.name, unit: "requests", why: a.why, goal: map[string]float64{}}
	var turns []turn
	for n, r := range rivals {
		if n > 0 && a.goal > 0 {
			c.goal[r.name] = a.goal
		}
		c.contenders = append(c.contenders, contender{name: r.name})
		turns = append(turns, func(ctx context.Context) (measurement, time.Duration, error) { return d.play(ctx, a, r) })
	}
	return d.run(ctx, c, turns)
}

// run plays a contest with these turns. The CPU of Postgres gets a column of its own, and so does the
// ratio to the former version where that is one of the contenders.
func (d *deployment) run(ctx context.Context, c contest, turns []turn) (result, error) {
	type round struct{ rate, postgres float64 } // requests a second; µs a request
	rounds := make([][]round, len(turns))
	for n, play := range turns {
		c.contenders[n].play = func(ctx context.Context) (measurement, error) {
			m, postgres, err := play(ctx)
			requests := float64(max(1, m.requests))
			rounds[n] = append(rounds[n], round{requests / m.took.Seconds(), float64(postgres.Nanoseconds()) / 1e3 / requests})
			return m, err
		}
	}
	table, err := c.run(ctx, d.rounds)
	if err != nil {
		return table, err
	}
	former := slices.IndexFunc(c.contenders, func(c contender) bool { return c.name == formerName })
	table.head = append(table.head, "Postgres CPU µs each")
	if former >= 0 {
		table.head = append(table.head, "ratio to "+formerName)
	}
	for n, row := range table.rows {
		var postgres, ratios []float64
		for i, r := range rounds[n][1:] { // the first turn warmed up
			postgres = append(postgres, r.postgres)
			if former >= 0 {
				ratios = append(ratios, r.rate/rounds[former][i+1].rate)
			}
		}
		row = append(row, spreadOf(postgres).text(1))
		if former >= 0 {
			row = append(row, spreadOf(ratios).text(2))
		}
		table.rows[n] = row
	}
	return table, nil
}

// play plays one turn of an action. It returns the CPU time of Postgres beside that of the server.
func (d *deployment) play(ctx context.Context, a action, r rival) (m measurement, postgres time.Duration, err error) {
	if err := a.before(ctx); err != nil {
		return m, 0, err
	}
	select {
	case <-ctx.Done():
		return m, 0, ctx.Err()
	case <-time.After(time.Until(d.left[r.address].Add(forgottenAfter))):
	}
	defer func() {
		if d.left == nil {
			d.left = map[string]time.Time{}
		}
		d.left[r.address] = time.Now()
	}()
	server, err := cpuOf(r.pid)
	if err != nil {
		return m, 0, err
	}
	postgres = familyCPU(d.postmaster)
	m, err = closedLoop{address: r.address, connections: connections, requests: r.requests, once: a.once, turn: d.turn, judge: a.judge}.run(ctx)
	if err != nil {
		return m, 0, err
	}
	postgres = familyCPU(d.postmaster) - postgres
	if m.cpu, err = cpuOf(r.pid); err != nil {
		return m, postgres, err
	}
	m.cpu -= server
	if a.after != nil {
		err = a.after(ctx, m.requests)
	}
	return m, postgres, err
}

const (
	refreshPath = "/auth/session/refresh"
	signOutPath = "/auth/signout"
)

func isOK(_ int, head, _ []byte) error {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return refused(head, "200")
	}
	return nil
}

// answers accepts 200, and holds against the rule whether a refresh token came.
func answers(child bool) func(int, []byte, []byte) error {
	return func(_ int, head, _ []byte) error {
		if err := isOK(0, head, nil); err != nil {
			return err
		}
		if bare := !bytes.Contains(head, []byte("Front-Token")); !bare && child != bytes.Contains(head, []byte("Set-Cookie: sRefreshToken=")) {
			return fmt.Errorf("an answer has a refresh token, or has none, against its rule: child is %t", child)
		}
		return nil
	}
}

// issuedOnce proves that each request of a turn issued a child.
func (d *deployment) issuedOnce(ctx context.Context, requests int) error {
	var n int
	if err := d.db.QueryRow(ctx, `SELECT count(*) FROM sessiongate.active_sessions s JOIN bench.sessions USING (handle)
		WHERE s.issues = 1 AND s.next_nonce IS NOT NULL`).Scan(&n); err != nil {
		return err
	}
	if n != requests {
		return fmt.Errorf("%d requests issued %d children", requests, n)
	}
	return nil
}

// rows is a digest of all sessions.
func (d *deployment) rows(ctx context.Context) (digest string, err error) {
	err = d.db.QueryRow(ctx, `SELECT coalesce(md5(string_agg(s::text, ' ' ORDER BY s.handle)), '') FROM sessiongate.active_sessions s`).Scan(&digest)
	return digest, err
}

// refreshPart measures refresh, sign-in, sign-out and promotion of the real process. All processes
// share all cores: the ratio counts the time of the database as well.
func refreshPart(ctx context.Context, b *bench) ([]result, error) {
	var results []result
	for _, durable := range []bool{false, true} {
		more, err := refreshOn(ctx, b, durable)
		if err != nil {
			return nil, err
		}
		results = append(results, more...)
	}
	return results, nil
}

// population is how many users there are: more than one turn can refresh.
func (b *bench) population() int {
	if b.quick {
		return 64
	}
	return 10_000
}

func refreshOn(ctx context.Context, b *bench, durable bool) ([]result, error) {
	disk := "Postgres without fsync"
	if durable {
		disk = "Postgres with fsync"
	}
	d, err := deploy(ctx, b, cluster.Options{Durable: durable})
	if err != nil {
		return nil, err
	}
	defer d.stop(ctx)
	ours, err := d.serve(ctx, b.sessiongate, passedOn()...)
	if err != nil {
		return nil, err
	}
	users, err := d.signInAll(ctx, ours, b.population())
	if err != nil {
		return nil, err
	}
	plain, err := d.serveBare(ctx)
	if err != nil {
		return nil, err
	}
	replicas := []*child{ours}
	names := []string{"sessiongate"}
	program, err := buildFormer(ctx, b.out)
	if err != nil {
		return nil, err
	}
	if program != "" {
		former, err := d.serve(ctx, program)
		if err != nil {
			return nil, err
		}
		replicas, names = append(replicas, former), append(names, formerName)
	}
	promotions, err := d.comparePromotions(ctx, users, plain, names, replicas)
	if err != nil {
		return nil, err
	}
	promotions.title += " (" + disk + ")"
	results := []result{promotions}
	for _, s := range d.steps(users) {
		rivals := []rival{{"bare handler", plain.PID(), plain.at.Public, s.bare}}
		for i, r := range replicas {
			rivals = append(rivals, rival{names[i], r.PID(), s.listener(r), s.ours})
		}
		s.name += " (" + disk + ")"
		table, err := d.compare(ctx, s.action, rivals)
		if err != nil {
			return nil, err
		}
		results = append(results, table)
	}
	return results, nil
}

// step is an action, and the requests for it to the bare handler and to a listener of sessiongate.
type step struct {
	action

	bare, ours [][]byte
	listener   func(*child) string
}

const signOutName = "sign-out"

// tabbed is how many users refresh many times in a turn.
const tabbed = 250

func (d *deployment) steps(users []user) []step {
	browser := func(a action, barePath, path string) step {
		return step{a, browserRequests(users, barePath), browserRequests(users, path), publicOf}
	}
	// What R3, R5 and R7 answer is a token that came a moment ago, too: from another tab, or again.
	again := func(a action) step {
		before, rows := a.before, ""
		a.before = func(ctx context.Context) error {
			err := before(ctx)
			if err == nil {
				rows, err = d.rows(ctx)
			}
			return err
		}
		a.after = func(ctx context.Context, _ int) error {
			now, err := d.rows(ctx)
			if err == nil && now != rows {
				err = errors.New("a refresh that should only read has written")
			}
			return err
		}
		return step{a, browserRequests(users[:min(len(users), tabbed)], "/keep"), browserRequests(users[:min(len(users), tabbed)], refreshPath), publicOf}
	}
	const oneRead, readAndWrite = "The bare handler reads the session with one SELECT.", "One statement reads and writes the session."
	steps := []step{
		browser(action{name: "refresh, R4: a child is generated", why: readAndWrite, before: d.before(due), once: true, judge: answers(true), after: d.issuedOnce}, "/issue", refreshPath),
		again(action{name: "refresh, R3: the token is kept", why: oneRead, before: d.before(young), judge: answers(false)}),
		again(action{name: "refresh, R5: the same child again", why: oneRead, before: d.before(issued), judge: answers(true)}),
		again(action{name: "refresh, R7: the token that was just replaced", why: oneRead, before: d.before(replaced), judge: answers(false)}),
		{
			action{name: "sign-in", why: "POST /v1/sessions: one statement inserts the session.", before: d.restore, judge: isCreated},
			d.signIns("/create"), d.signIns("/v1/sessions"), internalOf,
		},
		// The last one: no process allows a session again that has ended.
		browser(action{name: signOutName, why: "One statement deletes the session.", before: d.restore, once: true, judge: isOK}, "/end", signOutPath),
	}
	for i := range steps {
		steps[i].goal = 0.8
	}
	return steps
}
