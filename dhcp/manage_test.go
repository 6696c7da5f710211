package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

func at(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, last}) }

func mac(last byte) node.MAC { return node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, last} }

// onDisk returns what a server would know after a crash.
func (b *bench) onDisk() map[netip.Addr]Lease {
	b.t.Helper()
	again := NewLeases()
	if err := again.Load(b.disk); err != nil {
		b.t.Fatal(err)
	}
	all := map[netip.Addr]Lease{}
	for l := range again.Each() {
		all[l.Addr] = l
	}
	return all
}

// A lease that an administrator ends is over at once, on disk too, whoever has
// it; its address stays with its machine while nobody else needs it.
func TestFree(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		was, ok, err := b.server.Free(addr)
		if err != nil || !ok || was.MAC != m1 || was.State != Bound {
			t.Fatalf("got %+v, %v, %v, want the lease of %v", was, ok, err, m1)
		}
		if got := b.onDisk()[addr]; got.State != Released || got.Active(time.Now()) {
			t.Errorf("on disk: got %+v, want it released", got)
		}
		if e := b.step(timeline.Freed); e == nil || e.Addr != addr || e.MAC != m1 {
			t.Errorf("event: got %+v", e)
		}
		for _, a := range []netip.Addr{addr, at(150), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1"), {}} {
			if _, ok, err := b.server.Free(a); ok || err != nil {
				t.Errorf("Free(%v) of no lease: got %v, %v, want false, nil", a, ok, err)
			}
		}
		if got := b.lease(m1); got != addr {
			t.Errorf("address after that: got %v, want %v again", got, addr)
		}
	})
}

func TestFreeDeclined(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		b.silent(message(m1, dhcpv4.MessageTypeDecline, withAddr(optRequestedAddr, addr)))
		if got := b.onDisk()[addr]; got.State != Declined {
			t.Fatalf("on disk: got %+v, want it declined", got)
		}
		if was, ok, err := b.server.Free(addr); err != nil || !ok || was.State != Declined {
			t.Fatalf("got %+v, %v, %v", was, ok, err)
		}
		if got := b.onDisk(); len(got) != 0 {
			t.Errorf("on disk: got %v, want nothing", got)
		}
		if got := yiaddr(b.must(discover(m1, withAddr(optRequestedAddr, addr)), dhcpv4.MessageTypeOffer)); got != addr {
			t.Errorf("offer: got %v, want %v, which is free", got, addr)
		}
	})
}

func TestAssign(t *testing.T) {
	one(t, func(b *bench) {
		outcome, l, err := b.server.Assign(Lease{Addr: at(150), MAC: m1, State: Bound})
		if err != nil || outcome != Added || !l.Expires.Equal(time.Now().Add(time.Hour)) {
			t.Fatalf("got %v, %+v, %v, want it added for an hour", outcome, l, err)
		}
		if got := b.onDisk()[at(150)]; got.MAC != m1 || !got.Expires.Equal(l.Expires) {
			t.Errorf("on disk: got %+v", got)
		}
		if e := b.step(timeline.Assigned); e == nil || e.MAC != m1 || e.Addr != at(150) {
			t.Errorf("event: got %+v", e)
		}
		if got := b.lease(m1); got != at(150) {
			t.Errorf("the machine gets %v, want %v", got, at(150))
		}
		soon := time.Now().Add(time.Minute)
		if outcome, _, err := b.server.Assign(Lease{Addr: at(150), MAC: m1, State: Bound, Expires: soon}); err != nil || outcome != Updated {
			t.Errorf("a sooner end: got %v, %v, want it updated", outcome, err)
		}
		if got, _ := b.server.Leases.ByAddr(at(150)); !got.Expires.Equal(soon) {
			t.Errorf("end: got %v, want %v", got.Expires, soon)
		}
	})
}

