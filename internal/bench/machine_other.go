//go:build !linux

package main

import (
	"errors"
	"time"
)

// Elsewhere the kernel has no way to keep a process on a core, or another one.
var errLinux = errors.New("the benchmark runs on Linux alone")

func pin(int, ...int) error { return errLinux }

func allCores() ([]int, error) { return nil, errLinux }

func cpuOf(int) (time.Duration, error) { return 0, errLinux }

func residentOf(int) (int64, error) { return 0, errLinux }

func describe() []string { return nil }
