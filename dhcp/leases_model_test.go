package dhcp

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
)

// A leaseModel drives Leases as clients, administrators and reloads do, with
// random steps, and knows what must hold after each.
type leaseModel struct {
	t   *testing.T
	rnd *rand.Rand
	*Leases
	now       time.Time
	subnets   []Subnet
	known     nodesOf
	disk      disk
	held      map[uint32]holding // by address: what was acknowledged
	log       []string
	cuts      bool // networks are cut in another way
	reloading bool
	dup       bool // a client may have two leases in a subnet, which were two subnets
}

// holding is a lease that its client was told of.
type holding struct {
	mac node.MAC
	end int64
}

// nodesOf are the nodes of a leaseModel: reserved addresses, or none.
type nodesOf map[node.MAC]netip.Addr

func (f nodesOf) Find(c Client) Machine {
	a, ok := f[c.MAC]
	if !ok {
		return Machine{}
	}
	return Machine{Name: "n", Addr: a}
}
func (f nodesOf) Reservations() (all []netip.Addr) {
	for _, a := range f {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}
func (nodesOf) Boot(Client, netip.Addr) Boot { return Boot{} }

var modelClasses = []Class{{Name: "arm"}}

// configurations of two networks, which come and go, with other pools, and cut
// in another way.
func (m *leaseModel) newConfig() {
	at := func(text string) netip.Addr { return netip.MustParseAddr(text) }
	pools := [][]Pool{
		{pool10("10.77.0.100", "10.77.0.109")},
		{pool10("10.77.0.100", "10.77.0.103"), pool10("10.77.0.106", "10.77.0.112")},
		{{Range{at("10.77.0.100"), at("10.77.0.104")}, "arm"}, {Range{at("10.77.0.105"), at("10.77.0.109")}, ""}},
		{{Range{at("10.77.0.100"), at("10.77.0.103")}, ClassUnknown}, {Range{at("10.77.0.104"), at("10.77.0.109")}, ClassKnown}},
	}
	excludes := [][]Range{nil, {{at("10.77.0.102"), at("10.77.0.103")}}}
	one := Subnet{
		Prefix: netip.MustParsePrefix("10.77.0.0/24"), Server: at("10.77.0.1"), Pools: pools[m.rnd.IntN(len(pools))],
		Exclude: excludes[m.rnd.IntN(2)], Lease: time.Hour, BootLease: time.Minute, Authoritative: m.rnd.IntN(4) > 0,
		Unknown: Unknown(m.rnd.IntN(2)),
	}
	two := one
	two.Prefix, two.Server, two.Pools, two.Exclude = netip.MustParsePrefix("10.77.1.0/24"), at("10.77.1.1"), []Pool{pool10("10.77.1.100", "10.77.1.103")}, nil
	m.subnets = nil
	kind := m.rnd.IntN(8)
	if !m.cuts {
		kind = max(kind, 4)
	}
	switch kind {
	case 0:
		m.subnets = []Subnet{two}
	case 1:
		m.subnets = []Subnet{one}
	case 2, 3:
		both := one
		both.Prefix, both.Pools = netip.MustParsePrefix("10.77.0.0/16"), append(slices.Clone(one.Pools), two.Pools...)
		m.subnets, m.dup = []Subnet{both}, true
	case 4:
		if m.rnd.IntN(4) == 0 {
			break
		}
		fallthrough
	default:
		m.subnets = []Subnet{one, two}
	}
	m.known = nodesOf{}
	for i := range 4 {
		if m.rnd.IntN(2) == 0 {
			var a netip.Addr
			if m.rnd.IntN(2) == 0 {
				a = address(number(at("10.77.0.98")) + uint32(i*2))
			}
			m.known[mac(byte(i))] = a
		}
	}
}

const modelClients = 14

// bid is a wish of a random client in a random subnet.
func (m *leaseModel) bid() (b bid, who node.MAC) {
	who = mac(byte(m.rnd.IntN(modelClients)))
	b.subnet = &m.subnets[m.rnd.IntN(len(m.subnets))]
	b.key = key{number(b.subnet.Prefix.Addr()), macID(who)}
	machine := m.known.Find(Client{MAC: who})
	b.classes = bitUnknown
	if machine.Name != "" {
		b.classes = bitKnown
		b.reserved = machine.in(b.subnet)
	}
	if m.rnd.IntN(3) == 0 {
		b.classes |= 1 << firstClass
	}
	if m.rnd.IntN(2) == 0 {
		b.asked = m.anyAddr()
	}
	b.xid = [4]byte{byte(m.rnd.IntN(3))}
	return b, who
}

func (m *leaseModel) anyAddr() netip.Addr {
	a := number(netip.MustParseAddr("10.77.0.97")) + m.rnd.Uint32N(18)
	if m.rnd.IntN(4) == 0 {
		a = number(netip.MustParseAddr("10.77.1.99")) + m.rnd.Uint32N(6)
	}
	return address(a)
}

func (m *leaseModel) note(format string, args ...any) {
	m.log = append(m.log, m.now.UTC().Format("15:04:05 ")+fmt.Sprintf(format, args...))
	if len(m.log) > 60 {
		m.log = m.log[1:]
	}
}

func (m *leaseModel) fatal(format string, args ...any) {
	m.t.Helper()
	for _, s := range m.log {
		m.t.Log(s)
	}
	m.t.Fatalf(format, args...)
}

// write makes changes durable.
func (m *leaseModel) write(changed ...uint32) {
	changes, _ := m.Records(nil, nil, changed)
	if err := m.disk.Apply(changes); err != nil {
		m.t.Fatal(err)
	}
	m.committed(changed)
}

func (m *leaseModel) step() {
	if m.rnd.IntN(3) == 0 {
		m.now = m.now.Add(time.Duration(m.rnd.IntN(40)) * time.Second)
	}
	if len(m.subnets) == 0 {
		m.now = m.now.Add(time.Minute)
		m.Version(m.now)
		return
	}
	switch op := m.rnd.IntN(24); {
	case op < 7:
		b, who := m.bid()
		a, fresh, ok := m.Offer(b, Boot{}, m.now)
		m.note("offer %v (asked %v): %v %v %v", who, b.asked, a, fresh, ok)
		if !ok && m.coming == nil && !m.reloading {
			m.nothingFor(b)
		}
	case op < 16:
		m.claim()
	case op < 18:
		b, who := m.bid()
		if r := m.book.ofClient(b.key); r != nil {
			a := address(r.addr)
			changed, ok := m.Release(b.key, a, m.now)
			m.note("release %v %v: %v", who, a, ok)
			if ok {
				delete(m.held, changed)
				m.write(changed)
			}
		}
	case op == 18:
		b, who := m.bid()
		a := m.anyAddr()
		if r := m.book.ofClient(b.key); r != nil && m.rnd.IntN(2) == 0 {
			a = address(r.addr)
		}
		changed, ok := m.Decline(b.key, a, m.now)
		m.note("decline %v %v: %v", who, a, ok)
		if ok {
			delete(m.held, changed)
			m.write(changed)
		}
	case op == 19:
		a := m.anyAddr()
		_, ok := m.End(a, m.now)
		m.note("end %v: %v", a, ok)
		delete(m.held, number(a))
		m.write(number(a))
	case op == 20:
		a := m.anyAddr()
		_, ok := m.Leases.Forget(a, m.now)
		m.note("forget %v: %v", a, ok)
		delete(m.held, number(a))
		m.write(number(a))
	case op == 21:
		m.grant()
	case op == 22:
		b, who := m.bid()
		m.Withdraw(b.key)
		m.note("withdraw %v", who)
	default:
		m.Turns(m.now)
		m.now = m.now.Add(time.Duration(m.rnd.IntN(4000)) * time.Second)
	}
}

func (m *leaseModel) claim() {
	b, who := m.bid()
	c := claim{bid: b, dur: time.Duration(1+m.rnd.IntN(3600)) * time.Second, selecting: m.rnd.IntN(2) == 0, booting: m.rnd.IntN(3) == 0}
	c.hostname = [][]byte{nil, []byte("a"), []byte("b")}[m.rnd.IntN(3)]
	c.clientID = [][]byte{nil, append([]byte{1}, who[:]...), []byte("other")}[m.rnd.IntN(3)]
	if o := m.offers[b.key]; o != nil && m.rnd.IntN(4) > 0 {
		c.asked = address(o.addr)
	} else if r := m.book.ofClient(b.key); r != nil && m.rnd.IntN(2) == 0 {
		c.asked = address(r.addr)
	} else {
		c.asked = m.anyAddr()
	}
	v, _, changed := m.Claim(c, nil, m.now)
	m.note("claim %v %v selecting %v booting %v for %v: %v", who, c.asked, c.selecting, c.booting, c.dur, v)
	if v != ack {
		return
	}
	a := number(c.asked)
	if was, ok := m.held[a]; ok && was.mac != who && m.now.Unix() < was.end && c.asked != b.reserved {
		m.fatal("%v was given to %v, and is leased to %v until %v", c.asked, who, was.mac, time.Unix(was.end, 0).UTC())
	}
	for a, was := range m.held { // one address in a subnet
		served := slices.ContainsFunc(m.subnets, func(s Subnet) bool { return s.Prefix.Contains(address(a)) })
		if was.mac == who && (!served || b.subnet.Prefix.Contains(address(a))) {
			delete(m.held, a)
		}
	}
	m.held[a] = holding{who, m.now.Add(c.dur).Unix()}
	m.write(changed...)
}

func (m *leaseModel) grant() {
	b, who := m.bid()
	b.asked = m.anyAddr()
	if !b.subnet.Prefix.Contains(b.asked) {
		return
	}
	g := grant{bid: b, exact: m.rnd.IntN(2) == 0, lease: Lease{State: State(1 + m.rnd.IntN(3)), MAC: who, Expires: m.now.Add(time.Duration(m.rnd.IntN(7200)-3600) * time.Second)}}
	if g.lease.State == Declined {
		g.key.id, g.classes, g.reserved = 0, ^bitUnknown, netip.Addr{}
	}
	batch := []grant{g}
	changed := m.Grant(batch, m.rnd.IntN(4) == 0, m.now)
	m.note("grant %v %v %v until %v: %v %v", who, b.asked, g.lease.State, g.lease.Expires.UTC(), batch[0].outcome, batch[0].err)
	if len(changed) == 0 {
		return
	}
	a := number(b.asked)
	if was, ok := m.held[a]; ok && was.mac != who && m.now.Unix() < was.end && b.asked != b.reserved {
		m.fatal("%v was granted to %v, and is leased to %v", b.asked, who, was.mac)
	}
	for _, c := range changed {
		delete(m.held, c)
	}
	if g.lease.State == Bound {
		m.held[a] = holding{who, g.lease.Expires.Unix()}
	}
	m.write(changed...)
}

// nothingFor checks that no address could be offered.
func (m *leaseModel) nothingFor(b bid) {
	m.t.Helper()
	for _, p := range m.spaces[b.key.subnet].pools {
		for a := p.first; b.mayUse(p) && a < p.first+p.size; a++ {
			r := m.book.ofAddr(a)
			if r != nil && (!reusable(r, m.now.Unix()-slotSeconds) || r.known && b.stranger()) {
				continue
			}
			if m.allowedLocked(b, a) && m.availableLocked(b, a, m.now.Unix()) {
				m.fatal("%v could be offered: %+v", address(a), r)
			}
		}
	}
}

// reload configures anew, with steps of clients in between where Configure lets
// them.
func (m *leaseModel) reload() {
	m.reloading = true
	defer func() { m.reloading = false }()
	old := m.subnets
	m.newConfig()
	m.note("reload %d subnets, known %v", len(m.subnets), m.known)
	next, known := m.subnets, m.known
	spaces, reserved := map[uint32]*space{}, map[uint32]bool{}
	for i := range next {
		spaces[number(next[i].Prefix.Addr())] = newSpace(&next[i], modelClasses)
		m.note("  %v %v exclude %v unknown %v", next[i].Prefix, next[i].Pools, next[i].Exclude, next[i].Unknown)
	}
	for _, a := range known.Reservations() {
		reserved[number(a)] = true
	}
	between := func() {
		if m.rnd.IntN(3) == 0 {
			m.step()
		}
	}
	m.subnets = old
	m.prepare(spaces)
	for a := range maps.Clone(m.offered) {
		between()
		if m.offered[a] != nil {
			mark(spaces, a, true)
		}
	}
	for a := range maps.Clone(m.book.byAddr) {
		between()
		if m.book.byAddr[a] != 0 {
			mark(spaces, a, true)
		}
	}
	between()
	was := m.replace(spaces, reserved)
	m.note("replaced")
	m.subnets = next
	for _, sp := range was {
		for _, p := range sp.pools {
			for _, c := range p.idle {
				for r := m.book.first(c); r != nil; r = m.book.first(c) {
					m.book.unchain(r)
					m.idleLocked(r)
					between()
				}
				m.book.endChain(c)
			}
		}
	}
	for a := range maps.Clone(m.book.byAddr) {
		between()
		if i := m.book.byAddr[a]; i != 0 {
			m.acquaintLocked(m.book.at(i), known)
		}
	}
	m.note("reloaded")
}

// restart forgets all that is not on disk.
func (m *leaseModel) restart() {
	m.note("restart")
	m.Leases = NewLeases()
	m.Follow(true)
	if err := m.Load(&m.disk); err != nil {
		m.t.Fatal(err)
	}
	m.Configure(m.subnets, modelClasses, m.known)
}

// check is what must hold between two steps.
func (m *leaseModel) check() {
	m.t.Helper()
	b := &m.book
	where := map[ref]chain{} // each record is in one chain at most
	heads := 0
	ring := func(c chain) {
		heads++
		prev := ref(c)
		for i := b.at(ref(c)).next; i != ref(c); i = b.at(i).next {
			r := b.at(i)
			if r.self != i || r.in != c || r.prev != prev || where[i] != 0 || b.byAddr[r.addr] != i {
				m.fatal("record %d of %v is in chain %d, after %d (%d), was met in %d; its address has %d", i, address(r.addr), r.in, r.prev, prev, where[i], b.byAddr[r.addr])
			}
			where[i], prev = c, i
		}
		if b.at(ref(c)).prev != prev {
			m.fatal("chain %d ends at %d, and its head says %d", c, prev, b.at(ref(c)).prev)
		}
	}
	inWheel := map[chain]int64{}
	for slot, c := range m.ending.slots {
		ring(c)
		inWheel[c] = slot
		if slot < m.ending.next && b.first(c) != nil {
			m.fatal("slot %d is behind %d", slot, m.ending.next)
		}
	}
	for _, sp := range m.spaces {
		for _, p := range sp.pools {
			ring(p.idle[0])
			ring(p.idle[1])
		}
	}
	if m.coming != nil {
		m.fatal("spaces are coming")
	}
	declined := map[uint32]int{}
	for a, i := range b.byAddr {
		r := b.at(i)
		if r.addr != a || r.self != i {
			m.fatal("%v has the record of %v", address(a), address(r.addr))
		}
		if r.key.id != 0 && b.byKey[r.key] != i && !m.dup {
			m.fatal("%v is not found by its client %v", address(a), r.key)
		}
		if r.state == Declined {
			declined[r.key.subnet]++
		}
		if r.talks != (b.said[a] != said{}) {
			m.fatal("%v talks %v, and said %v", address(a), r.talks, b.said[a])
		}
		switch slot, waits := inWheel[r.in]; {
		case r.in != 0 && waits:
			if slot != r.expires/slotSeconds {
				m.fatal("%v ends at %d and is in slot %d", address(a), r.expires, slot)
			}
		case m.now.Unix() < r.expires:
			m.fatal("%v has not ended and is not waited for", address(a))
		case r.state == Declined:
			m.fatal("%v was declined and is in no slot", address(a))
		case m.offered[a] != nil && r.in != 0:
			m.fatal("%v is offered and in row %d", address(a), r.in)
		case m.offered[a] == nil && r.in != m.idleChainLocked(r):
			m.fatal("%v is in row %d, want %d", address(a), r.in, m.idleChainLocked(r))
		}
	}
	for k, i := range b.byKey {
		if r := b.at(i); r.key != k || b.byAddr[r.addr] != i {
			m.fatal("client %v has the record of %v", k, r.key)
		}
	}
	for a := range b.said {
		if b.byAddr[a] == 0 {
			m.fatal("%v said something and is not there", address(a))
		}
	}
	for s, n := range m.declined {
		if n != declined[s] {
			m.fatal("%d addresses of %v are declined, counted %d", declined[s], address(s), n)
		}
	}
	strange, last := map[uint32]int{}, int64(0)
	for k, o := range m.offers {
		if m.offered[o.addr] != o || o.key != k {
			m.fatal("offer of %v to %v is not that of the address", address(o.addr), k)
		}
		if o.strange {
			strange[k.subnet]++
		}
	}
	n := 0
	for o := m.holds.first; o != nil; o = o.next {
		if n++; m.offers[o.key] != o || o.expires < last {
			m.fatal("offer of %v is out of order, or nobody's", address(o.addr))
		}
		last = o.expires
	}
	if n != len(m.offers) || n != len(m.offered) {
		m.fatal("%d offers, %d by client, %d by address", n, len(m.offers), len(m.offered))
	}
	for s, n := range m.strange {
		if n != strange[s] {
			m.fatal("%d offers to strangers in %v, counted %d", strange[s], address(s), n)
		}
	}
	spent := 0
	for i := b.spent; i != 0; i = b.at(i).next {
		spent++
	}
	if got := spent + heads + len(b.byAddr); got != int(b.used) {
		m.fatal("%d records are in use or spent, of %d", got, b.used)
	}
	for _, sp := range m.spaces {
		for _, p := range sp.pools {
			for a := p.first; a < p.first+p.size; a++ {
				taken := p.used[(a-p.first)/64]>>((a-p.first)%64)&1 == 1
				want := within(sp.Exclude, address(a)) || m.reserved[a] || b.byAddr[a] != 0 || m.offered[a] != nil
				if taken != want {
					m.fatal("%v is taken: %v, want %v", address(a), taken, want)
				}
			}
		}
	}
	for a, h := range m.held {
		if h.end <= m.now.Unix() {
			delete(m.held, a)
			continue
		}
		r := b.ofAddr(a)
		if r == nil || r.key.mac() != h.mac || r.state != Bound || r.expires != h.end {
			m.fatal("%v was acknowledged to %v until %d: got %+v", address(a), h.mac, h.end, r)
		}
	}
}

// Whatever clients, administrators and reloads do, no address has two machines,
// none is lost, and no lease that was acknowledged. For longer than a test:
// go test -fuzz FuzzLeases.
func FuzzLeases(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		m := newLeaseModel(t, seed)
		for range 400 {
			switch m.rnd.IntN(40) {
			case 0:
				m.reload()
			case 1:
				m.restart()
			case 2:
				m.newConfig()
				m.note("configure")
				m.Configure(m.subnets, modelClasses, m.known)
			default:
				m.step()
			}
			m.check()
		}
	})
}

