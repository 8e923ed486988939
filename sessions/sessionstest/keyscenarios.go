package sessionstest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

const (
	day = 24 * time.Hour
	// A retired key, according to docs/protocol.md: a signing key is kept for the longest life of
	// an access token, 5 s and D; a sealing key for that of a session; both for a day more.
	signingKept = time.Hour + 5*time.Second + grace + 15*time.Minute + day
	sealingKept = 401 * day
)

// DeleteKeys counts its calls, so that a test knows when an engine has looked after its keys.
func (l *link) DeleteKeys(ctx context.Context, kind sessions.KeyKind, after time.Duration) ([]sessions.StoredKey, error) {
	gone, err := l.Store.DeleteKeys(ctx, kind, after)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked++
	l.changed.Broadcast()
	return gone, err
}

// look makes some engines look after the keys, as each does when it starts. It waits until every
// replica has heard of the result.
func (s *scene) look(engines int) {
	s.Helper()
	s.Run("look", func(t *testing.T) {
		var all sync.WaitGroup
		for range engines {
			all.Go(func() {
				r := startReplica(t, s.store, func(*sessions.Config) {})
				r.link.mu.Lock()
				defer r.link.mu.Unlock()
				for r.link.looked < 2 {
					r.link.changed.Wait()
				}
			})
		}
		all.Wait()
	})
	s.settle()
}

func (s *scene) settle() {
	for _, r := range s.replicas {
		r.link.settle()
	}
}

func (s *scene) keySet() sessions.KeySet {
	s.Helper()
	set, err := s.store.Keys(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return set
}

// wantKeys compares what the store holds: kind, generation, state.
func (s *scene) wantKeys(want ...string) {
	s.Helper()
	var got []string
	set := s.keySet()
	for _, k := range set.Keys {
		got = append(got, string(k.Kind)+" "+strconv.Itoa(k.Generation)+" "+string(set.State(k)))
	}
	if !slices.Equal(got, want) {
		s.Fatalf("keys %q, want %q", got, want)
	}
	// Each replica publishes every signing key of the set, and no other.
	var ids []string
	for _, k := range set.Keys {
		if k.Kind == sessions.KeySigning {
			ids = append(ids, k.ID.String())
		}
	}
	for i, r := range s.replicas {
		text, err := r.JWKS()
		var jwks struct {
			Keys []struct {
				ID string `json:"kid"`
			} `json:"keys"`
		}
		if err != nil || json.Unmarshal(text, &jwks) != nil || len(jwks.Keys) != len(ids) {
			s.Fatalf("replica %d publishes %d keys, %v; want %d", i+1, len(jwks.Keys), err, len(ids))
		}
		for _, k := range jwks.Keys {
			if !slices.Contains(ids, k.ID) {
				s.Errorf("replica %d publishes %s, which is gone", i+1, k.ID)
			}
		}
	}
}

// key is the stored key of a kind and generation.
func (s *scene) key(kind sessions.KeyKind, generation int) sessions.StoredKey {
	s.Helper()
	for _, k := range s.keySet().Keys {
		if k.Kind == kind && k.Generation == generation {
			return k
		}
	}
	s.Fatalf("no generation %d of the %s key", generation, kind)
	return sessions.StoredKey{}
}

// signedBy is the id of the key that signed an access token, sealedBy the id of the key that sealed
// a refresh token.
func (s *scene) signedBy(token sessions.Token) string {
	s.Helper()
	header, _, _ := strings.Cut(token.Reveal(), ".")
	text, err := base64.RawURLEncoding.DecodeString(header)
	var fields struct {
		ID string `json:"kid"`
	}
	if err != nil || json.Unmarshal(text, &fields) != nil {
		s.Fatal("not an access token")
	}
	return fields.ID
}

func (s *scene) sealedBy(token sessions.Token) string {
	s.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token.Reveal(), "sgr1_"))
	if err != nil {
		s.Fatal("not a refresh token")
	}
	return sessions.KeyID(text[:8]).String()
}

