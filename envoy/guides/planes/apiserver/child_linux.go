package apiserver

import "syscall"

// childOf has the kernel end a child when its parent ends, however that ends.
func childOf() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
