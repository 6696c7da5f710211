package dhcp

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
)

// The tests of this file are named for the cases of the project's protocol
// reference; the clause each rests on is named in its comment.

func one(t *testing.T, test func(b *bench)) {
	t.Helper()
	run(t, []Subnet{testSubnet()}, fixed{}, test)
}

// RFC 2131, section 4.3.1, table 3; RFC 1542, section 2.1.
func TestC01BroadcastOffer(t *testing.T) {
	one(t, func(b *bench) {
		d := discover(m1, withFlags(0x8000))
		r := b.must(d, dhcpv4.MessageTypeOffer)
		if r.to != netip.MustParseAddrPort("255.255.255.255:68") || r.fromPort != 67 || !r.frame.IsZero() {
			t.Errorf("sent from port %d to %v frame %v, want from 67 to 255.255.255.255:68", r.fromPort, r.to, r.frame)
		}
		if r.TransactionID != d.TransactionID || !bytes.Equal(r.ClientHWAddr, m1[:]) || r.Flags != 0x8000 {
			t.Errorf("xid %v chaddr %v flags %#x, want those of the request", r.TransactionID, r.ClientHWAddr, r.Flags)
		}
		if a := yiaddr(r); !testSubnet().Pools[0].Contains(a) {
			t.Errorf("yiaddr got %v, want one of the pool", a)
		}
		for _, code := range []uint8{50, 55, 57, 61} {
			if r.Options.Has(dhcpv4.GenericOptionCode(code)) {
				t.Errorf("offer has option %d, which it must not", code)
			}
		}
		if got := addrOf(r.Options.Get(dhcpv4.OptionServerIdentifier)); got != serverAddr {
			t.Errorf("server identifier got %v, want %v", got, serverAddr)
		}
		if got := r.Options.Get(dhcpv4.OptionSubnetMask); !bytes.Equal(got, []byte{255, 255, 255, 0}) {
			t.Errorf("subnet mask got %v, want 255.255.255.0", got)
		}
		if r.IPAddressLeaseTime(0) != time.Hour {
			t.Errorf("lease time got %v, want 1h", r.IPAddressLeaseTime(0))
		}
		if len(r.raw) < 300 {
			t.Errorf("reply is %d bytes, want at least 300", len(r.raw))
		}
	})
}

// RFC 2131, section 4.1: no broadcast flag, no address yet.
func TestC02UnicastOffer(t *testing.T) {
	one(t, func(b *bench) {
		r := b.must(discover(m1), dhcpv4.MessageTypeOffer)
		if r.to.Addr() != yiaddr(r) || r.to.Port() != 68 || r.frame != m1 {
			t.Errorf("sent to %v frame %v, want to %v:68 frame %v", r.to, r.frame, yiaddr(r), m1)
		}
	})
}

// RFC 2131, section 3.1 step 4: committed before the ACK, and there after a crash.
func TestC03AckIsDurable(t *testing.T) {
	one(t, func(b *bench) {
		offer := b.must(discover(m1), dhcpv4.MessageTypeOffer)
		if n := b.disk.len(); n != 0 {
			t.Errorf("records after an offer: got %d, want 0", n)
		}
		b.disk.broken = errDiskFull
		b.silent(selecting(m1, yiaddr(offer)))
		if e := b.step(timeline.Ack); e == nil || e.Err == "" {
			t.Errorf("event of the failed ACK: got %+v, want one with an error", e)
		}
		b.disk.broken = nil
		ack := b.must(selecting(m1, yiaddr(offer)), dhcpv4.MessageTypeAck)
		if yiaddr(ack) != yiaddr(offer) {
			t.Errorf("ACK of %v, want %v", yiaddr(ack), yiaddr(offer))
		}
		b.stop() // the disk is all that survives
		b.start([]Subnet{testSubnet()}, fixed{})
		b.must(rebooting(m1, yiaddr(ack)), dhcpv4.MessageTypeAck)
	})
}

// RFC 2131, section 3.1 step 3.
func TestC04OtherServerChosen(t *testing.T) {
	one(t, func(b *bench) {
		offer := b.must(discover(m1), dhcpv4.MessageTypeOffer)
		b.silent(selecting(m1, yiaddr(offer), withAddr(54, netip.MustParseAddr("10.77.0.9"))))
		again := b.must(discover(m2, withAddr(50, yiaddr(offer))), dhcpv4.MessageTypeOffer)
		if yiaddr(again) != yiaddr(offer) {
			t.Errorf("address of the refused offer: got %v for the next client, want %v", yiaddr(again), yiaddr(offer))
		}
	})
}

