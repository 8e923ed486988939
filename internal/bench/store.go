package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

const (
	storeClients   = 8
	promotionBatch = 256 // the default of promotion.batch
)

// rowTimeValue is rowTime.
var rowTimeValue = time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)

// statement is something that the store and pgbench do alike.
type statement struct {
	name, why string
	clients   int
	each      int // rows that one call changes or reads
	before    func(ctx context.Context) error
	// times is how often each client does it in a turn; 0: until the turn is over.
	times int
	call  func(ctx context.Context, s *postgres.Store, client, n int) error
	// script is pgbench's. calls is how many of call it does.
	script string
	calls  int
	define map[string]string // variables of the script
}

// storePart measures the store's statements beside pgbench's: how much of what Postgres can do is left
// to those who ask it through sessions/postgres.
func storePart(ctx context.Context, b *bench) ([]result, error) {
	d, err := deploy(ctx, b, cluster.Options{})
	if err != nil {
		return nil, err
	}
	defer d.stop(ctx)
	store, err := postgres.Open(ctx, postgres.Config{URL: d.url})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if _, err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	rows := 100_000
	if b.quick {
		rows = 1_000
	}
	if err := d.insertRows(ctx, 1, rows); err != nil {
		return nil, err
	}
	var results []result
	for _, s := range d.statements(b, rows) {
		c := contest{
			title: "store: " + s.name, unit: "rows", goal: map[string]float64{"sessions/postgres": 0.65},
			why: s.why + " The CPU is that of Postgres.",
			contenders: []contender{
				{name: "pgbench -M prepared", play: func(ctx context.Context) (measurement, error) { return d.playPgbench(ctx, b, s) }},
				{name: "sessions/postgres", play: func(ctx context.Context) (measurement, error) { return d.playStore(ctx, b, store, s) }},
			},
		}
		table, err := c.run(ctx, b.rounds)
		if err != nil {
			return nil, err
		}
		results = append(results, table)
	}
	return results, nil
}

func nothing(context.Context) error { return nil }

