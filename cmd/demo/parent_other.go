//go:build !linux

package main

import "syscall"

// childAttributes put a child into a process group of its own, so that Ctrl-C at the
// terminal reaches only the demo, which then stops everything in order. Outside Linux
// nothing stops the children of a demo that is killed with SIGKILL.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
