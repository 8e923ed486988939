package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuTimes are the CPU times of a process and of its children.
func cpuTimes(parent int) map[int]time.Duration {
	times := map[int]time.Duration{}
	entries, _ := os.ReadDir("/proc") // empty where there is none: then nothing is counted
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, err := parentOf(pid); pid != parent && (err != nil || p != parent) {
			continue
		}
		if t, err := cpuOf(pid); err == nil { // else it has just ended
			times[pid] = t
		}
	}
	return times
}

// since is what was used after before was taken. What ended meanwhile is not counted.
func since(before, after map[int]time.Duration) time.Duration {
	var sum time.Duration
	for pid, t := range after {
		sum += t - before[pid]
	}
	return sum
}

// parentOf is the process id of a process's parent.
func parentOf(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("looking for the parent of process %d: %w", pid, err)
	}
	// PID (NAME) STATE PPID …; the name may contain anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return 0, fmt.Errorf("looking for the parent of process %d: %q", pid, text)
	}
	return strconv.Atoi(fields[1])
}
