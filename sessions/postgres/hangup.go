package postgres

import (
	"context"
	"errors"
	"net"
	"time"
)

// hangUpGrace is how long a statement may still take whose caller gave up.
// Else whoever hangs up costs a connection, and a new one costs Postgres more
// than most statements.
const hangUpGrace = 250 * time.Millisecond

// hangUp ends the wait for a statement whose context ended (pgx's
// ctxwatch.Handler). Where the time was up, a client waits for its 503 and Envoy has
// little more patience than we: then there is no grace.
type hangUp struct{ conn net.Conn }

func (h hangUp) HandleCancel(ended context.Context) {
	grace := hangUpGrace
	if errors.Is(ended.Err(), context.DeadlineExceeded) {
		grace = 0
	}
	_ = h.conn.SetDeadline(time.Now().Add(grace)) // a connection that takes none is closed already
}

func (h hangUp) HandleUnwatchAfterCancel() { _ = h.conn.SetDeadline(time.Time{}) }
