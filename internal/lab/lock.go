package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// slots is how many guests run at once on one machine, whichever test package
// started them. Most of a boot is waiting, but under software emulation many of
// them starve each other.
const slots = 3

// lockFile takes an exclusive lock on a file, waiting for it until ctx is
// done. Closing the file gives it back, and so does the end of the process.
func lockFile(ctx context.Context, name string) (*os.File, error) {
	for {
		f, err := tryLock(name)
		if f != nil || err != nil {
			return f, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, fmt.Errorf("%s: waiting for the lock: %w", name, err)
		}
	}
}

// tryLock returns nil without an error when somebody else has the lock.
func tryLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return f, nil
	case syscall.EWOULDBLOCK:
		return nil, f.Close()
	default:
		f.Close()
		return nil, fmt.Errorf("%s: flock: %w", name, err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Reserve waits until this machine has room for guests more, at most slots,
// and returns the function that gives the room back. All of it is taken in one
// step, so two tests that need two each cannot starve with one each.
func Reserve(ctx context.Context, guests int) (release func(), err error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	var held []*os.File
	release = func() {
		for _, f := range held {
			f.Close()
		}
	}
	turn, err := lockFile(ctx, filepath.Join(dir, "turn.lock"))
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	for i := 0; len(held) < min(guests, slots); i = (i + 1) % slots {
		f, err := tryLock(filepath.Join(dir, fmt.Sprintf("slot%d.lock", i)))
		if err == nil && f == nil {
			err = pause(ctx, 20*time.Millisecond)
		}
		if err != nil {
			release()
			return nil, err
		}
		if f != nil {
			held = append(held, f)
		}
	}
	return release, nil
}
