package sessions_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// readProof is what the engine gets of a text; nil if it is no proof.
func readProof(text string) *sessions.Proof { return browser.ParseProof([]string{text}) }

// boundConfig offers to bind sessions, and writes audit events.
func boundConfig(t testing.TB) sessions.Config {
	t.Helper()
	cfg := lively(t)
	cfg.Binding.Offer = true
	return cfg
}

// bindable is a client whose session may be bound, and its device.
type bindable struct {
	testing.TB

	store  *watched
	e      *sessions.Engine
	log    *events
	device *sessionstest.Device
	first  sessions.Issued // of the sign-in
	h      sessions.Handle
	tokens []string // the refresh token
	id     string   // of the device session
}

func newBindable(t testing.TB, cfg sessions.Config) *bindable {
	t.Helper()
	store := newWatched()
	e, log := start(t, store, cfg)
	return signedIn(t, store, e, log)
}

// signedIn is another client of the engine.
func signedIn(t testing.TB, store *watched, e *sessions.Engine, log *events) *bindable {
	t.Helper()
	i := create(t, e)
	return &bindable{t, store, e, log, sessionstest.NewDevice(t), i, i.Session.Handle, []string{i.Refresh.Reveal()}, ""}
}

// newBound is one whose session is bound, and what the proof brought.
func newBound(t testing.TB, cfg sessions.Config) (*bindable, sessions.Issued) {
	t.Helper()
	b := newBindable(t, cfg)
	return b, b.confirmed()
}

func (b *bindable) confirmed() sessions.Issued {
	b.Helper()
	b.must(b.bind())
	i, err := b.prove()
	b.must(err)
	return i
}

func (b *bindable) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bindable) bind() error {
	i, err := b.e.Bind(b.Context(), sessions.Prover{Tokens: b.tokens, Proof: readProof(b.device.Registration(b.first.Challenge))})
	if err == nil && (i.Session.BoundKey == (sessions.BoundKey{}) || i.Identifier == "") {
		b.Error("what a registration answers has no key, or no identifier")
	}
	if err == nil {
		b.id = i.Identifier.Reveal()
	}
	return err
}

// prover is a proof of a new challenge.
func (b *bindable) prover() sessions.Prover {
	b.Helper()
	p := sessions.Prover{Tokens: b.tokens, Identifier: b.id}
	var ask *sessions.ChallengeError
	if _, err := b.e.RefreshBound(b.Context(), p); !errors.As(err, &ask) || ask.Session != b.h || ask.Identifier.Reveal() != b.id {
		b.Fatalf("not challenged: %v", err)
	}
	p.Proof = readProof(b.device.Proof(ask.Challenge))
	return p
}

func (b *bindable) prove() (sessions.Issued, error) {
	b.Helper()
	return b.e.RefreshBound(b.Context(), b.prover())
}

func (b *bindable) plain(s sessions.Shown) (sessions.Issued, error) {
	return b.e.Refresh(b.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: b.tokens, Client: home, Shown: s})
}

func (b *bindable) row() sessions.Row {
	b.Helper()
	rec, _, err := b.store.ClockedStore.Get(b.Context(), b.h)
	b.must(err)
	return rec.Row
}

func (b *bindable) verified(i sessions.Issued) *sessions.Access {
	b.Helper()
	a, d := b.e.Verify(sessions.TransportCookie, []string{i.Access.Reveal()})
	if d != nil {
		b.Fatal(d)
	}
	return a
}

// asked are the calls of the store, without those that an engine makes by itself.
func (b *bindable) asked(do func()) map[string]int {
	before := b.store.counted()
	do()
	calls := map[string]int{}
	for call, n := range b.store.counted() {
		if call != "Poll" && n > before[call] {
			calls[call] = n - before[call]
		}
	}
	return calls
}