// What allocation would not do is refused, each with its own reason.
func TestGrantRefusals(t *testing.T) {
	sub := testSubnet()
	sub.Exclude = []Range{{at(120), at(121)}}
	sub.Pools = append(sub.Pools, Pool{Range{at(10), at(19)}, ClassKnown}, Pool{Range{at(20), at(29)}, "site"})
	other := testSubnet()
	other.Interface, other.Prefix, other.Unknown = "eth1", netip.MustParsePrefix("10.78.0.0/24"), IgnoreUnknown
	other.Pools = []Pool{pool10("10.78.0.10", "10.78.0.19")}
	machines := fixed{mac(1): at(11), mac(2): at(130)}
	beside := Subnet{Interface: "eth2", Prefix: netip.MustParsePrefix("10.79.0.0/24"), Proxy: true}
	run(t, []Subnet{sub, other}, machines, func(b *bench) {
		b.server.Configure([]Subnet{sub, other, beside}, []Class{{Name: "site", Match: Match{VendorClass: "x"}}}, machines)
		held, declined, offered, ended := b.lease(mac(3)), b.lease(mac(4)), yiaddr(b.must(discover(mac(5)), dhcpv4.MessageTypeOffer)), b.lease(mac(6))
		b.silent(message(mac(4), dhcpv4.MessageTypeDecline, withAddr(optRequestedAddr, declined)))
		b.silent(message(mac(6), dhcpv4.MessageTypeRelease, withCIAddr(ended)))
		end := utc(time.Now().Add(time.Hour))
		for _, tt := range []struct {
			l    Lease
			want string
		}{
			{Lease{Addr: netip.MustParseAddr("192.0.2.1"), MAC: m1}, "in no subnet of the configuration"},
			{Lease{Addr: netip.MustParseAddr("10.79.0.10"), MAC: m1}, "another server leases the addresses of subnet 10.79.0.0/24"},
			{Lease{Addr: netip.MustParseAddr("10.78.0.10"), MAC: m1}, "subnet 10.78.0.0/24 is for machines of the inventory only"},
			{Lease{Addr: at(50), MAC: m1}, "in no pool of subnet 10.77.0.0/24"},
			{Lease{Addr: at(0), MAC: m1}, "in no pool of subnet 10.77.0.0/24"},
			{Lease{Addr: at(121), MAC: m1}, "excluded in subnet 10.77.0.0/24"},
			{Lease{Addr: at(130), MAC: m1}, "reserved for another machine"},
			{Lease{Addr: at(130), MAC: mac(1)}, "reserved for another machine"},
			{Lease{Addr: at(140), MAC: mac(1)}, "the address reserved for its machine is 10.77.0.11"},
			{Lease{Addr: at(12), MAC: m1}, "in a pool of subnet 10.77.0.0/24 that is not for its machine"},
			{Lease{Addr: held, MAC: m1}, "leased to 52:54:00:aa:bb:03 until " + end},
			{Lease{Addr: declined, MAC: m1}, "declined, because another host uses it, until " + end},
			{Lease{Addr: offered, MAC: m1}, "being offered to 52:54:00:aa:bb:05"},
			{Lease{Addr: ended, MAC: m1}, "leased to 52:54:00:aa:bb:06 until a moment ago: free at " + utc(time.Now().Add(30*time.Second))},
			{Lease{Addr: at(140), MAC: mac(3)}, "its machine has " + held.String() + " until " + end},
			{Lease{Addr: held, State: Declined}, "leased to 52:54:00:aa:bb:03 until " + end},

			{Lease{Addr: at(11), MAC: mac(1)}, ""},
			{Lease{Addr: offered, MAC: mac(5)}, ""},
			{Lease{Addr: at(20), MAC: m1}, ""}, // it may be of class site
			{Lease{Addr: at(141), ClientID: "abc"}, ""},
			{Lease{Addr: at(142), State: Declined}, ""},
		} {
			if tt.l.State == 0 {
				tt.l.State = Bound
			}
			before := b.disk.len()
			outcome, _, err := b.server.Assign(tt.l)
			switch {
			case tt.want == "" && (err != nil || outcome != Added || b.disk.len() != before+1):
				t.Errorf("%v for %v: got %v, %v, want it added", tt.l.Addr, tt.l.MAC, outcome, err)
			case tt.want != "" && (err == nil || err.Error() != tt.want || b.disk.len() != before):
				t.Errorf("%v for %v: got %v, want %q", tt.l.Addr, tt.l.MAC, err, tt.want)
			}
		}
	})
}

// A store that fails is told, and an order to a server that does not run too.
func TestByHandDurable(t *testing.T) {
	one(t, func(b *bench) {
		b.disk.broken = errors.New("disk full")
		if _, _, err := b.server.Assign(Lease{Addr: at(150), MAC: m1, State: Bound}); err == nil || err.Error() != "in force, but not on disk: disk full" {
			t.Errorf("got %v, want an error that says that it is not on disk", err)
		}
		if e := b.step(timeline.Assigned); e != nil {
			t.Errorf("event: got %+v, want none", e)
		}
		if _, err := b.server.NewImport(false).Add([]Numbered{{1, Lease{Addr: at(151), MAC: m2, State: Bound}}}); err == nil {
			t.Error("import: got nil, want an error")
		}
		b.disk.broken = nil
		b.stop()
		for _, err := range []error{
			func() error { _, _, err := b.server.Assign(Lease{Addr: at(152), MAC: m1}); return err }(),
			func() error { _, _, err := b.server.Free(at(150)); return err }(),
			func() error { _, err := b.server.NewImport(false).Add(nil); return err }(),
		} {
			if !errors.Is(err, ErrNotServing) {
				t.Errorf("after the stop: got %v, want ErrNotServing", err)
			}
		}
		b.start([]Subnet{testSubnet()}, fixed{})
	})
}

