package tftp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"runtime/debug"
	"syscall"
)

var (
	// errIrregular is returned when a name is that of a directory, a device
	// or the like.
	errIrregular = errors.New("not a regular file")

	// errTrouble is returned when a file could not be opened by a fault of
	// ours and not by one of the name.
	errTrouble = errors.New("server trouble")
)

// A panicError is returned when code of others that we called has panicked.
type panicError struct {
	value any
	stack []byte // for the log
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
func (e *panicError) Unwrap() error { return errTrouble }

// replyTo returns what a client is told about err. What is neither missing nor
// trouble of ours is a name that may not be read: os.Root says so of a link
// that leaves the root, without a sentinel of its own.
func replyTo(err error) refusal {
	var r refusal
	var name *NameError
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &name) && name.Code == codeIllegal:
		return refusal{codeIllegal, "bad file name"}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		return refusal{codeNotFound, "file not found"}
	case errors.Is(err, errTrouble), errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENOMEM),
		errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return refusal{codeUndefined, "server error"}
	default:
		return refusal{codeAccess, "access violation"}
	}
}

// openFile calls open and returns the file at its beginning, and its size.
func openFile(open func(string, netip.Addr) (io.ReadSeekCloser, error), name string, peer netip.Addr) (f io.ReadSeekCloser, size int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, &panicError{p, debug.Stack()}
		}
	}()
	f, err = open(name, peer)
	if err != nil {
		return nil, 0, err
	}
	size, err = measure(f)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// measure returns the size of a regular file and goes to its beginning.
func measure(f io.ReadSeeker) (int64, error) {
	if s, ok := f.(interface{ Stat() (fs.FileInfo, error) }); ok {
		info, err := s.Stat()
		if err != nil {
			return 0, err
		}
		if !info.Mode().IsRegular() {
			return 0, errIrregular
		}
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errTrouble, err)
	}
	return size, nil
}
