package cluster

import "syscall"

// setParentDeathSignal has the kernel signal a child when its parent ends. Go sets
// it after the change of user, which would clear it, and it survives the exec of a
// program that is not set-uid.
func setParentDeathSignal(attr *syscall.SysProcAttr, signal syscall.Signal) {
	attr.Pdeathsig = signal
}
