package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Journal keeps the records of one table in a directory of append-only
// files, for a table that changes thousands of times a second: an Apply is one
// write and one fdatasync, whatever the number of records.
//
//	<dir>/lock          held while the journal is open
//	<dir>/<n>.journal   batches of changes; the highest n is being written
//	<dir>/spare.new     the file after that one, while it is not needed
//
// A file begins with the line "bootd journal 1" and holds batches:
//
//	length  uint32, big-endian, of the body in bytes
//	check   uint32, CRC-32C of length
//	check   uint32, CRC-32C of body
//	body    changes: uvarint key length, key, uvarint value length plus one, value
//
// and after these perhaps zeros, which are room that was not used. A value
// length of zero removes the key. Replaying all files in the order of their
// numbers gives the records. When the files hold mostly what was changed
// since, the live records are rewritten into one new file beside them, which
// then replaces them by rename.
//
// The promise is that of a Store. A crash can leave a torn batch at the end of
// the last file, which was never acknowledged and is cut off at the next start.
// A bad batch with a good one after it is ErrDamaged: the journal is left as it
// is, because starting without records that were promised is worse than not
// starting.
type Journal struct {
	dir  string
	lock *os.File

	mu     sync.Mutex // guards all following fields
	disk   *syncer
	file   *os.File
	number int
	size   int64 // of what was written to the file, in bytes
	room   int64 // up to where the file is zeros on disk: see spare
	buf    []byte
	broken error // once a write has failed no later one may succeed on the same file

	spare      *os.File // nil: not ready
	prepared   bool     // a spare was begun since the file was
	written    int64    // bytes since the last rewrite
	compactAt  int64    // of these at which to rewrite
	background sync.WaitGroup
}

// ErrDamaged is returned when a journal or a store holds what was never
// written there.
var ErrDamaged = errors.New("damaged")

const (
	journalMagic = "bootd journal 1\n"
	batchHeader  = 12
	maxBatch     = 64 << 20 // bytes; a longer length is damage
	// minCompact is the size below which a file is not worth rewriting.
	minCompact = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenJournal opens the journal in dir, making it when missing.
func OpenJournal(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, lock: lock, compactAt: minCompact, disk: newSyncer()}
	if err := j.open(); err != nil {
		j.disk.Close()
		lock.Close()
		return nil, err
	}
	return j, nil
}

// lockFile opens path for this process alone.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("%s: lock: %w", path, err)
	}
	return f, nil
}

// open cuts a torn or unused end off the last file and starts a new one: nothing is ever
// appended after a crash's leftovers. Replay checks the other files.
func (j *Journal) open() error {
	if err := j.sweep(); err != nil {
		return err
	}
	numbers, err := j.numbers()
	if err != nil {
		return err
	}
	if len(numbers) > 0 {
		j.number = numbers[len(numbers)-1]
		end, err := replay(j.path(j.number), func(Change) error { return nil })
		if err == nil || errors.Is(err, errTorn) {
			err = truncate(j.path(j.number), end)
		}
		if err != nil {
			return err
		}
	}
	return j.next()
}

