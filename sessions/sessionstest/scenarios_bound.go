package sessionstest

import (
	"errors"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// The scenarios of sessions that their browsers bind to a device. The thief of each has a copy of all
// cookies, and a device of its own.

// boundLife is that of the access tokens of a bound session, as [sessions.Defaults] has it.
const boundLife = 10 * time.Minute

func (s *scene) prover(token sessions.Token, proof *sessions.Proof) sessions.Prover {
	return sessions.Prover{Tokens: []string{token.Reveal()}, Identifier: s.identifiers[s.handle].Reveal(), Proof: proof}
}

// bind registers the key of a device; its answer arrives.
func (s *scene) bind(r *replica, with holder, d *Device) {
	s.Helper()
	i, err := r.Bind(s.Context(), s.prover(with.refresh, d.Register(with.offer)))
	if err != nil {
		s.Fatalf("registering a key: %v", err)
	}
	s.identifiers[s.handle] = i.Identifier
}

// unbindable is a registration that is refused.
func (s *scene) unbindable(r *replica, with holder, challenge sessions.Token, d *Device) {
	s.Helper()
	before := s.row()
	if i, err := r.Bind(s.Context(), s.prover(with.refresh, d.Register(challenge))); !errors.Is(err, sessions.ErrBindRefused) || i.Access != "" {
		s.Fatalf("registering a key: %v", err)
	}
	if s.row() != before {
		s.Fatal("a refused registration changed the session")
	}
}

func (s *scene) challenge(r *replica, with holder) sessions.Token {
	s.Helper()
	_, err := r.RefreshBound(s.Context(), s.prover(with.refresh, nil))
	var asked *sessions.ChallengeError
	if !errors.As(err, &asked) {
		s.Fatalf("asking for a challenge: %v", err)
	}
	return asked.Challenge
}

// proven is a proof that must be answered with an access token.
func (s *scene) proven(r *replica, with holder, proof *sessions.Proof) sessions.Issued {
	s.Helper()
	i, err := r.RefreshBound(s.Context(), s.prover(with.refresh, proof))
	if err != nil || i.Rule != sessions.B4 || i.Access == "" {
		s.Fatalf("a proof: %s, %v", i.Rule, err)
	}
	if life := i.AccessExpires.Sub(i.Session.ExpiresAt.Add(-i.RefreshLife)); life > boundLife {
		s.Fatalf("an access token of a proof lives %s", life)
	}
	return i
}

// unproven is a proof that must end with the error want.
func (s *scene) unproven(r *replica, with holder, proof *sessions.Proof, want error) {
	s.Helper()
	i, err := r.RefreshBound(s.Context(), s.prover(with.refresh, proof))
	if !errors.Is(err, want) || i.Access != "" || i.Refresh != "" {
		s.Fatalf("a proof: %s, %v; want %v", i.Rule, err, want)
	}
}

// proves asks for a challenge at one replica and proves at the other.
func (s *scene) proves() {
	s.Helper()
	s.client.take(s.proven(s.two, s.client, s.device.Prove(s.challenge(s.one, s.client))))
	s.client.waits = ""
	s.allowed(s.one, s.client.access)
}

// bound has a session bound; all answers arrive.
func (s *scene) bound() {
	s.Helper()
	s.bind(s.one, s.client, s.device)
	s.proves()
}

// plain is a refresh without a proof, and its error. It takes the cookie of one that has to wait.
func (s *scene) plain(r *replica, with *holder, shown sessions.Shown) (sessions.Issued, error) {
	s.Helper()
	shown.Access = []string{with.access.Reveal()}
	if with.waits != "" {
		shown.Waits = []string{with.waits.Reveal()}
	}
	i, err := r.Refresh(s.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{with.refresh.Reveal()}, Client: fromW, Shown: shown})
	if err != nil && (i.Access != "" || i.Refresh != "") {
		s.Fatal("a refused refresh carries tokens")
	}
	if i.Waits != "" {
		with.waits = i.Waits
	}
	return i, err
}

