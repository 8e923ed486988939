package sessionstest_test

import (
	"testing"

	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

func TestMemoryAudit(t *testing.T) {
	sessionstest.Audit(t, func(*testing.T) sessionstest.ClockedStore { return sessionstest.NewMemory() })
}

func TestMemory(t *testing.T) {
	sessionstest.Conformance(t, func(*testing.T) sessionstest.ClockedStore { return sessionstest.NewMemory() })
}
