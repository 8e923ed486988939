package sessionstest

import (
	"fmt"
	"time"
)

// SetClock is the statement that sets the clock of a Postgres store, for all processes that use it,
// to the real time plus an offset.
func SetClock(offset time.Duration) string {
	return fmt.Sprintf(`CREATE OR REPLACE FUNCTION sessiongate.now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
		AS 'SELECT clock_timestamp() + interval ''%d microseconds'''`, offset.Microseconds())
}
