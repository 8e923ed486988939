package envoy_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// TestFaultFrozen: Postgres is there and says nothing. Everybody is told so in time, before Envoy gives up waiting: its own answer would not
// say when to come back.
func TestFaultFrozen(t *testing.T) {
	t.Parallel()
	db := freshCluster(t, cluster.Options{TCP: true})
	s := faultStack(t, stackOptions{cluster: db, url: func(s *stack, _ int) string { return db.TCPURL(s.name) }})
	c := s.newCrowd(scale.clients)
	victims := s.victims(scale.ends)
	ended := s.processes[0].end(victims[1:])
	c.midway()
	s.must(db.Freeze())
	c.trouble(scale.clients / 2)
	b := s.newBrowser(networkV)
	b.take(answer{header: http.Header{"Set-Cookie": victims[0].SetCookie}})
	for _, p := range s.processes {
		s.eventually(p.name+" closes strict routes", func() bool { return p.strict(victims[0]) == codes.Unavailable })
	}
	if a := b.do(http.MethodPost, "/auth/signout", script); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" ||
		a.header.Get("Cache-Control") != "no-store" || len(a.header.Values("Set-Cookie")) > 0 {
		t.Errorf("sign-out: %d, Retry-After %q, Cache-Control %q, %d cookies; want 503, a time, no-store, none", a.status, a.header.Get("Retry-After"),
			a.header.Get("Cache-Control"), len(a.header.Values("Set-Cookie")))
	}
	s.must(db.Thaw())
	s.recovers(time.Now())
	s.allEnded(ended)
	c.settle()
}

// TestFaultSlow: 200 ms to Postgres and back are no fault. Everything takes longer, and nothing fails.
func TestFaultSlow(t *testing.T) {
	t.Parallel()
	db := freshCluster(t, cluster.Options{TCP: true})
	network := networkTo(t, db)
	s := faultStack(t, stackOptions{
		cluster: db, url: func(s *stack, _ int) string { return s.through(network, db) },
		// The crowd asks 200 times a second, at most two statements each: with 200 ms each, 80 are under way.
		settings: []string{"SESSIONGATE_DATABASE_MAX_CONNECTIONS=40"},
	})
	c := s.newCrowd(scale.clients)
	victims := s.victims(scale.ends)
	c.later()
	network.Delay(100 * time.Millisecond)
	c.everyone()
	c.later()
	c.everyone()
	ended := s.processes[0].end(victims[:min(scale.ends, 10)])
	s.allEnded(ended)
	if n := c.unavailable.Load(); n > 0 {
		t.Errorf("%d answers 503 from a slow Postgres", n)
	}
	network.Delay(0)
	c.settle()
}

// TestFaultOutOfConnections: others took every connection that Postgres has, and those of sessiongate were cut.
func TestFaultOutOfConnections(t *testing.T) {
	t.Parallel()
	const most = 40
	db := freshCluster(t, cluster.Options{TCP: true, Settings: map[string]string{"max_connections": "40"}})
	s := faultStack(t, stackOptions{cluster: db})
	c := s.newCrowd(scale.clients)
	victims := s.victims(scale.ends)
	ended := s.processes[0].end(victims)
	c.midway()
	ctx, release := context.WithCancel(t.Context())
	defer release()
	var others sync.WaitGroup
	for range most {
		others.Go(func() { hog(ctx, db.URL("postgres")) })
	}
	s.eventually("others have every connection", func() bool {
		s.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sessiongate'`)
		return s.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sessiongate'`) == 0 &&
			s.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hog'`) >= most-1
	})
	c.trouble(scale.clients / 4)
	release()
	others.Wait()
	s.recovers(time.Now())
	s.allEnded(ended)
	c.settle()
}

// hog takes a connection as soon as there is one, and keeps it until ctx ends.
func hog(ctx context.Context, address string) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, address+"&application_name=hog")
		if err != nil {
			time.Sleep(time.Millisecond) // there is none
			continue
		}
		<-ctx.Done()
		_ = conn.Close(context.Background())
	}
}

