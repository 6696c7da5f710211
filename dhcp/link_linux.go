package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// A Link is the server's sockets on one interface: UDP port 67 or 4011, bound
// to the interface so that a broadcast is answered where it came from, and a
// packet socket to reach clients that have no address yet.
type Link struct {
	ifi     *net.Interface
	mac     atomic.Pointer[node.MAC] // of the interface, now
	sock    net.PacketConn
	v4      *ipv4.PacketConn // of sock
	headers bool             // sock is a raw one: see ListenBeside
	raw     *packet.Conn     // nil: replies to clients without an address are broadcast
	arp     *packet.Conn     // nil: nobody is asked for addresses
	icmp    net.PacketConn
	readers sync.Pool // of *[]ipv4.Message
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
	l := &Link{ifi: ifi, sock: pc, v4: ipv4.NewPacketConn(pc), readers: sync.Pool{New: newMessages}}
	l.setMAC(ifi)
	if port != ServerPort {
		return l, nil // PXE requests on 4011 come from clients that have an address
	}
	// Protocol 0: the socket only sends, so it never sees what a firewall drops.
	if l.raw, err = packet.Listen(ifi, packet.Raw, 0, nil); err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: packet socket: %w", ifname, listenError(err))
	}
	if err := l.listenAnswers(); err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	return l, nil
}

var (
	errNoInterface = errors.New("no such interface")
	errInUse       = errors.New("in use by another server; see ss -lunp")
)

// listenError turns the usual reasons into words with a remedy.
func listenError(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return errInUse
	case errors.Is(err, os.ErrPermission):
		return errors.New("not permitted: needs root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW")
	}
	return err
}

// receiveBuffer is room for ten thousand packets: the queue of clients that are
// powered on at once, and more than arrive within shedAge. What does not fit,
// the kernel drops, and the clients repeat.
const receiveBuffer = 16 << 20 // bytes

// bindTo restricts a socket to an interface, lets it broadcast, and has the
// kernel tell where and when each packet arrived.
func bindTo(c syscall.RawConn, ifname string) error {
	var err error
	ctlErr := c.Control(func(f uintptr) {
		fd := int(f)
		err = errors.Join(
			unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, ifname),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		)
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // without CAP_NET_ADMIN: as much as we may
		}
	})
	return errors.Join(ctlErr, err)
}

// Recv reads the packets that wait, in one system call.
func (l *Link) Recv(batch []*exchange) (n int, err error) {
	msgs := l.readers.Get().(*[]ipv4.Message)
	defer l.readers.Put(msgs)
	for i := range batch {
		(*msgs)[i].Buffers[0] = batch[i].buf[:]
	}
	n, err = l.v4.ReadBatch((*msgs)[:len(batch)], 0)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	for i, m := range (*msgs)[:n] {
		in := &batch[i].inbound
		in.n, in.to, in.arrived = m.N, netip.Addr{}, now
		in.readControl(m.OOB[:m.NN])
		if l.headers {
			in.strip()
			continue
		}
		from := m.Addr.(*net.UDPAddr).AddrPort()
		in.peer = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	}
	return n, nil
}

// newMessages returns what one Recv works with.
func newMessages() any {
	msgs := make([]ipv4.Message, batchLen)
	for i := range msgs {
		msgs[i].Buffers, msgs[i].OOB = make([][]byte, 1), make([]byte, 128)
	}
	return &msgs
}

// readControl takes the destination from struct in_pktinfo (ip(7)) and the
// time of arrival from struct timespec (socket(7), SO_TIMESTAMPNS).
func (in *inbound) readControl(oob []byte) {
	for len(oob) > 0 {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		oob = rest
		switch {
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			in.to = netip.AddrFrom4([4]byte(data[8:12]))
		case hdr.Level == unix.SOL_SOCKET && hdr.Type == unix.SCM_TIMESTAMPNS && len(data) >= 16:
			in.arrived = time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		}
	}
}

