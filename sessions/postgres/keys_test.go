package postgres_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// The remedy after a signing key has leaked: an operator deletes it by hand, with an entry for the
// feed. From then on no engine makes or accepts a token of it. The first engine that hears of it
// makes a new key, and no user must sign in again.
func TestDeletedByHand(t *testing.T) {
	t.Parallel()
	c := open(t)
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = kek(t, make([]byte, 32))
	cfg.FeedPoll = 5 * time.Millisecond
	engine := sessionstest.StartEngine(t, c, cfg)
	i, err := engine.Create(t.Context(), sessions.NewSession{UserID: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	c.exec(`CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'held'; END $$`)
	c.exec(`CREATE TRIGGER held BEFORE INSERT ON sessiongate.keys FOR EACH ROW EXECUTE FUNCTION held()`)
	c.exec(`WITH gone AS (DELETE FROM sessiongate.keys WHERE kind = 'signing' RETURNING kind)
		INSERT INTO sessiongate.feed (kind) SELECT 'keys' FROM gone`)
	awaitKeys(t, engine, 0)
	if _, denial := engine.Verify(sessions.TransportCookie, []string{i.Access.Reveal()}); denial != sessions.DenyUnknownKey {
		t.Errorf("a token of a deleted key: %v", denial)
	}
	c.Advance(cfg.RefreshAttemptMax)
	if _, err := engine.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{i.Refresh.Reveal()}}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("a refresh without a signing key: %v", err)
	}
	if _, err := engine.Create(t.Context(), sessions.NewSession{UserID: "bob"}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("a sign-in without a signing key: %v", err)
	}
	if keys := engine.Stats().Keys; len(keys) != 1 || keys[0].Kind != sessions.KeySealing {
		t.Errorf("without a signing key: %v", keys)
	}

	c.exec(`DROP TRIGGER held ON sessiongate.keys`)
	sessionstest.StartEngine(t, c, cfg) // looks at once
	awaitKeys(t, engine, 1)

	// And so does one that runs, as soon as it hears of it.
	before, err := engine.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	c.exec(`WITH gone AS (DELETE FROM sessiongate.keys WHERE kind = 'signing' RETURNING kind)
		INSERT INTO sessiongate.feed (kind) SELECT 'keys' FROM gone`)
	await(t, "another signing key, sooner than the next look", func() bool {
		after, err := engine.JWKS()
		return err == nil && !bytes.Equal(before, after) && bytes.Count(after, []byte(`"kid"`)) == 1
	})
	j, err := engine.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{i.Refresh.Reveal()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, denial := engine.Verify(sessions.TransportCookie, []string{j.Access.Reveal()}); denial != nil {
		t.Error(denial)
	}
}
