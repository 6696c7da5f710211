package dhcp

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// shedFrom is how long a packet has waited, among as many as are read at once,
// when the kernel begins to drop DISCOVERs for us.
const shedFrom = shedAge / 2

// A shedder has the kernel drop DISCOVERs before they are in a socket's queue:
// there that costs a tenth of what it costs us. It does so while the queue is
// long, and never while nobody reads from it. It also counts what the kernel
// drops. Its methods are safe for concurrent use.
type shedder struct {
	prog []unix.SockFilter // empty: it only counts

	mu      sync.Mutex
	on      bool
	counted uint32 // of the kernel's count
	drops   Drops  // not taken yet
}

func newShedder() (*shedder, error) {
	raw, err := bpf.Assemble(notDiscover())
	if err != nil {
		return nil, err
	}
	s := new(shedder)
	for _, i := range raw {
		s.prog = append(s.prog, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return s, nil
}

// notDiscover is the program that looksLikeDiscover is, on a packet that begins
// with its UDP header.
func notDiscover() []bpf.Instruction {
	const options = udpLen + headerLen
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: options, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: optMessageType, SkipTrue: 3},
		bpf.LoadAbsolute{Off: options + 2, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(Discover), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 0xffff},
	}
}

// set has a socket's DISCOVERs dropped, or no more. What the kernel refuses is
// no loss: they are dropped here, then.
func (s *shedder) set(fd uintptr, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == on {
		return
	}
	s.countLocked(fd)
	switch {
	case on:
		p := unix.SockFprog{Len: uint16(len(s.prog)), Filter: &s.prog[0]}
		s.on = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &p) == nil
	default:
		s.on = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) != nil
	}
}

// judge looks at a batch that was read, of a socket, and decides.
func (s *shedder) judge(c syscall.RawConn, batch []*exchange, full bool, now time.Time) {
	if len(s.prog) == 0 {
		return
	}
	s.mu.Lock()
	on := s.on
	s.mu.Unlock()
	if want := full && now.Sub(batch[0].arrived) > shedFrom; want != on && (want || !full) {
		c.Control(func(fd uintptr) { s.set(fd, want) })
	}
}
