package main

import "syscall"

// childAttributes put a child into a process group of its own, so that Ctrl-C at the
// terminal reaches only the demo, which then stops everything in order, and have the
// kernel kill it when the demo is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