func (d *deployment) statements(b *bench, rows int) []statement {
	ends := 2_000 // sessions that a client ends in a turn
	if b.quick {
		ends = 20
	}
	anyRow := func() sessions.Handle { return handleOf(1 + rand.IntN(rows)) } //nolint:gosec // no secret
	const handle = `1000000000000000 + :g * 2654435761 % 9000000000000000`
	setAny := fmt.Sprintf("\\set g random(1, %d)\n\\set handle %s\n", rows, handle)
	expires := time.Now().Add(10 * 24 * time.Hour).UTC().Truncate(time.Microsecond)
	device := sessions.Device{Address: bareNetwork, UserAgent: userAgent}
	old := sessions.Row{
		Current: sessions.TokenHash([]byte(rowHash)), Previous: sessions.TokenHash([]byte(rowHash)), CurrentClient: sessions.Client([]byte(rowClient)),
		PromotedAt: rowTimeValue, NextNonce: sessions.Nonce([]byte(rowClient)), NextClient: sessions.Client([]byte(rowClient)), IssuedAt: rowTimeValue,
		Issues: 1, ExpiresAt: expires, Device: device,
	}
	define := map[string]string{
		"hash": rowHash, "client": rowClient, "time": rowTime, "issues": "1", "expires": expires.Format(time.RFC3339Nano),
		"user": "user-000000", "sliding": "30 days", "absolute": "100 days", "claims": `{"role":"member","plan":"team"}`, "data": "{}",
		"none": "0", "no": "false", "yes": "true", "most": strconv.Itoa(math.MaxInt32),
		"network": bareNetwork.String(), "user_agent": userAgent,
		"reason": "revoked", "actor": "bench", "rule": "R8",
	}
	promotions, promoteScript := d.promotions(rows, define)
	return []statement{
		{
			name: "read a session (Get)", why: "By its handle, one of all rows.", clients: storeClients, each: 1, before: nothing,
			call: func(ctx context.Context, s *postgres.Store, _, _ int) error {
				_, _, err := s.Get(ctx, anyRow())
				return err
			},
			script: setAny + bind(getSQL, "handle", "yes"), calls: 1, define: define,
		},
		{
			name: "write a session (Swap)", why: "A compare-and-swap of one row.", clients: storeClients, each: 1, before: nothing,
			call: func(ctx context.Context, s *postgres.Store, _, _ int) error {
				old := old
				old.Handle = anyRow()
				done, err := s.Swap(ctx, old, old, sessions.R4)
				if err == nil && !done {
					err = errors.New("a row is not as it was left")
				}
				return err
			},
			script: setAny + bind(swapSQL, "handle", "hash", "time", "hash", "hash", "client", "time", "client", "client", "time", "issues", "expires", "network", "user_agent",
				"NULL::bytea", "NULL::timestamptz", "NULL::bytea", "NULL::timestamptz"),
			calls: 1, define: define,
		},
		{
			name: "read and write a session (Rotate)", why: "What a refresh by R4 needs, in one statement.", clients: storeClients, each: 1, before: nothing,
			call: func(ctx context.Context, s *postgres.Store, _, _ int) error {
				_, _, _, err := s.Rotate(ctx, anyRow(), sessions.Rotation{
					Current: old.Current, NextNonce: old.NextNonce, NextClient: old.NextClient, Device: device, Sliding: 30 * 24 * time.Hour, IssuesMax: math.MaxInt32,
				})
				return err
			},
			script: setAny + bind(rotateSQL, "handle", "hash", "client", "client", "none", "none", "sliding", "most", "no", "network", "user_agent"), calls: 1, define: define,
		},
		{
			name: "create a session (Create)", why: "Two inserts in one statement.", clients: storeClients, each: 1,
			before: func(ctx context.Context) error {
				return errors.Join(
					d.execute(ctx, `DELETE FROM sessiongate.active_sessions WHERE user_id = 'user-000000'`),
					d.execute(ctx, `VACUUM sessiongate.active_sessions, sessiongate.session_attributes`),
				)
			},
			call: func(ctx context.Context, s *postgres.Store, _, _ int) error {
				_, err := s.Create(ctx, sessions.NewRecord{
					Handle: sessions.NewHandle(), UserID: define["user"], Current: old.Current, CurrentClient: old.CurrentClient, Device: device,
					Claims: []byte(define["claims"]), Data: []byte(define["data"]), SlidingLife: 30 * 24 * time.Hour, AbsoluteLife: 100 * 24 * time.Hour,
				})
				return err
			},
			script: "\\set handle random(1000000000000000, 9999999999999999)\n" +
				bind(createSQL, "handle", "user", "hash", "client", "sliding", "absolute", "claims", "data", "network", "user_agent"),
			calls: 1, define: define,
		},
		{
			name: "end a session (End)", why: "One delete, with the feed's entry and the audit event.", clients: storeClients, each: 1, times: ends,
			before: func(ctx context.Context) error {
				return errors.Join(
					d.execute(ctx, `TRUNCATE sessiongate.audit_events, sessiongate.feed`),
					d.insertRows(ctx, rows+1, rows+storeClients*ends),
				)
			},
			call: func(ctx context.Context, s *postgres.Store, client, n int) error {
				done, err := s.End(ctx, handleOf(rows+1+client*ends+n), sessions.Ending{Reason: sessions.ReasonRevoked, Actor: define["actor"], Rule: sessions.R8})
				if err == nil && !done {
					err = errors.New("there was no session to end")
				}
				return err
			},
			script: fmt.Sprintf("\\set n :n + 1\n\\set g %d + :client_id * %d + :n\n\\set handle %s\n", rows, ends, handle) + bind(endSQL, "reason", "actor", "rule", "handle"),
			calls:  1, define: define,
		},
		{
			name: "promote a batch (Promote)", why: "Batches of 256 rows by one client, as one process has it: their rows are locked, then written, in one statement.",
			clients: 1, each: promotionBatch, times: 0,
			before: func(ctx context.Context) error {
				return errors.Join(
					d.execute(ctx, `UPDATE sessiongate.active_sessions SET current_hash = $1, previous_hash = $2`, []byte(rowHash), []byte(strings.Repeat("z", 32))),
					d.execute(ctx, `VACUUM sessiongate.active_sessions`),
				)
			},
			call: func(ctx context.Context, s *postgres.Store, _, n int) error {
				return s.Promote(ctx, promotions[n%len(promotions)])
			},
			script: promoteScript, calls: len(promotions), define: define,
		},
	}
}

