package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// ARP for IPv4 over Ethernet (RFC 826): lengths and offsets in bytes.
const (
	arpLen       = 28
	arpReply     = 2
	offARPOp     = 6
	offARPSender = 8  // hardware address
	offARPFrom   = 14 // protocol address
	offARPTarget = 24 // protocol address
)

// listenAnswers opens the sockets that tell who has an address: ARP on the
// link, ICMP for what is behind routers.
func (l *Link) listenAnswers() (err error) {
	if l.arp, err = packet.Listen(l.ifi, packet.Raw, unix.ETH_P_ARP, nil); err != nil {
		return fmt.Errorf("ARP socket: %w", listenError(err))
	}
	if l.icmp, err = net.ListenPacket("ip4:icmp", "0.0.0.0"); err != nil {
		return fmt.Errorf("ICMP socket: %w", listenError(err))
	}
	return nil
}

// Ask asks who has an address. On the link that is an ARP probe, whose sender
// has no address, so that it changes nobody's table (RFC 5227, section 1.1).
func (l *Link) Ask(a netip.Addr, routed bool) error {
	if l.arp == nil {
		return net.ErrClosed
	}
	if routed {
		_, err := l.icmp.WriteTo(echoRequest(), &net.IPAddr{IP: a.AsSlice()})
		return err
	}
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	_, err := l.arp.WriteTo(arpProbe(*l.mac.Load(), a), &packet.Addr{HardwareAddr: all})
	return err
}

// arpProbe is a broadcast frame that asks who has a.
func arpProbe(src node.MAC, a netip.Addr) []byte {
	b := make([]byte, 0, etherLen+arpLen)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b = append(append(b, src[:]...), 0x08, 0x06)
	b = append(b, 0, 1, 0x08, 0, 6, 4, 0, 1)               // Ethernet, IPv4, request
	b = append(append(b, src[:]...), make([]byte, 4+6)...) // no sender address, target unknown
	addr := a.As4()
	return append(b, addr[:]...)
}

// echoRequest is an ICMP echo request without data (RFC 792).
func echoRequest() []byte {
	b := []byte{8, 0, 0, 0, 0, 0, 0, 1}
	binary.BigEndian.PutUint16(b[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// Answers calls taken for each host that says it has an address, until the
// read deadline passes or the sockets fail.
func (l *Link) Answers(taken func(netip.Addr, node.MAC)) {
	if l.arp == nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.readARP(taken) })
	both.Go(func() { l.readICMP(taken) })
	both.Wait()
}

func (l *Link) readARP(taken func(netip.Addr, node.MAC)) {
	var b [2048]byte
	for {
		n, _, err := l.arp.ReadFrom(b[:])
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // said once: packets come again when the interface is up again
		case err != nil:
			return
		}
		if a, mac, ok := arpSender(b[:n]); ok {
			taken(a, mac)
		}
	}
}

// arpSender returns who says in an ARP frame that he has an address: the sender
// of a reply, or of a request that is not a probe.
func arpSender(frame []byte) (netip.Addr, node.MAC, bool) {
	if len(frame) < etherLen+arpLen {
		return netip.Addr{}, node.MAC{}, false
	}
	b := frame[etherLen:]
	a := addrOf(b[offARPFrom : offARPFrom+4])
	return a, node.MAC(b[offARPSender:]), a.IsValid()
}

func (l *Link) readICMP(taken func(netip.Addr, node.MAC)) {
	var b [2048]byte
	for {
		n, from, err := l.icmp.ReadFrom(b[:])
		if err != nil {
			return
		}
		ip, ok := from.(*net.IPAddr)
		if a, valid := netip.AddrFromSlice(ip.IP.To4()); ok && valid && n > 0 && b[0] == 0 { // echo reply
			taken(a, node.MAC{})
		}
	}
}
