package envoy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// TestFaultFailover: the primary dies in the middle of everyone's refreshes, and its synchronous standby is promoted. Nothing that was
// answered is lost. sessiongate finds the new primary among several hosts of its URL, or behind an address that moves.
func TestFaultFailover(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]func(s *stack, primary, standby *cluster.Cluster, front *cluster.Proxy) string{
		"several hosts": func(s *stack, primary, standby *cluster.Cluster, _ *cluster.Proxy) string {
			return severalHosts(s.name, primary, standby)
		},
		"an address that moves": func(s *stack, primary, _ *cluster.Cluster, front *cluster.Proxy) string {
			return s.through(front, primary)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := freshCluster(t, cluster.Options{TCP: true})
			standby := standbyOf(t, primary)
			front := networkTo(t, primary)
			s := faultStack(t, stackOptions{cluster: primary, url: func(s *stack, _ int) string { return address(s, primary, standby, front) }})
			c := s.newCrowd(scale.clients)
			victims := s.victims(2 * scale.ends)
			ended := s.processes[0].end(victims[:scale.ends])
			c.midway()

			// Some ends are under way while it dies: those that were answered count. The first that is not says that it is dead: each of a
			// thousand would wait as long.
			ends := make(chan []created)
			go func() {
				var answered []created
				for _, v := range victims[scale.ends:] {
					one := s.processes[1].end([]created{v})
					if len(one) == 0 {
						break
					}
					answered = append(answered, one...)
				}
				ends <- answered
			}()
			primary.Kill()
			ended = append(ended, <-ends...)
			s.must(standby.Promote(t.Context()))
			s.moveTo(standby)
			mended := time.Now()
			front.Move(standby.Address())
			s.recovers(mended)
			s.allEnded(ended)
			c.everyone()
			t.Logf("the last 503 came after %s", time.Unix(0, c.lastUnavailable.Load()).Sub(mended).Round(time.Millisecond))
			c.settle()
		})
	}
}

// severalHosts is an address that names a primary and its standby.
func severalHosts(database string, primary, standby *cluster.Cluster) string {
	return strings.Replace(primary.TCPURL(database), primary.Address(), primary.Address()+","+standby.Address(), 1) + "&target_session_attrs=read-write"
}

// TestFaultSwitchover: a planned one. The former primary takes no writes any more and goes on answering, on the connections that are there
// as well. A replica that stayed with it would refuse sign-ins, and never hear of what is ended at the new one.
func TestFaultSwitchover(t *testing.T) {
	t.Parallel()
	former := freshCluster(t, cluster.Options{TCP: true})
	next := standbyOf(t, former)
	s := faultStack(t, stackOptions{cluster: former, url: func(s *stack, _ int) string { return severalHosts(s.name, former, next) }})
	c := s.newCrowd(scale.clients)
	victims := s.victims(scale.ends)
	c.midway()

	s.must(former.ReadOnly(t.Context(), true))
	s.must(next.Promote(t.Context()))
	s.moveTo(next)
	mended := time.Now()
	s.recovers(mended)
	s.allEnded(s.processes[0].end(victims))
	c.everyone()

	// And back, once the former one has followed: as a standby it answers reads for ever.
	s.must(former.Follow(t.Context(), next))
	s.must(next.Synchronous(t.Context(), true))
	c.everyone()
	victims = s.victims(scale.ends)
	next.Kill()
	s.must(former.Promote(t.Context()))
	s.moveTo(former)
	s.recovers(time.Now())
	s.allEnded(s.processes[1].end(victims))
	c.settle()
}

// TestFaultLostCommits: the store loses its last commits, because the standby lagged, or because a backup was restored. Clients with tokens of
// them may have to sign in again, but no one is called a thief; all others go on; and what is ended from now on is ended.
func TestFaultLostCommits(t *testing.T) {
	t.Parallel()
	t.Run("a standby that lagged", func(t *testing.T) {
		t.Parallel()
		primary := freshCluster(t, cluster.Options{TCP: true})
		standby := standbyOf(t, primary)
		s := faultStack(t, stackOptions{cluster: primary, url: func(s *stack, _ int) string { return severalHosts(s.name, primary, standby) }})
		c := s.newCrowd(scale.clients)
		c.everyone()
		s.must(primary.Synchronous(t.Context(), false))
		s.must(standby.Isolate(t.Context()))
		lost(s, c)
		primary.Kill()
		s.must(standby.Promote(t.Context()))
		s.moveTo(standby)
		s.found(c)
	})
	t.Run("a restored backup", func(t *testing.T) {
		t.Parallel()
		db := freshCluster(t, cluster.Options{TCP: true})
		s := faultStack(t, stackOptions{cluster: db})
		c := s.newCrowd(scale.clients)
		c.everyone()
		s.must(db.Backup(t.Context()))
		lost(s, c)
		s.must(db.Restore(t.Context()))
		s.moveTo(db)
		s.found(c)
	})
}

// lost is what the store will not know of: rotations, and sign-ins.
func lost(s *stack, c *crowd) {
	s.Helper()
	c.lossy = true
	for range 2 {
		c.later()
		c.some(2)
	}
}

// found is what must be true once a store came back without its last commits.
func (s *stack) found(c *crowd) {
	s.Helper()
	s.setClock() // how far it was moved is lost with the commits
	s.recovers(time.Now())
	victims := s.victims(scale.ends)
	s.allEnded(s.processes[0].end(victims))
	c.settle()
}

// TestFaultRestart: Postgres is restarted, twice, once with no one to tell of it first.
func TestFaultRestart(t *testing.T) {
	t.Parallel()
	db := freshCluster(t, cluster.Options{TCP: true})
	s := faultStack(t, stackOptions{cluster: db})
	c := s.newCrowd(scale.clients)
	victims := s.victims(scale.ends)
	ended := s.processes[0].end(victims[:scale.ends/2])
	c.midway()
	for range 2 {
		db.Kill()
		c.trouble(scale.clients / 4)
		for _, p := range s.processes { // what was ended is still known, and no one is let in by a strict route
			s.eventually(p.name+" closes strict routes", func() bool { return p.strict(victims[scale.ends-1]) == codes.Unavailable })
			if status := p.check(ended[0].Tokens.Access, ended[0].Tokens.AntiCSRF); status != http.StatusUnauthorized {
				t.Errorf("%s answers %d for an ended session", p.name, status)
			}
		}
		s.must(db.Restart(t.Context()))
		mended := time.Now()
		s.reconnect()
		s.recovers(mended)
		c.everyone()
		c.midway()
	}
	ended = append(ended, s.processes[1].end(victims[scale.ends/2:])...)
	s.allEnded(ended)
	c.settle()
}
