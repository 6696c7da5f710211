package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

func probing() Subnet {
	s := testSubnet()
	s.Probe = 200 * time.Millisecond
	return s
}

// next returns the next reply that comes within d.
func (b *bench) next(d time.Duration) *sent {
	select {
	case r := <-b.dhcp.out:
		return &r
	case <-time.After(d):
		return nil
	}
}

// RFC 2131, section 3.1, step 2: another host has the address.
func TestC22Conflict(t *testing.T) {
	other := node.MAC{2, 9, 9, 9, 9, 9}
	var first netip.Addr
	run(t, []Subnet{testSubnet()}, fixed{}, func(b *bench) { first = yiaddr(b.ask(discover(m1))) })
	run(t, []Subnet{probing()}, fixed{}, func(b *bench) {
		b.dhcp.hosts[first] = other
		began := time.Now()
		b.silent(discover(m1)) // not at once
		r := b.next(time.Second)
		if r == nil || yiaddr(r) == first {
			t.Fatalf("got %v, want an offer of another address than %v", r, first)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("offer took %v, want at most 500ms", took)
		}
		if e := b.step(timeline.Conflict); e == nil || e.Addr != first {
			t.Errorf("event: got %+v, want a conflict at %v", e, first)
		}
		time.Sleep(time.Second)
		b.ask(discover(m2, withAddr(50, first)))
		if r := b.next(time.Second); r == nil || yiaddr(r) == first {
			t.Errorf("the address in conflict was offered again: %v", r)
		}
	})
}

// The client itself may answer: it kept an address that we forgot.
func TestProbeOwnAddress(t *testing.T) {
	run(t, []Subnet{probing()}, fixed{}, func(b *bench) {
		addr := netip.MustParseAddr("10.77.0.150")
		b.dhcp.hosts[addr] = m1
		if r := b.ask(discover(m1, withAddr(50, addr))); r == nil || yiaddr(r) != addr {
			t.Errorf("got %v, want an offer of %v at once", r, addr)
		}
	})
}

// A client that had its address is not kept waiting, and nobody waits for
// another client's probe.
func TestProbeBlocksNobody(t *testing.T) {
	run(t, []Subnet{probing()}, fixed{}, func(b *bench) {
		b.silent(discover(m1))
		offer := b.next(time.Second)
		b.must(selecting(m1, yiaddr(offer)), dhcpv4.MessageTypeAck)
		b.silent(discover(m2))
		b.must(discover(m1), dhcpv4.MessageTypeOffer)
		if r := b.next(time.Second); r == nil || node.MAC(r.ClientHWAddr) != m2 {
			t.Errorf("got %v, want the offer to %v", r, m2)
		}
	})
}

// A client that asks again while its address is probed waits on, and is answered
// by its last question: the probe is not skipped. Neither does a rapid commit
// skip it.
func TestProbeIsNotSkipped(t *testing.T) {
	other := node.MAC{2, 9, 9, 9, 9, 9}
	rapid := probing()
	rapid.RapidCommit = true
	for _, c := range []struct {
		name string
		sub  Subnet
		mods []dhcpv4.Modifier
		want dhcpv4.MessageType
	}{
		{"offer", probing(), nil, dhcpv4.MessageTypeOffer},
		{"rapid commit", rapid, []dhcpv4.Modifier{with(optRapidCommit)}, dhcpv4.MessageTypeAck},
	} {
		var first netip.Addr
		run(t, []Subnet{testSubnet()}, fixed{}, func(b *bench) { first = yiaddr(b.ask(discover(m1))) })
		run(t, []Subnet{c.sub}, fixed{}, func(b *bench) {
			b.silent(discover(m1, c.mods...))
			time.Sleep(150 * time.Millisecond)
			again := discover(m1, c.mods...)
			b.silent(again)
			r := b.next(100 * time.Millisecond)
			if r == nil || r.TransactionID != again.TransactionID || r.MessageType() != c.want || yiaddr(r) != first {
				t.Fatalf("%s: got %v, want %v of %v to the second question, 200 ms after the first", c.name, r, c.want, first)
			}
			if r := b.next(time.Minute); r != nil {
				t.Errorf("%s: got %v too, want one answer", c.name, r)
			}
		})
		run(t, []Subnet{c.sub}, fixed{}, func(b *bench) {
			b.dhcp.hosts[first] = other
			b.silent(discover(m1, c.mods...))
			if r := b.next(time.Second); r == nil || r.MessageType() != c.want || yiaddr(r) == first {
				t.Errorf("%s: got %v, want %v of another address than %v, which a host has", c.name, r, c.want, first)
			}
		})
	}
}

