package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

func optionOf(r *sent, code uint8) []byte { return r.Options.Get(dhcpv4.GenericOptionCode(code)) }
func has(r *sent, code uint8) bool        { return r.Options.Has(dhcpv4.GenericOptionCode(code)) }

// behindRelay is a subnet whose clients are behind a relay.
func behindRelay(prefix, first, last string) Subnet {
	s := testSubnet()
	s.Prefix, s.Relayed, s.Pools = netip.MustParsePrefix(prefix), true, []Pool{pool10(first, last)}
	return s
}

// RFC 2563, section 2.3.
func TestC18AutoConfigure(t *testing.T) {
	sub := testSubnet()
	sub.Pools = nil
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		b.silent(discover(m1))
		r := b.must(discover(m1, with(116, 1)), dhcpv4.MessageTypeOffer)
		if yiaddr(r).IsValid() || !bytes.Equal(optionOf(r, 116), []byte{0}) {
			t.Errorf("yiaddr %v, option 116 %v, want none and 0 (do not configure yourself)", r.YourIPAddr, optionOf(r, 116))
		}
	})
}

// RFC 3527, section 3.
func TestC34LinkSelection(t *testing.T) {
	relay := netip.MustParseAddr("10.88.0.1")
	subs := []Subnet{behindRelay("10.88.0.0/24", "10.88.0.100", "10.88.0.199"), behindRelay("10.99.0.0/24", "10.99.0.100", "10.99.0.199")}
	run(t, subs, fixed{}, func(b *bench) {
		r := b.must(discover(m1, withRelay(relay), with(82, 5, 4, 10, 99, 0, 0)), dhcpv4.MessageTypeOffer)
		if !subs[1].Prefix.Contains(yiaddr(r)) || r.to != netip.AddrPortFrom(relay, 67) {
			t.Errorf("offer of %v to %v, want one of %v to the relay", yiaddr(r), r.to, subs[1].Prefix)
		}
		b.silent(discover(m1, withRelay(relay), with(82, 5, 4, 10, 77, 0, 0)))
	})
}

// RFC 5107, section 4.
func TestC35ServerIdentifierOverride(t *testing.T) {
	relay := netip.MustParseAddr("10.88.0.1")
	run(t, []Subnet{behindRelay("10.88.0.0/24", "10.88.0.100", "10.88.0.199")}, fixed{}, func(b *bench) {
		override := []dhcpv4.Modifier{withRelay(relay), with(82, 11, 4, 10, 88, 0, 1)}
		offer := b.must(discover(m1, override...), dhcpv4.MessageTypeOffer)
		ack := b.must(selecting(m1, yiaddr(offer), append(override, withAddr(54, relay))...), dhcpv4.MessageTypeAck)
		for _, r := range []*sent{offer, ack} {
			if got := addrOf(optionOf(r, 54)); got != relay {
				t.Errorf("%v: server identifier got %v, want %v", r.MessageType(), got, relay)
			}
		}
	})
}

// RFC 3011, section 2.
func TestC37SubnetSelection(t *testing.T) {
	for _, on := range []bool{true, false} {
		one, two := testSubnet(), behindRelay("10.99.0.0/24", "10.99.0.100", "10.99.0.199")
		one.SubnetSelection, two.SubnetSelection = on, on
		run(t, []Subnet{one, two}, fixed{}, func(b *bench) {
			r := b.must(discover(m1, with(118, 10, 99, 0, 0)), dhcpv4.MessageTypeOffer)
			if got := two.Prefix.Contains(yiaddr(r)); got != on || has(r, 118) != on {
				t.Errorf("believed %v: address %v, option 118 echoed %v", on, yiaddr(r), has(r, 118))
			}
		})
	}
}

// RFC 8357, section 5.1.
func TestC38RelaySourcePort(t *testing.T) {
	relay := netip.MustParseAddr("10.88.0.1")
	run(t, []Subnet{behindRelay("10.88.0.0/24", "10.88.0.100", "10.88.0.199")}, fixed{}, func(b *bench) {
		p := discover(m1, withRelay(relay), with(82, 19, 0))
		r := b.exchange(b.dhcp, inboundPacket{b: p.ToBytes(), from: netip.AddrPortFrom(relay, 5000), to: serverAddr})
		if r == nil || r.to != netip.AddrPortFrom(relay, 5000) {
			t.Errorf("got %v, want an offer to port 5000 of the relay", r)
		}
	})
}