// sweep removes what an interrupted rewrite left, and the spare.
func (j *Journal) sweep() error {
	names, err := filepath.Glob(filepath.Join(j.dir, "*.new"))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// numbers returns the numbers of the files, ascending.
func (j *Journal) numbers() (list []int, err error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".journal")
		if n, err := strconv.Atoi(name); ok && err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

func (j *Journal) path(n int) string { return filepath.Join(j.dir, strconv.Itoa(n)+".journal") }

// next goes on in the file with the next number: the spare, or else a new one.
func (j *Journal) next() (err error) {
	path, f, room := j.path(j.number+1), j.spare, int64(spareSize)
	if f != nil {
		err = os.Rename(j.sparePath(), path)
	} else {
		f, err = create(path)
		room = 0
	}
	if err != nil {
		return err
	}
	if err := syncDir(j.dir); err != nil {
		f.Close()
		j.spare = nil
		return errors.Join(err, os.Remove(path))
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.number, j.size, j.room = f, j.number+1, int64(len(journalMagic)), room
	j.spare, j.prepared = nil, false
	return nil
}

// create makes an empty journal file.
func create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteString(journalMagic); err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Close waits for a rewrite under way and closes the journal.
func (j *Journal) Close() error {
	j.background.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.dropSpareLocked(), j.file.Truncate(j.size), j.file.Close(), j.disk.Close(), j.lock.Close())
}

// Apply makes all changes durable as one batch. After an error the file it
// failed on is given up (what the disk has of it is unknown), and the next
// Apply starts another.
func (j *Journal) Apply(changes []Change) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		if err := j.repairLocked(); err != nil {
			return err
		}
	}
	j.buf = appendBatch(j.buf[:0], changes)
	if err := j.writeLocked(); err != nil {
		j.broken = err
		return fmt.Errorf("%s: %w", j.path(j.number), err)
	}
	j.size += int64(len(j.buf))
	j.written += int64(len(j.buf))
	if j.written >= j.compactAt {
		j.startCompactLocked()
	}
	j.prepareLocked()
	return nil
}

func (j *Journal) writeLocked() error {
	if j.spare != nil && j.size+int64(len(j.buf)) > j.room {
		if err := j.next(); err != nil {
			return err
		}
	}
	if _, err := j.file.WriteAt(j.buf, j.size); err != nil {
		return err
	}
	return j.disk.sync(j.file)
}

// repairLocked cuts a file that failed back to what was acknowledged, and goes
// on in a new one.
func (j *Journal) repairLocked() error {
	if err := truncate(j.path(j.number), j.size); err != nil {
		return err
	}
	if err := j.next(); err != nil {
		return err
	}
	j.broken = nil
	return nil
}

func truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() == size {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// appendBatch appends one batch to b.
func appendBatch(b []byte, changes []Change) []byte {
	start := len(b)
	b = append(b, make([]byte, batchHeader)...)
	for _, c := range changes {
		b = appendChange(b, c)
	}
	seal(b[start:])
	return b
}

func appendChange(b []byte, c Change) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(c.Key))), c.Key...)
	if c.Value == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(c.Value))+1), c.Value...)
}

// seal fills in the header of a batch.
func seal(b []byte) {
	body := b[batchHeader:]
	binary.BigEndian.PutUint32(b, uint32(len(body)))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[:4], castagnoli))
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(body, castagnoli))
}

// Replay calls visit for every change there ever was since the last rewrite,
// in order, until it returns an error, which Replay returns: of the changes of
// a key the last one counts. It reads the files, so it is for the start; visit
// may keep the slices.
func (j *Journal) Replay(visit func(Change) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	numbers, err := j.numbers()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if _, err := replay(j.path(n), visit); err != nil {
			return err
		}
	}
	return nil
}

// errTorn is returned by replay when a file ends with something that is not a
// whole batch.
var errTorn = errors.New("ends with a torn batch")

// replay calls visit for every change in a file and returns where its last
// whole batch ends, which is the end of the file but for zeros.
func replay(path string, visit func(Change) error) (end int64, err error) {
	return replayIn(nil, path, visit)
}

// replayIn is replay in memory that is used again for each batch, unless it is
// nil: then visit may keep the slices.
func replayIn(memory *[]byte, path string, visit func(Change) error) (end int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(f, 1<<20)
	if end, err = readMagic(r); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	for end < info.Size() {
		body, err := readBatch(r, memory, info.Size()-end)
		if errors.Is(err, errBad) {
			err = judge(f, end)
		}
		if err == errUnused {
			return end, nil
		}
		if err == nil {
			err = changes(body, visit)
		}
		if err != nil {
			return end, fmt.Errorf("%s: at byte %d: %w", path, end, err)
		}
		end += int64(batchHeader + len(body))
	}
	return end, nil
}

