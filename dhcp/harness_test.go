package dhcp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bootd/internal/node"
	"bootd/internal/store"
	"bootd/internal/timeline"
)

// The segment of protocol.md, section 7: server .1, pool .100 to .199, two
// machines.
var (
	serverAddr = netip.MustParseAddr("10.77.0.1")
	m1         = node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 7}
	m2         = node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 8}
)

func testSubnet() Subnet {
	return Subnet{
		Interface: "eth0", Prefix: netip.MustParsePrefix("10.77.0.0/24"), Server: serverAddr,
		Pools:  []Pool{pool10("10.77.0.100", "10.77.0.199")},
		Router: netip.MustParseAddr("10.77.0.254"), DNS: []netip.Addr{netip.MustParseAddr("10.77.0.53")},
		Domain: "mtl", Lease: time.Hour, BootLease: 20 * time.Minute, Authoritative: true,
	}
}

func pool10(first, last string) Pool {
	return Pool{Range: Range{netip.MustParseAddr(first), netip.MustParseAddr(last)}}
}

// fixed is an inventory of reserved addresses by MAC.
type fixed map[node.MAC]netip.Addr

func (f fixed) Find(c Client) Machine {
	if f[c.MAC].IsValid() {
		return Machine{Name: "ncn-m001", Addr: f[c.MAC]}
	}
	return Machine{}
}
func (f fixed) Reservations() (all []netip.Addr) {
	for _, a := range f {
		all = append(all, a)
	}
	return all
}
func (f fixed) Boot(c Client, server netip.Addr) Boot {
	switch {
	case c.Stage == timeline.IPXE:
		return Boot{File: "http://" + server.String() + "/boot/script.ipxe"}
	case c.Stage == timeline.UEFIHTTP:
		return Boot{File: "http://" + server.String() + "/boot/snponly.efi"}
	case c.Arch == ArchPi:
		return Boot{File: "bootcode.bin"}
	case c.Arch == 0:
		return Boot{File: "undionly.kpxe"}
	case c.Arch == 7 || c.Arch == 9:
		return Boot{File: "snponly.efi"}
	}
	return Boot{}
}

// disk is a store in memory that can fail.
type disk struct {
	mu      sync.Mutex
	records map[string][]byte
	broken  error
}

func (d *disk) Apply(changes []store.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	for _, c := range changes {
		if c.Value == nil {
			delete(d.records, string(c.Key))
			continue
		}
		d.records[string(c.Key)] = bytes.Clone(c.Value)
	}
	return nil
}

func (d *disk) Replay(visit func(store.Change) error) error {
	for k, v := range d.records {
		if err := visit(store.Change{Key: []byte(k), Value: v}); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.records)
}

// sent is a reply as it left the server.
type sent struct {
	*dhcpv4.DHCPv4
	raw []byte
	destination
}

// pipe is a conn of channels.
type pipe struct {
	in   chan inboundPacket
	out  chan sent
	wake chan struct{}
	once sync.Once

	hosts map[netip.Addr]node.MAC // other hosts on the link
	asked chan netip.Addr
	drops atomic.Pointer[Drops] // nil: none
}

type inboundPacket struct {
	b    []byte
	from netip.AddrPort
	to   netip.Addr
	age  time.Duration // it waited in the socket
	many bool          // with many others
}

func newPipe() *pipe {
	return &pipe{in: make(chan inboundPacket, 4096), out: make(chan sent, 4096), wake: make(chan struct{}), hosts: map[netip.Addr]node.MAC{}, asked: make(chan netip.Addr, 4096)}
}

func (p *pipe) Ask(a netip.Addr, _ bool) error { p.asked <- a; return nil }

func (p *pipe) Answers(taken func(netip.Addr, node.MAC)) {
	for {
		select {
		case a := <-p.asked:
			if mac, ok := p.hosts[a]; ok {
				taken(a, mac)
			}
		case <-p.wake:
			return
		}
	}
}

func (p *pipe) Recv(batch []*exchange) (int, error) {
	select {
	case pkt := <-p.in:
		in := &batch[0].inbound
		in.n = copy(in.buf[:], pkt.b)
		in.peer, in.to, in.arrived, in.queued = pkt.from, pkt.to, time.Now().Add(-pkt.age), pkt.many
		return 1, nil
	case <-p.wake:
		return 0, os.ErrDeadlineExceeded
	}
}

func (p *pipe) Send(batch []outbound) {
	for i := range batch {
		reply, err := dhcpv4.FromBytes(batch[i].payload)
		batch[i].err = err
		p.out <- sent{reply, bytes.Clone(batch[i].payload), batch[i].to}
	}
}

func (p *pipe) SetReadDeadline(time.Time) error { p.once.Do(func() { close(p.wake) }); return nil }
func (p *pipe) MTU() int                        { return 1500 }
func (p *pipe) Gone() bool                      { return false }
func (p *pipe) Dropped() Drops {
	if d := p.drops.Swap(nil); d != nil {
		return *d
	}
	return Drops{}
}

func (p *pipe) Close() error { return nil }

