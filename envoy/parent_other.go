//go:build !linux

package envoy

import "syscall"

// dieWithParent has no counterpart outside Linux: there a killed parent leaves its Envoy behind. The terminal's Ctrl-C reaches both.
func dieWithParent() *syscall.SysProcAttr { return nil }