func (b *bindable) counted(kind sessions.EventKind) (n int) {
	for _, e := range b.log.all() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// own is the token hash of the refresh token that an access token belongs to.
func own(t testing.TB, i sessions.Issued) string {
	t.Helper()
	var payload struct {
		Gate struct{ Own string } `json:"sg"`
	}
	if err := json.Unmarshal(i.Payload, &payload); err != nil {
		t.Fatal(err)
	}
	return payload.Gate.Own
}

// A session is offered to be bound, gets a key, is bound by the first proof, and is then refreshed by
// proofs alone. Each step says what the next one needs.
func TestBind(t *testing.T) {
	b := newBindable(t, boundConfig(t))
	if b.first.Challenge == "" {
		t.Fatal("no challenge")
	}
	if life := b.first.AccessExpires.Sub(b.first.Session.CreatedAt); life > 10*time.Minute {
		t.Errorf("the first access token lives %s", life)
	}
	if b.verified(b.first).Bound {
		t.Error("the first access token is bound")
	}
	if calls := b.asked(func() { b.must(b.bind()) }); !maps.Equal(calls, map[string]int{"Get": 1, "Swap": 1}) {
		t.Errorf("to bind asks %v", calls)
	}
	if row := b.row(); row.BoundKey == (sessions.BoundKey{}) || row.Bound() {
		t.Errorf("registered: %+v", row)
	}
	proven, err := b.prove()
	b.must(err)
	if row := b.row(); !row.Bound() || proven.Session.Row != row {
		t.Errorf("proven: %+v", row)
	}
	if a := b.verified(proven); !a.Bound || a.Expires.Sub(a.IssuedAt) > 10*time.Minute {
		t.Errorf("the access token of a proof: %+v", a)
	}
	if want := proven.AccessExpires.Sub(proven.Session.BoundAt); proven.BoundLife != want-10*time.Second && proven.BoundLife > want {
		t.Errorf("no proof for %s, of %s", proven.BoundLife, want)
	}
	if _, err := b.plain(sessions.Shown{}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("a plain refresh: %v", err)
	}
	waits, err := b.plain(sessions.Shown{Again: true})
	if !errors.Is(err, sessions.ErrUnproven) || waits.Waits == "" || waits.Access != "" || waits.Rule != sessions.B10 {
		t.Errorf("again without a proof: %v", err)
	}
	since := []string{waits.Waits.Reveal()}
	advance(t, b.store, 10*time.Minute-30*time.Second, b.e) // TestDecideBound has the exact border
	still, err := b.plain(sessions.Shown{Again: true, Waits: since})
	if !errors.Is(err, sessions.ErrUnproven) || still.Waits != "" {
		t.Errorf("before the loss: %v, another time to wait since: %v", err, still.Waits != "")
	}
	advance(t, b.store, 31*time.Second, b.e)
	if _, err := b.plain(sessions.Shown{Again: true, Waits: since, Skipped: true}); !errors.Is(err, sessions.ErrUnproven) {
		t.Errorf("for long, with a device session: %v", err)
	}
	if _, err := b.plain(sessions.Shown{Waits: since}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("for long, and not sent to prove: %v", err)
	}
	row := b.row()
	lost, err := b.plain(sessions.Shown{Again: true, Waits: since})
	if !errors.Is(err, sessions.ErrKeyLost) || !errors.Is(err, sessions.ErrSessionEnded) || lost.Rule != sessions.B10 {
		t.Errorf("for long without a proof: %v", err)
	}
	if b.row() != row {
		t.Error("a lost key changes the row")
	}
	if _, err := b.prove(); err != nil { // it was not lost
		t.Errorf("a proof after that: %v", err)
	}
	for kind, n := range map[sessions.EventKind]int{
		sessions.EventKeyRegistered: 1, sessions.EventBound: 1, sessions.EventUnproven: 3, sessions.EventKeyLost: 1, sessions.EventProofRefused: 0,
	} {
		if got := b.counted(kind); got != n {
			t.Errorf("%d events %s, want %d", got, kind, n)
		}
	}
}

// A browser may never get the answer to its registration. It is not bound then: it refreshes as
// before, and its access tokens live no longer than those of a bound session.
func TestBindAnswerLost(t *testing.T) {
	b := newBindable(t, boundConfig(t))
	b.must(b.bind())
	registered := b.row()
	if calls := b.asked(func() { b.must(b.bind()) }); !maps.Equal(calls, map[string]int{"Get": 1}) || b.row() != registered {
		t.Errorf("the same key again asks %v", calls)
	}
	advance(t, b.store, time.Minute, b.e)
	if err := b.bind(); !errors.Is(err, sessions.ErrBindRefused) {
		t.Errorf("after the life of the challenge: %v", err)
	}
	child, err := b.plain(sessions.Shown{})
	if err != nil || child.Rule != sessions.R4 || child.Refresh == "" {
		t.Fatalf("a plain refresh: %s, %v", child.Rule, err)
	}
	if a := b.verified(child); a.Bound || a.Expires.Sub(a.IssuedAt) > 10*time.Minute {
		t.Errorf("got %+v", a)
	}
	b.tokens = []string{child.Refresh.Reveal()}
	if i, err := b.plain(sessions.Shown{}); err != nil || i.Rule != sessions.R6 {
		t.Fatalf("by the child: %s, %v", i.Rule, err)
	}
	if row := b.row(); row.BoundKey != registered.BoundKey || row.Bound() {
		t.Errorf("then the row is %+v", row)
	}
	if _, err := b.prove(); err != nil || !b.row().Bound() {
		t.Errorf("a proof after that: %v", err)
	}
}

// A key that is there is never replaced: an attacker who could replace it would take the session.
func TestSecondKeyNeverReplacesTheFirst(t *testing.T) {
	b := newBindable(t, boundConfig(t))
	b.must(b.bind())
	other := *b
	other.device = sessionstest.NewDevice(t)
	row := b.row()
	if err := other.bind(); !errors.Is(err, sessions.ErrBindRefused) || b.row() != row {
		t.Errorf("before the proof: %v", err)
	}
	if _, err := other.prove(); !errors.Is(err, sessions.ErrNotThisDevice) || b.row() != row {
		t.Errorf("its proof: %v", err)
	}
	_, err := b.prove()
	b.must(err)
	row = b.row()
	if err := other.bind(); !errors.Is(err, sessions.ErrBindRefused) || b.row() != row {
		t.Errorf("after the proof: %v", err)
	}
	if err := b.bind(); err != nil || b.row() != row {
		t.Errorf("the first key, after the proof: %v", err)
	}
	if n := b.counted(sessions.EventProofRefused); n != 3 {
		t.Errorf("%d refused proofs were reported, want 3", n)
	}
}

// flipped is text with another letter in its middle.
func flipped(text string) string {
	middle, letter := len(text)/2, "A"
	if text[middle] == 'A' {
		letter = "B"
	}
	return text[:middle] + letter + text[middle+1:]
}

// What is no proof of the session's key changes nothing, and costs no query (I6).
func TestWhatIsNoProof(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, boundConfig(t))
	b, victim, unbound := signedIn(t, store, e, log), signedIn(t, store, e, log), signedIn(t, store, e, log)
	first := b.first.Challenge
	proven := b.confirmed()
	victim.confirmed()
	old := b.prover()
	advance(t, store, time.Minute, e)
	fresh, other, toBind := b.prover(), victim.prover(), signedIn(t, store, e, log)
	header, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Transport: sessions.TransportHeader})
	b.must(err)
	if header.Challenge != "" || header.AccessExpires.Sub(header.Session.CreatedAt) < 50*time.Minute {
		t.Error("a session in headers is offered to be bound")
	}
	thief := sessionstest.NewDevice(t)
	forged := fresh
	forged.Proof = readProof(thief.Proof(sessions.Token(fresh.Proof.Challenge)))
	claims := fresh // the thief's proof, which says whose it is
	claims.Proof = new(*forged.Proof)
	claims.Proof.Key = b.row().BoundKey
	altered := fresh
	altered.Proof = new(*fresh.Proof)
	altered.Proof.Signature = slices.Clone(fresh.Proof.Signature)
	altered.Proof.Signature[40] ^= 1

	edit := func(p sessions.Prover, f func(*sessions.Prover)) sessions.Prover { f(&p); return p }
	ask := &sessions.ChallengeError{}
	for name, tc := range map[string]struct {
		prover sessions.Prover
		want   error // ask: a challenge
	}{
		"B2 no session":               {edit(fresh, func(p *sessions.Prover) { p.Identifier = "" }), sessions.ErrNotThisDevice},
		"B2 the handle":               {edit(fresh, func(p *sessions.Prover) { p.Identifier = b.h.String() }), sessions.ErrNotThisDevice},
		"B2 a challenge":              {edit(fresh, func(p *sessions.Prover) { p.Identifier = p.Proof.Challenge }), sessions.ErrNotThisDevice},
		"B2 altered":                  {edit(fresh, func(p *sessions.Prover) { p.Identifier = flipped(p.Identifier) }), sessions.ErrNotThisDevice},
		"B2 another session":          {edit(fresh, func(p *sessions.Prover) { p.Identifier = victim.id }), sessions.ErrNotThisDevice},
		"B2 another session's token":  {edit(fresh, func(p *sessions.Prover) { p.Tokens = victim.tokens }), sessions.ErrNotThisDevice},
		"B2 tokens of two others":     {edit(fresh, func(p *sessions.Prover) { p.Tokens = append(slices.Clone(toBind.tokens), victim.tokens...) }), sessions.ErrNotThisDevice},
		"B2 no token":                 {edit(fresh, func(p *sessions.Prover) { p.Tokens = nil }), sessions.ErrNotThisDevice},
		"B2 garbage for a token":      {edit(fresh, func(p *sessions.Prover) { p.Tokens = []string{"sgr1_AAAA"} }), sessions.ErrNotThisDevice},
		"B2 too many tokens":          {edit(fresh, func(p *sessions.Prover) { p.Tokens = slices.Repeat(b.tokens, 5) }), sessions.ErrNotThisDevice},
		"B2 an access token":          {edit(fresh, func(p *sessions.Prover) { p.Tokens = []string{proven.Access.Reveal()} }), sessions.ErrNotThisDevice},
		"B2 a header's token":         {edit(fresh, func(p *sessions.Prover) { p.Tokens = []string{header.Refresh.Reveal()} }), sessions.ErrNotThisDevice},
		"B3 no proof":                 {edit(fresh, func(p *sessions.Prover) { p.Proof = nil }), ask},
		"B3 after 60 s":               {old, ask},
		"B3 another session's":        {edit(fresh, func(p *sessions.Prover) { p.Proof = other.Proof }), ask},
		"B3 of the registration":      {edit(fresh, func(p *sessions.Prover) { p.Proof = readProof(b.device.Registration(first)) }), ask},
		"B3 of no challenge":          {edit(fresh, func(p *sessions.Prover) { p.Proof = readProof(b.device.Proof("sgc1_AAAA")) }), ask},
		"B6 another key":              {forged, sessions.ErrNotThisDevice},
		"B6 another key, that claims": {claims, sessions.ErrNotThisDevice},
		"B6 altered":                  {altered, sessions.ErrNotThisDevice},
	} {
		rows := []sessions.Row{b.row(), victim.row()}
		var i sessions.Issued
		var err error
		calls := b.asked(func() { i, err = e.RefreshBound(t.Context(), tc.prover) })
		var asks *sessions.ChallengeError
		if errors.Is(tc.want, ask) && errors.As(err, &asks) {
			if asks.Session != b.h || i.Rule != sessions.B3 {
				t.Errorf("%s: a challenge of %s by %s", name, asks.Session, i.Rule)
			}
		} else if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if len(calls) > 0 || i.Access != "" || i.Refresh != "" || !slices.Equal(rows, []sessions.Row{b.row(), victim.row()}) {
			t.Errorf("%s: asks %v", name, calls)
		}
		if rule, _, _ := strings.Cut(name, " "); i.Rule != sessions.Rule(rule) {
			t.Errorf("%s: by %s", name, i.Rule)
		}
	}

	registration := readProof(thief.Registration(toBind.first.Challenge))
	keyless := readProof(thief.Proof(toBind.first.Challenge))
	wrongKey := new(*registration)
	wrongKey.Key = b.row().BoundKey
	for name, p := range map[string]sessions.Prover{
		"no proof":                     {Tokens: toBind.tokens},
		"another session's token":      {Tokens: b.tokens, Proof: registration},
		"a challenge to prove":         {Tokens: b.tokens, Proof: fresh.Proof},
		"another session's challenge":  {Tokens: b.tokens, Proof: registration},
		"after 60 s":                   {Tokens: unbound.tokens, Proof: readProof(thief.Registration(unbound.first.Challenge))},
		"a header's token":             {Tokens: []string{header.Refresh.Reveal()}, Proof: registration},
		"without its key":              {Tokens: toBind.tokens, Proof: keyless},
		"with a key that did not sign": {Tokens: toBind.tokens, Proof: wrongKey},
	} {
		rows := []sessions.Row{b.row(), unbound.row(), toBind.row()}
		var err error
		calls := b.asked(func() { _, err = e.Bind(t.Context(), p) })
		if !errors.Is(err, sessions.ErrBindRefused) || len(calls) > 0 || !slices.Equal(rows, []sessions.Row{b.row(), unbound.row(), toBind.row()}) {
			t.Errorf("bind, %s: %v, asks %v", name, err, calls)
		}
	}
	if _, err := e.RefreshBound(t.Context(), fresh); err != nil {
		t.Errorf("the proof of the device: %v", err)
	}
	// A proof that was captured is good for the rest of its minute, together with the refresh token, which it does not replace.
	if i, err := e.RefreshBound(t.Context(), fresh); err != nil || own(t, i) != own(t, b.first) {
		t.Errorf("the same proof again: %v", err)
	}
}

