package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// memoryPart measures what cached tokens and ended sessions take, and whether the number of ended
// sessions changes the check.
func memoryPart(ctx context.Context, b *bench) (results []result, err error) {
	tokens, err := b.cachedTokens(ctx)
	if err != nil {
		return nil, err
	}
	counts := []int{0, 1000, 100_000, 1_000_000}
	if b.quick {
		counts = []int{0, 1000}
	}
	var gates []*gate
	var loops []*loop
	defer func() {
		for _, p := range loops {
			p.close()
		}
		for _, g := range gates {
			err = errors.Join(err, g.stop())
		}
	}()
	sizes := result{
		title: "Memory", why: "What a process has on its heap after a garbage collection, and what of it is in RAM.",
		head: []string{"", "heap, MB", "resident, MB", "heap, bytes each", "aim"},
		rows: tokens,
	}
	c := contest{
		title: "Check, with ended sessions in memory", unit: "checks", goal: map[string]float64{},
		why: "A valid token, cached. Every ended session stays in the memory of each process until its tokens have expired.",
	}
	var none int64
	for _, n := range counts {
		url, err := b.database(ctx)
		if err != nil {
			return nil, err
		}
		if err := b.endSessions(ctx, url, n); err != nil {
			return nil, err
		}
		g, err := b.startGate(ctx, url)
		if err != nil {
			return nil, err
		}
		gates = append(gates, g)
		heap, resident, err := g.memory(ctx)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			none = heap
		}
		name := strconv.Itoa(n) + " ended sessions"
		row := []string{name, megabytes(heap), megabytes(resident), "", ""}
		if n > 0 {
			row[3] = strconv.FormatInt((heap-none)/int64(n), 10)
		}
		if n == 1_000_000 {
			row[4] = "< 64 MB"
		}
		sizes.rows = append(sizes.rows, row)

		s, err := g.signIn(ctx)
		if err != nil {
			return nil, err
		}
		l, err := of(script, allows(true), s.cookie)
		if err != nil {
			return nil, err
		}
		p, err := newLoop(ctx, g.child, l, spreadOver)
		if err != nil {
			return nil, err
		}
		loops = append(loops, p)
		if n > 0 {
			c.goal[name] = 1
		}
		c.contenders = append(c.contenders, contender{name, func(context.Context) (measurement, error) { return p.play(b.turn) }})
	}
	together, err := b.apart()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, together()) }()
	r, err := c.run(ctx, b.rounds)
	return []result{sizes, r}, err
}

// cachedTokens are the rows of the table of memory for tokens that were seen once.
func (b *bench) cachedTokens(ctx context.Context) (rows [][]string, err error) {
	n := 10_000
	if b.quick {
		n = 100
	}
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	g, err := b.startGate(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	cookies := make([]string, n)
	for i := range cookies {
		s, err := g.signIn(ctx)
		if err != nil {
			return nil, err
		}
		cookies[i] = s.cookie
	}
	l, err := of(script, allows(true), cookies...)
	if err != nil {
		return nil, err
	}
	p, err := newLoop(ctx, g.child, l, 1) // which sends each token in turn
	if err != nil {
		return nil, err
	}
	defer p.close()
	before, _, err := g.memory(ctx)
	if err != nil {
		return nil, err
	}
	for seen := 0; seen < n; {
		m, err := p.play(b.turn)
		if err != nil {
			return nil, err
		}
		seen += m.requests
	}
	page, err := ask(ctx, http.MethodGet, "http://"+g.at.Internal+"/metrics", "", nil)
	if err != nil {
		return nil, err
	}
	if want := fmt.Sprintf("\nsessiongate_token_cache_entries %d\n", n); !bytes.Contains(page, []byte(want)) {
		at := bytes.Index(page, []byte("\nsessiongate_token_cache_entries "))
		return nil, fmt.Errorf("not all of %d tokens are cached: %.60q", n, page[max(0, at):])
	}
	heap, resident, err := g.memory(ctx)
	if err != nil {
		return nil, err
	}
	return [][]string{{strconv.Itoa(n) + " cached tokens", megabytes(heap), megabytes(resident), strconv.FormatInt((heap-before)/int64(n), 10), ""}}, nil
}

// memory is that of the heap after a garbage collection, and the resident one.
func (c *child) memory(ctx context.Context) (alloc, resident int64, err error) {
	h, err := c.heap(ctx)
	if err != nil {
		return 0, 0, err
	}
	resident, err = residentOf(c.PID())
	return h.alloc, resident, err
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) }

// endSessions writes entries of ended sessions into the feed, as many ends would have.
func (b *bench) endSessions(ctx context.Context, url string, n int) error {
	if err := b.migrate(ctx, url); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("filling the feed: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, `INSERT INTO sessiongate.feed (kind, handle, reason)
		SELECT 'ended', decode(md5(i::text), 'hex'), 'signout' FROM generate_series(1, $1) i`, n); err != nil {
		return fmt.Errorf("filling the feed: %w", err)
	}
	return nil
}