// Send sends replies: frames to clients without an address one by one, all
// others in as few system calls as the kernel takes.
func (l *Link) Send(batch []outbound) {
	var routed []*outbound
	for i := range batch {
		o := &batch[i]
		switch {
		case o.to.frame.IsZero():
			routed = append(routed, o)
		case l.raw == nil:
			o.to.to = netip.AddrPortFrom(everybody, o.to.to.Port())
			routed = append(routed, o)
		default:
			_, o.err = l.raw.WriteTo(frame(o.payload, *l.mac.Load(), o.source, o.to), &packet.Addr{HardwareAddr: o.to.frame[:]})
		}
	}
	l.sendRouted(routed)
}

// sendRouted leaves the way to the kernel. A reply that the kernel refuses is
// skipped, and the rest goes on.
func (l *Link) sendRouted(batch []*outbound) {
	msgs := make([]ipv4.Message, len(batch))
	for i, o := range batch {
		cm := ipv4.ControlMessage{Src: o.source.AsSlice(), IfIndex: l.ifi.Index}
		if !o.to.to.Addr().Is4() || o.to.to.Addr() != everybody {
			cm.IfIndex = 0 // routed: a relay may be behind another interface
		}
		msgs[i] = ipv4.Message{Buffers: [][]byte{o.payload}, OOB: cm.Marshal(), Addr: net.UDPAddrFromAddrPort(o.to.to)}
		if l.headers {
			msgs[i].Buffers = [][]byte{udpHeader(o.payload, o.source, o.to), o.payload}
			msgs[i].Addr = &net.IPAddr{IP: o.to.to.Addr().AsSlice()}
		}
	}
	for len(msgs) > 0 {
		n, err := l.v4.WriteBatch(msgs, 0)
		if err != nil {
			batch[0].err, n = err, 1
		}
		msgs, batch = msgs[n:], batch[n:]
	}
}

// Gone implements conn. It also takes note of a new hardware address: that of
// a bridge may change with its ports, and whoever answers an ARP probe answers
// to the address in it.
func (l *Link) Gone() bool {
	ifi, err := net.InterfaceByName(l.ifi.Name)
	if err != nil || ifi.Index != l.ifi.Index {
		return true
	}
	l.setMAC(ifi)
	return false
}

func (l *Link) setMAC(ifi *net.Interface) {
	var mac node.MAC // zero on an interface without one
	copy(mac[:], ifi.HardwareAddr)
	l.mac.Store(&mac)
}

// SetReadDeadline makes Recv and Answers return at t.
func (l *Link) SetReadDeadline(t time.Time) error {
	err := l.sock.SetReadDeadline(t)
	if l.arp != nil {
		err = errors.Join(err, l.arp.SetReadDeadline(t), l.icmp.SetReadDeadline(t))
	}
	return err
}

// Close closes the sockets.
func (l *Link) Close() error {
	err := l.sock.Close()
	if l.raw != nil {
		err = errors.Join(err, l.raw.Close())
	}
	if l.arp != nil {
		err = errors.Join(err, l.arp.Close())
	}
	if l.icmp != nil {
		err = errors.Join(err, l.icmp.Close())
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
	b = append(append(b, ip...), udpHeader(payload, source, d)...)
	return append(b, payload...)
}

// udpHeader is the UDP header of a payload, with the checksum over both and
// their pseudo header; one of zero is sent as all ones (RFC 768).
func udpHeader(payload []byte, source netip.Addr, d destination) []byte {
	from, to, size := source.As4(), d.to.Addr().As4(), uint16(udpLen+len(payload))
	pseudo := append(append(make([]byte, 0, 20), from[:]...), to[:]...)
	pseudo = append(pseudo, 0, unix.IPPROTO_UDP, byte(size>>8), byte(size))
	udp := binary.BigEndian.AppendUint16(pseudo, d.fromPort)
	udp = binary.BigEndian.AppendUint16(udp, d.to.Port())
	udp = binary.BigEndian.AppendUint16(udp, size)
	c := checksum(uint32(^checksum(0, udp)), payload)
	if c == 0 {
		c = 0xffff
	}
	return binary.BigEndian.AppendUint16(udp, c)[len(pseudo):]
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