// B5: a session that is gone ends the device session. Who just signed out keeps the cookies of a
// sign-in that came since.
func TestProofOfASessionThatIsGone(t *testing.T) {
	cfg := boundConfig(t)
	cfg.AccessTokenLife, cfg.SlidingLife, cfg.AbsoluteLife = 10*time.Minute, time.Hour, 2*time.Hour
	store := newWatched()
	e, log := start(t, store, cfg)
	for name, tc := range map[string]struct {
		end  func(*bindable, sessions.Issued)
		want error
	}{
		"revoked": {func(b *bindable, _ sessions.Issued) {
			_, err := e.End(t.Context(), b.h, sessions.Ending{Reason: sessions.ReasonRevoked})
			b.must(err)
		}, sessions.ErrSessionEnded},
		"just signed out": {func(b *bindable, i sessions.Issued) {
			b.must(e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Access: []string{i.Access.Reveal()}}))
		}, sessions.ErrSuperseded},
		"signed out": {func(b *bindable, i sessions.Issued) {
			b.must(e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Access: []string{i.Access.Reveal()}}))
			advance(t, store, 21*time.Second, e)
		}, sessions.ErrSessionEnded},
		"expired": {func(*bindable, sessions.Issued) { advance(t, store, time.Hour+time.Second, e) }, sessions.ErrSessionEnded},
	} {
		b := signedIn(t, store, e, log)
		i := b.confirmed()
		tc.end(b, i)
		if i, err := b.prove(); !errors.Is(err, tc.want) || i.Rule != sessions.B5 || i.Access != "" {
			t.Errorf("%s: %s, %v", name, i.Rule, err)
		}
		if err := b.bind(); !errors.Is(err, sessions.ErrBindRefused) {
			t.Errorf("%s, bind: %v", name, err)
		}
	}
}

