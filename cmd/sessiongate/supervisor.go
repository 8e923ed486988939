package main

import (
	"log/slog"
	"net"
	"time"
)

// supervisor is the socket at which systemd (Type=notify) is told what the process does, as
// sd_notify(3) has it; empty where none wants to know. It is told that the process listens, not that
// it is ready: a database that is away keeps no machine from starting. It is told no heartbeat: a
// goroutine that sends one goes on while the others wait for each other.
type supervisor string

const (
	supervisorVariable = "NOTIFY_SOCKET"
	// supervisorTimeout is how long it may take until the supervisor's queue has room.
	supervisorTimeout = time.Second

	// listens is sent where the configuration is sound and the ports are ours, so that
	// `systemctl start` fails where they are not.
	listens = "READY=1"
	stops   = "STOPPING=1"
)

// tell says a state. Whether it is heard changes nothing for clients.
func (s supervisor) tell(state string, log *slog.Logger) {
	if s == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: string(s), Net: "unixgram"}) // "@" is an abstract name
	if err == nil {
		// One that does not read must not hold up a stop.
		if err = conn.SetWriteDeadline(time.Now().Add(supervisorTimeout)); err == nil {
			_, err = conn.Write([]byte(state))
		}
		_ = conn.Close()
	}
	if err != nil {
		log.Warn("the supervisor could not be told", "state", state, "error", err.Error())
	}
}
