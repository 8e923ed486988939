package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/jackc/pgx/v5"
)

// streams is how many Checks are under way at once, spreadOver on how many connections they are by
// itself. On one, the server and the load generator would wait for each other in turn.
const streams, spreadOver = 64, 2

// loop is a closed loop of Checks against one server.
type loop struct {
	server *child
	load   *load
	each   int // calls under way on each connection
	wires  []*wire
}

// newLoop connects to a server.
func newLoop(ctx context.Context, server *child, l *load, connections int) (*loop, error) {
	p := &loop{server: server, load: l, each: max(1, streams/connections)}
	for range connections {
		w, err := dial(ctx, server.at.Authz)
		if err != nil {
			p.close()
			return nil, err
		}
		p.wires = append(p.wires, w)
	}
	return p, nil
}

func (p *loop) close() {
	for _, w := range p.wires {
		w.close()
	}
}

// play is one turn of the loop.
func (p *loop) play(turn time.Duration) (measurement, error) {
	before, err := cpuOf(p.server.PID())
	if err != nil {
		return measurement{}, err
	}
	began := time.Now()
	var answered atomic.Int64
	errs := make([]error, len(p.wires))
	var all sync.WaitGroup
	for i, w := range p.wires {
		all.Go(func() {
			n, err := w.closed(p.load, p.each, began.Add(turn))
			answered.Add(int64(n))
			errs[i] = err
		})
	}
	all.Wait()
	took := time.Since(began)
	after, err := cpuOf(p.server.PID())
	return measurement{requests: int(answered.Load()), took: took, cpu: after - before}, errors.Join(err, errors.Join(errs...))
}

// allows expects ALLOW, with an identity where it is sessiongate that answers.
func allows(identity bool) func(*authv3.CheckResponse) error {
	return func(a *authv3.CheckResponse) error {
		ok := a.GetOkResponse()
		named := false
		for _, h := range ok.GetHeaders() {
			named = named || strings.EqualFold(h.GetHeader().GetKey(), "x-session-user-id") && h.GetHeader().GetValue() == "ada"
		}
		if ok == nil || a.GetStatus().GetCode() != 0 || named != identity {
			return fmt.Errorf("the check answered %d (code %d), want ALLOW; identity %v, want %v", a.GetDeniedResponse().GetStatus().GetCode(), a.GetStatus().GetCode(), named, identity)
		}
		return nil
	}
}

// denies expects a denial with one of these HTTP statuses.
func denies(statuses ...int) func(*authv3.CheckResponse) error {
	return func(a *authv3.CheckResponse) error {
		if got := int(a.GetDeniedResponse().GetStatus().GetCode()); !slices.Contains(statuses, got) || a.GetStatus().GetCode() == 0 {
			return fmt.Errorf("the check answered %d (code %d), want %v", got, a.GetStatus().GetCode(), statuses)
		}
		return nil
	}
}

// of is a load of one kind of request, one message for each cookie.
func of(k kind, check func(*authv3.CheckResponse) error, cookies ...string) (*load, error) {
	l := &load{check: check}
	for _, cookie := range cookies {
		message, err := k.withCookie(cookie)
		if err != nil {
			return nil, err
		}
		l.messages = append(l.messages, message)
	}
	return l, nil
}

// checks are the servers of the part and what is asked of them.
type checks struct {
	plain *child
	bare  *child // the allow-all server that is as fast as one in grpc-go can be
	scan  *child // the same, and it looks at each field of a request
	gate  *gate
	small *gate // its cache forgets each token before it comes again
	// refusing has time for all bad signatures. By itself a process answers 503 beyond a share of
	// the time, counted by the clock, and this machine may do something else meanwhile. So it
	// believes that it has 16 cores. A few 503 may be left.
	refusing *gate

	valid, expired, ended string   // cookies
	many                  []string // of as many sessions
}

