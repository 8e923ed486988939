package sessionstest

import (
	"context"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
)

// StartEngine runs an engine over store until the test ends, and returns it once it is ready. Run
// must return without an error.
func StartEngine(tb testing.TB, store sessions.Store, cfg sessions.Config) *sessions.Engine {
	tb.Helper()
	ready := make(chan struct{})
	told := cfg.Observe
	cfg.Observe = func(e sessions.Event) {
		if e.Kind == sessions.EventReady {
			close(ready)
		}
		told(e)
	}
	engine, err := sessions.New(store, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			tb.Errorf("running the engine: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		tb.Fatalf("the engine ended before it was ready: %v", err)
	}
	return engine
}
