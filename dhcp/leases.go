package dhcp

import (
	"encoding/binary"
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
// that change a lease return the addresses whose records must be written, for
// Records, and time is an argument. Its methods are safe for concurrent use.
//
// Addresses are numbers in here; zero is no address.
type Leases struct {
	configuring sync.Mutex // held by Configure, which gives mu back now and then

	mu       sync.Mutex
	spaces   map[uint32]*space // by network address
	coming   map[uint32]*space // that Configure is making: addresses are taken and freed there too
	reserved map[uint32]bool
	declined map[uint32]int // addresses in quarantine, by network address
	strange  map[uint32]int // open offers to strangers, likewise
	book     book
	offers   map[key]*offer
	offered  map[uint32]*offer
	holds    queue // the first to expire first
	ending   wheel // leases that have not ended, or not been noticed to

	version   uint64 // see Version
	followed  bool   // somebody fetches turns
	followAll bool   // and not only those of known machines that end
	turns     []Turn
	lost      int // turns that had no room
}

// A space is the addresses of one subnet.
type space struct {
	*Subnet
	pools []*pool
	most  int // offers to strangers that are open at one time
}

// An offer is a promise of an address in memory.
type offer struct {
	key     key
	addr    uint32
	xid     [4]byte
	boot    Boot // so that offer and ACK say the same, whatever was configured in between
	made    int64
	expires int64
	strange bool // to a stranger

	prev, next *offer // in Leases.holds
}

// NewLeases returns an empty memory that knows no subnet.
func NewLeases() *Leases {
	l := &Leases{
		declined: map[uint32]int{}, strange: map[uint32]int{}, book: newBook(),
		offers: map[key]*offer{}, offered: map[uint32]*offer{},
	}
	l.ending = newWheel(&l.book)
	return l
}

// Load takes in the stored leases. It is called before Configure, once.
func (l *Leases) Load(journal interface {
	Replay(func(store.Change) error) error
}) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return journal.Replay(func(c store.Change) error {
		addr, err := decodeKey(c.Key)
		if err != nil {
			return err
		}
		if old := l.book.ofAddr(addr); old != nil {
			l.forgetLocked(old)
		}
		if c.Value == nil {
			return nil
		}
		r, s, err := decodeRecord(addr, c.Value)
		if err != nil {
			return err
		}
		r.told = r.state == Bound
		l.enterLocked(r, s) // a client's last lease is the one it has
		return nil
	})
}

// enterLocked takes in the record of an address that has none.
func (l *Leases) enterLocked(r record, s said) {
	in := l.book.add(r, s)
	l.countDeclinedLocked(in, 1)
	l.ending.put(in)
}

// forgetLocked is the opposite.
func (l *Leases) forgetLocked(r *record) {
	l.countDeclinedLocked(r, -1)
	l.book.drop(r)
}

// strangersShare is the part of a subnet's addresses that may be offered to
// strangers and not taken at one time: offers cost a hostile host nothing.
const strangersShare = 4 // a quarter

func newSpace(s *Subnet, classes []Class) *space {
	sp := &space{Subnet: s, most: 16}
	for _, r := range s.Pools {
		p := newPool(r.Range)
		p.class = classBit(classes, r.Class)
		for _, x := range s.Exclude {
			for a := max(number(x.First), p.first); a <= min(number(x.Last), p.first+p.size-1); a++ {
				p.mark(a, true)
			}
		}
		sp.pools = append(sp.pools, p)
		sp.most += int(p.size / strangersShare)
	}
	return sp
}

// markLocked takes or frees an address in whatever pool it is of.
func (l *Leases) markLocked(a uint32, taken bool) {
	mark(l.spaces, a, taken)
	mark(l.coming, a, taken)
}

func mark(spaces map[uint32]*space, a uint32, taken bool) {
	for _, sp := range spaces {
		if !taken && within(sp.Exclude, address(a)) {
			continue
		}
		for _, p := range sp.pools {
			p.mark(a, taken)
		}
	}
}

