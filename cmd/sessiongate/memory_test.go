package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	gives := func(limit uint64, err error) func() (uint64, error) {
		return func() (uint64, error) { return limit, err }
	}
	for name, test := range map[string]struct {
		percent     int
		environment string
		cgroup      func() (uint64, error)
		bytes       int64
		from        string
	}{
		"container":               {90, "", gives(256<<20, nil), 256 << 20 / 100 * 90, "cgroup"},
		"all of it":               {100, "", gives(1000, nil), 1000, "cgroup"},
		"GOMEMLIMIT":              {90, "100MiB", gives(256<<20, nil), 0, "GOMEMLIMIT"},
		"GOMEMLIMIT off":          {90, "off", gives(256<<20, nil), 0, "GOMEMLIMIT"},
		"switched off":            {0, "", gives(256<<20, nil), 0, "memory.limit_percent"},
		"max":                     {90, "", gives(0, memlimit.ErrNoLimit), 0, "cgroup"},
		"no limit, version 1":     {90, "", gives(math.MaxInt64/4096*4096, nil), 0, "cgroup"},
		"no limit, by any number": {90, "", gives(math.MaxUint64, nil), 0, "cgroup"},
		"no cgroup":               {90, "", gives(0, fmt.Errorf("reading: %w", memlimit.ErrNoCgroup)), 0, "cgroup"},
		"no cgroups":              {90, "", gives(0, memlimit.ErrCgroupsNotSupported), 0, "cgroup"},
		"not ours to read":        {90, "", gives(0, errors.Join(fs.ErrPermission)), 0, "could not be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bytes, from := memoryLimit(test.percent, test.environment, test.cgroup)
			if bytes != test.bytes || !strings.Contains(from, test.from) {
				t.Errorf("%d from %q, want %d from %q", bytes, from, test.bytes, test.from)
			}
		})
	}
}

// The runtime has the limit, and the log says which. It is not parallel, for the limit is the whole process's.
func TestMemoryLimitIsSet(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	const container, want = 8 << 30, 8 << 30 / 100 * 90
	var log bytes.Buffer
	limitMemory(90, func() (uint64, error) { return container, nil }, slog.New(slog.NewTextHandler(&log, nil)))
	if got := debug.SetMemoryLimit(-1); got != want {
		t.Errorf("the limit is %d, want %d", got, want)
	}
	if !strings.Contains(log.String(), fmt.Sprintf("bytes=%d from=cgroup", want)) {
		t.Errorf("it logs %s", &log)
	}
}

// The setting holds, unless GOGC does. It is not parallel, for the percentage is the whole process's.
func TestGarbageIsCollectedAsSet(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	collectGarbage(321, "")
	if got := debug.SetGCPercent(100); got != 321 {
		t.Errorf("%d percent", got)
	}
	collectGarbage(321, "50")
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("%d percent, though GOGC is set", got)
	}
}
