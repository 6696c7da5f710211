package dhcpload

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
)

const (
	testMAC = 0x02b0_0001_0203
	testXID = 0xcafe_f00d
)

var relayAddr = netip.MustParseAddr("10.0.0.2")

// parse reads a packet of ours with a codec that is not ours.
func parse(t *testing.T, tmpl template, b []byte) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.FromBytes(b[tmpl.dhcp:])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDiscover(t *testing.T) {
	for _, mode := range []Mode{Relay, Broadcast, Direct} {
		t.Run(mode.String(), func(t *testing.T) {
			tmpl := newTemplate(mode, relayAddr, discover)
			b := make([]byte, maxPacket)
			p := parse(t, tmpl, b[:tmpl.fill(b, testMAC, testXID)])
			if p.MessageType() != dhcpv4.MessageTypeDiscover || p.ClientHWAddr.String() != "02:b0:00:01:02:03" {
				t.Errorf("got %v", p.Summary())
			}
			if got := binary.BigEndian.Uint32(p.TransactionID[:]); got != testXID {
				t.Errorf("xid: got %x, want %x", got, testXID)
			}
			if got, want := p.IsBroadcast(), mode == Broadcast; got != want {
				t.Errorf("broadcast flag: got %v, want %v", got, want)
			}
			if got, want := p.GatewayIPAddr.Equal(net.IP(relayAddr.AsSlice())), mode == Relay; got != want {
				t.Errorf("giaddr: got %v", p.GatewayIPAddr)
			}
			if p.RequestedIPAddress() != nil || p.ServerIdentifier() != nil {
				t.Errorf("got option 50 %v and 54 %v, want none", p.RequestedIPAddress(), p.ServerIdentifier())
			}
		})
	}
}

// RFC 2131, section 4.3.2: in SELECTING, server identifier and requested
// address are there, and ciaddr is zero.
func TestRequest(t *testing.T) {
	tmpl := newTemplate(Direct, netip.Addr{}, request)
	b := make([]byte, maxPacket)
	p := parse(t, tmpl, b[:tmpl.fillRequest(b, testMAC, testXID, 0x0a010203, 0x0a000001)])
	if p.MessageType() != dhcpv4.MessageTypeRequest || p.RequestedIPAddress().String() != "10.1.2.3" ||
		p.ServerIdentifier().String() != "10.0.0.1" || !p.ClientIPAddr.IsUnspecified() {
		t.Errorf("got %v", p.Summary())
	}
}

func TestFrameHeaders(t *testing.T) {
	tmpl := newTemplate(Broadcast, netip.Addr{}, discover)
	b := make([]byte, maxPacket)
	b = b[:tmpl.fill(b, testMAC, testXID)]
	if want := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0xb0, 0, 1, 2, 3, 8, 0}; !bytes.Equal(b[:etherLen], want) {
		t.Errorf("Ethernet header: got %x, want %x", b[:etherLen], want)
	}
	h, err := ipv4.ParseHeader(b[etherLen:])
	if err != nil {
		t.Fatal(err)
	}
	if h.Dst.String() != "255.255.255.255" || !h.Src.IsUnspecified() || h.Protocol != 17 || h.TotalLen != len(b)-etherLen {
		t.Errorf("IP header: got %v for %d bytes", h, len(b)-etherLen)
	}
	// RFC 1071: a header with its checksum sums to all ones.
	if got := checksum(b[etherLen : etherLen+ipLen]); got != 0 {
		t.Errorf("checksum over the header: got %x, want 0", got)
	}
	if m := payload(Broadcast, b); m != nil {
		t.Errorf("a packet to port 67 was taken as one for a client: %x", m)
	}
}

// reply is a server's packet, made by a codec that is not ours.
func reply(kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	p, err := dhcpv4.New(
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{0xca, 0xfe, 0xf0, 0x0d}),
		dhcpv4.WithHwAddr(net.HardwareAddr{2, 0xb0, 0, 1, 2, 3}),
		dhcpv4.WithYourIP(net.IPv4(10, 1, 2, 3)),
		dhcpv4.WithServerIP(net.IPv4(10, 0, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))),
	)
	if err != nil {
		panic("dhcpload: " + err.Error())
	}
	p.OpCode = dhcpv4.OpcodeBootReply
	return p
}

func TestDecode(t *testing.T) {
	good := reply(dhcpv4.MessageTypeOffer).ToBytes()
	broken := func(f func([]byte) []byte) []byte { return f(bytes.Clone(good)) }
	tests := []struct {
		name string
		in   []byte
		ok   bool
	}{
		{"offer", good, true},
		{"a request", broken(func(b []byte) []byte { b[0] = 1; return b }), false},
		{"no cookie", broken(func(b []byte) []byte { b[atCookie] = 0; return b }), false},
		{"short", good[:atOptions-1], false},
		{"no type", broken(func(b []byte) []byte { return append(b[:atOptions], 255) }), false},
		{"option past the end", broken(func(b []byte) []byte { return append(b[:atOptions], 54, 4, 10) }), false},
		{"option without length", broken(func(b []byte) []byte { return append(b[:atOptions], 54) }), false},
		{"nothing", nil, false},
	}
	want := answer{kind: offer, xid: testXID, mac: testMAC, addr: 0x0a010203, server: 0x0a000001}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := decode(tt.in)
			if ok != tt.ok || ok && got != want {
				t.Errorf("got %+v, %v, want %+v, %v", got, ok, want, tt.ok)
			}
		})
	}
}

func FuzzTake(f *testing.F) {
	f.Add(reply(dhcpv4.MessageTypeOffer).ToBytes())
	f.Add(append(make([]byte, frameLen), reply(dhcpv4.MessageTypeAck).ToBytes()...))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, mode := range []Mode{Relay, Broadcast} {
			decode(payload(mode, b))
		}
	})
}
