package dhcp

import (
	"cmp"
	"container/heap"
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bootd/internal/store"
)

// Times of address handling (protocol.md 1.7).
const (
	offerHold   = 2 * time.Minute  // OVMF alone may take 32 s to answer an offer
	reuseGrace  = 30 * time.Second // after the end of a lease, before somebody else gets the address
	declineHold = time.Hour
)

// Leases is the memory of who holds which address. It does no I/O: methods
// that change a lease return the changes to store, and time is an argument.
// Its methods are safe for concurrent use.
type Leases struct {
	mu       sync.Mutex
	spaces   map[netip.Prefix]*space
	reserved map[netip.Addr]bool
	byKey    map[Key]*Lease
	byAddr   map[netip.Addr]*Lease
	offers   map[Key]*offer
	offered  map[netip.Addr]*offer
	holds    *list.List // of *offer, the first to expire first
	ending   endHeap    // leases that will expire, soonest first
}

// A space is the addresses of one subnet.
type space struct {
	*Subnet
	pools []*pool
	idle  *list.List // leases that ended, oldest first: the next addresses to reuse
}

// idleMark is where an ended lease stands in its space's idle list.
type idleMark struct {
	space *space
	el    *list.Element
}

// An offer is a promise of an address in memory.
type offer struct {
	key     Key
	addr    netip.Addr
	xid     [4]byte
	boot    Boot // so that offer and ACK say the same, whatever was configured in between
	expires time.Time
	el      *list.Element // in Leases.holds
}

// NewLeases returns an empty memory that knows no subnet.
func NewLeases() *Leases {
	return &Leases{
		byKey: map[Key]*Lease{}, byAddr: map[netip.Addr]*Lease{},
		offers: map[Key]*offer{}, offered: map[netip.Addr]*offer{}, holds: list.New(),
	}
}

// Load takes in the stored leases. It is called before Configure, once.
func (l *Leases) Load(table interface {
	Scan(func(key, value []byte) error) error
}) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return table.Scan(func(key, value []byte) error {
		lease, err := decodeLease(key, value)
		if err != nil {
			return err
		}
		l.byAddr[lease.Addr] = lease
		l.adoptLocked(lease)
		return nil
	})
}

// adoptLocked gives a loaded lease to its client. A client with two records (a
// crash between an ACK and the next) keeps the newer one.
func (l *Leases) adoptLocked(lease *Lease) {
	if lease.Key.ID == "" {
		return
	}
	if old := l.byKey[lease.Key]; old == nil || old.Expires.Before(lease.Expires) {
		l.byKey[lease.Key] = lease
	}
}

// Configure sets the subnets and the addresses reserved in them. Leases stay.
func (l *Leases) Configure(subnets []Subnet, reserved []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spaces, l.reserved, l.ending = map[netip.Prefix]*space{}, map[netip.Addr]bool{}, nil
	for i := range subnets {
		l.spaces[subnets[i].Prefix] = newSpace(&subnets[i])
	}
	for _, a := range reserved {
		l.reserved[a] = true
		l.markLocked(a, true)
	}
	for a := range l.offered {
		l.markLocked(a, true)
	}
	for _, lease := range slices.SortedFunc(mapValues(l.byAddr), byExpiry) {
		l.markLocked(lease.Addr, true)
		l.fileLocked(lease)
	}
}

