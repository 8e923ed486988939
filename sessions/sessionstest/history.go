package sessionstest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// A history is what clients did at some replicas over one store, at once, and what they were told.
// CheckHistory says whether docs/protocol.md allows it: there must be an order of what happened in
// the store, one step at a time, each between its call and its return, in which every answer is
// right. The protocol leaves some things to chance: when a promotion arrives, when a replica polls.
// The specification leaves these open. What depends on time is checked against what the times of
// call and return can prove. So no history is refused for being slow.

// Deed is what a client did.
type Deed string

// The deeds. Polled is a deed of a replica itself: a poll of the feed that began at Call or later
// and had finished at Return.
const (
	Created   Deed = "created"
	Refreshed Deed = "refreshed"
	Checked   Deed = "checked"
	Changed   Deed = "changed" // the claims
	Ended     Deed = "ended"
	SignedOut Deed = "signed out"
	Polled    Deed = "polled"
	// Registered and Proved are of a device's key.
	Registered Deed = "registered a key"
	Proved     Deed = "proved"
)

// Told is what the client was told.
type Told string

// What clients are told. Unknown is any failure: the change may have happened, or may still happen.
const (
	Child        Told = "a child"     // Refreshed: R4, R5
	Kept         Told = "keep"        // Refreshed: R3, R6, R7
	Superseded   Told = "superseded"  // Refreshed
	ToldEnded    Told = "ended"       // Refreshed
	Theft        Told = "theft"       // Refreshed: R8
	Allowed      Told = "allowed"     // Checked
	TryRefresh   Told = "try refresh" // Checked: V3
	Unauthorised Told = "unauthorised"
	Done         Told = "done"
	NotFound     Told = "not found"
	Unknown      Told = "unknown"
	Proven       Told = "proven"      // Proved: B4
	NoDevice     Told = "no device"   // Registered: B1; Proved: B6
	AsBefore     Told = "as before"   // Refreshed: B8
	ProveFirst   Told = "prove first" // Refreshed: B9, B10; SignedOut: B12
)

// Op is one operation of a history. Its times are those of a clock that runs, and was moved, as the
// store's.
type Op struct {
	Session      string
	Replica      int
	Call, Return time.Duration
	Did          Deed
	Told         Told
	// Token is the hash of the refresh token that was presented, Client the client that presented
	// it.
	Token, Client string
	// Access is the access token that was checked or returned.
	Access AccessPass
	// Claims are the claims that Changed stores.
	Claims string
	// Key names the key that was registered or proven. Asked is when its challenge was issued, at the
	// earliest.
	Key   string
	Asked time.Duration
	// Honest, of Created: only honest clients have the session's tokens.
	Honest bool
}

// AccessPass is what an access token says of its lineage and claims.
type AccessPass struct {
	Own, Parent string // token hashes
	Version     int64
	Claims      string // the claim "n"
	Bound       bool   // made for a proof
	Life        time.Duration
}

