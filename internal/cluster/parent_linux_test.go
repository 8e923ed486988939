package cluster_test

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// The kernel takes the end of the forking thread for the end of the parent. So
// the cluster is started on a thread that then ends, with all that are idle.
func TestServerOutlivesTheThreadThatStartedIt(t *testing.T) {
	t.Parallel()
	type result struct {
		c   *cluster.Cluster
		err error
	}
	const threads = 64
	ids, starts, ending := make(chan int), make(chan result), make(chan struct{})
	work := make(chan struct{}, 1)
	work <- struct{}{}
	for range threads {
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
			id := syscall.Gettid()
			ids <- id
			if id == os.Getpid() { // the runtime keeps the main thread
				<-ending
				return
			}
			select {
			case <-work:
				c, err := cluster.Start(t.Context(), cluster.Options{})
				starts <- result{c, err}
			case <-ending:
			}
			<-ending
		}()
	}
	var ended []int
	for range threads {
		if id := <-ids; id != os.Getpid() {
			ended = append(ended, id)
		}
	}
	r := <-starts
	close(ending)
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(r.c.Stop)
	conn := connect(t, r.c.URL("postgres"))
	for _, id := range ended {
		await(t, "the end of a thread", func() bool {
			return errors.Is(syscall.Tgkill(os.Getpid(), id, 0), syscall.ESRCH)
		})
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatalf("the server ended with the thread: %v", err)
	}
}
