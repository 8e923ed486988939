package sessions_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

func TestEngineScenarios(t *testing.T) {
	sessionstest.Scenarios(t, func(*testing.T) sessionstest.ClockedStore { return memory.New() })
}

// watched is a store whose calls are counted, and fail as a test says: before
// they were done or after.
type watched struct {
	sessionstest.ClockedStore

	mu    sync.Mutex
	calls map[string]int
	fail  func(call string, done bool) error
	reads bool // Rotate only reads, as it does where the row changed meanwhile
}

func (s *watched) at(call string, done bool) error {
	s.mu.Lock()
	if !done {
		s.calls[call]++
	}
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		return fail(call, done) // it may call the store
	}
	return nil
}

func (s *watched) failing(f func(call string, done bool) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

func (s *watched) counted() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := maps.Clone(s.calls)
	delete(calls, "Keys") // an engine looks after its keys by itself
	return calls
}

func through[T any](s *watched, call string, do func() (T, error)) (T, error) {
	var none T
	if err := s.at(call, false); err != nil {
		return none, err
	}
	got, err := do()
	if fault := s.at(call, true); fault != nil {
		return none, fault
	}
	return got, err
}

func (s *watched) Create(ctx context.Context, n sessions.NewRecord) (sessions.Record, error) {
	return through(s, "Create", func() (sessions.Record, error) { return s.ClockedStore.Create(ctx, n) })
}

func (s *watched) Get(ctx context.Context, h sessions.Handle) (rec sessions.Record, now time.Time, err error) {
	rec, err = through(s, "Get", func() (rec sessions.Record, err error) {
		rec, now, err = s.ClockedStore.Get(ctx, h)
		return rec, err
	})
	return rec, now, err
}

func (s *watched) Swap(ctx context.Context, old, next sessions.Row, rule sessions.Rule) (bool, error) {
	return through(s, "Swap", func() (bool, error) { return s.ClockedStore.Swap(ctx, old, next, rule) })
}

func (s *watched) Rotate(ctx context.Context, h sessions.Handle, r sessions.Rotation) (rec sessions.Record, now time.Time, done bool, err error) {
	call := "Rotate"
	if r.ReadOnly {
		call = "Get"
	}
	rec, err = through(s, call, func() (rec sessions.Record, err error) {
		if s.reads {
			rec, now, err = s.ClockedStore.Get(ctx, h)
		} else {
			rec, now, done, err = s.ClockedStore.Rotate(ctx, h, r)
		}
		return rec, err
	})
	return rec, now, done, err
}

func (s *watched) Promote(ctx context.Context, ps []sessions.Promotion) error {
	_, err := through(s, "Promote", func() (any, error) { return nil, s.ClockedStore.Promote(ctx, ps) })
	return err
}

func (s *watched) End(ctx context.Context, h sessions.Handle, e sessions.Ending) (bool, error) {
	return through(s, "End", func() (bool, error) { return s.ClockedStore.End(ctx, h, e) })
}

func (s *watched) EndIf(ctx context.Context, old sessions.Row, e sessions.Ending) (bool, error) {
	return through(s, "EndIf", func() (bool, error) { return s.ClockedStore.EndIf(ctx, old, e) })
}

func (s *watched) EndUser(ctx context.Context, u string, e sessions.Ending) ([]sessions.Handle, error) {
	return through(s, "EndUser", func() ([]sessions.Handle, error) { return s.ClockedStore.EndUser(ctx, u, e) })
}

func (s *watched) Report(ctx context.Context, e sessions.AuditEvent) error {
	_, err := through(s, "Report", func() (any, error) { return nil, s.ClockedStore.Report(ctx, e) })
	return err
}

func (s *watched) Poll(ctx context.Context, since sessions.Cursor) (sessions.Page, error) {
	return through(s, "Poll", func() (sessions.Page, error) { return s.ClockedStore.Poll(ctx, since) })
}

func (s *watched) RaiseFeedRetention(ctx context.Context, d time.Duration) error {
	_, err := through(s, "RaiseFeedRetention", func() (any, error) { return nil, s.ClockedStore.RaiseFeedRetention(ctx, d) })
	return err
}

func (s *watched) Keys(ctx context.Context) (sessions.KeySet, error) {
	return through(s, "Keys", func() (sessions.KeySet, error) { return s.ClockedStore.Keys(ctx) })
}