// RFC 2131, section 4.3.2, table 3 for NAK.
func TestC05NakForAnotherAddress(t *testing.T) {
	one(t, func(b *bench) {
		offer := b.must(discover(m1), dhcpv4.MessageTypeOffer)
		other := netip.MustParseAddr("10.77.0.150")
		if other == yiaddr(offer) {
			other = other.Next()
		}
		r := b.must(selecting(m1, other), dhcpv4.MessageTypeNak)
		if r.to.String() != "255.255.255.255:68" || yiaddr(r).IsValid() || addrOf(r.ServerIPAddr).IsValid() || r.BootFileName != "" {
			t.Errorf("NAK to %v yiaddr %v siaddr %v file %q, want broadcast and empty fields", r.to, r.YourIPAddr, r.ServerIPAddr, r.BootFileName)
		}
		if r.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
			t.Error("NAK has a lease time, which it must not")
		}
	})
}

// RFC 6842, section 3.
func TestC06ClientIDEchoed(t *testing.T) {
	for _, id := range [][]byte{append([]byte{1}, m1[:]...), {0xff, 1, 2, 3, 4, 5, 6, 7, 8}, {7}, bytes.Repeat([]byte{9}, 255)} {
		one(t, func(b *bench) {
			offer := b.must(discover(m1, with(61, id...)), dhcpv4.MessageTypeOffer)
			ack := b.must(selecting(m1, yiaddr(offer), with(61, id...)), dhcpv4.MessageTypeAck)
			nak := b.must(selecting(m1, netip.MustParseAddr("192.168.9.9"), with(61, id...)), dhcpv4.MessageTypeNak)
			for _, r := range []*sent{offer, ack, nak} {
				if got := r.Options.Get(dhcpv4.OptionClientIdentifier); !bytes.Equal(got, id) {
					t.Errorf("%v: client identifier got %x, want %x", r.MessageType(), got, id)
				}
			}
		})
	}
}

// One machine, one address through firmware, iPXE, initrd and system.
func TestC07ClientIDIsNoIdentity(t *testing.T) {
	one(t, func(b *bench) {
		first := b.lease(m1)
		for _, id := range [][]byte{append([]byte{1}, m1[:]...), {0xff, 1, 2, 3, 4, 0, 2, 0, 0}} {
			if got := b.lease(m1, with(61, id...)); got != first {
				t.Errorf("address with client-id %x: got %v, want %v", id, got, first)
			}
		}
	})
}

func TestC08SameClientIDOnTwoMachines(t *testing.T) {
	one(t, func(b *bench) {
		if a, c := b.lease(m1, with(61, 1, 2, 3)), b.lease(m2, with(61, 1, 2, 3)); a == c {
			t.Errorf("two machines with one client-id: both got %v", a)
		}
	})
}

// RFC 2131, section 4.3.2, INIT-REBOOT.
func TestC09WrongNetwork(t *testing.T) {
	one(t, func(b *bench) { b.must(rebooting(m1, netip.MustParseAddr("192.168.9.9")), dhcpv4.MessageTypeNak) })
}

func TestC10Reboot(t *testing.T) {
	one(t, func(b *bench) { b.must(rebooting(m1, b.lease(m1)), dhcpv4.MessageTypeAck) })
}

// RFC 2131, section 4.3.2: MUST remain silent.
func TestC11NotAuthoritative(t *testing.T) {
	sub := testSubnet()
	sub.Authoritative = false
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		b.silent(rebooting(m1, netip.MustParseAddr("10.77.0.120")))
		b.silent(rebooting(m1, netip.MustParseAddr("192.168.9.9")))
		b.must(rebooting(m2, b.lease(m2)), dhcpv4.MessageTypeAck)
	})
}

