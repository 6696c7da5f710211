package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"bootd/internal/node"
)

// A Link is the server's sockets on one interface: UDP port 67 or 4011, bound
// to the interface so that a broadcast is answered where it came from, and a
// packet socket to reach clients that have no address yet.
type Link struct {
	ifi     *net.Interface
	mac     atomic.Pointer[node.MAC] // of the interface, now
	mtu     atomic.Int32             // likewise
	sock    net.PacketConn
	in      syscall.RawConn // of sock
	headers bool            // sock is a raw one: see ListenBeside
	shed    *shedder
	out     *sender      // of IP packets
	frames  *sender      // nil: replies to clients without an address are broadcast
	arp     *packet.Conn // nil: nobody is asked for addresses
	icmp    net.PacketConn
	readers sync.Pool // of *reader
	rings   sync.Pool // of *ring
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
	l, err := newSockets(ifi, pc)
	if err != nil {
		return nil, err
	}
	if l.shed, err = newShedder(); err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: packet filter: %w", ifname, err)
	}
	if port != ServerPort {
		return l, nil // PXE requests on 4011 come from clients that have an address
	}
	if l.frames, err = openSender(unix.AF_PACKET, ifname, ifi.Index); err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: packet socket: %w", ifname, listenError(err))
	}
	if err := l.listenAnswers(); err != nil {
		l.Close()
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	return l, nil
}

// newSockets makes a Link that receives on sock, which it closes on error.
func newSockets(ifi *net.Interface, sock net.PacketConn) (*Link, error) {
	l := &Link{ifi: ifi, sock: sock, shed: new(shedder), readers: sync.Pool{New: newReader}, rings: sync.Pool{New: newRing}}
	l.note(ifi)
	in, err := sock.(syscall.Conn).SyscallConn()
	if err == nil {
		l.in = in
		l.out, err = openSender(unix.AF_INET, ifi.Name, ifi.Index)
	}
	if err != nil {
		sock.Close()
		return nil, fmt.Errorf("interface %s: raw socket: %w", ifi.Name, listenError(err))
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
	r := l.readers.Get().(*reader)
	defer l.readers.Put(r)
	r.aim(batch)
	r.shed = l.shed
	switch err := l.in.Read(r.call); {
	case err != nil:
		return 0, err
	case r.errno != 0:
		return 0, os.NewSyscallError("recvmmsg", r.errno)
	}
	now := time.Now()
	for i := range r.n {
		in, h := &batch[i].inbound, &r.hdr[i]
		in.n, in.to, in.arrived, in.queued = int(h.n), netip.Addr{}, now, r.n == len(batch)
		in.readControl(r.oob[i][:h.Controllen])
		if l.headers {
			in.strip()
			continue
		}
		in.peer = r.source(i)
	}
	l.shed.judge(l.in, batch[:r.n], r.n == len(batch), now)
	return r.n, nil
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

// Send sends replies in as few system calls as the kernel takes: frames to
// clients without an address, packets to all others.
func (l *Link) Send(batch []outbound) {
	r := l.rings.Get().(*ring)
	defer l.rings.Put(r)
	for len(batch) > 0 {
		piece := batch[:min(len(batch), batchLen)]
		batch = batch[len(piece):]
		l.sendFrames(r, piece)
		l.sendPackets(r, piece)
	}
}

func (l *Link) sendFrames(r *ring, piece []outbound) {
	if l.frames == nil {
		return
	}
	mac := l.mac.Load()
	for i := range piece {
		if o := &piece[i]; !o.to.frame.IsZero() {
			r.put(o, mac[:])
		}
	}
	r.flush(l.frames)
}

// sendPackets leaves the way to the kernel.
func (l *Link) sendPackets(r *ring, piece []outbound) {
	for i := range piece {
		o := &piece[i]
		switch {
		case o.to.frame.IsZero():
		case l.frames == nil:
			o.to.to = netip.AddrPortFrom(everybody, o.to.to.Port())
		default:
			continue
		}
		r.put(o, nil)
	}
	r.flush(l.out)
}

// Gone implements conn. It also takes note of a new hardware address and MTU:
// those of a bridge may change with its ports, and whoever answers an ARP probe
// answers to the address in it.
func (l *Link) Gone() bool {
	ifi, err := net.InterfaceByName(l.ifi.Name)
	if err != nil || ifi.Index != l.ifi.Index {
		return true
	}
	l.note(ifi)
	return false
}

func (l *Link) note(ifi *net.Interface) {
	var mac node.MAC // zero on an interface without one
	copy(mac[:], ifi.HardwareAddr)
	l.mac.Store(&mac)
	l.mtu.Store(int32(ifi.MTU))
}

// MTU implements conn.
func (l *Link) MTU() int { return int(l.mtu.Load()) }

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
	if l.out != nil {
		err = errors.Join(err, l.out.Close())
	}
	if l.frames != nil {
		err = errors.Join(err, l.frames.Close())
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

// putEthernet writes the header of a frame for a client that cannot answer ARP
// because it does not have the address yet (RFC 2131, section 4.1).
func putEthernet(b, dst, src []byte) {
	copy(b, dst)
	copy(b[6:], src)
	b[12], b[13] = 0x08, 0x00
}

// putHeaders writes the IPv4 and UDP headers of a payload, with the checksum
// over it and the pseudo header; one of zero is sent as all ones (RFC 768).
func putHeaders(b, payload []byte, source netip.Addr, d destination) {
	from, to := source.As4(), d.to.Addr().As4()
	ip, udp, size := b[:ipLen], b[ipLen:ipLen+udpLen], uint16(udpLen+len(payload))

	binary.BigEndian.PutUint16(udp, d.fromPort)
	binary.BigEndian.PutUint16(udp[2:], d.to.Port())
	binary.BigEndian.PutUint16(udp[4:], size)
	udp[6], udp[7] = 0, 0
	copy(ip[12:], from[:])
	copy(ip[16:], to[:])
	sum := addSum(uint64(unix.IPPROTO_UDP)+uint64(size), ip[12:])
	c := fold(addSum(addSum(sum, udp), payload))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], c)

	copy(ip, []byte{0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}) // low delay, TTL 64
	binary.BigEndian.PutUint16(ip[2:], ipLen+size)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 { return fold(addSum(0, b)) }

// addSum adds b to a sum of 16-bit words, four of them at a time (RFC 1071,
// section 2, parts A and C).
func addSum(sum uint64, b []byte) uint64 {
	var carry uint64
	for ; len(b) >= 8; b = b[8:] {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
	}
	var rest [8]byte
	copy(rest[:], b)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(rest[:]), carry)
	sum, carry = bits.Add64(sum, 0, carry)
	return sum + carry
}

// fold makes a checksum of a sum.
func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
