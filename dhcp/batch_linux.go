package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2), which x/sys lacks.
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// mmsg is either call, never blocking. The runtime is not told of it: one that
// takes long, as to send many packets does, would else lose its place to
// another goroutine, with packets half done.
func mmsg(call, fd uintptr, hdr []mmsghdr) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&hdr[0])), uintptr(len(hdr)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// A reader is the memory of one recvmmsg. It is used again and again.
type reader struct {
	hdr   [batchLen]mmsghdr
	iov   [batchLen]unix.Iovec
	from  [batchLen]unix.RawSockaddrInet4
	oob   [batchLen][128]byte
	want  int
	shed  *shedder
	n     int
	errno syscall.Errno
	call  func(fd uintptr) bool // read: a method value made for each call would be garbage
}

func newReader() any {
	r := new(reader)
	for i := range r.hdr {
		h := &r.hdr[i]
		h.Iov = &r.iov[i]
		h.SetIovlen(1)
		h.Name, h.Control = (*byte)(unsafe.Pointer(&r.from[i])), &r.oob[i][0]
	}
	r.call = r.read
	return r
}

// aim makes the next read go into batch.
func (r *reader) aim(batch []*exchange) {
	r.want = len(batch)
	for i, x := range batch {
		r.iov[i].Base = &x.buf[0]
		r.iov[i].SetLen(len(x.buf))
		h := &r.hdr[i]
		h.Namelen = unix.SizeofSockaddrInet4
		h.SetControllen(len(r.oob[i]))
	}
}

// read implements what syscall.RawConn wants: false when there is nothing yet.
func (r *reader) read(fd uintptr) bool {
	r.n, r.errno = mmsg(unix.SYS_RECVMMSG, fd, r.hdr[:r.want])
	if r.errno == unix.EAGAIN {
		r.shed.set(fd, false) // before we wait for packets
		return false
	}
	return true
}

// source is where the i-th packet came from.
func (r *reader) source(i int) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&r.from[i].Port))
	return netip.AddrPortFrom(netip.AddrFrom4(r.from[i].Addr), binary.BigEndian.Uint16(port[:]))
}

// A sender is a socket that only sends: packets with their IP header, or
// frames. It is none that receives, and not one that the runtime waits on:
// there each packet that has left would wake whoever waits for packets to come.
type sender struct {
	file *os.File
	conn syscall.RawConn
}

// openSender opens one for IP packets (unix.AF_INET) or for frames
// (unix.AF_PACKET) on an interface. Neither gets any packet.
func openSender(domain int, ifname string, index int) (*sender, error) {
	proto := unix.IPPROTO_RAW
	if domain == unix.AF_PACKET {
		proto = 0
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, err
	}
	if domain == unix.AF_PACKET {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index})
	} else {
		err = bindSender(fd, ifname)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &sender{file: os.NewFile(uintptr(fd), "sender on "+ifname)}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

func bindSender(fd int, ifname string) error {
	if err := unix.BindToDevice(fd, ifname); err != nil {
		return fmt.Errorf("bind to %s: %w", ifname, err)
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
}

func (s *sender) Close() error { return s.file.Close() }

// patience is how long a sender waits for an interface whose queue is full.
const patience = 100 * time.Millisecond

// A ring is the memory of one sendmmsg. It is used again and again.
type ring struct {
	hdr   [batchLen]mmsghdr
	iov   [batchLen][2]unix.Iovec
	to    [batchLen]unix.RawSockaddrInet4
	head  [batchLen][etherLen + ipLen + udpLen]byte
	reply [batchLen]*outbound
	n     int // packets put in
	sent  int // of these
	call  func(fd uintptr)
}

func newRing() any {
	r := new(ring)
	for i := range r.hdr {
		r.hdr[i].Iov = &r.iov[i][0]
		r.hdr[i].SetIovlen(2)
		r.to[i].Family = unix.AF_INET
	}
	r.call = r.write
	return r
}

// put adds a reply as a packet, or as a frame from src.
func (r *ring) put(o *outbound, src []byte) {
	i := r.n
	r.n++
	r.reply[i] = o
	h, head := &r.hdr[i], r.head[i][:]
	putHeaders(head[etherLen:], o.payload, o.source, o.to)
	if src != nil {
		putEthernet(head, o.to.frame[:], src)
		h.Name, h.Namelen = nil, 0
	} else {
		head = head[etherLen:]
		r.to[i].Addr = o.to.to.Addr().As4()
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&r.to[i])), unix.SizeofSockaddrInet4
	}
	r.iov[i][0].Base, r.iov[i][1].Base = &head[0], &o.payload[0]
	r.iov[i][0].SetLen(len(head))
	r.iov[i][1].SetLen(len(o.payload))
}

// flush sends what was put in. A packet that the kernel refuses has that as its
// error, and the rest goes on.
func (r *ring) flush(s *sender) {
	if r.n == 0 {
		return
	}
	r.sent = 0
	if err := s.conn.Control(r.call); err != nil { // closed meanwhile
		for i := range r.n {
			r.reply[i].err = err
		}
	}
	clear(r.reply[:r.n]) // exchanges are not kept
	r.n = 0
}

// write sends all that it can on a socket.
func (r *ring) write(fd uintptr) {
	for waited := false; r.sent < r.n; {
		n, errno := mmsg(unix.SYS_SENDMMSG, fd, r.hdr[r.sent:r.n])
		switch {
		case errno == unix.EAGAIN && !waited:
			waited = true
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(patience/time.Millisecond))
		case errno != 0:
			r.reply[r.sent].err = os.NewSyscallError("sendmmsg", errno)
			r.sent++
		default:
			r.sent += n
			waited = false
		}
	}
}