// RFC 2131, section 4.3.2, RENEWING and REBINDING.
func TestC12C13Renew(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		for name, p := range map[string]inboundPacket{
			"C12 unicast":   {b: renewing(m1, addr).ToBytes(), from: netip.AddrPortFrom(addr, 68), to: serverAddr},
			"C13 broadcast": {b: renewing(m1, addr).ToBytes(), from: netip.AddrPortFrom(addr, 68), to: everybody},
		} {
			r := b.exchange(b.dhcp, p)
			if r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
				t.Fatalf("%s: got %v, want ACK", name, r)
			}
			if r.to != netip.AddrPortFrom(addr, 68) || addrOf(r.ClientIPAddr) != addr || yiaddr(r) != addr || r.IPAddressLeaseTime(0) != time.Hour {
				t.Errorf("%s: to %v ciaddr %v yiaddr %v lease %v, want all of %v for 1h", name, r.to, r.ClientIPAddr, r.YourIPAddr, r.IPAddressLeaseTime(0), addr)
			}
		}
	})
}

// RFC 2131, section 4.3.3.
func TestC14Decline(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		b.silent(message(m1, dhcpv4.MessageTypeDecline, withAddr(54, serverAddr), withAddr(50, addr)))
		if b.step(timeline.Decline) == nil {
			t.Error("no event of the DECLINE")
		}
		for _, mac := range []node.MAC{m1, m2} {
			if got := yiaddr(b.must(discover(mac, withAddr(50, addr)), dhcpv4.MessageTypeOffer)); got == addr {
				t.Errorf("declined address %v offered to %v", addr, mac)
			}
		}
		b.stop()
		b.start([]Subnet{testSubnet()}, fixed{})
		if got := yiaddr(b.must(discover(m2, withAddr(50, addr)), dhcpv4.MessageTypeOffer)); got == addr {
			t.Errorf("declined address %v offered after a restart", addr)
		}
		time.Sleep(declineHold + reuseGrace)
		if got := yiaddr(b.must(discover(m2, withAddr(50, addr)), dhcpv4.MessageTypeOffer)); got != addr {
			t.Errorf("after the quarantine: got %v, want %v", got, addr)
		}
	})
}

func TestC15ForgedDeclineAndRelease(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		b.silent(message(m2, dhcpv4.MessageTypeDecline, withAddr(54, serverAddr), withAddr(50, addr)))
		b.silent(message(m2, dhcpv4.MessageTypeRelease, withAddr(54, serverAddr), withCIAddr(addr)))
		if got, ok := b.server.Leases.ByAddr(addr); !ok || got.MAC != m1 || !got.Active(time.Now()) {
			t.Errorf("lease after forged DECLINE and RELEASE: got %+v, want active for %v", got, m1)
		}
	})
}

// RFC 2131, sections 4.3.4 and 4.3.1.
func TestC16ReleaseKeepsAddressForItsClient(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		b.silent(message(m1, dhcpv4.MessageTypeRelease, withAddr(54, serverAddr), withCIAddr(addr)))
		if got := yiaddr(b.must(discover(m2, withAddr(50, addr)), dhcpv4.MessageTypeOffer)); got == addr {
			t.Errorf("released address %v offered to another machine while the pool has unused ones", addr)
		}
		if got := b.lease(m1); got != addr {
			t.Errorf("after release: got %v, want %v", got, addr)
		}
	})
}

// RFC 2131, section 4.3.5.
func TestC17Inform(t *testing.T) {
	one(t, func(b *bench) {
		addr := netip.MustParseAddr("10.77.0.50")
		r := b.must(message(m1, dhcpv4.MessageTypeInform, withCIAddr(addr)), dhcpv4.MessageTypeAck)
		if r.to != netip.AddrPortFrom(addr, 68) || yiaddr(r).IsValid() || r.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
			t.Errorf("to %v yiaddr %v lease time %v, want unicast to %v and neither", r.to, r.YourIPAddr, r.IPAddressLeaseTime(0), addr)
		}
		if got := addrOf(r.Options.Get(dhcpv4.OptionRouter)); got != testSubnet().Router {
			t.Errorf("router got %v, want %v", got, testSubnet().Router)
		}
		if n := len(b.server.Leases.All()); n != 0 {
			t.Errorf("leases after INFORM: got %d, want 0", n)
		}
	})
}

func TestC18PoolExhausted(t *testing.T) {
	sub := testSubnet()
	sub.Pools = []Pool{pool10("10.77.0.100", "10.77.0.101")}
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		first := b.lease(m1)
		b.lease(m2)
		m3 := node.MAC{0x52, 0x54, 0, 0, 0, 3}
		b.silent(discover(m3))
		if e := b.step(timeline.NoAddr); e == nil || e.MAC != m3 {
			t.Errorf("event of the exhausted pool: got %+v, want one for %v", e, m3)
		}
		time.Sleep(30 * time.Minute)
		b.must(renewing(m2, b.lease(m2)), dhcpv4.MessageTypeAck)
		time.Sleep(30*time.Minute + reuseGrace + time.Second) // m1's lease has ended, m2's has not
		if got := b.lease(m3); got != first {
			t.Errorf("address after the first lease ended: got %v, want %v", got, first)
		}
	})
}

