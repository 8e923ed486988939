package sessions

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The token chain in a world of its own: one session, its client's browser (several tabs, one
// cookie jar, two networks), a thief, messages that are lost, late, repeated and out of order,
// promotions that come late or never, and a store that may forget its last write. No clock, network
// or store is real, so millions of sequences can be tried.

type decider func(Row, refreshToken, Client, time.Time, Nonce, windows) decision

// answerAgain is what only a broken rule gives: the token that the attempt
// presented, as a cookie, once more.
const answerAgain answer = 100

// jar is what a browser, or a thief, holds.
type jar struct {
	refresh refreshToken
	access  accessPass
}

// accessPass is what an access token says of the token chain.
type accessPass struct{ own, parent TokenHash }

// attempt is one refresh: it leaves, is handled (perhaps twice) and arrives, or
// is lost on the way.
type attempt struct {
	token   refreshToken
	client  Client
	left    time.Time
	answers []reply
	holder  *jar // whose it is
}

type reply struct {
	decision

	got jar
}

type world struct {
	decide  decider
	windows windows
	now     time.Time
	back    time.Duration // by which the store's clock was set back

	row    Row
	ended  Reason // not empty: there is no row
	before *Row   // the row before its last write, where there was one
	lost   map[TokenHash]bool
	writes int

	client, thief jar
	attempts      []*attempt
	promotions    []Promotion
	nonces        uint32

	parents map[TokenHash]TokenHash // of every token that was issued
	reigned map[TokenHash]TokenHash // parent → the child of it that was current
	rewound bool

	traced bool
	trace  []string
	broken string // the first promise that was broken
}

func newWorld(d decider) *world {
	t0, row := signIn(testEpoch, netV)
	return &world{
		decide: d, windows: testWindows, now: testEpoch, row: row, lost: map[TokenHash]bool{},
		client:  jar{t0, accessPass{own: t0.hash()}},
		parents: map[TokenHash]TokenHash{t0.hash(): {}}, reigned: map[TokenHash]TokenHash{},
	}
}

func (w *world) logf(format string, args ...any) {
	if !w.traced {
		return // a search lives millions of steps
	}
	for i, a := range args {
		if m, ok := a.(TokenHash); ok {
			args[i] = w.name(m)
		}
	}
	w.trace = append(w.trace, fmt.Sprintf("%12s  ", w.now.Sub(testEpoch))+fmt.Sprintf(format, args...))
}

