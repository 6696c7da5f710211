package dhcp

import "time"

// A Turn is what befell a machine's lease, for programs that follow leases.
type Turn struct {
	What  What
	Lease Lease // as it is, or last was
}

// What befell a lease.
type What uint8

// The turns of a lease. A renewal is none.
const (
	Began   What = iota // the machine has the address, and that is on disk
	Renamed             // it calls itself something else than before
	Over                // it no longer has the address: ended, given back, declined, replaced
)

// maxTurns is how many turns wait for those who follow. More are only counted.
const maxTurns = 4096

// Follow makes l keep turns until Turns fetches them: all of them, or only the
// ends of leases of known machines. It is called before the server runs, once,
// or turns are lost.
func (l *Leases) Follow(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followed, l.followAll = true, all
}

// Turns returns what befell leases since it was last called, in order, and how
// many turns there was no room for.
func (l *Leases) Turns(at time.Time) (turns []Turn, lost int) {
	l.expire(at.Unix())
	l.mu.Lock()
	defer l.mu.Unlock()
	turns, lost = l.turns, l.lost
	l.turns, l.lost = nil, 0
	return turns, lost
}

// Version returns a number that changes with every lease that begins, ends, or
// is extended.
func (l *Leases) Version(at time.Time) uint64 {
	l.expire(at.Unix())
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version
}

// overLocked notes that a machine no longer has an address. Those who were not
// told that it had are not told.
func (l *Leases) overLocked(r *record) {
	l.version++
	if r.told {
		r.told = false
		l.turnLocked(Over, r)
	}
}

func (l *Leases) turnLocked(what What, r *record) {
	switch {
	case !l.followed, !l.followAll && (what != Over || !r.known):
	case len(l.turns) >= maxTurns:
		l.lost++
	default:
		l.turns = append(l.turns, Turn{what, l.book.view(r)})
	}
}

// committed notes the leases that began, now that they are on disk.
func (l *Leases) committed(written []uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.followed {
		return
	}
	for _, a := range written {
		r := l.book.ofAddr(a)
		if r == nil || r.state != Bound {
			continue
		}
		switch {
		case !r.told:
			l.turnLocked(Began, r)
		case r.renamed:
			l.turnLocked(Renamed, r)
		}
		r.told, r.renamed = true, false
	}
}
