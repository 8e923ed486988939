package main

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// limitMemory tells Go's garbage collector the container's memory, which it does not know
// by itself: a flood would leave garbage until the kernel kills the process,
// whatever is alive of it. It says once what holds.
func limitMemory(percent int, ofCgroup func() (uint64, error), log *slog.Logger) {
	limit, from := memoryLimit(percent, os.Getenv("GOMEMLIMIT"), ofCgroup)
	if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	// As the runtime has it now, from either source. The greatest number is its "none".
	if effective := debug.SetMemoryLimit(-1); effective < math.MaxInt64 {
		log.Info("memory limit", "bytes", effective, "from", from)
		return
	}
	log.Info("no memory limit", "from", from)
}

// collectGarbage says how often garbage is collected, unless the environment does.
func collectGarbage(percent int, environment string) {
	if environment == "" { // else the runtime has read it
		debug.SetGCPercent(percent)
	}
}

// memoryLimit is what to set, 0 for nothing, and where that comes from.
func memoryLimit(percent int, environment string, ofCgroup func() (uint64, error)) (bytes int64, from string) {
	if environment != "" {
		return 0, "GOMEMLIMIT" // the runtime has read it
	}
	if percent == 0 {
		return 0, "memory.limit_percent"
	}
	limit, err := ofCgroup()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
		return 0, "cgroup"
	case err != nil:
		return 0, "cgroup, which could not be read: " + err.Error()
	case limit > math.MaxInt64/100: // version 1 says "none" by a number of this size
		return 0, "cgroup"
	}
	return int64(limit) / 100 * int64(percent), "cgroup"
}
