package sessionstest

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
)

// ClockedStore is a store whose clock a test can move.
type ClockedStore interface {
	sessions.Store

	// Advance moves the store's clock forward.
	Advance(d time.Duration)
}

// Scenarios plays the sequences that broke earlier designs, with engines over a real store. open
// gives a fresh, empty store for each. A client here is what a browser is: it holds one refresh and
// one access token, and takes what a late answer brings. Package sessions plays the same sequences
// on the decision alone, at the exact boundaries.
func Scenarios(t *testing.T, open func(t *testing.T) ClockedStore) {
	t.Helper()
	for name, play := range map[string]func(*scene){
		"burst":                 burst,
		"late answer":           lateAnswer,
		"late straggler":        lateStraggler,
		"new access token only": newAccessTokenOnly,
		"two networks":          twoNetworks,
		"hop":                   hop,
		"lost promotions":       lostPromotions,
		"late ancestor":         lateAncestor,
		"idle":                  idle,
		"thief first":           thiefFirst,
		"victim first":          victimFirst,
		"sibling":               sibling,
		"idle session":          idleSession,
		"poll":                  poll,
		"lost write":            lostWrite,
		"restore":               restore,
		"out and in":            outAndIn,
		"rollout":               rollout,
		"other clock":           otherClock,
		"clock set back":        clockSetBack,
		"life of keys":          lifeOfKeys,
		"keys rewrapped":        keysRewrapped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, open)
			s.advance(time.Hour) // the first token's grace has passed
			play(s)
		})
	}
	for name, play := range map[string]func(*scene){
		"bound: copied before":     copiedBefore,
		"bound: copied after":      copiedAfter,
		"bound: lost answers":      boundAnswersLost,
		"bound: second sign-in":    boundSecondSignIn,
		"bound: out, then a proof": outThenProof,
		"bound: outage":            boundOutage,
		"bound: tabs":              boundTabs,
		"bound: lost key":          lostKey,
		"bound: child of before":   childOfBefore,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, open)
			s.device = NewDevice(t)
			play(s)
		})
	}
}

func newScene(t *testing.T, open func(t *testing.T) ClockedStore) *scene {
	t.Helper()
	s := &scene{T: t, open: open, store: open(t), identifiers: map[sessions.Handle]sessions.Token{}}
	s.one, s.two = s.replica(time.Now), s.replica(time.Now)
	s.handle, s.client = s.signIn()
	return s
}

// G and W, as [sessions.Defaults] makes them of its D, and a moment that is longer than these tests
// take between two steps.
const (
	grace  = 10 * time.Second
	repeat = 25 * time.Second
	moment = 3 * time.Second
)

// Two networks of an honest client, and one of an attacker.
var fromV, fromW, fromX = sessions.Client{'v'}, sessions.Client{'w'}, sessions.Client{'x'}

// scene is one session of one client on one store, behind two replicas.
type scene struct {
	*testing.T

	open     func(t *testing.T) ClockedStore
	store    ClockedStore
	one, two *replica
	replicas []*replica
	handle   sessions.Handle
	client   holder
	device   *Device
	// identifiers are those of the device sessions. No cookie has them.
	identifiers map[sessions.Handle]sessions.Token
}

// holder is what a browser, or an attacker, holds. waits is the cookie of a client that was sent to
// prove; offer came with the sign-in, and is no cookie.
type holder struct{ refresh, access, waits, offer sessions.Token }

// take stores the cookies of an answer.
func (h *holder) take(i sessions.Issued) {
	if i.Refresh != "" {
		h.refresh = i.Refresh
	}
	h.access = i.Access
}

// replica is an engine, and its way to the store.
type replica struct {
	*sessions.Engine

	link *link
}

// link is the connection to a store, with faults.
type link struct {
	sessions.Store

	mu      sync.Mutex
	changed *sync.Cond
	polls   int  // that began
	more    bool // the one under way has more pages
	writes  int  // of rows, by refreshes
	told    int  // promotions that left the engine
	hold    bool
	held    []sessions.Promotion
	cut     bool // polls fail
	down    bool // rows are not read or written
	looked  int  // kinds of key whose retired keys were searched for
}

func (l *link) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	l.mu.Lock()
	if !l.more {
		l.polls++
		l.changed.Broadcast()
	}
	cut := l.cut
	l.more = l.more && !cut
	l.mu.Unlock()
	if cut {
		return sessions.Page{}, errors.New("cut off")
	}
	page, err := l.Store.Poll(ctx, since)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more = page.More
	return page, err
}