// A disk that is full for hours, and hosts that decline and hold addresses, are
// worth a line a minute, not one a packet.
func TestLogIsLimited(t *testing.T) {
	one(t, func(b *bench) {
		var lines bytes.Buffer
		b.server.Log = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
		b.disk.broken = errDiskFull
		for i := range 500 {
			mac := node.MAC{2, 0, 0, 0, 1, byte(i)}
			if r := b.ask(discover(mac)); r != nil {
				b.silent(selecting(mac, yiaddr(r)))
				b.silent(message(mac, dhcpv4.MessageTypeDecline, withAddr(optRequestedAddr, yiaddr(r))))
			}
		}
		if n := strings.Count(lines.String(), "\n"); n == 0 || n > 3 {
			t.Errorf("got %d lines, want one of the disk, one of declined addresses and one of the empty pool:\n%.1000s", n, &lines)
		}
	})
}

// everyone is an inventory in which every machine is a node.
type everyone struct{ fixed }

func (everyone) Find(c Client) Machine { return Machine{Name: "ncn-" + c.MAC.Hyphen()} }

// A disk that is full is told with a line a minute, also of nodes, that says how
// many leases were not acknowledged; and when it has room again.
func TestFullDiskIsTold(t *testing.T) {
	run(t, []Subnet{testSubnet()}, everyone{}, func(b *bench) {
		var lines bytes.Buffer
		b.server.Log = slog.New(slog.NewTextHandler(&lines, nil))
		ask := func(times int) {
			for i := range times {
				mac := node.MAC{2, 0, 0, 0, 1, byte(i)}
				addr := yiaddr(b.must(discover(mac), dhcpv4.MessageTypeOffer))
				b.ask(selecting(mac, addr))
			}
		}
		b.disk.broken = errDiskFull
		ask(20)
		time.Sleep(warnEvery)
		ask(20)
		b.disk.broken = nil
		ask(2)
		var got []string
		for line := range strings.Lines(lines.String()) {
			if strings.Contains(line, "disk") {
				_, msg, _ := strings.Cut(line, "level=")
				got = append(got, strings.TrimSpace(msg))
			}
		}
		const not = `ERROR msg="leases not on disk, so not acknowledged; said once a minute" `
		want := []string{not + "leases=1 err=\"" + errDiskFull.Error() + "\"", not + "leases=20 err=\"" + errDiskFull.Error() + "\"", `WARN msg="leases are written to disk again" lost=19`}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// More clients than there may be probes are offered an address without.
func TestProbesAreBounded(t *testing.T) {
	sub := probing()
	sub.Pools = []Pool{pool10("10.77.0.1", "10.77.255.254")}
	sub.Prefix, sub.Server = netip.MustParsePrefix("10.77.0.0/16"), netip.MustParseAddr("10.77.255.254")
	run(t, []Subnet{sub}, fixed{}, func(b *bench) {
		for i := range maxProbes {
			b.silent(discover(node.MAC{2, 0, 0, 4, byte(i >> 8), byte(i)}))
		}
		b.must(discover(m1), dhcpv4.MessageTypeOffer)
	})
}

// hasty is a conn on which the answer comes before the question is out, which
// then fails.
type hasty struct {
	*pipe
	taken func(netip.Addr)
}

func (h hasty) Ask(a netip.Addr, _ bool) error { h.taken(a); return errors.New("network is down") }

// Once a probe waits, its exchange belongs to whoever takes it: an offer that
// somebody has answered meanwhile does not go out a second time, from a packet
// that may be another client's by then.
func TestProbeTakenWhileAsking(t *testing.T) {
	p := newProber()
	var took *probe
	h := hasty{newPipe(), func(a netip.Addr) { took = p.take(a) }}
	sub := probing()
	x := &exchange{request: request{link: newLink(h, "eth0", ServerPort)}, subnet: &sub}
	pr := &probe{exchange: x, addr: netip.MustParseAddr("10.77.0.150")}
	if held := p.add(pr); took != pr || !held {
		t.Errorf("got taken %v, held %v; want that who took it has it", took == pr, held)
	}
}

// The system's clock is not the clock of leases.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		future := time.Now().Add(240 * time.Hour)
		c := newClock(future)
		time.Sleep(time.Minute)
		if got, want := c.now(), future.Add(time.Minute); !got.Equal(want) {
			t.Errorf("host in the past: got %v, want %v", got, want)
		}
		c = newClock(time.Time{})
		if got := c.now(); !got.Equal(time.Now()) {
			t.Errorf("got %v, want %v", got, time.Now())
		}
	})
}

