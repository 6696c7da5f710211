package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Input makes reads of a file end with ctx, and return its error: one that
// waits for a person or a pipe would not hear of an interrupt. What is no file
// does not wait. Close ends reads with os.ErrClosed, and leaves the file open.
func Input(ctx context.Context, in io.Reader) (io.ReadCloser, error) {
	f, ok := in.(*os.File)
	if !ok {
		return io.NopCloser(in), nil
	}
	wake, end, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { end.Close() })
	return &input{f, ctx, wake, end}, nil
}

type input struct {
	file      *os.File
	ctx       context.Context
	wake, end *os.File // a pipe: that end is closed wakes who waits
}

// Read waits for the file first, because a read of it would go on for good.
func (i *input) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(i.file.Fd()), Events: unix.POLLIN}, {Fd: int32(i.wake.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case i.ctx.Err() != nil:
			return 0, i.ctx.Err()
		case fds[1].Revents != 0:
			return 0, os.ErrClosed
		default:
			return i.file.Read(p)
		}
	}
}

// Close ends reads. The other end of the pipe may be waited on: the garbage
// collector closes it.
func (i *input) Close() error {
	i.end.Close()
	return nil
}