func (l *link) Get(ctx context.Context, h sessions.Handle) (sessions.Record, time.Time, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return sessions.Record{}, time.Time{}, errors.New("the store is down")
	}
	return l.Store.Get(ctx, h)
}

func (l *link) Swap(ctx context.Context, old, next sessions.Row, rule sessions.Rule) (bool, error) {
	done, err := l.Store.Swap(ctx, old, next, rule)
	l.mu.Lock()
	defer l.mu.Unlock()
	if done {
		l.writes++
	}
	return done, err
}

func (l *link) Rotate(ctx context.Context, h sessions.Handle, r sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	rec, now, done, err := l.Store.Rotate(ctx, h, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if done {
		l.writes++
	}
	return rec, now, done, err
}

// Promote calls the store. While hold is set, it keeps the promotions instead.
func (l *link) Promote(ctx context.Context, ps []sessions.Promotion) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hold {
		l.held = append(l.held, ps...)
	} else if err := l.Store.Promote(ctx, ps); err != nil {
		return err
	}
	l.told += len(ps)
	l.changed.Broadcast()
	return nil
}

// holdPromotions keeps promotions from the store, as if late or lost.
func (l *link) holdPromotions() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = true
}

// settle waits until a poll that began after the call has been applied.
func (l *link) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The poll under way may have begun before. The next one has been applied when the one after it
	// begins, because there is one at a time.
	for first := l.polls; l.polls < first+2; {
		l.changed.Wait()
	}
}

func scenarioKey(t *testing.T) *sessions.KeyEncryptionKey {
	t.Helper()
	return keyEncryptionKey(t, "k")
}

func keyEncryptionKey(t *testing.T, fill string) *sessions.KeyEncryptionKey {
	t.Helper()
	k, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// replica starts an engine over the scene's store, on a machine with the clock now.
func (s *scene) replica(now func() time.Time) *replica {
	s.Helper()
	r := s.separateReplica(s.store, now)
	s.replicas = append(s.replicas, r)
	return r
}

func (s *scene) separateReplica(store sessions.Store, now func() time.Time) *replica {
	s.Helper()
	return startReplica(s.T, store, func(cfg *sessions.Config) { cfg.Now = now })
}

// startReplica runs a replica until the test ends.
func startReplica(t *testing.T, store sessions.Store, edit func(*sessions.Config)) *replica {
	t.Helper()
	l := &link{Store: store}
	l.changed = sync.NewCond(&l.mu)
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = scenarioKey(t)
	cfg.FeedPoll = 5 * time.Millisecond
	cfg.Binding.Offer = true
	edit(&cfg)
	return &replica{StartEngine(t, l, cfg), l}
}

func (s *scene) signIn() (sessions.Handle, holder) {
	s.Helper()
	i, err := s.one.Create(s.Context(), sessions.NewSession{UserID: "alice", Client: fromV})
	if err != nil {
		s.Fatal(err)
	}
	return i.Session.Handle, holder{refresh: i.Refresh, access: i.Access, offer: i.Challenge}
}

// advance moves the store's clock, and waits until each replica knows.
func (s *scene) advance(by time.Duration) {
	s.store.Advance(by)
	for _, r := range s.replicas {
		r.link.settle()
	}
}

// refreshed is a refresh that must be answered with tokens, by rule.
func (s *scene) refreshed(r *replica, token sessions.Token, from sessions.Client, rule sessions.Rule) sessions.Issued {
	s.Helper()
	i, err := r.Refresh(s.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{token.Reveal()}, Client: from})
	if err != nil || i.Rule != rule {
		s.Fatalf("refresh from %c: %s, %v; want tokens by %s", from[0], i.Rule, err, rule)
	}
	if issuesOne := rule == sessions.R4 || rule == sessions.R5; issuesOne != (i.Refresh != "") {
		s.Fatalf("%s issues a refresh token: %v", rule, !issuesOne)
	}
	return i
}

// refused is a refresh that must end with the error want.
func (s *scene) refused(r *replica, token sessions.Token, from sessions.Client, want error) {
	s.Helper()
	i, err := r.Refresh(s.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{token.Reveal()}, Client: from})
	// The error must not say theft by mistake.
	if !errors.Is(err, want) || errors.Is(err, sessions.ErrTheft) != errors.Is(want, sessions.ErrTheft) {
		s.Fatalf("refresh from %c: %s, %v; want %v", from[0], i.Rule, err, want)
	}
	if i.Access != "" || i.Refresh != "" {
		s.Fatal("a refused refresh carries tokens")
	}
}

func (s *scene) allowed(r *replica, access sessions.Token) {
	s.Helper()
	if _, denial := r.Verify(sessions.TransportCookie, []string{access.Reveal()}); denial != nil {
		s.Fatalf("denied: %v", denial)
	}
}

