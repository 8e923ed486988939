package sessions_test

import (
	"errors"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// The access token that follows one with other claims is bound as the former one was. Otherwise a
// change of claims would shut its user out of every route for bound sessions; and a token without a
// proof must not get one in this way.
func TestReissueKeepsTheBinding(t *testing.T) {
	e := sessionstest.StartEngine(t, memory.New(), boundConfig(t))
	device := sessionstest.NewDevice(t)
	i, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Transport: sessions.TransportCookie})
	if err != nil {
		t.Fatal(err)
	}
	h, tokens := i.Session.Handle, []string{i.Refresh.Reveal()}
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
	for token, bound := range map[sessions.Token]bool{i.Access: false, proven.Access: true} {
		former, d := e.Verify(sessions.TransportCookie, []string{token.Reveal()})
		if d != nil || former.Bound != bound {
			t.Fatalf("%v, bound: %v", d, former != nil && former.Bound)
		}
		next, err := e.Reissue(former, proven.Session)
		if err != nil {
			t.Fatal(err)
		}
		if a, d := e.Verify(sessions.TransportCookie, []string{next.Access.Reveal()}); d != nil || a.Bound != bound {
			t.Errorf("a token that was bound: %v is followed by one: %v (%v)", bound, a != nil && a.Bound, d)
		}
	}
}
