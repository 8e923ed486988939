package sessions_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// An end that took longer than our half of D is not "ended": the answer would clear
// cookies that a new sign-in may have set meanwhile.
func TestLateEndedIsUnavailable(t *testing.T) {
	store := newWatched()
	e, _ := start(t, store, quiet(t))
	issued, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	attacker := issued.Refresh
	for range 2 { // generate a child, and use it
		store.Advance(time.Minute)
		next, err := e.Refresh(t.Context(), inCookie(sessions.Client{1}, issued.Refresh.Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		if next.Refresh != "" {
			issued = next
		}
	}
	store.Advance(time.Minute)
	ctx, hangUp := context.WithCancel(t.Context())
	store.failing(func(call string, done bool) error {
		if call == "EndIf" && done {
			hangUp()
		}
		return nil
	})
	_, err = e.Refresh(ctx, inCookie(sessions.Client{1}, attacker.Reveal()))
	if ctx.Err() == nil || !errors.Is(err, sessions.ErrUnavailable) || errors.Is(err, sessions.ErrSessionEnded) {
		t.Errorf("error %v, want unavailable and not ended", err)
	}
}

// R4 takes one call to the store, and so do the rules that write nothing: a plain read where the engine
// knows that R4 does not fit.
func TestCallsOfARefresh(t *testing.T) {
	store := newWatched()
	cfg := quiet(t)
	cfg.RefreshesPerSession = sessions.Rate{PerSecond: 10, Burst: 2000}
	e, _ := start(t, store, cfg)
	first := create(t, e)
	calls := func(token sessions.Token, from sessions.Client) (sessions.Issued, string) {
		t.Helper()
		before := store.counted()
		i, err := e.Refresh(t.Context(), inCookie(from, token.Reveal()))
		if err != nil && !errors.Is(err, sessions.ErrSuperseded) {
			t.Fatal(err)
		}
		var made []string
		for call, n := range store.counted() {
			for range n - before[call] {
				made = append(made, call)
			}
		}
		slices.Sort(made)
		return i, string(i.Rule) + ": " + strings.Join(made, ", ")
	}
	var child sessions.Issued
	for _, step := range []struct {
		after time.Duration
		child bool // is presented
		from  sessions.Client
		want  string
	}{
		{0, false, home, "R3: Get"},
		{time.Minute, false, home, "R4: Rotate"},
		{0, false, home, "R5: Get"},
		{0, false, elsewhere, "R5: Get"},
		{6 * time.Second, false, home, "R5: Get, Swap"},
		{0, true, home, "R6: Get, Swap"},
		{0, false, home, "R7: Get"},
		{time.Minute, true, home, "R4: Rotate"},
	} {
		store.Advance(step.after)
		if _, err := e.EndUser(t.Context(), "absent", sessions.Ending{}); err != nil { // it reads the feed, and the time
			t.Fatal(err)
		}
		token := first.Refresh
		if step.child {
			token = child.Refresh
		}
		i, got := calls(token, step.from)
		if got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
		if i.Refresh != "" {
			child = i
		}
	}
	young := create(t, e)
	store.Advance(time.Minute) // unheard, so the engine guesses wrong
	if i, got := calls(young.Refresh, home); got != "R4: Get, Swap" || i.Refresh == "" {
		t.Errorf("after a wrong guess: %s, with a child: %v", got, i.Refresh != "")
	}
}

// A store that rotated a row for which another rule decides is not believed: nothing is issued.
func TestRotatedAgainstTheRule(t *testing.T) {
	store := &overeager{ClockedStore: memory.New()}
	e, log := start(t, store, quiet(t))
	i := create(t, e)
	_, err := e.Refresh(t.Context(), inCookie(home, i.Refresh.Reveal()))
	if !errors.Is(err, sessions.ErrUnavailable) || !strings.Contains(err.Error(), "R3") {
		t.Errorf("%v, want unavailable, and the rule", err)
	}
	if event, err := log.await(t.Context(), sessions.EventRefreshAnswered); err != nil || event.Err == nil {
		t.Errorf("told %+v, %v", event, err)
	}
}

// overeager says that it rotates every row.
type overeager struct{ sessionstest.ClockedStore }

func (s *overeager) Rotate(ctx context.Context, h sessions.Handle, r sessions.Rotation) (sessions.Record, time.Time, bool, error) {
	rec, now, _, err := s.ClockedStore.Rotate(ctx, h, r)
	return rec, now, true, err
}
