package envoy_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// load is requests that are sent over and over. None may fail.
type load struct {
	t            *testing.T
	stack        *stack
	sent, failed atomic.Int64
	all          sync.WaitGroup
	enough       chan struct{}
}

func (s *stack) newLoad(t *testing.T) *load {
	t.Helper()
	return &load{t: t, stack: s, enough: make(chan struct{})}
}

// run repeats a step, in a goroutine of its own, until stop.
func (l *load) run(step func() error) {
	l.all.Go(func() {
		for {
			select {
			case <-l.enough:
				return
			default:
			}
			l.sent.Add(1)
			if err := step(); err != nil {
				l.failed.Add(1)
				l.t.Log(err)
			}
		}
	})
}

// more waits until n more were sent.
func (l *load) more(n int64) {
	l.t.Helper()
	before := l.sent.Load()
	l.stack.eventually("load", func() bool { return l.sent.Load() >= before+n })
}

// stop waits for what is under way, and fails the test where anything failed.
func (l *load) stop() {
	l.t.Helper()
	close(l.enough)
	l.all.Wait()
	if l.failed.Load() > 0 {
		l.t.Errorf("%d of %d requests failed", l.failed.Load(), l.sent.Load())
	}
}

// ok is what was wrong with an answer, if anything.
func (a answer) ok(what string) error {
	if a.status != http.StatusOK {
		return fmt.Errorf("%s: %d %s", what, a.status, a.body)
	}
	return nil
}
