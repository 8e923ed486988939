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
	tokens := []string{i.Refresh.Reveal()}
	told, err := e.Bind(t.Context(), sessions.Prover{Tokens: tokens, Proof: readProof(device.Registration(i.Challenge))})
	if err != nil {
		t.Fatal(err)
	}
	p := sessions.Prover{Tokens: tokens, Identifier: told.Identifier.Reveal()}
	var ask *sessions.ChallengeError
	if _, err := e.RefreshBound(t.Context(), p); !errors.As(err, &ask) {
		t.Fatal(err)
	}
	p.Proof = readProof(device.Proof(ask.Challenge))
	proven, err := e.RefreshBound(t.Context(), p)
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
