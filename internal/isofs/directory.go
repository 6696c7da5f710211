package isofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// A record is a directory record (ECMA-119, 9.1).
type record struct {
	at, size  int64 // of its extent, in bytes
	flags     byte
	name      []byte // as it is written
	systemUse []byte
}

// The flags of a record (ECMA-119, 9.1.6).
const (
	flagDir        = 0x02
	flagAssociated = 0x04
	flagMore       = 0x80 // the file goes on in the next record
)

// The names of a directory itself and of the one it is in.
var (
	self   = []byte{0}
	parent = []byte{1}
)

// parseRecord reads the record that b begins with.
func parseRecord(b []byte) (record, error) {
	const fixed = 33
	if len(b) <= fixed || int(b[0]) > len(b) || int(b[0]) <= fixed {
		return record{}, fmt.Errorf("record of %d bytes does not fit", length(b))
	}
	b = b[:b[0]]
	n := int(b[32])
	if n == 0 || fixed+n > len(b) {
		return record{}, fmt.Errorf("record has a name of %d bytes", n)
	}
	r := record{
		at:    (int64(binary.LittleEndian.Uint32(b[2:])) + int64(b[1])) * sector, // after its extended attributes
		size:  int64(binary.LittleEndian.Uint32(b[10:])),
		flags: b[25],
		name:  b[fixed : fixed+n],
	}
	if b[26] != 0 || b[27] != 0 {
		return record{}, fmt.Errorf("%q is interleaved, which no system reads", r.name)
	}
	r.systemUse = b[min(len(b), fixed+n+(n+1)%2):]
	return r, nil
}

func length(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return int(b[0])
}

func (r record) isDir() bool { return r.flags&flagDir != 0 }

// A walk reads all directories of an image into its index.
type walk struct {
	image *Image
	seen  map[int64]bool // directories, by where they are
	skip  int            // bytes of system use before Rock Ridge
	count int
}

// begin reads what the root says of all records.
func (w *walk) begin(root record) error {
	if w.image.Names != "rock-ridge" {
		return nil
	}
	first, err := w.image.firstRecord(root)
	if err == nil {
		w.skip, _ = sharing(first.systemUse)
	}
	return err
}

// firstRecord returns the record of a directory that describes the directory.
func (i *Image) firstRecord(dir record) (record, error) {
	if dir.size < sector || dir.size > maxDir {
		return record{}, fmt.Errorf("has %d bytes, and may have %d to %d", dir.size, sector, maxDir)
	}
	b, err := i.read(dir.at, sector)
	if err != nil {
		return record{}, err
	}
	return parseRecord(b)
}

// hasRockRidge reports whether the records of an image have names of Rock
// Ridge: the root says that there are such fields (SUSP, 5.3), and in its
// first record is an attribute or an extension of it.
func (i *Image) hasRockRidge(root record) (bool, error) {
	first, err := i.firstRecord(root)
	if err != nil {
		return false, err
	}
	skip, ok := sharing(first.systemUse)
	if !ok {
		return false, nil
	}
	var u systemUse
	if err := u.read(i, first.systemUse[min(skip, len(first.systemUse)):]); err != nil {
		return false, err
	}
	return u.posix || u.rock, nil
}

// A subdirectory is a directory that is still to be read.
type subdirectory struct {
	name string
	record
}

