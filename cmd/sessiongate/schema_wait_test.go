package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A start that waits says why at once, and the same no more than once a minute.
func TestReminder(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r reminder
	for _, step := range []struct {
		after time.Duration
		err   string
		lines int
	}{
		{0, "no database", 1},
		{time.Second, "no database", 1},
		{59 * time.Second, "no database", 1},
		{time.Minute, "no database", 2},
		{61 * time.Second, "no schema", 3},
		{62 * time.Second, "no database", 4},
		{121 * time.Second, "no database", 4},
		{122 * time.Second, "no database", 5},
	} {
		r.say(t.Context(), log, errors.New(step.err), began.Add(step.after))
		if n := strings.Count(out.String(), "not ready: "); n != step.lines {
			t.Errorf("after %s: %d lines, want %d:\n%s", step.after, n, step.lines, &out)
		}
	}
}