func (s *watched) AddKey(ctx context.Context, k sessions.StoredKey, delay time.Duration) (bool, error) {
	return through(s, "AddKey", func() (bool, error) { return s.ClockedStore.AddKey(ctx, k, delay) })
}

func newWatched() *watched {
	return &watched{ClockedStore: memory.New(), calls: map[string]int{}}
}

func key(t testing.TB, fill string) *sessions.KeyEncryptionKey {
	t.Helper()
	k, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// quiet is a configuration with which an engine calls its store only when it is
// asked something.
func quiet(t testing.TB) sessions.Config {
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = key(t, "k")
	cfg.FeedPoll, cfg.FeedBound, cfg.SweepPause = time.Hour/2, time.Hour, time.Hour
	cfg.KeyActivationDelay = 2 * cfg.FeedBound
	return cfg
}

// lively follows the feed closely.
func lively(t testing.TB) sessions.Config {
	cfg := quiet(t)
	cfg.FeedPoll = time.Millisecond
	return cfg
}

// events passes on what an engine emits.
type events struct {
	mu   sync.Mutex
	list []sessions.Event
	next chan struct{}
}

func (l *events) add(e sessions.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e)
	if l.next != nil {
		close(l.next)
		l.next = nil
	}
}

// await returns the first event of a kind, when it has come.
func (l *events) await(ctx context.Context, kind sessions.EventKind) (sessions.Event, error) {
	return l.awaitThat(ctx, func(e sessions.Event) bool { return e.Kind == kind })
}

func (l *events) awaitThat(ctx context.Context, is func(sessions.Event) bool) (sessions.Event, error) {
	for {
		l.mu.Lock()
		i := slices.IndexFunc(l.list, is)
		if i >= 0 {
			defer l.mu.Unlock()
			return l.list[i], nil
		}
		if l.next == nil {
			l.next = make(chan struct{})
		}
		next := l.next
		l.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return sessions.Event{}, ctx.Err()
		}
	}
}

func (l *events) all() []sessions.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// launch builds an engine and runs it for the test; it need not get ready.
func launch(t testing.TB, store sessions.Store, cfg sessions.Config) (*sessions.Engine, *events, <-chan error) {
	t.Helper()
	log := &events{}
	cfg.Observe = log.add
	e, err := sessions.New(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() { done <- e.Run(ctx); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
	return e, log, done
}

// start is launch until the engine is ready.
func start(t testing.TB, store sessions.Store, cfg sessions.Config) (*sessions.Engine, *events) {
	t.Helper()
	e, log, _ := launch(t, store, cfg)
	if _, err := log.await(t.Context(), sessions.EventReady); err != nil {
		t.Fatal(err)
	}
	return e, log
}

var home, elsewhere = sessions.Client{'h'}, sessions.Client{'e'}

func create(t testing.TB, e *sessions.Engine) sessions.Issued {
	t.Helper()
	i, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Claims: []byte(`{"role":"admin"}`), Data: []byte(`{"x":1}`), Client: home})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// inCookie is a refresh by a browser, which has token in its cookie.
func inCookie(from sessions.Client, token string) sessions.RefreshRequest {
	return sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{token}, Client: from}
}