// TestFaultOutOfDisk: the disk of Postgres is full. It goes on, or crashes and cannot start again, until someone makes room.
func TestFaultOutOfDisk(t *testing.T) {
	t.Parallel()
	disk, remove, err := cluster.SmallDisk(192 << 20)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(remove)
	db := freshCluster(t, cluster.Options{Dir: disk})
	s := faultStack(t, stackOptions{cluster: db})
	c := s.newCrowd(scale.clients)
	victims := s.victims(scale.ends)
	ended := s.processes[0].end(victims[:scale.ends/2])
	c.midway()
	big := filepath.Join(disk, "big")
	s.must(fill(big))
	for i := 0; ; i++ { // until the table has no room left in its pages
		status, _, err := s.processes[0].tryAPI(http.MethodPost, "/v1/sessions", map[string]any{"user_id": "too-much"}, nil)
		if err == nil && status == http.StatusServiceUnavailable {
			break
		}
		if err != nil || status != http.StatusCreated || i == 100_000 {
			t.Fatalf("sign-in %d: %d, %v", i, status, err)
		}
	}
	for _, p := range s.processes { // what was ended is known, whatever the disk
		if status := p.check(ended[0].Tokens.Access, ended[0].Tokens.AntiCSRF); status != http.StatusUnauthorized {
			t.Errorf("%s answers %d for an ended session", p.name, status)
		}
	}
	ended = append(ended, s.processes[1].end(victims[scale.ends/2:])...) // perhaps; what it says counts
	s.must(os.Remove(big))
	s.must(db.Restart(t.Context()))
	mended := time.Now()
	s.reconnect()
	s.recovers(mended)
	s.allEnded(ended)
	c.settle()
}

// fill writes a file until the disk is full.
func fill(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	for size := 1 << 20; size > 0; {
		_, err := file.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return err
		}
	}
	return nil
}

// TestFaultIsolation: someone set another isolation level for the whole database.
func TestFaultIsolation(t *testing.T) {
	t.Parallel()
	levels := []string{"serializable"}
	if soak {
		levels = append(levels, "repeatable read")
	}
	for _, level := range levels {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			s := faultStack(t, stackOptions{more: func(s *stack) []string {
				s.connect()
				s.exec(`ALTER DATABASE ` + pgx.Identifier{s.name}.Sanitize() + ` SET default_transaction_isolation = '` + level + `'`)
				return nil
			}})
			c := s.newCrowd(scale.clients)
			victims := s.victims(scale.ends)
			c.midway()
			ends := make(chan []created)
			for i, p := range s.processes { // both end the same sessions
				go func() {
					if i == 0 {
						ends <- p.end(victims)
						return
					}
					p.end(victims)
					ends <- nil
				}()
			}
			s.allEnded(append(<-ends, <-ends...))
			c.everyone()
			if n := c.unavailable.Load(); n > 0 {
				t.Errorf("%d answers 503", n)
			}
			c.settle()
		})
	}
}

// TestFaultClock: the database's clock is set right, forwards and back, by ten minutes.
func TestFaultClock(t *testing.T) {
	t.Parallel()
	s := faultStack(t, stackOptions{})
	c := s.newCrowd(scale.clients)
	for _, step := range []time.Duration{10 * time.Minute, -10 * time.Minute, -10 * time.Minute, 10 * time.Minute} {
		c.midway()
		victims := s.victims(2)
		ended := s.processes[0].end(victims[:1])
		resume := c.pause()
		s.moved += step
		s.setClock()
		resume()
		stepped := time.Now()
		ended = append(ended, s.processes[1].end(victims[1:])...)
		s.recovers(stepped)
		s.allEnded(ended)
		c.everyone()
		// A user who signs in now may come from another network at once, as always.
		b, fresh := s.newBrowser(networkW), s.processes[0].create("roaming")
		b.take(answer{header: http.Header{"Set-Cookie": fresh.SetCookie, "Anti-Csrf": {fresh.Tokens.AntiCSRF}}})
		if a := b.refresh(); a.status != http.StatusOK {
			t.Errorf("after a step of %s: the refresh of a new session: %d", step, a.status)
		}
	}
	c.settle()
}