// RFC 2131, sections 4.3.1 and 3.3.
func TestC19LeaseTimeAskedFor(t *testing.T) {
	one(t, func(b *bench) {
		for asked, want := range map[uint32]time.Duration{60: minLease, 1800: 30 * time.Minute, 0xffffffff: time.Hour} {
			v := []byte{byte(asked >> 24), byte(asked >> 16), byte(asked >> 8), byte(asked)}
			if got := b.must(discover(m1, with(51, v...)), dhcpv4.MessageTypeOffer).IPAddressLeaseTime(0); got != want {
				t.Errorf("asked for %d s: got %v, want %v", asked, got, want)
			}
		}
	})
}

// RFC 2131, section 4.4.5.
func TestC20T1T2(t *testing.T) {
	one(t, func(b *bench) {
		r := b.must(discover(m1, with(55, 58, 59)), dhcpv4.MessageTypeOffer)
		if t1, t2 := r.IPAddressRenewalTime(0), r.IPAddressRebindingTime(0); t1 != 30*time.Minute || t2 != 3150*time.Second {
			t.Errorf("T1 %v T2 %v, want 30m0s and 52m30s", t1, t2)
		}
	})
}

func TestC21OffersExpire(t *testing.T) {
	one(t, func(b *bench) {
		for i := range 200 {
			b.ask(discover(node.MAC{2, 0, 0, 0, 1, byte(i)}))
		}
		b.lease(m1) // at once, though the pool is of 100
		time.Sleep(offerHold + time.Second)
		b.lease(m2)
		if n := b.disk.len(); n != 2 {
			t.Errorf("records on disk: got %d, want 2", n)
		}
		if n := len(b.server.Leases.offers); n != 0 {
			t.Errorf("open offers: got %d, want none after %v", n, offerHold)
		}
	})
}

func TestC23TruncatedAndMutated(t *testing.T) {
	one(t, func(b *bench) {
		whole := vector(t, "ovmf_pxe_discover")
		for n := range whole {
			b.askBytes(whole[:n])
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 100_000 {
			p := bytes.Clone(whole)
			p[rnd.IntN(len(p))] = byte(rnd.Int())
			x := &exchange{inbound: inbound{n: len(p), peer: broadcast68, to: everybody, arrived: time.Now()}}
			copy(x.buf[:], p)
			b.server.handle(newLink(b.dhcp, "eth0", ServerPort), x, &outbox{})
		}
		time.Sleep(offerHold + declineHold)
		b.must(discover(m2), dhcpv4.MessageTypeOffer)
	})
}

func TestC24OptionsEndAnyhow(t *testing.T) {
	p := discover(m1).ToBytes()
	end := bytes.LastIndexByte(p, 255)
	for name, b := range map[string][]byte{
		"no END":             p[:end],
		"pads before":        append(append(bytes.Clone(p[:headerLen]), 0, 0, 0), p[headerLen:]...),
		"garbage after":      append(bytes.Clone(p[:end+1]), 0xde, 0xad, 0xbe, 0xef),
		"truncated last one": append(bytes.Clone(p[:end]), 12, 200, 'x'),
	} {
		one(t, func(bench *bench) {
			if r := bench.askBytes(b); r == nil || r.MessageType() != dhcpv4.MessageTypeOffer {
				t.Errorf("%s: got %v, want OFFER", name, r)
			}
		})
	}
}

// RFC 2131, section 4.1: option overload.
func TestC25Overload(t *testing.T) {
	one(t, func(b *bench) {
		p := discover(m1, with(52, 1)).ToBytes()
		copy(p[offFile:], []byte{55, 2, 58, 59, 255})
		r := b.askBytes(p)
		if r == nil || !r.Options.Has(dhcpv4.OptionRenewTimeValue) {
			t.Errorf("parameter list in the file field: got %v, want an offer with T1", r)
		}
	})
}

// RFC 3396, section 7.
func TestC26SplitOption(t *testing.T) {
	one(t, func(b *bench) {
		p := discover(m1).ToBytes()
		end := bytes.LastIndexByte(p, 255)
		r := b.askBytes(append(bytes.Clone(p[:end]), 55, 1, 58, 55, 1, 59, 255))
		if r == nil || !r.Options.Has(dhcpv4.OptionRenewTimeValue) || !r.Options.Has(dhcpv4.OptionRebindingTimeValue) {
			t.Errorf("parameter list in two parts: got %v, want both times", r)
		}
	})
}

// RFC 2132, section 9.10; RFC 2131, section 2.
func TestC27Size(t *testing.T) {
	all := make([]byte, 60)
	for i := range all {
		all[i] = byte(i + 1)
	}
	for _, c := range []struct {
		name  string
		mods  []dhcpv4.Modifier
		limit int
	}{
		{"57=576", []dhcpv4.Modifier{with(57, 0x02, 0x40)}, 548},
		{"57=65280", []dhcpv4.Modifier{with(57, 0xff, 0x00)}, 1472},
		{"57 absent", nil, 548},
	} {
		sub := testSubnet()
		for i := range 120 {
			sub.DNS = append(sub.DNS, netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}))
			sub.NTP = append(sub.NTP, netip.AddrFrom4([4]byte{10, 1, 2, byte(i)}))
		}
		run(t, []Subnet{sub}, fixed{}, func(b *bench) {
			r := b.must(discover(m1, append(c.mods, with(55, all...))...), dhcpv4.MessageTypeOffer)
			if len(r.raw) > c.limit {
				t.Errorf("%s: reply is %d bytes, want at most %d", c.name, len(r.raw), c.limit)
			}
			if !r.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || r.raw[len(bytes.TrimRight(r.raw, "\x00"))-1] != 255 {
				t.Errorf("%s: reply lost its lease time or its END", c.name)
			}
		})
	}
}

