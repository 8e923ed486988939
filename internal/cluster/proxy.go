package cluster

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// Proxy passes TCP connections on to a server, and fails as networks do. It is
// between a product and its Postgres in tests. Its methods may be called from
// several goroutines at once.
type Proxy struct {
	listener *net.TCPListener
	running  sync.WaitGroup

	mu       sync.Mutex
	target   string
	delay    time.Duration
	refusing bool
	cut      map[Direction]bool
	healed   chan struct{} // closed when the cut changes
	links    map[*link]struct{}
	closed   bool
}

// Direction is one half of what crosses a proxy.
type Direction int

// The two directions.
const (
	ToServer Direction = iota
	FromServer
)

// link is one connection, on both sides of the proxy.
type link struct {
	client, server *net.TCPConn
	dead           chan struct{} // closed when nothing crosses any more, and neither end is told
	gone           chan struct{} // closed with the connection
	end            sync.Once
}

// chunk is what was read at once, and when it is due on the other side.
type chunk struct {
	bytes []byte
	due   time.Time
}

// inFlight is how many chunks are on the way in one direction at most: latency
// must not become a bound on throughput.
const inFlight = 1024

// NewProxy listens on a free port of 127.0.0.1, for a server at host:port.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("starting a proxy: %w", err)
	}
	p := &Proxy{listener: l, target: target, cut: map[Direction]bool{}, healed: make(chan struct{}), links: map[*link]struct{}{}}
	p.running.Go(p.accept)
	return p, nil
}

// Address is the host:port of the proxy.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Address is the host:port of a cluster that listens on TCP, for a proxy; else
// empty.
func (c *Cluster) Address() string {
	u, err := url.Parse(c.TCPURL(""))
	if err != nil {
		return ""
	}
	return u.Host
}

// URL is the address of the server's database through the proxy. c need only have
// the same password, as a standby does.
func (p *Proxy) URL(c *Cluster, database string) (string, error) {
	u, err := url.Parse(c.TCPURL(database))
	if err != nil {
		return "", fmt.Errorf("reading the cluster's address: %w", err)
	}
	u.Host = p.Address()
	return u.String(), nil
}

// Move sends new connections to another server. Those that are there stay.
func (p *Proxy) Move(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Delay holds each byte back for so long, in each direction.
func (p *Proxy) Delay(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = by
}

// Partition lets nothing cross in these directions, and tells neither end: as between
// two networks that a broken switch divides. New connections are accepted, and
// silent. Heal ends it: what was sent meanwhile arrives then, as TCP repeats it.
func (p *Proxy) Partition(directions ...Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		p.cut[d] = true
	}
}

// Heal ends a partition.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.cut)
	close(p.healed)
	p.healed = make(chan struct{})
}

// HalfOpen forgets the connections that are there: nothing crosses them any more,
// and neither side is told, as when a firewall loses its table. New ones work.
func (p *Proxy) HalfOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		select {
		case <-l.dead:
		default:
			close(l.dead)
		}
	}
}

// Reset ends the connections that are there with a reset. New ones work.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// Refuse resets the connections that are there, and each new one; or no longer.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	p.refusing = on
	p.mu.Unlock()
	if on {
		p.Reset()
	}
}

// Close ends every connection, and returns once nothing of the proxy runs.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Reset()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // that client gave up
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	l := &link{client: client, dead: make(chan struct{}), gone: make(chan struct{})}
	server, err := net.Dial("tcp", target) //nolint:noctx // on this machine it answers at once
	if err != nil {
		l.reset()
		return
	}
	l.server, _ = server.(*net.TCPConn)
	p.mu.Lock()
	refused := p.refusing || p.closed
	p.links[l] = struct{}{}
	p.mu.Unlock()
	if refused {
		l.reset()
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(l, ToServer, client, l.server) })
	both.Go(func() { p.pass(l, FromServer, l.server, client) })
	both.Wait()
	l.reset()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pass moves what one side sends to the other, until it sends no more.
func (p *Proxy) pass(l *link, d Direction, from, to *net.TCPConn) {
	queue := make(chan chunk, inFlight)
	var reading sync.WaitGroup
	reading.Go(func() { p.read(l, from, queue) })
	defer reading.Wait()
	for c := range queue {
		if !l.wait(time.Until(c.due)) || !p.mayCross(l, d) {
			break
		}
		if len(c.bytes) == 0 {
			_ = to.CloseWrite()
			break
		}
		if _, err := to.Write(c.bytes); err != nil {
			l.reset()
			break
		}
	}
}

// read queues what one side sends. Its end is a chunk without bytes.
func (p *Proxy) read(l *link, from *net.TCPConn, queue chan<- chunk) {
	defer close(queue)
	for {
		bytes := make([]byte, 32<<10)
		n, err := from.Read(bytes)
		if err != nil && !errors.Is(err, io.EOF) {
			l.reset()
			return
		}
		p.mu.Lock()
		due := time.Now().Add(p.delay)
		p.mu.Unlock()
		select {
		case queue <- chunk{bytes[:n], due}:
		case <-l.gone:
			return
		}
		if err != nil {
			return
		}
	}
}

// mayCross waits for the end of a partition. It is false once the connection has
// ended; on a dead one it waits for that.
func (p *Proxy) mayCross(l *link, d Direction) bool {
	for {
		p.mu.Lock()
		cut, healed := p.cut[d], p.healed
		p.mu.Unlock()
		select {
		case <-l.dead:
			<-l.gone
		default:
		}
		select {
		case <-l.gone:
			return false
		default:
		}
		if !cut {
			return true
		}
		select {
		case <-healed:
		case <-l.dead:
		case <-l.gone:
		}
	}
}

// wait is false where the connection ended meanwhile.
func (l *link) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.gone:
		return false
	}
}

// reset ends a connection on both sides, without the usual farewell.
func (l *link) reset() {
	l.end.Do(func() {
		close(l.gone)
		for _, conn := range []*net.TCPConn{l.client, l.server} {
			if conn != nil {
				_ = conn.SetLinger(0)
				_ = conn.Close()
			}
		}
	})
}
