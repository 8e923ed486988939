package postgres_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// Two networks of an honest client, and one of an attacker.
const fromV, fromW, fromX = "v", "w", "x"

// The durations of the protocol, as [sessions.Defaults] makes them of its D.
const (
	attempt = 10 * time.Second // D
	grace   = attempt          // G
	repeat  = attempt * 5 / 2  // W
	moment  = 3 * time.Second  // more than a history's slack
)

// ear is a store as an engine reaches it: what the feed brings, and what first
// uses tell the store, happens when a test says so.
type ear struct {
	sessions.Store

	mu      sync.Mutex
	changed *sync.Cond
	open    int  // more than 0: polls bring entries
	polls   int  // that began
	hearing bool // the one under way brings entries
	more    bool // it has more pages
	held    []sessions.Promotion
	told    int // promotions that were held
}

func (e *ear) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	e.mu.Lock()
	if !e.more {
		e.polls++
		e.hearing = e.open > 0 || since == ""
		e.changed.Broadcast()
	}
	e.mu.Unlock()
	page, err := e.Store.Poll(ctx, since)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && !e.hearing {
		page.Entries, page.Next, page.More = nil, since, false // the time, and nothing else
	}
	e.more = page.More
	return page, err
}

func (e *ear) Promote(_ context.Context, ps []sessions.Promotion) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = append(e.held, ps...)
	e.told += len(ps)
	e.changed.Broadcast()
	return nil
}

// settle waits until a poll that began after the call has been applied: the next
// one begins after it, and there is one at a time.
func (e *ear) settle() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for first := e.polls; e.polls < first+2; {
		e.changed.Wait()
	}
}

// hear lets polls bring entries until the function that it returns is called.
func (e *ear) hear() func() {
	add := func(n int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.open += n
	}
	add(1)
	return func() { add(-1) }
}

// party is two engines over two stores on one database, and the history of what they tell.
type party struct {
	*sessionstest.Recorder

	t       *testing.T
	clock   *clocked
	engines []*sessions.Engine
	ears    []*ear
	// identifiers are those of the device sessions.
	identifiers map[sessions.Handle]sessions.Token
}

func newParty(t *testing.T, isolation string, wrap func(sessions.Store) sessions.Store) *party {
	t.Helper()
	p := &party{t: t, clock: open(t), identifiers: map[sessions.Handle]sessions.Token{}}
	for range 2 {
		e := &ear{Store: wrap(openAt(t, postgres.Config{URL: isolated(p.clock.url, isolation)}))}
		e.changed = sync.NewCond(&e.mu)
		cfg := sessions.Defaults()
		key, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
		if err != nil {
			t.Fatal(err)
		}
		cfg.KeyEncryptionKey = key
		cfg.FeedPoll = 5 * time.Millisecond
		cfg.FeedBound = time.Minute // a poll may be slow here
		cfg.PromotionBatch = 1      // a promotion waits for no others
		cfg.SlidingLife, cfg.AbsoluteLife = sessionLife, sessionLife
		cfg.Binding.Offer = true
		p.ears = append(p.ears, e)
		p.engines = append(p.engines, sessionstest.StartEngine(t, e, cfg))
	}
	return p
}

// sessionLife is so short that the access tokens of its last hour have to be cut
// short (I5).
const sessionLife = 3 * time.Hour

func (p *party) advance(by time.Duration) {
	p.clock.Advance(by)
	p.Advanced(by)
	for _, e := range p.ears {
		e.settle()
	}
}

// hold is what a browser, or an attacker, holds. hash names the refresh token.
type hold struct {
	hash            string
	refresh, access sessions.Token
	issued          time.Duration // the access token
	life            time.Duration // its
	offer           sessions.Token
}