// Too many proofs are UNAVAILABLE: at 429 a browser ends its device session. What a thief can send,
// who has every cookie, counts not at all: the owner can still prove.
func TestTooManyProofs(t *testing.T) {
	cfg := boundConfig(t)
	cfg.RefreshesPerSession = sessions.Rate{PerSecond: 1, Burst: 4}
	pass := frozen(&cfg)
	cfg.FeedPoll = time.Hour / 2
	b := newBindable(t, cfg)
	b.must(b.bind())
	p, thief := b.prover(), sessionstest.NewDevice(t)
	flood := func() {
		for range 10 {
			challenge := sessions.Token(b.prover().Proof.Challenge)
			registration := sessions.Prover{Tokens: b.tokens, Proof: readProof(thief.Registration(challenge))}
			if _, err := b.e.Bind(t.Context(), registration); !errors.Is(err, sessions.ErrBindRefused) {
				t.Fatalf("a registration of a thief: %v", err)
			}
			for name, p := range map[string]sessions.Prover{
				"cookies alone":              {Tokens: b.tokens},
				"with a proof":               {Tokens: b.tokens, Proof: readProof(thief.Proof(challenge))},
				"who knows the identifier":   {Tokens: b.tokens, Identifier: b.id, Proof: readProof(thief.Proof(challenge))},
				"and sends a key of its own": {Tokens: b.tokens, Identifier: b.id, Proof: registration.Proof},
			} {
				if _, err := b.e.RefreshBound(t.Context(), p); !errors.Is(err, sessions.ErrNotThisDevice) {
					t.Fatalf("a thief, %s: %v", name, err)
				}
			}
		}
	}
	flood()
	for n := range 5 { // the registration was the first
		var err error
		calls := b.asked(func() { _, err = b.e.RefreshBound(t.Context(), p) })
		if over := n >= 3; over != errors.Is(err, sessions.ErrUnavailable) || over != (len(calls) == 0) {
			t.Errorf("proof %d: %v, asks %v", n, err, calls)
		}
	}
	if n := b.counted(sessions.EventProofRefused); n != 4 {
		t.Errorf("%d of 20 refused proofs were reported, want 4: a thief does not fill the log", n)
	}
	b.prover() // a challenge costs nothing
	pass(time.Second)
	flood()
	if _, err := b.e.RefreshBound(t.Context(), p); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

// The session slides once in the life of an unbound session's access token: a proof every few minutes
// is a write in the hour. The cookie of the refresh token is set again each time, with the same secret,
// for it would end before the session.
func TestBoundSessionSlides(t *testing.T) {
	memory := memory.New()
	store := &watched{ClockedStore: memory, calls: map[string]int{}}
	e, log := start(t, store, boundConfig(t))
	b := signedIn(t, store, e, log)
	before := memory.Snapshot()
	b.must(b.bind())
	var slid []int
	var last sessions.Issued
	for n := range 30 { // every 5 minutes
		p := b.prover()
		var i sessions.Issued
		var err error
		calls := b.asked(func() { i, err = e.RefreshBound(t.Context(), p) })
		b.must(err)
		if i.Refresh == "" || calls["Get"] != 1 || len(calls) > 2 {
			t.Errorf("proof %d asks %v, and brings a refresh token: %v", n, calls, i.Refresh != "")
		}
		if own(t, i) != own(t, b.first) {
			t.Fatalf("proof %d moved the chain", n)
		}
		if calls["Swap"] > 0 {
			slid, last = append(slid, n), i
		}
		if i.RefreshLife < 30*24*time.Hour-time.Hour-time.Second {
			t.Errorf("proof %d: the session lives %s", n, i.RefreshLife)
		}
		advance(t, store, 5*time.Minute, e)
	}
	if !slices.Equal(slid, []int{0, 12, 24}) {
		t.Errorf("slid at %v", slid)
	}
	// The row of the sign-in knows the token: it has the secret of the first one.
	memory.Restore(before)
	b.tokens = []string{last.Refresh.Reveal()}
	if i, err := b.plain(sessions.Shown{}); err != nil || i.Rule != sessions.R4 {
		t.Errorf("the refresh token is another: %s, %v", i.Rule, err)
	}
}

// I5 for the tokens of proofs. The last bound cookie ends before its token, so that the browser asks
// once more, and hears of the end.
func TestBoundTokenNeverOutlivesItsSession(t *testing.T) {
	cfg := boundConfig(t)
	cfg.AccessTokenLife, cfg.SlidingLife, cfg.AbsoluteLife = 15*time.Minute, time.Hour, time.Hour
	b, _ := newBound(t, cfg)
	advance(t, b.store, 55*time.Minute, b.e)
	i, err := b.prove()
	b.must(err)
	end := b.row().AbsoluteExpiresAt
	if i.AccessExpires.After(end) || i.AccessExpires.Before(end.Add(-time.Second)) || b.row().ExpiresAt.After(end) {
		t.Errorf("expires at %s, the session at %s", i.AccessExpires, end)
	}
	if i.BoundLife > 5*time.Minute-9*time.Second && i.BoundLife > i.RefreshLife {
		t.Errorf("no proof for %s, of %s", i.BoundLife, i.RefreshLife)
	}
	if i.RefreshLife > 5*time.Minute {
		t.Errorf("the refresh token's cookie lives %s", i.RefreshLife)
	}
}

// New claims supersede the access token of a proof. A proof, and nothing else, brings the next one;
// then a plain refresh says that the client has it.
func TestClaimsOfABoundSession(t *testing.T) {
	b, proven := newBound(t, boundConfig(t))
	if _, err := b.e.Update(t.Context(), b.h, sessions.Attributes{Claims: []byte(`{"role":"user"}`)}); err != nil {
		t.Fatal(err)
	}
	for verify(b.e, proven.Access) != sessions.DenyVersion {
		runtime.Gosched()
	}
	has := func(i sessions.Issued) sessions.Shown { return sessions.Shown{Access: []string{i.Access.Reveal()}} }
	if i, err := b.plain(has(proven)); !errors.Is(err, sessions.ErrProve) || i.Rule != sessions.B9 {
		t.Errorf("with the former claims: %s, %v", i.Rule, err)
	}
	next, err := b.prove()
	b.must(err)
	if a := b.verified(next); string(a.Claims) != `{"role":"user"}` {
		t.Errorf("claims %s", a.Claims)
	}
	if i, err := b.plain(has(next)); err != nil || i.Rule != sessions.B8 {
		t.Errorf("after the proof: %s, %v", i.Rule, err)
	}
}

// B8 tells the client's scripts what they learn of any refresh, for the access token that is there. It
// sets none. Any other access token is no sign that the browser has just proven its key.
func TestPlainRefreshJustAfterAProof(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, boundConfig(t))
	b, other := signedIn(t, store, e, log), signedIn(t, store, e, log)
	unbound := b.first
	proven, otherProven := b.confirmed(), other.confirmed()
	i, err := b.plain(sessions.Shown{Access: []string{"x", otherProven.Access.Reveal(), proven.Access.Reveal()}})
	b.must(err)
	if i.Rule != sessions.B8 || i.Access != "" || i.Refresh != "" || i.Challenge != "" || i.Waits != "" || i.BoundLife != 0 {
		t.Errorf("%s issues something", i.Rule)
	}
	if i.AntiCSRF != proven.AntiCSRF || string(i.Payload) != string(proven.Payload) || !i.AccessExpires.Equal(proven.AccessExpires) ||
		i.Marker == "" || i.Marker == proven.Marker || i.Session.Handle != b.h || i.Transport != sessions.TransportCookie {
		t.Errorf("as before: %+v, of %+v", i, proven)
	}
	if got := b.asked(func() { _, _ = b.plain(sessions.Shown{Access: []string{proven.Access.Reveal()}}) }); got["Swap"]+got["Report"] > 0 {
		t.Errorf("writes: %v", got)
	}
	for name, access := range map[string][]string{
		"none": nil, "of before the binding": {unbound.Access.Reveal()}, "another session's": {otherProven.Access.Reveal()}, "garbage": {"x.y.z"},
		"too many": {"1", "2", "3", "4", proven.Access.Reveal()}, "a refresh token": b.tokens,
	} {
		if i, err := b.plain(sessions.Shown{Access: access}); !errors.Is(err, sessions.ErrProve) || i.Access != "" || i.AntiCSRF != "" || i.Payload != nil {
			t.Errorf("%s: %s, %v", name, i.Rule, err)
		}
	}
	advance(t, store, 12*time.Second, e)
	if i, err := b.plain(sessions.Shown{Access: []string{proven.Access.Reveal()}}); err != nil || i.Rule != sessions.B8 {
		t.Errorf("12 s later: %s, %v", i.Rule, err)
	}
	advance(t, store, 9*time.Second, e) // 2·D, and what iat leaves of its second
	if i, err := b.plain(sessions.Shown{Access: []string{proven.Access.Reveal()}}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("21 s later: %s, %v", i.Rule, err)
	}
}

