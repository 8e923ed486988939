package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// The way out where a signing key has leaked: it is deleted by hand, with an entry
// for the feed. Nobody makes or accepts a token of it any more; a first key is made
// by the next engine that looks after the keys; and nobody has to sign in anew.
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
	c.exec(`WITH gone AS (DELETE FROM sessiongate.keys WHERE kind = 'signing' RETURNING kind)
		INSERT INTO sessiongate.feed (kind) SELECT 'keys' FROM gone`)
	awaitKeys(t, engine, 0)
	if _, denial := engine.Verify(sessions.TransportCookie, []string{i.Access.Reveal()}); denial != sessions.DenyUnknownKey {
		t.Errorf("a token of a deleted key: %v", denial)
	}
	c.Advance(cfg.RefreshAttemptMax)
	if _, err := engine.Refresh(t.Context(), sessions.TransportCookie, []string{i.Refresh.Reveal()}, sessions.Client{}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("a refresh without a signing key: %v", err)
	}

	sessionstest.StartEngine(t, c, cfg) // looks at once, as a running one does within a minute
	awaitKeys(t, engine, 1)
	j, err := engine.Refresh(t.Context(), sessions.TransportCookie, []string{i.Refresh.Reveal()}, sessions.Client{})
	if err != nil {
		t.Fatal(err)
	}
	if _, denial := engine.Verify(sessions.TransportCookie, []string{j.Access.Reveal()}); denial != nil {
		t.Error(denial)
	}
}