func TestImport(t *testing.T) {
	for _, dry := range []bool{true, false} {
		one(t, func(b *bench) {
			now := time.Now()
			held := b.lease(mac(1))
			bound := func(line int, a netip.Addr, m node.MAC, end time.Duration) Numbered {
				return Numbered{line, Lease{Addr: a, MAC: m, State: Bound, Expires: now.Add(end), Start: now.Add(-time.Hour), Hostname: "h", ClientID: "c"}}
			}
			before := b.onDisk()
			im := b.server.NewImport(dry)
			var got []string
			for _, batch := range [][]Numbered{{
				bound(1, held, mac(1), 2*time.Hour),
				bound(2, at(150), mac(2), time.Hour),
				bound(3, at(150), mac(3), time.Hour),
				bound(4, at(151), mac(2), time.Hour),
			}, {
				bound(5, at(150), mac(4), time.Hour),
				bound(6, at(50), mac(5), time.Hour),
				bound(7, at(152), mac(6), -time.Hour),
				{8, Lease{Addr: at(153), MAC: mac(7), State: Released, Expires: now.Add(time.Hour)}},
				{9, Lease{Addr: at(154), State: Declined, Expires: now.Add(time.Hour)}},
			}} {
				results, err := im.Add(batch)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range results {
					got = append(got, fmt.Sprint(r.Outcome, " ", r.Err))
				}
			}
			want := []string{
				"2 <nil>", "1 <nil>", "0 on line 2 already", "0 its machine has another address of subnet 10.77.0.0/24 on line 2",
				"0 on line 2 already", "0 in no pool of subnet 10.77.0.0/24", "1 <nil>", "1 <nil>", "1 <nil>",
			}
			if !slices.Equal(got, want) {
				t.Errorf("dry %v: got %q\nwant %q", dry, got, want)
			}
			after := b.onDisk()
			if dry {
				if len(after) != len(before) {
					t.Errorf("dry: got %v on disk, want %v", after, before)
				}
				return
			}
			for a, want := range map[netip.Addr]Lease{
				held:    {Addr: held, State: Bound, MAC: mac(1), Start: now.Add(-time.Hour), Expires: now.Add(2 * time.Hour), ClientID: "c", Hostname: "h"},
				at(150): {Addr: at(150), State: Bound, MAC: mac(2), Start: now.Add(-time.Hour), Expires: now.Add(time.Hour), ClientID: "c", Hostname: "h"},
				at(152): {Addr: at(152), State: Bound, MAC: mac(6), Start: now.Add(-time.Hour), Expires: now.Add(-time.Hour), ClientID: "c", Hostname: "h"},
				at(153): {Addr: at(153), State: Released, MAC: mac(7), Start: now, Expires: now},
				at(154): {Addr: at(154), State: Declined, Start: now, Expires: now.Add(time.Hour)},
			} {
				got := after[a]
				got.Start, got.Expires, want.Start, want.Expires = got.Start.UTC(), got.Expires.UTC(), want.Start.UTC(), want.Expires.UTC()
				if got != want {
					t.Errorf("%v: got %+v\nwant %+v", a, got, want)
				}
			}
			// Once more changes nothing.
			again, err := b.server.NewImport(false).Add([]Numbered{bound(1, held, mac(1), time.Hour), bound(2, at(150), mac(2), time.Hour)})
			if err != nil || again[0] != (Result{}) || again[1] != (Result{}) {
				t.Errorf("again: got %+v, %v, want both kept", again, err)
			}
		})
	}
}

