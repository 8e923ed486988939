//go:build !linux

package postgres

import "syscall"

// setUserTimeout does nothing here: this system has its own time for what is not
// acknowledged.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