// R8 for a bound session: who has a token that was replaced long ago has no key. It gets nothing, and
// cannot sign the owner out either.
func TestOldTokenEndsNoBoundSession(t *testing.T) {
	cfg := boundConfig(t)
	cfg.Audit = func(context.Context, []sessions.AuditEvent) error { return nil }
	b := newBindable(t, cfg)
	b.must(b.bind())
	stolen := *b
	for range 2 { // grandparents
		advance(t, b.store, time.Minute, b.e)
		child, err := b.plain(sessions.Shown{})
		b.must(err)
		b.tokens = []string{child.Refresh.Reveal()}
		if i, err := b.plain(sessions.Shown{}); err != nil || i.Rule != sessions.R6 {
			t.Fatalf("%s, %v", i.Rule, err)
		}
	}
	_, err := b.prove()
	b.must(err)
	advance(t, b.store, time.Minute, b.e)
	row := b.row()
	for _, s := range []sessions.Shown{{}, {Again: true}, {Skipped: true}, {Again: true, Skipped: true}} {
		if i, err := stolen.plain(s); !errors.Is(err, sessions.ErrProve) && !errors.Is(err, sessions.ErrUnproven) || i.Access != "" {
			t.Errorf("%+v: %s, %v", s, i.Rule, err)
		}
	}
	if _, err := stolen.e.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: stolen.tokens, Client: home, WithData: true}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("by a backend: %v", err)
	}
	if b.row() != row {
		t.Error("the row changed")
	}
	// The device itself may have any token of the session, for a restored profile.
	if i, err := stolen.prove(); err != nil || own(t, i) == "" {
		t.Errorf("a proof with an old token: %v", err)
	}
}

