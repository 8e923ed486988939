package postgres_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// More callers than a slow server can serve in their time: those that are served are served whole, and
// no connection is lost for those that are not.
func TestOverloadKeepsItsConnections(t *testing.T) {
	t.Parallel()
	server, front := behindNetwork(t)
	const connections, callers, attempts = 2, 100, 3
	store := openAt(t, postgres.Config{URL: hosts(t, server, "", front.Address()), MaxConnections: connections})
	rec := busy(t, store)
	before := store.Connected()
	// 20 statements in four seconds, of 100 callers who have as much each. A statement takes 400 ms and
	// is left a second: what the machine stalls for meanwhile must cost no connection.
	front.Delay(200 * time.Millisecond)
	var served atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range attempts {
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				if _, _, err := store.Get(ctx, rec.Handle); err == nil {
					served.Add(1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	t.Logf("%d of %d served, %d connections made", served.Load(), callers*attempts, store.Connected()-before)
	if made := store.Connected() - before; made > connections {
		t.Errorf("%d connections were made", made)
	}
	if served.Load() < callers*attempts/20 {
		t.Errorf("%d served", served.Load())
	}
}
