package memory_test

import (
	"testing"

	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

func TestAudit(t *testing.T) {
	sessionstest.Audit(t, func(*testing.T) sessionstest.ClockedStore { return memory.New() })
}

func TestConformance(t *testing.T) {
	sessionstest.Conformance(t, func(*testing.T) sessionstest.ClockedStore { return memory.New() })
}