// RFC 1542, section 2.1; RFC 2131.
func TestC28NotForUs(t *testing.T) {
	change := func(at int, v byte) []byte {
		p := discover(m1).ToBytes()
		p[at] = v
		return p
	}
	noType := discover(m1)
	noType.Options.Del(dhcpv4.OptionDHCPMessageType)
	for name, b := range map[string][]byte{
		"op=2":             change(0, 2),
		"hlen=17":          change(2, 17),
		"chaddr multicast": change(28, 0x01),
		"cookie":           change(offCookie, 0),
		"hops=17":          change(3, 17),
		"53 missing":       noType.ToBytes(),
		"53 empty":         discover(m1, with(53)).ToBytes(),
		"nothing":          {},
		// protocol.md, section 1.1: relays loop, or answers go where nobody asked
		"giaddr is ours":      discover(m1, withRelay(serverAddr)).ToBytes(),
		"giaddr loopback":     discover(m1, withRelay(netip.MustParseAddr("127.0.0.1")), with(82, 5, 4, 10, 77, 0, 0)).ToBytes(),
		"giaddr multicast":    discover(m1, withRelay(netip.MustParseAddr("224.0.0.1")), with(82, 5, 4, 10, 77, 0, 0)).ToBytes(),
		"giaddr all ones":     discover(m1, withRelay(everybody), with(82, 5, 4, 10, 77, 0, 0)).ToBytes(),
		"InfiniBand, no 61":   infiniBand().ToBytes(), // RFC 4390, section 2.1: MUST be there
		"InfiniBand, 61 of 1": infiniBand(with(61, 1)).ToBytes(),
	} {
		one(t, func(bench *bench) {
			if r := bench.askBytes(b); r != nil {
				t.Errorf("%s: got %v, want silence", name, r.MessageType())
			}
		})
	}
}