func refresh(t testing.TB, e *sessions.Engine, token sessions.Token, from sessions.Client) sessions.Issued {
	t.Helper()
	i, err := e.Refresh(t.Context(), inCookie(from, token.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// advance moves the store's clock and waits until lively engines know.
func advance(t testing.TB, store *watched, by time.Duration, engines ...*sessions.Engine) {
	t.Helper()
	store.Advance(by)
	probe := create(t, engines[0])
	for _, e := range engines {
		for e.Now().Before(probe.Session.CreatedAt) { // it has not heard of the time yet
			runtime.Gosched()
		}
	}
}

func verify(e *sessions.Engine, token sessions.Token) *sessions.Denial {
	_, d := e.Verify(sessions.TransportCookie, []string{token.Reveal()})
	return d
}

func TestSessionFromSignInToSignOut(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, quiet(t))
	first := create(t, e)

	a, d := e.Verify(sessions.TransportCookie, []string{first.Access.Reveal()})
	if d != nil {
		t.Fatal(d)
	}
	if a.UserID != "alice" || a.Handle != first.Session.Handle || string(a.Claims) != `{"role":"admin"}` ||
		a.Transport != sessions.TransportCookie || !a.MatchesAntiCSRF(first.AntiCSRF.Reveal()) || !a.Expires.Equal(first.AccessExpires) {
		t.Errorf("verified %+v", a)
	}
	rec, err := e.Get(t.Context(), first.Session.Handle)
	if err != nil || rec.UserID != "alice" || string(rec.Data) != `{"x":1}` || rec.ClaimsVersion != 1 {
		t.Errorf("got %+v, %v", rec, err)
	}

	soon := refresh(t, e, first.Refresh, home)
	if soon.Rule != sessions.R3 || soon.Refresh != "" || soon.AntiCSRF.Reveal() != first.AntiCSRF.Reveal() {
		t.Errorf("within grace: %s, a refresh token: %v", soon.Rule, soon.Refresh != "")
	}
	store.Advance(time.Minute)
	later := refresh(t, e, first.Refresh, home)
	if later.Rule != sessions.R4 || later.Refresh == "" || later.AntiCSRF.Reveal() != first.AntiCSRF.Reveal() || later.Session.Handle != first.Session.Handle {
		t.Errorf("later: %s, %+v", later.Rule, later.Session.Row)
	}

	for range 2 { // signing out is idempotent
		if err := e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{later.Refresh.Reveal()}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, token := range []sessions.Token{first.Access, soon.Access} {
		if d := verify(e, token); d != sessions.DenyEnded {
			t.Errorf("after signing out: %v", d)
		}
	}
	if _, err := e.Get(t.Context(), first.Session.Handle); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("after signing out: %v", err)
	}
	var kinds []sessions.EventKind
	for _, event := range log.all() {
		kinds = append(kinds, event.Kind)
	}
	if want := []sessions.EventKind{
		sessions.EventKeyAdded, sessions.EventKeyAdded, sessions.EventReady, sessions.EventCreated,
		sessions.EventRefreshed, sessions.EventRefreshAnswered, sessions.EventRefreshed, sessions.EventRefreshAnswered, sessions.EventEnded,
	}; !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
}

func TestBeforeTheFirstReading(t *testing.T) {
	e, err := sessions.New(newWatched(), quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, d := e.Verify(sessions.TransportCookie, []string{"x"}); d != sessions.DenyStarting {
		t.Errorf("Verify: %v", d)
	}
	_, created := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
	_, refreshed := e.Refresh(t.Context(), inCookie(home, "x"))
	_, jwks := e.JWKS()
	for name, err := range map[string]error{"Create": created, "Refresh": refreshed, "JWKS": jwks, "SignOut": e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{"x"}})} {
		if !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if e.Ready() {
		t.Error("ready")
	}
}

func TestSignOut(t *testing.T) {
	store := newWatched()
	e, _ := start(t, store, lively(t))
	for name, end := range map[string]func(sessions.Issued) error{
		"by refresh token": func(i sessions.Issued) error {
			return e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{"x", i.Refresh.Reveal()}})
		},
		"by access token": func(i sessions.Issued) error {
			return e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Access: []string{"x", i.Access.Reveal()}})
		},
		"by both": func(i sessions.Issued) error {
			return e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{i.Refresh.Reveal()}, Access: []string{i.Access.Reveal()}})
		},
		"by handle": func(i sessions.Issued) error {
			_, err := e.End(t.Context(), i.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		},
		"by user": func(sessions.Issued) error {
			_, err := e.EndUser(t.Context(), "alice", sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		},
	} {
		i := create(t, e)
		if err := end(i); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := verify(e, i.Access); d != sessions.DenyEnded {
			t.Errorf("%s: then %v", name, d)
		}
		want := sessions.ErrSuperseded // a new sign-in may have set new cookies
		if name == "by handle" || name == "by user" {
			want = sessions.ErrSessionEnded
		}
		if _, err := e.Refresh(t.Context(), inCookie(home, i.Refresh.Reveal())); !errors.Is(err, want) {
			t.Errorf("%s: then a refresh: %v, want %v", name, err, want)
		}
	}
	if err := e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie}); err != nil {
		t.Errorf("with nothing: %v", err)
	}
	i := create(t, e)
	store.Advance(2 * time.Hour)
	for verify(e, i.Access) != sessions.DenyExpired {
		runtime.Gosched()
	}
	if err := e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Access: []string{i.Access.Reveal()}}); !errors.Is(err, sessions.DenyExpired) {
		t.Errorf("by an expired access token: %v", err)
	}
	if _, err := e.Get(t.Context(), i.Session.Handle); err != nil {
		t.Errorf("which ended the session: %v", err)
	}
}

