package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat.
const tick = time.Second / 100

// familyCPU is the CPU time of a process and of its children, those that have ended as well: a
// Postgres server is one process for each connection.
func familyCPU(parent int) time.Duration {
	var sum time.Duration
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
			sum += t
		}
	}
	fields, err := statOf(parent)
	if err != nil || len(fields) < 15 {
		return sum
	}
	for _, ended := range fields[13:15] { // cutime and cstime
		n, _ := strconv.ParseInt(ended, 10, 64) // the kernel writes numbers
		sum += time.Duration(n) * tick
	}
	return sum
}

// statOf are the fields of /proc/PID/stat after the name, which may contain anything: the state, the
// parent, …
func statOf(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])), nil
}

// parentOf is the process id of a process's parent.
func parentOf(pid int) (int, error) {
	fields, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	if len(fields) < 2 {
		return 0, fmt.Errorf("looking at process %d: it has no parent", pid)
	}
	return strconv.Atoi(fields[1])
}
