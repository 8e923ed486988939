package cluster_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// echoes answers each line with its name before it.
func echoes(t *testing.T, name string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					io.WriteString(conn, name+lines.Text()+"\n")
				}
			}()
		}
	}()
	return l.Addr().String()
}

type client struct {
	*testing.T
	net.Conn

	lines *bufio.Reader
}

func dial(t *testing.T, p *cluster.Proxy) *client {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) say(line string) {
	c.Helper()
	_, err := io.WriteString(c, line+"\n")
	must(c.T, err)
}

func (c *client) hears(want string) {
	c.Helper()
	must(c.T, c.SetReadDeadline(time.Now().Add(time.Minute)))
	if line, err := c.lines.ReadString('\n'); line != want+"\n" {
		c.Fatalf("heard %q (%v), want %q", line, err, want)
	}
}

func (c *client) hearsNothing() {
	c.Helper()
	must(c.T, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if line, err := c.lines.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.Fatalf("heard %q (%v), want silence", line, err)
	}
}

func (c *client) isReset() {
	c.Helper()
	must(c.T, c.SetReadDeadline(time.Now().Add(time.Minute)))
	if line, err := c.lines.ReadString('\n'); !errors.Is(err, syscall.ECONNRESET) {
		c.Fatalf("heard %q (%v), want a reset", line, err)
	}
}

func newProxy(t *testing.T) *cluster.Proxy {
	t.Helper()
	p, err := cluster.NewProxy(echoes(t, "one "))
	must(t, err)
	t.Cleanup(p.Close)
	return p
}

func TestProxyMoves(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	stays := dial(t, p)
	stays.say("a")
	stays.hears("one a")
	p.Move(echoes(t, "two "))
	moved := dial(t, p)
	moved.say("b")
	moved.hears("two b")
	stays.say("c")
	stays.hears("one c")

	p.Reset()
	stays.isReset()
	moved.isReset()
	again := dial(t, p)
	again.say("d")
	again.hears("two d")

	p.Refuse(true)
	again.isReset()
	if conn, err := net.Dial("tcp", p.Address()); err == nil { // the reset may be faster
		refused := &client{t, conn, bufio.NewReader(conn)}
		refused.isReset()
		conn.Close()
	}
	p.Refuse(false)
	last := dial(t, p)
	last.say("e")
	last.hears("two e")
	must(t, last.Conn.(*net.TCPConn).CloseWrite()) // the end of one side crosses, and the other's
	if _, err := last.lines.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
	l := dial(t, p)
	p.Close()
	l.isReset()
	if conn, err := net.Dial("tcp", p.Address()); err == nil {
		conn.Close()
		t.Error("connected to a closed proxy")
	}
}

func TestProxyPartition(t *testing.T) {
	t.Parallel()
	for name, directions := range map[string][]cluster.Direction{
		"to the server":   {cluster.ToServer},
		"from the server": {cluster.FromServer},
		"both":            {cluster.ToServer, cluster.FromServer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			c := dial(t, p)
			c.say("a")
			c.hears("one a")
			p.Partition(directions...)
			c.say("b")
			fresh := dial(t, p)
			fresh.say("c")
			c.hearsNothing()
			fresh.hearsNothing()
			p.Heal()
			c.hears("one b")
			fresh.hears("one c")
		})
	}
}

func TestProxyHalfOpen(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	c := dial(t, p)
	c.say("known to the proxy")
	c.hears("one known to the proxy")
	p.Partition(cluster.ToServer)
	c.say("a")
	p.HalfOpen()
	p.HalfOpen()
	p.Heal()
	c.hearsNothing()
	fresh := dial(t, p)
	fresh.say("b")
	fresh.hears("one b")
	c.hearsNothing()
	p.Reset()
	c.isReset()
}

// Not how long it takes is asserted, but that it takes no less.
func TestProxyDelay(t *testing.T) {
	t.Parallel()
	const delay = 50 * time.Millisecond
	p := newProxy(t)
	p.Delay(delay)
	c := dial(t, p)
	began := time.Now()
	const lines = 20 // all are on the way at once
	for range lines {
		c.say("a")
	}
	for range lines {
		c.hears("one a")
	}
	if took := time.Since(began); took < 2*delay {
		t.Errorf("a round trip took %s, want %s at least", took, 2*delay)
	}
}