// idleChainLocked returns the row for reuse that an ended lease stands in, or
// zero: of addresses in no pool there is none. Whoever stands in one can be
// given to anybody that its pool is for: while its address is offered it is out.
func (l *Leases) idleChainLocked(r *record) chain {
	sp := l.spaces[r.key.subnet]
	if sp == nil || l.reserved[r.addr] || within(sp.Exclude, address(r.addr)) {
		return 0
	}
	for _, p := range sp.pools {
		switch {
		case !p.contains(r.addr):
		case r.known:
			return p.idle[1]
		default:
			return p.idle[0]
		}
	}
	return 0
}

// idleLocked makes an ended lease's address the last in the row for reuse.
func (l *Leases) idleLocked(r *record) {
	if c := l.idleChainLocked(r); c != 0 && l.offered[r.addr] == nil {
		l.book.push(c, r)
	}
}

// idleAgainLocked puts an ended lease whose address was offered, in vain, back
// into its row: where it was, or almost.
func (l *Leases) idleAgainLocked(r *record) {
	c := l.idleChainLocked(r)
	if c == 0 {
		return
	}
	if first := l.book.first(c); first == nil || r.expires <= first.expires {
		l.book.pushFront(c, r)
	} else {
		l.book.push(c, r)
	}
}

// expireMost is how many leases, and offers, are noticed to have ended at once:
// when thousands end in one moment, no packet waits for all of them.
const expireMost = 256

// expireLocked notes leases and offers that have ended by now, and reports
// whether there are more. To be late with it does no harm: that a lease has
// ended is in the lease.
func (l *Leases) expireLocked(now int64) (more bool) {
	more = l.ending.take(now, expireMost, func(r *record) {
		if r.state == Declined {
			l.dropLocked(r) // its record stays on disk until the address is leased: it has expired
			return
		}
		l.overLocked(r)
		l.idleLocked(r)
	})
	for range expireMost {
		o := l.holds.first
		if o == nil || now < o.expires {
			return more
		}
		l.withdrawLocked(o)
	}
	return true
}

// expire notes all that has ended, in pieces.
func (l *Leases) expire(now int64) {
	for more := true; more; {
		l.mu.Lock()
		more = l.expireLocked(now)
		l.mu.Unlock()
	}
}

// dropLocked forgets a lease and frees its address.
func (l *Leases) dropLocked(r *record) {
	l.overLocked(r)
	a := r.addr
	l.forgetLocked(r)
	l.freeLocked(a)
}

// freeLocked makes an address available unless something still holds it.
func (l *Leases) freeLocked(a uint32) {
	switch {
	case l.book.byAddr[a] != 0 || l.offered[a] != nil:
	case l.reserved[a]:
		mark(l.coming, a, false) // where it may be reserved no more
	default:
		l.markLocked(a, false)
	}
}

func (l *Leases) withdrawLocked(o *offer) {
	delete(l.offers, o.key)
	delete(l.offered, o.addr)
	if o.strange {
		l.strange[o.key.subnet]--
	}
	if r := l.book.ofAddr(o.addr); r != nil && r.in == 0 {
		l.idleAgainLocked(r)
	}
	l.freeLocked(o.addr)
	l.holds.drop(o)
}

// A bid is a client's wish for an address in a subnet.
type bid struct {
	subnet   *Subnet
	key      key
	reserved netip.Addr // address reserved for the client's node; zero: none
	asked    netip.Addr // address it would like; zero: any
	classes  classSet
	xid      [4]byte
}

// stranger reports whether the inventory does not know the client.
func (b *bid) stranger() bool { return b.classes&bitUnknown != 0 }

// Offer chooses an address for b and holds it. It reports whether there is one,
// and whether it is fresh: one that this client did not have, and was not
// offered, before. boot is what the client is told to load, kept for its ACK.
//
// When as many offers to strangers are open as may be, one more is made and not
// held: offers cost a hostile host nothing, and its thousands a second must not
// keep others from an address. Whoever asks for it first gets it.
func (l *Leases) Offer(b bid, boot Boot, at time.Time) (addr netip.Addr, fresh, ok bool) {
	now := at.Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(now)
	a, ok := l.chooseLocked(b, now)
	if !ok {
		return netip.Addr{}, false, false
	}
	r, o := l.book.ofClient(b.key), l.offers[b.key]
	fresh = !(r != nil && r.addr == a || o != nil && o.addr == a)
	if o != nil || !b.stranger() || l.roomLocked(b.key.subnet, now) {
		l.holdLocked(b, a, boot, now)
	}
	return address(a), fresh, true
}