// ReadAccess reads an access token without a key, as any client can.
func ReadAccess(token string) (AccessPass, error) {
	var payload struct {
		Gate struct {
			Own     string `json:"own"`
			Parent  string `json:"parent"`
			Version int64  `json:"ver"`
			Bound   int    `json:"bnd"`
		} `json:"sg"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp"`
		Claims   string `json:"n"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return AccessPass{}, fmt.Errorf("an access token has 3 parts, this %d", len(parts))
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return AccessPass{}, err
	}
	if err := json.Unmarshal(text, &payload); err != nil {
		return AccessPass{}, err
	}
	return AccessPass{
		payload.Gate.Own, payload.Gate.Parent, payload.Gate.Version, payload.Claims,
		payload.Gate.Bound == 1, time.Duration(payload.Expires-payload.IssuedAt) * time.Second,
	}, nil
}

// The durations of the protocol, as [sessions.Defaults] has them, and what two
// clocks may differ by during a test.
const (
	historyD     = 10 * time.Second
	historyG     = historyD
	historyW     = historyD * 5 / 2
	historyAbuse = 20
	historySlack = time.Second
	// Of the sessions that are bound to a device.
	historyChallenge = time.Minute
	historyBoundLife = 10 * time.Minute
)

// historyPatience bounds the search for an order, for one session.
const historyPatience = 20 * time.Second

// ErrUndecided says that no session's history is wrong, as far as is known, but the search for an
// order was given up for one of them: too much happened at once.
var ErrUndecided = errors.New("undecided")

// CheckHistory returns why a history breaks the protocol, or nil.
func CheckHistory(ops []Op) error {
	bySession := map[string][]Op{}
	var polls []Op
	var last time.Duration
	for _, op := range ops {
		last = max(last, op.Return)
		if op.Did == Polled {
			polls = append(polls, op)
		} else {
			bySession[op.Session] = append(bySession[op.Session], op)
		}
	}
	var undecided error
	for _, own := range bySession {
		h, err := newHistory(own, polls, last)
		if err != nil {
			return err
		}
		for _, spec := range []struct {
			name  string
			model porcupine.NondeterministicModel
			part  func(*step) bool
		}{
			{"the claims", h.claims(), (*step).ofClaims},
			{"the token chain and its end", h.chain(), func(*step) bool { return true }},
		} {
			switch err := h.check(spec.name, spec.model.ToModel(), spec.part); {
			case errors.Is(err, ErrUndecided):
				undecided = err
			case err != nil:
				return err
			}
		}
	}
	return undecided
}

// history is that of one session.
type history struct {
	created Op
	steps   []*step
	names   map[string]token
	parents []token         // by token
	born    []time.Duration // by token: its earliest issue
}

// token is a refresh token by its number in the history: 1 is the token of the sign-in, 0 is none.
// unseen is a child whose answer reached no client.
type token int8

const unseen token = -1

// tokens is a set of them.
type tokens uint64

func (s tokens) has(t token) bool       { return t > 0 && s&(1<<t) != 0 }
func (s tokens) with(t token) tokens    { return s | 1<<t }
func (h *history) of(t token) token     { return h.parents[t] }
func (h *history) token(m string) token { return h.names[m] }

// step is an operation, or a moment at which a replica is known to have heard something.
type step struct {
	Op

	client     uint8
	key        uint8
	heardEnd   bool
	heardClaim int64
}

func (s *step) ofClaims() bool {
	return s.Did == Changed && s.Told != NotFound || s.Told == Child || s.Told == Kept || s.Told == Proven
}

// heard is a step of a replica that has heard something.
const heard Deed = "heard"

func newHistory(ops, polls []Op, last time.Duration) (*history, error) {
	h := &history{names: map[string]token{"": 0}, parents: []token{0}, born: []time.Duration{0}}
	clients, keys := map[string]uint8{"": 0}, map[string]uint8{"": 0}
	name := func(hash, parent string, at time.Duration) error {
		if t, known := h.names[hash]; known {
			h.born[t] = min(h.born[t], at)
			return nil
		}
		if len(h.parents) >= 64 {
			return fmt.Errorf("session %s has more than 63 tokens", ops[0].Session)
		}
		h.names[hash] = token(len(h.parents))
		h.parents, h.born = append(h.parents, h.names[parent]), append(h.born, at)
		return nil
	}
	for _, op := range ops {
		if op.Did == Created {
			h.created = op
			if err := name(op.Access.Own, "", op.Call); err != nil {
				return nil, err
			}
		}
	}
	// A child's parent was issued before it: in the order of returns, parents
	// come first.
	byReturn := sorted(ops, func(op Op) time.Duration { return op.Return })
	for _, op := range byReturn {
		if op.Told != Child {
			continue
		}
		if err := name(op.Access.Own, op.Access.Parent, op.Call); err != nil {
			return nil, err
		}
	}
	for _, op := range ops {
		if op.Did == Created {
			continue
		}
		if op.Told == Unknown {
			op.Return = last
		}
		if _, known := clients[op.Client]; !known {
			clients[op.Client] = uint8(len(clients))
		}
		if _, known := keys[op.Key]; !known {
			keys[op.Key] = uint8(len(keys))
		}
		h.steps = append(h.steps, &step{Op: op, client: clients[op.Client], key: keys[op.Key]})
	}
	h.hear(byReturn, polls)
	return h, nil
}

// hear adds what replicas are known to have heard, and when. The replica that ended the session or
// changed its claims knows at once. Another replica knows once a poll has finished that began after
// that operation had returned.
func (h *history) hear(ops, polls []Op) {
	// done is what had returned before a moment.
	done := func(before time.Duration) (end bool, version int64) {
		version = 1
		for _, op := range ops {
			switch {
			case op.Return >= before:
			case op.Did == Changed && op.Told == Done:
				version++
			case op.Told == Done && (op.Did == Ended || op.Did == SignedOut), op.Told == Theft:
				end = true
			}
		}
		return end, version
	}
	add := func(replica int, at time.Duration, end bool, version int64) {
		h.steps = append(h.steps, &step{
			Op:       Op{Session: h.created.Session, Replica: replica, Call: at, Return: at, Did: heard},
			heardEnd: end, heardClaim: version,
		})
	}
	for _, op := range ops {
		switch {
		case op.Did == Changed && op.Told == Done:
			_, version := done(op.Call)
			add(op.Replica, op.Return, false, version+1)
		case op.Told == Done && (op.Did == Ended || op.Did == SignedOut), op.Told == Theft:
			add(op.Replica, op.Return, true, 0)
		}
	}
	type news struct {
		end     bool
		version int64
	}
	told := [replicasMax]news{}
	for i := range told {
		told[i] = news{false, 1}
	}
	for _, poll := range sorted(polls, func(op Op) time.Duration { return op.Call }) {
		end, version := done(poll.Call)
		if n := (news{end, version}); n != told[poll.Replica] {
			told[poll.Replica] = n
			add(poll.Replica, poll.Return, end, version)
		}
	}
}

// replicasMax is how many replicas a history may have.
const replicasMax = 4

// span is when something happened, at the earliest and at the latest.
type span struct{ from, to time.Duration }

// mayBeWithin and mayBeBeyond say whether at some moment of the step, less than d
// may have passed since, and whether d or more may.
func (s *step) mayBeWithin(d time.Duration, since span) bool {
	return s.Call-since.to < d+historySlack
}

func (s *step) mayBeBeyond(d time.Duration, since span) bool {
	return s.Return-since.from >= d-historySlack
}

func (s *step) now() span { return span{s.Call, s.Return} }

// chainState is a session as far as its token chain and its end go, and what each replica has heard
// of it.
type chainState struct {
	end   Deed // "": it lives
	ended span

	current, previous token
	client            uint8 // the client that made current current; 0: not recorded
	promoted          span

	child       token
	childClient uint8
	issued      span
	issues      int

	generated tokens // children that were ever issued
	pending   tokens // children that were used: each may be promoted at any time, more than once
	version   int64

	key    uint8 // of the device; 0: none
	bound  bool  // the key was proven
	proven span  // for the last time

	heard [replicasMax]struct {
		end     bool
		version int64
		lost    tokens
	}
}

// chain is the specification of rotation, verification and ending.
func (h *history) chain() porcupine.NondeterministicModel {
	root, seed := h.token(h.created.Access.Own), maphash.MakeSeed()
	return porcupine.NondeterministicModel{
		Init: func() []any {
			return []any{chainState{
				current: root, promoted: span{h.created.Call, h.created.Return}, version: 1, generated: tokens(0).with(root),
			}}
		},
		Step: func(state, input, _ any) []any {
			s := input.(*step)
			var next []any
			for _, before := range h.promotions(state.(chainState), s) {
				for _, after := range h.act(before, s) {
					next = append(next, after)
				}
			}
			return next
		},
		Hash: func(state any) uint64 { return maphash.Comparable(seed, state.(chainState)) },
	}
}

// promotions are the states that promotions under way may have made, the state
// itself among them (V4: they may be late or dropped).
func (h *history) promotions(state chainState, s *step) []chainState {
	states := []chainState{state}
	for i := 0; i < len(states); i++ {
		from := states[i]
		if from.end != "" {
			continue
		}
		for t := range token(len(h.parents)) {
			if from.pending.has(t) && h.of(t) == from.current {
				states = append(states, from.promote(t, from.childClient, span{h.born[t], s.Return}))
			}
		}
	}
	return states
}

func (l chainState) promote(t token, client uint8, at span) chainState {
	l.previous, l.current, l.client, l.promoted = l.current, t, client, at
	l.child, l.childClient, l.issued, l.issues = 0, 0, span{}, 0
	return l
}

func (l chainState) endBy(d Deed, at span) chainState {
	l.end, l.ended = d, at
	return l
}

// act gives the states after a step, none where its answer is wrong.
func (h *history) act(l chainState, s *step) []chainState {
	switch s.Did {
	case Refreshed:
		return h.refresh(l, s)
	case Registered:
		return h.register(l, s)
	case Proved:
		return h.prove(l, s)
	case Checked:
		return h.verify(l, s)
	case Changed:
		changed := l
		changed.version++
		return alternatives(l, s, l.end == "", changed)
	case Ended, SignedOut:
		if s.Did == SignedOut && s.Told == Done && l.end != "" {
			return []chainState{l} // it is idempotent
		}
		if byRefreshToken := s.Did == SignedOut && s.Access.Own == ""; byRefreshToken && l.bound && l.end == "" { // B12
			if s.Told == ProveFirst || s.Told == Unknown {
				return []chainState{l}
			}
			return nil
		}
		return alternatives(l, s, l.end == "", l.endBy(s.Did, s.now()))
	case heard:
		if s.heardEnd && l.end == "" || s.heardClaim > l.version {
			return nil // it heard of what has not happened yet
		}
		at := &l.heard[s.Replica]
		at.end, at.version = at.end || s.heardEnd, max(at.version, s.heardClaim)
		return []chainState{l}
	default:
		return nil
	}
}

// alternatives are the states after a deed that is done if it can be, and otherwise finds nothing.
func alternatives(l chainState, s *step, can bool, done chainState) []chainState {
	switch {
	case s.Told == Unknown && can:
		return []chainState{l, done}
	case s.Told == Unknown, s.Told == NotFound && !can:
		return []chainState{l}
	case s.Told == Done && can:
		return []chainState{done}
	default:
		return nil
	}
}

// verify is V2 to V5.
func (h *history) verify(l chainState, s *step) []chainState {
	own := h.token(s.Access.Own)
	at := &l.heard[s.Replica] // of the copy that l is
	switch s.Told {
	case Allowed:
		if at.end || s.Access.Version < at.version || at.lost.has(own) {
			return nil
		}
		if s.Access.Parent != "" {
			l.pending = l.pending.with(own)
		}
		return []chainState{l}
	case Unauthorised:
		if l.end == "" {
			return nil
		}
		at.end = true
		return []chainState{l}
	case TryRefresh:
		var next []chainState
		if at.end {
			return nil
		}
		if l.version > s.Access.Version {
			hears := l
			hears.heard[s.Replica].version = max(at.version, s.Access.Version+1)
			next = append(next, hears)
		}
		if l.pending.has(own) && own != l.current && own != l.previous && h.of(own) != l.current {
			hears := l
			hears.heard[s.Replica].lost = at.lost.with(own)
			next = append(next, hears)
		}
		return next
	default:
		return nil
	}
}

// refresh is R2 to R8. If the time does not prove which of two rules applied, both count.
func (h *history) refresh(l chainState, s *step) []chainState {
	t := h.token(s.Token)
	var next []chainState
	may := func(told Told, after chainState) {
		right := s.Told == told || s.Told == Unknown
		if told == Kept && s.Told == Kept {
			right = h.token(s.Access.Own) == after.current && s.Access.Parent == "" // its access token is current's
		}
		if right {
			next = append(next, after)
		}
	}
	switch {
	case t == 0:
		return nil // it was never issued
	case l.end != "": // R2
		gone(l, s, may)
	case l.bound: // B8 to B10
		may(ProveFirst, l)
		if s.mayBeWithin(2*historyD, l.proven) {
			may(AsBefore, l)
		}
	case l.key != 0 && s.Access.Life > historyBoundLife:
		return nil // it would outlive the binding
	case t == l.current:
		if s.mayBeWithin(historyG, l.promoted) { // R3
			if l.client == 0 || l.client == s.client {
				may(Kept, l)
			} else {
				may(Superseded, l)
			}
		}
		if s.mayBeBeyond(historyG, l.promoted) {
			h.issueChild(l, s, may)
		}
	case h.of(t) == l.current: // R6
		may(Kept, l.promote(t, s.client, s.now()))
	default:
		if t == l.previous && s.mayBeWithin(historyG, l.promoted) { // R7
			if l.client == s.client {
				may(Kept, l)
			} else {
				may(Superseded, l)
			}
		}
		if (t != l.previous || s.mayBeBeyond(historyG, l.promoted)) && !h.created.Honest { // R8, and I2
			may(Theft, l.endBy("stolen", s.now()))
			may(ToldEnded, l.endBy("rolled back", s.now()))
		}
	}
	return next
}

// gone is R2 and B5: what is told of a session that ended.
func gone(l chainState, s *step, may func(Told, chainState)) {
	if l.end == SignedOut && s.mayBeWithin(2*historyD, l.ended) {
		may(Superseded, l)
	}
	if l.end != SignedOut || s.mayBeBeyond(2*historyD, l.ended) {
		may(ToldEnded, l)
	}
}

// register is B1. A key that is there is never replaced.
func (h *history) register(l chainState, s *step) []chainState {
	t, created := h.token(s.Token), span{h.created.Call, h.created.Return}
	inChain := t != 0 && (t == l.current || t == l.previous || h.of(t) == l.current)
	good := l.end == "" && (l.key == s.key || l.key == 0 && inChain) && s.mayBeWithin(historyChallenge, created)
	after := l
	after.key = s.key
	var next []chainState
	if good && (s.Told == Done || s.Told == Unknown) {
		next = append(next, after)
	}
	if !good && s.Told == NoDevice || s.Told == Unknown || s.Told == NoDevice && s.mayBeBeyond(historyChallenge, created) {
		next = append(next, l)
	}
	return next
}

// prove is B4 to B6, for a challenge that is young.
func (h *history) prove(l chainState, s *step) []chainState {
	var next []chainState
	may := func(told Told, after chainState) {
		if s.Told == told || s.Told == Unknown {
			next = append(next, after)
		}
	}
	switch {
	case h.token(s.Token) == 0:
	case l.key != 0 && l.key != s.key: // B6, whatever has become of the session
		may(NoDevice, l)
	case l.end != "": // B5
		gone(l, s, may)
		if l.key == 0 { // its registration was rolled back
			may(NoDevice, l)
		}
	case l.key == 0: // B6
		may(NoDevice, l)
	case s.Told == Proven && (h.token(s.Access.Own) != l.current || s.Access.Parent != "" || !s.Access.Bound || s.Access.Life > historyBoundLife),
		s.Told == Proven && s.Call-s.Asked > historyChallenge+historySlack:
	default: // B4
		after := l
		if !l.bound {
			after.child, after.childClient, after.issued, after.issues = 0, 0, span{}, 0
		}
		after.bound, after.proven = true, s.now()
		may(Proven, after)
		if s.Told == Unknown {
			next = append(next, l)
		}
	}
	return next
}

// issueChild is R4 and R5, for the current token.
func (h *history) issueChild(l chainState, s *step, may func(Told, chainState)) {
	own := h.token(s.Access.Own)
	// child issues a child: the one that was issued before, or a new one.
	child := func(l chainState, which token) {
		fresh := which == 0 || which == unseen
		switch {
		case s.Told == Unknown:
			if fresh {
				l.child = unseen
			}
		case s.Told == Child && (h.of(own) != l.current || h.token(s.Access.Parent) != l.current || fresh && l.generated.has(own) || !fresh && which != own):
			return
		default:
			l.child, l.generated = own, l.generated.with(own)
		}
		may(Child, l)
	}
	recorded := func(l chainState, which token) {
		if l.issues >= historyAbuse {
			may(ToldEnded, l.endBy("refresh abuse", s.now()))
			return
		}
		l.issued, l.issues = s.now(), l.issues+1
		child(l, which)
	}
	if l.child == 0 || s.mayBeBeyond(historyW, l.issued) { // R4
		generated := l
		generated.childClient = s.client
		recorded(generated, 0)
	}
	if l.child != 0 && s.mayBeWithin(historyW, l.issued) { // R5
		if l.childClient != s.client {
			may(Superseded, l)
			return
		}
		if s.mayBeWithin(historyD/2, l.issued) {
			child(l, l.child)
		}
		if s.mayBeBeyond(historyD/2, l.issued) {
			recorded(l, l.child)
		}
	}
}

// claimsState is the claims of a session: a register with a version that rises.
type claimsState struct {
	version int64
	claims  string
}

// claims is the specification of PATCH: a refresh reads the register, at some
// moment between its call and its return.
func (h *history) claims() porcupine.NondeterministicModel {
	return porcupine.NondeterministicModel{
		Init: func() []any { return []any{claimsState{1, h.created.Access.Claims}} },
		Step: func(state, input, _ any) []any {
			c, s := state.(claimsState), input.(*step)
			switch {
			case s.Did == Changed && s.Told == Unknown:
				return []any{c, claimsState{c.version + 1, s.Claims}}
			case s.Did == Changed:
				return []any{claimsState{c.version + 1, s.Claims}}
			case s.Access.Version == c.version && s.Access.Claims == c.claims:
				return []any{c}
			default:
				return nil
			}
		},
	}
}

func (h *history) check(name string, model porcupine.Model, part func(*step) bool) error {
	var ops []porcupine.Operation
	var steps []*step
	for _, s := range h.steps {
		if part(s) {
			steps = append(steps, s)
			ops = append(ops, porcupine.Operation{Input: s, Call: int64(s.Call), Return: int64(s.Return)})
		}
	}
	result, info := porcupine.CheckOperationsVerbose(model, ops, historyPatience)
	switch result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("session %s, %s: %w after %s", h.created.Session, name, ErrUndecided, historyPatience)
	case porcupine.Illegal:
	}
	placed := map[*step]bool{}
	for _, partial := range info.PartialLinearizations()[0] {
		if len(partial) > len(placed) {
			clear(placed)
			for _, id := range partial {
				placed[steps[id]] = true
			}
		}
	}
	var story strings.Builder
	for _, s := range sorted(steps, func(s *step) time.Duration { return s.Call }) {
		sign := "   "
		if !placed[s] {
			sign = " ? "
		}
		story.WriteString(sign + h.tell(s) + "\n")
	}
	return fmt.Errorf("session %s, %s: no order of these steps is right; the longest right order lacks the steps with a question mark:\n%s", h.created.Session, name, story.String())
}

// tell describes a step in one line. Tokens have numbers, in the order of their birth.
func (h *history) tell(s *step) string {
	line := fmt.Sprintf("%12s to %12s  replica %d  %s", s.Call.Round(time.Microsecond), s.Return.Round(time.Microsecond), s.Replica, s.Did)
	switch s.Did {
	case Refreshed:
		line += fmt.Sprintf(" t%d by %s", h.token(s.Token), s.Client)
	case heard:
		return line + fmt.Sprintf(" end: %v, claims' version: %d", s.heardEnd, s.heardClaim)
	case Registered, Proved:
		line += fmt.Sprintf(" %s with t%d", s.Key, h.token(s.Token))
	case Changed:
		line += " to " + s.Claims
	default:
	}
	if s.Access.Own != "" {
		line += fmt.Sprintf(" (access token of t%d, parent t%d, version %d %s)", h.token(s.Access.Own), h.token(s.Access.Parent), s.Access.Version, s.Access.Claims)
	}
	return line + ": " + string(s.Told)
}
