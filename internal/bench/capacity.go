package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// How the table of sizes is computed. docs/capacity.md has the formula in words.
const (
	activeShare     = 0.1             // of the sessions, in the busiest hour
	requestsBetween = 5 * time.Second // of an active user
	accessTokenLife = time.Hour       // between two refreshes of an active user
	headroom        = 2               // how much more each part must be able to do
	checksOfACore   = 80_000          // docs/performance.md, a cached token, on a machine that does nothing else
	diskHeadroom    = 2               // dead rows, and the indexes' empty room
)

// capacityPart measures what one primary carries: rates, CPU, WAL and bytes, with fsync, on a table
// of a million sessions.
func capacityPart(ctx context.Context, b *bench) ([]result, error) {
	d, err := deploy(ctx, b, cluster.Options{Durable: true})
	if err != nil {
		return nil, err
	}
	defer d.stop(ctx)
	gate, err := d.serve(ctx, b.sessiongate)
	if err != nil {
		return nil, err
	}
	// The users first: bench.sessions is a copy of the table.
	users, err := d.signInAll(ctx, gate, b.population())
	if err != nil {
		return nil, err
	}
	rows := 1_000_000
	if b.quick {
		rows = 1_000
	}
	if err := d.insertRows(ctx, 1, rows); err != nil {
		return nil, err
	}
	sizes, session, err := d.bytesEach(ctx, rows)
	if err != nil {
		return nil, err
	}
	whole, refresh, err := d.wholeRequests(ctx, gate, users)
	if err != nil {
		return nil, err
	}
	written, wal, err := d.writtenEach(ctx, rows)
	if err != nil {
		return nil, err
	}
	return []result{whole, written, sizes, sizesFor(session, refresh, wal)}, nil
}

// wholeRequests are refreshes and sign-ins through the process, in a closed loop. It returns the
// CPU of Postgres for a refresh, in µs.
func (d *deployment) wholeRequests(ctx context.Context, gate *child, users []user) (result, float64, error) {
	r := result{
		title: "What one primary carries", unit: "requests a second",
		why: "One sessiongate and Postgres with fsync share all cores, with the load generator. 32 connections, closed loop, a million sessions in the table. " +
			"Both CPU columns together, times the rate, are the cores in use: where they are far below the machine's, the disk's fsync or another program is the limit.",
		head: []string{"", "requests/s", "sessiongate CPU µs each", "Postgres CPU µs each", "cores in use"},
	}
	steps := []struct {
		action

		requests [][]byte
		address  string
	}{
		{action{name: "refresh, R4", before: d.before(due), once: true, judge: answers(true), after: d.issuedOnce}, browserRequests(users, refreshPath), gate.at.Public},
		{action{name: "sign-in", before: nothing, judge: isCreated}, d.signIns("/v1/sessions"), gate.at.Internal},
	}
	var ofRefresh float64
	for _, s := range steps {
		var rates, own, postgres, cores []float64
		for round := range d.rounds + 1 {
			m, cpu, err := d.play(ctx, s.action, rival{s.name, gate.PID(), s.address, s.requests})
			if err != nil {
				return r, 0, err
			}
			if round == 0 { // it warms up
				continue
			}
			each := float64(cpu.Nanoseconds()) / 1e3 / float64(m.requests)
			rates, own, postgres = append(rates, m.perSecond()), append(own, m.cpuEach()), append(postgres, each)
			cores = append(cores, (m.cpuEach()+each)*m.perSecond()/1e6)
		}
		if ofRefresh == 0 {
			ofRefresh = spreadOf(postgres).mid
		}
		r.rows = append(r.rows, []string{s.name, spreadOf(rates).text(0), spreadOf(own).text(0), spreadOf(postgres).text(0), spreadOf(cores).text(2)})
		r.bars = append(r.bars, bar{name: s.name, value: spreadOf(rates)})
	}
	return r, ofRefresh, nil
}

// writtenEach is the WAL of each write. It returns the most that a refresh and the promotion of its
// child write: the first change of a page after a checkpoint writes the whole page, and sessions are
// refreshed less often than checkpoints come.
func (d *deployment) writtenEach(ctx context.Context, rows int) (result, float64, error) {
	r := result{
		title: "What each write costs Postgres",
		why: "The statements of the store, by 8 clients (promotions: by one, in batches of 256), on the same table. " +
			"After a checkpoint, the first change of a page writes the whole page into the WAL. " +
			"Of a million rows, one that is chosen at random is nearly always the first of its page.",
		head: []string{"", "rows/s", "Postgres CPU µs each", "WAL bytes each", "WAL bytes each, after a checkpoint"},
	}
	store, err := postgres.Open(ctx, postgres.Config{URL: d.url})
	if err != nil {
		return r, 0, err
	}
	defer store.Close()
	names := map[string]string{
		"read and write a session (Rotate)": "refresh, R4", "promote a batch (Promote)": "promotion of a child",
		"create a session (Create)": "sign-in", "end a session (End)": "sign-out, with feed entry and audit event",
	}
	var refresh float64
	for _, s := range d.statements(d.bench, rows) {
		name, ok := names[s.name]
		if !ok {
			continue
		}
		switch s.name {
		case "promote a batch (Promote)": // s.before rewrites the whole table
			first, _ := d.promotions(rows, map[string]string{})
			handles := make([][]byte, len(first[0]))
			for i, p := range first[0] {
				handles[i] = p.Handle[:]
			}
			s.before = func(ctx context.Context) error {
				return d.execute(ctx, `UPDATE sessiongate.active_sessions SET current_hash = $1, previous_hash = $2 WHERE handle = ANY ($3)`,
					[]byte(rowHash), []byte(strings.Repeat("z", 32)), handles)
			}
		case "create a session (Create)":
			s.before = nothing
		}
		var rates, cpu []float64
		var wal [2][]float64 // later; after a checkpoint
		for round := range 2 * (d.rounds + 1) {
			var from int64
			s, prepare := s, s.before
			s.before = func(ctx context.Context) error {
				err := prepare(ctx)
				if err == nil && round%2 == 1 {
					err = d.execute(ctx, `CHECKPOINT`)
				}
				if err == nil {
					from, err = d.written(ctx)
				}
				return err
			}
			m, err := d.playStore(ctx, d.bench, store, s)
			to, lsnErr := d.written(ctx)
			if err := errors.Join(err, lsnErr); err != nil {
				return r, refresh, err
			}
			if round < 2 {
				continue
			}
			wal[round%2] = append(wal[round%2], float64(to-from)/float64(m.requests))
			if round%2 == 0 {
				rates, cpu = append(rates, m.perSecond()), append(cpu, m.cpuEach())
			}
		}
		later, first := spreadOf(wal[0]), spreadOf(wal[1])
		if s.name != "create a session (Create)" && s.name != "end a session (End)" {
			refresh += first.mid
		}
		r.rows = append(r.rows, []string{name, spreadOf(rates).text(0), spreadOf(cpu).text(0), later.text(0), first.text(0)})
	}
	return r, refresh, nil
}