// startChecks makes all tokens and starts the servers.
func startChecks(ctx context.Context, b *bench) (_ *checks, err error) {
	c := &checks{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	// The expired token is a real one, of a time when the store's clock was two hours behind.
	if err := b.migrate(ctx, url); err != nil {
		return nil, err
	}
	if err := setClock(ctx, url, "- interval '2 hours'"); err != nil {
		return nil, err
	}
	past, err := b.startGate(ctx, url)
	if err != nil {
		return nil, err
	}
	former, err := past.signIn(ctx)
	if err := errors.Join(err, past.stop(), setClock(ctx, url, "")); err != nil {
		return nil, err
	}
	c.expired = former.cookie

	if c.gate, err = b.startGate(ctx, url); err != nil {
		return nil, err
	}
	if c.refusing, err = b.startGate(ctx, url, "SESSIONGATE_CACHE_UNVERIFIED_CPU=100", "GOMAXPROCS=16"); err != nil {
		return nil, err
	}
	if c.small, err = b.startGate(ctx, url, "SESSIONGATE_CACHE_TOKENS=16"); err != nil {
		return nil, err
	}
	if c.plain, err = b.startAllowAll(ctx, plainAllowAll); err != nil {
		return nil, err
	}
	for range 2 {
		other, err := b.startAllowAll(ctx, plainAllowAll)
		if err != nil {
			return nil, err
		}
		c.plain.others = append(c.plain.others, other)
	}
	if c.bare, err = b.startAllowAll(ctx, bareAllowAll); err != nil {
		return nil, err
	}
	if c.scan, err = b.startAllowAll(ctx, scanAllowAll); err != nil {
		return nil, err
	}
	sessions := 2000
	if b.quick {
		sessions = 100
	}
	for range sessions {
		s, err := c.gate.signIn(ctx)
		if err != nil {
			return nil, err
		}
		c.many = append(c.many, s.cookie)
	}
	c.valid = c.many[0]
	last, err := c.gate.signIn(ctx)
	if err != nil {
		return nil, err
	}
	c.ended = last.cookie
	return c, c.gate.end(ctx, last.handle)
}

func (c *checks) stop() error {
	var errs []error
	for _, g := range []*gate{c.gate, c.small, c.refusing} {
		if g != nil {
			errs = append(errs, g.stop())
		}
	}
	for _, child := range []*child{c.plain, c.bare, c.scan} {
		if child != nil {
			errs = append(errs, child.stop())
		}
	}
	return errors.Join(errs...)
}

// setClock moves the store's clock.
func setClock(ctx context.Context, url, offset string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("moving the store's clock: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, `CREATE OR REPLACE FUNCTION sessiongate.now() RETURNS timestamptz
		LANGUAGE sql VOLATILE PARALLEL SAFE AS $$SELECT clock_timestamp() `+offset+`$$`); err != nil {
		return fmt.Errorf("moving the store's clock: %w", err)
	}
	return nil
}

// otherSignature is a cookie with a signature of valid form that another token has.
func otherSignature(cookie, other string) string {
	return cookie[:strings.LastIndexByte(cookie, '.')] + other[strings.LastIndexByte(other, '.'):]
}

// withPayload is a cookie whose token has another payload, and the signature of before.
func withPayload(cookie string, edit func([]byte) []byte) (string, error) {
	parts := strings.Split(cookie, ".")
	if len(parts) != 3 {
		return "", errors.New("editing a token: it has not three parts")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("editing a token: %w", err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString(edit(payload))
	return strings.Join(parts, "."), nil
}

// withoutTag cuts the tag off a payload: then the signature alone can tell whether it is good.
func withoutTag(payload []byte) []byte {
	before, _, _ := bytes.Cut(payload, []byte(`,"tag":"`))
	return append(bytes.Clone(before), "}}"...)
}

// invented is a payload that no one but an attacker made.
func invented(payload []byte) []byte {
	return bytes.Replace(payload, []byte(`"sub":"ada"`), []byte(`"sub":"eve"`), 1)
}

// entry is a contender of the part.
type entry struct {
	name   string
	server *child
	kind   kind
	check  func(*authv3.CheckResponse) error
	goal   float64
	cookie []string
}

const (
	plainName = "allow-all, plain grpc-go"
	bareName  = "allow-all, sessiongate's settings, nothing read"
	scanName  = "allow-all, sessiongate's settings, each field looked at"
	validName = "valid token, cached"
)

func (c *checks) entries() ([]entry, error) {
	untagged, err := withPayload(c.valid, withoutTag)
	if err != nil {
		return nil, err
	}
	forged, err := withPayload(c.valid, invented)
	if err != nil {
		return nil, err
	}
	gate := c.gate.child
	name, _, _ := strings.Cut(c.valid, "=")
	return []entry{
		{plainName, c.plain, script, allows(false), 0, []string{c.valid}},
		{bareName, c.bare, script, allows(false), 0, []string{c.valid}},
		{scanName, c.scan, script, allows(false), 0, []string{c.valid}},
		{validName, gate, script, allows(true), 2.3, []string{c.valid}},
		{"valid token, first sight", c.small.child, script, allows(true), 0.35, c.many},
		{"expired token: 440", gate, script, denies(440), 2, []string{c.expired}},
		{"ended session: 302", gate, page, denies(302), 2, []string{c.ended}},
		{"no token: 302", gate, page, denies(302), 2, []string{""}},
		{"other signature, known payload: 440", gate, script, denies(440), 0, []string{otherSignature(c.valid, c.many[1])}},
		{"invented payload: 440", gate, script, denies(440), 0, []string{forged}},
		{refusedName, c.refusing.child, script, denies(440, 503), 0, []string{untagged}},
		{"garbage: 440", gate, script, denies(440), 0, []string{name + "=" + strings.Repeat("garbage.", 50)}},
	}, nil
}

const refusedName = "refused signature, no tag: 440"

// contest makes one of entries. Its caller closes the loops.
func (b *bench) contest(ctx context.Context, title, why string, entries []entry) (c contest, loops map[string][]*loop, err error) {
	c = contest{title: title, unit: "checks", why: why, goal: map[string]float64{}}
	loops = map[string][]*loop{}
	for _, e := range entries {
		l, err := of(e.kind, e.check, e.cookie...)
		if err != nil {
			return c, loops, err
		}
		for _, server := range append([]*child{e.server}, e.server.others...) {
			p, err := newLoop(ctx, server, l, spreadOver)
			if err != nil {
				return c, loops, err
			}
			loops[e.name] = append(loops[e.name], p)
		}
		for _, p := range loops[e.name][1:] { // contest warms the first up
			if _, err := p.play(b.turn); err != nil {
				return c, loops, fmt.Errorf("%s: %w", e.name, err)
			}
		}
		c.goal[e.name] = e.goal
		c.contenders = append(c.contenders, contender{e.name, inTurn(loops[e.name], b.turn)})
	}
	return c, loops, nil
}

// checkPart measures Check alone, without Envoy.
func checkPart(ctx context.Context, b *bench) (results []result, err error) {
	c, err := startChecks(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	together, err := b.apart()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, together()) }()

	entries, err := c.entries()
	if err != nil {
		return nil, err
	}
	checks, loops, err := b.contest(ctx, "Check, 64 at a time",
		"On two connections. The requests are those that Envoy sends with `envoy.yaml`. The server has one core, the load generator another.", entries)
	defer closeAll(loops)
	if err != nil {
		return nil, err
	}
	checks.against = []string{scanName}
	main, err := checks.run(ctx, b.rounds)
	if err != nil {
		return nil, err
	}
	results = append(results, main)

	refused, err := b.refused(ctx, c, loops[refusedName][0])
	if err != nil {
		return nil, err
	}
	allocations, err := b.allocations(ctx, entries, loops)
	if err != nil {
		return nil, err
	}
	latency, err := b.latency(ctx, entries, loops, main)
	if err != nil {
		return nil, err
	}
	forms, mappedLoops, err := b.contest(ctx, "Check, headers as a map", "What Envoy sends without `encode_raw_headers` and `allowed_headers`: all headers of the request, in a map.", []entry{
		{plainName, c.plain, mapped, allows(false), 0, []string{c.valid}},
		{validName, c.gate.child, mapped, allows(true), 0, []string{c.valid}},
	})
	defer closeAll(mappedLoops)
	if err != nil {
		return nil, err
	}
	asMap, err := forms.run(ctx, b.rounds)
	if err != nil {
		return nil, err
	}
	connections, err := b.connections(ctx, c)
	if err != nil {
		return nil, err
	}
	return append(results, asMap, refused, allocations, latency, connections), nil
}

func closeAll(loops map[string][]*loop) {
	for _, all := range loops {
		for _, p := range all {
			p.close()
		}
	}
}

// refused compares a refused signature with what it must cost: a bare ECDSA verify and a denial.
func (b *bench) refused(ctx context.Context, c *checks, refusals *loop) (result, error) {
	anonymous, err := of(page, denies(302), "")
	if err != nil {
		return result{}, err
	}
	denials, err := newLoop(ctx, c.refusing.child, anonymous, spreadOver)
	if err != nil {
		return result{}, err
	}
	defer denials.close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return result{}, fmt.Errorf("making a key: %w", err)
	}
	digest := sha256.Sum256([]byte("another text"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return result{}, fmt.Errorf("signing: %w", err)
	}
	digest = sha256.Sum256([]byte("a text"))
	var bare, denial, whole, ratio []float64
	for range b.rounds {
		if err := ctx.Err(); err != nil {
			return result{}, fmt.Errorf("comparing refusals: %w", err)
		}
		before, err := cpuOf(os.Getpid())
		if err != nil {
			return result{}, err
		}
		n := 0
		for end := time.Now().Add(b.turn); time.Now().Before(end); n++ {
			if ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
				return result{}, errors.New("a wrong signature was verified")
			}
		}
		after, err := cpuOf(os.Getpid())
		if err != nil {
			return result{}, err
		}
		d, err := denials.play(b.turn)
		if err != nil {
			return result{}, err
		}
		w, err := refusals.play(b.turn)
		if err != nil {
			return result{}, err
		}
		bare = append(bare, measurement{requests: n, cpu: after - before}.cpuEach())
		denial, whole = append(denial, d.cpuEach()), append(whole, w.cpuEach())
		last := len(bare) - 1
		ratio = append(ratio, whole[last]/(bare[last]+denial[last]))
	}
	return result{
		title: "A refused signature", why: "CPU, against what it cannot do without: one ECDSA verify of the standard library and a denial.",
		head: []string{"verify, µs", "denial, µs", "refused signature, µs", "ratio to the sum", "aim"},
		rows: [][]string{{spreadOf(bare).text(1), spreadOf(denial).text(1), spreadOf(whole).text(1), spreadOf(ratio).text(2), "≤ 1.15"}},
	}, nil
}

