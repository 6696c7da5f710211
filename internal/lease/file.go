package lease

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"time"
)

// A File keeps leases in a file as dnsmasq does, for programs that read that.
// The file is replaced by rename, so its readers see all of an old state or all
// of a new one. It is a copy of what is kept safe elsewhere, so it is not
// forced to disk.
type File struct {
	Path    string
	Leases  func() iter.Seq[Lease]
	Version func() uint64 // changes when a lease does
	Log     *slog.Logger  // nil discards
}

// Times of a File.
const (
	fileEvery = time.Second // at most this often
	// fileShare bounds the part of the time that is spent with writing: where a
	// million leases take two seconds, the file is written every forty.
	fileShare = 20
	fileRetry = time.Minute
	// fileLast is how long a last write at the end may take.
	fileLast = 2 * time.Second
)

// Run writes the file now, and whenever leases have changed, until ctx is done,
// and then once more. What fails is logged and tried again.
func (f *File) Run(ctx context.Context) error {
	log := f.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	written, valid := uint64(0), false
	for pause := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			if pause <= fileShare*fileLast && f.Version() != written {
				f.tryWrite(log)
			}
			return nil
		case <-time.After(pause):
		}
		version, start := f.Version(), time.Now()
		pause = fileEvery
		if valid && version == written {
			continue
		}
		if !f.tryWrite(log) {
			valid, pause = false, fileRetry
			continue
		}
		written, valid = version, true
		pause = max(fileEvery, fileShare*time.Since(start))
	}
}

func (f *File) tryWrite(log *slog.Logger) bool {
	err := f.Write()
	if err != nil {
		log.Warn("lease file not written", "file", f.Path, "err", err)
	}
	return err == nil
}

// Write replaces the file.
func (f *File) Write() error {
	aside := f.Path + ".bootd-new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Whoever may write to the directory must not choose what we write to.
	file, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err = f.fill(file); err == nil {
		err = os.Rename(aside, f.Path)
	}
	if err != nil {
		os.Remove(aside)
	}
	return err
}

func (f *File) fill(file *os.File) error {
	w := NewWriter(file, Dnsmasq)
	for l := range f.Leases() {
		if err := w.Write(&l); err != nil {
			break // Flush has it
		}
	}
	// Its readers are other users, whatever our umask.
	return errors.Join(w.Flush(), file.Chmod(0o644), file.Close())
}

// Keep saves what another program wrote at f.Path, once, as
// <path>.before-bootd. The file at mark says whether f has the path already.
func (f *File) Keep(mark string) (saved string, err error) {
	if b, err := os.ReadFile(mark); err == nil && string(b) == f.Path {
		return "", nil
	}
	_, err = os.Lstat(f.Path)
	switch {
	case err == nil:
		saved = f.Path + ".before-bootd"
		if _, err := os.Lstat(saved); err == nil {
			return "", fmt.Errorf("%s: somebody else wrote it, and %s exists too: move one away", f.Path, saved)
		}
		if err := os.Rename(f.Path, saved); err != nil {
			return "", err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	return saved, os.WriteFile(mark, []byte(f.Path), 0o600)
}