// TestGarbageCausesNoCall is I6.
func TestGarbageCausesNoCall(t *testing.T) {
	store := newWatched()
	e, _ := start(t, store, quiet(t))
	good := create(t, e)
	foreign, _ := start(t, newWatched(), quiet(t))
	other := create(t, foreign)
	before := store.counted()
	for _, text := range []string{
		"", "x", strings.Repeat("A", 10_000), "sgr1_", "sgr1_AAAA", "sgr2_x", good.Access.Reveal() + "x", good.Refresh.Reveal() + "x",
		other.Access.Reveal(), other.Refresh.Reveal(), good.Session.Handle.String(), strings.ToUpper(good.Refresh.Reveal()),
	} {
		if _, d := e.Verify(sessions.TransportCookie, []string{text}); d == nil {
			t.Errorf("%q is allowed", text)
		}
		if _, err := e.Refresh(t.Context(), inCookie(home, text)); err == nil {
			t.Errorf("%q refreshes", text)
		}
		_ = e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{text}, Access: []string{text}})
	}
	_, _ = e.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Client: home})
	_, _ = e.EndUser(t.Context(), "no user", sessions.Ending{})
	_, _ = e.Create(t.Context(), sessions.NewSession{UserID: "no user"})
	if after := store.counted(); !maps.Equal(before, after) {
		t.Errorf("calls before %v, after %v", before, after)
	}
}

// TestNoTokenAfterRevoke is I4, in a race: a refresh that begins after End returned gets no token,
// and no token from before is allowed.
func TestNoTokenAfterRevoke(t *testing.T) {
	store := newWatched()
	one, _ := start(t, store, lively(t))
	two, _ := start(t, store, lively(t))
	for range 20 {
		first := create(t, one)
		advance(t, store, time.Minute, one, two)
		var isEnded atomic.Bool
		var mu sync.Mutex
		got := []sessions.Token{first.Access}
		var racers sync.WaitGroup
		for n := range 4 {
			racers.Go(func() {
				e := []*sessions.Engine{one, two}[n%2]
				for stop := false; !stop; {
					stop = isEnded.Load() // read before the attempt begins
					i, err := e.Refresh(context.Background(), inCookie(home, first.Refresh.Reveal()))
					switch {
					case err == nil && stop:
						t.Error("a refresh that began after the end was answered")
					case err == nil:
						mu.Lock()
						got = append(got, i.Access)
						mu.Unlock()
					case !errors.Is(err, sessions.ErrSessionEnded):
						t.Errorf("refresh: %v", err)
					}
				}
			})
		}
		if _, err := one.End(t.Context(), first.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
			t.Fatal(err)
		}
		isEnded.Store(true)
		if d := verify(one, first.Access); d != sessions.DenyEnded {
			t.Fatalf("where it was ended: %v", d)
		}
		racers.Wait()
		for verify(two, first.Access) != sessions.DenyEnded {
			runtime.Gosched() // until its next poll
		}
		for _, token := range got {
			for _, e := range []*sessions.Engine{one, two} {
				if d := verify(e, token); d != sessions.DenyEnded {
					t.Fatalf("a token from before the end: %v", d)
				}
			}
		}
	}
}

