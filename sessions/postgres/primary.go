package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The store works on the primary, or not at all. A standby, or a former primary that was fenced,
// answers reads forever. A replica that stayed there would follow a feed without new entries and
// call it fresh, while sessions that were ended at the new primary stay allowed.
//
// So each new connection is asked whether its server is a primary that accepts writes
// ([Store.validate]). If it is not, it counts as unreachable, and the next host of the URL, or the
// next address of its name, is tried. Each poll asks again ([Store.primary]). And every sign of
// another server makes all connections new ([Store.lookAgain], [Store.meets]).

// ErrNotPrimary says that a server was reached, but not one that accepts writes.
var ErrNotPrimary = errors.New("not the primary")

// notPrimary gives the reason, from pg_is_in_recovery() and from whether transactions are read-only
// by default.
func notPrimary(recovering, readOnly bool) error {
	switch {
	case recovering:
		return fmt.Errorf("%w: the server is in recovery, as a standby is", ErrNotPrimary)
	case readOnly:
		return fmt.Errorf("%w: the server takes no writes (default_transaction_read_only), as a former primary that was fenced", ErrNotPrimary)
	}
	return nil
}

// primary judges what a poll read of pg_is_in_recovery() and
// current_setting('transaction_read_only'). It returns an error if that server must not be
// followed; then all connections are made again.
func (s *Store) primary(recovering bool, readOnly string) error {
	err := notPrimary(recovering, readOnly == "on")
	if err != nil {
		s.lookAgain()
	}
	return err
}

const (
	// lookPause is the shortest time between two renewals of all connections. An error that returns
	// at once must not cost Postgres a connection each time.
	lookPause = time.Second
	// silencePause is the same time if the only sign was a missing answer. A server that is slow
	// because of its load must not get new connections on top.
	silencePause = 5 * time.Second
)

// look remembers when every connection was made again.
type look struct {
	mu   sync.Mutex
	last time.Time
}

// due says whether pause has passed, and if so begins another one.
func (l *look) due(pause time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && time.Since(l.last) < pause {
		return false
	}
	l.last = time.Now()
	return true
}

// missed says whether something made at that time is older than the last look, or the last look is
// longer ago than pause.
func (l *look) missed(made time.Time, pause time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.IsZero() || made.Before(l.last) || time.Since(l.last) >= pause
}

// lookAgain makes every connection again, and so looks for the primary. Idle connections are closed
// now, those in use when they are returned. It costs next to nothing, and does nothing if it was
// done a moment ago.
func (s *Store) lookAgain() {
	if s.look.due(lookPause) {
		s.reset()
	}
}

func (s *Store) reset() {
	if !s.opened.Load() {
		return
	}
	for _, p := range []*pgxpool.Pool{s.pool, s.feed, s.outbox} {
		p.Reset()
	}
}

// eras tells one server from the next. An era is the life of the connections to one server.
type eras struct {
	mu     sync.Mutex
	server string
	now    context.Context //nolint:containedctx // it is the era
	end    context.CancelFunc
	ended  look
}

// meets registers a new connection to the primary that was started at that moment, and returns the
// era of the connection. If it is another primary than before, everything that waits for the former
// one is given up: a wait for a frozen server would take as long as its caller allows.
func (s *Store) meets(server string) context.Context {
	e := &s.eras
	e.mu.Lock()
	another := e.server != "" && e.server != server
	if another && !e.ended.due(lookPause) {
		// Perhaps a slow handshake with the former server. The caller may try again.
		e.mu.Unlock()
		ended, end := context.WithCancel(context.Background())
		end()
		return ended
	}
	if another {
		e.end()
	}
	if another || e.now == nil {
		e.now, e.end = context.WithCancel(context.Background())
	}
	e.server = server
	now := e.now
	e.mu.Unlock()
	if another {
		s.reset()
	}
	return now
}

// watch implements [pgx.QueryTracer]: it sees how every statement of the store ends.
type watch struct{ s *Store }

func (w watch) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (w watch) TraceQueryEnd(_ context.Context, _ *pgx.Conn, end pgx.TraceQueryEndData) {
	if serverGone(end.Err) {
		w.s.lookAgain()
	}
}

// serverGone says whether err shows that the server at the other end has changed or is away. A
// statement that took too long does not show that: under load every replica would renew its
// connections again and again.
func serverGone(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, syscall.ETIMEDOUT): // from the kernel: the other kernel did not answer
		return true
	case pgconn.Timeout(err):
		return false
	}
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		switch e.Code {
		case codeReadOnly, codeAdminShutdown, codeCrashShutdown, codeCannotConnectNow, codeDatabaseDropped, codeIdleSession:
			return true
		}
		return strings.HasPrefix(e.Code, classConnection)
	}
	broken := (*net.OpError)(nil)
	return errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