// sentToProve is B9, and B10 for one that does not prove.
func (s *scene) sentToProve(with *holder) {
	s.Helper()
	before := s.row()
	if _, err := s.plain(s.one, with, sessions.Shown{}); !errors.Is(err, sessions.ErrProve) {
		s.Fatalf("a plain refresh: %v", err)
	}
	for _, skipped := range []bool{false, true} {
		if _, err := s.plain(s.two, with, sessions.Shown{Again: true, Skipped: skipped}); !errors.Is(err, sessions.ErrUnproven) {
			s.Fatalf("a plain refresh that came again: %v", err)
		}
	}
	if s.row() != before {
		s.Fatal("a plain refresh changed a bound session")
	}
}

// powerless is a thief who has cookies and no key: it gets nothing, and ends nothing.
func (s *scene) powerless(thief holder) {
	s.Helper()
	own, before := NewDevice(s.T), s.row()
	thief.waits = ""
	s.sentToProve(&thief)
	challenge, id := s.challenge(s.one, thief), s.identifiers[s.handle]
	s.unbindable(s.two, thief, challenge, own)
	for _, known := range []sessions.Token{"", id} { // to a thief of cookies it is not
		s.identifiers[s.handle] = known
		s.unproven(s.one, thief, own.Prove(challenge), sessions.ErrNotThisDevice)
		s.unproven(s.one, thief, own.Register(challenge), sessions.ErrNotThisDevice)
	}
	refresh := []string{thief.refresh.Reveal()}
	if err := s.one.SignOut(s.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: refresh}); !errors.Is(err, sessions.ErrProve) {
		s.Fatalf("a sign-out by a refresh token: %v", err)
	}
	if err := s.two.SignOut(s.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: refresh, Again: true}); err != nil {
		s.Fatalf("a sign-out that came again: %v", err)
	}
	if s.row() != before {
		s.Fatal("a thief without the key changed a bound session")
	}
}

// outlived: what the thief got of a session before it was bound ends with the life of a bound
// session's access token.
func (s *scene) outlived(access sessions.Token) {
	s.Helper()
	pass, err := ReadAccess(access.Reveal())
	if err != nil || pass.Life > boundLife {
		s.Fatalf("an access token of before lives %s, %v", pass.Life, err)
	}
}

// copiedBefore: the cookies are copied at each moment before the session is bound.
func copiedBefore(s *scene) {
	thief := s.client
	got := s.refreshed(s.one, thief.refresh, fromV, sessions.R3)
	s.outlived(got.Access)
	s.bind(s.two, s.client, s.device)
	s.outlived(s.refreshed(s.one, thief.refresh, fromV, sessions.R3).Access)
	s.advance(grace + moment)
	child := s.refreshed(s.one, thief.refresh, fromX, sessions.R4) // of a session with a key
	s.outlived(child.Access)
	s.proves()
	s.powerless(thief)
	thief.take(child)
	s.used(s.two, thief.access) // any use of it promotes the child, which now decides nothing
	s.powerless(thief)
	s.advance(boundLife)
	s.denied(child.Access, sessions.DenyExpired)
	s.proves()
}

// copiedAfter: the cookies are copied, and captured proofs with them.
func copiedAfter(s *scene) {
	s.bind(s.one, s.client, s.device)
	first := s.device.Prove(s.challenge(s.one, s.client))
	s.client.take(s.proven(s.two, s.client, first))
	thief, end := s.client, s.row().AbsoluteExpiresAt
	s.advance(2*grace + moment)
	s.powerless(thief)
	s.proven(s.one, thief, first) // a thief who saw the proof can repeat it while its challenge is young
	s.advance(sessions.Defaults().Binding.ChallengeLife)
	var asked *sessions.ChallengeError
	if _, err := s.one.RefreshBound(s.Context(), s.prover(thief.refresh, first)); !errors.As(err, &asked) {
		s.Fatalf("an old proof: %v", err)
	}
	s.unbindable(s.one, thief, thief.offer, s.device)
	s.advance(boundLife)
	s.denied(thief.access, sessions.DenyExpired)
	s.powerless(thief)
	for range 3 {
		s.proves()
		s.advance(20 * 24 * time.Hour)
	}
	s.proves()
	if !s.row().AbsoluteExpiresAt.Equal(end) {
		s.Fatal("the absolute expiry moved")
	}
}