// Without the offer, sign-ins are as before, and what is bound stays bound.
func TestBindingSwitchedOff(t *testing.T) {
	b, _ := newBound(t, boundConfig(t))
	off, log := start(t, b.store, lively(t))
	i := create(t, off)
	if i.Challenge != "" || i.AccessExpires.Sub(i.Session.CreatedAt) < 50*time.Minute {
		t.Error("a sign-in is offered to be bound")
	}
	b.e, b.log = off, log
	if _, err := b.plain(sessions.Shown{}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("a plain refresh: %v", err)
	}
	if i, err := b.prove(); err != nil || !b.verified(i).Bound {
		t.Errorf("a proof: %v", err)
	}
}

// racing runs do once, when a call of the store begins: between what the engine read and what it
// writes.
func (b *bindable) racing(call string, do func()) {
	var began atomic.Bool
	b.store.failing(func(at string, done bool) error {
		if at == call && !done && !began.Swap(true) {
			do()
		}
		return nil
	})
}

// The first proof comes between what a plain refresh, or a sign-out, reads and what it writes. Neither
// of them then mints or ends anything: the session is bound.
func TestFirstProofDuringAnother(t *testing.T) {
	for name, tc := range map[string]struct {
		call string
		do   func(*bindable) error
		want error
	}{
		"R4 in one step": {"Rotate", func(b *bindable) error { _, err := b.plain(sessions.Shown{}); return err }, sessions.ErrProve},
		"R4": {"Swap", func(b *bindable) error {
			b.store.reads = true
			_, err := b.plain(sessions.Shown{})
			return err
		}, sessions.ErrProve},
		"R6": {"Swap", func(b *bindable) error {
			child, err := b.plain(sessions.Shown{})
			b.must(err)
			b.tokens = []string{child.Refresh.Reveal()}
			b.racing("Swap", func() { _, err := b.prove(); b.must(err) })
			_, err = b.plain(sessions.Shown{})
			return err
		}, sessions.ErrProve},
		"R8": {"EndIf", func(b *bindable) error {
			old := b.tokens
			for range 2 {
				child, err := b.plain(sessions.Shown{})
				b.must(err)
				b.tokens = []string{child.Refresh.Reveal()}
				_, err = b.plain(sessions.Shown{})
				b.must(err)
				advance(b.TB.(*testing.T), b.store, time.Minute, b.e)
			}
			thief := *b
			thief.tokens = old
			_, err := thief.plain(sessions.Shown{})
			return err
		}, sessions.ErrProve},
		"sign-out": {"EndIf", func(b *bindable) error {
			return b.e.SignOut(b.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: b.tokens})
		}, sessions.ErrProve},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBindable(t, boundConfig(t))
			b.must(b.bind())
			advance(t, b.store, time.Minute, b.e)
			if name != "R6" {
				b.racing(tc.call, func() { _, err := b.prove(); b.must(err) })
			}
			if err := tc.do(b); !errors.Is(err, tc.want) {
				t.Errorf("%v", err)
			}
			if row := b.row(); !row.Bound() || row.NextNonce != (sessions.Nonce{}) {
				t.Errorf("the row is %+v", row)
			}
		})
	}
}

