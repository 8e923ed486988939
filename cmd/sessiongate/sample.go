package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// sampler passes on at most perSecond lines of each level in a second, and counts
// the others. Any client can cause a line by a request that is denied: a flood of such
// lines must not fill a disk or hide another line. The next line that is written
// says how many were withheld. Each level has a budget of its own, so that denials
// (info) cannot hide an outage (warn). Lines below info all pass: they are written
// only where the configuration asks for them.
type sampler struct {
	slog.Handler

	budgets *[3]budget // info, warn, error; shared by what With makes. nil: all lines pass
}

// requestLogs are the logs for lines that clients can cause, one for each listener: what
// comes from browsers keeps no line about a backend from being written.
type requestLogs struct{ authz, public, internal *sampler }

func newRequestLogs(h slog.Handler, perSecond int) requestLogs {
	return requestLogs{newSampler(h, perSecond), newSampler(h, perSecond), newSampler(h, perSecond)}
}

// withheld is how many lines were not written.
func (l requestLogs) withheld() uint64 {
	return l.authz.withheld() + l.public.withheld() + l.internal.withheld()
}

// budget bounds the lines of one level.
type budget struct {
	withheld atomic.Uint64 // since the last line
	total    atomic.Uint64
	spent    atomic.Int64 // the Unix second whose budget is spent

	mu      sync.Mutex
	second  time.Time // of the latest line
	limiter *rate.Limiter
}

// newSampler wraps h; perSecond 0 passes everything on.
func newSampler(h slog.Handler, perSecond int) *sampler {
	if perSecond == 0 {
		return &sampler{Handler: h}
	}
	budgets := new([3]budget)
	for i := range budgets {
		budgets[i].limiter = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	return &sampler{h, budgets}
}

// withheld is how many lines were not written.
func (s *sampler) withheld() uint64 {
	if s.budgets == nil {
		return 0
	}
	var n uint64
	for i := range s.budgets {
		n += s.budgets[i].total.Load()
	}
	return n
}

func (s *sampler) budget(level slog.Level) *budget {
	return &s.budgets[min(int(level-slog.LevelInfo)/4, len(s.budgets)-1)]
}

func (b *budget) withhold() {
	b.withheld.Add(1)
	b.total.Add(1)
}

// Enabled implements [slog.Handler]. Where the budget of this second is spent, a flood's lines are
// not even made.
func (s *sampler) Enabled(ctx context.Context, level slog.Level) bool {
	if !s.Handler.Enabled(ctx, level) {
		return false
	}
	if s.budgets == nil || level < slog.LevelInfo {
		return true
	}
	b := s.budget(level)
	if b.spent.Load() != time.Now().Unix() {
		return true
	}
	b.withhold()
	return false
}

// Handle implements [slog.Handler].
func (s *sampler) Handle(ctx context.Context, r slog.Record) error {
	if s.budgets == nil || r.Level < slog.LevelInfo {
		return s.Handler.Handle(ctx, r)
	}
	b := s.budget(r.Level)
	if !b.allow(r.Time) {
		b.spent.Store(r.Time.Unix())
		b.withhold()
		return nil
	}
	if n := b.withheld.Swap(0); n > 0 {
		r.AddAttrs(slog.Uint64("withheld", n))
	}
	return s.Handler.Handle(ctx, r)
}

// allow takes one line of a second's budget, if one is left. The limiter is told whole
// seconds. So its bucket fills where a second begins and at no other time: a flood gets
// perSecond lines in its first second, too, and not twice as many.
func (b *budget) allow(at time.Time) bool {
	second := at.Truncate(time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch late := b.second.Sub(second); {
	case late > time.Second: // the clock was set back
		b.limiter = rate.NewLimiter(b.limiter.Limit(), b.limiter.Burst())
	case late > 0: // another goroutine was first, in the second that has begun
		second = b.second
	}
	b.second = second
	return b.limiter.AllowN(second, 1)
}

// WithAttrs implements [slog.Handler].
func (s *sampler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sampler{s.Handler.WithAttrs(attrs), s.budgets}
}

// WithGroup implements [slog.Handler].
func (s *sampler) WithGroup(name string) slog.Handler {
	return &sampler{s.Handler.WithGroup(name), s.budgets}
}
