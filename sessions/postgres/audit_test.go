package postgres_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// audited is a store that writes an event for each change. Each delivery is that of
// the next of several processes.
type audited struct {
	*clocked

	processes []*postgres.Store
	next      atomic.Int64
}

func openAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{clocked: open(t)}
	for range 2 {
		a.processes = append(a.processes, openAt(t, postgres.Config{URL: a.url, Audit: true}))
	}
	a.Store = a.processes[0]
	return a
}

func (a *audited) DeliverEvents(ctx context.Context, limit int, deliver func([]sessions.AuditEvent) error) (int, error) {
	return a.processes[int(a.next.Add(1))%len(a.processes)].DeliverEvents(ctx, limit, deliver)
}

func TestAudit(t *testing.T) {
	t.Parallel()
	sessionstest.Audit(t, func(t *testing.T) sessionstest.ClockedStore { return openAudited(t) })
}

// The statements are others where they write events.
func TestConformanceAudited(t *testing.T) {
	t.Parallel()
	sessionstest.Conformance(t, func(t *testing.T) sessionstest.ClockedStore { return openAudited(t) })
}