// madeBy checks the generation of the keys that made what a client was issued.
func (s *scene) madeBy(i sessions.Issued, generation int) {
	s.Helper()
	if id := s.key(sessions.KeySigning, generation).ID.String(); s.signedBy(i.Access) != id {
		s.Fatalf("signed by another key than generation %d", generation)
	}
	if id := s.key(sessions.KeySealing, generation).ID.String(); i.Refresh != "" && s.sealedBy(i.Refresh) != id {
		s.Fatalf("sealed by another key than generation %d", generation)
	}
}

// lifeOfKeys follows both kinds of key, by schedule, from the first generation to its deletion.
func lifeOfKeys(s *scene) {
	cfg := sessions.Defaults()
	// The longest session that is possible, signed in under the first keys.
	longest := startReplica(s.T, s.store, func(c *sessions.Config) {
		c.SlidingLife, c.AbsoluteLife = sessions.AbsoluteLifeMax, sessions.AbsoluteLifeMax
	})
	long, err := longest.Create(s.Context(), sessions.NewSession{UserID: "carol", Client: fromV})
	if err != nil {
		s.Fatal(err)
	}
	s.madeBy(long, 1)
	created := s.key(sessions.KeySigning, 1).CreatedAt

	until := func(at time.Time) { s.Helper(); s.advance(at.Sub(s.keySet().Now)) }
	until(created.Add(29 * day))
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.one, s.client.access)
	until(created.Add(cfg.RotateKeysEvery - moment))
	s.look(1)
	s.wantKeys("sealing 1 in use", "signing 1 in use")
	until(created.Add(cfg.RotateKeysEvery + moment))
	s.look(4) // at once
	s.wantKeys("sealing 1 in use", "sealing 2 published", "signing 1 in use", "signing 2 published")
	s.look(1)
	s.wantKeys("sealing 1 in use", "sealing 2 published", "signing 1 in use", "signing 2 published")

	var pending *sessions.PendingKeyError
	_, err = sessions.RotateKey(s.Context(), s.store, sessions.KeyEncryption{Key: scenarioKey(s.T)}, sessions.KeySigning, 0)
	if !errors.As(err, &pending) || pending.Key.Generation != 2 {
		s.Fatalf("another one beside what is not active yet: %v", err)
	}

	// An issue just before the new keys are active, and its repetition after.
	active := s.key(sessions.KeySigning, 2).ActiveFrom
	if other := s.key(sessions.KeySealing, 2).ActiveFrom; other.After(active) {
		active = other
	}
	until(active.Add(-repeat / 2))
	before := s.refreshed(s.one, s.client.refresh, fromV, sessions.R4)
	s.madeBy(before, 1)
	until(active)
	s.wantKeys("sealing 1 retired", "sealing 2 in use", "signing 1 retired", "signing 2 in use")
	after := s.refreshed(s.two, s.client.refresh, fromV, sessions.R5)
	s.madeBy(after, 2)
	for _, r := range s.replicas {
		s.allowed(r, before.Access)
		s.allowed(r, after.Access)
	}
	s.used(s.one, before.Access)
	s.refreshed(s.two, after.Refresh, fromV, sessions.R3) // the same child, by another key
	s.refreshed(s.one, before.Refresh, fromV, sessions.R3)
	s.client.take(after)

	// No access token outlives its key, and no refresh token does.
	until(active.Add(signingKept - moment))
	s.look(1)
	s.wantKeys("sealing 1 retired", "sealing 2 in use", "signing 1 retired", "signing 2 in use")
	s.denied(before.Access, sessions.DenyExpired)
	until(active.Add(signingKept + moment))
	s.look(2)
	s.wantKeys("sealing 1 retired", "sealing 2 in use", "signing 2 in use")
	s.denied(before.Access, sessions.DenyUnknownKey)
	s.client.take(s.refreshed(s.one, before.Refresh, fromV, sessions.R4)) // sealed by the retired one
	s.signedIn()

	until(long.Session.AbsoluteExpiresAt.Add(-moment))
	s.look(1)
	if id := s.sealedBy(long.Refresh); s.key(sessions.KeySealing, 1).ID.String() != id {
		s.Fatal("the first sealing key is gone")
	}
	s.refreshed(s.two, long.Refresh, fromV, sessions.R4)
	until(active.Add(sealingKept + moment))
	s.look(2)
	if first := s.keySet().Keys[0]; first.Generation != 2 {
		s.Errorf("generation %d is the oldest sealing key, want 2", first.Generation)
	}
	s.refused(s.two, long.Refresh, fromV, sessions.ErrSessionEnded)
}

