package postgres

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout is a [net.Dialer]'s Control.
func setUserTimeout(network, _ string, c syscall.RawConn) error {
	if !isTCP(network) {
		return nil
	}
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	return errors.Join(err, set)
}