// boundAnswersLost: without the answer to the registration, the browser has no device session, and
// refreshes as before. Without that to a proof it proves again.
func boundAnswersLost(s *scene) {
	s.bind(s.one, s.client, s.device) // lost
	s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R3))
	s.advance(time.Hour)
	s.client.take(s.refreshed(s.two, s.client.refresh, fromV, sessions.R4))
	s.outlived(s.client.access)
	s.used(s.one, s.client.access)
	s.signedIn()

	s.handle, s.client = s.signIn()
	s.bind(s.one, s.client, s.device)
	s.bind(s.two, s.client, s.device)                                                              // its answer was lost
	s.proven(s.one, s.client, s.device.Prove(s.challenge(s.two, s.client)))                        // lost
	s.proven(s.two, s.client, s.device.Prove(s.challenge(s.two, s.client)))                        // lost
	if _, err := s.plain(s.one, &s.client, sessions.Shown{}); !errors.Is(err, sessions.ErrProve) { // it has the access token of the sign-in
		s.Fatalf("without the answer to a proof: %v", err)
	}
	s.advance(time.Hour) // it could not prove for long, and has its key
	if _, err := s.plain(s.one, &s.client, sessions.Shown{Again: true, Skipped: true}); !errors.Is(err, sessions.ErrUnproven) {
		s.Fatalf("for long without an answer to a proof: %v", err)
	}
	s.proves()
	if i, err := s.plain(s.two, &s.client, sessions.Shown{Again: true}); err != nil || i.Rule != sessions.B8 || i.Access != "" {
		s.Fatalf("after the proof: %s, %v", i.Rule, err)
	}
}

// boundSecondSignIn: the device session of the first session ends, and that of the second begins.
func boundSecondSignIn(s *scene) {
	s.bound()
	first, old := s.handle, s.client
	s.handle, s.client = s.signIn()
	second := s.handle
	s.handle = first // the device session of the first one asks with the cookies of the second
	s.unproven(s.one, s.client, nil, sessions.ErrNotThisDevice)
	s.handle = second
	s.bound()
	if _, err := s.one.RefreshBound(s.Context(), sessions.Prover{Tokens: []string{s.client.refresh.Reveal(), old.refresh.Reveal()}, Identifier: s.identifiers[second].Reveal()}); errors.Is(err, sessions.ErrSessionEnded) {
		s.Fatalf("with the refresh tokens of both: %v", err)
	}
	// A challenge of the one is none of the other.
	challenge := s.challenge(s.one, s.client)
	s.handle = first
	var asked *sessions.ChallengeError
	if _, err := s.one.RefreshBound(s.Context(), s.prover(old.refresh, s.device.Prove(challenge))); !errors.As(err, &asked) {
		s.Fatalf("a proof for another session: %v", err)
	}
	s.proven(s.two, old, s.device.Prove(s.challenge(s.one, old)))
	s.handle = second
	s.proves()
}

// outThenProof: a proof that comes late after a second sign-in must not clear the new cookies.
func outThenProof(s *scene) {
	s.bound()
	late, proof := s.client, s.device.Prove(s.challenge(s.one, s.client))
	if err := s.one.SignOut(s.Context(), sessions.SignOutRequest{Transport: sessions.TransportCookie, Refresh: []string{late.refresh.Reveal()}, Access: []string{late.access.Reveal()}}); err != nil {
		s.Fatalf("a sign-out with an access token: %v", err)
	}
	s.denied(late.access, sessions.DenyEnded)
	for _, r := range s.replicas {
		s.unproven(r, late, proof, sessions.ErrSuperseded)
	}
	s.advance(2*grace + moment)
	s.unproven(s.two, late, proof, sessions.ErrSessionEnded)
	s.handle, s.client = s.signIn()
	s.bound()
}

