package dhcp

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// skMeminfoDrops is the place of a socket's counter of dropped packets in what
// SO_MEMINFO says: SK_MEMINFO_DROPS of linux/sock_diag.h.
const skMeminfoDrops = 8

// kernelDrops returns how many packets of a socket the kernel has dropped so
// far, modulo 2^32; false: it does not say (before Linux 4.12).
//
// Of a UDP socket these are the ones that did not fit and the ones that the
// filter refused (net/ipv4/udp.c, udp_queue_rcv_one_skb and
// __udp_enqueue_schedule_skb). Of a raw one they are only the former, since
// Linux 6 with the UDP packets for other ports that came while it was full
// (net/ipv4/raw.c, raw_v4_input; measured on 6.18).
func kernelDrops(fd uintptr) (n uint32, ok bool) {
	var info [skMeminfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[skMeminfoDrops], errno == 0 && size == uint32(unsafe.Sizeof(info))
}

// countLocked adds what was dropped since the last time to what it was dropped
// for: the kernel counts both in one.
func (s *shedder) countLocked(fd uintptr) {
	n, ok := kernelDrops(fd)
	if !ok {
		return
	}
	since := int(n - s.counted)
	s.counted = n
	if s.on {
		s.drops.Shed += since
	} else {
		s.drops.Full += since
	}
}

// take returns what a socket's packets were dropped for since the last time.
func (s *shedder) take(c syscall.RawConn) (d Drops) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Control(s.countLocked)
	d, s.drops = s.drops, Drops{}
	return d
}

// Dropped implements conn.
func (l *Link) Dropped() Drops { return l.shed.take(l.in) }