// keysRewrapped: a new key-encryption key replaces the old one. Replicas that have only the old one
// continue with the keys they have.
func keysRewrapped(s *scene) {
	old, another := scenarioKey(s.T), keyEncryptionKey(s.T, "n")
	keks := sessions.KeyEncryption{Key: another, Previous: old}
	both := startReplica(s.T, s.store, func(c *sessions.Config) { c.KeyEncryptionKey, c.PreviousKeyEncryptionKey = another, old })
	const delay = 2 * time.Second
	rotate := func(keks sessions.KeyEncryption) {
		s.Helper()
		for _, kind := range []sessions.KeyKind{sessions.KeySigning, sessions.KeySealing} {
			if _, err := sessions.RotateKey(s.Context(), s.store, keks, kind, delay); err != nil {
				s.Fatal(err)
			}
		}
		s.settle()
		s.advance(delay)
		both.link.settle()
	}

	// The rollout: what is made meanwhile opens everywhere.
	rotate(keks)
	i, err := both.Create(s.Context(), sessions.NewSession{UserID: "bob", Client: fromW})
	if err != nil {
		s.Fatal(err)
	}
	s.madeBy(i, 2)
	s.allowed(s.one, i.Access)
	s.advance(time.Minute)
	s.client.take(s.refreshed(s.one, s.client.refresh, fromV, sessions.R4))
	s.used(s.two, s.client.access)

	for n, want := range []int{4, 0} {
		done, set, err := sessions.RewrapKeys(s.Context(), s.store, keks)
		if done != want || err != nil || len(set.Keys) != 4 {
			s.Fatalf("round %d rewrapped %d of %d keys, %v", n+1, done, len(set.Keys), err)
		}
	}
	s.settle()
	both.link.settle()
	alone := startReplica(s.T, s.store, func(c *sessions.Config) { c.KeyEncryptionKey = another })
	for _, r := range []*replica{s.one, s.two, both, alone} {
		s.allowed(r, s.client.access)
		s.allowed(r, i.Access)
		s.refreshed(r, i.Refresh, fromW, sessions.R4)
		s.advance(repeat + moment)
	}

	// An operator forgot the replicas one and two.
	rotate(sessions.KeyEncryption{Key: another})
	theirs, err := alone.Create(s.Context(), sessions.NewSession{UserID: "dora", Client: fromW})
	if err != nil {
		s.Fatal(err)
	}
	s.madeBy(theirs, 3)
	s.allowed(both, theirs.Access)
	s.advance(grace + moment)
	mine := s.refreshed(s.one, s.client.refresh, fromV, sessions.R4)
	s.madeBy(mine, 2)
	s.allowed(alone, mine.Access)
	s.used(s.one, mine.Access)
	s.allowed(s.two, i.Access)
	for _, r := range s.replicas {
		if _, denial := r.Verify(sessions.TransportCookie, []string{theirs.Access.Reveal()}); denial != sessions.DenyStaleKeys {
			s.Errorf("a token of a key that does not open: %v, want %v", denial, sessions.DenyStaleKeys)
		}
		s.refused(r, theirs.Refresh, fromW, sessions.ErrUnavailable)
		if _, err := r.JWKS(); !errors.Is(err, sessions.ErrUnavailable) {
			s.Errorf("a set without a key that others sign with: %v", err)
		}
		if r.FeedAge() > sessions.Defaults().FeedBound {
			s.Error("the feed is not heard")
		}
	}
	if _, err := sessions.RotateKey(s.Context(), s.store, sessions.KeyEncryption{Key: old}, sessions.KeySigning, delay); err == nil {
		s.Error("made a key without opening those that are there")
	}
	if _, err := both.End(s.Context(), i.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		s.Fatal(err)
	}
	s.denied(i.Access, sessions.DenyEnded)

	// After the way back, everything works.
	if done, _, err := sessions.RewrapKeys(s.Context(), s.store, sessions.KeyEncryption{Key: old, Previous: another}); done != 6 || err != nil {
		s.Fatalf("rewrapped %d, %v", done, err)
	}
	s.settle()
	s.client.take(mine)
	s.allowed(s.one, theirs.Access)
	s.signedIn()
}
