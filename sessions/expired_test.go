package sessions

import (
	"testing"
	"time"
)

// A token that had expired when it came first is read once. It stays expired, and is never more than
// that: its signature was not looked at.
func TestExpiredTokenIsReadOnce(t *testing.T) {
	t.Parallel()
	e := offline(t)
	now := testEpoch.Add(time.Hour)
	e.feed.clock.local = func() time.Time { return now }
	e.feed.clock.set(now, now)
	text := issueAt(t, e, testEpoch, `{"role":"admin"}`).Access.Reveal()
	cut, _ := cutToken(text)
	verify := func(text string, want *Denial) {
		t.Helper()
		if _, d := e.Verify(TransportCookie, []string{text}); d != want {
			t.Errorf("%v, want %v", d, want)
		}
	}
	verify(text, DenyExpired)
	if e.expired.get(cut.name()) == nil || e.cache.get(cut.name()) != nil {
		t.Error("the wrong cache has it")
	}
	verify(text, DenyExpired)
	verify(cut.signed()+"."+randomSignature(), DenyExpired)
	verify(cut.signed()+".x", DenyMalformed)

	// The store's clock was set back: the token lives again, if its signature is right.
	now = testEpoch
	e.feed.clock.set(now, now)
	verify(cut.signed()+"."+randomSignature(), DenySignature)
	verify(text, nil)
	now = testEpoch.Add(time.Hour)
	e.feed.clock.set(now, now)
	verify(text, DenyExpired)

	e.keys.Load().signers[0].deleted.Store(true)
	if e.expired.get(cut.name()) != nil {
		t.Error("a deleted key's token is still held")
	}
}

// The store's clock is set back while a token is verified.
func TestClockIsSetBackWithinVerify(t *testing.T) {
	t.Parallel()
	e := offline(t)
	now := testEpoch.Add(time.Hour)
	e.feed.clock.local = func() time.Time { return now }
	e.feed.clock.set(now, now)
	cut, _ := cutToken(issueAt(t, e, testEpoch, `{"role":"admin"}`).Access.Reveal())
	calls := 0
	e.feed.clock.local = func() time.Time {
		if calls++; calls == 1 {
			e.feed.clock.reading.Store(&clockReading{testEpoch, now, now})
		}
		return now
	}
	if a, d := e.Verify(TransportCookie, []string{cut.signed() + "." + randomSignature()}); d == nil {
		t.Errorf("a forged signature passes, as %s", a.UserID)
	}
}
