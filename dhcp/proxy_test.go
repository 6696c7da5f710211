package dhcp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// proxyAddr is ours in the captures where another server, at .1, leases the
// addresses.
var proxyAddr = netip.MustParseAddr("10.77.0.2")

// proxied runs a server that is a proxy in its subnet.
func proxied(t *testing.T, machines Machines, test func(b *bench)) {
	sub := Subnet{Interface: "eth0", Prefix: netip.MustParsePrefix("10.77.0.0/24"), Server: proxyAddr, Proxy: true}
	run(t, []Subnet{sub}, machines, func(b *bench) {
		test(b)
		synctest.Wait()
		if n := b.server.Leases.Len(); n != 0 || b.disk.len() != 0 {
			t.Errorf("got %d leases, %d on disk, want none of a proxy", n, b.disk.len())
		}
	})
}

// wantSame compares a reply with a captured one of another server that booted
// the machine: header, and the options that tell a proxy's reply.
func wantSame(t *testing.T, r *sent, name string) {
	t.Helper()
	golden := vector(t, name)
	copy(golden[offXID:offXID+4], r.raw[offXID:]) // of another conversation
	if !bytes.Equal(r.raw[:headerLen], golden[:headerLen]) {
		t.Errorf("header: got\n%x, want that of %s\n%x", r.raw[:headerLen], name, golden[:headerLen])
	}
	want, err := dhcpv4.FromBytes(golden)
	if err != nil {
		t.Fatal(err)
	}
	for code, value := range want.Options {
		if got := r.Options[code]; !bytes.Equal(got, value) {
			t.Errorf("option %d: got %x, want %x of %s", code, got, value, name)
		}
	}
	for _, code := range []uint8{1, 3, 6, 51, 58, 59} {
		if r.Options[code] != nil {
			t.Errorf("option %d: got %x, want nothing of a lease", code, r.Options[code])
		}
	}
}

// PXE 2.1, section 2.2.1. The reply is one packet with all that firmware needs.
func TestC51ProxyOffer(t *testing.T) {
	proxied(t, named{file: "boot.efi"}, func(b *bench) {
		asked := time.Now()
		r := b.golden("ovmf_pxe_discover")
		if took := time.Since(asked); took > 0 { // of fake time: nothing is waited for
			t.Errorf("offer after %v, want at once", took)
		}
		if r.MessageType() != dhcpv4.MessageTypeOffer || r.to != netip.AddrPortFrom(everybody, 68) || r.fromPort != 67 {
			t.Errorf("got %v to %v from port %d, want OFFER to 255.255.255.255:68 from 67", r.MessageType(), r.to, r.fromPort)
		}
		wantSame(t, r, "reply_proxy_offer_43_8")
		if got := string(r.Options.Get(dhcpv4.OptionBootfileName)); got != "boot.efi\x00" {
			t.Errorf("option 67: got %q, want boot.efi and a NUL", got)
		}
		if e := b.step(timeline.Offer); e == nil || e.File != "boot.efi" || e.Addr.IsValid() {
			t.Errorf("event: got %+v, want an offer of the file without an address", e)
		}
	})
}

// iPXE takes a proxy's offer only with option 60, and is then told not to ask
// on.
func TestC51ProxyOfferToIPXE(t *testing.T) {
	proxied(t, fixed{}, func(b *bench) {
		for _, name := range []string{"ipxe2019_efi_discover", "ipxe2026_efi_discover"} {
			r := b.golden(name)
			const script = "http://10.77.0.2/boot/script.ipxe"
			if option, header := bootFile(r); option != script+"\x00" || header != script {
				t.Errorf("%s: boot file: got %q and %q, want %q", name, option, header, script)
			}
			if yiaddr(r).IsValid() || r.ClassIdentifier() != "PXEClient" || !bytes.Equal(r.Options.Get(dhcpv4.GenericOptionCode(optIPXE)), []byte{0xb0, 1, 1}) {
				t.Errorf("%s: got yiaddr %v, option 60 %q, 175 %x, want none, PXEClient, b00101", name, r.YourIPAddr, r.ClassIdentifier(), r.Options.Get(dhcpv4.GenericOptionCode(optIPXE)))
			}
		}
	})
}

// What does not boot, and what is said to the other server, is none of ours.
func TestC52ProxyIsSilent(t *testing.T) {
	other := netip.MustParseAddr("10.77.0.1")
	addr := netip.MustParseAddr("10.77.0.107")
	proxied(t, fixed{}, func(b *bench) {
		b.silent(discover(m1))
		b.silent(message(m1, dhcpv4.MessageTypeRequest, withAddr(54, other), withAddr(50, addr)))
		if r := b.askBytes(vector(t, "ovmf_pxe_request")); r != nil {
			t.Errorf("REQUEST of firmware to the other server: got %v, want silence", r.MessageType())
		}
		pxe := with(60, []byte("PXEClient:Arch:00007:UNDI:003000")...)
		for _, p := range []*dhcpv4.DHCPv4{
			message(m1, dhcpv4.MessageTypeRequest, withAddr(54, proxyAddr), withAddr(50, addr), pxe), // the other server has our address: it is on this host
			rebooting(m1, addr), renewing(m1, addr),
			message(m1, dhcpv4.MessageTypeInform, withCIAddr(addr)),
			message(m1, dhcpv4.MessageTypeRelease, withAddr(54, proxyAddr), withCIAddr(addr)),
			message(m1, dhcpv4.MessageTypeDecline, withAddr(54, proxyAddr), withAddr(50, addr)),
		} {
			b.silent(p)
		}
		// Nor is anything kept of a host that does not boot.
		for _, e := range b.events {
			if e.Step != timeline.Elsewhere || e.Stage != timeline.Firmware {
				t.Errorf("event: got %+v, want only where the firmware takes its address", e)
			}
		}
	})
}

