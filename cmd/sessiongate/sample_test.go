package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// lines are those that a sampler wrote.
func lines(t *testing.T, log *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for decoder := json.NewDecoder(log); decoder.More(); {
		var line map[string]any
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	return all
}

func TestSamplerBoundsAFlood(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newSampler(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}), 3)
	began := time.Now().Truncate(time.Second)
	say := func(at time.Duration, level slog.Level, times int) {
		for range times {
			// Also by what With makes of it: no second budget.
			h := s.WithAttrs([]slog.Attr{slog.String("a", "b")})
			if err := h.Handle(context.Background(), slog.NewRecord(began.Add(at), level, "x", 0)); err != nil {
				t.Error(err)
			}
		}
	}
	written := func() (n int, withheld any) {
		all := lines(t, &log)
		for _, line := range all {
			if line["withheld"] != nil {
				if withheld != nil {
					t.Error("told twice")
				}
				withheld = line["withheld"]
			}
		}
		return len(all), withheld
	}
	say(0, slog.LevelInfo, 100)
	if n, withheld := written(); n != 3 || withheld != nil {
		t.Errorf("%d lines of a flood, withheld %v", n, withheld)
	}
	say(900*time.Millisecond, slog.LevelWarn, 5)
	if n, withheld := written(); n != 3 || withheld != nil {
		t.Errorf("%d lines of an outage in the same second, withheld %v", n, withheld)
	}
	say(900*time.Millisecond, slog.LevelError, 1)
	say(900*time.Millisecond, slog.LevelError+40, 1)
	if n, _ := written(); n != 2 {
		t.Errorf("%d errors", n)
	}
	say(0, slog.LevelDebug, 50)
	if n, _ := written(); n != 50 {
		t.Errorf("%d lines that were asked for", n)
	}
	say(time.Second, slog.LevelInfo, 1)
	if n, withheld := written(); n != 1 || withheld != 97.0 {
		t.Errorf("%d lines, withheld %v, want 97", n, withheld)
	}
	say(time.Second, slog.LevelInfo, 2)
	say(2*time.Second, slog.LevelWarn, 1)
	if n, withheld := written(); n != 3 || withheld != 2.0 {
		t.Errorf("%d lines, withheld %v, want 2", n, withheld)
	}
	for range 10 {
		say(2*time.Second, slog.LevelInfo, 1)
		say(time.Second, slog.LevelInfo, 1)
	}
	if n, withheld := written(); n != 3 || withheld != nil {
		t.Errorf("%d lines of two seconds that overlap, withheld %v", n, withheld)
	}
	say(-time.Hour, slog.LevelInfo, 1) // the clock was set back
	if n, withheld := written(); n != 1 || withheld != 17.0 {
		t.Errorf("%d lines, withheld %v", n, withheld)
	}
	if s.withheld() != 99+17 {
		t.Errorf("withheld %d in all", s.withheld())
	}
}

func TestSamplerWithoutBound(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := slog.New(newSampler(slog.NewJSONHandler(&log, nil), 0))
	for range 1000 {
		l.Info("x")
	}
	if n := len(lines(t, &log)); n != 1000 {
		t.Errorf("%d lines", n)
	}
}

// Whatever comes at once: no more lines than allowed, and none is unaccounted for.
func TestSamplerRaces(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newSampler(slog.NewJSONHandler(&log, nil), 10)
	now := time.Now()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				_ = s.Handle(context.Background(), slog.NewRecord(now, slog.LevelInfo, "x", 0))
			}
		})
	}
	wg.Wait()
	told := 0.0
	all := lines(t, &log)
	for _, line := range all {
		if n, ok := line["withheld"].(float64); ok {
			told += n
		}
	}
	b := &s.budgets[0]
	if len(all) != 10 || s.withheld() != 1590 || told+float64(b.withheld.Load()) != 1590 {
		t.Errorf("%d lines, %d withheld, %v told, %d to be told", len(all), s.withheld(), told, b.withheld.Load())
	}
}
