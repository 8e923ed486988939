package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pin keeps all threads of a process on these cores. A thread begins where the thread that made it
// may run: so it looks again until it finds no new one.
func pin(pid int, cores ...int) error {
	var set unix.CPUSet
	for _, core := range cores {
		set.Set(core)
	}
	seen := map[string]bool{}
	for {
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return fmt.Errorf("pinning process %d: %w", pid, err)
		}
		fresh := 0
		for _, thread := range threads {
			if seen[thread.Name()] {
				continue
			}
			seen[thread.Name()] = true
			fresh++
			id, err := strconv.Atoi(thread.Name())
			if err == nil {
				err = unix.SchedSetaffinity(id, &set)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: it has ended meanwhile
				return fmt.Errorf("pinning process %d to cores %v: %w", pid, cores, err)
			}
		}
		if fresh == 0 {
			return nil
		}
	}
}

// allCores are those that this process may use.
func allCores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("asking which cores may be used: %w", err)
	}
	var cores []int
	for core := range 8 * len(set) * 8 {
		if set.IsSet(core) {
			cores = append(cores, core)
		}
	}
	return cores, nil
}

// cpuOf is the CPU time that a process has used so far, in its code and in the kernel, to the
// nanosecond: /proc counts in hundredths of a second.
func cpuOf(pid int) (time.Duration, error) {
	var t unix.Timespec
	clock := int32(^pid<<3 | 2) //nolint:gosec // the kernel's form of "the CPU clock of this process": MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// residentOf is the memory of a process that is in RAM, in bytes.
func residentOf(pid int) (int64, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(field(string(status), "VmRSS:"), " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	return n << 10, nil
}

// describe names the machine's parts.
func describe() []string {
	text := func(path string) string {
		b, _ := os.ReadFile(path)
		return strings.TrimSpace(string(b))
	}
	cores, _ := allCores()
	return []string{
		fmt.Sprintf("%s, %d cores", field(text("/proc/cpuinfo"), "model name"), len(cores)),
		"Linux " + text("/proc/sys/kernel/osrelease"),
		"load " + strings.Join(strings.Fields(text("/proc/loadavg"))[:3], " ") + " at the start",
	}
}

// field is the value of a name in the form "name : value" of /proc.
func field(text, name string) string {
	_, after, _ := strings.Cut(text, name)
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), ":"))
}
