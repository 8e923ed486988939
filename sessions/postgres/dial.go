package postgres

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A server that vanishes without a word (a lost machine, a network that was cut) leaves
// connections that look whole. The kernel finds them out: an idle one by its probes, one
// with something sent by userTimeout.
const (
	probeAfter  = 2 * time.Second
	probeEvery  = time.Second
	probes      = 3
	userTimeout = 4 * time.Second // what was sent and not even acknowledged by the other kernel
)

// dial gives a server half of the time that a connection may take to answer at all. One
// that is frozen accepts connections, for its kernel does, and never says a word: where
// it is the first of several hosts, the next one must be reached in time.
func dial(connect time.Duration) pgconn.DialFunc {
	silence := connect / 2
	d := net.Dialer{
		Timeout:         silence,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeEvery, Count: probes},
		Control:         setUserTimeout,
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		g := &greeted{Conn: conn, silence: silence}
		// Closed, not given a deadline: pgx sets deadlines of its own.
		g.timer = time.AfterFunc(silence, func() {
			g.silent.Store(true)
			_ = conn.Close()
		})
		return g, nil
	}
}

// greeted is a connection that is closed unless its first byte comes in time.
type greeted struct {
	net.Conn

	silence time.Duration
	timer   *time.Timer
	silent  atomic.Bool
	spoken  bool // of the one reader
}

func (g *greeted) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if !g.spoken && n > 0 {
		g.spoken = true
		g.timer.Stop()
	}
	if err != nil && g.silent.Load() {
		err = fmt.Errorf("it accepts connections and said nothing for %s", g.silence)
	}
	return n, err
}

func (g *greeted) Close() error {
	g.timer.Stop()
	return g.Conn.Close()
}

const (
	// pingIdle is how long a connection may have been idle and be used without asking.
	pingIdle = time.Second
	// pingMax is how long an answer to nothing at all may take.
	pingMax = time.Second
	// closeGrace is how long a connection that broke may take to say goodbye. Until then
	// it holds its place in the pool: the feed has only one.
	closeGrace = 250 * time.Millisecond
)

// shouldPing asks a connection that was idle for a while whether it lives. One that says
// nothing is closed, and all others with it: asking ten in turn would take as many
// times as long. But not again and again, for a server may only be slow: then the next
// ones wait as long as their caller does.
//
// It says true where the connection is dead: then pgx asks, too, and sees it.
func (s *Store) shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	if p.IdleDuration < pingIdle {
		return false
	}
	asking, cancel := ctx, context.CancelFunc(func() {})
	impatient := s.silence.over(silencePause)
	if impatient {
		asking, cancel = context.WithTimeout(ctx, pingMax)
	}
	defer cancel()
	err := p.Conn.Ping(asking)
	switch {
	case err == nil:
		return false
	case ctx.Err() != nil: // the caller left
	case serverGone(err):
		s.lookAgain()
	case impatient && s.silence.due(silencePause):
		s.reset()
	}
	return true
}

// beforeClose cuts short how pgx takes leave of a connection that broke: it would wait
// 15 seconds for the last word of a server that is frozen.
func beforeClose(conn *pgx.Conn) {
	if conn.IsClosed() {
		time.AfterFunc(closeGrace, func() { _ = conn.PgConn().Conn().Close() })
	}
}

// isTCP says whether a dialer's network is TCP's.
func isTCP(network string) bool { return strings.HasPrefix(network, "tcp") }
