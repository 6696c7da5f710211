package store

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A syncer has the kernel do fdatasync(2) in the background (io_submit(2)) and
// waits as for a network connection. The call itself would hold a processor
// until the runtime notices, which takes it longer than the disk: nobody's
// packet would be read meanwhile where there is one processor. Where the kernel
// refuses it is the plain call.
type syncer struct {
	context uintptr  // aio_context_t; zero: the plain call
	done    *os.File // an eventfd
	number  uint32   // of done: File.Fd would make it a blocking one
}

// Of linux/aio_abi.h.
const (
	opFdatasync = 3
	flagEventfd = 1 // says on an eventfd that it is done
)

// iocb is struct iocb, ioEvent struct io_event. Both have this form on
// little-endian machines, which all that Go and bootd run on are but s390x.
type iocb struct {
	_              uint64    // data
	_              [2]uint32 // key, flags of reads and writes
	opcode         uint16
	_              int16 // priority
	file           uint32
	_              [4]uint64 // buffer, its size, offset, reserved
	flags, eventfd uint32
}

type ioEvent struct {
	_      [2]uint64 // data, address of the iocb
	result int64
	_      int64
}

func newSyncer() *syncer {
	s := new(syncer)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return s
	}
	s.done, s.number = os.NewFile(uintptr(fd), "eventfd"), uint32(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.context)), 0); errno != 0 {
		s.context = 0
	}
	return s
}

// sync returns when what was written to f is on disk. One goroutine at a time
// may call it.
func (s *syncer) sync(f *os.File) error {
	if s.context == 0 {
		return unix.Fdatasync(int(f.Fd()))
	}
	order := &iocb{opcode: opFdatasync, file: uint32(f.Fd()), flags: flagEventfd, eventfd: s.number}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, s.context, 1, uintptr(unsafe.Pointer(&order))); errno != 0 {
		return os.NewSyscallError("io_submit", errno)
	}
	var count [8]byte // of syncs that are done: one
	if _, err := s.done.Read(count[:]); err != nil {
		return err
	}
	return s.result()
}

// result takes the result of the one sync that is done.
func (s *syncer) result() error {
	var e ioEvent
	n, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, s.context, 0, 1, uintptr(unsafe.Pointer(&e)), 0, 0)
	switch {
	case errno != 0:
		return os.NewSyscallError("io_getevents", errno)
	case n != 1:
		return errors.New("io_getevents: no result of a sync that is done")
	case e.result < 0:
		return os.NewSyscallError("fdatasync", unix.Errno(-e.result))
	}
	return nil
}

func (s *syncer) Close() error {
	if s.context != 0 {
		unix.Syscall(unix.SYS_IO_DESTROY, s.context, 0, 0)
	}
	if s.done == nil {
		return nil
	}
	return s.done.Close()
}
