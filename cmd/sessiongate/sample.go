package main

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// sampler passes on at most perSecond lines of each level in a second, and counts
// the others: anybody can cause a line by a request that is denied, and a flood of
// them must fill no disk and hide no other line. The next line that is written
// says how many were not. Each level has a budget of its own, so that denials
// (info) cannot keep an outage (warn) from being told. Lines below info are for who
// asked for them, and all pass.
//
// It takes no lock.
type sampler struct {
	slog.Handler

	perSecond uint32
	budgets   *[3]budget // info, warn, error; shared by what With makes
}

// requestLogs are the logs for lines that strangers can cause, one a listener: what
// comes from browsers keeps no line about a backend from being written.
type requestLogs struct{ authz, public, internal *sampler }

func newRequestLogs(h slog.Handler, perSecond int) requestLogs {
	return requestLogs{newSampler(h, perSecond), newSampler(h, perSecond), newSampler(h, perSecond)}
}

// withheld is how many lines were not written.
func (l requestLogs) withheld() uint64 {
	return l.authz.withheld() + l.public.withheld() + l.internal.withheld()
}

// budget is what of a second is spent.
type budget struct {
	spent    atomic.Uint64 // seconds since 1970, of which the lower 32 bits, and behind them lines
	withheld atomic.Uint64 // since the last line
	total    atomic.Uint64
}

// newSampler wraps h; perSecond 0 passes everything on.
func newSampler(h slog.Handler, perSecond int) *sampler {
	return &sampler{h, uint32(perSecond), new([3]budget)} //nolint:gosec // at most 1,000,000, says the table
}

// withheld is how many lines were not written.
func (s *sampler) withheld() uint64 {
	var n uint64
	for i := range s.budgets {
		n += s.budgets[i].total.Load()
	}
	return n
}

// Handle implements [slog.Handler].
func (s *sampler) Handle(ctx context.Context, r slog.Record) error {
	if s.perSecond == 0 || r.Level < slog.LevelInfo {
		return s.Handler.Handle(ctx, r)
	}
	b := &s.budgets[min(int(r.Level-slog.LevelInfo)/4, len(s.budgets)-1)]
	if !b.spend(uint32(r.Time.Unix()), s.perSecond) { //nolint:gosec // which second it is, for comparing
		b.withheld.Add(1)
		b.total.Add(1)
		return nil
	}
	if n := b.withheld.Swap(0); n > 0 {
		r.AddAttrs(slog.Uint64("withheld", n))
	}
	return s.Handler.Handle(ctx, r)
}

// spend takes one line of a second's budget, if one is left.
func (b *budget) spend(second, perSecond uint32) bool {
	for {
		old := b.spent.Load()
		next := uint64(second)<<32 | 1
		// A line that was late by a moment belongs to the second that has begun, or
		// two goroutines would reset each other's.
		if current := uint32(old >> 32); current == second || current == second+1 {
			if uint32(old) >= perSecond { //nolint:gosec // the lower half
				return false
			}
			next = old + 1
		}
		if b.spent.CompareAndSwap(old, next) {
			return true
		}
	}
}

// WithAttrs implements [slog.Handler].
func (s *sampler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sampler{s.Handler.WithAttrs(attrs), s.perSecond, s.budgets}
}

// WithGroup implements [slog.Handler].
func (s *sampler) WithGroup(name string) slog.Handler {
	return &sampler{s.Handler.WithGroup(name), s.perSecond, s.budgets}
}
