package envoy

import "syscall"

// dieWithParent has the kernel kill Envoy when the thread that started it ends, so that not even a killed test leaves one behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
