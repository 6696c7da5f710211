package tftp

import (
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ackQueue is the socket buffer of a transfer, which hears little: it bounds
// what a flood can fill.
const ackQueue = 32 << 10 // bytes

// usualMTU is assumed where the kernel does not know.
const usualMTU = 1500

// udpLink is the link of the kernel. Its socket is not connected, to hear
// whoever sends to a transfer that is not his.
type udpLink struct {
	udp *net.UDPConn
	to  origin
}

// openLink makes a socket with a new port, as RFC 1350 section 4 wants, at the
// address the client asked.
func openLink(to origin) (*udpLink, error) {
	udp, err := net.ListenUDP("udp4", to.localAddr())
	if err != nil {
		return nil, err
	}
	udp.SetReadBuffer(ackQueue)
	return &udpLink{udp: udp, to: to}, nil
}

// localAddr returns the address to answer from, with any port.
func (o origin) localAddr() *net.UDPAddr {
	if !o.local.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(o.local, 0))
}

func (l *udpLink) receive(b []byte) (int, netip.AddrPort, error) {
	return l.udp.ReadFromUDPAddrPort(b)
}

func (l *udpLink) setDeadline(t time.Time) { l.udp.SetReadDeadline(t) }
func (l *udpLink) wake()                   { l.udp.SetReadDeadline(time.Unix(1, 0)) }
func (l *udpLink) close()                  { l.udp.Close() }

func (l *udpLink) send(to netip.AddrPort, packet []byte) error {
	_, err := l.udp.WriteToUDPAddrPort(packet, to)
	return err
}

// sendBatch sends all packets, whatever becomes of each, and returns the last
// error.
func (l *udpLink) sendBatch(to netip.AddrPort, b []byte, size int) (err error) {
	for len(b) > size {
		err = l.send(to, b[:size])
		b = b[size:]
	}
	if e := l.send(to, b); e != nil {
		err = e
	}
	return err
}

// mtu asks a connected socket, since only that has a route.
func (l *udpLink) mtu() int {
	c, err := net.DialUDP("udp4", l.to.localAddr(), net.UDPAddrFromAddrPort(l.to.peer))
	if err != nil {
		return usualMTU
	}
	defer c.Close()
	mtu := usualMTU
	raw, err := c.SyscallConn()
	if err != nil {
		return mtu
	}
	raw.Control(func(fd uintptr) {
		if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU); err == nil {
			mtu = v
		}
	})
	return mtu
}
