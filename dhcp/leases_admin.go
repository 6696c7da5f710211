package dhcp

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"
)

// pieceLen is how many leases are looked at under one hold of the lock, by
// those who want all of them: clients wait for no more than that.
const pieceLen = 512

// grantLen is the same for changes, which take longer.
const grantLen = 128

// Each returns the leases in the order of their addresses. It takes them in
// pieces, so it sees changes that are made meanwhile or does not; a lease that
// is there all the time is among them.
func (l *Leases) Each() iter.Seq[Lease] {
	return func(yield func(Lease) bool) {
		var piece []Lease
		for addrs := range slices.Chunk(l.addrs(), pieceLen) {
			piece = l.views(piece[:0], addrs)
			for _, lease := range piece {
				if !yield(lease) {
					return
				}
			}
		}
	}
}

// addrs returns the addresses of all leases, ascending. Between two steps of
// its loop over the map others may change it, which is defined: each address
// that stays comes once. One that goes and comes back may come twice.
func (l *Leases) addrs() []uint32 {
	list := make([]uint32, 0, l.Len())
	l.mu.Lock()
	for a := range l.book.byAddr {
		if list = append(list, a); len(list)%pieceLen == 0 {
			l.mu.Unlock()
			l.mu.Lock()
		}
	}
	l.mu.Unlock()
	slices.Sort(list)
	return slices.Compact(list)
}

// views appends the leases of addrs that are still there.
func (l *Leases) views(to []Lease, addrs []uint32) []Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range addrs {
		if r := l.book.ofAddr(a); r != nil {
			to = append(to, l.book.view(r))
		}
	}
	return to
}

// End ends the lease of an address, whoever has it: a machine's as if it had
// given it back, a declined one altogether. It reports whether there was one
// in force, and returns it as it was.
func (l *Leases) End(a netip.Addr, at time.Time) (was Lease, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(at.Unix())
	r := l.book.ofAddr(number(a))
	if r == nil {
		return Lease{}, false
	}
	if was = l.book.view(r); !was.Active(at) {
		return Lease{}, false
	}
	if r.state == Declined {
		l.dropLocked(r)
		return was, true
	}
	l.book.unchain(r)
	l.overLocked(r)
	r.state, r.expires = Released, at.Unix()
	l.ending.put(r)
	return was, true
}

// Forget takes all that is known of an address away: its lease, in force or
// not, and an offer of it. Whoever may have it next gets it at once. It reports
// whether there was a lease, and returns it as it was.
func (l *Leases) Forget(a netip.Addr, at time.Time) (was Lease, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(at.Unix())
	if o := l.offered[number(a)]; o != nil {
		l.withdrawLocked(o)
	}
	r := l.book.ofAddr(number(a))
	if r == nil {
		return Lease{}, false
	}
	was = l.book.view(r)
	l.dropLocked(r)
	return was, true
}

// An Outcome is what became of a lease that was granted.
type Outcome uint8

// The outcomes.
const (
	Kept    Outcome = iota // the machine has the address already, for longer
	Added                  // the address was not the machine's before
	Updated                // the machine had the address, until another time
)

// A grant is a lease that comes from no packet, and what became of it.
type grant struct {
	bid         // asked is the address
	lease Lease // MAC and ClientID are in the key; Expires may have passed
	exact bool  // the new end is in force even when it is sooner

	outcome Outcome
	err     error // why there is no such lease
}

// Grant takes in leases that come from no packet, each where allocation could
// have given it. On dry it only says what would become of them.
func (l *Leases) Grant(batch []grant, dry bool, at time.Time) (changed []uint32) {
	for piece := range slices.Chunk(batch, grantLen) {
		changed = l.grantPiece(changed, piece, dry, at.Unix())
	}
	return changed
}

func (l *Leases) grantPiece(changed []uint32, piece []grant, dry bool, now int64) []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(now)
	for i := range piece {
		g := &piece[i]
		if g.err != nil {
			continue
		}
		g.settle(now)
		if g.err = l.refusalLocked(g, now); g.err != nil {
			continue
		}
		g.outcome = l.outcomeLocked(g)
		if !dry && g.outcome != Kept {
			changed = l.grantLocked(g, changed, now)
		}
	}
	return changed
}

// settle makes what cannot have happened yet happen now.
func (g *grant) settle(now int64) {
	if g.lease.State == Released && g.lease.Expires.Unix() > now {
		g.lease.Expires = time.Unix(now, 0)
	}
	if g.lease.Start.IsZero() || g.lease.Start.Unix() > now {
		g.lease.Start = time.Unix(now, 0)
	}
}

// outcomeLocked says what a grant that is not refused would change.
func (l *Leases) outcomeLocked(g *grant) Outcome {
	r := l.book.ofAddr(number(g.asked))
	switch {
	case r == nil || r.key != g.key:
		return Added
	case !g.exact && r.expires >= g.lease.Expires.Unix(), r.expires == g.lease.Expires.Unix() && r.state == g.lease.State:
		return Kept
	}
	return Updated
}

