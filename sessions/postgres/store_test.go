package postgres_test

import (
	"testing"

	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

func TestScenarios(t *testing.T) {
	t.Parallel()
	sessionstest.Scenarios(t, func(t *testing.T) sessionstest.ClockedStore { return open(t) })
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sessionstest.Conformance(t, func(t *testing.T) sessionstest.ClockedStore { return open(t) })
}