func (p *party) create(honest bool) (sessions.Handle, hold) {
	p.t.Helper()
	var got hold
	var handle sessions.Handle
	p.Do(sessionstest.Op{Did: sessionstest.Created, Told: sessionstest.Done, Honest: honest}, func(op *sessionstest.Op) {
		i, err := p.engines[0].Create(p.t.Context(), sessions.NewSession{UserID: "alice", Transport: sessions.TransportCookie, Claims: []byte(`{"n":"0"}`)})
		if err != nil {
			p.t.Fatal(err)
		}
		handle, op.Session, op.Access = i.Session.Handle, i.Session.Handle.String(), p.pass(i.Access)
		got = hold{op.Access.Own, i.Refresh, i.Access, p.Now(), op.Access.Life, i.Challenge}
	})
	return handle, got
}

func (p *party) pass(token sessions.Token) sessionstest.AccessPass {
	pass, err := sessionstest.ReadAccess(token.Reveal())
	if err != nil {
		p.t.Error(err)
	}
	return pass
}

func (p *party) refresh(at int, h sessions.Handle, with hold, client string) (sessionstest.Op, hold) {
	defer p.ears[at].hear()() // a refresh may ask the feed why there is no session
	op := sessionstest.Op{Session: h.String(), Replica: at, Did: sessionstest.Refreshed, Token: with.hash, Client: client}
	got := with
	op = p.Do(op, func(op *sessionstest.Op) {
		i, err := p.engines[at].Refresh(p.t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{with.refresh.Reveal()}, Client: sessions.Client{client[0]}})
		switch {
		case errors.Is(err, sessions.ErrTheft):
			op.Told = sessionstest.Theft
		case errors.Is(err, sessions.ErrSessionEnded):
			op.Told = sessionstest.ToldEnded
		case errors.Is(err, sessions.ErrSuperseded):
			op.Told = sessionstest.Superseded
		case errors.Is(err, sessions.ErrProve):
			op.Told = sessionstest.ProveFirst
		case err != nil:
			op.Told = sessionstest.Unknown
		default:
			op.Told, op.Access = sessionstest.Kept, p.pass(i.Access)
			got.access, got.issued, got.life = i.Access, p.Now(), op.Access.Life
			if i.Refresh != "" {
				op.Told, got.hash, got.refresh = sessionstest.Child, op.Access.Own, i.Refresh
			}
			if i.AccessExpires.After(i.Session.ExpiresAt) || i.AccessExpires.After(i.Session.AbsoluteExpiresAt) {
				p.t.Error("I5: an access token outlives its session")
			}
		}
	})
	return op, got
}

// challenge is B3.
func (p *party) challenge(at int, h sessions.Handle, with hold) sessions.Token {
	_, err := p.engines[at].RefreshBound(p.t.Context(), sessions.Prover{Tokens: []string{with.refresh.Reveal()}, Identifier: p.identifiers[h].Reveal()})
	var asked *sessions.ChallengeError
	if !errors.As(err, &asked) {
		p.t.Errorf("asking for a challenge: %v", err)
		return ""
	}
	return asked.Challenge
}

// prove registers the key of a device, or proves it.
func (p *party) prove(at int, h sessions.Handle, with hold, did sessionstest.Deed, key string, proof *sessions.Proof, asked time.Duration) (sessionstest.Op, hold) {
	defer p.ears[at].hear()()
	op := sessionstest.Op{Session: h.String(), Replica: at, Did: did, Token: with.hash, Key: key, Asked: asked}
	got, act := with, p.engines[at].RefreshBound
	if did == sessionstest.Registered {
		act = p.engines[at].Bind
	}
	op = p.Do(op, func(op *sessionstest.Op) {
		i, err := act(p.t.Context(), sessions.Prover{Tokens: []string{with.refresh.Reveal()}, Identifier: p.identifiers[h].Reveal(), Proof: proof})
		var again *sessions.ChallengeError
		switch {
		case errors.Is(err, sessions.ErrNotThisDevice), errors.Is(err, sessions.ErrBindRefused):
			op.Told = sessionstest.NoDevice
		case errors.Is(err, sessions.ErrSessionEnded):
			op.Told = sessionstest.ToldEnded
		case errors.Is(err, sessions.ErrSuperseded):
			op.Told = sessionstest.Superseded
		case errors.As(err, &again):
			op.Told = sessionstest.Unknown // the challenge was too old, so nothing happened
		case err != nil:
			p.t.Errorf("a proof: %v", err)
		case did == sessionstest.Registered:
			p.identifiers[h], op.Told = i.Identifier, sessionstest.Done
		default:
			op.Told, op.Access = sessionstest.Proven, p.pass(i.Access)
			got.access, got.issued, got.life = i.Access, p.Now(), op.Access.Life
		}
	})
	return op, got
}

