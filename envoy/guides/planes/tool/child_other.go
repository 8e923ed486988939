//go:build !linux

package tool

import "os/exec"

// EndWithParent does nothing: only Linux can end a child with its parent.
func EndWithParent(*exec.Cmd) {}
