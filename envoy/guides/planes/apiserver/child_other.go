//go:build !linux

package apiserver

import "syscall"

// childOf does nothing: only Linux can end a child with its parent.
func childOf() *syscall.SysProcAttr { return nil }
