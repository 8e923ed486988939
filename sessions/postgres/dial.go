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

// A server that vanishes without a word (a lost machine, a network that was cut) leaves
// connections that look whole. The kernel finds them out: an idle one by its probes, one
// with something sent by userTimeout.
const (
	probeAfter  = 2 * time.Second
	probeEvery  = time.Second
	probes      = 3
	userTimeout = 4 * time.Second // what was sent and not even acknowledged by the other kernel
)

// silentFor is how long a host that said nothing is passed over, where there are others.
const silentFor = 3 * time.Second

// dialer gives a server half of the time that a connection may take to answer at all.
// One that is frozen accepts connections, for its kernel does, and never says a word:
// where it is the first of several hosts, the next one must be reached in time, and each
// connection must not pay for it.
type dialer struct {
	net.Dialer

	silence time.Duration
	several atomic.Bool // there are other addresses, of other hosts or of the same name

	mu     sync.Mutex
	silent map[string]time.Time // by address
}

func newDialer(cfg *pgconn.Config) *dialer {
	d := &dialer{silence: cfg.ConnectTimeout / 2, silent: map[string]time.Time{}}
	for _, f := range cfg.Fallbacks { // of one host, too: with TLS, and without
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
	// Closed, not given a deadline: pgx sets deadlines of its own.
	g.timer = time.AfterFunc(d.silence, func() {
		g.silent.Store(true)
		d.saysNothing(address)
		_ = conn.Close()
	})
	return g, nil
}

// lookup is find, for the addresses of a host.
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
// times as long. But not again and again, for a server may only be slow: the connections
// made again have as long as their caller.
//
// It says true where the connection is dead: then pgx asks, too, and sees it.
func (s *Store) shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	if p.IdleDuration < s.pingIdle {
		return false
	}
	asking, cancel := ctx, context.CancelFunc(func() {})
	made, _ := p.Conn.PgConn().CustomData()[madeAt].(time.Time)
	impatient := s.silence.missed(made, silencePause)
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