// denied waits for what the feed has brought, as a replica may for its bound.
func (s *scene) denied(access sessions.Token, want *sessions.Denial) {
	s.Helper()
	for i, r := range s.replicas {
		r.link.settle()
		if _, denial := r.Verify(sessions.TransportCookie, []string{access.Reveal()}); denial != want {
			s.Fatalf("replica %d: %v, want %v", i+1, denial, want)
		}
	}
}

// used is a Check of a child's first access token; it waits until the promotion
// has left the engine.
func (s *scene) used(r *replica, access sessions.Token) {
	s.Helper()
	r.link.mu.Lock()
	told := r.link.told
	r.link.mu.Unlock()
	s.allowed(r, access)
	r.link.mu.Lock()
	defer r.link.mu.Unlock()
	for r.link.told == told {
		r.link.changed.Wait()
	}
}

// signedIn waits until every window has passed, refreshes and uses the answer.
func (s *scene) signedIn() {
	s.Helper()
	s.advance(repeat + moment)
	i, err := s.two.Refresh(s.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{s.client.refresh.Reveal()}, Client: fromW})
	if err != nil {
		s.Fatalf("not signed in: %v", err)
	}
	s.client.take(i)
	s.allowed(s.one, s.client.access)
	s.allowed(s.two, s.client.access)
}

func (s *scene) row() sessions.Row {
	s.Helper()
	rec, _, err := s.store.Get(s.Context(), s.handle)
	if err != nil {
		s.Fatal(err)
	}
	return rec.Row
}

// putBack makes the store forget what was written since it held row.
func (s *scene) putBack(row sessions.Row) {
	s.Helper()
	if done, err := s.store.Swap(s.Context(), s.row(), row, sessions.R4); err != nil || !done {
		s.Fatalf("putting a row back: %v, %v", done, err)
	}
}

func burst(s *scene) {
	const attempts = 50
	answers := make([]sessions.Issued, attempts)
	var all errgroup.Group
	for n := range answers {
		all.Go(func() (err error) {
			r := []*replica{s.one, s.two}[n%2]
			answers[n], err = r.Refresh(s.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{s.client.refresh.Reveal()}, Client: fromV})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		s.Fatal(err)
	}
	if writes := s.one.link.writes + s.two.link.writes; writes < 1 || writes > 2 {
		s.Errorf("%d writes", writes)
	}
	rule := sessions.R6 // the first promotes the child, the others then have the current token
	for _, i := range answers {
		s.refreshed(s.one, i.Refresh, fromV, rule)
		rule = sessions.R3
		s.client.take(i)
	}
	s.signedIn()
}

func lateAnswer(s *scene) {
	soon := s.refreshed(s.one, s.client.refresh, fromV, sessions.R4)
	late := s.refreshed(s.two, s.client.refresh, fromV, sessions.R5)
	s.client.take(soon)
	s.used(s.one, s.client.access)
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R3))
	s.client.take(late)
	s.advance(grace + moment)
	s.refreshed(s.one, s.client.refresh, fromV, sessions.R4)
	s.signedIn()
}

func lateStraggler(s *scene) {
	s.refreshed(s.one, s.client.refresh, fromV, sessions.R4) // lost
	s.advance(repeat - 2*moment)
	s.one.link.holdPromotions()
	token := s.client.refresh
	s.client.take(s.refreshed(s.one, token, fromV, sessions.R5))
	s.used(s.one, s.client.access)
	s.advance(3 * moment)
	s.client.take(s.refreshed(s.two, token, fromV, sessions.R5))
	if err := s.store.Promote(s.Context(), s.one.link.held); err != nil {
		s.Fatal(err)
	}
	s.signedIn()
}

func newAccessTokenOnly(s *scene) {
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	soon := s.refreshed(s.one, s.client.refresh, fromV, sessions.R3)
	late := s.refreshed(s.two, s.client.refresh, fromV, sessions.R3)
	s.client.take(soon)
	s.advance(grace + moment)
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	s.client.take(late)
	s.signedIn()
}

func twoNetworks(s *scene) {
	token := s.client.refresh
	s.client.take(s.refreshed(s.one, token, fromV, sessions.R4))
	s.refused(s.two, token, fromW, sessions.ErrSuperseded)
	s.used(s.two, s.client.access) // from the shared jar
	s.signedIn()
}

