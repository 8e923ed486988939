package sessions

import (
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The world of chain_test.go, with a browser that may bind its session to a device, and a thief who
// has every cookie at some moment but no key. The rules of rotation decide as long as the session is
// not bound; decideBound says how long that is. Requests of all kinds are lost, late, repeated and
// out of order, as refreshes are there.

type boundDecider func(Row, asked, time.Time, boundWindows) boundDecision

var (
	chainBound  = boundWindows{Sliding: testWindows.Sliding, WriteMost: time.Hour, LostAfter: testBinding.LostAfter}
	testBinding = Defaults().Binding
	testEngine  = &Engine{cfg: Config{AccessTokenLife: time.Hour, RefreshAttemptMax: testD, Binding: Binding{
		Offer: true, AccessTokenLife: testBinding.AccessTokenLife, ChallengeLife: testBinding.ChallengeLife,
	}}}
	ownKey, thiefKey = BoundKey{2, 1}, BoundKey{2, 2}
)

// errand is what a request is for.
type errand string

const (
	registers errand = "registers"
	asks      errand = "asks for a challenge"
	proves    errand = "proves"
	refreshes errand = "refreshes"
)

// pass is an access token.
type pass struct {
	accessPass

	bound       bool
	from, until time.Time // the store's clock
}

// browserJar is all that a browser, or a thief, holds. Its refresh token is in the jar of the world.
type browserJar struct {
	*jar

	pass   pass
	timer  time.Time // until when it has the bound cookie
	waits  time.Time
	offer  challenge // of the sign-in
	cached challenge
	device bool      // it has a device session
	key    bool      // and the private key
	owes   int       // redirects that it has not followed
	proven time.Time // when the last proof was that it heard of, by the store's clock
	over   bool      // it was told to sign in
}

// visit is a request: it leaves, is handled (perhaps twice) and arrives, or is lost on the way.
type visit struct {
	*attempt

	errand         errand
	by             *browserJar
	pass           pass
	waits          time.Time
	again, skipped bool
	challenge      challenge
	key            BoundKey // that signs
	captured       bool     // the thief sends what it saw
	answers        []visitReply
}

type visitReply struct {
	boundDecision

	chain     *reply // what the rules of rotation say
	pass      pass
	challenge challenge
	waits     time.Time
}

type boundWorld struct {
	*world

	decideBound boundDecider
	client      browserJar
	thief       browserJar
	visits      []*visit
	captured    []*visit // that the thief saw
	stolen      bool
	boundAt     time.Time // of the first proof that was handled
}

func newBoundWorld(d boundDecider) *boundWorld {
	w := &boundWorld{world: newWorld(decide), decideBound: d}
	w.row.AbsoluteExpiresAt = testEpoch.Add(50 * 24 * time.Hour) // few lives are longer
	w.client = browserJar{
		jar: &w.world.client, offer: challenge{toRegister, w.row.Handle, w.now}, key: true,
		pass: pass{accessPass: accessPass{own: w.row.Current}, from: w.now, until: w.now.Add(testBinding.AccessTokenLife)},
	}
	w.thief = browserJar{jar: &w.world.thief}
	return w
}

// leave starts a request with what the browser holds now.
func (w *boundWorld) leave(e errand, by *browserJar, from Client) *visit {
	if w.storeNow().Sub(by.waits) > 24*time.Hour { // its cookie's life
		by.waits = time.Time{}
	}
	v := &visit{
		attempt: &attempt{token: by.refresh, client: from, left: w.now, holder: by.jar},
		errand:  e, by: by, pass: by.pass, waits: by.waits, challenge: by.cached, key: ownKey,
	}
	switch e {
	case registers:
		v.challenge = by.offer
	case proves:
		by.cached = challenge{}
	case asks, refreshes:
	}
	w.visits = append(w.visits, v)
	w.logf("%s leaves %c with %s", e, from[0], v.token.hash())
	return v
}

// fresh is what Engine.freshToken says.
func (w *boundWorld) fresh(p pass, now time.Time) bool {
	return p.bound && !w.lost[p.own] && now.Before(p.from.Add(2*testD)) && now.Before(p.until)
}

// handle lets the server answer a request.
func (w *boundWorld) handle(v *visit) visitReply {
	now, old := w.storeNow(), w.row
	r := visitReply{boundDecision: boundDecision{answer: boundEnded}}
	alive := w.ended == "" && now.Before(old.EndsAt())
	young := v.challenge.handle == old.Handle && v.challenge.young(testBinding.ChallengeLife, now)
	switch {
	case v.errand == asks, v.errand == proves && (!young || v.challenge.purpose != toProve):
		r.boundDecision, r.challenge = boundDecision{rule: B3}, challenge{toProve, old.Handle, now}
	case v.errand == registers && (!young || v.challenge.purpose != toRegister):
		r.boundDecision = boundDecision{rule: B1}
	case w.ended != "":
	case v.errand == registers:
		r.boundDecision = w.decideBound(old, asked{way: wayRegister, token: v.token, key: v.key}, now, chainBound)
	case v.errand == proves:
		r.boundDecision = w.decideBound(old, asked{way: wayProve, token: v.token, key: v.key}, now, chainBound)
	default:
		r.boundDecision = w.decideBound(old, asked{
			way: wayPlain, token: v.token, fresh: w.fresh(v.pass, now), again: v.again, skipped: v.skipped, waitsSince: v.waits,
		}, now, chainBound)
	}
	switch {
	case r.challenge != challenge{} || w.ended != "":
	case r.answer == boundUnbound:
		chain := w.world.handle(v.attempt)
		r.chain = &chain
		if chain.got.access != (accessPass{}) {
			r.pass = pass{accessPass: chain.got.access}
		}
	case r.answer != boundRefused && r.answer != boundEnded || r.next != Row{}:
		if r.next != old {
			w.write(r.next)
		}
		if r.answer == boundProven {
			r.pass = pass{accessPass: accessPass{own: w.row.Current}, bound: true}
		}
	}
	if r.pass != (pass{}) {
		r.pass.from, r.pass.until = now, earlier(now.Add(testEngine.accessLife(w.row, TransportCookie, now)), w.row.EndsAt())
	}
	if (r.answer == boundProve || r.answer == boundWait) && v.waits.IsZero() {
		r.waits = now
	}
	v.answers = append(v.answers, r)
	w.logf("  %s handled from %c, %s after it left: %s %d", v.errand, v.client[0], w.now.Sub(v.left), r.rule, r.answer)
	w.judge(v, r, old, alive)
	return r
}

// judge holds what is promised of a session with a registered key.
func (w *boundWorld) judge(v *visit, r visitReply, old Row, alive bool) {
	if !alive || v.errand == asks || r.challenge != (challenge{}) {
		return
	}
	if w.row.Bound() && w.boundAt.IsZero() {
		w.boundAt = w.storeNow()
		if p := w.thief.pass; p.until.After(w.boundAt.Add(testBinding.AccessTokenLife)) {
			w.breaksf("an access token of before outlives the binding by %s", p.until.Sub(w.boundAt))
		}
	}
	if old.BoundKey != (BoundKey{}) && r.pass.until.After(r.pass.from.Add(testBinding.AccessTokenLife)) {
		w.breaksf("an access token of a session with a key lives %s", r.pass.until.Sub(r.pass.from))
	}
	if !old.Bound() {
		// The key that is there is the browser's, and no other.
		if w.row.BoundKey != (BoundKey{}) && w.row.BoundKey != ownKey {
			w.breaksf("the thief's key is registered")
		}
		return
	}
	switch thief := v.by == &w.thief; {
	case w.ended != "":
		w.breaksf("a refresh ended a bound session: %s", w.ended)
	case thief && v.captured && r.answer == boundProven:
		// The proof was young: handle asked.
	case thief && (r.pass != pass{} || r.chain != nil):
		w.breaksf("the thief got a token of a bound session by %s", r.rule)
	case thief && w.row != old:
		w.breaksf("the thief changed a bound session by %s", r.rule)
	case thief, w.rewound:
	case r.answer == boundEnded, r.chain != nil && r.chain.answer == answerEnded:
		w.breaksf("the client of a bound session was told that it ended, by %s", r.rule)
	case r.answer == boundRefused && v.errand != registers && w.client.key:
		w.breaksf("the device was refused by %s, and ends its device session", r.rule)
	case r.answer == boundLost && w.client.key:
		w.breaksf("the client has its key and was told that it lost it")
	case r.answer == boundLost && (v.waits.IsZero() || w.storeNow().Sub(w.client.proven) < testBinding.LostAfter-2*testD):
		// Since the client was sent to prove. It may have heard of a proof a moment later, whose
		// request left before.
		w.breaksf("the client proved %s ago, and was told to sign in", w.storeNow().Sub(w.client.proven))
	case v.errand == refreshes && w.fresh(v.pass, w.storeNow()) && r.answer != boundAsBefore:
		w.breaksf("the client has just proved, and %s has it wait", r.rule)
	}
}

// arrive stores an answer's cookies, as browsers and the SDKs do.
func (w *boundWorld) arrive(v *visit, r visitReply) {
	b := v.by
	forgetsWait := func() {
		if !v.waits.IsZero() {
			b.waits = time.Time{}
		}
	}
	switch {
	case r.challenge != challenge{}:
		b.cached = r.challenge
	case r.chain != nil:
		w.world.arrive(v.attempt, *r.chain)
		if r.pass != (pass{}) {
			b.pass = r.pass
			forgetsWait()
		}
	case v.errand == registers:
		if b.offer = (challenge{}); r.answer == boundRegistered {
			b.device = b.key
		}
	case r.answer == boundProven:
		b.pass, b.proven, b.timer = r.pass, r.pass.from, w.now.Add(r.pass.until.Sub(r.pass.from)-testD)
		forgetsWait()
	case v.errand == proves:
		b.device = false
	case r.answer == boundAsBefore:
		forgetsWait()
	case r.answer == boundProve, r.answer == boundWait:
		if !r.waits.IsZero() {
			b.waits = r.waits
		}
		if r.answer == boundProve {
			b.timer = time.Time{}
			b.owes++
		}
	case r.answer == boundLost:
		b.over = true
	}
	w.logf("  answer of %s arrives at %c", r.rule, v.client[0])
}

func (w *boundWorld) drop(v *visit) {
	w.visits = slices.DeleteFunc(w.visits, func(o *visit) bool { return o == v })
}

// visited is a request without a lost or late message.
func (w *boundWorld) visited(v *visit) visitReply {
	r := w.handle(v)
	w.arrive(v, r)
	w.drop(v)
	return r
}

// well checks that the client can still work, once all is calm.
func (w *boundWorld) well() {
	w.visits, w.client.owes = nil, 0
	if w.client.over || w.ended != "" || !w.storeNow().Before(w.row.EndsAt()) {
		return
	}
	if !w.row.Bound() {
		if !w.stolen {
			w.world.well()
		}
		return
	}
	c := &w.client
	switch {
	case c.device:
		w.visited(w.leave(asks, c, netW))
		if r := w.visited(w.leave(proves, c, netW)); r.answer != boundProven {
			if !w.rewound {
				w.breaksf("a proof after a pause was answered by %s", r.rule)
			}
			return
		}
		if !w.use(c.pass.accessPass) {
			w.breaksf("the access token of a proof is denied")
		}
		w.visited(w.leave(refreshes, c, netW))
	case c.key && !w.rewound:
		w.breaksf("the session is bound, and the browser knows of no device session")
	case !c.key:
		w.signsIn()
	}
}

// signsIn is what comes of a lost key: some waiting, then a sign-in.
func (w *boundWorld) signsIn() {
	c := &w.client
	for range 3 { // the first may have an access token that a proof has just brought
		w.visited(w.leave(refreshes, c, netW))
		v := w.leave(refreshes, c, netW)
		v.again = true
		if w.visited(v); c.over {
			return
		}
		w.pass(testBinding.LostAfter + w.back)
		if w.broken != "" || !w.storeNow().Before(w.row.EndsAt()) {
			return
		}
	}
	w.breaksf("a client without its key waits for ever")
}

// A boundLife is a way of living in the world, as a life is.
type boundLife struct {
	thief    bool // there is one
	captures bool // it sees proofs on their way, too
	loses    bool // the device loses its key
	forgets  bool // the store forgets one write
	setBack  bool // the store's clock is set back now and then
	most     int  // requests under way at once
	steps    int
}

func (l boundLife) live(w *boundWorld, pick func(label string, n int) int) {
	forgets := l.forgets
	c := &w.client
	network := func() Client { return []Client{netV, netV, netW}[pick("network", 3)] }
	for range l.steps {
		switch pick("action", 12) {
		case 0, 1, 2:
			if len(w.visits) < l.most && !c.over {
				l.leaves(w, network(), pick)
			}
		case 3, 4, 5:
			if len(w.visits) > 0 {
				if v := w.visits[pick("visit", len(w.visits))]; len(v.answers) < 2 {
					w.handle(v)
				}
			}
		case 6, 7:
			if len(w.visits) > 0 {
				v := w.visits[pick("visit", len(w.visits))]
				switch {
				case pick("lost", 5) == 0:
					w.drop(v)
				case len(v.answers) > 0:
					w.arrive(v, v.answers[pick("answer", len(v.answers))])
					w.drop(v)
				}
			}
		case 8:
			w.use(c.pass.accessPass)
		case 9:
			if len(w.promotions) > 0 {
				w.promote(pick("promotion", len(w.promotions)))
			}
		case 10:
			l.wait(w, pick)
		case 11:
			switch {
			case l.setBack && pick("set back", 3) == 0:
				w.setBack([]time.Duration{tick, testD, testBinding.ChallengeLife, time.Hour}[pick("by", 4)])
			case forgets && pick("forget", 3) == 0:
				w.forget()
				forgets = false
			case l.loses && c.device && pick("lose the key", 6) == 0:
				w.logf("the key is lost")
				c.key, c.device, c.timer = false, false, time.Time{}
				w.visits = slices.DeleteFunc(w.visits, func(v *visit) bool { return v.by == c })
			case l.thief && (!w.stolen || pick("steal", 8) == 0):
				w.steal()
			case l.thief:
				l.thieves(w, pick)
			}
		}
		if w.ended != "" || w.broken != "" {
			return
		}
	}
	w.well()
}

// leaves starts a request of the client: its own, or one that its browser makes before it.
func (l boundLife) leaves(w *boundWorld, from Client, pick func(string, int) int) {
	c := &w.client
	if !c.device {
		if c.offer != (challenge{}) && pick("register", 2) == 0 {
			w.leave(registers, c, from)
			return
		}
		v := w.leave(refreshes, c, from)
		if c.owes > 0 {
			v.again = true
			c.owes--
		}
		return
	}
	waits := !w.now.Before(c.timer) // every request waits for a proof
	if waits && pick("proof fails", 4) > 0 {
		switch {
		case c.cached != challenge{}:
			w.leave(proves, c, from)
		default:
			w.leave(asks, c, from)
		}
		return
	}
	v := w.leave(refreshes, c, from)
	v.skipped = waits
	if c.owes > 0 {
		v.again = true
		c.owes--
	}
}

// steal copies the cookies. What is signed is none, and the challenge of the sign-in was a header.
func (w *boundWorld) steal() {
	w.logf("the cookies are stolen")
	*w.thief.jar = *w.client.jar
	w.thief.pass, w.thief.waits, w.stolen = w.client.pass, w.client.waits, true
}

// thieves does what a thief can.
func (l boundLife) thieves(w *boundWorld, pick func(string, int) int) {
	t := &w.thief
	way := pick("way", 7)
	if !w.row.Bound() && pick("patience", 4) > 0 {
		return // what it does before is found out by the rules of rotation, and ends most lives
	}
	switch way {
	case 0, 1:
		v := w.leave(refreshes, t, netX)
		v.again, v.skipped = pick("again", 2) == 0, pick("skipped", 2) == 0
	case 2:
		w.leave(asks, t, netX)
	case 3: // a proof by its own key
		v := w.leave(proves, t, netX)
		v.key = thiefKey
	case 4: // its own key, with a challenge that it can get
		v := w.leave(registers, t, netX)
		v.challenge, v.key = t.cached, thiefKey
	case 5:
		w.use(t.pass.accessPass)
	case 6:
		if !l.captures {
			return
		}
		if len(w.captured) > 0 && pick("replay", 2) == 0 {
			seen := *w.captured[pick("seen", len(w.captured))]
			v := w.leave(seen.errand, t, netX)
			v.token, v.challenge, v.key, v.captured = seen.token, seen.challenge, seen.key, true
			if seen.errand == registers && pick("own key", 2) == 0 {
				v.key = thiefKey
			}
			return
		}
		for _, v := range w.visits {
			if v.by == &w.client && len(v.answers) > 0 && (v.errand == registers || v.errand == proves) {
				w.captured = append(w.captured, v)
			}
		}
	}
}

// wait passes time: a step, or to one side of a boundary of some rule. The client's requests that
// would last D meanwhile are lost.
func (l boundLife) wait(w *boundWorld, pick func(string, int) int) {
	c, target := &w.client, w.now
	near := func(t time.Time) time.Time {
		return t.Add(w.back + []time.Duration{-tick, 0, tick}[pick("side", 3)])
	}
	switch pick("wait", 9) {
	case 0, 1:
		target = w.now.Add(testD / 2)
	case 2:
		target = w.now.Add(testD - tick)
	case 3:
		target = near(c.timer.Add(-w.back))
	case 4:
		target = near(c.pass.from.Add(2 * testD))
	case 5:
		target = near(c.waits.Add(testBinding.LostAfter))
	case 6:
		target = near(c.cached.issuedAt.Add(testBinding.ChallengeLife))
	case 7:
		target = near(w.row.PromotedAt.Add(testG))
	case 8:
		target = w.now.Add([]time.Duration{testW, testBinding.AccessTokenLife, 20 * 24 * time.Hour}[pick("long", 3)])
	}
	if !target.After(w.now) {
		return
	}
	w.now = target
	w.visits = slices.DeleteFunc(w.visits, func(v *visit) bool {
		return v.by == c && w.now.Sub(v.left) >= testD
	})
}

const boundLivesTried = 3_000

var boundLives = map[string]boundLife{
	"a device":             {most: 5, steps: 100},
	"a lost key":           {loses: true, most: 5, steps: 120},
	"a device and a thief": {thief: true, most: 5, steps: 140},
	"a thief sees proofs":  {thief: true, captures: true, most: 5, steps: 140},
	"a lost write":         {forgets: true, most: 1, steps: 120},
	"a clock set back":     {setBack: true, loses: true, most: 5, steps: 120},
}

// A session that its browser binds: no client with its key is told "ended" or "lost" early, and no
// thief without it gets, changes or ends anything.
func TestBoundChain(t *testing.T) {
	t.Parallel()
	for name, l := range boundLives {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				w := newBoundWorld(decideBound)
				w.traced = true
				l.live(w, func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) })
				if w.broken != "" {
					rt.Fatal(w.story())
				}
			})
			broken, lives, bound := l.search(decideBound, boundLivesTried)
			if broken != nil {
				t.Fatalf("life %d: %s", lives, broken.story())
			}
			// A search in which the sessions are never bound would prove nothing.
			if t.Logf("%d of %d lives were bound", bound, lives); bound < lives/5 {
				t.Errorf("%d of %d lives were bound", bound, lives)
			}
		})
	}
}

