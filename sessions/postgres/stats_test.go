package postgres_test

import "testing"

// Beyond what is counted, Postgres estimates. The estimate is never less than what was counted, also where Postgres
// knows nothing yet.
func TestCountSessionsEstimates(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.SetCountExactly(2)
	for range 5 {
		create(t, c.Store, "alice")
	}
	if n, err := c.CountSessions(t.Context()); n < 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	c.exec(`ANALYZE sessiongate.active_sessions`)
	if n, err := c.CountSessions(t.Context()); n != 5 || err != nil {
		t.Errorf("after ANALYZE: %d, %v", n, err)
	}
	c.SetCountExactly(5)
	if n, err := c.CountSessions(t.Context()); n != 5 || err != nil {
		t.Errorf("exactly: %d, %v", n, err)
	}
}
