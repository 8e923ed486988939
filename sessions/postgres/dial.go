package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A server that disappears silently (a lost machine, a network that was cut) leaves connections
// that look intact. The kernel finds them: an idle one by its probes, one with data in flight by
// userTimeout.
const (
	probeAfter  = 2 * time.Second
	probeEvery  = time.Second
	probes      = 3
	userTimeout = 4 * time.Second // for data that the other kernel did not acknowledge
)

// silentFor is how long a silent host is skipped, if there are others.
const silentFor = 3 * time.Second

// dialer gives a server half of the connect timeout to answer at all. A frozen server accepts
// connections, because its kernel does, and never answers. If it is the first of several hosts, the
// next one must be reached in time, and not every connection may pay for the wait.
type dialer struct {
	net.Dialer

	silence time.Duration
	several atomic.Bool // there are other addresses

	mu     sync.Mutex
	silent map[string]time.Time // by address
}

func newDialer(cfg *pgconn.Config) *dialer {
	d := &dialer{silence: cfg.ConnectTimeout / 2, silent: map[string]time.Time{}}
	for _, f := range cfg.Fallbacks { // one host has several fallbacks: with TLS and without
		if f.Host != cfg.Host || f.Port != cfg.Port {
			d.several.Store(true)
		}
	}
	d.Timeout = d.silence
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeEvery, Count: probes}
	d.Control = setUserTimeout
	return d
}

// dial is a [pgconn.DialFunc].
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.several.Load() && d.passOver(address) {
		return nil, fmt.Errorf("it said nothing a moment ago, and is asked again after %s", silentFor)
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			d.saysNothing(address)
		}
		return nil, err
	}
	g := &greeted{Conn: conn, silence: d.silence}
	// Closed, because pgx sets deadlines of its own.
	g.timer = time.AfterFunc(d.silence, func() {
		g.silent.Store(true)
		d.saysNothing(address)
		_ = conn.Close()
	})
	return g, nil
}

// lookup wraps find, and notes whether a host has several addresses.
func (d *dialer) lookup(find pgconn.LookupFunc) pgconn.LookupFunc {
	return func(ctx context.Context, host string) ([]string, error) {
		addresses, err := find(ctx, host)
		if len(addresses) > 1 {
			d.several.Store(true)
		}
		return addresses, err
	}
}

func (d *dialer) saysNothing(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent[address] = time.Now()
}

func (d *dialer) passOver(address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.silent[address]
	return ok && time.Since(at) < silentFor
}

// greeted is a connection that is closed unless its first byte comes in time.
type greeted struct {
	net.Conn

	silence time.Duration
	timer   *time.Timer
	silent  atomic.Bool
	spoken  bool // used by the one reader
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
	// pingIdle is how long a connection may have been idle and still be used without a ping.
	pingIdle = time.Second
	// pingMax is how long the answer to a ping may take.
	pingMax = time.Second
	// closeGrace is how long the closing of a broken connection may take. Until then it occupies
	// its slot in the pool, and the feed has only one.
	closeGrace = 250 * time.Millisecond
)

// shouldPing pings a connection that was idle for a while. If there is no answer, it closes that
// connection and all others: to ping ten in turn would take ten times as long. But it does so only
// once in silencePause, because a server may just be slow. The new connections get as much time as
// their caller has.
//
// It returns true if the connection is dead: pgx then pings, too, and sees it.
func (s *Store) shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	if p.IdleDuration < s.pingIdle {
		return false
	}
	asking, cancel := ctx, context.CancelFunc(func() {})
	made, _ := p.Conn.PgConn().CustomData()[madeAt].(time.Time)
	impatient := s.silence.missed(made, silencePause)
	if impatient {
		asking, cancel = context.WithTimeout(ctx, s.pingMax)
	}
	defer cancel()
	err := p.Conn.Ping(asking)
	switch {
	case err == nil:
		return false
	case ctx.Err() != nil: // the caller gave up
	case serverGone(err):
		s.lookAgain()
	case impatient && s.silence.due(silencePause):
		s.reset()
	}
	return true
}

// beforeClose shortens how pgx closes a broken connection: pgx would wait 15 seconds for the last
// message of a frozen server.
func beforeClose(conn *pgx.Conn) {
	if conn.IsClosed() {
		time.AfterFunc(closeGrace, func() { _ = conn.PgConn().Conn().Close() })
	}
}

// isTCP says whether a dialer's network is TCP.
func isTCP(network string) bool { return strings.HasPrefix(network, "tcp") }