// search lives up to n random lives, as that of a life does. It also says how many were bound.
func (l boundLife) search(d boundDecider, n int) (broken *boundWorld, lives, bound int) {
	run := func(i int, traced bool) *boundWorld {
		r := mathrand.New(mathrand.NewPCG(uint64(i), 2))
		w := newBoundWorld(d)
		w.traced = traced
		l.live(w, func(_ string, n int) int { return r.IntN(n) })
		return w
	}
	for i := range n {
		w := run(i, false)
		if w.broken != "" {
			return run(i, true), i + 1, bound
		}
		if !w.boundAt.IsZero() {
			bound++
		}
	}
	return nil, n, bound
}

// TestBoundChainFindsBrokenRules shows that the search above is not blind.
func TestBoundChainFindsBrokenRules(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		life   string
		decide boundDecider
	}{
		{"the registration binds at once", "a device", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			d := decideBound(row, s, now, win)
			if d.answer == boundRegistered && !row.Bound() {
				d.next = decideBound(d.next, asked{way: wayProve, token: s.token, key: s.key}, now, win).next
			}
			return d
		}},
		{"a fresh token is sent to prove", "a device", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			s.fresh = false
			return decideBound(row, s, now, win)
		}},
		{"another key's proof ends the session", "a device and a thief", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			d := decideBound(row, s, now, win)
			if d.rule == B6 {
				d.answer, d.next.ExpiresAt = boundEnded, now
			}
			return d
		}},
		{"the rules of rotation run for a bound session", "a device and a thief", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			if s.way == wayPlain {
				return boundDecision{"", boundUnbound, row}
			}
			return decideBound(row, s, now, win)
		}},
		{"they run where the browser skipped", "a device and a thief", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			if s.way == wayPlain && s.skipped {
				return boundDecision{"", boundUnbound, row}
			}
			return decideBound(row, s, now, win)
		}},
		{"any key proves", "a device and a thief", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			if s.way == wayProve {
				s.key = ownKey
			}
			return decideBound(row, s, now, win)
		}},
		{"a registration replaces a key", "a thief sees proofs", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			if d := decideBound(row, s, now, win); s.way == wayRegister && d.answer == boundRefused {
				d.answer, d.next.BoundKey = boundRegistered, s.key
				return d
			}
			return decideBound(row, s, now, win)
		}},
		{"the first proof keeps the child", "a device", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			d := decideBound(row, s, now, win)
			if d.answer == boundProven {
				d.next.NextNonce = row.NextNonce
			}
			return d
		}},
		{"a proof passes the absolute expiry", "a device", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			d := decideBound(row, s, now, win)
			if d.next.ExpiresAt.After(row.ExpiresAt) {
				d.next.ExpiresAt = now.Add(win.Sliding)
			}
			return d
		}},
		{"a proof moves the absolute expiry", "a device", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			d := decideBound(row, s, now, win)
			if d.answer == boundProven && row.Bound() {
				d.next.AbsoluteExpiresAt = now.Add(win.Sliding)
			}
			return d
		}},
		{"a browser that skipped has lost its key", "a device", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			s.skipped = false
			return decideBound(row, s, now, win)
		}},
		{"a key is lost at once", "a lost key", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			win.LostAfter = 0
			return decideBound(row, s, now, win)
		}},
		{"a key is never lost", "a lost key", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			s.waitsSince = time.Time{}
			return decideBound(row, s, now, win)
		}},
		{"a clock set back makes a key lost", "a clock set back", func(row Row, s asked, now time.Time, win boundWindows) boundDecision {
			if s.way == wayPlain && s.waitsSince.After(now) {
				s.waitsSince, s.skipped = now.Add(-win.LostAfter), false
			}
			return decideBound(row, s, now, win)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			broken, n, _ := boundLives[tc.life].search(tc.decide, boundLivesTried)
			if broken == nil {
				t.Fatalf("%d lives and no promise broke", n)
			}
			t.Logf("life %d, step %d: %s", n, len(broken.trace), broken.story())
		})
	}
}
