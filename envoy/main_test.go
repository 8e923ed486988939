package envoy_test

import (
	"os"
	"sync"
	"testing"
)

// shared is what tests start for each other. It is stopped after the last of them.
var shared struct {
	sync.Mutex

	stops []func()
}

func afterAllTests(stop func()) {
	shared.Lock()
	defer shared.Unlock()
	shared.stops = append(shared.stops, stop)
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range shared.stops {
		stop()
	}
	os.Exit(code)
}
