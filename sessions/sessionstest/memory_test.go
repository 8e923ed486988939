package sessionstest_test

import (
	"testing"

	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

func TestMemory(t *testing.T) {
	sessionstest.Conformance(t, func(*testing.T) sessionstest.ClockedStore { return sessionstest.NewMemory() })
}