// holdLocked makes the client's offer one of a, whatever it was before.
func (l *Leases) holdLocked(b bid, a uint32, boot Boot, now int64) {
	o := l.offers[b.key]
	if o != nil && o.addr != a {
		l.withdrawLocked(o)
		o = nil
	}
	if o == nil {
		o = l.holds.add()
		o.key, o.addr, o.made = b.key, a, now
		l.offers[b.key], l.offered[a] = o, o
		l.markLocked(a, true)
		if o.strange = b.stranger(); o.strange {
			l.strange[b.key.subnet]++
		}
		if r := l.book.ofAddr(a); r != nil && r.in != 0 && r.in == l.idleChainLocked(r) {
			l.book.unchain(r)
		}
	}
	o.xid, o.boot, o.expires = b.xid, boot, now+int64(offerHold/time.Second)
	l.holds.toEnd(o)
}

// chooseLocked follows RFC 2131, section 4.3.1: reservation, current or
// previous address, the one already offered, the one asked for, a new one.
func (l *Leases) chooseLocked(b bid, now int64) (uint32, bool) {
	var own, before uint32
	if r := l.book.ofClient(b.key); r != nil {
		own = r.addr
	}
	if o := l.offers[b.key]; o != nil {
		before = o.addr
	}
	for _, a := range [...]uint32{number(b.reserved), own, before, number(b.asked)} {
		if a != 0 && l.allowedLocked(b, a) && l.availableLocked(b, a, now) {
			return a, true
		}
	}
	return l.newLocked(b, now)
}

// allowedLocked reports whether policy lets this client have a.
func (l *Leases) allowedLocked(b bid, a uint32) bool {
	addr := address(a)
	if addr == b.reserved {
		return b.subnet.Prefix.Contains(addr)
	}
	sp := l.spaces[b.key.subnet]
	if sp == nil || l.reserved[a] || within(b.subnet.Exclude, addr) {
		return false
	}
	for _, p := range sp.pools {
		if p.contains(a) {
			return b.mayUse(p)
		}
	}
	return false
}

// mayUse reports whether the client may have addresses of p.
func (b *bid) mayUse(p *pool) bool {
	switch {
	case p.class&b.classes != 0:
		return true
	case b.stranger() && b.subnet.Unknown == QuarantineUnknown:
		return false
	}
	return p.class == 0
}

