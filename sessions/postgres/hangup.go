package postgres

import (
	"context"
	"errors"
	"net"
	"time"
)

// hangUpGrace is how long a statement may still take after its caller gave up. Without it, every
// client that hangs up would cost a connection, and a new one costs Postgres more CPU than most
// statements.
const hangUpGrace = 250 * time.Millisecond

// hangUp ends the wait for a statement whose context ended (pgx's ctxwatch.Handler). If the
// deadline passed, there is no grace: a client waits for its 503, and Envoy does not wait much
// longer.
type hangUp struct {
	conn  net.Conn
	grace *time.Duration // of the store
}

func (h hangUp) HandleCancel(ended context.Context) {
	grace := *h.grace
	if errors.Is(ended.Err(), context.DeadlineExceeded) {
		grace = 0
	}
	_ = h.conn.SetDeadline(time.Now().Add(grace)) // an error means that the connection is closed
}

func (h hangUp) HandleUnwatchAfterCancel() { _ = h.conn.SetDeadline(time.Time{}) }
