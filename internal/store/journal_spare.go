package store

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A file that grows with each batch costs the file system a change of its own
// books each time, which is half of what a sync takes, and waits for whoever
// else makes it write these (docs/performance.md). So the next file is made
// before it is needed, of zeros that are on disk: to write over them changes
// nothing but the data.
const (
	spareSize  = 16 << 20  // bytes
	spareFrom  = 64 << 10  // written before there is a spare at all: a small site has no use for one
	sparePiece = 256 << 10 // written at a time, so that batches need not wait long for the disk
)

func (j *Journal) sparePath() string { return filepath.Join(j.dir, "spare.new") }

// prepareLocked has the spare made when half of the file is used, once: without
// it the file grows, until there is a next one for another reason.
func (j *Journal) prepareLocked() {
	if j.prepared || j.size < max(spareFrom, j.room/2) {
		return
	}
	j.prepared = true
	j.background.Go(func() {
		f, err := makeSpare(j.sparePath())
		j.mu.Lock()
		defer j.mu.Unlock()
		if err == nil {
			j.spare = f
		}
	})
}

// makeSpare makes an empty journal file with room.
func makeSpare(path string) (*os.File, error) {
	f, err := create(path)
	if err != nil {
		return nil, err
	}
	if err := fill(f); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// fill writes zeros behind the first line of a file, a piece at a time.
func fill(f *os.File) error {
	fd := int(f.Fd())
	if err := unix.Fallocate(fd, 0, 0, spareSize); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	piece := make([]byte, sparePiece)
	for at := int64(len(journalMagic)); at < spareSize; at += sparePiece {
		n := min(sparePiece, spareSize-at)
		if _, err := f.WriteAt(piece[:n], at); err != nil {
			return err
		}
		// Whether this works is of no matter: what is on disk, Sync sees to.
		unix.SyncFileRange(fd, at, n, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	}
	return f.Sync()
}

// dropSpareLocked removes the spare.
func (j *Journal) dropSpareLocked() error {
	if j.spare == nil {
		return nil
	}
	err := errors.Join(j.spare.Close(), os.Remove(j.sparePath()))
	j.spare = nil
	return err
}