func hop(s *scene) {
	s.refreshed(s.one, s.client.refresh, fromV, sessions.R4) // lost
	s.refused(s.two, s.client.refresh, fromW, sessions.ErrSuperseded)
	s.advance(repeat - 2*moment)
	s.refused(s.two, s.client.refresh, fromW, sessions.ErrSuperseded)
	s.advance(2 * moment)
	s.client.take(s.refreshed(s.two, s.client.refresh, fromW, sessions.R4))
	s.used(s.two, s.client.access)
	s.signedIn()
}

func lostPromotions(s *scene) {
	s.one.link.holdPromotions()
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	s.advance(time.Hour)
	s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R6))
	s.allowed(s.two, s.client.access)
	s.signedIn()
}

func lateAncestor(s *scene) {
	s.one.link.holdPromotions()
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	ancestor := s.client.access
	s.used(s.one, ancestor)
	for range 2 {
		s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R6))
		s.advance(grace + moment)
		s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R4))
	}
	s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R6))
	if err := s.store.Promote(s.Context(), s.one.link.held); err != nil {
		s.Fatal(err)
	}
	s.denied(ancestor, sessions.DenyLost)
	s.allowed(s.one, s.client.access)
	s.signedIn()
}

func idle(s *scene) {
	const month = 30 * 24 * time.Hour
	s.advance(month - 24*time.Hour)
	s.one.link.holdPromotions()
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	s.advance(time.Hour)
	s.denied(s.client.access, sessions.DenyExpired)
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R6))
	s.advance(month - 24*time.Hour)
	s.signedIn()
	s.advance(month)
	s.refused(s.one, s.client.refresh, fromV, sessions.ErrSessionEnded)
}

func thiefFirst(s *scene) {
	attacker := s.client
	attacker.take(s.refreshed(s.one, attacker.refresh, fromX, sessions.R4))
	s.used(s.one, attacker.access)
	s.refused(s.two, s.client.refresh, fromV, sessions.ErrSuperseded)
	s.advance(grace)
	s.refused(s.two, s.client.refresh, fromV, sessions.ErrTheft)
	s.denied(attacker.access, sessions.DenyEnded)
	s.refused(s.one, attacker.refresh, fromX, sessions.ErrSessionEnded)
}

func victimFirst(s *scene) {
	stolen := s.client.refresh
	s.client.take(s.refreshed(s.one, stolen, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	s.refused(s.two, stolen, fromX, sessions.ErrSuperseded)
	s.allowed(s.two, s.client.access)
	s.advance(grace)
	s.refused(s.two, stolen, fromX, sessions.ErrTheft)
	s.denied(s.client.access, sessions.DenyEnded)
}

func sibling(s *scene) {
	attacker := s.client
	attacker.take(s.refreshed(s.one, attacker.refresh, fromX, sessions.R4))
	s.advance(30 * time.Minute)
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	s.used(s.two, attacker.access) // no replica knows yet
	s.denied(attacker.access, sessions.DenyLost)
	s.allowed(s.two, s.client.access)
	s.refused(s.two, attacker.refresh, fromX, sessions.ErrTheft)
	s.denied(s.client.access, sessions.DenyEnded)
}

func idleSession(s *scene) {
	attacker := s.client
	for range 24 {
		attacker.take(s.refreshed(s.one, attacker.refresh, fromX, sessions.R4))
		s.used(s.one, attacker.access)
		s.advance(time.Hour)
	}
	s.refused(s.one, s.client.refresh, fromV, sessions.ErrTheft)
	s.refused(s.one, attacker.refresh, fromX, sessions.ErrSessionEnded)
}

func poll(s *scene) {
	s.refreshed(s.one, s.client.refresh, fromX, sessions.R4)
	for range sessions.Defaults().IssuesMax - 1 {
		s.refused(s.two, s.client.refresh, fromV, sessions.ErrSuperseded)
		s.advance(grace / 2)
		for range 3 {
			s.refreshed(s.one, s.client.refresh, fromX, sessions.R5)
		}
	}
	if s.one.link.writes != sessions.Defaults().IssuesMax {
		s.Errorf("%d writes", s.one.link.writes)
	}
	s.advance(grace / 2)
	s.refused(s.one, s.client.refresh, fromX, sessions.ErrSessionEnded)
	s.denied(s.client.access, sessions.DenyExpired) // of an hour ago: nothing else was used
}

func lostWrite(s *scene) {
	s.two.link.holdPromotions() // R6 comes first
	before := s.row()
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.putBack(before) // the generated child
	s.allowed(s.two, s.client.access)
	s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R6))
	s.advance(grace)
	s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R4))
	before = s.row()
	s.used(s.one, s.client.access)
	s.putBack(before) // the promotion
	s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R6))
	s.signedIn()
}

