package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// conn is what the server needs of a network interface. Recv blocks until a
// packet arrives or the deadline passes; an error of it means the socket has
// failed, not the packet. Send may be called by several goroutines at once.
type conn interface {
	Recv(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error)
	Send(payload []byte, source netip.Addr, d destination) error
	SetReadDeadline(time.Time) error
	Close() error
}

// A Link is the server's sockets on one interface: UDP port 67 or 4011, bound
// to the interface so that a broadcast is answered where it came from, and a
// packet socket to reach clients that have no address yet.
type Link struct {
	ifi *net.Interface
	udp *net.UDPConn
	v4  *ipv4.PacketConn
	raw *packet.Conn // nil: replies to clients without an address are broadcast
}

// Listen opens the sockets of one port on an interface. It fails when the port
// is taken on it: two servers on one port each get some of the packets.
func Listen(ifname string, port uint16) (*Link, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, errNoInterface)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return bindTo(c, ifname) }}
	pc, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("interface %s: UDP port %d: %w", ifname, port, listenError(err))
	}
	l := &Link{ifi: ifi, udp: pc.(*net.UDPConn), v4: ipv4.NewPacketConn(pc)}
	if err := l.v4.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true); err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: packet information: %w", ifname, err)
	}
	if port != ServerPort {
		return l, nil // PXE requests on 4011 come from clients that have an address
	}
	// Protocol 0: the socket only sends, so it never sees what a firewall drops.
	if l.raw, err = packet.Listen(ifi, packet.Raw, 0, nil); err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: packet socket: %w", ifname, listenError(err))
	}
	return l, nil
}

var errNoInterface = errors.New("no such interface")

// listenError turns the usual reasons into words with a remedy.
func listenError(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return errors.New("in use by another server; see ss -lunp")
	case errors.Is(err, os.ErrPermission):
		return errors.New("not permitted: needs root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW")
	}
	return err
}

// bindTo restricts a socket to an interface and lets it broadcast.
func bindTo(c syscall.RawConn, ifname string) error {
	var err error
	ctlErr := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, ifname),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
		)
	})
	return errors.Join(ctlErr, err)
}

// Recv reads one packet; to is the address it was sent to.
func (l *Link) Recv(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error) {
	n, cm, addr, err := l.v4.ReadFrom(b)
	if err != nil {
		return 0, netip.AddrPort{}, netip.Addr{}, err
	}
	from = addr.(*net.UDPAddr).AddrPort()
	if cm != nil {
		to, _ = netip.AddrFromSlice(cm.Dst.To4())
	}
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), to, nil
}

// Send sends a payload with source as its IP source address, which is the
// server identifier the client will check.
func (l *Link) Send(payload []byte, source netip.Addr, d destination) error {
	if !d.frame.IsZero() && l.raw != nil {
		_, err := l.raw.WriteTo(frame(payload, node.MAC(l.ifi.HardwareAddr), source, d), &packet.Addr{HardwareAddr: d.frame[:]})
		return err
	}
	if !d.frame.IsZero() {
		d.to = netip.AddrPortFrom(everybody, d.to.Port())
	}
	cm := &ipv4.ControlMessage{Src: source.AsSlice(), IfIndex: l.ifi.Index}
	_, err := l.v4.WriteTo(payload, cm, net.UDPAddrFromAddrPort(d.to))
	return err
}

// SetReadDeadline makes Recv return at t.
func (l *Link) SetReadDeadline(t time.Time) error { return l.udp.SetReadDeadline(t) }

// Close closes the sockets.
func (l *Link) Close() error {
	err := l.udp.Close()
	if l.raw != nil {
		err = errors.Join(err, l.raw.Close())
	}
	return err
}

// Sizes of headers, in bytes.
const (
	etherLen = 14
	ipLen    = 20
	udpLen   = 8
)

// frame wraps a payload in UDP, IPv4 and Ethernet for a client that cannot
// answer ARP because it does not have the address yet (RFC 2131, section 4.1).
func frame(payload []byte, src node.MAC, source netip.Addr, d destination) []byte {
	b := make([]byte, 0, etherLen+ipLen+udpLen+len(payload))
	b = append(append(append(b, d.frame[:]...), src[:]...), 0x08, 0x00)
	from, to := source.As4(), d.to.Addr().As4()
	ip := []byte{0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0} // low delay, TTL 64
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLen+udpLen+len(payload)))
	ip = append(append(ip, from[:]...), to[:]...)
	binary.BigEndian.PutUint16(ip[10:], checksum(0, ip))
	udp := make([]byte, udpLen, udpLen+len(payload))
	binary.BigEndian.PutUint16(udp[0:], d.fromPort)
	binary.BigEndian.PutUint16(udp[2:], d.to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(udpLen+len(payload)))
	udp = append(udp, payload...)
	binary.BigEndian.PutUint16(udp[6:], udpChecksum(from, to, udp))
	return append(append(b, ip...), udp...)
}

// udpChecksum is the checksum over a datagram and its pseudo header; a result
// of zero is sent as all ones (RFC 768).
func udpChecksum(from, to [4]byte, udp []byte) uint16 {
	pseudo := append(append([]byte{}, from[:]...), to[:]...)
	pseudo = append(pseudo, 0, unix.IPPROTO_UDP, udp[4], udp[5])
	if c := checksum(uint32(^checksum(0, pseudo)), udp); c != 0 {
		return c
	}
	return 0xffff
}

// checksum is the Internet checksum of b added to sum (RFC 1071).
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
