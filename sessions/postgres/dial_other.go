//go:build !linux

package postgres

import "syscall"

// setUserTimeout does nothing here: this system has its own timeout for unacknowledged data.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