// RFC 4039, sections 3.1 and 4.
func TestC39RapidCommit(t *testing.T) {
	for _, on := range []bool{true, false} {
		sub := testSubnet()
		sub.RapidCommit = on
		run(t, []Subnet{sub}, fixed{}, func(b *bench) {
			if !on {
				if r := b.must(discover(m1, with(80)), dhcpv4.MessageTypeOffer); has(r, 80) {
					t.Error("offer has option 80, which it must not")
				}
				return
			}
			r := b.must(discover(m1, with(80)), dhcpv4.MessageTypeAck)
			if !has(r, 80) || len(optionOf(r, 80)) != 0 || b.disk.len() != 1 {
				t.Errorf("option 80 %v, %d records, want it empty and a stored lease", optionOf(r, 80), b.disk.len())
			}
			b.must(discover(m2), dhcpv4.MessageTypeOffer) // a client that did not ask for it
		})
	}
}

// RFC 8925, section 3.3.
func TestC40IPv6Only(t *testing.T) {
	sub := testSubnet()
	sub.IPv6Only = 30 * time.Minute
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		r := b.must(discover(m1, with(55, 1, 108)), dhcpv4.MessageTypeOffer)
		if yiaddr(r).IsValid() || !bytes.Equal(optionOf(r, 108), []byte{0, 0, 7, 8}) {
			t.Errorf("yiaddr %v, option 108 %v, want none and 1800 s", r.YourIPAddr, optionOf(r, 108))
		}
		if r := b.must(discover(m2, with(55, 1, 108), with(60, []byte("PXEClient")...)), dhcpv4.MessageTypeOffer); !yiaddr(r).IsValid() || has(r, 108) {
			t.Error("firmware was told to do without IPv4")
		}
	})
	one(t, func(b *bench) {
		if r := b.must(discover(m1, with(55, 108)), dhcpv4.MessageTypeOffer); has(r, 108) {
			t.Error("option 108 on a subnet that is not IPv6-mostly")
		}
	})
}

// RFC 3442: a client that takes 121 ignores 3, so 121 has the default route.
func TestC41ClasslessRoutes(t *testing.T) {
	sub := testSubnet()
	routes := []byte{8, 10, 10, 77, 0, 253, 0, 10, 77, 0, 254}
	sub.Options = []Option{{Code: 121, Value: routes}}
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		r := b.must(discover(m1, with(55, 1, 3, 121)), dhcpv4.MessageTypeOffer)
		if !bytes.Equal(optionOf(r, 121), routes) || has(r, 3) {
			t.Errorf("option 121 %v, router %v, want the routes and no router", optionOf(r, 121), optionOf(r, 3))
		}
		r = b.must(discover(m1, with(55, 1, 3)), dhcpv4.MessageTypeOffer)
		if has(r, 121) || !has(r, 3) {
			t.Errorf("client that takes no routes: option 121 %v, router %v, want the router alone", optionOf(r, 121), optionOf(r, 3))
		}
	})
}

// withOptions gives every machine the options of a node.
type withOptions struct {
	fixed
	options []Option
}

func (w withOptions) Find(c Client) Machine {
	m := w.fixed.Find(c)
	m.Options = w.options
	return m
}

// The most specific place wins; what was not asked for is sent only if said so.
func TestOptionsByPlace(t *testing.T) {
	sub := testSubnet()
	sub.Options = []Option{{Code: 26, Value: []byte{5, 220}}, {Code: 150, Value: []byte("subnet")}, {Code: 17, Value: []byte("root"), Always: true}, {Code: 152, Value: []byte("subnet"), Always: true}}
	classes := []Class{{Name: "c", Match: Match{VendorClass: "ACME"}, Options: []Option{{Code: 150, Value: []byte("class")}, {Code: 151, Value: []byte("class")}}}}
	machines := withOptions{fixed{}, []Option{{Code: 151, Value: []byte("node")}, {Code: 15, Value: []byte("node.domain")}, {Code: 152, Value: []byte("node")}}}
	synctestRun(t, []Subnet{sub}, classes, machines, func(b *bench) {
		r := b.must(discover(m1, with(60, []byte("ACME 1")...), with(55, 15, 26, 150, 151)), dhcpv4.MessageTypeOffer)
		for code, want := range map[uint8]string{26: "\x05\xdc", 150: "class", 151: "node", 15: "node.domain", 17: "root"} {
			if got := string(optionOf(r, code)); got != want {
				t.Errorf("option %d: got %q, want %q", code, got, want)
			}
		}
		r = b.must(discover(m2), dhcpv4.MessageTypeOffer)
		if has(r, 26) || has(r, 151) || has(r, 152) || !has(r, 17) {
			t.Error("options that were not asked for, want only the one that the most specific place always sends")
		}
	})
}