// A refresh issues a child between what the first proof reads and what it writes. The proof decides
// again, and the row has no child then; the client that got the child proves with it.
func TestRefreshDuringTheFirstProof(t *testing.T) {
	b := newBindable(t, boundConfig(t))
	b.must(b.bind())
	advance(t, b.store, time.Minute, b.e)
	p := b.prover()
	var child sessions.Issued
	b.racing("Swap", func() {
		var err error
		child, err = b.plain(sessions.Shown{})
		b.must(err)
	})
	if _, err := b.e.RefreshBound(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if row := b.row(); !row.Bound() || row.NextNonce != (sessions.Nonce{}) || row.Issues != 0 {
		t.Errorf("the row is %+v", row)
	}
	b.tokens = []string{child.Refresh.Reveal()}
	if _, err := b.plain(sessions.Shown{}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("the child alone: %v", err)
	}
	if _, err := b.prove(); err != nil {
		t.Errorf("the child, proven: %v", err)
	}
}

// Many keys at once for one session: one wins, and it alone proves.
func TestRacingBinds(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, boundConfig(t))
	for range 10 {
		b := signedIn(t, store, e, log)
		var won atomic.Int32
		var racers sync.WaitGroup
		devices := make([]*bindable, 4)
		bound := make([]bool, len(devices))
		for n := range devices {
			mine := *b
			mine.device = sessionstest.NewDevice(t)
			devices[n] = &mine
			racers.Go(func() {
				err := mine.bind()
				bound[n] = err == nil
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, sessions.ErrBindRefused) {
					t.Error(err)
				}
			})
		}
		racers.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d keys were registered", won.Load())
		}
		winner := devices[slices.Index(bound, true)].id
		for n, d := range devices {
			d.id = winner
			if _, err := d.prove(); (err == nil) != bound[n] {
				t.Errorf("registered %v, proves: %v", bound[n], err)
			}
		}
	}
}

// B12: a bound session ends by a good access token, and not by the other cookies.
func TestSignOutOfABoundSession(t *testing.T) {
	store := newWatched()
	cfg := boundConfig(t)
	e, log := start(t, store, cfg)
	out := func(refresh, access []string, again bool) error {
		return e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: refresh, Access: access, Again: again})
	}
	for name, tc := range map[string]struct {
		do    func(b *bindable, proven sessions.Issued) error
		want  error
		alive bool
	}{
		"the refresh token": {func(b *bindable, _ sessions.Issued) error { return out(b.tokens, nil, false) }, sessions.ErrProve, true},
		"the refresh token, by the call that knows no device": {func(b *bindable, _ sessions.Issued) error {
			return e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: b.tokens})
		}, sessions.ErrProve, true},
		"again": {func(b *bindable, _ sessions.Issued) error { return out(b.tokens, nil, true) }, nil, true},
		"the access token of a proof": {func(_ *bindable, i sessions.Issued) error {
			return out(nil, []string{i.Access.Reveal()}, false)
		}, nil, false},
		"both": {func(b *bindable, i sessions.Issued) error { return out(b.tokens, []string{i.Access.Reveal()}, false) }, nil, false},
		"an access token of before the binding": {func(b *bindable, _ sessions.Issued) error {
			return out(b.tokens, []string{b.first.Access.Reveal()}, false)
		}, nil, false},
		"an expired access token": {func(b *bindable, i sessions.Issued) error {
			advance(t, store, 11*time.Minute, e)
			return out(b.tokens, []string{i.Access.Reveal()}, false)
		}, sessions.ErrProve, true},
		"an expired access token alone": {func(_ *bindable, i sessions.Issued) error {
			advance(t, store, 11*time.Minute, e)
			return out(nil, []string{i.Access.Reveal()}, true)
		}, sessions.DenyExpired, true},
		"an expired access token, again": {func(b *bindable, i sessions.Issued) error {
			advance(t, store, 11*time.Minute, e)
			return out(b.tokens, []string{i.Access.Reveal()}, true)
		}, nil, true},
		"another session's access token": {func(b *bindable, _ sessions.Issued) error {
			other := signedIn(t, store, e, log)
			if err := out(b.tokens, []string{other.first.Access.Reveal()}, true); err != nil {
				return err
			}
			if _, err := e.Get(t.Context(), other.h); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("the other session: %v", err)
			}
			return nil
		}, nil, true},
		"beside a session that is not bound": {func(b *bindable, _ sessions.Issued) error {
			other := signedIn(t, store, e, log)
			if err := out(append(slices.Clone(b.tokens), other.tokens...), nil, true); err != nil {
				return err
			}
			if _, err := e.Get(t.Context(), other.h); !errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("the other session: %v", err)
			}
			return nil
		}, nil, true},
		"a garbled access token": {func(b *bindable, i sessions.Issued) error {
			return out(b.tokens, []string{i.Access.Reveal() + "x"}, false)
		}, sessions.ErrProve, true},
		"too many tokens": {func(b *bindable, _ sessions.Issued) error { return out(slices.Repeat(b.tokens, 5), nil, false) }, nil, true},
	} {
		b := signedIn(t, store, e, log)
		proven := b.confirmed()
		if err := tc.do(b, proven); !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := e.Get(t.Context(), b.h); (err == nil) != tc.alive {
			t.Errorf("%s: then %v", name, err)
		}
	}

	b := signedIn(t, store, e, log)
	b.must(b.bind())
	b.must(out(b.tokens, nil, false))
	if _, err := e.Get(t.Context(), b.h); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("a key that was not proven: %v", err)
	}
	b.must(out(b.tokens, nil, false)) // idempotent
	bound := signedIn(t, store, e, log)
	bound.confirmed()
	advance(t, store, cfg.SlidingLife, e)
	b.must(out(bound.tokens, nil, false)) // no device session waits for it
}

