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

// The store works on the primary, or not at all. A standby, or a former primary that
// was fenced, answers reads for as long as anybody likes: a replica that stayed there
// would follow a feed to which nobody writes, and call it fresh, while the sessions
// that were ended at the new primary stay allowed.
//
// So each connection is asked, when it is made, whether it leads to a primary that
// takes writes ([Store.validate]); one that does not counts as a host that cannot be
// reached, and the next host of the URL, or address of its name, is tried. Each poll
// asks again ([Store.primary]). And whatever tells that the server is another one than
// it was has every connection made again ([Store.lookAgain], [Store.meets]).

// ErrNotPrimary says that a server was reached, but not one that takes writes.
var ErrNotPrimary = errors.New("not the primary")

// notPrimary says why: from pg_is_in_recovery(), and whether transactions are
// read-only by default.
func notPrimary(recovering, readOnly bool) error {
	switch {
	case recovering:
		return fmt.Errorf("%w: the server is in recovery, as a standby is", ErrNotPrimary)
	case readOnly:
		return fmt.Errorf("%w: the server takes no writes (default_transaction_read_only), as a former primary that was fenced", ErrNotPrimary)
	}
	return nil
}

// primary is for a poll, with what it read of pg_is_in_recovery() and of
// current_setting('transaction_read_only'): an error where that server must not be
// followed, and then all connections are made again.
func (s *Store) primary(recovering bool, readOnly string) error {
	err := notPrimary(recovering, readOnly == "on")
	if err != nil {
		s.lookAgain()
	}
	return err
}

const (
	// lookPause is between two times that every connection is made again: an error that
	// comes back at once must not cost Postgres a connection each.
	lookPause = time.Second
	// silencePause is the same where the sign was only that no answer came. A server
	// that is slow, because there is too much to do, would get the connections on top.
	silencePause = 5 * time.Second
)

// look remembers when every connection was made again.
type look struct {
	mu   sync.Mutex
	last time.Time
}

// due says whether pause is over, and if so begins another one.
func (l *look) due(pause time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && time.Since(l.last) < pause {
		return false
	}
	l.last = time.Now()
	return true
}

// missed says whether something that was made at a time is older than the last look, or
// that look than pause.
func (l *look) missed(made time.Time, pause time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.IsZero() || made.Before(l.last) || time.Since(l.last) >= pause
}

// lookAgain has every connection made again, and so the primary looked for. Idle ones
// are closed now, those in use when they are given back. It costs next to nothing, and
// does nothing where it was done a moment ago.
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

// eras tells one server from the next: an era is the life of what leads to one.
type eras struct {
	mu     sync.Mutex
	server string
	now    context.Context //nolint:containedctx // it is the era
	end    context.CancelFunc
	ended  look
}

// meets is for a new connection, to the primary that was started at that moment. Where
// it is another one than before, everything that leads to the former one is given up: what
// waits for a frozen server would wait for as long as its caller can. It returns the era
// of the connection.
func (s *Store) meets(server string) context.Context {
	e := &s.eras
	e.mu.Lock()
	another := e.server != "" && e.server != server
	if another && !e.ended.due(lookPause) {
		// A slow handshake with the former one, perhaps. It may try again.
		e.mu.Unlock()
		over, end := context.WithCancel(context.Background())
		end()
		return over
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

// serverGone says whether err tells that the server at the other end is no longer the
// one that it was, or not there. A statement that took too long says no such thing:
// under load every replica would make its connections again, again and again.
func serverGone(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, syscall.ETIMEDOUT): // the kernel's, which got no answer from the other one
		return true
	case pgconn.Timeout(err):
		return false
	}
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		switch e.Code {
		case "25006", // read_only_sql_transaction
			"57P01", // admin_shutdown
			"57P02", // crash_shutdown
			"57P03", // cannot_connect_now
			"57P04", // database_dropped
			"57P05": // idle_session_timeout
			return true
		}
		return strings.HasPrefix(e.Code, "08") // connection exceptions
	}
	broken := (*net.OpError)(nil)
	return errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