// directory reads one directory, and then those in it.
func (w *walk) directory(name string, dir record, depth int) error {
	subs, err := w.list(name, dir, depth)
	if err != nil {
		return fmt.Errorf("directory %q: %w", "/"+name, err)
	}
	for _, s := range subs {
		if err := w.directory(s.name, s.record, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// list reads the records of a directory. None crosses the end of a sector
// (ECMA-119, 6.8.1.1).
func (w *walk) list(name string, dir record, depth int) (subs []subdirectory, err error) {
	b, err := w.read(dir, depth)
	if err != nil {
		return nil, err
	}
	var more *File // a file that goes on in the next record
	for ; len(b) > 0; b = b[min(len(b), sector):] {
		for at := b[:min(len(b), sector)]; len(at) > 0 && at[0] != 0; at = at[at[0]:] {
			r, err := parseRecord(at)
			if err != nil {
				return nil, err
			}
			full, u, err := w.entry(name, r)
			switch {
			case err != nil:
				return nil, err
			case full == "":
				continue
			case r.isDir():
				subs = append(subs, subdirectory{full, r})
				continue
			}
			if more, err = w.file(full, r, u, more); err != nil {
				return nil, err
			}
		}
	}
	if more != nil {
		return nil, fmt.Errorf("%q: its last extent is missing", more.Path)
	}
	return subs, nil
}

// read returns the records of a directory.
func (w *walk) read(dir record, depth int) ([]byte, error) {
	switch {
	case depth > maxDepth:
		return nil, fmt.Errorf("is more than %d deep", maxDepth)
	case dir.size > maxDir:
		return nil, fmt.Errorf("has %d bytes, more than %d", dir.size, maxDir)
	case w.seen[dir.at]:
		return nil, errors.New("is there twice, or inside itself")
	}
	w.seen[dir.at] = true
	return w.image.read(dir.at, dir.size)
}

// entry returns the path of a record in a directory, empty where it is not one
// of its files, and what its system use fields say.
func (w *walk) entry(dir string, r record) (full string, u systemUse, err error) {
	if bytes.Equal(r.name, self) || bytes.Equal(r.name, parent) || r.flags&flagAssociated != 0 {
		return "", u, nil
	}
	if w.count++; w.count > maxEntries {
		return "", u, fmt.Errorf("image has more than %d files", maxEntries)
	}
	if w.image.Names == "rock-ridge" {
		if err := u.read(w.image, r.systemUse[min(w.skip, len(r.systemUse)):]); err != nil {
			return "", u, fmt.Errorf("%q: %w", r.name, err)
		}
	}
	if u.relocated {
		return "", u, nil
	}
	name, err := w.name(r, u)
	return path.Join(dir, name), u, err
}

// name returns the name of a record, which can be an element of a path.
func (w *walk) name(r record, u systemUse) (string, error) {
	name := string(r.name)
	switch {
	case len(u.name) > 0:
		name = string(u.name)
	case w.image.Names == "joliet":
		name = version(fromUCS2(r.name))
	default: // as Linux does: map=normal
		name = strings.TrimSuffix(version(strings.ToLower(name)), ".")
	}
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") || !utf8.ValidString(name) {
		return "", fmt.Errorf("%q cannot be the name of a file", name)
	}
	return name, nil
}

// version cuts the version off a name (ECMA-119, 7.5.1).
func version(name string) string {
	if i := strings.LastIndexByte(name, ';'); i >= 0 {
		return name[:i]
	}
	return name
}

func (w *walk) file(name string, r record, u systemUse, more *File) (*File, error) {
	f := File{Path: name, Link: string(u.link)}
	if more != nil {
		if more.Path != name {
			return nil, fmt.Errorf("%q: its last extent is missing", more.Path)
		}
		f = *more
	}
	if f.Link == "" && r.size > 0 {
		if r.at > w.image.Size-r.size {
			return nil, fmt.Errorf("%q reaches to byte %d of %d", name, r.at+r.size, w.image.Size)
		}
		f.extents = append(f.extents, extent{r.at, r.size})
		f.Size += r.size
	}
	if f.Size > maxSize {
		return nil, fmt.Errorf("%q has more than %d bytes", name, int64(maxSize))
	}
	if r.flags&flagMore != 0 {
		return &f, nil
	}
	if _, twice := w.image.index[name]; twice {
		return nil, fmt.Errorf("%q is there twice", name)
	}
	w.image.index[name] = len(w.image.files)
	w.image.files = append(w.image.files, f)
	return nil, nil
}

// A notExist names a file that is not in an image.
type notExist struct{ name string }

func (e *notExist) Error() string { return fmt.Sprintf("%q is not in the image", e.name) }

// Unwrap makes it a fs.ErrNotExist.
func (e *notExist) Unwrap() error { return fs.ErrNotExist }

var errField = errors.New("a field of Rock Ridge does not fit")
