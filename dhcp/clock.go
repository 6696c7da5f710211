package dhcp

import "time"

// A clock tells the time of leases. It runs with the monotonic clock from the
// moment it was made, so that a step of the system's clock neither ends all
// leases at once nor makes them last for ever. It never begins before the
// newest lease it is told of: a host without a battery-backed clock starts in
// the past, and would give away addresses that are in use.
type clock struct{ wall, made time.Time }

func newClock(newest time.Time) clock {
	now := time.Now()
	c := clock{wall: now.Round(0), made: now}
	if newest.After(now) {
		c.wall = newest
	}
	return c
}

func (c clock) now() time.Time { return c.wall.Add(time.Since(c.made)) }