func synctestRun(t *testing.T, subnets []Subnet, classes []Class, machines Machines, test func(b *bench)) {
	run(t, subnets, machines, func(b *bench) {
		b.server.Configure(subnets, classes, machines)
		test(b)
	})
}

// Each condition alone decides, and all that are set must hold.
func TestClassMatch(t *testing.T) {
	efi := []dhcpv4.Modifier{with(60, []byte("PXEClient:Arch:00007")...), with(93, 0, 7), with(77, []byte("\x04corp")...),
		with(82, 1, 2, 'p', '1', 2, 2, 's', 'w'), with(97, 0, 0x44, 0x33, 0x22, 0x11, 0x66, 0x55, 0x88, 0x77, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0)}
	for _, c := range []struct {
		name  string
		match Match
		want  bool
	}{
		{"none", Match{}, true},
		{"vendor class", Match{VendorClass: "PXEClient"}, true},
		{"other vendor class", Match{VendorClass: "HTTPClient"}, false},
		{"user class", Match{UserClass: "corp"}, true},
		{"part of a user class", Match{UserClass: "cor"}, false},
		{"arch", Match{Arch: []Arch{0, 7}}, true},
		{"other arch", Match{Arch: []Arch{0}}, false},
		{"mac", Match{MAC: [][]byte{{0, 1}, {0x52, 0x54}}}, true},
		{"other mac", Match{MAC: [][]byte{{0x52, 0x55}}}, false},
		{"uuid", Match{UUID: [][]byte{{0x11, 0x22}}}, true},
		{"other uuid", Match{UUID: [][]byte{{0x44}}}, false},
		{"circuit", Match{CircuitID: "p1"}, true},
		{"other circuit", Match{CircuitID: "p2"}, false},
		{"remote", Match{RemoteID: "sw"}, true},
		{"all", Match{VendorClass: "PXE", UserClass: "corp", Arch: []Arch{7}, MAC: [][]byte{{0x52}}, CircuitID: "p1"}, true},
		{"all but one", Match{VendorClass: "PXE", UserClass: "corp", Arch: []Arch{7}, MAC: [][]byte{{0x53}}}, false},
	} {
		var r request
		if err := r.parse(discover(m1, efi...).ToBytes()); err != nil {
			t.Fatal(err)
		}
		r.relay = readRelay(r.opts.get(optAgent), 67)
		if got := c.match.holds(&r); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// inventory knows a node and a BMC without reserved addresses.
type inventory struct{ fixed }

var bmc1 = node.MAC{0x94, 0x40, 0xc9, 0, 0, 1}

func (inventory) Find(c Client) Machine {
	switch c.MAC {
	case m1:
		return Machine{Name: "ncn-m001"}
	case bmc1:
		return Machine{Name: "ncn-m001-mgmt", BMC: true}
	}
	return Machine{}
}

// Pools of a class are for it alone, and come first for it.
func TestPoolsByClass(t *testing.T) {
	sub := testSubnet()
	bmcs, ilos := pool10("10.77.0.10", "10.77.0.19"), pool10("10.77.0.20", "10.77.0.29")
	bmcs.Class, ilos.Class = ClassBMC, "ilo"
	sub.Pools = append(sub.Pools, bmcs, ilos)
	classes := []Class{
		{Name: "ilo", Match: Match{VendorClass: "CPQRIB"}, Lease: 10 * time.Minute},
		{Name: "ilo3", Match: Match{VendorClass: "CPQRIB3"}, Lease: 20 * time.Minute}, // too, but later
	}
	synctestRun(t, []Subnet{sub}, classes, inventory{}, func(b *bench) {
		if got := b.lease(bmc1); !bmcs.Contains(got) {
			t.Errorf("BMC: got %v, want one of %v", got, bmcs.Range)
		}
		if got := b.lease(m2, with(60, []byte("CPQRIB3")...)); !ilos.Contains(got) {
			t.Errorf("class ilo: got %v, want one of %v", got, ilos.Range)
		}
		if got := b.must(discover(m2, with(60, []byte("CPQRIB3")...)), dhcpv4.MessageTypeOffer).IPAddressLeaseTime(0); got != 10*time.Minute {
			t.Errorf("lease time of the class: got %v, want 10m", got)
		}
		if got := b.lease(m1); !sub.Pools[0].Contains(got) {
			t.Errorf("node: got %v, want one of %v", got, sub.Pools[0].Range)
		}
		b.must(rebooting(m1, bmcs.First), dhcpv4.MessageTypeNak)
	})
}

func TestUnknownClients(t *testing.T) {
	sub := testSubnet()
	quarantine := pool10("10.77.0.240", "10.77.0.249")
	quarantine.Class = ClassUnknown
	for policy, want := range map[Unknown]Range{LeaseUnknown: sub.Pools[0].Range, QuarantineUnknown: quarantine.Range, IgnoreUnknown: {}} {
		sub := sub
		sub.Unknown = policy
		if policy == QuarantineUnknown {
			sub.Pools = append(sub.Pools, quarantine)
		}
		run(t, []Subnet{sub}, inventory{}, func(b *bench) {
			b.must(discover(m1), dhcpv4.MessageTypeOffer)
			b.must(discover(bmc1), dhcpv4.MessageTypeOffer)
			if policy == IgnoreUnknown {
				b.silent(discover(m2))
				b.silent(rebooting(m2, netip.MustParseAddr("10.77.0.120")))
				return
			}
			if got := b.lease(m2); !want.Contains(got) {
				t.Errorf("policy %d: got %v, want one of %v", policy, got, want)
			}
		})
	}
}

// RFC 4361, for sites whose MACs are not stable.
func TestIdentityByClientID(t *testing.T) {
	sub := testSubnet()
	sub.ByClientID = true
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		if one, two := b.lease(m1, with(61, 1, 2, 3)), b.lease(m2, with(61, 1, 2, 3)); one != two {
			t.Errorf("one client-id on two MACs: got %v and %v, want one address", one, two)
		}
	})
}

