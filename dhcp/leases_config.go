package dhcp

import "maps"

// Configure sets the subnets, the classes that their pools are for, and the
// inventory. Leases stay. Packets are answered meanwhile, by what was configured
// before and then by the new: the leases are gone through in pieces, and for
// that time, a fraction of a second with a million of them, an address that has
// to be taken from an ended lease may not be found.
func (l *Leases) Configure(subnets []Subnet, classes []Class, machines Machines) {
	l.configuring.Lock()
	defer l.configuring.Unlock()
	spaces, reserved := map[uint32]*space{}, map[uint32]bool{}
	for i := range subnets {
		spaces[number(subnets[i].Prefix.Addr())] = newSpace(&subnets[i], classes)
	}
	for _, a := range machines.Reservations() {
		reserved[number(a)] = true
	}
	l.prepare(spaces)
	pieces(l, l.offered, func(a uint32, _ *offer) { mark(spaces, a, true) })
	pieces(l, l.book.byAddr, func(a uint32, _ ref) { mark(spaces, a, true) })
	l.settleIdle(l.replace(spaces, reserved))
	pieces(l, l.book.byAddr, func(_ uint32, i ref) { l.acquaintLocked(l.book.at(i), machines) })
}

// pieces calls do for each entry of a map of l, with the lock held but given
// back now and then. What comes meanwhile may be left out.
func pieces[T any](l *Leases, m map[uint32]T, do func(uint32, T)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for a, v := range m {
		do(a, v)
		if n++; n%pieceLen == 0 {
			l.mu.Unlock()
			l.mu.Lock()
		}
	}
}

// prepare makes the rows of new spaces, and lets addresses be taken and freed
// there too from now on.
func (l *Leases) prepare(spaces map[uint32]*space) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sp := range spaces {
		for _, p := range sp.pools {
			p.idle = [...]chain{l.book.newChain(), l.book.newChain()}
		}
	}
	l.coming = spaces
}

// replace puts new spaces in force, and returns the old ones.
func (l *Leases) replace(spaces map[uint32]*space, reserved map[uint32]bool) (old map[uint32]*space) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version++ // machines may be called something else
	for a := range reserved {
		mark(spaces, a, true)
	}
	old, l.spaces, l.reserved, l.coming = l.spaces, spaces, reserved, nil
	if !maps.EqualFunc(old, spaces, func(a, b *space) bool { return a.Prefix == b.Prefix }) {
		l.rekeyLocked()
	}
	return old
}

// rekeyLocked makes the leases of a network that is cut in another way than
// before leases of the subnets that have their addresses now: a machine keeps
// its address when a subnet grows, and what ended can be given to others. An
// offer in a subnet that is no more is withdrawn: who asks for its address gets
// it.
func (l *Leases) rekeyLocked() {
	for _, i := range l.book.byAddr {
		r := l.book.at(i)
		if subnet := l.subnetOf(r.addr, r.key.subnet); subnet != r.key.subnet {
			l.countDeclinedLocked(r, -1)
			r.key.subnet = subnet
			l.countDeclinedLocked(r, 1)
		}
	}
	l.book.index()
	for _, o := range l.offers {
		if l.subnetOf(o.addr, o.key.subnet) != o.key.subnet {
			l.withdrawLocked(o)
		}
	}
}

// subnetOf returns the network address of the subnet that has an address; was,
// where none has it.
func (l *Leases) subnetOf(a, was uint32) uint32 {
	addr := address(a)
	if sp := l.spaces[was]; sp != nil && sp.Prefix.Contains(addr) {
		return was
	}
	for subnet, sp := range l.spaces {
		if sp.Prefix.Contains(addr) {
			return subnet
		}
	}
	return was
}

// settleIdle moves the ended leases of old spaces to the new ones, in their
// order.
func (l *Leases) settleIdle(old map[uint32]*space) {
	for _, sp := range old {
		for _, p := range sp.pools {
			for i := range p.idle {
				for l.settlePiece(p.idle[i]) {
				}
			}
		}
	}
}

// settlePiece moves some of a row, and reports whether there is more of it; if
// not, the row is no more.
func (l *Leases) settlePiece(old chain) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range pieceLen {
		r := l.book.first(old)
		if r == nil {
			l.book.endChain(old)
			return false
		}
		l.book.unchain(r)
		l.idleLocked(r)
	}
	return true
}

// acquaintLocked notes whether the inventory knows the machine of a lease. One
// that stands in no row, and should, comes to stand in one.
func (l *Leases) acquaintLocked(r *record, machines Machines) {
	known := machines.Find(Client{MAC: r.key.mac()}).Name != ""
	waits := r.in == 0 || r.in == l.idleChainLocked(r)
	if r.known == known && r.in != 0 {
		return
	}
	if waits {
		l.book.unchain(r)
	}
	r.known = known
	if waits {
		l.idleLocked(r)
	}
}