// TestRetryAfterAnyFault is I7: each operation is cut at each of its calls to
// the store, before the call and after it, and then tried again.
func TestRetryAfterAnyFault(t *testing.T) {
	fault := errors.New("connection reset")
	type try struct {
		e     *sessions.Engine
		store *watched
		i     sessions.Issued // of a session whose first token is past its grace
	}
	again := func(b try, token sessions.Token, from sessions.Client) error {
		_, err := b.e.Refresh(context.Background(), inCookie(from, token.Reveal()))
		return err
	}
	for name, tc := range map[string]struct {
		prepare func(b *try)
		do      func(b try) error
		want    error // of the first one without a fault
	}{
		"Create": {do: func(b try) error {
			_, err := b.e.Create(context.Background(), sessions.NewSession{UserID: "bob"})
			return err
		}},
		"R4": {do: func(b try) error { return again(b, b.i.Refresh, home) }},
		"R4 swapped": {
			prepare: func(b *try) { b.store.reads = true },
			do:      func(b try) error { return again(b, b.i.Refresh, home) },
		},
		"R5 renewed": {
			prepare: func(b *try) { refresh(t, b.e, b.i.Refresh, home); b.store.Advance(6 * time.Second) },
			do:      func(b try) error { return again(b, b.i.Refresh, home) },
		},
		"R6": {
			prepare: func(b *try) { b.i = refresh(t, b.e, b.i.Refresh, home) },
			do:      func(b try) error { return again(b, b.i.Refresh, home) },
		},
		"R8": {
			prepare: func(b *try) {
				child := refresh(t, b.e, b.i.Refresh, elsewhere)
				refresh(t, b.e, child.Refresh, elsewhere)
				b.store.Advance(time.Minute)
			},
			do:   func(b try) error { return again(b, b.i.Refresh, home) },
			want: sessions.ErrSessionEnded,
		},
		"SignOut": {do: func(b try) error {
			return b.e.SignOut(context.Background(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{b.i.Refresh.Reveal()}})
		}},
		"EndUser": {do: func(b try) error {
			_, err := b.e.EndUser(context.Background(), "alice", sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, done := range []bool{false, true} {
				for cut, faulted := 0, true; faulted; cut++ {
					b := try{store: newWatched()}
					b.e, _ = start(t, b.store, quiet(t))
					b.i = create(t, b.e)
					b.store.Advance(time.Minute)
					if tc.prepare != nil {
						tc.prepare(&b)
					}
					calls := 0
					faulted = false
					b.store.failing(func(method string, after bool) error {
						if after != done || method == "Keys" { // which the engine also reads by itself
							return nil
						}
						if calls++; calls == cut+1 {
							faulted = true
							return fault
						}
						return nil
					})
					err := tc.do(b)
					b.store.failing(nil)
					switch {
					case faulted && (!errors.Is(err, sessions.ErrUnavailable) || !errors.Is(err, fault)):
						t.Errorf("cut at call %d, done %v: %v", cut, done, err)
					case faulted:
						err = tc.do(b)
					}
					if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
						t.Errorf("cut at call %d, done %v, then again: %v, want %v", cut, done, err, tc.want)
					}
				}
			}
		})
	}
}

// The loser of a race to write reads and decides again: both get one child.
func TestLoserOfARaceDecidesAgain(t *testing.T) {
	store := newWatched()
	store.reads = true
	slow, _ := start(t, store, quiet(t))
	fast, _ := start(t, store.ClockedStore, quiet(t))
	i := create(t, slow)
	store.Advance(time.Minute)
	var winner sessions.Issued
	raced := false
	store.failing(func(call string, done bool) error {
		if call == "Swap" && !done && !raced {
			raced = true
			winner = refresh(t, fast, i.Refresh, home)
		}
		return nil
	})
	loser := refresh(t, slow, i.Refresh, home)
	if winner.Rule != sessions.R4 || loser.Rule != sessions.R5 {
		t.Errorf("the winner by %s, the loser by %s", winner.Rule, loser.Rule)
	}
	store.failing(nil)
	refresh(t, slow, winner.Refresh, home)
	if again := refresh(t, slow, loser.Refresh, home); again.Rule != sessions.R3 {
		t.Errorf("the loser's token is not the winner's: %s", again.Rule)
	}
}