// allocations counts them by the Go runtime of the server.
func (b *bench) allocations(ctx context.Context, entries []entry, loops map[string][]*loop) (result, error) {
	r := result{title: "Allocations", why: "Of the whole server, grpc-go's own included.", head: []string{"", "allocations a check", "bytes a check"}}
	for _, e := range entries {
		before, err := e.server.heap(ctx)
		if err != nil {
			return r, err
		}
		m, err := loops[e.name][0].play(b.turn)
		if err != nil {
			return r, err
		}
		after, err := e.server.heap(ctx)
		if err != nil {
			return r, err
		}
		each := func(n int64) string { return strconv.FormatFloat(float64(n)/float64(m.requests), 'f', 1, 64) }
		r.rows = append(r.rows, []string{e.name, each(after.mallocs - before.mallocs), each(after.totalAlloc - before.totalAlloc)})
	}
	return r, nil
}

// latency is that of an open loop at half of each server's own throughput.
func (b *bench) latency(ctx context.Context, entries []entry, loops map[string][]*loop, main result) (result, error) {
	r := result{title: "Latency at half load", why: "Checks begin at even times, at half of the throughput above. The time counts from when a check should have begun.", head: []string{"", "checks/s", "p50", "p99", "p99.9"}}
	all := make([][]time.Duration, len(entries))
	rates := make([]float64, len(entries))
	for range b.rounds {
		for i, e := range entries {
			if err := ctx.Err(); err != nil {
				return r, fmt.Errorf("measuring latency: %w", err)
			}
			rates[i] = main.throughput[e.name] / 2
			latency, err := loops[e.name][0].wires[0].paced(loops[e.name][0].load, rates[i], b.turn)
			if err != nil {
				return r, fmt.Errorf("%s: %w", e.name, err)
			}
			all[i] = append(all[i], latency...)
		}
	}
	for i, e := range entries {
		r.rows = append(r.rows, append([]string{e.name, strconv.FormatFloat(rates[i], 'f', 0, 64)}, percentiles(all[i])...))
	}
	return r, nil
}

// connections spreads the calls over more of them.
func (b *bench) connections(ctx context.Context, c *checks) (result, error) {
	l, err := of(script, allows(true), c.valid)
	if err != nil {
		return result{}, err
	}
	spread := contest{
		title: "Connections", unit: "checks",
		why: "A valid token, cached; 64 checks at a time, or one on each connection where there are more.",
	}
	counts := []int{1, 10, 100, 1000}
	if b.quick {
		counts = []int{1, 10}
	}
	for _, n := range counts {
		p, err := newLoop(ctx, c.gate.child, l, n)
		if err != nil {
			return result{}, err
		}
		defer p.close()
		name := strconv.Itoa(n) + " connections"
		if n == 1 {
			name = "1 connection"
		}
		spread.contenders = append(spread.contenders, contender{name, func(context.Context) (measurement, error) { return p.play(b.turn) }})
	}
	return spread.run(ctx, b.rounds)
}