// written is how many bytes of WAL the server has written since it was made.
func (d *deployment) written(ctx context.Context) (n int64, err error) {
	err = d.db.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`).Scan(&n)
	return n, err
}

// bytesEach is what rows take on disk. It returns the bytes of a session with its attributes and
// indexes.
func (d *deployment) bytesEach(ctx context.Context, rows int) (result, float64, error) {
	r := result{
		title: "Bytes on disk", why: "Rows of usual sizes: a user id of 12 characters, two claims, no data, a User-Agent of 101 characters. Freshly written, without dead rows.",
		head: []string{"", "table", "indexes", "bytes each"},
	}
	if err := d.insertEnds(ctx, rows/10); err != nil {
		return r, 0, err
	}
	// As End writes it; the ends above came without one.
	err := errors.Join(
		d.execute(ctx, `INSERT INTO sessiongate.audit_events (kind, handle, user_id, reason, actor)
			SELECT 'ended', decode(md5(g::text), 'hex'), 'row-' || lpad(g::text, 8, '0'), 'revoked', 'shop' FROM generate_series(1, $1::bigint) g`, rows/10),
		d.execute(ctx, `VACUUM (ANALYZE) sessiongate.audit_events`),
	)
	if err != nil {
		return r, 0, err
	}
	var session float64
	for _, table := range []struct {
		name, relation string
		ofSession      bool
	}{
		{"session", "active_sessions", true},
		{"its attributes (claims, data)", "session_attributes", true},
		{"entry of the feed", "feed", false},
		{"audit event", "audit_events", false},
	} {
		var heap, indexes, count int64
		if err := d.db.QueryRow(ctx, `SELECT pg_table_size(t), pg_indexes_size(t), (SELECT count(*) FROM sessiongate.`+table.relation+`)
			FROM (SELECT ('sessiongate.' || $1)::regclass AS t) x`, table.relation).Scan(&heap, &indexes, &count); err != nil {
			return r, 0, fmt.Errorf("reading the size of %s: %w", table.relation, err)
		}
		each := func(n int64) string { return strconv.FormatInt(n/count, 10) }
		r.rows = append(r.rows, []string{table.name, each(heap), each(indexes), each(heap + indexes)})
		if table.ofSession {
			session += float64(heap+indexes) / float64(count)
		}
	}
	r.rows = append(r.rows, []string{"a million sessions with attributes", "", "", fmt.Sprintf("%.0f MB", session)})
	return r, session, nil
}

// sizesFor computes what a number of sessions needs, from what was measured: bytes of a session, µs of
// Postgres and bytes of WAL for a refresh.
func sizesFor(session, postgres float64, wal float64) result {
	r := result{
		title: "Sessions, replicas, primary, disk", why: "Computed from the tables above, by the formula above.",
		head: []string{"sessions", "checks/s", "replicas of one core", "refreshes/s", "cores of the primary", "WAL, MB/s", "table and indexes, GB"},
	}
	for _, n := range []float64{10_000, 100_000, 1_000_000, 10_000_000, 100_000_000} {
		active := n * activeShare
		checks := active / requestsBetween.Seconds()
		refreshes := active / accessTokenLife.Seconds()
		r.rows = append(r.rows, []string{
			thousands(n), thousands(checks), strconv.Itoa(max(2, 1+int(math.Ceil(checks*headroom/checksOfACore)))),
			strconv.FormatFloat(refreshes, 'f', 1, 64), strconv.Itoa(max(1, int(math.Ceil(refreshes*postgres*headroom/1e6)))),
			strconv.FormatFloat(refreshes*wal/1e6, 'f', 2, 64), strconv.FormatFloat(n*session*diskHeadroom/1e9, 'f', 2, 64),
		})
	}
	return r
}

// thousands writes a number with a comma between thousands.
func thousands(n float64) string {
	text := strconv.FormatFloat(math.Round(n), 'f', 0, 64)
	var parts []string
	for len(text) > 3 {
		parts, text = append(parts, text[len(text)-3:]), text[:len(text)-3]
	}
	parts = append(parts, text)
	slices.Reverse(parts)
	return strings.Join(parts, ",")
}
