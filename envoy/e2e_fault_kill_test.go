package envoy_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestFaultKill: processes are killed, at random points of refreshes, promotions, sign-outs and ends, and started again; both at once in
// the end. Asking again works (I7), and whatever was answered holds.
func TestFaultKill(t *testing.T) {
	t.Parallel()
	var addresses []string
	for range 2 {
		addresses = append(addresses, fmt.Sprintf("SESSIONGATE_LISTEN_AUTHZ=%s SESSIONGATE_LISTEN_PUBLIC=%s SESSIONGATE_LISTEN_INTERNAL=%s",
			freeAddress(t), freeAddress(t), freeAddress(t)))
	}
	s := faultStack(t, stackOptions{each: addresses})
	c := s.newCrowd(scale.clients)
	victims := s.victims(2 * scale.ends)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)) // the points are not repeatable anyway

	var ending sync.WaitGroup
	stop := make(chan struct{})
	ended := make([]int, 2) // how many of each half: by browsers, and by a backend
	ending.Go(func() { ended[0] = s.signOut(victims[:scale.ends], stop) })
	backend := slices.Clone(s.processes) // their addresses stay
	ending.Go(func() { ended[1] = endAgain(backend, victims[scale.ends:], stop) })
	for i := range scale.kills {
		if i%4 == 0 {
			c.later() // each client gets a child now, and uses it
		}
		goal := c.refreshed.Load() + random.Int64N(int64(scale.clients)/2)
		s.eventually("refreshes", func() bool { return c.refreshed.Load() >= goal })
		time.Sleep(time.Duration(random.IntN(int(5 * time.Millisecond)))) // somewhere within one
		s.killAgain(i % 2)
	}
	c.later()
	c.some(4)
	s.killAgain(0, 1)
	s.recovers(time.Now())
	close(stop)
	ending.Wait()
	t.Logf("%d sign-outs and %d ends were answered", ended[0], ended[1])
	s.allEnded(append(victims[:ended[0]:ended[0]], victims[scale.ends:scale.ends+ended[1]]...))
	c.settle()
}

// killAgain kills processes at once and starts them again, at the same addresses.
func (s *stack) killAgain(which ...int) {
	s.Helper()
	for _, i := range which {
		s.processes[i].kill()
	}
	for _, i := range which {
		p := s.processes[i]
		s.processes[i] = s.launch(p.run.Path(), fmt.Sprintf("%s-%d", p.name[:len("sessiongate-1")], len(s.logs)), s.options[i])
	}
	for _, i := range which {
		s.processes[i].awaitAddresses()
		s.processes[i].awaitReady()
	}
}

// kill ends a process as a crash of its machine would.
func (p *replica) kill() {
	p.killed = true
	p.run.Kill()
}

// signOut has the browsers of sessions sign out through Envoy, each until it is told that it is, and counts them.
func (s *stack) signOut(list []created, stop chan struct{}) (n int) {
	b := s.newBrowser(networkW)
	for _, v := range list {
		b.take(answer{header: http.Header{"Set-Cookie": v.SetCookie, "Anti-Csrf": {v.Tokens.AntiCSRF}}})
		for {
			select {
			case <-stop:
				return n
			default:
			}
			request := b.request(http.MethodPost, "/auth/signout", script)
			a, err := b.try(request)
			if err == nil && a.status == http.StatusOK {
				break
			}
			if err != nil || !slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, a.status) || len(a.header.Values("Set-Cookie")) > 0 {
				s.Errorf("sign-out: %d with %d cookies, %v", a.status, len(a.header.Values("Set-Cookie")), err)
				return n
			}
			time.Sleep(100 * time.Millisecond)
		}
		n++
		time.Sleep(20 * time.Millisecond) // between two people
	}
	return n
}

// endAgain has a backend end sessions, each until it is told so by either process, and counts them.
func endAgain(processes []*replica, list []created, stop chan struct{}) (n int) {
	for _, v := range list {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return n
			default:
			}
			if len(processes[i%2].end([]created{v})) == 1 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		n++
		time.Sleep(20 * time.Millisecond)
	}
	return n
}
