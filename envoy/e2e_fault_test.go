package envoy_test

// What the tests of faults share (e2e_fault_*_test.go): a crowd of honest clients that go on whatever happens, sessions that are ended
// meanwhile, and what must be true of both in the end: no one is signed out, no end is lost, no one is called a thief.

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// recovery is how soon everything works again, once what failed is mended: the promise to users.
const recovery = 5 * time.Second

// scale is how large a fault is played. SESSIONGATE_SOAK=1 (make soak) plays what was promised to users, for an hour; without it the same
// code is small enough for every test run.
var scale = map[bool]struct{ clients, ends, kills int }{
	false: {clients: 40, ends: 30, kills: 6},
	true:  {clients: 1000, ends: 1000, kills: 200},
}[soak]

var soak = os.Getenv("SESSIONGATE_SOAK") == "1"

// crowd is many browsers. Each refreshes or asks for a page, again and again, and does what the answers say.
type crowd struct {
	*stack

	clients []*honest
	// lossy says that the store lost commits. A client with tokens of them is signed out, but never as a thief.
	lossy bool
	// pace is the mean pause of a client, so that the crowd's requests per second do not grow with it.
	pace time.Duration

	quiet  sync.RWMutex // held for reading by each client that waits for an answer
	all    sync.WaitGroup
	enough chan struct{}

	asked atomic.Int64 // how often everyone was asked to refresh
	base  int64        // of rotated, when time was moved last

	refreshed, rotated, unavailable, ended, failed atomic.Int64
	lastUnavailable                                atomic.Int64 // in Unix ns
}

// honest is one client.
type honest struct {
	*browser

	handle string
	random *rand.Rand
	served atomic.Int64 // the last asked that it did
	ended  atomic.Bool  // signed out
}

// newCrowd signs everyone in and lets them begin.
func (s *stack) newCrowd(n int) *crowd {
	s.Helper()
	c := &crowd{stack: s, enough: make(chan struct{}), pace: time.Duration(n) * 5 * time.Millisecond}
	for i := range n {
		h := &honest{random: rand.New(rand.NewPCG(uint64(i), 1))}
		// Each in a network of its own: a crowd in one would look like one attacker.
		h.browser = s.newBrowserAt(s.proxy.URL("ingress"), fmt.Sprintf("127.%d.%d.1", 100+i/250, 1+i%250), nil)
		h.client.Timeout = patience
		signedIn := s.processes[i%len(s.processes)].create("user-" + strconv.Itoa(i))
		h.handle = signedIn.Session.Handle
		h.take(answer{header: http.Header{"Set-Cookie": signedIn.SetCookie, "Anti-Csrf": {signedIn.Tokens.AntiCSRF}}})
		c.clients = append(c.clients, h)
	}
	for _, h := range c.clients {
		c.all.Go(func() { c.live(h) })
	}
	s.Cleanup(c.stop)
	return c
}

func (c *crowd) live(h *honest) {
	for !h.ended.Load() {
		pause := c.turn(h)
		if pause == 0 {
			pause = time.Duration(h.random.Int64N(int64(2 * c.pace)))
		}
		select {
		case <-c.enough:
			return
		case <-time.After(pause):
		}
	}
}

// turn is one request, or two where the first answer asks for a refresh. It returns how long the client was told to wait.
func (c *crowd) turn(h *honest) time.Duration {
	c.quiet.RLock()
	defer c.quiet.RUnlock()
	asked := c.asked.Load()
	if h.served.Load() == asked && h.random.IntN(2) == 0 {
		path := []string{"/", "/strict"}[h.random.IntN(2)]
		a, err := h.try(h.request(http.MethodGet, path, script))
		if err != nil || a.status != 440 {
			return c.judge(h, "GET "+path, a, err)
		}
	}
	before := h.cookie("sRefreshToken")
	a, err := h.try(h.request(http.MethodPost, refreshPath, script))
	wait := c.judge(h, "refresh", a, err)
	if err != nil || a.status != http.StatusOK {
		return wait
	}
	h.take(a)
	h.served.Store(asked)
	c.refreshed.Add(1)
	if h.cookie("sRefreshToken") != before {
		c.rotated.Add(1)
	}
	return wait
}

// judge says what an answer means to its client. 409 is another tab's business; 503, and Envoy's own 502 and 504, touch nothing and say when
// to come back; and anything that is neither that nor what was asked for has signed the client out.
func (c *crowd) judge(h *honest, what string, a answer, err error) (wait time.Duration) {
	if err != nil && c.Context().Err() != nil {
		return 0 // the test has ended
	}
	if err != nil {
		c.complainf("%s: %v: Envoy is always there", what, err)
		return 0
	}
	switch a.status {
	case http.StatusOK, http.StatusConflict:
		return 0
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		c.unavailable.Add(1)
		c.lastUnavailable.Store(time.Now().UnixNano())
		seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || len(a.header.Values("Set-Cookie")) > 0 || a.header.Get("Id-Refresh-Token") != "" || a.header.Get("Cache-Control") != "no-store" {
			c.complainf("%s: %d with %d cookies, id-refresh-token %q, Retry-After %q, Cache-Control %q", what, a.status, len(a.header.Values("Set-Cookie")),
				a.header.Get("Id-Refresh-Token"), a.header.Get("Retry-After"), a.header.Get("Cache-Control"))
		}
		return time.Duration(seconds) * time.Second
	}
	h.ended.Store(true)
	c.ended.Add(1)
	if theft := strings.Contains(a.body, "theft"); !c.lossy || theft || a.status != 440 && a.status != http.StatusFound {
		c.complainf("%s: %d %.100s (%s): a client is signed out", what, a.status, a.body, a.header.Get("X-Sessiongate-Denial"))
	}
	return 0
}

