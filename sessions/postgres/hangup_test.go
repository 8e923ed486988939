package postgres

import (
	"context"
	"net"
	"testing"
	"time"
)

// limited remembers the deadline that it was given.
type limited struct {
	net.Conn

	deadline time.Time
}

func (l *limited) SetDeadline(at time.Time) error { l.deadline = at; return nil }

// A caller that hangs up leaves the statement a moment. A caller whose deadline passed waits for a
// 503, and gets it.
func TestHangUp(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	<-expired.Done()
	under, cancel := context.WithCancel(expired) // as a part of the work has it
	defer cancel()
	for name, tt := range map[string]struct {
		ended context.Context
		grace bool
	}{"hung up": {cancelled, true}, "time is up": {expired, false}, "below": {under, false}} {
		conn := &limited{}
		h := hangUp{conn, new(hangUpGrace)}
		h.HandleCancel(tt.ended)
		if conn.deadline.IsZero() || conn.deadline.After(time.Now()) != tt.grace {
			t.Errorf("%s: a deadline at %s, now is %s", name, conn.deadline, time.Now())
		}
		if h.HandleUnwatchAfterCancel(); !conn.deadline.IsZero() {
			t.Errorf("%s: the deadline stays", name)
		}
	}
}
