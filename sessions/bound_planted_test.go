package sessions_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
)

// A sibling host plants the refresh token of a session of its own beside the owner's, at the path of a
// registration or of a proof alone, where no answer deletes it. It must not keep the browser from
// binding, and must not end its device session.
func TestPlantedTokenStopsNoBinding(t *testing.T) {
	store := newWatched()
	e, log := start(t, store, boundConfig(t))
	owner, evil := signedIn(t, store, e, log), signedIn(t, store, e, log)
	own := owner.tokens
	for _, planted := range [][]string{append(slices.Clone(evil.tokens), own...), append(slices.Clone(own), evil.tokens...)} {
		owner.tokens = planted
		if err := owner.bind(); err != nil {
			t.Fatalf("registration: %v", err)
		}
		if i, err := owner.prove(); err != nil || i.Session.Handle != owner.h {
			t.Fatalf("proof: %v", err)
		}
	}
	if evil.row().Bound() || evil.row().BoundKey != (sessions.BoundKey{}) {
		t.Error("the planted session was bound")
	}
}

// The refresh token of a bound session stays the same, so a thief has the owner's for good. A flood
// with it must not keep the owner from a sign-out, nor from the refresh after new claims.
func TestFloodWithTheTokenKeepsNoOwnerOut(t *testing.T) {
	cfg := boundConfig(t)
	cfg.RefreshesPerSession = sessions.Rate{PerSecond: 1, Burst: 3}
	b, proven := newBound(t, cfg)
	flood := func() {
		var limited *sessions.RateError
		for range 1000 { // the machine may stall for as long as it takes to be allowed some more
			if _, err := b.plain(sessions.Shown{}); errors.As(err, &limited) {
				return
			}
		}
		t.Fatal("no limit")
	}
	flood()
	if _, err := b.e.Update(t.Context(), b.h, sessions.Attributes{Claims: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	// 440: the page asks for a refresh, and is sent to prove.
	if _, err := b.plain(sessions.Shown{Access: []string{proven.Access.Reveal()}}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("refresh after new claims: %v", err)
	}
	i, err := b.prove()
	b.must(err)
	flood()
	if i, err := b.plain(sessions.Shown{Access: []string{i.Access.Reveal()}, Again: true}); err != nil || i.Rule != sessions.B8 {
		t.Errorf("after the proof: %v", err)
	}
	flood()
	if err := b.e.SignOut(t.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: b.tokens, Access: []string{i.Access.Reveal()}}); err != nil {
		t.Errorf("sign-out: %v", err)
	}
}