func readMagic(r io.Reader) (int64, error) {
	var magic [len(journalMagic)]byte
	n, err := io.ReadFull(r, magic[:])
	switch {
	case err == io.ErrUnexpectedEOF, err == io.EOF:
		return 0, errTorn
	case err != nil:
		return 0, err
	case string(magic[:]) != journalMagic:
		return 0, fmt.Errorf("not a journal: %w", ErrDamaged)
	}
	return int64(n), nil
}

// errBad is returned by readBatch for what is not a whole batch.
var errBad = errors.New("bad batch")

// readBatch reads one body of a file that has left bytes more.
func readBatch(r io.Reader, memory *[]byte, left int64) ([]byte, error) {
	var head [batchHeader]byte
	if left < batchHeader {
		return nil, errBad
	}
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	length, ok := batchLength(head[:])
	if !ok || length > left-batchHeader {
		return nil, errBad
	}
	body := room(memory, int(length))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[8:]) {
		return nil, errBad
	}
	return body, nil
}

// room returns n bytes, of memory unless that is nil.
func room(memory *[]byte, n int) []byte {
	if memory == nil {
		return make([]byte, n)
	}
	*memory = slices.Grow((*memory)[:0], n)
	return (*memory)[:n]
}

// batchLength returns the length of the body that follows head, if that is the
// head of a batch.
func batchLength(head []byte) (int64, bool) {
	length := binary.BigEndian.Uint32(head)
	check := binary.BigEndian.Uint32(head[4:])
	return int64(length), length <= maxBatch && check == crc32.Checksum(head[:4], castagnoli)
}

// errUnused is returned by judge for room that was not used.
var errUnused = errors.New("nothing but zeros")

// judge tells a torn batch at start from a damaged one: after a torn batch
// nothing was written any more, so a whole one that follows was acknowledged.
func judge(f *os.File, start int64) error {
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return err
	}
	tail, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if len(bytes.Trim(tail, "\x00")) == 0 {
		return errUnused
	}
	tail = tail[1:]
	for i := 0; i+batchHeader <= len(tail); i++ {
		if length, ok := batchLength(tail[i:]); ok && length > 0 && length <= int64(len(tail)-i-batchHeader) {
			body := tail[i+batchHeader:][:length]
			if crc32.Checksum(body, castagnoli) == binary.BigEndian.Uint32(tail[i+8:]) {
				return ErrDamaged
			}
		}
	}
	return errTorn
}

// changes calls visit for every change in a body.
func changes(body []byte, visit func(Change) error) error {
	for len(body) > 0 {
		var c Change
		var ok bool
		if c.Key, body, ok = field(body, 0); !ok {
			return ErrDamaged
		}
		if c.Value, body, ok = field(body, 1); !ok {
			return ErrDamaged
		}
		if err := visit(c); err != nil {
			return err
		}
	}
	return nil
}

// field takes a length, which is stored plus bias, and that many bytes off b.
// A stored zero with a bias is no field at all: nil.
func field(b []byte, bias uint64) (value, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 {
		return nil, nil, false
	}
	b = b[w:]
	if n < bias {
		return nil, b, true
	}
	if n -= bias; n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// startCompactLocked seals the file and rewrites all sealed ones in the
// background.
func (j *Journal) startCompactLocked() {
	sealed := j.number
	j.written = 0
	if err := j.next(); err != nil {
		return // the disk is full: go on, and try again later
	}
	j.compactAt = 1 << 62 // one rewrite at a time
	j.background.Go(func() {
		size, err := j.compact(sealed)
		j.mu.Lock()
		defer j.mu.Unlock()
		if err != nil {
			size = j.written // sealed files stay; nothing is lost but room
		}
		j.compactAt = max(minCompact, 2*size)
	})
}