// Administrators and clients change the same addresses at once. What memory
// says in the end is what is on disk.
func TestByHandBesideClients(t *testing.T) {
	one(t, func(b *bench) {
		var wg sync.WaitGroup
		var addrs []netip.Addr
		for i := range byte(8) {
			addrs = append(addrs, b.lease(mac(10+i)))
		}
		for i, addr := range addrs {
			i := byte(i)
			wg.Go(func() {
				for range 50 {
					b.server.Free(addr)
					b.server.Assign(Lease{Addr: addr, MAC: mac(10 + i), State: Bound})
				}
			})
			wg.Go(func() {
				for range 50 {
					b.dhcp.in <- inboundPacket{b: renewing(mac(10+i), addr).ToBytes(), from: netip.AddrPortFrom(addr, 68), to: serverAddr}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		disk := b.onDisk()
		for l := range b.server.Leases.Each() {
			if got := disk[l.Addr]; l.State == Bound && got.State != Bound {
				t.Errorf("%v: on disk %v, in memory %v", l.Addr, got.State, l.State)
			}
		}
	})
}

func filled(n int) *Leases {
	l := NewLeases()
	first, last := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.15.255.254")
	sub := Subnet{Prefix: netip.MustParsePrefix("10.0.0.0/12"), Lease: time.Hour, Authoritative: true, Pools: []Pool{{Range: Range{first, last}}}}
	l.Configure([]Subnet{sub}, nil, fixed{})
	now := time.Now()
	for i := range n {
		a := number(first) + uint32(i)
		mac := node.MAC{2, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
		k := key{number(sub.Prefix.Addr()), macID(mac)}
		l.bindLocked(claim{bid: bid{subnet: &sub, key: k, asked: address(a)}, dur: time.Hour, clientID: append([]byte{1}, mac[:]...), hostname: []byte("host")}, nil, now.Unix())
	}
	return l
}

func TestEach(t *testing.T) {
	l := filled(3*pieceLen + 7)
	var got []netip.Addr
	for lease := range l.Each() {
		got = append(got, lease.Addr)
	}
	if len(got) != 3*pieceLen+7 || !slices.IsSortedFunc(got, netip.Addr.Compare) {
		t.Errorf("got %d leases, sorted %v; want %d, sorted", len(got), slices.IsSortedFunc(got, netip.Addr.Compare), 3*pieceLen+7)
	}
	for range l.Each() {
		break // is allowed
	}
}

// Half a million leases are listed in pieces. What clients wait for one
// is what counts: it must stay within a few milliseconds. The 99th percentile
// leaves out the scheduler of a machine that has other things to do.
func BenchmarkEach(b *testing.B) {
	l := filled(500_000)
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for range l.Each() {
				n++
			}
			if n != 500_000 {
				b.Fatalf("got %d leases, want 500000", n)
			}
		}
	})
	b.Run("piece", func(b *testing.B) {
		addrs := l.addrs()
		to := make([]Lease, 0, pieceLen)
		var took []time.Duration
		for i := 0; b.Loop(); i++ {
			first := i * pieceLen % (len(addrs) - pieceLen)
			start := time.Now()
			l.views(to, addrs[first:first+pieceLen])
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	})
}

// A piece of an import into half a million leases: what clients wait for.
func BenchmarkGrantPiece(b *testing.B) {
	l := filled(500_000)
	sub := l.spaces[number(netip.MustParseAddr("10.0.0.0"))].Subnet
	var took []time.Duration
	for i := 500_000; b.Loop(); i += grantLen {
		i := 500_000 + i%500_000
		batch := make([]grant, grantLen)
		for j := range batch {
			n := i + j
			m := node.MAC{2, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
			a := address(number(netip.MustParseAddr("10.0.0.1")) + uint32(n))
			batch[j] = grant{bid: bid{subnet: sub, key: key{number(sub.Prefix.Addr()), macID(m)}, asked: a},
				lease: Lease{Addr: a, MAC: m, State: Bound, Expires: time.Now().Add(time.Hour)}}
		}
		start := time.Now()
		if changes := l.Grant(batch, false, start); len(changes) > grantLen {
			b.Fatal(len(changes))
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

func TestKeyString(t *testing.T) {
	for k, want := range map[key]string{
		{1, macID(node.MAC{0x52, 0x54, 0x41, 0x42, 0x43, 0x44})}: "52:54:41:42:43:44",
		// The first seven bytes of the SHA-256 of "ab", by sha256sum.
		{1, digestID([]byte("ab"))}: "client fb8e20fc2e4c3f",
		{1, 0}:                      "nobody",
	} {
		if got := k.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// An address that is forgotten is the next machine's at once, while one that is
// only freed waits for a machine that may still use it.
func TestForget(t *testing.T) {
	one(t, func(b *bench) {
		addr := b.lease(m1)
		ask := func() netip.Addr {
			return yiaddr(b.must(discover(m2, withAddr(optRequestedAddr, addr)), dhcpv4.MessageTypeOffer))
		}
		if _, ok, err := b.server.Free(addr); !ok || err != nil {
			t.Fatalf("Free: got %v, %v", ok, err)
		}
		if got := ask(); got == addr {
			t.Errorf("after Free: got %v, which its machine had a moment ago", got)
		}
		if was, ok, err := b.server.Forget(addr); err != nil || !ok || was.MAC != m1 {
			t.Fatalf("got %+v, %v, %v, want what is left of the lease of %v", was, ok, err, m1)
		}
		if got := b.onDisk(); len(got) != 0 {
			t.Errorf("on disk: got %v, want nothing", got)
		}
		if _, ok, err := b.server.Forget(addr); ok || err != nil {
			t.Errorf("again: got %v, %v, want false, nil", ok, err)
		}
		b.must(discover(m1, withAddr(optRequestedAddr, addr)), dhcpv4.MessageTypeOffer)
		b.server.Forget(addr) // withdraws the offer
		if outcome, _, err := b.server.Assign(Lease{Addr: addr, MAC: m2}); outcome != Added || err != nil {
			t.Errorf("to another machine: got %v, %v, want that it is leased", outcome, err)
		}
	})
}
