package sessions_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sessiongate/sessiongate/sessions"
)

// An observer that counts refreshes hears of each once, with the deciding rule.
func TestEachRefreshIsToldOnce(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, lively(t))
	told := 0
	asks := func(token sessions.Token, from sessions.Client, rule sessions.Rule, want error) sessions.Issued {
		t.Helper()
		issued, err := e.Refresh(t.Context(), inCookie(from, token.Reveal()))
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", rule, err, want)
		}
		var answered []sessions.Event
		for _, event := range log.all() {
			if event.Kind == sessions.EventRefreshAnswered {
				answered = append(answered, event)
			}
		}
		if told++; len(answered) != told {
			t.Fatalf("%s: told %d times, want %d", rule, len(answered), told)
		}
		if last := answered[told-1]; last.Rule != rule || !errors.Is(last.Err, want) || (last.Err == nil) != (want == nil) || last.Took < 0 {
			t.Errorf("%s: told %+v", rule, last)
		}
		return issued
	}

	first := create(t, e)
	asks(sessions.Token("rubbish"), home, sessions.R1, sessions.ErrSessionEnded)
	asks(first.Refresh, home, sessions.R3, nil)
	asks(first.Refresh, elsewhere, sessions.R3, sessions.ErrSuperseded)
	advance(t, store, time.Minute, e)
	child := asks(first.Refresh, home, sessions.R4, nil)
	asks(first.Refresh, home, sessions.R5, nil)
	asks(first.Refresh, elsewhere, sessions.R5, sessions.ErrSuperseded)
	asks(child.Refresh, home, sessions.R6, nil)
	asks(first.Refresh, home, sessions.R7, nil)
	store.failing(func(call string, _ bool) error {
		if call == "Rotate" {
			return errors.New("the store is on fire")
		}
		return nil
	})
	asks(first.Refresh, home, "", sessions.ErrUnavailable)
	store.failing(nil)
	advance(t, store, 2*time.Minute, e)
	asks(first.Refresh, home, sessions.R8, sessions.ErrTheft)
	asks(first.Refresh, home, sessions.R2, sessions.ErrSessionEnded)
}

func TestStats(t *testing.T) {
	store := newWatched()
	e, log, _ := launch(t, store, quiet(t))
	if _, err := log.await(t.Context(), sessions.EventReady); err != nil {
		t.Fatal(err)
	}
	ended, claims := create(t, e), create(t, e)
	for range 3 {
		verify(e, claims.Access)
	}
	if _, err := e.End(t.Context(), ended.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Update(t.Context(), claims.Session.Handle, sessions.Attributes{Claims: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	got := e.Stats()
	want := sessions.Stats{
		FeedPolls: 1, FeedRead: 2, FeedResyncs: 1, FeedEnded: 1, FeedClaims: 1, CachedTokens: 1, CacheHits: 2, CacheMisses: 1,
		PromotionQueue: quiet(t).PromotionQueue,
		Keys:           []sessions.KeyStats{{Kind: sessions.KeySigning, Known: 1}, {Kind: sessions.KeySealing, Known: 1}},
	}
	ages := cmpopts.IgnoreTypes(time.Duration(0))
	counted := cmpopts.IgnoreFields(sessions.Stats{}, "Sessions") // at its own moment: TestSessionsAreCounted
	if diff := cmp.Diff(want, got, ages, counted); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got.FeedAge <= 0 {
		t.Errorf("feed age %s", got.FeedAge)
	}
	for _, k := range got.Keys {
		if k.Age <= 0 {
			t.Errorf("%s key's age %s", k.Kind, k.Age)
		}
	}
}

// The sessions are counted once the engine is ready. A store that cannot count is told of, and tried again.
func TestSessionsAreCounted(t *testing.T) {
	store := newWatched()
	one, _ := start(t, store, quiet(t))
	create(t, one)
	create(t, one)
	two, _ := start(t, store, quiet(t))
	for two.Stats().Sessions != 2 {
		runtime.Gosched()
	}
	failing, log, _ := launch(t, uncountable{store}, quiet(t))
	if e, err := log.await(t.Context(), sessions.EventCountFailed); err != nil || e.Err == nil || failing.Stats().Sessions != -1 {
		t.Errorf("%+v, %v: %d sessions", e, err, failing.Stats().Sessions)
	}
}

type uncountable struct{ *watched }

func (uncountable) CountSessions(context.Context) (int, error) {
	return 0, errors.New("the store is on fire")
}

// The feed's failures are counted each; the event comes with the first.
func TestFailedPollsAreCounted(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, lively(t))
	store.failing(func(string, bool) error { return errors.New("the store is on fire") })
	if _, err := log.await(t.Context(), sessions.EventFeedFailed); err != nil {
		t.Fatal(err)
	}
	for e.Stats().FeedPollsFailed < 3 {
		time.Sleep(time.Millisecond) // between two looks
	}
	if s := e.Stats(); s.FeedPolls <= s.FeedPollsFailed {
		t.Errorf("%+v", s)
	}
}