// Firmware of an architecture without a loader hears nothing, and we say why.
func TestProxyWithoutLoader(t *testing.T) {
	proxied(t, fixed{}, func(b *bench) {
		if r := b.askBytes(vector(t, "ovmf_pxe_discover")); r == nil {
			t.Error("x64: got silence, want an offer")
		}
		p := vector(t, "ovmf_pxe_discover")
		setOption(93, 0, 11)(p)
		if r := b.askBytes(p); r != nil {
			t.Errorf("arm64: got %v, want silence", r.MessageType())
		}
		if e := b.step(timeline.Offer); e == nil || e.Arch != "arm64-efi" || e.File != "" {
			t.Errorf("event: got %+v, want that arm64 was given nothing", e)
		}
	})
}

// UEFI 2.10, section 24.7.3.
func TestC53ProxyHTTPBoot(t *testing.T) {
	proxied(t, fixed{}, func(b *bench) {
		r := b.golden("ovmf_http_discover")
		const url = "http://10.77.0.2/boot/snponly.efi"
		if option, _ := bootFile(r); option != url+"\x00" {
			t.Errorf("option 67: got %q, want %q", option, url)
		}
		if yiaddr(r).IsValid() || r.ClassIdentifier() != "HTTPClient" || r.Options.Has(dhcpv4.OptionVendorSpecificInformation) {
			t.Errorf("got yiaddr %v, option 60 %q, 43 %x, want no address, HTTPClient, no 43", r.YourIPAddr, r.ClassIdentifier(), r.Options.Get(dhcpv4.OptionVendorSpecificInformation))
		}
	})
}

// PXE 2.1, section 2.2.1: byte for byte the reply that booted OVMF, but for
// options 66, 67 and 43, which that server did without.
func TestC50ProxyPXEPort(t *testing.T) {
	sub := Subnet{Interface: "eth0", Prefix: netip.MustParsePrefix("10.77.0.0/24"), Server: serverAddr, Proxy: true}
	run(t, []Subnet{sub}, named{file: "boot.efi"}, func(b *bench) {
		client := netip.MustParseAddrPort("10.77.0.107:4011")
		r := b.exchange(b.pxe, inboundPacket{b: vector(t, "ovmf_pxe_request_4011"), from: client, to: serverAddr})
		if r == nil {
			t.Fatal("got silence, want ACK")
		}
		wantSame(t, r, "reply_ack_4011")
		if r.to != client || r.fromPort != 4011 {
			t.Errorf("to %v from port %d, want to %v from 4011", r.to, r.fromPort, client)
		}
		if got := b.server.Holder(client.Addr()); got != m1 {
			t.Errorf("holder of %v: got %v, want %v, who came from it", client.Addr(), got, m1)
		}
	})
}

// Who took which address of the other server is learned from the REQUEST that
// takes it, and from no other: a client that remembers an address may be
// refused it.
func TestProxyLearnsHolders(t *testing.T) {
	a1, a2 := netip.MustParseAddr("10.77.0.107"), netip.MustParseAddr("10.77.0.108")
	foreign := netip.MustParseAddr("10.77.0.1")
	ipxe := with(77, []byte("iPXE")...)
	proxied(t, fixed{m2: a2}, func(b *bench) {
		want := func(what string, a netip.Addr, want node.MAC) {
			t.Helper()
			if got := b.server.Holder(a); got != want {
				t.Errorf("%s: holder of %v: got %v, want %v", what, a, got, want)
			}
		}
		stranger := node.MAC{0x52, 0x54, 0, 0, 0, 3}
		b.silent(message(stranger, dhcpv4.MessageTypeRequest, withAddr(54, foreign), withAddr(50, a1)))
		want("a host that does not boot", a1, node.MAC{})
		b.silent(message(m1, dhcpv4.MessageTypeRequest, withAddr(50, a1), ipxe))
		want("a remembered address", a1, node.MAC{})
		b.silent(message(m1, dhcpv4.MessageTypeRequest, withAddr(54, foreign), withAddr(50, a1), ipxe))
		want("a client that boots", a1, m1)
		b.silent(message(m2, dhcpv4.MessageTypeRequest, withAddr(54, foreign), withAddr(50, a2)))
		want("a node", a2, m2)
		b.silent(message(m1, dhcpv4.MessageTypeRequest, withAddr(54, foreign), withAddr(50, a2), ipxe))
		want("the next one at the address", a2, m1)
		time.Sleep(sightingAge)
		want("a day later", a1, node.MAC{})
	})
}