// What a client without a proof does is counted each time, and written once in an hour for a session:
// a thief does not fill the database.
func TestReportsOfABoundSession(t *testing.T) {
	store := newWatched()
	cfg := boundConfig(t)
	// The engine's own delivery, which begins when it starts, takes no event away from the test.
	cfg.Audit = func(context.Context, []sessions.AuditEvent) error { return errors.New("takes nothing") }
	cfg.AuditPoll = time.Hour
	e, log := start(t, store, cfg)
	if _, err := log.await(t.Context(), sessions.EventAuditFailed); err != nil { // only one delivers at a time
		t.Fatal(err)
	}
	one, two := signedIn(t, store, e, log), signedIn(t, store, e, log)
	one.confirmed()
	two.confirmed()
	tries := func(b *bindable, n int) int {
		return b.asked(func() {
			for range n {
				_, _ = b.plain(sessions.Shown{Again: true})
			}
		})["Report"]
	}
	store.failing(func(call string, _ bool) error {
		if call == "Report" {
			return errors.New("no")
		}
		return nil
	})
	if n := tries(one, 2); n != 2 || one.counted(sessions.EventReportFailed) != 2 {
		t.Errorf("of a report that failed, %d were tried", n)
	}
	store.failing(nil)
	if n := tries(one, 10); n != 1 {
		t.Errorf("%d reports", n)
	}
	if n := tries(two, 10); n != 1 {
		t.Errorf("%d reports of another session", n)
	}
	if n := one.asked(func() {
		one.must(e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: one.tokens, Again: true}))
	})["Report"]; n != 0 {
		t.Errorf("%d reports of a sign-out", n)
	}
	if n := one.counted(sessions.EventUnproven); n != 23 {
		t.Errorf("%d were counted", n)
	}
	waits, err := one.plain(sessions.Shown{Again: true})
	if !errors.Is(err, sessions.ErrUnproven) {
		t.Fatal(err)
	}
	advance(t, store, 11*time.Minute, e)
	lost := sessions.Shown{Again: true, Waits: []string{waits.Waits.Reveal()}}
	if n := one.asked(func() { _, _ = one.plain(lost); _, _ = one.plain(lost) })["Report"]; n != 1 {
		t.Errorf("%d reports of a lost key", n)
	}
	var got []sessions.AuditEvent
	if _, err := store.DeliverAudit(t.Context(), 100, func(events []sessions.AuditEvent) error {
		for _, e := range events {
			if e.Handle == one.h {
				e.ID, e.At = 0, time.Time{}
				got = append(got, e)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	event := func(kind sessions.AuditKind, rule sessions.Rule, actor string) sessions.AuditEvent {
		return sessions.AuditEvent{Kind: kind, Handle: one.h, UserID: "alice", Rule: rule, Actor: actor}
	}
	if want := []sessions.AuditEvent{
		event(sessions.AuditCreated, "", ""), event(sessions.AuditKeyRegistered, sessions.B1, "refresh"), event(sessions.AuditBound, sessions.B4, "refresh"),
		event(sessions.AuditUnproven, sessions.B10, "refresh"), event(sessions.AuditKeyLost, sessions.B10, "refresh"),
	}; !slices.Equal(got, want) {
		t.Errorf("events %+v, want %+v", got, want)
	}
}

// Without an audit output nothing is written of it.
func TestNoReportWithoutAudit(t *testing.T) {
	b, _ := newBound(t, boundConfig(t))
	if calls := b.asked(func() { _, _ = b.plain(sessions.Shown{Again: true}) }); calls["Report"] != 0 || b.counted(sessions.EventUnproven) != 1 {
		t.Errorf("asks %v", calls)
	}
}

// A failing store is no verdict about the device, and asking again works (I7).
func TestBindingWithAFailingStore(t *testing.T) {
	b := newBindable(t, boundConfig(t))
	fails := func(call string, after bool) {
		b.store.failing(func(at string, done bool) error {
			if at == call && done == after {
				return errors.New("the store failed")
			}
			return nil
		})
	}
	for _, call := range []string{"Get", "Swap"} {
		for _, after := range []bool{false, true} {
			fails(call, after)
			if err := b.bind(); !errors.Is(err, sessions.ErrUnavailable) && call == "Get" {
				t.Errorf("bind, %s, after %v: %v", call, after, err)
			}
		}
	}
	b.store.failing(nil)
	b.must(b.bind())
	for _, call := range []string{"Get", "Swap"} {
		p := b.prover()
		fails(call, call == "Swap")
		if i, err := b.e.RefreshBound(t.Context(), p); !errors.Is(err, sessions.ErrUnavailable) || i.Access != "" {
			t.Errorf("prove, %s: %v", call, err)
		}
	}
	fails("EndIf", false)
	if err := b.e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: b.tokens}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("sign-out: %v", err) // the first proof was written
	}
	b.store.failing(nil)
	if _, err := b.prove(); err != nil {
		t.Errorf("then: %v", err)
	}
	off, err := sessions.New(newWatched(), boundConfig(t))
	b.must(err)
	_, bind := off.Bind(t.Context(), sessions.Prover{})
	_, prove := off.RefreshBound(t.Context(), sessions.Prover{})
	if !errors.Is(bind, sessions.ErrUnavailable) || !errors.Is(prove, sessions.ErrUnavailable) {
		t.Errorf("before the first reading: %v, %v", bind, prove)
	}
}

// The engine's reading of bnd is the signed payload's alone: what a proof brings has it, and nothing
// else of the session.
func TestBoundClaim(t *testing.T) {
	b := newBindable(t, boundConfig(t))
	has := func(i sessions.Issued) bool {
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(i.Access.Reveal(), ".")[1])
		b.must(err)
		return strings.Contains(string(payload), `,"bnd":1`)
	}
	b.must(b.bind())
	plain, err := b.plain(sessions.Shown{})
	b.must(err)
	proven, err := b.prove()
	b.must(err)
	if has(b.first) || has(plain) || !has(proven) {
		t.Errorf("sign-in %v, plain refresh %v, proof %v", has(b.first), has(plain), has(proven))
	}
}