func (p *party) check(at int, h sessions.Handle, access sessions.Token) sessionstest.Op {
	op := sessionstest.Op{Session: h.String(), Replica: at, Did: sessionstest.Checked, Access: p.pass(access)}
	return p.Do(op, func(op *sessionstest.Op) {
		switch _, denial := p.engines[at].Verify(sessions.TransportCookie, []string{access.Reveal()}); {
		case denial == nil:
			op.Told = sessionstest.Allowed
		case denial.Outcome == sessions.TryRefresh:
			op.Told = sessionstest.TryRefresh
		case denial.Outcome == sessions.Unauthorised:
			op.Told = sessionstest.Unauthorised
		default:
			p.t.Errorf("denied: %v", denial)
		}
	})
}

func (p *party) change(at int, h sessions.Handle, claims string) {
	op := sessionstest.Op{Session: h.String(), Replica: at, Did: sessionstest.Changed, Claims: claims}
	p.Do(op, func(op *sessionstest.Op) {
		_, err := p.engines[at].Update(p.t.Context(), h, sessions.Attributes{Claims: fmt.Appendf(nil, `{"n":%q}`, claims)})
		op.Told = told(err == nil, err)
	})
}

func (p *party) end(at int, h sessions.Handle) {
	defer p.ears[at].hear()() // a caller that finds nothing to end asks the feed what has ended
	p.Do(sessionstest.Op{Session: h.String(), Replica: at, Did: sessionstest.Ended}, func(op *sessionstest.Op) {
		op.Told = told(p.engines[at].End(p.t.Context(), h, sessions.Ending{Reason: sessions.ReasonRevoked}))
	})
}

func (p *party) signOut(at int, h sessions.Handle, with hold) sessionstest.Op {
	defer p.ears[at].hear()()
	return p.Do(sessionstest.Op{Session: h.String(), Replica: at, Did: sessionstest.SignedOut}, func(op *sessionstest.Op) {
		err := p.engines[at].SignOut(p.t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{with.refresh.Reveal()}})
		op.Told = told(true, err)
	})
}

func told(done bool, err error) sessionstest.Told {
	switch {
	case errors.Is(err, sessions.ErrNotFound), err == nil && !done:
		return sessionstest.NotFound
	case errors.Is(err, sessions.ErrProve):
		return sessionstest.ProveFirst
	case err != nil:
		return sessionstest.Unknown
	default:
		return sessionstest.Done
	}
}

// poll lets a replica hear all that the feed has.
func (p *party) poll(at int) {
	defer p.ears[at].hear()()
	p.Do(sessionstest.Op{Replica: at, Did: sessionstest.Polled}, func(*sessionstest.Op) { p.ears[at].settle() })
}

// life is one session, the clients that hold its tokens, and what is under way.
type life struct {
	*party
	*rapid.T

	handle           sessions.Handle
	client, attacker hold
	honest           bool
	attempts         []*trip
	offered          map[string]bool
	parents          map[string]string // by token hash, of every token that was issued
	absolute         time.Time
	reigned          map[sessions.TokenHash]sessions.TokenHash // parent → its child that was current
	current          sessions.TokenHash
	ended            bool
	moved            time.Duration
	changes          int

	device, other *sessionstest.Device // the client's, and the attacker's
	proofs        []*proving
	key           sessions.BoundKey // that was registered
}