func mapValues[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func byExpiry(a, b *Lease) int {
	return cmp.Or(a.Expires.Compare(b.Expires), a.Addr.Compare(b.Addr))
}

func newSpace(s *Subnet) *space {
	sp := &space{Subnet: s, idle: list.New()}
	for _, r := range s.Pools {
		p := newPool(r)
		for _, x := range s.Exclude {
			for a := x.First; x.Contains(a) && a.IsValid(); a = a.Next() {
				p.mark(a, true)
			}
		}
		sp.pools = append(sp.pools, p)
	}
	return sp
}

// markLocked takes or frees an address in whatever pool it is of.
func (l *Leases) markLocked(a netip.Addr, taken bool) {
	for _, sp := range l.spaces {
		for _, p := range sp.pools {
			p.mark(a, taken)
		}
	}
}

// fileLocked puts a lease where its end will be noticed, or among the idle
// ones if it has ended.
func (l *Leases) fileLocked(lease *Lease) {
	l.unfileLocked(lease)
	if lease.State != Released {
		heap.Push(&l.ending, lease)
		return
	}
	l.idleLocked(lease)
}

func (l *Leases) unfileLocked(lease *Lease) {
	if i := lease.heapIndex; i >= 0 && i < len(l.ending) && l.ending[i] == lease {
		heap.Remove(&l.ending, i)
	}
	if lease.idle.el != nil {
		lease.idle.space.idle.Remove(lease.idle.el)
		lease.idle = idleMark{}
	}
}

// idleLocked makes an ended lease's address the last in the row for reuse.
func (l *Leases) idleLocked(lease *Lease) {
	if sp := l.spaces[lease.Key.Subnet]; sp != nil {
		lease.idle = idleMark{sp, sp.idle.PushBack(lease)}
	}
}

// expireLocked notes the leases and offers that have ended by now. Its cost is
// that of what ended, whatever the number of leases.
func (l *Leases) expireLocked(now time.Time) {
	for len(l.ending) > 0 && !now.Before(l.ending[0].Expires) {
		lease := heap.Pop(&l.ending).(*Lease)
		if lease.State == Declined {
			l.dropLocked(lease) // its record stays on disk until the address is leased: it has expired
			continue
		}
		l.idleLocked(lease)
	}
	for el := l.holds.Front(); el != nil; el = l.holds.Front() {
		o := el.Value.(*offer)
		if now.Before(o.expires) {
			return
		}
		l.withdrawLocked(o)
	}
}

// dropLocked forgets a lease and frees its address.
func (l *Leases) dropLocked(lease *Lease) {
	l.unfileLocked(lease)
	if l.byKey[lease.Key] == lease {
		delete(l.byKey, lease.Key)
	}
	delete(l.byAddr, lease.Addr)
	l.freeLocked(lease.Addr)
}

// freeLocked makes an address available unless something still holds it.
func (l *Leases) freeLocked(a netip.Addr) {
	if !l.reserved[a] && l.byAddr[a] == nil && l.offered[a] == nil {
		l.markLocked(a, false)
	}
}

func (l *Leases) withdrawLocked(o *offer) {
	delete(l.offers, o.key)
	delete(l.offered, o.addr)
	l.holds.Remove(o.el)
	l.freeLocked(o.addr)
}

// A bid is a client's wish for an address in a subnet.
type bid struct {
	subnet   *Subnet
	key      Key
	reserved netip.Addr // address reserved for the client's node; zero: none
	asked    netip.Addr // address it would like; zero: any
	xid      [4]byte
}

// Offer chooses an address for b and holds it. It reports whether there is one.
// boot is what the client is told to load, kept for its ACK.
func (l *Leases) Offer(b bid, boot Boot, now time.Time) (netip.Addr, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(now)
	addr, ok := l.chooseLocked(b, now)
	if !ok {
		return netip.Addr{}, false
	}
	if old := l.offers[b.key]; old != nil {
		l.withdrawLocked(old)
	}
	o := &offer{key: b.key, addr: addr, xid: b.xid, boot: boot, expires: now.Add(offerHold)}
	l.offers[b.key], l.offered[addr] = o, o
	o.el = l.holds.PushBack(o)
	l.markLocked(addr, true)
	return addr, true
}

// chooseLocked follows RFC 2131, section 4.3.1: reservation, current or
// previous address, the one already offered, the one asked for, a new one.
func (l *Leases) chooseLocked(b bid, now time.Time) (netip.Addr, bool) {
	var own, before netip.Addr
	if lease := l.byKey[b.key]; lease != nil {
		own = lease.Addr
	}
	if o := l.offers[b.key]; o != nil {
		before = o.addr
	}
	for _, a := range []netip.Addr{b.reserved, own, before, b.asked} {
		if a.IsValid() && l.allowedLocked(b, a) && l.availableLocked(b.key, a, now) {
			return a, true
		}
	}
	return l.newLocked(b, now)
}

// allowedLocked reports whether policy lets this client have a.
func (l *Leases) allowedLocked(b bid, a netip.Addr) bool {
	if a == b.reserved {
		return b.subnet.Prefix.Contains(a)
	}
	return b.subnet.pooled(a) && !l.reserved[a]
}

// availableLocked reports whether nobody but the client itself holds a.
func (l *Leases) availableLocked(k Key, a netip.Addr, now time.Time) bool {
	if o := l.offered[a]; o != nil && o.key != k {
		return false
	}
	lease := l.byAddr[a]
	return lease == nil || lease.Key == k || !now.Before(lease.Expires.Add(reuseGrace))
}

// newLocked finds an address that was never leased, or else the one whose
// lease ended first.
func (l *Leases) newLocked(b bid, now time.Time) (netip.Addr, bool) {
	sp := l.spaces[b.subnet.Prefix]
	if sp == nil {
		return netip.Addr{}, false
	}
	h := hash(b.key)
	for _, p := range sp.pools {
		if a, ok := p.free(h); ok {
			return a, true
		}
	}
	for el := sp.idle.Front(); el != nil; el = el.Next() {
		lease := el.Value.(*Lease)
		if now.Before(lease.Expires.Add(reuseGrace)) {
			break // the rest ended later still
		}
		if l.allowedLocked(b, lease.Addr) && l.availableLocked(b.key, lease.Addr, now) {
			return lease.Addr, true
		}
	}
	return netip.Addr{}, false
}

// A verdict is the answer to a REQUEST.
type verdict uint8

const (
	silence verdict = iota
	ack
	nak
)

// A claim is a REQUEST for one address.
type claim struct {
	bid             // asked is the address claimed
	lease     Lease // what to record: ClientID and Hostname
	dur       time.Duration
	selecting bool // answers our offer (RFC 2131, section 4.3.2)
	boot      Boot // used when there was no offer
}

// Claim settles a REQUEST. On ack it returns the lease as bound, what to load,
// and the changes that must be on disk before the ACK is sent.
func (l *Leases) Claim(c claim, now time.Time) (v verdict, boot Boot, changes []store.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(now)
	if v = l.judgeLocked(c, now); v != ack {
		return v, Boot{}, nil
	}
	boot = c.boot
	if o := l.offers[c.key]; o != nil {
		if o.xid == c.xid {
			boot = o.boot
		}
		l.withdrawLocked(o)
	}
	return ack, boot, l.bindLocked(c, now)
}

// judgeLocked is the decision table of RFC 2131, section 4.3.2.
func (l *Leases) judgeLocked(c claim, now time.Time) verdict {
	no := nak
	if !c.subnet.Authoritative && !c.selecting {
		no = silence // RFC 2131, section 4.3.2: MUST remain silent about clients it does not know
	}
	own, offer := l.byKey[c.key], l.offers[c.key]
	switch {
	case !l.allowedLocked(c.bid, c.asked), !l.availableLocked(c.key, c.asked, now):
		return no
	case c.selecting && offer != nil && offer.addr == c.asked:
		return ack
	case c.selecting && offer != nil && (own == nil || own.Addr != c.asked):
		return nak // asks us for something else than we offered
	case l.mustMoveLocked(c.bid, now):
		return no
	case own != nil && own.Addr == c.asked:
		return ack
	case own != nil && !c.selecting:
		return no // another address than we know it by
	case c.subnet.Authoritative || c.selecting:
		return ack // we forgot it (lost store, or restart after the offer): take it over
	}
	return silence
}

// mustMoveLocked reports whether the client has a reservation it could have
// and asks for another address.
func (l *Leases) mustMoveLocked(b bid, now time.Time) bool {
	return b.reserved.IsValid() && b.reserved != b.asked &&
		b.subnet.Prefix.Contains(b.reserved) && l.availableLocked(b.key, b.reserved, now)
}

// bindLocked records the lease of c. The record of the address replaces
// whoever had it before; the client's former address is free at once.
func (l *Leases) bindLocked(c claim, now time.Time) (changes []store.Change) {
	lease := l.byKey[c.key]
	if lease != nil && lease.Addr != c.asked {
		changes = append(changes, remove(lease.Addr))
		l.dropLocked(lease)
		lease = nil
	}
	if other := l.byAddr[c.asked]; other != nil && other != lease {
		l.dropLocked(other)
	}
	if lease == nil {
		lease = &Lease{Addr: c.asked, Key: c.key, Start: now, heapIndex: -1}
		l.byKey[c.key], l.byAddr[c.asked] = lease, lease
	}
	l.unfileLocked(lease)
	lease.State, lease.Expires = Bound, now.Add(c.dur)
	lease.ClientID, lease.Hostname = c.lease.ClientID, c.lease.Hostname
	l.fileLocked(lease)
	l.markLocked(c.asked, true)
	return append(changes, lease.put())
}

// Withdraw drops the offer to a client that chose another server.
func (l *Leases) Withdraw(k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.offers[k]; o != nil {
		l.withdrawLocked(o)
	}
}

// Release ends the client's lease of addr. It reports whether there was one.
func (l *Leases) Release(k Key, addr netip.Addr, now time.Time) ([]store.Change, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lease := l.byKey[k]
	if lease == nil || lease.Addr != addr || lease.State != Bound {
		return nil, false
	}
	l.unfileLocked(lease)
	lease.State, lease.Expires = Released, now
	l.fileLocked(lease)
	return []store.Change{lease.put()}, true
}

// Decline quarantines an address that its client found in use. It reports
// whether addr was the client's to decline: others would use it to empty the
// pool.
func (l *Leases) Decline(k Key, addr netip.Addr, now time.Time) ([]store.Change, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(now)
	o, lease := l.offers[k], l.byKey[k]
	mine := o != nil && o.addr == addr || lease != nil && lease.Addr == addr
	if !mine {
		return nil, false
	}
	if o != nil {
		l.withdrawLocked(o)
	}
	if old := l.byAddr[addr]; old != nil {
		l.dropLocked(old)
	}
	bad := &Lease{Addr: addr, Key: Key{Subnet: k.Subnet}, State: Declined, Start: now, Expires: now.Add(declineHold), heapIndex: -1}
	l.byAddr[addr] = bad
	l.fileLocked(bad)
	l.markLocked(addr, true)
	return []store.Change{bad.put()}, true
}

// ByAddr returns the lease of an address, whether or not it has ended.
func (l *Leases) ByAddr(a netip.Addr) (Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease := l.byAddr[a]; lease != nil {
		return *lease, true
	}
	return Lease{}, false
}

// All returns a copy of every lease, by address.
func (l *Leases) All() []Lease {
	l.mu.Lock()
	all := make([]Lease, 0, len(l.byAddr))
	for _, lease := range l.byAddr {
		all = append(all, *lease)
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return all
}

// endHeap orders leases by their end (container/heap).
type endHeap []*Lease

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, j int) bool { return h[i].Expires.Before(h[j].Expires) }
func (h endHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}
func (h *endHeap) Push(x any) {
	lease := x.(*Lease)
	lease.heapIndex = len(*h)
	*h = append(*h, lease)
}
func (h *endHeap) Pop() any {
	old := *h
	lease := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	lease.heapIndex = -1
	return lease
}