func restore(s *scene) {
	yesterday := s.row()
	for range 2 {
		s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
		s.used(s.one, s.client.access)
		s.advance(time.Hour)
	}
	s.putBack(yesterday)
	s.refused(s.one, s.client.refresh, fromV, sessions.ErrSessionEnded) // and not theft
}

func outAndIn(s *scene) {
	late := s.client.refresh
	if err := s.one.SignOut(s.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{late.Reveal()}}); err != nil {
		s.Fatal(err)
	}
	s.denied(s.client.access, sessions.DenyExpired)
	old := s.handle
	s.handle, s.client = s.signIn()
	if s.handle == old {
		s.Fatal("the new session is the old one")
	}
	for _, r := range s.replicas {
		s.refused(r, late, fromV, sessions.ErrSuperseded)
	}
	s.allowed(s.two, s.client.access)
	s.advance(2 * grace)
	s.refused(s.two, late, fromV, sessions.ErrSessionEnded)
	s.signedIn()
}

// rollout: the second replica cannot read the feed when a key is published, and is still cut off
// when the first replica uses that key.
func rollout(s *scene) {
	var ahead atomic.Int64
	cut := s.separateReplica(s.store, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	cut.link.mu.Lock()
	cut.link.cut = true
	cut.link.mu.Unlock()
	cut.link.settle()

	delay := sessions.Defaults().FeedBound + moment
	for _, k := range s.otherKeys() {
		k.Generation = 2
		if done, err := s.store.AddKey(s.Context(), k, delay); err != nil || !done {
			s.Fatalf("adding a key: %v, %v", done, err)
		}
	}
	s.advance(delay)
	ahead.Store(int64(delay))
	s.two.link.holdPromotions() // R6 comes first
	cut.link.holdPromotions()
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.allowed(s.two, s.client.access)
	s.refused(cut, s.client.refresh, fromV, sessions.ErrUnavailable)
	if _, denial := cut.Verify(sessions.TransportCookie, []string{s.client.access.Reveal()}); denial != sessions.DenyStaleKeys {
		s.Fatalf("cut off: %v, want %v", denial, sessions.DenyStaleKeys)
	}

	cut.link.mu.Lock()
	cut.link.cut = false
	cut.link.mu.Unlock()
	cut.link.settle()
	s.allowed(cut, s.client.access)
	s.refreshed(cut, s.client.refresh, fromV, sessions.R6)
	s.signedIn()
}

// otherKeys makes keys by starting an engine over another store.
func (s *scene) otherKeys() []sessions.StoredKey {
	s.Helper()
	other := s.open(s.T)
	s.separateReplica(other, time.Now)
	set, err := other.Keys(s.Context())
	if err != nil || len(set.Keys) < 2 {
		s.Fatalf("%d keys, %v", len(set.Keys), err)
	}
	return set.Keys
}

func otherClock(s *scene) {
	for _, off := range []time.Duration{time.Hour, -time.Hour, 365 * 24 * time.Hour} {
		wrong := s.replica(func() time.Time { return time.Now().Add(off) })
		s.client.take(s.refreshed(wrong, s.client.refresh, fromV, sessions.R4))
		s.used(s.one, s.client.access)
		s.allowed(wrong, s.client.access)
		s.client.take(s.refreshed(wrong, s.client.refresh, fromV, sessions.R3))
		s.allowed(s.one, s.client.access)
		i, err := wrong.Create(s.Context(), sessions.NewSession{UserID: "bob"})
		if err != nil {
			s.Fatal(err)
		}
		s.allowed(s.one, i.Access)
		s.advance(time.Hour)
		s.denied(s.client.access, sessions.DenyExpired)
	}
	s.signedIn()
}

// clockSetBack: the store's clock is set back by ten minutes in the middle. What works continues to
// work, a session that ended stays ended, and another network of the client waits for one window at
// most.
func clockSetBack(s *scene) {
	ended, other := s.signIn()
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	if _, err := s.one.End(s.Context(), ended, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		s.Fatal(err)
	}
	s.advance(-10 * time.Minute)
	for _, r := range s.replicas {
		s.allowed(r, s.client.access)
	}
	s.denied(other.access, sessions.DenyEnded)
	s.refused(s.two, s.client.refresh, fromW, sessions.ErrSuperseded)
	s.advance(grace + moment)
	s.refreshed(s.two, s.client.refresh, fromW, sessions.R4) // lost
	s.advance(-10 * time.Minute)
	s.refreshed(s.one, s.client.refresh, fromV, sessions.R3)
	s.advance(grace + moment)
	s.refused(s.one, s.client.refresh, fromV, sessions.ErrSuperseded)
	s.advance(repeat)
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	s.signedIn()
}
