package envoy

import "syscall"

// dieWithParent has the kernel kill Envoy when the thread that started it ends, so that not even a killed test leaves one behind.
// In a process group of its own it does not get the terminal's Ctrl-C: its parent stops it, in the order that is right.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
