package tool

import (
	"os/exec"
	"syscall"
)

// EndWithParent has the kernel end a child when its parent ends, however that ends: a test that is killed leaves nothing behind.
func EndWithParent(child *exec.Cmd) {
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