// A site full of strangers does not take what known machines had, and offers
// that nobody takes do not use up the pool.
func TestStrangersDoNotEvict(t *testing.T) {
	sub := testSubnet()
	run(t, []Subnet{sub}, inventory{}, func(b *bench) {
		mine := b.lease(m1)
		time.Sleep(2 * time.Hour) // m1's lease has ended
		for i := range 400 {
			mac := node.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}
			if r := b.ask(discover(mac)); r != nil {
				b.ask(selecting(mac, yiaddr(r)))
			}
		}
		if got := b.lease(m1); got != mine {
			t.Errorf("known machine after 400 strangers: got %v, want its %v", got, mine)
		}
	})
}

// A flood of DISCOVERs from addresses made up keeps no stranger from an
// address, and takes no more of the pool than a quarter and 16.
func TestFloodOfStrangers(t *testing.T) {
	run(t, []Subnet{testSubnet()}, inventory{}, func(b *bench) {
		for i := range 26_000 {
			flood := node.MAC{2, 0, 0, 2, byte(i >> 8), byte(i)}
			if b.ask(discover(flood)) == nil {
				t.Fatalf("packet %d: got silence, want an offer", i)
			}
			if i%2600 != 0 {
				continue
			}
			guest := node.MAC{2, 0, 0, 3, 0, byte(i / 2600)}
			if got := b.lease(guest); !got.IsValid() {
				t.Errorf("guest after %d packets: got no address", i)
			}
		}
		if n := len(b.server.Leases.offers); n > 41 {
			t.Errorf("open offers: got %d of 100 addresses, want a quarter and 16", n)
		}
		if n := b.server.Leases.Len(); n != 10 {
			t.Errorf("leases: got %d, want those of 10 guests", n)
		}
		time.Sleep(youngOffer)
		held := node.MAC{2, 0, 0, 4, 0, 0}
		b.must(discover(held), dhcpv4.MessageTypeOffer) // for which the oldest gives way
		if b.server.Leases.offers[key{number(testSubnet().Prefix.Addr()), macID(held)}] == nil {
			t.Error("the offer after the flood is not held")
		}
	})
}