func within(ranges []Range, a netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

// availableLocked reports whether nobody but the client itself holds a. A node
// with several NICs has one address: the one that the firmware booted from
// gives it up to the one that the system, or its bond, uses then.
func (l *Leases) availableLocked(b bid, a uint32, now int64) bool {
	if o := l.offered[a]; o != nil && o.key != b.key {
		return false
	}
	r := l.book.ofAddr(a)
	return r == nil || r.key == b.key || reusable(r, now) || r.booting && address(a) == b.reserved
}

// reusable reports whether somebody else may have the address of r.
func reusable(r *record, now int64) bool { return now >= r.expires+int64(reuseGrace/time.Second) }

// newLocked finds an address that was never leased, first in the pools of the
// client's classes, or else the one whose lease ended first. A stranger does
// not get an address that a known machine had.
func (l *Leases) newLocked(b bid, now int64) (uint32, bool) {
	sp := l.spaces[b.key.subnet]
	if sp == nil {
		return 0, false
	}
	if a, ok := sp.unused(b); ok {
		return a, true
	}
	if a, ok := l.reuseLocked(sp, b, 0, now); ok || b.stranger() {
		return a, ok
	}
	return l.reuseLocked(sp, b, 1, now)
}

// roomLocked reports whether one more offer to a stranger may be held. When
// there are too many, the oldest gives way, unless it is so young that its
// client may still be about to take it.
func (l *Leases) roomLocked(subnet uint32, now int64) bool {
	if sp := l.spaces[subnet]; sp != nil && l.strange[subnet] < sp.most {
		return true
	}
	for o, tries := l.holds.first, 0; o != nil && tries < 16; o, tries = o.next, tries+1 {
		if now-o.made < int64(youngOffer/time.Second) {
			return false
		}
		if o.strange && o.key.subnet == subnet {
			l.withdrawLocked(o)
			return true
		}
	}
	return false
}

// youngOffer is how long firmware may take to ask for an offered address:
// OVMF waits 4 s for more offers, and asks again after 4 s.
const youngOffer = 10 * time.Second

// unused finds an address that nobody ever had.
func (sp *space) unused(b bid) (uint32, bool) {
	h := b.key.hash()
	for _, ofClass := range [...]bool{true, false} {
		for _, p := range sp.pools {
			if (p.class != 0) != ofClass || !b.mayUse(p) {
				continue
			}
			if a, ok := p.free(h); ok {
				return a, true
			}
		}
	}
	return 0, false
}

// reuseLocked finds the address whose lease ended first, in the pools of the client's
// classes or else in the others: of strangers (0) or of known machines (1).
func (l *Leases) reuseLocked(sp *space, b bid, whose int, now int64) (uint32, bool) {
	for _, ofClass := range [...]bool{true, false} {
		var first *record
		for _, p := range sp.pools {
			if (p.class != 0) != ofClass || !b.mayUse(p) {
				continue
			}
			if r := l.book.first(p.idle[whose]); r != nil && reusable(r, now) && (first == nil || r.expires < first.expires) {
				first = r
			}
		}
		if first != nil {
			return first.addr, true
		}
	}
	return 0, false
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
	bid       // asked is the address claimed
	dur       time.Duration
	clientID  []byte
	hostname  []byte
	selecting bool // answers our offer (RFC 2131, section 4.3.2)
	booting   bool // by firmware or iPXE
	boot      Boot // used when there was no offer
}

// Claim settles a REQUEST. On ack it returns what to load, and appends to
// changed the addresses whose records must be on disk before the ACK is sent.
func (l *Leases) Claim(c claim, changed []uint32, at time.Time) (verdict, Boot, []uint32) {
	now := at.Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(now)
	if v := l.judgeLocked(c, now); v != ack {
		return v, Boot{}, changed
	}
	boot := c.boot
	if o := l.offers[c.key]; o != nil {
		if o.xid == c.xid {
			boot = o.boot
		}
		l.withdrawLocked(o)
	}
	return ack, boot, l.bindLocked(c, changed, now)
}

// judgeLocked is the decision table of RFC 2131, section 4.3.2.
func (l *Leases) judgeLocked(c claim, now int64) verdict {
	no := nak
	if !c.subnet.Authoritative && !c.selecting {
		no = silence // RFC 2131, section 4.3.2: MUST remain silent about clients it does not know
	}
	asked, own, offer := number(c.asked), l.book.ofClient(c.key), l.offers[c.key]
	switch {
	case !l.allowedLocked(c.bid, asked), !l.availableLocked(c.bid, asked, now):
		return no
	case c.selecting && offer != nil && offer.addr == asked:
		return ack
	case c.selecting && offer != nil && (own == nil || own.addr != asked):
		return nak // asks us for something else than we offered
	case l.mustMoveLocked(c.bid, now):
		return no
	case own != nil && own.addr == asked:
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
func (l *Leases) mustMoveLocked(b bid, now int64) bool {
	return b.reserved.IsValid() && b.reserved != b.asked &&
		b.subnet.Prefix.Contains(b.reserved) && l.availableLocked(b, number(b.reserved), now)
}

// bindLocked records the lease of c. The record of the address replaces
// whoever had it before; the client's former address is free at once.
func (l *Leases) bindLocked(c claim, changed []uint32, now int64) []uint32 {
	asked, r := number(c.asked), l.book.ofClient(c.key)
	if r != nil && r.addr != asked {
		changed = append(changed, r.addr)
		l.dropLocked(r)
		r = nil
	}
	if other := l.book.ofAddr(asked); other != nil && other != r {
		l.dropLocked(other)
	}
	if r == nil {
		r = l.book.add(record{addr: asked, key: c.key, start: now}, said{})
	}
	l.book.unchain(r)
	l.version++
	r.renamed = r.renamed || r.told && l.book.of(r).hostname != string(c.hostname)
	r.state, r.expires = Bound, now+int64(c.dur/time.Second)
	r.known, r.booting = !c.stranger(), c.booting
	l.book.hear(r, c.clientID, c.hostname)
	l.ending.put(r)
	l.markLocked(asked, true)
	return append(changed, asked)
}

// Withdraw drops the offer to a client that chose another server.
func (l *Leases) Withdraw(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.offers[k]; o != nil {
		l.withdrawLocked(o)
	}
}

// Release ends the client's lease of addr. It reports whether there was one.
func (l *Leases) Release(k key, addr netip.Addr, at time.Time) (changed uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.book.ofClient(k)
	if r == nil || address(r.addr) != addr || r.state != Bound {
		return 0, false
	}
	l.book.unchain(r)
	l.overLocked(r)
	r.state, r.expires = Released, at.Unix()
	l.ending.put(r)
	return r.addr, true
}

// Decline quarantines an address that its client found in use. It reports
// whether addr was the client's to decline: others would use it to empty the
// pool.
func (l *Leases) Decline(k key, addr netip.Addr, at time.Time) (changed uint32, ok bool) {
	now, a := at.Unix(), number(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(now)
	o, r := l.offers[k], l.book.ofClient(k)
	mine := a != 0 && (o != nil && o.addr == a || r != nil && r.addr == a)
	if !mine {
		return 0, false
	}
	if o != nil {
		l.withdrawLocked(o)
	}
	if old := l.book.ofAddr(a); old != nil {
		l.dropLocked(old)
	}
	hold := declineHold
	if l.declinedLocked(k.subnet) {
		hold = 0 // somebody declines whatever it is offered: the pool is not theirs to empty
	}
	bad := record{addr: a, key: key{subnet: k.subnet}, state: Declined, start: now, expires: now + int64(hold/time.Second)}
	l.restLocked(bad)
	return a, true
}

// Records appends to changes what is to be stored of addresses, as they are
// now: receivers are done with their batches in another order than they decided
// in, and what was decided since must not be undone. The bytes are in memory
// that is appended to buf, which is returned for the next time.
func (l *Leases) Records(changes []store.Change, buf []byte, addrs []uint32) ([]store.Change, []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range addrs {
		start := len(buf)
		buf = binary.BigEndian.AppendUint32(buf, a)
		c := store.Change{Key: buf[start:len(buf):len(buf)]}
		if r := l.book.ofAddr(a); r != nil {
			start = len(buf)
			buf = r.append(buf, l.book.of(r))
			c.Value = buf[start:len(buf):len(buf)]
		}
		changes = append(changes, c)
	}
	return changes, buf
}

// restLocked takes in the record of an address in quarantine.
func (l *Leases) restLocked(bad record) {
	l.enterLocked(bad, said{})
	l.markLocked(bad.addr, true)
}

func (l *Leases) countDeclinedLocked(r *record, n int) {
	if r.state == Declined {
		l.declined[r.key.subnet] += n
	}
}

// declinedShare is the part of a subnet's addresses that may be in quarantine.
const declinedShare = 10 // a tenth

// declinedLocked reports whether a subnet has as many addresses in quarantine as
// it may.
func (l *Leases) declinedLocked(subnet uint32) bool {
	sp := l.spaces[subnet]
	return sp == nil || l.declined[subnet] >= max(4, sp.size()/declinedShare)
}

// size is the number of addresses in the pools.
func (sp *space) size() (n int) {
	for _, p := range sp.pools {
		n += int(p.size)
	}
	return n
}

// ByAddr returns the lease of an address, whether or not it has ended.
func (l *Leases) ByAddr(a netip.Addr) (Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.book.ofAddr(number(a)); r != nil {
		return l.book.view(r), true
	}
	return Lease{}, false
}

// Newest returns when the lease that was made last began; the
// zero time without leases.
func (l *Leases) Newest() (newest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.book.byAddr {
		if at := time.Unix(l.book.at(i).start, 0); at.After(newest) {
			newest = at
		}
	}
	return newest
}

// Len returns the number of leases, ended ones included.
func (l *Leases) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.book.byAddr)
}

// All returns every lease, by address.
func (l *Leases) All() []Lease {
	l.mu.Lock()
	all := make([]Lease, 0, len(l.book.byAddr))
	for _, i := range l.book.byAddr {
		all = append(all, l.book.view(l.book.at(i)))
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return all
}
