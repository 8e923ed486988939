package postgres_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// A machine that vanished is noticed by the kernel, within five seconds.
func TestDialedConnectionsNoticeAVanishedMachine(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conn, err := postgres.Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	get := func(level, option int) (value int) {
		if ctl := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, option) }); ctl != nil || err != nil {
			t.Fatal(ctl, err)
		}
		return value
	}
	if ms := get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); ms <= 0 || ms > 5000 {
		t.Errorf("what is not acknowledged is given up after %d ms", ms)
	}
	if get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 0 {
		t.Error("an idle connection is not probed")
	}
	if s := get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) + get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)*get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT); s > 5 {
		t.Errorf("an idle connection is given up after %d s", s)
	}
}