// While leases are gone through for a new configuration, packets are answered;
// and no order of events makes an address go to two machines, or get lost.
func TestConfigureUnderLoad(t *testing.T) {
	sub := testSubnet()
	sub.Prefix, sub.Pools = netip.MustParsePrefix("10.77.0.0/16"), []Pool{pool10("10.77.1.0", "10.77.16.255")}
	other := sub
	other.Pools = []Pool{pool10("10.77.1.0", "10.77.8.255"), pool10("10.77.9.0", "10.77.16.255")}
	l, at, k := NewLeases(), time.Now(), number(sub.Prefix.Addr())
	l.Configure([]Subnet{sub}, nil, fixed{})
	take := func(s *Subnet, i int) (netip.Addr, bool) {
		b := bid{subnet: s, key: key{k, macID(node.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)})}, classes: bitUnknown}
		a, _, ok := l.Offer(b, Boot{}, at)
		b.asked = a
		v, _, _ := l.Claim(claim{bid: b, dur: time.Hour, selecting: true}, nil, at)
		return a, ok && v == ack
	}
	const all = 16 * 256
	for i := range all {
		if _, ok := take(&sub, i); !ok {
			t.Fatalf("machine %d: got no address", i)
		}
	}
	at = at.Add(2 * time.Hour) // all have ended
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for i := range 50 {
			l.Configure([]Subnet{[]Subnet{other, sub}[i%2]}, nil, fixed{})
		}
	})
	for i := range all { // strangers that take the addresses of those
		take(&sub, all+i)
	}
	reloads.Wait()
	for i := range all { // those that met a reload ask again
		if _, ok := take(&sub, all+i); !ok {
			t.Errorf("machine %d after the reloads: got no address", i)
		}
	}
	owners := map[netip.Addr]key{}
	for id, i := range l.book.byKey {
		r := l.book.at(i)
		if a := address(r.addr); owners[a] != (key{}) && owners[a] != id {
			t.Errorf("%v is leased to %v and %v", a, owners[a], id)
		}
		owners[address(r.addr)] = id
	}
	if len(owners) != all || len(l.book.byAddr) != all {
		t.Errorf("addresses leased: got %d and %d, want all %d", len(owners), len(l.book.byAddr), all)
	}
}

// An address that is excluded while it is leased is not given to anybody once
// its lease is gone.
func TestExcludedWhileLeased(t *testing.T) {
	sub := testSubnet()
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		addr := b.lease(m1)
		sub.Exclude = []Range{{addr, addr}}
		sub.Pools = []Pool{{Range: Range{addr, addr.Next()}}}
		b.server.Configure([]Subnet{sub}, nil, fixed{})
		if _, ok, err := b.server.Forget(addr); !ok || err != nil {
			t.Fatalf("forget %v: %v, %v", addr, ok, err)
		}
		if got := b.lease(m1); got == addr {
			t.Errorf("got the excluded address %v", got)
		}
		b.silent(discover(m2))
	})
}