// promotions are batches that can go on for ever: each of the rows passes through three hashes.
func (d *deployment) promotions(rows int, define map[string]string) (batches [3][]sessions.Promotion, script string) {
	hash := func(n int) string { return strings.Repeat(string(rune('a'+n%3)), 32) }
	var handles, parts []string
	for i := range promotionBatch {
		handle := handleOf(1 + i*rows/promotionBatch)
		handles = append(handles, string(handle[:]))
		for n := range batches {
			batches[n] = append(batches[n], sessions.Promotion{
				Handle: handle, Parent: sessions.TokenHash([]byte(hash(n))), Own: sessions.TokenHash([]byte(hash(n + 1))),
			})
		}
	}
	define["handles"] = "{" + strings.Join(handles, ",") + "}"
	for n := range batches {
		all := "all" + strconv.Itoa(n)
		define[all] = "{" + strings.Repeat(hash(n)+",", promotionBatch-1) + hash(n) + "}"
		parts = append(parts, bind(promoteSQL, "handles", all, "all"+strconv.Itoa((n+1)%len(batches))))
	}
	return batches, strings.Join(parts, "")
}

// bind gives the parameters $1, $2, … of a statement the names of pgbench's variables. None of these can be
// NULL, so a NULL stands for itself.
func bind(sql string, names ...string) string {
	return regexp.MustCompile(`\$\d+`).ReplaceAllStringFunc(sql, func(p string) string {
		n, _ := strconv.Atoi(p[1:]) // digits alone
		if strings.HasPrefix(names[n-1], "NULL") {
			return names[n-1]
		}
		return ":" + names[n-1]
	}) + ";\n"
}

func (d *deployment) playStore(ctx context.Context, b *bench, store *postgres.Store, s statement) (m measurement, err error) {
	if err := s.before(ctx); err != nil {
		return m, err
	}
	before := familyCPU(d.postmaster)
	counts := make([]int, s.clients)
	began := time.Now()
	var g errgroup.Group
	for client := range s.clients {
		g.Go(func() error {
			for n := 0; s.times > 0 && n < s.times || s.times == 0 && (n == 0 || time.Since(began) < b.turn); n++ {
				if err := s.call(ctx, store, client, n); err != nil {
					return err
				}
				counts[client]++
			}
			return nil
		})
	}
	err = g.Wait()
	m.took, m.cpu = time.Since(began), familyCPU(d.postmaster)-before
	for _, n := range counts {
		m.requests += n * s.each
	}
	return m, err
}

var (
	pgbenchCount = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	pgbenchRate  = regexp.MustCompile(`tps = ([\d.]+) \(without initial connection time\)`)
)

func (d *deployment) playPgbench(ctx context.Context, b *bench, s statement) (m measurement, err error) {
	if err := s.before(ctx); err != nil {
		return m, err
	}
	script := d.file("script.sql")
	if err := os.WriteFile(script, []byte(s.script), 0o600); err != nil {
		return m, err
	}
	args := []string{"--no-vacuum", "--protocol=prepared", "--client=" + strconv.Itoa(s.clients), "--jobs=" + strconv.Itoa(min(s.clients, 2)), "--file=" + script, "-D", "n=0"}
	switch {
	case s.times > 0:
		args = append(args, "--transactions="+strconv.Itoa(s.times))
	case b.quick: // it knows whole seconds only
		args = append(args, "--transactions=10")
	default:
		args = append(args, "--time="+strconv.Itoa(max(1, int(b.turn.Seconds()))))
	}
	for name, value := range s.define {
		args = append(args, "-D", name+"="+value)
	}
	before := familyCPU(d.postmaster)
	out, err := exec.CommandContext(ctx, filepath.Join(d.server.BinDir(), "pgbench"), append(args, d.url)...).CombinedOutput()
	if err != nil {
		return m, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	m.cpu = familyCPU(d.postmaster) - before
	count, rate := pgbenchCount.FindSubmatch(out), pgbenchRate.FindSubmatch(out)
	if count == nil || rate == nil {
		return m, fmt.Errorf("pgbench says neither count nor rate: %s", out)
	}
	n, err := strconv.Atoi(string(count[1]))
	perSecond, rateErr := strconv.ParseFloat(string(rate[1]), 64)
	if err := errors.Join(err, rateErr); err != nil {
		return m, err
	}
	m.requests = n * s.calls * s.each
	m.took = time.Duration(float64(n) / perSecond * float64(time.Second))
	return m, nil
}
