package sessions_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
)

// taker is an audit output that a test can break.
type taker struct {
	mu    sync.Mutex
	taken []sessions.AuditEvent
	fault error
	more  chan struct{} // receives after each batch; the test need not receive
}

func newTaker() *taker { return &taker{more: make(chan struct{}, 1)} }

func (k *taker) take(_ context.Context, events []sessions.AuditEvent) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault != nil {
		return k.fault
	}
	k.taken = append(k.taken, events...)
	select {
	case k.more <- struct{}{}:
	default:
	}
	return nil
}

func (k *taker) breaks(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = err
}

func (k *taker) all() []sessions.AuditEvent {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.taken)
}

// await returns what was taken once it is n events.
func (k *taker) await(t *testing.T, n int) []sessions.AuditEvent {
	t.Helper()
	for {
		if all := k.all(); len(all) >= n {
			return all
		}
		select {
		case <-k.more:
		case <-t.Context().Done():
			t.Fatalf("%d events, want %d", len(k.all()), n)
		}
	}
}

func audited(t *testing.T, take func(context.Context, []sessions.AuditEvent) error) sessions.Config {
	cfg := lively(t)
	cfg.Audit, cfg.AuditPoll, cfg.AuditBatch = take, time.Millisecond, 2
	return cfg
}

// The audit events report what the engine decides: each refresh that wrote, with its rule, and each
// end, with its reason and its actor.
func TestAuditTellsWhatWasDecided(t *testing.T) {
	t.Parallel()
	store, k := newWatched(), newTaker()
	cfg := audited(t, k.take)
	e, _ := start(t, store, cfg)
	k.await(t, 2) // the first keys
	first, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Client: home, Actor: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	refresh(t, e, first.Refresh, home) // R3 writes nothing
	store.Advance(cfg.RefreshAttemptMax)
	second := refresh(t, e, first.Refresh, home)
	refresh(t, e, first.Refresh, home) // R5 at once writes nothing
	store.Advance(cfg.RefreshAttemptMax / 2)
	refresh(t, e, first.Refresh, home)
	refresh(t, e, second.Refresh, home) // R6
	if _, err := e.Update(t.Context(), first.Session.Handle, sessions.Attributes{Data: []byte(`{}`), Actor: "shop"}); err != nil {
		t.Fatal(err)
	}
	refresh(t, e, first.Refresh, home) // R7 writes nothing
	store.Advance(cfg.RefreshAttemptMax)
	if _, err := e.Refresh(t.Context(), inCookie(home, first.Refresh.Reveal())); !errors.Is(err, sessions.ErrTheft) {
		t.Fatal(err)
	}
	got := k.await(t, 8)[2:]
	for i := range got {
		got[i].ID, got[i].At = 0, time.Time{}
	}
	event := func(kind sessions.AuditKind, rule sessions.Rule, reason sessions.Reason, actor string) sessions.AuditEvent {
		return sessions.AuditEvent{Kind: kind, Handle: first.Session.Handle, UserID: "alice", Rule: rule, Reason: reason, Actor: actor}
	}
	want := []sessions.AuditEvent{
		event(sessions.AuditCreated, "", "", "shop"),
		event(sessions.AuditRefreshed, sessions.R4, "", "refresh"),
		event(sessions.AuditRefreshed, sessions.R5, "", "refresh"),
		event(sessions.AuditRefreshed, sessions.R6, "", "refresh"),
		event(sessions.AuditDataChanged, "", "", "shop"),
		event(sessions.AuditEnded, sessions.R8, sessions.ReasonTheft, "refresh"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// An output that fails, and a death between the delivery and the removal, lose
// nothing and change no order; the log tells of an outage once, and of its end.
func TestAuditOutage(t *testing.T) {
	t.Parallel()
	store, k := memory.New(), newTaker()
	full := errors.New("no space left")
	both := make(chan struct{})
	refused := sync.OnceFunc(func() { close(both) })
	e, log := start(t, store, audited(t, func(ctx context.Context, events []sessions.AuditEvent) error {
		err := k.take(ctx, events)
		if err != nil && len(events) == 2 {
			refused()
		}
		return err
	}))
	k.await(t, 2)
	k.breaks(full)
	for range 3 {
		create(t, e)
	}
	<-both // else a batch of the first event alone might still be under way, and be taken
	failed, err := log.await(t.Context(), sessions.EventAuditFailed)
	if err != nil || !errors.Is(failed.Err, full) {
		t.Fatalf("%v, %v", failed, err)
	}
	died := make(chan struct{})
	deaths := 0
	store.Fail(func(method string) error {
		if method != "RemoveEvents" || deaths == 3 {
			return nil
		}
		if deaths++; deaths == 3 {
			close(died)
		}
		return errors.New("died")
	})
	k.breaks(nil)
	<-died
	if _, err := log.await(t.Context(), sessions.EventAuditRecovered); err != nil {
		t.Fatal(err)
	}
	got := k.await(t, 2+3*2+3)[2:]
	var ids []int64
	for _, e := range got {
		ids = append(ids, e.ID)
	}
	if want := []int64{3, 4, 3, 4, 3, 4, 3, 4, 5}; !slices.Equal(ids, want) {
		t.Errorf("delivered %v, want %v", ids, want)
	}
	told := 0
	for _, e := range log.all() {
		if e.Kind == sessions.EventAuditFailed {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times of one outage", told)
	}
}

// What happened last is delivered before the process ends.
func TestAuditFlush(t *testing.T) {
	t.Parallel()
	k := newTaker()
	cfg := audited(t, k.take)
	cfg.AuditPoll, cfg.AuditBatch = time.Hour, 10
	log := &events{}
	cfg.Observe = log.add
	e, err := sessions.New(memory.New(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	k.await(t, 2) // and then it waits for an hour
	if _, err := log.await(t.Context(), sessions.EventAudited); err != nil {
		t.Fatal(err)
	}
	for range 25 {
		create(t, e)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(k.all()); n != 27 {
		t.Errorf("%d events, want 27", n)
	}
}

// An output that takes nothing keeps no client from working, and does not keep the process from
// stopping.
func TestAuditOutputThatHangs(t *testing.T) {
	t.Parallel()
	hangs, freed := make(chan struct{}, 100), make(chan error, 100)
	cfg := audited(t, func(ctx context.Context, _ []sessions.AuditEvent) error {
		hangs <- struct{}{}
		<-ctx.Done()
		freed <- ctx.Err()
		return ctx.Err()
	})
	e, err := sessions.New(memory.New(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-hangs
	i := create(t, e)
	if _, err := e.End(t.Context(), i.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Not the limit of any delivery ended it, but the shorter one of the shutdown.
	if err := <-freed; !errors.Is(err, context.Canceled) {
		t.Errorf("it was ended by %v", err)
	}
	if len(freed) > 0 {
		t.Error("an output that hangs is asked once more")
	}
}