// What a packet costs does not depend on how many leases are idle: here all of
// them are of a pool that is not for the client.
func BenchmarkReuse(b *testing.B) {
	for _, bits := range []int{22, 13} {
		b.Run(fmt.Sprint(1<<(32-bits)), func(b *testing.B) {
			sub := testSubnet()
			sub.Prefix = netip.MustParsePrefix("10.0.0.0/8")
			mine, theirs := pool10("10.1.0.1", "10.1.0.1"), netip.MustParsePrefix(fmt.Sprintf("10.64.0.0/%d", bits))
			last := number(theirs.Addr()) + 1<<(32-bits) - 1
			sub.Pools = []Pool{mine, {Range: Range{theirs.Addr(), address(last)}, Class: "phones"}}
			l, at, phones := NewLeases(), time.Now(), classBit([]Class{{Name: "phones"}}, "phones")
			l.Configure([]Subnet{sub}, []Class{{Name: "phones"}}, fixed{})
			bid := bid{subnet: &sub, key: key{subnet: number(sub.Prefix.Addr())}, classes: bitUnknown}
			take := func(id int, classes classSet, a netip.Addr) {
				bid.key.id, bid.classes, bid.asked = clientID(id)|idMAC, classes, a
				l.Claim(claim{bid: bid, dur: time.Hour, selecting: true}, nil, at)
			}
			for a := number(theirs.Addr()); a <= last; a++ {
				take(int(a), bitUnknown|phones, address(a))
			}
			take(1, bitUnknown, mine.First)
			at = at.Add(2 * time.Hour)
			l.expire(at.Unix())
			bid.classes = bitUnknown
			for i := 0; b.Loop(); i++ {
				bid.key.id, bid.asked = clientID(i)|idMAC, netip.Addr{}
				if a, _, ok := l.Offer(bid, Boot{}, at); !ok || a != mine.First {
					b.Fatalf("got %v, %v, want %v", a, ok, mine.First)
				}
				l.Withdraw(bid.key)
			}
		})
	}
}

func TestTooManyPackets(t *testing.T) {
	one(t, func(b *bench) {
		answers := 0
		for range 100 {
			if b.ask(discover(m1)) != nil {
				answers++
			}
		}
		if answers != clientRate {
			t.Errorf("answers to 100 packets in a second: got %d, want %d", answers, clientRate)
		}
		b.must(discover(m2), dhcpv4.MessageTypeOffer)
		time.Sleep(time.Second)
		b.must(discover(m1), dhcpv4.MessageTypeOffer)
	})
}

// What a client says of itself cannot write to a terminal by way of the log,
// and nothing of it goes into a name we give out.
func TestC31HostName(t *testing.T) {
	one(t, func(b *bench) {
		b.lease(m1, with(12, []byte("a\x1b[31m\n${net0/mac}||reboot")...))
		if s := fmt.Sprintf("%+v", b.events); bytes.ContainsAny([]byte(s), "\x1b") {
			t.Errorf("an event has the raw name: %q", s)
		}
		if e := b.step(timeline.Ack); e.Node != "" || e.File != "" || e.Detail != "" {
			t.Errorf("got %+v, want nothing that the client chose", e)
		}
	})
}

// Two weeks in the life of a segment: machines boot, renew, leave and come
// back; no address is ever held by two, and a machine that comes back in time
// has its address.
func TestTwoWeeks(t *testing.T) {
	sub := testSubnet()
	sub.Lease = 12 * time.Hour
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		type state struct {
			addr  netip.Addr
			until time.Time
		}
		held := map[node.MAC]state{}
		for hour := range 14 * 24 {
			for i := range 60 {
				mac := node.MAC{2, 0, 0, 9, 0, byte(i)}
				was := held[mac]
				switch {
				case (hour+i)%(5+i%7) != 0: // not now
				case was.addr.IsValid() && time.Now().Before(was.until):
					if r := b.ask(renewing(mac, was.addr)); r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
						t.Fatalf("hour %d: renewal of %v by %v: got %v, want ACK", hour, was.addr, mac, r)
					}
					held[mac] = state{was.addr, time.Now().Add(sub.Lease)}
				default:
					held[mac] = state{b.lease(mac), time.Now().Add(sub.Lease)}
				}
			}
			owner := map[netip.Addr]node.MAC{}
			for mac, s := range held {
				if other, taken := owner[s.addr]; taken && time.Now().Before(s.until) && time.Now().Before(held[other].until) {
					t.Fatalf("hour %d: %v is held by %v and %v", hour, s.addr, mac, other)
				}
				owner[s.addr] = mac
			}
			time.Sleep(time.Hour)
			if hour%100 == 99 {
				b.stop()
				b.start([]Subnet{sub}, fixed{})
			}
		}
	})
}