// refusalLocked says why allocation would not have given this lease: because
// of what is configured, of who has the address, or of what the machine has.
func (l *Leases) refusalLocked(g *grant, now int64) error {
	switch {
	case g.subnet.Proxy:
		return fmt.Errorf("another server leases the addresses of subnet %v", g.subnet.Prefix)
	case g.lease.State == Bound && g.stranger() && g.subnet.Unknown == IgnoreUnknown:
		return fmt.Errorf("subnet %v is for machines of the inventory only", g.subnet.Prefix)
	case !l.allowedLocked(g.bid, number(g.asked)):
		return l.forbiddenLocked(g)
	case g.lease.State == Bound && l.mustMoveLocked(g.bid, now):
		return fmt.Errorf("the address reserved for its machine is %v", g.reserved)
	}
	if err := l.takenLocked(g, now); err != nil {
		return err
	}
	if own := l.book.ofClient(g.key); own != nil && own.addr != number(g.asked) && g.key.id != 0 {
		if own := l.book.view(own); own.Active(time.Unix(now, 0)) {
			return fmt.Errorf("its machine has %v until %s", own.Addr, utc(own.Expires))
		} else if !g.lease.Active(time.Unix(now, 0)) {
			return fmt.Errorf("its machine had %v last", own.Addr)
		}
	}
	return nil
}

// forbiddenLocked says why configuration does not let g's machine have the
// address.
func (l *Leases) forbiddenLocked(g *grant) error {
	switch {
	case l.reserved[number(g.asked)]:
		return fmt.Errorf("reserved for another machine")
	case within(g.subnet.Exclude, g.asked):
		return fmt.Errorf("excluded in subnet %v", g.subnet.Prefix)
	}
	for _, p := range g.subnet.Pools {
		if p.Contains(g.asked) {
			return fmt.Errorf("in a pool of subnet %v that is not for its machine", g.subnet.Prefix)
		}
	}
	return fmt.Errorf("in no pool of subnet %v", g.subnet.Prefix)
}

// takenLocked says who else has the address, or had it a moment ago.
func (l *Leases) takenLocked(g *grant, now int64) error {
	a := number(g.asked)
	if o := l.offered[a]; o != nil && o.key != g.key {
		return fmt.Errorf("being offered to %s", o.key)
	}
	r := l.book.ofAddr(a)
	if r == nil || r.key == g.key {
		return nil
	}
	lease := l.book.view(r)
	switch {
	case lease.State == Declined && lease.Active(time.Unix(now, 0)):
		return fmt.Errorf("declined, because another host uses it, until %s", utc(lease.Expires))
	case lease.Active(time.Unix(now, 0)):
		return fmt.Errorf("leased to %s until %s", r.key, utc(lease.Expires))
	case !reusable(r, now):
		return fmt.Errorf("leased to %s until a moment ago: free at %s", r.key, utc(lease.Expires.Add(reuseGrace)))
	case !g.lease.Active(time.Unix(now, 0)):
		return fmt.Errorf("leased to %s last", r.key)
	}
	return nil
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// String names the client of k.
func (k key) String() string {
	if mac := k.mac(); !mac.IsZero() {
		return mac.String()
	}
	if k.id == 0 {
		return "nobody"
	}
	return fmt.Sprintf("client %014x", uint64(k.id&^idDigest))
}

// grantLocked records a lease that is not refused.
func (l *Leases) grantLocked(g *grant, changed []uint32, now int64) []uint32 {
	a := number(g.asked)
	if o := l.offers[g.key]; o != nil {
		l.withdrawLocked(o)
	}
	if g.key.id == 0 {
		l.quarantineLocked(g)
		return append(changed, a)
	}
	changed = l.bindLocked(claim{bid: g.bid, clientID: []byte(g.lease.ClientID), hostname: []byte(g.lease.Hostname)}, changed, now)
	r := l.book.ofAddr(a)
	l.book.unchain(r)
	r.state, r.start, r.expires = g.lease.State, g.lease.Start.Unix(), g.lease.Expires.Unix()
	l.ending.put(r)
	if !g.exact && g.lease.Active(time.Unix(now, 0)) {
		r.told = true // an import is no news: it would be too many at once
	}
	return changed
}

// quarantineLocked records an address that a stranger uses.
func (l *Leases) quarantineLocked(g *grant) {
	a := number(g.asked)
	if old := l.book.ofAddr(a); old != nil {
		l.dropLocked(old)
	}
	bad := record{addr: a, key: g.key, state: Declined, start: g.lease.Start.Unix(), expires: g.lease.Expires.Unix()}
	l.version++
	l.restLocked(bad)
}
