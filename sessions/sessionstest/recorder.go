package sessionstest

import (
	"slices"
	"sync"
	"time"
)

// Recorder collects a history from many goroutines.
type Recorder struct {
	mu    sync.Mutex
	began time.Time
	moved time.Duration
	ops   []Op
}

// NewRecorder begins a history now.
func NewRecorder() *Recorder { return &Recorder{began: time.Now()} }

// Now is the time of the history.
func (r *Recorder) Now() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.began) + r.moved
}

// Advanced records that the store's clock was moved while no operation was under way.
func (r *Recorder) Advanced(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved += by
}

// Do records op. act completes op from what its client is told.
func (r *Recorder) Do(op Op, act func(*Op)) Op {
	op.Call = r.Now()
	act(&op)
	op.Return = r.Now()
	r.Add(op)
	return op
}

// Add records an operation whose times are known.
func (r *Recorder) Add(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

// Check is [CheckHistory] of all that was recorded.
func (r *Recorder) Check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return CheckHistory(slices.Clone(r.ops))
}

func sorted[T any](list []T, by func(T) time.Duration) []T {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b T) int { return int(by(a) - by(b)) })
	return list
}