// RFC 3046, section 2.2; RFC 2131, section 4.1.
func TestC29C32C36Relay(t *testing.T) {
	sub := testSubnet()
	sub.Prefix, sub.Relayed = netip.MustParsePrefix("10.88.0.0/24"), true
	sub.Pools = []Pool{pool10("10.88.0.100", "10.88.0.199")}
	relay := netip.MustParseAddr("10.88.0.1")
	run(t, []Subnet{testSubnet(), sub}, fixed{}, func(b *bench) {
		agent := []byte{1, 4, 'e', 't', 'h', '0', 2, 1, 'x', 151, 0}
		r := b.must(discover(m1, withRelay(relay), with(82, agent...)), dhcpv4.MessageTypeOffer)
		if r.to != netip.AddrPortFrom(relay, 67) || !sub.Prefix.Contains(yiaddr(r)) || addrOf(r.GatewayIPAddr) != relay {
			t.Errorf("offer to %v of %v, want to %v:67 of %v", r.to, yiaddr(r), relay, sub.Prefix)
		}
		tail := append(append([]byte{82, byte(len(agent))}, agent...), 255)
		if !bytes.HasSuffix(bytes.TrimRight(r.raw, "\x00"), tail) {
			t.Errorf("option 82 is not the last one byte by byte: % x", r.raw[headerLen:])
		}
		wrong := message(m2, dhcpv4.MessageTypeRequest, withAddr(50, netip.MustParseAddr("10.77.0.100")), withRelay(relay))
		if r := b.must(wrong, dhcpv4.MessageTypeNak); r.to.Addr() != relay || r.Flags&0x8000 == 0 {
			t.Errorf("C36: NAK to %v flags %#x, want to the relay with the broadcast bit", r.to, r.Flags)
		}
		b.silent(discover(m1, withRelay(netip.MustParseAddr("10.99.0.1")))) // C33
	})
}

// A request that waited for longer than its client does is not answered: the
// client has asked anew, and an old answer would only confuse it.
func TestStaleRequestIsDropped(t *testing.T) {
	one(t, func(b *bench) {
		time.Sleep(time.Hour)
		p := inboundPacket{b: discover(m1).ToBytes(), from: broadcast68, to: everybody, age: shedAge + time.Millisecond, many: true}
		if r := b.exchange(b.dhcp, p); r != nil {
			t.Errorf("DISCOVER that waited for %v with many others: got %v, want silence", p.age, r.MessageType())
		}
		p.many = false
		if r := b.exchange(b.dhcp, p); r == nil {
			t.Errorf("DISCOVER that waited for %v alone: got silence, want an offer", p.age)
		}
		p.age = shedAge
		offer := b.exchange(b.dhcp, p)
		if offer == nil {
			t.Fatal("got silence for a DISCOVER that is young enough")
		}
		p.b, p.age = selecting(m1, yiaddr(offer)).ToBytes(), maxAge+time.Millisecond
		if r := b.exchange(b.dhcp, p); r != nil {
			t.Errorf("REQUEST that waited for %v: got %v, want silence", p.age, r.MessageType())
		}
		p.age = maxAge
		if r := b.exchange(b.dhcp, p); r == nil {
			t.Error("got silence for a REQUEST that is young enough")
		}
	})
}

func infiniBand(mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	p := discover(m1, append(mods, withFlags(0x8000))...)
	p.HWType, p.ClientHWAddr = htypeInfiniBand, nil
	return p
}

// RFC 4390, section 2.1: InfiniBand has no hardware address in the header.
func TestC30InfiniBand(t *testing.T) {
	one(t, func(b *bench) {
		ib := func(id ...byte) *dhcpv4.DHCPv4 { return infiniBand(with(61, id...)) }
		one, two := b.must(ib(0xff, 1, 1), dhcpv4.MessageTypeOffer), b.must(ib(0xff, 2, 2), dhcpv4.MessageTypeOffer)
		again := b.must(ib(0xff, 1, 1), dhcpv4.MessageTypeOffer)
		if yiaddr(one) == yiaddr(two) || yiaddr(one) != yiaddr(again) {
			t.Errorf("got %v, %v and %v, want two addresses by client-id", yiaddr(one), yiaddr(two), yiaddr(again))
		}
	})
}

// slow is a disk that takes its time.
type slow struct {
	*disk
	took time.Duration
}

func (s slow) Apply(changes []store.Change) error {
	time.Sleep(s.took)
	return s.disk.Apply(changes)
}

// An answer that the disk held up for too long is not sent: see maxAge.
func TestStaleAnswerIsNotSent(t *testing.T) {
	one(t, func(b *bench) {
		addr := yiaddr(b.must(discover(m1), dhcpv4.MessageTypeOffer))
		for _, row := range []struct {
			took time.Duration
			sent bool
		}{{maxAge - time.Second, true}, {maxAge + time.Second, false}} {
			b.server.Store = slow{b.disk, row.took}
			b.ask(selecting(m1, addr))
			if r := b.next(time.Minute); (r != nil) != row.sent {
				t.Errorf("disk took %v: got %v, want an answer: %v", row.took, r, row.sent)
			}
		}
	})
}