// proving is a registration or a proof of the client, or of an attacker.
type proving struct {
	with     hold
	did      sessionstest.Deed
	key      string
	proof    *sessions.Proof
	asked    time.Duration
	attacker bool
	handled  int
}

// trip is a refresh of the client: it leaves, is handled, perhaps twice, and
// arrives or is lost.
type trip struct {
	with    hold
	network string
	left    time.Duration
	answers []hold
}

// TestLifeOverPostgres plays random lives of one session, with two engines over two stores on one
// Postgres: an honest client with two networks, or a client and an attacker; a backend that changes
// claims and ends sessions; promotions and polls at any time. After each step it checks I1 to I5 in
// the database. At the end of a life, it checks all answers against the specification.
func TestLifeOverPostgres(t *testing.T) {
	t.Parallel()
	for _, isolation := range append(isolations, "read committed") {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			lives(t, isolation)
		})
	}
}

func lives(t *testing.T, isolation string) {
	t.Helper()
	p := newParty(t, isolation, func(s sessions.Store) sessions.Store { return s })
	rapid.Check(t, func(rt *rapid.T) {
		p.Recorder = sessionstest.NewRecorder()
		l := &life{party: p, T: rt, honest: rapid.Bool().Draw(rt, "honest"), offered: map[string]bool{}, parents: map[string]string{}, reigned: map[sessions.TokenHash]sessions.TokenHash{}}
		for _, e := range p.ears {
			e.held = nil // what the life before left
		}
		l.handle, l.client = p.create(l.honest)
		l.attacker = l.client
		l.device, l.other = sessionstest.NewDevice(t), sessionstest.NewDevice(t)
		rec := l.row()
		l.absolute, l.current = rec.AbsoluteExpiresAt, rec.Current
		actions := map[string]func(*rapid.T){
			"leaves": l.leaves, "is handled": l.handled, "arrives": l.arrives, "uses": l.uses, "promotes": l.promotes,
			"passes": l.passes, "changes": l.patches, "polls": func(*rapid.T) { l.poll(l.replica()) }, "ends": l.ends, "": func(*rapid.T) { l.invariants() },
		}
		if !l.honest {
			actions["steals"] = func(*rapid.T) { l.attacker = l.client }
			actions["attacker refreshes"] = func(*rapid.T) { l.attacker = l.refreshes(l.attacker, fromX) }
			actions["attacker uses"] = func(*rapid.T) { l.use(l.attacker) }
		}
		if rapid.Bool().Draw(rt, "with a device") {
			actions["registers"], actions["proves"], actions["is proven"] = l.registers, l.asks, l.proves
			if !l.honest {
				actions["attacker proves"] = l.attackerAsks
			}
		}
		rt.Repeat(actions)
		if err := l.Check(); err != nil {
			rt.Fatal(err)
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

func (l *life) replica() int { return rapid.IntRange(0, 1).Draw(l.T, "replica") }

// row is the session in the database.
func (l *life) row() sessions.Record {
	rec, _, err := l.clock.Get(context.WithoutCancel(l.t.Context()), l.handle)
	if err != nil && !errors.Is(err, sessions.ErrNotFound) {
		l.Fatal(err)
	}
	return rec
}

// invariants are those that the row shows: I1 and I5. The others are judged where
// an answer tells.
func (l *life) invariants() {
	rec := l.row()
	if rec.Handle == (sessions.Handle{}) {
		if !l.ended {
			l.Fatal("the session is gone and nothing ended it")
		}
		return
	}
	if l.ended {
		l.Fatal("I3, I4: a session that ended is there")
	}
	if !rec.AbsoluteExpiresAt.Equal(l.absolute) || rec.ExpiresAt.After(l.absolute) {
		l.Fatal("I5: the absolute expiry moved, or was passed")
	}
	if l.key != (sessions.BoundKey{}) && rec.BoundKey != l.key {
		l.Fatal("the key was replaced")
	}
	if l.key = rec.BoundKey; rec.Bound() && rec.NextNonce != (sessions.Nonce{}) {
		l.Fatal("a bound session has a child")
	}
	if rec.Current != l.current {
		if rec.Previous != l.current {
			l.Fatal("I1: the token chain skipped a token")
		}
		if child, ok := l.reigned[rec.Previous]; ok && child != rec.Current {
			l.Fatal("I1: two children of one token were current")
		}
		l.reigned[rec.Previous], l.current = rec.Current, rec.Current
	}
}

func (l *life) leaves(*rapid.T) {
	if l.client.refresh == "" || len(l.attempts) >= 3 {
		l.Skip()
	}
	l.attempts = append(l.attempts, &trip{with: l.client, network: rapid.SampledFrom([]string{fromV, fromV, fromW}).Draw(l.T, "network"), left: l.Now()})
}

func (l *life) handled(*rapid.T) {
	if len(l.attempts) == 0 {
		l.Skip()
	}
	a := rapid.SampledFrom(l.attempts).Draw(l.T, "attempt")
	if len(a.answers) < 2 {
		a.answers = append(a.answers, l.refreshes(a.with, a.network))
	}
}

// refreshes is a refresh that is answered now. If the session has ended, the result has no refresh
// token.
func (l *life) refreshes(with hold, client string) hold {
	if with.refresh == "" {
		l.Skip()
	}
	before, was := l.row(), l.ended
	at := l.replica()
	op, got := l.refresh(at, l.handle, with, client)
	switch op.Told {
	case sessionstest.Child:
		l.parents[got.hash] = with.hash
	case sessionstest.ToldEnded, sessionstest.Theft:
		if l.honest && !l.ended && before.Issues < sessions.Defaults().IssuesMax {
			l.Fatalf("I2: an honest client was told %s", op.Told)
		}
		l.ended = true
		got.refresh, got.access = "", ""
	case sessionstest.Unknown:
		l.Fatal("unavailable")
	default:
	}
	if before.Bound() && (op.Told == sessionstest.Child || op.Told == sessionstest.Kept || l.ended && !was) {
		l.Fatalf("a refresh of a bound session without a proof was told %s", op.Told)
	}
	if !l.ended && before.Handle != (sessions.Handle{}) && !before.Bound() {
		current, previous := encode(before.Current), encode(before.Previous)
		if with.hash != current && with.hash != previous && l.parents[with.hash] != current {
			l.Fatal("I3: a reused token did not end the session")
		}
	}
	if l.ended && (op.Told == sessionstest.Child || op.Told == sessionstest.Kept) {
		l.Fatal("I4: a token was minted after the end")
	}
	return got
}

func encode(m sessions.TokenHash) string { return base64.RawURLEncoding.EncodeToString(m[:]) }

// registers starts the one registration of the client.
func (l *life) registers(*rapid.T) {
	if l.client.offer == "" || l.client.refresh == "" {
		l.Skip()
	}
	l.proofs = append(l.proofs, &proving{with: l.client, did: sessionstest.Registered, key: "own", proof: l.device.Register(l.client.offer)})
	l.client.offer = ""
}

// asks gets a challenge, and has a proof of it under way.
func (l *life) asks(*rapid.T) { l.ask(l.client, "own", l.device, sessionstest.Proved) }

// attackerAsks does so with a key of the attacker's: as a proof, or as a registration.
func (l *life) attackerAsks(*rapid.T) {
	l.ask(l.attacker, "attacker", l.other, rapid.SampledFrom([]sessionstest.Deed{sessionstest.Proved, sessionstest.Registered}).Draw(l.T, "did"))
}

func (l *life) ask(with hold, key string, device *sessionstest.Device, did sessionstest.Deed) {
	if with.refresh == "" || len(l.proofs) > 2 || l.identifiers[l.handle] == "" {
		l.Skip()
	}
	p := &proving{with: with, did: did, key: key, asked: l.Now(), attacker: key != "own"}
	challenge := l.challenge(l.replica(), l.handle, with)
	if p.proof = device.Prove(challenge); did == sessionstest.Registered {
		p.proof = device.Register(challenge)
	}
	l.proofs = append(l.proofs, p)
}

// proves is a proof that is answered now, perhaps twice. Its answer arrives, or is lost.
func (l *life) proves(*rapid.T) {
	if len(l.proofs) == 0 {
		l.Skip()
	}
	p := rapid.SampledFrom(l.proofs).Draw(l.T, "proof")
	before := l.row()
	if p.did == sessionstest.Registered && p.attacker {
		// It is refused, whatever the row is: its challenge is not that of the sign-in.
		_, err := l.engines[0].Bind(l.t.Context(), sessions.Prover{Tokens: []string{p.with.refresh.Reveal()}, Proof: p.proof})
		if !errors.Is(err, sessions.ErrBindRefused) || l.row().Row != before.Row {
			l.Fatalf("an attacker registers a key: %v", err)
		}
		l.proofs = slices.DeleteFunc(l.proofs, func(q *proving) bool { return p == q })
		return
	}
	op, got := l.prove(l.replica(), l.handle, p.with, p.did, p.key, p.proof, p.asked)
	switch op.Told {
	case sessionstest.ToldEnded, sessionstest.Superseded:
		if !l.ended && before.Handle != (sessions.Handle{}) {
			l.Fatalf("a proof ended the session: %s", op.Told)
		}
	case sessionstest.Proven:
		if p.attacker {
			l.Fatal("an attacker proves without the key")
		}
		if rapid.IntRange(0, 4).Draw(l.T, "lost") > 0 {
			l.client.access, l.client.issued, l.client.life = got.access, got.issued, got.life
		}
	default:
	}
	if p.handled++; p.handled == 2 || rapid.Bool().Draw(l.T, "once") {
		l.proofs = slices.DeleteFunc(l.proofs, func(q *proving) bool { return p == q })
	}
}

func (l *life) arrives(*rapid.T) {
	if len(l.attempts) == 0 {
		l.Skip()
	}
	a := rapid.SampledFrom(l.attempts).Draw(l.T, "attempt")
	l.attempts = slices.DeleteFunc(l.attempts, func(b *trip) bool { return a == b })
	if len(a.answers) == 0 || l.Now()-a.left >= attempt || rapid.IntRange(0, 4).Draw(l.T, "lost") == 0 {
		return
	}
	got := rapid.SampledFrom(a.answers).Draw(l.T, "answer")
	if got.hash == a.with.hash && got.refresh != "" { // only an access token came: the jar may have another refresh token by now
		l.client.access, l.client.issued, l.client.life = got.access, got.issued, got.life
		return
	}
	got.offer = l.client.offer
	l.client = got
}

func (l *life) uses(*rapid.T) { l.use(l.client) }

func (l *life) use(with hold) {
	if with.access == "" || l.Now()-with.issued > with.life*2/3 {
		l.Skip()
	}
	at := l.replica()
	e := l.ears[at]
	op := l.check(at, l.handle, with.access)
	key := fmt.Sprint(at, with.access.Reveal())
	if op.Told != sessionstest.Allowed || op.Access.Parent == "" || l.offered[key] {
		return
	}
	l.offered[key] = true
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.told == 0 {
		e.changed.Wait()
	}
	e.told--
}

// promotes lets the store hear of one first use, in any order, or loses it.
func (l *life) promotes(*rapid.T) {
	e := l.ears[l.replica()]
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.held) == 0 {
		l.Skip()
	}
	i := rapid.IntRange(0, len(e.held)-1).Draw(l.T, "promotion")
	own := e.held[i]
	e.held = slices.Delete(e.held, i, i+1)
	if rapid.IntRange(0, 4).Draw(l.T, "fate") == 0 {
		return
	}
	if err := e.Store.Promote(l.t.Context(), []sessions.Promotion{own}); err != nil {
		l.Fatal(err)
	}
}

func (l *life) passes(*rapid.T) {
	by := rapid.SampledFrom([]time.Duration{
		attempt / 2, attempt - 2*moment, grace + moment, repeat - moment, repeat + moment, repeat + moment, 20 * time.Minute,
	}).Draw(l.T, "by")
	if l.moved+by > sessionLife-10*time.Minute {
		l.Skip()
	}
	l.moved += by
	l.advance(by)
	l.attempts = slices.DeleteFunc(l.attempts, func(a *trip) bool { return l.Now()-a.left >= attempt })
}

func (l *life) patches(*rapid.T) {
	l.changes++
	l.change(l.replica(), l.handle, strconv.Itoa(l.changes))
}

func (l *life) ends(*rapid.T) {
	if rapid.IntRange(0, 3).Draw(l.T, "really") > 0 {
		l.Skip()
	}
	if l.client.refresh != "" && rapid.Bool().Draw(l.T, "sign-out") {
		if l.signOut(l.replica(), l.handle, l.client).Told == sessionstest.ProveFirst {
			return
		}
	} else {
		l.end(l.replica(), l.handle)
	}
	l.ended = true
}

// gate lets two callers continue once both have come, and every caller after that.
type gate struct {
	mu   sync.Mutex
	come int
	open chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) pass() {
	g.mu.Lock()
	if g.come++; g.come == 2 {
		close(g.open)
	}
	g.mu.Unlock()
	<-g.open
}

// faulty is a store that two engines reach in the worst moment: each first waits
// at the gate for the other, having read. Where blind is set, it also forgets one
// promise of [sessions.Store].
type faulty struct {
	sessions.Store

	clock *clocked
	gate  *gate
	blind bool
	read  map[sessions.Handle]sessions.Record
}

// swapping forgets to compare before it swaps.
type swapping struct{ *faulty }

func (s swapping) Swap(ctx context.Context, old, next sessions.Row, rule sessions.Rule) (bool, error) {
	s.gate.pass()
	done, err := s.Store.Swap(ctx, old, next, rule)
	if done || err != nil || !s.blind {
		return done, err
	}
	rec, _, err := s.Get(ctx, old.Handle)
	if err != nil {
		return false, err
	}
	return s.Store.Swap(ctx, rec.Row, next, rule)
}

// Rotate only reads, so that both swap.
func (s swapping) Rotate(ctx context.Context, h sessions.Handle, _ sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	rec, now, err := s.Get(ctx, h)
	return rec, now, false, err
}

// rotating forgets to compare the row with what it read before it writes.
type rotating struct{ *faulty }

func (s rotating) Rotate(ctx context.Context, h sessions.Handle, r sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	before, now, err := s.Get(ctx, h)
	if err != nil {
		return before, now, false, err
	}
	s.gate.pass()
	rec, read, done, err := s.Store.Rotate(ctx, h, r)
	if done || err != nil || !s.blind || !r.Fits(before.Row, now) {
		return rec, read, done, err
	}
	_, err = s.Swap(ctx, rec.Row, r.Next(before.Row, now), sessions.R4)
	return before, now, true, err
}

// updating raises the version of the claims that it had read before.
type updating struct{ *faulty }

func (s updating) Update(ctx context.Context, h sessions.Handle, c sessions.Attributes) (sessions.Record, error) {
	before, _, err := s.Get(ctx, h)
	if err != nil {
		return before, err
	}
	s.gate.pass()
	rec, err := s.Store.Update(ctx, h, c)
	if s.blind && err == nil {
		rec.ClaimsVersion = before.ClaimsVersion + 1
		s.clock.exec(`UPDATE sessiongate.session_attributes SET claims_version = $1 WHERE handle = $2`, rec.ClaimsVersion, h[:])
	}
	return rec, err
}

// forgetting has no entry on the feed for an end.
type forgetting struct{ *faulty }

func (s forgetting) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	done, err := s.Store.End(ctx, h, e)
	if s.blind {
		s.clock.exec(`DELETE FROM sessiongate.feed WHERE kind = 'ended'`)
	}
	return done, err
}

// remembering reads a session once, and mints from that read also after the end.
type remembering struct{ *faulty }

func (s remembering) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	rec, now, err := s.Store.Get(ctx, h)
	if before, ok := s.read[h]; ok && s.blind {
		return before, before.PromotedAt, nil
	}
	s.read[h] = rec
	return rec, now, err
}

func (s remembering) Rotate(ctx context.Context, h sessions.Handle, _ sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	rec, now, err := s.Get(ctx, h)
	return rec, now, false, err
}

// TestHistoriesFindBrokenStores plays the moments that a promise of the store is for, at two
// engines at once. Over the store as it is, the history is right; over a store that breaks the
// promise, it is not.
func TestHistoriesFindBrokenStores(t *testing.T) {
	t.Parallel()
	both := func(act func(at int)) {
		var all sync.WaitGroup
		for at := range 2 {
			all.Go(func() { act(at) })
		}
		all.Wait()
	}
	for name, tc := range map[string]struct {
		wrap func(*faulty) sessions.Store
		play func(p *party, h sessions.Handle, with hold)
	}{
		"Swap without its compare": {
			func(f *faulty) sessions.Store { return swapping{f} },
			func(p *party, h sessions.Handle, with hold) {
				p.advance(grace + moment)
				both(func(at int) { p.refresh(at, h, with, fromV) })
			},
		},
		"Rotate without its compare": {
			func(f *faulty) sessions.Store { return rotating{f} },
			func(p *party, h sessions.Handle, with hold) {
				p.advance(grace + moment)
				both(func(at int) { p.refresh(at, h, with, fromV) })
			},
		},
		"Update of a version that was read before": {
			func(f *faulty) sessions.Store { return updating{f} },
			func(p *party, h sessions.Handle, with hold) {
				both(func(at int) { p.change(at, h, strconv.Itoa(1+at)) })
				p.refresh(0, h, with, fromV)
			},
		},
		"End without its entry on the feed": {
			func(f *faulty) sessions.Store { return forgetting{f} },
			func(p *party, h sessions.Handle, with hold) {
				p.end(0, h)
				p.poll(1)
				p.check(1, h, with.access)
			},
		},
		"Get of what was read before the end": {
			func(f *faulty) sessions.Store { return remembering{f} },
			func(p *party, h sessions.Handle, with hold) {
				p.refresh(1, h, with, fromV)
				p.end(0, h)
				p.refresh(1, h, with, fromV)
			},
		},
	} {
		for _, on := range []struct {
			blind     bool
			isolation string
		}{{false, "read committed"}, {true, "read committed"}, {false, "repeatable read"}, {false, "serializable"}} {
			blind := on.blind
			t.Run(fmt.Sprintf("%s: %v, %s", name, blind, on.isolation), func(t *testing.T) {
				t.Parallel()
				gate, clock := newGate(), new(clocked)
				p := newParty(t, on.isolation, func(s sessions.Store) sessions.Store {
					return tc.wrap(&faulty{Store: s, clock: clock, gate: gate, blind: blind, read: map[sessions.Handle]sessions.Record{}})
				})
				clock.t, clock.conn = t, p.clock.conn
				p.Recorder = sessionstest.NewRecorder()
				h, with := p.create(true)
				tc.play(p, h, with)
				if err := p.Check(); (err != nil) != blind {
					t.Errorf("forgotten: %v, refused: %v", blind, err)
				} else if err != nil {
					t.Log(err)
				}
			})
		}
	}
}