// Another engine ended the session since the last poll: the engine asks for the reason before it
// tells the client that the session has ended.
func TestSignOutElsewhereAMomentAgo(t *testing.T) {
	store := newWatched()
	here, _ := start(t, store, quiet(t))
	there, _ := start(t, store, quiet(t))
	out, revoked := create(t, here), create(t, here)
	if err := there.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{out.Refresh.Reveal()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := there.End(t.Context(), revoked.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[*sessions.Issued]error{&out: sessions.ErrSuperseded, &revoked: sessions.ErrSessionEnded} {
		if _, err := here.Refresh(t.Context(), inCookie(home, i.Refresh.Reveal())); !errors.Is(err, want) {
			t.Errorf("refresh: %v, want %v", err, want)
		}
	}
}

// A store that fails is never a verdict, whatever it says.
func TestOutageIsNoVerdict(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, lively(t))
	i := create(t, e)
	store.Advance(time.Minute)
	store.failing(func(string, bool) error { return errors.New("the store is on fire") })
	if _, err := log.await(t.Context(), sessions.EventFeedFailed); err != nil {
		t.Fatal(err)
	}
	if d := verify(e, i.Access); d != nil {
		t.Errorf("Verify: %v", d)
	}
	if _, err := e.Refresh(t.Context(), inCookie(home, i.Refresh.Reveal())); !errors.Is(err, sessions.ErrUnavailable) || errors.Is(err, sessions.ErrSessionEnded) {
		t.Errorf("Refresh: %v", err)
	}
	if !e.Ready() {
		t.Error("not ready")
	}
	store.failing(nil)
	if _, err := log.await(t.Context(), sessions.EventFeedRecovered); err != nil {
		t.Fatal(err)
	}
	refresh(t, e, i.Refresh, home)
}

// New claims send tokens with the former ones to refresh, here at once and elsewhere
// by the feed; a refresh brings them.
func TestUpdate(t *testing.T) {
	store := newWatched()
	here, _ := start(t, store, lively(t))
	there, _ := start(t, store, lively(t))
	i := create(t, here)
	if d := verify(there, i.Access); d != nil {
		t.Fatal(d)
	}
	rec, err := here.Update(t.Context(), i.Session.Handle, sessions.Attributes{Claims: []byte(` {"role": "admin"} `)})
	if err != nil || string(rec.Claims) != `{"role":"admin"}` || rec.ClaimsVersion != 2 {
		t.Fatalf("%s, version %d, %v", rec.Claims, rec.ClaimsVersion, err)
	}
	if d := verify(here, i.Access); d != sessions.DenyVersion {
		t.Errorf("here: %v", d)
	}
	for verify(there, i.Access) != sessions.DenyVersion {
		runtime.Gosched()
	}
	next := refresh(t, there, i.Refresh, home)
	for _, e := range []*sessions.Engine{here, there} {
		a, d := e.Verify(sessions.TransportCookie, []string{next.Access.Reveal()})
		if d != nil || string(a.Claims) != `{"role":"admin"}` {
			t.Errorf("after a refresh: %v", d)
		}
	}
	if _, err := here.Update(t.Context(), sessions.NewHandle(), sessions.Attributes{Data: []byte(`{}`)}); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("no such session: %v", err)
	}
	a, _ := here.Verify(sessions.TransportCookie, []string{next.Access.Reveal()})
	other := create(t, here)
	if _, err := here.Reissue(a, other.Session); err == nil {
		t.Error("a token of one session succeeds in another")
	}
}

// Confirm asks the store only where the feed is too old to tell, and then believes
// it: what ended unheard of is denied, and an outage of the store is no verdict.
func TestCheckStore(t *testing.T) {
	store := newWatched()
	cfg := quiet(t)
	cfg.AccessTokenLife = 24 * time.Hour
	var ahead atomic.Int64
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	e, _ := start(t, store, cfg)
	access := func(i sessions.Issued) *sessions.Access {
		a, d := e.Verify(sessions.TransportCookie, []string{i.Access.Reveal()})
		if d != nil {
			t.Fatal(d)
		}
		return a
	}
	alive, gone := access(create(t, e)), access(create(t, e))
	// By another engine, which this one does not hear.
	if _, err := store.End(t.Context(), gone.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		t.Fatal(err)
	}
	before := store.counted()
	if d := e.CheckStore(t.Context(), gone); d != nil {
		t.Errorf("while the feed is fresh: %v", d)
	}
	if after := store.counted(); !maps.Equal(before, after) {
		t.Errorf("while the feed is fresh the store is asked: %v, before %v", after, before)
	}
	ahead.Store(int64(2 * cfg.FeedBound))
	if d := e.CheckStore(t.Context(), alive); d != nil {
		t.Errorf("a living session: %v", d)
	}
	if d := e.CheckStore(t.Context(), gone); d != sessions.DenyEnded {
		t.Errorf("one that ended: %v", d)
	}
	store.failing(func(string, bool) error { return errors.New("the store is on fire") })
	for _, a := range []*sessions.Access{alive, gone} {
		if d := e.CheckStore(t.Context(), a); d != sessions.DenyUnconfirmed {
			t.Errorf("without the store: %v", d)
		}
	}
}

// A promotion that fails is told again by a later Check.
func TestPromotionIsRetried(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, lively(t))
	i := create(t, e)
	advance(t, store, time.Minute, e)
	child := refresh(t, e, i.Refresh, home)
	store.failing(func(call string, _ bool) error {
		if call == "Promote" {
			return errors.New("deadlock")
		}
		return nil
	})
	if d := verify(e, child.Access); d != nil {
		t.Fatal(d)
	}
	if _, err := log.await(t.Context(), sessions.EventPromotionsFailed); err != nil {
		t.Fatal(err)
	}
	store.failing(nil)
	if d := verify(e, child.Access); d != nil {
		t.Fatal(d)
	}
	if event, err := log.await(t.Context(), sessions.EventPromoted); err != nil || event.Count != 1 {
		t.Fatalf("%+v, %v", event, err)
	}
	if again := refresh(t, e, child.Refresh, home); again.Rule != sessions.R3 {
		t.Errorf("the child's refresh is decided by %s", again.Rule)
	}
}

