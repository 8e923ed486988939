package authz

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
)

// BenchmarkMemory is what the engine's cache holds for each access token that passed a
// Check, what Envoy is told of it included, in bytes; docs/operations.md tells it.
func BenchmarkMemory(b *testing.B) {
	const n = 5_000
	g := newGate(b)
	requests := make([]ask, n)
	for i := range requests {
		issued := create(b, g.engine, sessions.NewSession{UserID: fmt.Sprint("user-", i), Claims: fmt.Appendf(nil, `{"role":"admin","n":%d}`, i)})
		requests[i] = navigation.cookie(access(issued))
	}
	before := heap()
	for _, r := range requests {
		if got := check(b, g.server, r); got.status != 0 {
			b.Fatal(got.status)
		}
	}
	b.ReportMetric(float64(heap()-before)/n, "bytes/token")
	b.ReportMetric(0, "ns/op")
	runtime.KeepAlive(g)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one queued for finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
