package dhcp

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"bootd/internal/node"
	"bootd/internal/store"
)

// aMillion is a journal of a million leases as the server writes them.
func aMillion(b *testing.B, n int) *store.Journal {
	b.Helper()
	j, err := store.OpenJournal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { j.Close() })
	var batch []store.Change
	now := time.Now().Unix()
	for i := range n {
		id := macID(node.MAC(binary.BigEndian.AppendUint32([]byte{2, 0}, uint32(i))))
		r := record{
			addr: 10<<24 + 256 + uint32(i), state: Bound, key: key{10 << 24, id}, start: now, expires: now + 3600 + int64(i),
			saidMAC: true,
		}
		if batch = append(batch, store.Change{Key: binary.BigEndian.AppendUint32(nil, r.addr), Value: r.append(nil, said{})}); len(batch) == 1024 {
			if err := j.Apply(batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if err := j.Apply(batch); err != nil {
		b.Fatal(err)
	}
	return j
}

func wideSubnet() Subnet {
	s := testSubnet()
	s.Prefix = netip.MustParsePrefix("10.0.0.0/8")
	s.Pools = []Pool{pool10("10.0.1.0", "10.31.255.254")}
	return s
}

// The start of a server that holds a million leases.
func BenchmarkRestart(b *testing.B) {
	j := aMillion(b, 1_000_000)
	for b.Loop() {
		leases := NewLeases()
		if err := leases.Load(j); err != nil {
			b.Fatal(err)
		}
		leases.Configure([]Subnet{wideSubnet()}, nil, fixed{})
		if leases.Len() != 1_000_000 {
			b.Fatalf("leases: got %d, want a million", leases.Len())
		}
	}
}

// Memory that a lease takes while it is held.
func BenchmarkLeaseMemory(b *testing.B) {
	const n = 500_000
	j := aMillion(b, n)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		leases := NewLeases()
		if err := leases.Load(j); err != nil {
			b.Fatal(err)
		}
		leases.Configure([]Subnet{wideSubnet()}, nil, fixed{})
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/lease")
		runtime.KeepAlive(leases)
	}
}

// One exchange of a new client through the decisions, without sockets and
// disk, with none and with half a million leases held.
func BenchmarkExchange(b *testing.B) {
	for name, held := range map[string]int{"held=0": 0, "held=500000": 500_000} {
		b.Run(name, func(b *testing.B) {
			s := &Server{Leases: NewLeases()}
			if held > 0 {
				if err := s.Leases.Load(aMillion(b, held)); err != nil {
					b.Fatal(err)
				}
			}
			s.Configure([]Subnet{wideSubnet()}, nil, fixed{})
			s.setDefaults()
			l := newLink(nowhere{}, "eth0", ServerPort)
			x, out, i := new(exchange), outbox{}, 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				mac := [6]byte{4, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
				p := discover(mac)
				p.Flags = 0x8000
				x.receive(p.ToBytes())
				s.handle(l, x, &out)
				offered := x.reply.addrAt(offYIAddr)
				out.flush()
				x.receive(selecting(mac, offered).ToBytes())
				s.handle(l, x, &out)
				for j := range out.acks {
					out.acks[j].settle(&out, nil)
				}
				out.acks = out.acks[:0]
				out.flush()
			}
		})
	}
}

// An exchange of a machine that has had its address before takes no memory, so
// that no collection holds up the packets of others.
func TestExchangeTakesNoMemory(t *testing.T) {
	s := &Server{Leases: NewLeases()}
	s.Configure([]Subnet{wideSubnet()}, nil, fixed{})
	s.setDefaults()
	l := newLink(nowhere{}, "eth0", ServerPort)
	x, out := new(exchange), outbox{}
	var changes []store.Change
	var buf []byte
	from, i := discover(m1).ToBytes(), 0
	exchange := func() {
		i++
		from[offCHAddr+3] = byte(i % 64) // within what one machine may send a second
		x.receive(from)
		s.handle(l, x, &out)
		offered := x.reply.addrAt(offYIAddr)
		out.flush()
		v, _, changed := s.Leases.Claim(claim{bid: x.bid(offered), selecting: true, dur: time.Hour}, x.changed[:0], x.now)
		if x.changed = changed; v != ack {
			t.Fatalf("exchange %d: got verdict %v for %v", i, v, offered)
		}
		changes, buf = s.Leases.Records(changes[:0], buf[:0], changed)
	}
	for range 64 {
		exchange()
	}
	if n := testing.AllocsPerRun(500, exchange); n != 0 {
		t.Errorf("got %v allocations an exchange, want none", n)
	}
}

func (x *exchange) receive(p []byte) {
	x.n, x.peer, x.to, x.arrived = copy(x.buf[:], p), broadcast68, everybody, time.Now()
}

// nowhere is a conn that sends nothing.
type nowhere struct{ conn }

func (nowhere) Send([]outbound) {}
func (nowhere) MTU() int        { return 1500 }
