package sessions_test

import (
	"errors"
	"maps"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// frozen has an engine's clock stand still until it is told what passes.
func frozen(cfg *sessions.Config) (pass func(time.Duration)) {
	var passed atomic.Int64
	began := time.Now()
	cfg.Now = func() time.Time { return began.Add(time.Duration(passed.Load())) }
	return func(d time.Duration) { passed.Add(int64(d)) }
}

// A client that refreshes too often is told to wait, without a query, a write or a decision. Once
// it has waited, it is answered again.
func TestRefreshesPerSession(t *testing.T) {
	store := newWatched()
	cfg := quiet(t)
	pass := frozen(&cfg)
	cfg.RefreshesPerSession = sessions.Rate{PerSecond: 2, Burst: 5}
	e, _ := start(t, store, cfg)
	sign := func() string {
		t.Helper()
		issued, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		return issued.Refresh.Reveal()
	}
	refresh := func(tokens ...string) error {
		_, err := e.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: tokens, Client: sessions.Client{1}})
		return err
	}
	mine, others := sign(), sign()
	for i := range 5 {
		if err := refresh(mine); err != nil {
			t.Fatalf("attempt %d: %v", i+1, err)
		}
	}
	before := store.counted()
	for range 100 {
		var limited *sessions.RateError
		if err := refresh(mine); !errors.As(err, &limited) || limited.RetryAfter <= 0 || limited.RetryAfter > time.Second {
			t.Fatalf("%v, want a wait", err)
		} else if errors.Is(err, sessions.ErrSessionEnded) || errors.Is(err, sessions.ErrUnavailable) || errors.Is(err, sessions.ErrSuperseded) {
			t.Fatalf("%v is a verdict", err)
		}
	}
	if after := store.counted(); !maps.Equal(before, after) {
		t.Errorf("the store was asked: %v, before %v", after, before)
	}
	if err := refresh("sgr1_x", mine); !errors.As(err, new(*sessions.RateError)) {
		t.Errorf("beside garbage: %v, want a wait", err)
	}
	if err := refresh(others); err != nil {
		t.Errorf("another session pays for it: %v", err)
	}
	pass(time.Second)
	for range 2 {
		if err := refresh(mine); err != nil {
			t.Errorf("after a second: %v", err)
		}
	}
	if err := refresh(mine); err == nil {
		t.Error("a second gives more than its share")
	}
}

// An attacker who floods with a stolen token does not hide the owner's refresh, which reveals the
// theft.
func TestFloodHidesNoTheft(t *testing.T) {
	store := newWatched()
	cfg := quiet(t)
	frozen(&cfg)
	cfg.RefreshesPerSession = sessions.Rate{PerSecond: 2, Burst: 100}
	e, _ := start(t, store, cfg)
	issued, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	owners, stolen := issued.Refresh.Reveal(), issued.Refresh.Reveal()
	attacker := sessions.Client{2}
	for range 2 { // generate a child, and use it
		store.Advance(time.Minute)
		next, err := e.Refresh(t.Context(), inCookie(attacker, stolen))
		if err != nil {
			t.Fatal(err)
		}
		if next.Refresh != "" {
			stolen = next.Refresh.Reveal()
		}
	}
	store.Advance(time.Minute)
	for err = nil; !errors.As(err, new(*sessions.RateError)); {
		if _, err = e.Refresh(t.Context(), inCookie(attacker, stolen)); errors.Is(err, sessions.ErrSessionEnded) {
			t.Fatal(err)
		}
	}
	if _, err := e.Refresh(t.Context(), inCookie(sessions.Client{1}, owners)); !errors.Is(err, sessions.ErrTheft) {
		t.Errorf("%v, want theft", err)
	}
}

