package dhcpload

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch     = 64
	maxPacket = 1600
	buffer    = 64 << 20 // bytes of socket buffer: what is lost is to be the server's loss
)

// mmsghdr is struct mmsghdr of recvmmsg(2), which x/sys lacks.
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// A ring is the packets of one batched system call.
type ring struct {
	hdr [batch]mmsghdr
	iov [batch]unix.Iovec
	buf [batch][maxPacket]byte
	n   int // packets that wait to be sent
}

func newRing() *ring {
	r := new(ring)
	for i := range r.hdr {
		r.iov[i].Base = &r.buf[i][0]
		r.iov[i].SetLen(maxPacket)
		r.hdr[i].Iov = &r.iov[i]
		r.hdr[i].SetIovlen(1)
	}
	return r
}

// A socket sends and receives batches without blocking.
type socket struct {
	fd      int
	in, out *ring
	udp     bool // not of frames
	unsent  int  // packets that the kernel refused
}

// openSocket opens the socket of a mode in the namespace of this thread.
func openSocket(c Config) (*socket, error) {
	fd, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("dhcpload: %w", err)
	}
	for _, opt := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, buffer); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("dhcpload: socket buffer: %w", err)
		}
	}
	return &socket{fd: fd, in: newRing(), out: newRing(), udp: c.Mode == Relay}, nil
}

func open(c Config) (int, error) {
	if c.Mode == Relay {
		return openRelay(c.Relay, c.Server)
	}
	return openFrames(c.Interface)
}

func openRelay(relay, server netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: serverUDP, Addr: relay.As4()}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("relay %v port %d: %w", relay, serverUDP, err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: serverUDP, Addr: server.As4()}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("server %v: %w", server, err)
	}
	return fd, nil
}

// openFrames opens a packet socket that sees IPv4 only.
func openFrames(ifname string) (int, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return 0, fmt.Errorf("interface %q: %w", ifname, err)
	}
	const ipv4 = 0x0008 // ETH_P_IP in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, ipv4)
	if err != nil {
		return 0, os.NewSyscallError("packet socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ipv4, Ifindex: ifi.Index}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("interface %q: %w", ifname, err)
	}
	return fd, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// next returns the buffer of the next packet to send; commit says how long it
// became. A full ring is flushed first.
func (s *socket) next() []byte {
	if s.out.n == batch {
		s.flush()
	}
	return s.out.buf[s.out.n][:]
}

func (s *socket) commit(n int) {
	s.out.iov[s.out.n].SetLen(n)
	s.out.n++
}

// flush sends what waits. What the kernel refuses is counted and lost, as on a
// real wire: a refused connection (the server's port is closed) is such a case.
func (s *socket) flush() {
	for at := 0; at < s.out.n; {
		n, err := s.send(at)
		if err != nil {
			s.unsent += n
		}
		at += n
	}
	s.out.n = 0
}

// send sends packets from the at-th on and returns how many that were, or were
// to be.
func (s *socket) send(at int) (n int, err error) {
	if s.udp {
		n = s.out.run(at)
		return n, s.sendRun(at, n)
	}
	n, err = s.mmsg(unix.SYS_SENDMMSG, s.out.hdr[at:s.out.n])
	return max(n, 1), err
}

// run is how many packets from the at-th on have one length.
func (r *ring) run(at int) int {
	n := 1
	for at+n < r.n && r.iov[at+n].Len == r.iov[at].Len {
		n++
	}
	return n
}

// segmentOption is the control message that has the kernel divide what is sent
// (udp(7), UDP_SEGMENT).
type segmentOption struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

// sendRun sends n packets of one length as one that the kernel divides where it
// is received: sent one by one they are half of what the generator can do, which
// is not enough to overload a server five times.
func (s *socket) sendRun(at, n int) error {
	var m unix.Msghdr
	m.Iov = &s.out.iov[at]
	m.SetIovlen(n)
	o := segmentOption{size: uint16(s.out.iov[at].Len)}
	if n > 1 {
		o.Level, o.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		o.SetLen(unix.SizeofCmsghdr + 2)
		m.Control = (*byte)(unsafe.Pointer(&o))
		m.SetControllen(int(unsafe.Sizeof(o)))
	}
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return errno
	}
	return nil
}

// receive returns how many packets came; packet returns one of them.
func (s *socket) receive() int {
	n, err := s.mmsg(unix.SYS_RECVMMSG, s.in.hdr[:])
	if err != nil {
		return 0
	}
	return n
}

func (s *socket) packet(i int) []byte { return s.in.buf[i][:min(s.in.hdr[i].n, maxPacket)] }

func (s *socket) mmsg(call uintptr, hdr []mmsghdr) (int, error) {
	n, _, errno := unix.Syscall6(call, uintptr(s.fd), uintptr(unsafe.Pointer(&hdr[0])), uintptr(len(hdr)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// wait returns when a packet is there or d has passed.
func (s *socket) wait(d time.Duration) error {
	ts := unix.NsecToTimespec(int64(d))
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	if _, err := unix.Ppoll(fds, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("ppoll", err)
	}
	return nil
}
