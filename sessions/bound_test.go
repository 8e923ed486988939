package sessions_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// readProof is what the engine gets of a text; nil if it is no proof.
func readProof(text string) *sessions.Proof { return browser.ParseProof([]string{text}) }

// boundConfig offers to bind sessions.
func boundConfig(t *testing.T) sessions.Config {
	t.Helper()
	cfg := quiet(t)
	cfg.Binding.Offer = true
	return cfg
}

// A session is offered to be bound, gets a key, is bound by the first proof, and is then refreshed by
// proofs alone.
func TestBind(t *testing.T) {
	store := memory.New()
	e := sessionstest.StartEngine(t, store, boundConfig(t))
	device := sessionstest.NewDevice(t)
	i, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Transport: sessions.TransportCookie})
	if err != nil || i.Challenge == "" {
		t.Fatalf("no challenge: %v", err)
	}
	h, tokens := i.Session.Handle, []string{i.Refresh.Reveal()}
	if life := i.AccessExpires.Sub(i.Session.CreatedAt); life > 10*time.Minute {
		t.Errorf("the first access token lives %s", life)
	}
	if _, err := e.Bind(t.Context(), sessions.Prover{Tokens: tokens, Proof: readProof(device.Registration(i.Challenge))}); err != nil {
		t.Fatal(err)
	}
	var ask *sessions.ChallengeError
	if _, err := e.RefreshBound(t.Context(), sessions.Prover{Tokens: tokens, Session: h}); !errors.As(err, &ask) {
		t.Fatal(err)
	}
	proven, err := e.RefreshBound(t.Context(), sessions.Prover{Tokens: tokens, Session: h, Proof: readProof(device.Proof(ask.Challenge))})
	if err != nil {
		t.Fatal(err)
	}
	a, d := e.Verify(sessions.TransportCookie, []string{proven.Access.Reveal()})
	if d != nil || !a.Bound {
		t.Errorf("%v, bound: %v", d, a != nil && a.Bound)
	}
	if _, err := e.Refresh(t.Context(), sessions.TransportCookie, tokens, sessions.Client{}); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("a plain refresh: %v", err)
	}
	again, err := e.RefreshShown(t.Context(), sessions.TransportCookie, tokens, sessions.Client{}, sessions.Device{}, sessions.Shown{Access: []string{proven.Access.Reveal()}, Again: true})
	if err != nil || again.Access != "" || again.Refresh != "" || again.Rule != sessions.B8 {
		t.Errorf("with the access token of the proof: %v, %s", err, again.Rule)
	}
	waits, err := e.RefreshShown(t.Context(), sessions.TransportCookie, tokens, sessions.Client{}, sessions.Device{}, sessions.Shown{Again: true})
	if !errors.Is(err, sessions.ErrUnproven) || waits.Waits == "" {
		t.Errorf("again without a proof: %v", err)
	}
	store.Advance(11 * time.Minute)
	_, err = e.RefreshShown(t.Context(), sessions.TransportCookie, tokens, sessions.Client{}, sessions.Device{}, sessions.Shown{Again: true, Waits: []string{waits.Waits.Reveal()}})
	if !errors.Is(err, sessions.ErrUnproven) && !errors.Is(err, sessions.ErrKeyLost) {
		t.Errorf("for long without a proof: %v", err)
	}
	if err := e.SignOut(t.Context(), sessions.TransportCookie, tokens, nil); !errors.Is(err, sessions.ErrProve) {
		t.Errorf("sign-out by the refresh token: %v", err)
	}
	if _, err := e.Get(t.Context(), h); err != nil {
		t.Errorf("the session: %v", err)
	}
}