func newLeaseModel(t *testing.T, seed uint64) *leaseModel {
	m := &leaseModel{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), cuts: seed%2 == 0, Leases: NewLeases(), now: time.Unix(1_800_000_000, 0),
		disk: disk{records: map[string][]byte{}}, held: map[uint32]holding{},
	}
	m.newConfig()
	m.restart()
	return m
}

// A network that is cut in another way keeps its leases: who has an address
// keeps it, and what ended is there for others.
func TestSubnetGrows(t *testing.T) {
	small := testSubnet()
	small.Pools = []Pool{pool10("10.77.0.100", "10.77.0.101")}
	run(t, []Subnet{small}, fixed{}, func(b *bench) {
		first, second := b.lease(m1), b.lease(m2)
		b.silent(message(m2, dhcpv4.MessageTypeRelease, withCIAddr(second)))
		offered := yiaddr(b.must(discover(m2), dhcpv4.MessageTypeOffer))
		grown := small
		grown.Prefix = netip.MustParsePrefix("10.76.0.0/15")
		b.server.Configure([]Subnet{grown}, nil, fixed{})
		if got := yiaddr(b.must(renewing(m1, first), dhcpv4.MessageTypeAck)); got != first {
			t.Errorf("got %v, want %v as before", got, first)
		}
		b.must(selecting(m2, offered), dhcpv4.MessageTypeAck)
		b.silent(message(m2, dhcpv4.MessageTypeRelease, withCIAddr(second)))
		b.server.Configure([]Subnet{small}, nil, fixed{})
		time.Sleep(time.Minute)
		if got := b.lease(mac(3)); got != second {
			t.Errorf("got %v, want %v, which is free", got, second)
		}
		b.stop()
		b.start([]Subnet{grown}, fixed{})
		b.must(renewing(m1, first), dhcpv4.MessageTypeAck)
	})
}