// complain fails the test, and says so some times only: there are many clients.
func (c *crowd) complainf(format string, args ...any) {
	if c.failed.Add(1) <= 5 {
		c.Errorf(format, args...)
	} else {
		c.Fail()
	}
}

// pause waits until no client waits for an answer, and holds all of them until resume is called. Time is moved then: no honest attempt lasts as
// long as the step.
func (c *crowd) pause() (resume func()) {
	c.quiet.Lock()
	return c.quiet.Unlock
}

// later moves the time so far that the next refreshes rotate.
func (c *crowd) later() {
	c.Helper()
	resume := c.pause()
	defer resume()
	c.advance(grace + moment)
	c.base = c.rotated.Load()
}

// midway has everyone's tokens rotate, and returns when some have and most have not.
func (c *crowd) midway() {
	c.Helper()
	c.later()
	c.some(4)
}

// some waits until one of n clients has a new refresh token.
func (c *crowd) some(n int) {
	c.Helper()
	goal := c.base + int64(len(c.clients)/n)
	c.eventually("rotations", func() bool { return c.rotated.Load() >= goal })
}

// trouble waits until so many more answers were 503.
func (c *crowd) trouble(n int) {
	c.Helper()
	goal := c.unavailable.Load() + int64(n)
	c.eventually(fmt.Sprintf("%d answers 503", n), func() bool { return c.unavailable.Load() >= goal })
}

// everyone waits until each client that is signed in has refreshed once more.
func (c *crowd) everyone() {
	c.Helper()
	asked := c.asked.Add(1)
	c.eventually("everyone refreshes", func() bool {
		return !slices.ContainsFunc(c.clients, func(h *honest) bool { return !h.ended.Load() && h.served.Load() < asked })
	})
}

func (c *crowd) stop() {
	select {
	case <-c.enough:
	default:
		close(c.enough)
	}
	c.all.Wait()
}

