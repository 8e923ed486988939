//go:build !linux

package cluster

import "syscall"

// setParentDeathSignal does nothing: here the warden alone stops the server.
func setParentDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}
