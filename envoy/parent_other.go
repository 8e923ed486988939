//go:build !linux

package envoy

import "syscall"

// dieWithParent has no counterpart outside Linux: there a killed parent leaves its Envoy behind.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
