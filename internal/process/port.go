package process

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports from here to below lastPort are given to no socket that asks for any port: Linux, macOS and
// Windows have theirs above.
const (
	firstPort = 12_000
	lastPort  = 30_000
)

var given sync.Map // of the ports that this process was given

// Port is a port of 127.0.0.1 for a child that cannot listen on port 0. It is free now, this
// process is given it once, and no other socket gets it by chance: the child may be killed, and have
// it again.
func Port() (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // no secret: it only spreads what programs take
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		_ = l.Close()
		if _, before := given.LoadOrStore(port, true); !before {
			return port, nil
		}
	}
	return 0, errors.New("no port from 12000 to 29999 is free on 127.0.0.1")
}