func TestRefreshesPerAddress(t *testing.T) {
	cfg := quiet(t)
	pass := frozen(&cfg)
	cfg.RefreshesPerAddress = sessions.Rate{PerSecond: 10, Burst: 20}
	e, log := start(t, newWatched(), cfg)
	admit := func(text string) error {
		var addr netip.Addr
		if text != "" {
			addr = netip.MustParseAddr(text)
		}
		return e.AdmitRefresh(addr, sessions.TransportCookie, []string{"sgr1_x"})
	}
	for i := range 20 { // of one network, however written
		if err := admit([]string{"192.0.2.1", "192.0.2.77", "::ffff:192.0.2.9"}[i%3]); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		if err := admit("2001:db8::1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, limited := range []string{"192.0.2.200", "::ffff:192.0.2.1", "2001:db8::ffff", "2001:db8::1%eth0"} {
		if err := admit(limited); !errors.As(err, new(*sessions.RateError)) {
			t.Errorf("%s: %v, want a wait", limited, err)
		}
	}
	for _, free := range []string{"192.0.3.1", "2001:db8:0:1::1"} {
		if err := admit(free); err != nil {
			t.Errorf("%s pays for another: %v", free, err)
		}
	}
	for range 100 { // no session is known for these
		if err := admit(""); err != nil {
			t.Fatal(err)
		}
	}
	counted := 0
	for _, event := range log.all() {
		if event.Kind == sessions.EventRefreshAnswered && errors.As(event.Err, new(*sessions.RateError)) {
			counted++
		}
	}
	if counted != 4 {
		t.Errorf("%d are counted, want 4", counted)
	}
	pass(time.Second)
	if err := admit("192.0.2.1"); err != nil {
		t.Errorf("after a second: %v", err)
	}
}

// An attacker who floods with invented tokens, or with a token of their own, does not lock out the
// neighbours in the same network.
func TestNeighboursOfAFlood(t *testing.T) {
	cfg := quiet(t)
	frozen(&cfg)
	cfg.RefreshesPerSession = sessions.Rate{PerSecond: 2, Burst: 5}
	cfg.RefreshesPerAddress = sessions.Rate{PerSecond: 10, Burst: 20}
	e, _ := start(t, newWatched(), cfg)
	refresh := func(text string) error {
		if err := e.AdmitRefresh(netip.MustParseAddr("192.0.2.1"), sessions.TransportCookie, []string{text}); err != nil {
			return err
		}
		_, err := e.Refresh(t.Context(), inCookie(home, text))
		return err
	}
	tokens := []string{create(t, e).Refresh.Reveal(), create(t, e).Refresh.Reveal()}
	for name, flood := range map[string]string{"an invented token": "sgr1_x", "a token of their own": tokens[0]} {
		limited := 0
		for range 100 {
			if errors.As(refresh(flood), new(*sessions.RateError)) {
				limited++
			}
		}
		if limited < 80 {
			t.Errorf("%s: told to wait %d times of 100", name, limited)
		}
		if err := refresh(tokens[1]); err != nil {
			t.Errorf("beside %s: %v", name, err)
		}
	}
}

// A dead token costs a sign-out no more statements than a refresh.
func TestFloodOfSignOuts(t *testing.T) {
	store := newWatched()
	cfg := quiet(t)
	frozen(&cfg)
	cfg.RefreshesPerSession = sessions.Rate{PerSecond: 2, Burst: 5}
	e, _ := start(t, store, cfg)
	issued := create(t, e)
	before := calls(store)
	limited := 0
	for range 100 {
		if errors.As(e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{issued.Refresh.Reveal()}}), new(*sessions.RateError)) {
			limited++
		}
	}
	if asked := calls(store) - before; limited != 95 || asked > 20 {
		t.Errorf("told to wait %d times, %d calls of the store", limited, asked)
	}
}

// 0 a second is no limit; a rate that lets nothing through is a fault.
func TestRates(t *testing.T) {
	cfg := quiet(t)
	cfg.RefreshesPerSession, cfg.RefreshesPerAddress = sessions.Rate{}, sessions.Rate{Burst: 1}
	e, _ := start(t, newWatched(), cfg)
	issued, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if err := e.AdmitRefresh(netip.MustParseAddr("192.0.2.1"), sessions.TransportCookie, []string{issued.Refresh.Reveal()}); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Refresh(t.Context(), inCookie(sessions.Client{1}, issued.Refresh.Reveal())); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []sessions.Rate{{PerSecond: -1, Burst: 1}, {PerSecond: 1}, {PerSecond: 1, Burst: -1}} {
		for _, set := range []func(*sessions.Config){
			func(c *sessions.Config) { c.RefreshesPerSession = bad }, func(c *sessions.Config) { c.RefreshesPerAddress = bad },
		} {
			cfg := quiet(t)
			set(&cfg)
			if _, err := sessions.New(newWatched(), cfg); err == nil {
				t.Errorf("%+v is taken", bad)
			}
		}
	}
}

// calls is how often anything was asked of a store.
func calls(s *watched) (n int) {
	for _, times := range s.counted() {
		n += times
	}
	return n
}