// A node's one reserved address goes from the NIC that booted to the one that
// the system uses. While a system has it, the other NIC gets one of the pool.
func TestNodeWithTwoNICs(t *testing.T) {
	mine := netip.MustParseAddr("10.77.0.11")
	firmware := with(60, []byte("PXEClient:Arch:00007")...)
	run(t, []Subnet{testSubnet()}, fixed{m1: mine, m2: mine}, func(b *bench) {
		if got := b.lease(m1, firmware); got != mine {
			t.Fatalf("firmware: got %v, want %v", got, mine)
		}
		if got := b.lease(m2); got != mine {
			t.Errorf("system on the other NIC: got %v, want %v", got, mine)
		}
		if got := b.lease(m1, firmware); !testSubnet().Pools[0].Contains(got) {
			t.Errorf("firmware while the system has the address: got %v, want one of the pool", got)
		}
		b.must(renewing(m2, mine), dhcpv4.MessageTypeAck)
	})
	run(t, []Subnet{testSubnet()}, fixed{m1: mine, m2: mine}, func(b *bench) {
		one, two := yiaddr(b.ask(discover(m1))), yiaddr(b.ask(discover(m2)))
		if one != mine || two == mine || !two.IsValid() {
			t.Errorf("both at once: got %v and %v, want %v and one of the pool", one, two, mine)
		}
	})
}

// A client that declines whatever it is offered does not empty the pool: a
// tenth of the addresses rests, and no more.
func TestDeclineDoesNotEmptyThePool(t *testing.T) {
	one(t, func(b *bench) {
		for range 300 {
			if r := b.ask(discover(m1)); r != nil {
				b.silent(message(m1, dhcpv4.MessageTypeDecline, withAddr(54, serverAddr), withAddr(50, yiaddr(r))))
			}
			time.Sleep(time.Second)
		}
		resting := 0
		for _, l := range b.server.Leases.All() {
			if l.State == Declined && l.Active(time.Now().Add(2*reuseGrace)) {
				resting++
			}
		}
		if resting != 10 {
			t.Errorf("addresses in quarantine: got %d of 100, want a tenth", resting)
		}
		b.lease(m2)
	})
}

// A client that writes option 82 itself chooses neither a subnet nor who we are.
func TestAgentOptionWithoutRelay(t *testing.T) {
	own, other := testSubnet(), behindRelay("10.99.0.0/24", "10.99.0.100", "10.99.0.199")
	run(t, []Subnet{own, other}, fixed{}, func(b *bench) {
		r := b.must(discover(m1, with(82, 5, 4, 10, 99, 0, 0, 11, 4, 10, 99, 0, 9)), dhcpv4.MessageTypeOffer)
		if !own.Prefix.Contains(yiaddr(r)) || addrOf(optionOf(r, 54)) != serverAddr {
			t.Errorf("got %v from %v, want an address of %v from %v", yiaddr(r), addrOf(optionOf(r, 54)), own.Prefix, serverAddr)
		}
	})
}

// bootsBy is an inventory that names as file what the classes of a machine want.
type bootsBy struct{ fixed }

func (bootsBy) Boot(c Client, _ netip.Addr) Boot { return Boot{File: "by-" + c.Loader.String()} }

// The first class with a loader counts, in the OFFER as in the ACK.
func TestLoaderOfClass(t *testing.T) {
	classes := []Class{
		{Name: "all", Match: Match{VendorClass: "PXEClient"}},
		{Name: "arm", Match: Match{Arch: []Arch{11}}, Loader: node.LoaderGRUB},
		{Name: "efi", Match: Match{Arch: []Arch{7, 11}}, Loader: node.LoaderIPXE},
	}
	synctestRun(t, []Subnet{testSubnet()}, classes, bootsBy{}, func(b *bench) {
		for arch, want := range map[byte]string{0: "by-", 7: "by-ipxe", 11: "by-grub"} {
			mods := []dhcpv4.Modifier{with(optClass, []byte("PXEClient")...), with(optArch, 0, arch)}
			offer := b.must(discover(m1, mods...), dhcpv4.MessageTypeOffer)
			ack := b.must(selecting(m1, yiaddr(offer), mods...), dhcpv4.MessageTypeAck)
			if offer.BootFileName != want || ack.BootFileName != want {
				t.Errorf("architecture %d: got %q and %q, want %q", arch, offer.BootFileName, ack.BootFileName, want)
			}
		}
	})
}