// settle ends the crowd and says what became of it: everyone refreshes again, twice and with a rotation; then the store is asked.
func (c *crowd) settle() {
	c.Helper()
	c.everyone()
	c.later()
	c.everyone()
	c.later()
	c.everyone()
	c.stop()
	c.Logf("%d clients: %d refreshes, %d rotations, %d answers 503, %d signed out", len(c.clients), c.refreshed.Load(), c.rotated.Load(),
		c.unavailable.Load(), c.ended.Load())
	if n := c.count(`SELECT count(*) FROM sessiongate.audit_events WHERE reason IN ('theft', 'refresh_abuse')`); n > 0 {
		c.Errorf("%d honest clients were called thieves", n)
	}
	if n := c.failed.Load(); n > 0 {
		c.Errorf("%d complaints", n)
	}
	var living [][]byte
	for _, h := range c.clients {
		if !h.ended.Load() {
			living = append(living, handleBytes(h.handle))
		}
	}
	if n := c.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = ANY($1)`, living); n != len(living) {
		c.Errorf("the store has %d of %d sessions", n, len(living))
	}
	c.ended.Store(0)
}

// victims are sessions that will be ended.
func (s *stack) victims(n int) []created {
	s.Helper()
	list := make([]created, n)
	for i := range list {
		list[i] = s.processes[i%len(s.processes)].create("victim-" + strconv.Itoa(i))
	}
	return list
}

// end ends sessions at a process, and returns those that it reported as ended.
func (p *replica) end(list []created) (ended []created) {
	for _, v := range list {
		if status, _, err := p.tryAPI(http.MethodDelete, "/v1/sessions/"+v.Session.Handle, nil, nil); err == nil && status == http.StatusOK {
			ended = append(ended, v)
		}
	}
	return ended
}

// allEnded waits until every process has read the feed once more, and sees that then each denies all that was ended, and that the store has
// none of it.
func (s *stack) allEnded(ended []created) {
	s.Helper()
	began := time.Now()
	for _, p := range s.processes {
		s.within(recovery, began, p.name+" reads the feed", func() bool { return p.polledSince(began) })
	}
	heard := time.Since(began)
	handles := make([][]byte, len(ended))
	for i, v := range ended {
		handles[i] = handleBytes(v.Session.Handle)
		for _, p := range s.processes {
			if status := p.check(v.Tokens.Access, v.Tokens.AntiCSRF); status != http.StatusUnauthorized {
				s.Errorf("%s answers %d for a session that was ended %s ago, and read the feed since", p.name, status, time.Since(began))
			}
		}
	}
	s.Logf("%d ended sessions are denied everywhere after %s", len(ended), heard.Round(time.Millisecond))
	if n := s.count(`SELECT count(*) FROM sessiongate.active_sessions WHERE handle = ANY($1)`, handles); n > 0 {
		s.Errorf("%d of %d ended sessions are in the store", n, len(ended))
	}
}

// within waits for what must happen so soon after a moment.
func (s *stack) within(limit time.Duration, since time.Time, what string, happened func() bool) {
	s.Helper()
	for !happened() {
		if time.Since(since) > limit {
			s.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// first asks again every moment, as many people do, and returns the first good answer. A client that asked when something failed may wait longer,
// until it is told 503.
func first[T any](s *stack, limit time.Duration, since time.Time, what string, ask func() (T, bool)) T {
	s.Helper()
	good := make(chan T, 1)
	var asking sync.WaitGroup
	s.Cleanup(asking.Wait)
	for {
		asking.Go(func() {
			if got, ok := ask(); ok {
				select {
				case good <- got:
				default: // not the first
				}
			}
		})
		select {
		case got := <-good:
			return got
		case <-time.After(100 * time.Millisecond):
		}
		if time.Since(since) > limit {
			s.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// recovers waits until every process signs in, refuses elsewhere what one ended, and passes strict routes again.
func (s *stack) recovers(since time.Time) {
	s.Helper()
	s.recoversWithin(recovery, since)
}

func (s *stack) recoversWithin(limit time.Duration, since time.Time) {
	s.Helper()
	for i, p := range s.processes {
		other := s.processes[(i+1)%len(s.processes)]
		c := first(s, limit, since, p.name+" signs in", func() (c created, ok bool) {
			status, _, err := p.tryAPI(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "recovered"}, &c)
			return c, err == nil && status == http.StatusCreated
		})
		s.secrets.add(c.Tokens.Access, c.Tokens.Refresh, c.Tokens.AntiCSRF)
		for _, q := range s.processes {
			first(s, limit, since, q.name+" passes a strict route", func() (code codes.Code, ok bool) { code = q.strict(c); return code, code == codes.OK })
		}
		first(s, limit, since, other.name+" ends", func() (ended []created, ok bool) { ended = other.end([]created{c}); return ended, len(ended) == 1 })
		for _, q := range s.processes {
			s.within(limit, since, q.name+" denies", func() bool { return q.check(c.Tokens.Access, c.Tokens.AntiCSRF) == http.StatusUnauthorized })
		}
	}
	s.Logf("recovered after %s", time.Since(since).Round(time.Millisecond))
}

// strict asks for a route that is marked so.
func (p *replica) strict(c created) codes.Code {
	p.Helper()
	request := checkRequest(c.Tokens.Access, c.Tokens.AntiCSRF)
	request.GetAttributes().ContextExtensions["strict"] = "true"
	response, err := p.gate.Check(p.Context(), request)
	if err != nil || response.GetStatus() == nil {
		return codes.Unknown
	}
	return codes.Code(response.GetStatus().GetCode())
}

// faultStack is a deployment for these tests, whose page has a strict sibling.
func faultStack(t *testing.T, o stackOptions) *stack {
	t.Helper()
	o.settings = append([]string{"SESSIONGATE_RESPONSES_DENIAL_HEADER=true", "SESSIONGATE_LOG_LEVEL=info"}, o.settings...)
	inner := o.edit
	o.edit = func(b *bootstrapv3.Bootstrap) error {
		err := editRoutes(func(v *routev3.VirtualHost) error {
			return addRoute(v, "default", "/strict", map[string]string{"session": "required", "strict": "true"})
		})(b)
		if err == nil && inner != nil {
			err = inner(b)
		}
		return err
	}
	return newStack(t, o)
}

// freshCluster is one that a test may break.
func freshCluster(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// standbyOf is a synchronous one.
func standbyOf(t *testing.T, primary *cluster.Cluster) *cluster.Cluster {
	t.Helper()
	standby, err := primary.Standby(t.Context(), cluster.Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Stop)
	if err := primary.Synchronous(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	return standby
}

// networkTo is a proxy before a cluster.
func networkTo(t *testing.T, c *cluster.Cluster) *cluster.Proxy {
	t.Helper()
	p, err := cluster.NewProxy(c.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// through is the address of the stack's database by way of a proxy.
func (s *stack) through(p *cluster.Proxy, c *cluster.Cluster) string {
	s.Helper()
	address, err := p.URL(c, s.name)
	if err != nil {
		s.Fatal(err)
	}
	return address
}

// must ends the test where a step of its own failed.
func (s *stack) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// moveTo has the test itself use another server.
func (s *stack) moveTo(c *cluster.Cluster) {
	s.Helper()
	s.url = c.URL(s.name)
	s.reconnect()
}
