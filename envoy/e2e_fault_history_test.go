package envoy_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// TestFaultHistories: what everyone is told while connections are reset, Postgres is killed, frozen, and cut off from one process is
// allowed by docs/protocol.md, too. What was answered 503 may have happened, or not.
func TestFaultHistories(t *testing.T) {
	t.Parallel()
	db := freshCluster(t, cluster.Options{TCP: true})
	networks := []*cluster.Proxy{networkTo(t, db), networkTo(t, db)}
	s := newStack(t, stackOptions{cluster: db, noEnvoy: true, settings: historySettings, url: func(s *stack, process int) string { return s.through(networks[process], db) }})
	living := s.processes[0].create("watched")
	faults := []func(){
		func() {
			networks[0].Reset()
			networks[1].Reset()
			db.Kill()
			s.must(db.Restart(t.Context()))
			s.reconnect()
		},
		func() {
			s.must(db.Freeze())
			s.eventually("a process misses Postgres", func() bool { return s.processes[1].strict(living) == codes.Unavailable })
			s.must(db.Thaw())
		},
		func() {
			networks[0].Partition(cluster.ToServer, cluster.FromServer)
			s.eventually("a process misses Postgres", func() bool { return s.processes[0].strict(living) == codes.Unavailable })
			networks[0].Heal()
		},
	}
	playHistories(t, s, func(round int) {
		faults[round%len(faults)]()
		s.recovers(time.Now())
	})
}