// boundOutage: what the store does not answer is unavailable, and never an end.
func boundOutage(s *scene) {
	s.bind(s.one, s.client, s.device)
	proof := s.device.Prove(s.challenge(s.one, s.client))
	down := func(is bool) {
		for _, r := range s.replicas {
			r.link.mu.Lock()
			r.link.down = is
			r.link.mu.Unlock()
		}
	}
	for range 2 { // the first proof, and another
		down(true)
		s.challenge(s.two, s.client) // asks no store
		s.unproven(s.two, s.client, proof, sessions.ErrUnavailable)
		if _, err := s.one.Bind(s.Context(), s.prover(s.client.refresh, s.device.Register(s.client.offer))); !errors.Is(err, sessions.ErrUnavailable) {
			s.Fatalf("a registration: %v", err)
		}
		down(false)
		s.client.take(s.proven(s.two, s.client, proof))
	}
	s.advance(boundLife)
	s.proves()
	s.powerless(holder{refresh: s.client.refresh})
}

// boundTabs: the tabs share the cookies. One refreshes while it still has the access token of a proof of
// before, the other has the newest.
func boundTabs(s *scene) {
	s.bound()
	before := s.client
	if i, err := s.plain(s.one, &before, sessions.Shown{}); err != nil || i.Rule != sessions.B8 {
		s.Fatalf("just after a proof: %s, %v", i.Rule, err)
	}
	s.advance(2*grace + moment)
	if _, err := s.plain(s.one, &before, sessions.Shown{}); !errors.Is(err, sessions.ErrProve) {
		s.Fatalf("with an older access token: %v", err)
	}
	s.proves()
	if i, err := s.plain(s.two, &s.client, sessions.Shown{Again: true}); err != nil || i.Rule != sessions.B8 {
		s.Fatalf("with the newest: %s, %v", i.Rule, err)
	}
	s.allowed(s.two, before.access)
	s.allowed(s.two, s.client.access)
	// Both tokens travel: a cookie of before lies on another path.
	i, err := s.one.Refresh(s.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{s.client.refresh.Reveal()}, Client: fromV, Shown: sessions.Shown{
		Access: []string{before.access.Reveal(), s.client.access.Reveal()},
	}})
	if err != nil || i.Rule != sessions.B8 {
		s.Fatalf("with both: %s, %v", i.Rule, err)
	}
}

// lostKey: a client whose device has lost its key waits for a while, and then signs in.
func lostKey(s *scene) {
	s.bound()
	s.advance(boundLife)
	row := s.row()
	s.sentToProve(&s.client)
	first := s.client.waits
	s.advance(sessions.Defaults().Binding.LostAfter - moment)
	s.sentToProve(&s.client)
	if s.client.waits != first {
		s.Fatal("the time since when it waits was set again")
	}
	s.advance(2 * moment)
	if _, err := s.plain(s.one, &s.client, sessions.Shown{}); !errors.Is(err, sessions.ErrProve) {
		s.Fatalf("a plain refresh: %v", err)
	}
	if _, err := s.plain(s.one, &s.client, sessions.Shown{Again: true}); !errors.Is(err, sessions.ErrKeyLost) {
		s.Fatalf("again, after that time: %v", err)
	}
	if s.row() != row {
		s.Fatal("a lost key changed the session")
	}
	s.proves() // a client with the key continues
}

// childOfBefore: a child that was issued before the binding is used after it. It signs no one out.
func childOfBefore(s *scene) {
	s.bind(s.one, s.client, s.device)
	s.advance(grace + moment)
	thief := s.client
	thief.take(s.refreshed(s.one, thief.refresh, fromX, sessions.R4))
	s.proves()
	s.used(s.two, thief.access)
	s.powerless(thief)
	s.proves()
	s.advance(boundLife)
	s.proves()
	s.powerless(thief)
}