// bench is a running server in a synctest bubble.
type bench struct {
	t       *testing.T
	server  *Server
	disk    *disk
	dhcp    *pipe
	pxe     *pipe
	mu      sync.Mutex // guards events
	events  []timeline.Event
	classes []Class // of the next start
	stop    func()
}

// run starts a server for the subnets and calls test in a bubble of fake time.
func run(t *testing.T, subnets []Subnet, machines Machines, test func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, disk: &disk{records: map[string][]byte{}}}
		b.start(subnets, machines)
		test(b)
		b.stop()
	})
}

// start runs a server on what is on b's disk, as after a restart.
func (b *bench) start(subnets []Subnet, machines Machines) {
	b.dhcp, b.pxe = newPipe(), newPipe()
	b.server = &Server{Leases: NewLeases(), Store: b.disk, Record: func(e timeline.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}}
	if err := b.server.Leases.Load(b.disk); err != nil {
		b.t.Fatal(err)
	}
	b.server.Configure(subnets, b.classes, machines)
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error)
	go func() {
		done <- b.server.serve(ctx, []*link{newLink(b.dhcp, "eth0", ServerPort), newLink(b.pxe, "eth0", PXEPort)})
	}()
	synctest.Wait()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("serve after cancel: got %v, want nil", err)
		}
	}
}

var broadcast68 = netip.MustParseAddrPort("0.0.0.0:68")

// ask sends a packet by broadcast and returns the reply; nil is silence.
func (b *bench) ask(p *dhcpv4.DHCPv4) *sent { return b.askBytes(p.ToBytes()) }

func (b *bench) askBytes(p []byte) *sent {
	return b.exchange(b.dhcp, inboundPacket{b: p, from: broadcast68, to: everybody})
}

func (b *bench) exchange(via *pipe, p inboundPacket) *sent {
	b.t.Helper()
	via.in <- p
	synctest.Wait()
	select {
	case r := <-via.out:
		return &r
	default:
		return nil
	}
}

// must is ask for a packet that has to be answered with a given type.
func (b *bench) must(p *dhcpv4.DHCPv4, want dhcpv4.MessageType) *sent {
	b.t.Helper()
	r := b.ask(p)
	if r == nil {
		b.t.Fatalf("%v: got silence, want %v", p.MessageType(), want)
	}
	if r.MessageType() != want {
		b.t.Fatalf("%v: got %v, want %v", p.MessageType(), r.MessageType(), want)
	}
	return r
}

func (b *bench) silent(p *dhcpv4.DHCPv4) {
	b.t.Helper()
	if r := b.ask(p); r != nil {
		b.t.Fatalf("%v: got %v, want silence", p.MessageType(), r.MessageType())
	}
}

// lease takes mac through DISCOVER and REQUEST and returns its address.
func (b *bench) lease(mac node.MAC, mods ...dhcpv4.Modifier) netip.Addr {
	b.t.Helper()
	offer := b.must(discover(mac, mods...), dhcpv4.MessageTypeOffer)
	ack := b.must(selecting(mac, yiaddr(offer), mods...), dhcpv4.MessageTypeAck)
	return yiaddr(ack)
}

func (b *bench) step(step timeline.Step) *timeline.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.events) - 1; i >= 0; i-- {
		if b.events[i].Step == step {
			return &b.events[i]
		}
	}
	return nil
}

func yiaddr(r *sent) netip.Addr { return addrOf(r.YourIPAddr) }

func message(mac node.MAC, typ dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	p, err := dhcpv4.New(dhcpv4.WithHwAddr(mac[:]), dhcpv4.WithMessageType(typ))
	if err != nil {
		panic(err)
	}
	for _, mod := range mods {
		mod(p)
	}
	return p
}

func discover(mac node.MAC, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	return message(mac, dhcpv4.MessageTypeDiscover, mods...)
}

// selecting is the REQUEST that takes an offer of ours.
func selecting(mac node.MAC, addr netip.Addr, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	mods = append([]dhcpv4.Modifier{withAddr(54, serverAddr), withAddr(50, addr)}, mods...)
	return message(mac, dhcpv4.MessageTypeRequest, mods...)
}

// rebooting is the REQUEST of a client that remembers its address.
func rebooting(mac node.MAC, addr netip.Addr) *dhcpv4.DHCPv4 {
	return message(mac, dhcpv4.MessageTypeRequest, withAddr(50, addr))
}

// renewing is the REQUEST of a client that has its address.
func renewing(mac node.MAC, addr netip.Addr) *dhcpv4.DHCPv4 {
	return message(mac, dhcpv4.MessageTypeRequest, withCIAddr(addr))
}

func withAddr(code uint8, a netip.Addr) dhcpv4.Modifier { return with(code, a.AsSlice()...) }

func with(code uint8, value ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), value)
}

func withCIAddr(a netip.Addr) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) { p.ClientIPAddr = a.AsSlice() }
}

func withFlags(f uint16) dhcpv4.Modifier { return func(p *dhcpv4.DHCPv4) { p.Flags = f } }

func withRelay(a netip.Addr) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) { p.GatewayIPAddr = a.AsSlice() }
}

// vector reads a captured packet.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var errDiskFull = errors.New("no space left on device")