func TestEnginesStartedTogetherShareKeys(t *testing.T) {
	store := newWatched()
	var engines [8]*sessions.Engine
	var logs [8]*events
	for n := range engines {
		engines[n], logs[n], _ = launch(t, store, lively(t))
	}
	for _, log := range logs {
		if _, err := log.await(t.Context(), sessions.EventReady); err != nil {
			t.Fatal(err)
		}
	}
	set, err := store.Keys(t.Context())
	if err != nil || len(set.Keys) != 2 {
		t.Fatalf("%d keys, %v", len(set.Keys), err)
	}
	i := create(t, engines[0])
	for n, e := range engines {
		if d := verify(e, i.Access); d != nil {
			t.Errorf("engine %d: %v", n, d)
		}
		refresh(t, e, i.Refresh, home)
	}
}

func TestStartWaitsForTheStore(t *testing.T) {
	store := newWatched()
	store.failing(func(string, bool) error { return errors.New("connection refused") })
	e, log, _ := launch(t, store, quiet(t))
	if _, err := log.await(t.Context(), sessions.EventStartRetried); err != nil {
		t.Fatal(err)
	}
	if e.Ready() {
		t.Error("ready without a store")
	}
	store.failing(nil)
	if _, err := log.await(t.Context(), sessions.EventReady); err != nil {
		t.Fatal(err)
	}
}

func TestStartRefusesAnotherKeyEncryptionKey(t *testing.T) {
	store := newWatched()
	start(t, store, quiet(t))
	cfg := quiet(t)
	cfg.KeyEncryptionKey = key(t, "x")
	e, _, done := launch(t, store, cfg)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "is wrapped under key-encryption key") {
		t.Errorf("Run: %v", err)
	}
	if e.Ready() {
		t.Error("ready")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		edit  func(*sessions.Config)
		field string
	}{
		"defaults":              {func(*sessions.Config) {}, ""},
		"no key-encryption key": {func(c *sessions.Config) { c.KeyEncryptionKey = nil }, "KeyEncryptionKey"},
		"no issuer":             {func(c *sessions.Config) { c.Issuer = "" }, "Issuer"},
		"D of nothing":          {func(c *sessions.Config) { c.RefreshAttemptMax = 0 }, "RefreshAttemptMax"},
		"access token of 2·D":   {func(c *sessions.Config) { c.AccessTokenLife = 20 * time.Second }, ""},
		"access token below":    {func(c *sessions.Config) { c.AccessTokenLife = 20*time.Second - 1 }, "AccessTokenLife"},
		"sliding of 2·AT + D":   {func(c *sessions.Config) { c.SlidingLife = 2*time.Hour + 10*time.Second }, ""},
		"sliding below":         {func(c *sessions.Config) { c.SlidingLife = 2*time.Hour + 10*time.Second - 1 }, "SlidingLife"},
		"absolute above 400d":   {func(c *sessions.Config) { c.AbsoluteLife = sessions.AbsoluteLifeMax + 1 }, "AbsoluteLife"},
		"keys before the feed":  {func(c *sessions.Config) { c.KeyActivationDelay = c.FeedBound }, "KeyActivationDelay"},
		"keys in a hurry":       {func(c *sessions.Config) { c.RotateKeysEvery = 4*c.KeyActivationDelay - 1 }, "RotateKeysEvery"},
		"absolute below":        {func(c *sessions.Config) { c.AbsoluteLife = c.SlidingLife - 1 }, "AbsoluteLife"},
		"no issues":             {func(c *sessions.Config) { c.IssuesMax = 0 }, "IssuesMax"},
		"stale between polls":   {func(c *sessions.Config) { c.FeedBound = 2*c.FeedPoll - 1 }, "FeedBound"},
		"no clock":              {func(c *sessions.Config) { c.Now = nil }, "Config"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := sessions.Defaults()
			cfg.KeyEncryptionKey = key(t, "k")
			tc.edit(&cfg)
			_, err := sessions.New(newWatched(), cfg)
			var refused *sessions.InvalidError
			if tc.field == "" && err != nil || tc.field != "" && (!errors.As(err, &refused) || refused.Field != tc.field) {
				t.Errorf("error %v, want one about %q", err, tc.field)
			}
		})
	}
}

