package envoy_test

import (
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// parted is a deployment in which each process has a network of its own to Postgres.
func parted(t *testing.T) (s *stack, networks []*cluster.Proxy) {
	t.Helper()
	db := freshCluster(t, cluster.Options{TCP: true})
	for range 2 {
		networks = append(networks, networkTo(t, db))
	}
	s = faultStack(t, stackOptions{cluster: db, url: func(s *stack, process int) string { return s.through(networks[process], db) }})
	return s, networks
}

// TestFaultPartition: one process cannot hear Postgres, and is not told so. Sessions end meanwhile through the other. On strict routes
// none of them is let in; elsewhere, until the network is back.
func TestFaultPartition(t *testing.T) {
	t.Parallel()
	cuts := map[string][]cluster.Direction{"both ways": {cluster.ToServer, cluster.FromServer}}
	if soak {
		cuts["answers are lost"], cuts["requests are lost"] = []cluster.Direction{cluster.FromServer}, []cluster.Direction{cluster.ToServer}
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, networks := parted(t)
			parted, other := s.processes[0], s.processes[1]
			c := s.newCrowd(scale.clients)
			victims := s.victims(scale.ends)
			c.midway()
			networks[0].Partition(cut...)
			s.within(recovery, time.Now(), "strict routes close", func() bool { return parted.strict(victims[0]) == codes.Unavailable })
			ended := other.end(victims)
			if len(ended) != len(victims) {
				t.Fatalf("%d of %d sessions ended through the process that hears Postgres", len(ended), len(victims))
			}
			for _, v := range ended[:min(len(ended), 5)] { // each question waits for Postgres
				if code := parted.strict(v); code == codes.OK {
					t.Error("an ended session passes a strict route")
				}
				s.within(recovery, time.Now(), "the other process denies", func() bool {
					return other.check(v.Tokens.Access, v.Tokens.AntiCSRF) == http.StatusUnauthorized
				})
			}
			if status := parted.check(victims[0].Tokens.Access, victims[0].Tokens.AntiCSRF); status != http.StatusOK {
				t.Errorf("%d: an outage is a verdict", status)
			}
			if soak {
				time.Sleep(time.Minute) // that is how long was promised
			}
			networks[0].Heal()
			s.allEnded(ended)
			s.recovers(time.Now())
			c.settle()
		})
	}
}

// TestFaultHalfOpen: something between the processes and Postgres forgot every connection, and tells neither side. New ones work.
func TestFaultHalfOpen(t *testing.T) {
	t.Parallel()
	s, networks := parted(t)
	c := s.newCrowd(scale.clients)
	victims := s.victims(scale.ends)
	if !soak {
		networks = networks[:1]
	}
	for _, network := range networks {
		c.midway()
		network.HalfOpen()
		// What was under way holds its connection until it is told 503, and there may be no other.
		s.recoversWithin(recovery+attempt/2, time.Now())
		c.everyone()
	}
	for _, n := range networks {
		n.Reset()
	}
	s.recovers(time.Now())
	s.allEnded(s.processes[0].end(victims))
	c.settle()
}
