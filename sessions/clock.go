package sessions

import (
	"sync/atomic"
	"time"
)

// clock is the store's clock as the polls report it, carried forward by this machine's monotonic
// clock. So every replica judges expiry in the same way, even one whose own clock is wrong or is
// set while it runs.
type clock struct {
	local   func() time.Time
	reading atomic.Pointer[clockReading]
}

// clockReading is what the store's clock showed at a moment of the local clock, and the latest time
// that it had shown until then.
type clockReading struct{ store, local, latest time.Time }

func (c *clock) set(store, local time.Time) {
	latest := store
	if r := c.reading.Load(); r != nil {
		latest = later(latest, later(r.latest, r.at(local)))
	}
	c.reading.Store(&clockReading{store, local, latest})
}

// at is the store's time at a moment of the local clock.
func (r *clockReading) at(local time.Time) time.Time { return r.store.Add(local.Sub(r.local)) }

// now is the store's time. Call it only after the first reading.
func (c *clock) now() time.Time { return c.reading.Load().at(c.local()) }

// latest is the latest time that the store's clock has shown. It is later than now if the clock was
// set back.
func (c *clock) latest() time.Time {
	r := c.reading.Load()
	return later(r.latest, r.at(c.local()))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// age is the time since the last successful poll began.
func (c *clock) age() time.Duration {
	r := c.reading.Load()
	if r == nil {
		return 1<<63 - 1
	}
	return c.local().Sub(r.local)
}