func (w *world) breaksf(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

func (w *world) write(next Row) {
	old := w.row
	w.before, w.row = &old, next
	w.writes++
	switch {
	case next.ExpiresAt.After(next.AbsoluteExpiresAt), !next.AbsoluteExpiresAt.Equal(old.AbsoluteExpiresAt):
		w.breaksf("I5: the absolute expiry moved or was passed")
	case old.BoundKey != BoundKey{} && next.BoundKey != old.BoundKey:
		w.breaksf("the key was replaced")
	case old.Bound() && !next.Bound(), next.Bound() && next.BoundKey == BoundKey{}:
		w.breaksf("the session is bound no more, or has no key")
	case next.Bound() && next.NextNonce != Nonce{}:
		w.breaksf("a bound session has a child")
	case next.Current == old.Current:
	case w.rewound: // what reigned was forgotten
	default:
		if sibling, ok := w.reigned[w.parents[next.Current]]; ok && sibling != next.Current {
			w.breaksf("I1: two siblings were both current")
		}
		w.reigned[w.parents[next.Current]] = next.Current
	}
}

// leave starts a refresh with what j holds now.
func (w *world) leave(j *jar, from Client) *attempt {
	a := &attempt{token: j.refresh, client: from, left: w.now, holder: j}
	w.attempts = append(w.attempts, a)
	w.logf("refresh(%s) leaves %c", a.token.hash(), from[0])
	return a
}

// handle lets the server answer an attempt.
func (w *world) handle(a *attempt) reply {
	if w.ended != "" {
		r := reply{decision: decision{rule: R2}}
		a.answers = append(a.answers, r)
		return r
	}
	w.nonces++
	var nonce Nonce
	binary.BigEndian.PutUint32(nonce[:], w.nonces)
	now := w.storeNow()
	r := reply{decision: w.decide(w.row, a.token, a.client, now, nonce, w.windows)}
	hash, old := a.token.hash(), w.row
	if r.end != "" {
		w.ended = r.end
	} else if r.next != old {
		w.write(r.next)
	}
	switch r.answer {
	case answerChild:
		r.got.refresh = childAt(a.token, w.row.NextNonce, now)
		r.got.access = accessPass{r.got.refresh.hash(), w.row.Current}
		w.parents[r.got.refresh.hash()] = hash
	case answerKeep:
		r.got.access = accessPass{own: w.row.Current}
	case answerAgain:
		r.got = jar{a.token, accessPass{own: w.row.Current}}
	case answerEnded, answerSuperseded:
	}
	a.answers = append(a.answers, r)
	w.logf("  handled from %c, %s after it left: %s %d %s", a.client[0], w.now.Sub(a.left), r.rule, r.answer, r.end)

	// I3, from the ledger rather than from the rules.
	live := hash == old.Current || w.parents[hash] == old.Current ||
		hash == old.Previous && now.Before(old.PromotedAt.Add(testG))
	expired := !now.Before(old.ExpiresAt)
	switch {
	case expired && (r.rule != R2 || r.end != ""):
		w.breaksf("an expired session was answered by %s", r.rule)
	case !expired && !live && r.end == "":
		w.breaksf("I3: %s was reused and did not end the session", w.name(hash))
	case !expired && live && (r.end == ReasonTheft || r.end == ReasonRolledBack):
		w.breaksf("%s is in the chain but ended the session", w.name(hash))
	}
	return r
}

// arrive stores an answer's cookies.
func (w *world) arrive(a *attempt, r reply) {
	if r.answer == answerChild || r.answer == answerAgain {
		a.holder.refresh = r.got.refresh
	}
	if r.got.access != (accessPass{}) {
		a.holder.access = r.got.access
	}
	w.logf("  answer arrives at %c: holds %s", a.client[0], a.holder.refresh.hash())
}

// refresh is an attempt without a lost or late message.
func (w *world) refresh(j *jar, from Client) reply {
	a := w.leave(j, from)
	r := w.handle(a)
	w.arrive(a, r)
	w.drop(a)
	return r
}

func (w *world) drop(a *attempt) {
	w.attempts = slices.DeleteFunc(w.attempts, func(b *attempt) bool { return a == b })
}

// use is a Check: it says whether the access token is allowed.
func (w *world) use(p accessPass) bool {
	if w.ended != "" || w.lost[p.own] {
		return false
	}
	if p.parent != (TokenHash{}) {
		w.promotions = append(w.promotions, Promotion{w.row.Handle, p.parent, p.own})
		w.logf("uses %s", p.own)
	}
	return true
}

// promote lets the store have one promotion, as Store.Promote says.
func (w *world) promote(i int) {
	p := w.promotions[i]
	w.promotions = slices.Delete(w.promotions, i, i+1)
	switch {
	case w.ended != "":
	case w.row.Current == p.Parent:
		w.logf("promotes %s", p.Own)
		w.write(promoted(w.row, p.Own, w.row.NextClient, w.storeNow()))
	case w.row.Current == p.Own || w.row.Previous == p.Own:
	default:
		w.logf("%s is lost", p.Own)
		w.lost[p.Own] = true
	}
}

func (w *world) promoteAll() {
	for len(w.promotions) > 0 {
		w.promote(0)
	}
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
}

// storeNow is what the store's clock shows.
func (w *world) storeNow() time.Time { return w.now.Add(-w.back) }

// setBack sets the store's clock back.
func (w *world) setBack(by time.Duration) {
	w.back += by
	w.logf("the store's clock is set back by %s", by)
}

// forget takes the store's last write back, as a failover without
// synchronous replication does.
func (w *world) forget() {
	if w.before == nil || w.ended != "" {
		return
	}
	w.logf("the store forgets its last write")
	w.row, w.before, w.rewound = *w.before, nil, true
}

// name tells tokens apart in a trace: t0, t0.1, t0.1.1 by age among siblings.
func (w *world) name(m TokenHash) string {
	if parent, ok := w.parents[m]; ok && parent != (TokenHash{}) {
		return w.name(parent) + fmt.Sprintf(".%x", m[:1])
	}
	return "t0"
}

func (w *world) story() string {
	return w.broken + "\n" + strings.Join(w.trace, "\n")
}

// well checks that the client can still work: it waits until every window has
// passed, refreshes once and is allowed.
func (w *world) well() {
	w.attempts = nil
	if w.back > 0 {
		w.refresh(&w.client, netW) // the first that sees times of the future
	}
	w.pass(testW)
	if !w.storeNow().Before(w.row.ExpiresAt) {
		return
	}
	if r := w.refresh(&w.client, netW); r.end == ReasonRefreshAbuse {
		return
	} else if r.answer == answerEnded || r.answer == answerSuperseded {
		w.breaksf("I2: a refresh after a pause was answered by %s", r.rule)
	} else if !w.use(w.client.access) {
		w.breaksf("I2: the access token of a fresh refresh is denied")
	}
}

// A life is a way of living in the world, by choices that pick makes.
type life struct {
	tabs    int  // attempts of the client under way at once
	thief   bool // there is one, and no promise to the client
	forgets bool // the store forgets one write
	setBack bool // the store's clock is set back now and then
	steps   int
}

// live lives until a promise breaks or the steps are up.
func (l life) live(w *world, pick func(label string, n int) int) {
	forgets := l.forgets
	stolen := false
	w.thief.refresh = w.client.refresh
	for range l.steps {
		switch pick("action", 12) {
		case 0, 1:
			if own := w.of(&w.client); len(own) < l.tabs {
				w.leave(&w.client, []Client{netV, netV, netW}[pick("network", 3)])
			}
		case 2, 3:
			if len(w.attempts) > 0 {
				l.handle(w, w.attempts[pick("attempt", len(w.attempts))])
			}
		case 4, 5:
			if len(w.attempts) > 0 {
				a := w.attempts[pick("attempt", len(w.attempts))]
				if len(a.answers) > 0 {
					w.arrive(a, a.answers[pick("answer", len(a.answers))])
					w.drop(a)
				}
			}
		case 6:
			if len(w.attempts) > 0 {
				w.drop(w.attempts[pick("lose", len(w.attempts))])
			}
		case 7:
			w.use(w.client.access)
		case 8:
			if len(w.promotions) > 0 {
				i := pick("promotion", len(w.promotions))
				if pick("fate", 4) == 0 {
					w.promotions = slices.Delete(w.promotions, i, i+1)
				} else {
					w.promote(i)
				}
			}
		case 9, 10:
			l.wait(w, pick)
		case 11:
			switch {
			case l.setBack && pick("set back", 3) == 0:
				w.setBack([]time.Duration{tick, testG, testW, time.Hour}[pick("by", 4)])
			case forgets && pick("forget", 3) == 0:
				w.forget()
				forgets = false
			case l.thief && !stolen && pick("steal", 3) == 0:
				w.thief, stolen = w.client, true
			case l.thief && pick("thief", 2) == 0:
				w.leave(&w.thief, netX)
			case l.thief:
				w.use(w.thief.access)
			}
		}
		if w.ended != "" || w.broken != "" {
			return
		}
	}
	if !l.thief {
		w.well()
	}
}

// handle answers an attempt, once or twice, and judges the answer.
func (l life) handle(w *world, a *attempt) {
	if len(a.answers) > 1 {
		return
	}
	r := w.handle(a)
	honest := a.holder == &w.client && !l.thief
	if honest && r.answer == answerEnded && r.end != ReasonRefreshAbuse && w.storeNow().Before(w.row.ExpiresAt) {
		w.breaksf("I2: the client's session was ended by %s (%s)", r.rule, r.end)
	}
}

// of gives the attempts of one holder.
func (w *world) of(j *jar) []*attempt {
	var own []*attempt
	for _, a := range w.attempts {
		if a.holder == j {
			own = append(own, a)
		}
	}
	return own
}

// wait passes time: a step, or to one side of a boundary of some rule. The
// client's attempts that would last D meanwhile are lost: that is what D means.
func (l life) wait(w *world, pick func(string, int) int) {
	target := w.now
	side := []time.Duration{-tick, 0, tick}
	switch pick("wait", 8) {
	case 0:
		target = w.now.Add(testD / 2)
	case 1:
		target = w.now.Add(testD - tick)
	case 2:
		target = w.row.PromotedAt.Add(w.back + testG + side[pick("side", 3)])
	case 3, 4:
		target = w.row.IssuedAt.Add(w.back + testW + side[pick("side", 3)])
	case 5:
		target = w.row.IssuedAt.Add(w.back + testD/2 + side[pick("side", 3)])
	case 6:
		if len(w.attempts) > 0 { // just before an attempt would be too old
			target = w.attempts[pick("oldest", len(w.attempts))].left.Add(testD - tick)
		}
	case 7:
		target = w.now.Add([]time.Duration{testW, time.Hour, 20 * 24 * time.Hour}[pick("long", 3)])
	}
	if !target.After(w.now) {
		return
	}
	w.now = target
	for _, a := range w.of(&w.client) {
		if w.now.Sub(a.left) >= testD {
			w.drop(a)
		}
	}
}

// livesTried is enough for each broken rule below to be found, so it is also what
// the real ones have to stand.
const livesTried = 15_000

var lives = map[string]life{
	// I1, I2, I3, I5.
	"three tabs": {tabs: 3, steps: 60},
	// I1, I3, I5: the session may end, but no client that reused a token stays.
	"a thief": {tabs: 2, thief: true, steps: 60},
	// I8: one attempt at a time, and a store that forgets a write.
	"a lost write": {tabs: 1, forgets: true, steps: 60},
	// I1, I2, I3, I5, and no client is kept out until the clock has caught up.
	"a clock set back": {tabs: 3, setBack: true, steps: 60},
}

func TestChain(t *testing.T) {
	t.Parallel()
	for name, l := range lives {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				w := newWorld(decide)
				w.traced = true
				l.live(w, func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) })
				if w.broken != "" {
					rt.Fatal(w.story())
				}
			})
			if broken, lives := l.search(decide, livesTried); broken != nil {
				t.Fatalf("life %d: %s", lives, broken.story())
			}
		})
	}
}