// However many addresses are claimed, memory is bounded, and the latest are
// remembered.
func TestSightingsAreBounded(t *testing.T) {
	var s sightings
	now := time.Unix(1, 0)
	for i := range uint32(4 * maxSightings) {
		s.note(address(0x0a000000+i), m1, now)
	}
	if n := len(s.young) + len(s.old); n > maxSightings {
		t.Errorf("got %d remembered, want at most %d", n, maxSightings)
	}
	if got := s.mac(address(0x0a000000+4*maxSightings-1), now); got != m1 {
		t.Errorf("the latest: got %v, want %v", got, m1)
	}
}

// datagram wraps a payload in IPv4 and UDP.
func datagram(options int, toPort uint16, payload []byte) []byte {
	b := make([]byte, ipLen+options, 2048)
	b[0], b[8], b[9] = byte(0x40|(ipLen+options)/4), 64, 17
	copy(b[12:], []byte{10, 77, 0, 107})
	copy(b[16:], []byte{255, 255, 255, 255})
	b = binary.BigEndian.AppendUint16(b, 68)
	b = binary.BigEndian.AppendUint16(b, toPort)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// The filter and the stripper take DHCP out of IP packets, whatever the
// lengths in them say.
func TestRawPackets(t *testing.T) {
	vm, err := bpf.NewVM(toPort(67))
	if err != nil {
		t.Fatal(err)
	}
	long := datagram(0, 67, []byte("payload"))
	binary.BigEndian.PutUint16(long[ipLen+4:], 60000)
	short := datagram(0, 67, []byte("payload"))
	binary.BigEndian.PutUint16(short[ipLen+4:], 3)
	tcp := datagram(0, 67, []byte("payload"))
	tcp[9] = 6
	for _, c := range []struct {
		name   string
		packet []byte
		passes bool
		want   string
	}{
		{"plain", datagram(0, 67, []byte("payload")), true, "payload"},
		{"IP options", datagram(40, 67, []byte("payload")), true, "payload"},
		{"padded", append(datagram(0, 67, []byte("payload")), 0, 0, 0), true, "payload"},
		{"to port 68", datagram(0, 68, []byte("payload")), false, ""},
		{"TCP", tcp, false, "payload"},
		{"length beyond the end", long, true, "payload"},
		{"length within the header", short, true, ""},
		{"cut in the UDP header", long[:ipLen+6], true, ""},
		{"cut in the IP header", long[:ipLen-1], false, ""},
		{"empty", nil, false, ""},
	} {
		if n, err := vm.Run(c.packet); err != nil || (n > 0) != c.passes {
			t.Errorf("%s: filter: got %d, %v, want it to pass: %v", c.name, n, err, c.passes)
		}
		var in inbound
		in.n = copy(in.buf[:], c.packet)
		in.strip()
		if got := string(in.buf[:in.n]); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if c.want != "" && in.peer != netip.MustParseAddrPort("10.77.0.107:68") {
			t.Errorf("%s: from %v, want 10.77.0.107:68", c.name, in.peer)
		}
	}
}

// RFC 768: the checksum over a datagram with its pseudo header is zero, and so
// is that of an IPv4 header (RFC 791). The sums here are made word by word.
func TestHeaders(t *testing.T) {
	d := destination{to: netip.MustParseAddrPort("255.255.255.255:68"), fromPort: 67}
	long := bytes.Repeat([]byte("\xff\xfe"), 700)
	for _, payload := range []string{"", "a", "even", "an odd payload!", "eight by", string(long), string(long[:1399])} {
		b := make([]byte, ipLen+udpLen)
		putHeaders(b, []byte(payload), serverAddr, d)
		if got := sumOfWords(b[:ipLen]); got != 0xffff {
			t.Errorf("payload of %d: sum of the IP header: got %#x, want ffff", len(payload), got)
		}
		pseudo := append([]byte{0, 17, 0, 0}, b[12:20]...)
		binary.BigEndian.PutUint16(pseudo[2:], uint16(udpLen+len(payload)))
		if got := sumOfWords(append(append(pseudo, b[ipLen:]...), payload...)); got != 0xffff {
			t.Errorf("payload of %d: sum of all: got %#x, want ffff", len(payload), got)
		}
		if from, got := udpPayload(append(b, payload...), 68); string(got) != payload || from != netip.MustParseAddrPort("10.77.0.1:67") {
			t.Errorf("payload of %d: got %q from %v", len(payload), got, from)
		}
	}
}

// sumOfWords is the ones' complement sum of 16-bit words.
func sumOfWords(b []byte) (sum uint32) {
	if len(b)%2 != 0 {
		b = append(b, 0)
	}
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
		sum = sum&0xffff + sum>>16
	}
	return sum
}
