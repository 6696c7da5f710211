package dhcp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// ListenBeside opens port 67 of an interface for a proxy, beside whatever
// server of this host has the port. A UDP socket would not do: dnsmasq shares
// the port only when it is told to bind to interfaces, and Kea not at all; and
// of two sockets on a port each gets a part of the unicast packets. A raw IP
// socket gets a copy of what the firewall lets in, and takes nothing from
// anybody. It does not look at UDP checksums, which programs on the same host
// leave to the hardware.
func ListenBeside(ifname string) (*Link, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, errNoInterface)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return bindTo(c, ifname) }}
	pc, err := lc.ListenPacket(context.Background(), "ip4:udp", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("interface %s: raw socket: %w", ifname, listenError(err))
	}
	l, err := newSockets(ifi, pc)
	if err != nil {
		return nil, err
	}
	l.headers = true
	filter, err := bpf.Assemble(toPort(ServerPort))
	if err == nil {
		err = ipv4.NewPacketConn(pc).SetBPF(filter)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: packet filter: %w", ifname, err)
	}
	return l, nil
}

// toPort is the program that takes UDP packets to a port. They begin with
// their IP header, and are whole: the kernel has put fragments together.
func toPort(port uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1}, // protocol
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 4},
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2}, // destination port
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	}
}

// strip takes the IP and UDP headers off a packet. What is not for port 67
// (it came before the filter was there) has nothing left, and does not parse.
func (in *inbound) strip() {
	from, payload := udpPayload(in.buf[:in.n], ServerPort)
	in.peer, in.n = from, copy(in.buf[:], payload)
}

// udpPayload returns what an IPv4 packet brings to a UDP port, and from where;
// nothing when it is none.
func udpPayload(ip []byte, port uint16) (from netip.AddrPort, payload []byte) {
	if len(ip) < ipLen || ip[0]>>4 != 4 || len(ip) < ipv4Len(ip)+udpLen {
		return from, nil
	}
	udp := ip[ipv4Len(ip):]
	size := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp[2:]) != port || size < udpLen {
		return from, nil
	}
	from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:])), binary.BigEndian.Uint16(udp))
	return from, udp[udpLen:min(size, len(udp))]
}

// ipv4Len is the length of an IPv4 header.
func ipv4Len(ip []byte) int { return int(ip[0]&0x0f) * 4 }