// search lives up to n random lives, the same ones each time, and returns the
// first world in which a promise broke, and how many it took.
func (l life) search(d decider, n int) (*world, int) {
	run := func(i int, traced bool) *world {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		w := newWorld(d)
		w.traced = traced
		l.live(w, func(_ string, n int) int { return r.IntN(n) })
		return w
	}
	for i := range n {
		if w := run(i, false); w.broken != "" {
			return run(i, true), i + 1
		}
	}
	return nil, n
}

// TestLineFindsBrokenRules shows that the search above is not blind: each rule
// that is broken here is one that some sequence needs.
func TestChainFindsBrokenRules(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		life   string
		decide decider
	}{
		{"R5 does not renew the window", "three tabs", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			d := decide(row, token, c, now, n, win)
			if d.rule == R5 && d.end == "" {
				d.next = row
			}
			return d
		}},
		{"no R3", "three tabs", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			if token.hash() == row.Current {
				row.PromotedAt = now.Add(-testG)
			}
			return decide(row, token, c, now, n, win)
		}},
		{"R3 and R6 issue the refresh token again", "three tabs", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			d := decide(row, token, c, now, n, win)
			if d.answer == answerKeep && d.rule != R7 {
				d.answer = answerAgain
			}
			return d
		}},
		{"W is D", "three tabs", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			if token.hash() == row.Current && !row.IssuedAt.IsZero() && !now.Before(row.IssuedAt.Add(testD)) {
				row.IssuedAt = time.Time{}
			}
			return decide(row, token, c, now, n, win)
		}},
		{"no R6", "a lost write", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			if token.parent == row.Current {
				token.parent = TokenHash{}
			}
			return decide(row, token, c, now, n, win)
		}},
		{"no R7", "three tabs", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			row.Previous = TokenHash{}
			return decide(row, token, c, now, n, win)
		}},
		{"the previous one stays for good", "a thief", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			if token.hash() == row.Previous {
				row.PromotedAt = now
			}
			return decide(row, token, c, now, n, win)
		}},
		{"a grandchild is promoted", "a thief", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			d := decide(row, token, c, now, n, win)
			if d.end == ReasonTheft {
				return decision{rule: R6, answer: answerKeep, next: promoted(row, token.hash(), c, now)}
			}
			return d
		}},
		{"sliding passes the absolute expiry", "three tabs", func(row Row, token refreshToken, c Client, now time.Time, n Nonce, win windows) decision {
			d := decide(row, token, c, now, n, win)
			if d.rule == R4 {
				d.next.ExpiresAt = now.Add(win.Sliding)
			}
			return d
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			broken, n := lives[tc.life].search(tc.decide, livesTried)
			if broken == nil {
				t.Fatalf("%d lives and no promise broke", n)
			}
			t.Logf("life %d: %s", n, broken.story())
		})
	}
}
