package tftp

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// An origin is where a packet came from and where it was sent to.
type origin struct {
	peer  netip.AddrPort
	local netip.Addr // address of ours that answers leave from; invalid: the kernel picks
	group bool       // packet was sent to a broadcast or multicast address
}

// silent reports whether packets from o must not be answered: nobody listens
// there, or a server does, or everybody (RFC 1123 section 4.2.3.5).
func (o origin) silent() bool {
	a, port := o.peer.Addr(), o.peer.Port()
	return o.group || port == 0 || port == 69 || !a.Is4() || a.IsUnspecified() ||
		a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// conn is the public socket as the server sees it. An error of receive means
// that the socket has failed, or that interrupt was called.
type conn interface {
	receive(b []byte) (n int, from origin, err error)
	answer(to origin, packet []byte) error
	interrupt()
}

// socket is the conn of the kernel.
type socket struct {
	udp *net.UDPConn
	oob []byte
}

// requestQueue is the socket buffer we ask for: room for a thousand machines
// that are powered on at once. The kernel may give less.
const requestQueue = 1 << 20 // bytes

// newSocket has the kernel tell the address each packet was sent to.
func newSocket(udp *net.UDPConn) (*socket, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		sockErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	if err == nil {
		err = sockErr
	}
	if err != nil {
		return nil, fmt.Errorf("set IP_PKTINFO: %w", err)
	}
	udp.SetReadBuffer(requestQueue)
	return &socket{udp: udp, oob: make([]byte, 128)}, nil
}

func (s *socket) receive(b []byte) (int, origin, error) {
	n, oobn, _, peer, err := s.udp.ReadMsgUDPAddrPort(b, s.oob)
	if err != nil {
		return 0, origin{}, err
	}
	o := origin{peer: netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())}
	o.readControl(s.oob[:oobn])
	return n, o, nil
}

// readControl takes the addresses from struct in_pktinfo, ip(7): the one to
// answer from, and the one in the header, which differs when it is not one
// host's. The former is zero in packets that came before IP_PKTINFO was set.
func (o *origin) readControl(oob []byte) {
	for len(oob) > 0 {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		oob = rest
		if hdr.Level != unix.IPPROTO_IP || hdr.Type != unix.IP_PKTINFO || len(data) < unix.SizeofInet4Pktinfo {
			continue
		}
		if local := netip.AddrFrom4([4]byte(data[4:8])); !local.IsUnspecified() {
			o.local = local
			o.group = local != netip.AddrFrom4([4]byte(data[8:12]))
		}
	}
}

// answer sends one packet from a new port.
func (s *socket) answer(to origin, packet []byte) error {
	l, err := openLink(to)
	if err != nil {
		return err
	}
	defer l.close()
	return l.send(to.peer, packet)
}

func (s *socket) interrupt() { s.udp.SetReadDeadline(time.Unix(1, 0)) }
