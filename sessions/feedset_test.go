package sessions

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// An ended session's times are held in few bits. What is asked of them is as with all bits, but for
// the rounding to milliseconds.
func TestEndedIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "at"))
		within := time.Duration(rapid.Int64Range(1, int64(2*time.Minute)).Draw(t, "within"))
		now := at.Add(time.Duration(rapid.Int64Range(-int64(10*24*time.Hour), int64(10*24*time.Hour)).Draw(t, "later")))
		e := newEnded(entryRead{Entry: Entry{At: at, Reason: ReasonSignedOut}})
		exact := now.Sub(at) < within
		if near := (now.Sub(at) - within).Abs() < 3*time.Millisecond; !near && e.replacedWithin(within, now) != exact {
			t.Fatalf("ended at %s, now %s: %v", at, now, !exact)
		}
		if newEnded(entryRead{Entry: Entry{At: at, Reason: ReasonRevoked}}).replacedWithin(within, now) {
			t.Fatal("a revoked session was replaced")
		}
	})
}