// failing is a conn whose socket has failed.
type failing struct{ *pipe }

func (failing) Recv([]*exchange) (int, error) { return 0, errors.New("network is down") }

// An interface that goes away is served again when it is back.
func TestInterfaceComesBack(t *testing.T) {
	one(t, func(b *bench) {
		l := newLink(failing{newPipe()}, "eth1", ServerPort)
		back, tries := newPipe(), 0
		l.open = func() (conn, error) {
			if tries++; tries < 5 {
				return nil, errNoInterface
			}
			return back, nil
		}
		ctx, cancel := context.WithCancel(b.t.Context())
		done := make(chan error)
		go func() { done <- b.server.receive(ctx, l) }()
		time.Sleep(10 * time.Second)
		if l.conn() != conn(back) || tries != 5 {
			t.Errorf("after 10 s: got %d tries, want the socket that opened at the fifth", tries)
		}
		sub := testSubnet()
		sub.Interface = "eth1"
		b.server.Configure([]Subnet{sub}, nil, fixed{})
		if r := b.exchange(back, inboundPacket{b: discover(m1).ToBytes(), from: broadcast68, to: everybody}); r == nil {
			t.Error("got silence on the interface that came back")
		}
		cancel()
		l.interrupt()
		if err := <-done; err != nil {
			t.Errorf("receive after cancel: got %v, want nil", err)
		}
	})
}

// RFC 5227, section 1.1, and RFC 826: what we send is a probe, and a host that
// answers it is read.
func TestARP(t *testing.T) {
	src, addr := node.MAC{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.77.0.150")
	want := []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 77, 0, 150,
	}
	got := arpProbe(src, addr)
	if string(got) != string(want) {
		t.Errorf("probe: got % x, want % x", got, want)
	}
	if _, _, ok := arpSender(got); ok {
		t.Error("a probe says that its sender has an address")
	}
	reply := append([]byte{}, want...)
	reply[21] = arpReply
	copy(reply[etherLen+offARPSender:], m2[:])
	copy(reply[etherLen+offARPFrom:], addr.AsSlice())
	if a, mac, ok := arpSender(reply); !ok || a != addr || mac != m2 {
		t.Errorf("reply: got %v %v %v, want %v of %v", a, mac, ok, addr, m2)
	}
}

// What the kernel drops is counted for each socket, and told once a minute with
// how much it was, the rest too when nothing more is dropped.
func TestKernelDropsAreTold(t *testing.T) {
	one(t, func(b *bench) {
		var lines bytes.Buffer
		b.server.Log = slog.New(slog.NewTextHandler(&lines, nil))
		time.Sleep(reopenEvery / 2) // between two looks
		for range 3 {
			b.dhcp.drops.Store(&Drops{Full: 5, Shed: 100})
			b.pxe.drops.Store(&Drops{})
			time.Sleep(reopenEvery)
		}
		time.Sleep(2 * warnEvery)
		var got []string
		for line := range strings.Lines(lines.String()) {
			_, counts, _ := strings.Cut(line, "once a minute\" ")
			got = append(got, strings.TrimSpace(counts))
		}
		if want := []string{"iface=eth0 port=67 full=5 shed=100", "iface=eth0 port=67 full=10 shed=200"}; !slices.Equal(got, want) {
			t.Errorf("log: got %q, want %q", got, want)
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(b.server.Metrics.kernel)
		families, err := reg.Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("got %v, %v, want one metric", families, err)
		}
		var counts []string
		for _, m := range families[0].Metric { // sorted, with labels in the order of their names
			counts = append(counts, fmt.Sprint(m.Label[1].GetValue(), " ", m.Label[2].GetValue(), " ", m.Counter.GetValue()))
		}
		if want := []string{"4011 overload 0", "4011 socket full 0", "67 overload 300", "67 socket full 15"}; !slices.Equal(counts, want) {
			t.Errorf("%s: got %q, want %q", families[0].GetName(), counts, want)
		}
	})
}