// Whatever is printed, logged or marshalled, no token shows.
func TestTokensAreNeverFormatted(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, quiet(t))
	i := create(t, e)
	store.Advance(time.Minute)
	child := refresh(t, e, i.Refresh, home)
	access, _ := e.Verify(sessions.TransportCookie, []string{i.Access.Reveal()})
	_, superseded := e.Refresh(t.Context(), inCookie(elsewhere, i.Refresh.Reveal()))
	store.failing(func(string, bool) error { return errors.New("connection reset") })
	_, outage := e.Refresh(t.Context(), inCookie(home, i.Refresh.Reveal()))
	store.failing(nil)
	refresh(t, e, child.Refresh, home)
	store.Advance(time.Minute)
	_, theft := e.Refresh(t.Context(), inCookie(home, i.Refresh.Reveal()))
	_, isEnded := e.Refresh(t.Context(), inCookie(home, i.Refresh.Reveal()+"x"))
	_, denial := e.Verify(sessions.TransportCookie, []string{i.Access.Reveal() + "x"})
	for name, err := range map[string]error{"409": superseded, "503": outage, "theft": theft, "ended": isEnded} {
		if err == nil {
			t.Errorf("%s is missing", name)
		}
	}
	cfg := quiet(t)

	var shown strings.Builder
	logger := slog.New(slog.NewJSONHandler(&shown, nil))
	values := []any{i, &i, child, i.Access, []sessions.Token{i.Refresh}, map[string]sessions.Token{"x": i.AntiCSRF}, access, superseded, outage, theft, isEnded, denial, cfg, &cfg, cfg.KeyEncryptionKey}
	for _, event := range log.all() {
		values = append(values, event)
	}
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X"} {
			fmt.Fprintf(&shown, verb+"\n", value)
		}
		logger.Info("value", "value", value)
		if text, err := json.Marshal(value); err == nil {
			shown.Write(text)
		}
	}
	for name, secret := range map[string]string{
		"access token": i.Access.Reveal(), "its signature": i.Access.Reveal()[strings.LastIndex(i.Access.Reveal(), ".")+1:],
		"refresh token": i.Refresh.Reveal(), "its body": i.Refresh.Reveal()[5:], "child": child.Refresh.Reveal(),
		"anti-CSRF token": i.AntiCSRF.Reveal(), "key-encryption key": strings.Repeat("k", 32),
	} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(shown.String(), form) {
				t.Errorf("the %s shows", name)
			}
		}
	}
}

// An engine that is told to stop while its store is away stops, without a complaint.
func TestStopWhileTheStoreIsAway(t *testing.T) {
	store := memory.New()
	store.Fail(func(string) error { return errors.New("away") })
	ctx, stop := context.WithCancel(t.Context())
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = key(t, "k")
	cfg.Observe = func(e sessions.Event) {
		if e.Kind == sessions.EventStartRetried {
			stop()
		}
	}
	e, err := sessions.New(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(ctx); err != nil {
		t.Error(err)
	}
}

// A caller that ends what another engine has just ended hears so only once this engine denies the
// session, too.
func TestEndingTwiceElsewhere(t *testing.T) {
	t.Parallel()
	again := map[string]func(e *sessions.Engine, i sessions.Issued) error{
		"End": func(e *sessions.Engine, i sessions.Issued) error {
			_, err := e.End(t.Context(), i.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		},
		"EndUser": func(e *sessions.Engine, _ sessions.Issued) error {
			_, err := e.EndUser(t.Context(), "alice", sessions.Ending{Reason: sessions.ReasonRevoked})
			return err
		},
		"SignOut": func(e *sessions.Engine, i sessions.Issued) error {
			return e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{i.Refresh.Reveal()}})
		},
	}
	for name, end := range again {
		store := newWatched()
		one, _ := start(t, store, quiet(t))
		two, _ := start(t, store, quiet(t))
		i := create(t, one)
		if _, err := one.End(t.Context(), i.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
			t.Fatal(err)
		}
		if d := verify(two, i.Access); d != nil {
			t.Fatalf("%s: heard of it by itself: %v", name, d)
		}
		if err := end(two, i); err != nil {
			t.Error(name, err)
		}
		if d := verify(two, i.Access); d != sessions.DenyEnded {
			t.Errorf("%s again: %v", name, d)
		}
	}
}
