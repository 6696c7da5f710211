// Package isofs reads the files of an ISO 9660 image: names in Rock Ridge
// (SUSP 1.12, RRIP 1.12) where the image has them, else in Joliet, else plain
// ones in lower case without version, as Linux shows them.
//
// An image is not to be trusted. Whatever it holds, Open and the methods of an
// Image end, with memory bounded by constants and not by what the image claims;
// no name has a slash, no path and no link leads out of the image, and a file
// that reaches past the end of the image is an error before anything is read of
// it. A file may be in several extents, so it may be larger than 4 GiB.
//
// Not read: directories that Rock Ridge relocated because they were more than
// eight deep, compressed files (zisofs), interleaved files and further sessions.
package isofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf16"
)

// sector is the unit of descriptors, and the only block size in use (ECMA-119,
// 6.1.2 and 6.2).
const sector = 2048

// The bounds of what is read.
const (
	maxDescriptors = 64        // of an image
	maxDir         = 8 << 20   // bytes of one directory
	maxIndex       = 64 << 20  // bytes of all directories, with what Rock Ridge has elsewhere
	maxEntries     = 200_000   // files and directories of an image
	maxDepth       = 32        // directories in each other
	maxSystemUse   = 64 << 10  // bytes of Rock Ridge of one file
	maxLinks       = 16        // links on the way to a file
	maxName        = 255       // bytes of a name
	maxTarget      = 4096      // bytes of the target of a link
	maxSize        = 1<<48 - 1 // of a file
)

// An Image is the index of an ISO 9660 image. It may be used from several
// goroutines where its reader may.
type Image struct {
	Label string // of the volume, without the blanks at its end
	Size  int64  // bytes of the volume, which may be fewer than those of the file it is in
	Names string // rock-ridge, joliet or plain

	r     io.ReaderAt
	taken int64 // bytes of the index that Open read
	files []File
	index map[string]int
}

// A File is a file of an image.
type File struct {
	Path string // without a leading slash
	Size int64  // bytes; zero for a link
	Link string // target of a symbolic link; empty: it is a regular file

	extents []extent
}

type extent struct{ at, size int64 }

// ErrNotISO is returned when a file is no ISO 9660 image.
var ErrNotISO = errors.New("is not an ISO 9660 image")

// Open reads the index of the image that r has in its first size bytes.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	i := &Image{r: r, index: map[string]int{}}
	root, err := i.descriptors(size)
	if err != nil {
		return nil, err
	}
	w := walk{image: i, seen: map[int64]bool{}}
	if err := w.begin(root); err != nil {
		return nil, err
	}
	if err := w.directory("", root, 0); err != nil {
		return nil, err
	}
	return i, nil
}

// descriptors reads the volume descriptors (ECMA-119, 8.1) and returns the
// directory record of the root to read.
func (i *Image) descriptors(size int64) (record, error) {
	var primary, joliet []byte
	for n := int64(16); ; n++ { // before them is the system area
		b := make([]byte, sector)
		if k, err := i.r.ReadAt(b, n*sector); k < sector || n == 16+maxDescriptors {
			if primary == nil {
				return record{}, ErrNotISO
			}
			return record{}, fmt.Errorf("has no end of its volume descriptors: %v", err)
		}
		if string(b[1:6]) != "CD001" {
			return record{}, ErrNotISO
		}
		switch {
		case b[0] == 1 && primary == nil:
			primary = b
		case b[0] == 2 && isJoliet(b[88:120]):
			joliet = b
		}
		if b[0] == 255 {
			break
		}
	}
	if primary == nil {
		return record{}, ErrNotISO
	}
	return i.volume(primary, joliet, size)
}

// isJoliet knows the escape sequences of UCS-2 (Joliet specification, "SVD
// Escape Sequences Field").
func isJoliet(escape []byte) bool {
	for _, level := range []string{"%/@", "%/C", "%/E"} {
		if bytes.HasPrefix(escape, []byte(level)) {
			return true
		}
	}
	return false
}

func (i *Image) volume(primary, joliet []byte, size int64) (record, error) {
	if block := binary.LittleEndian.Uint16(primary[128:]); block != sector {
		return record{}, fmt.Errorf("has blocks of %d bytes, not of %d", block, sector)
	}
	i.Label = strings.TrimRight(string(primary[40:72]), " \x00")
	i.Size = int64(binary.LittleEndian.Uint32(primary[80:])) * sector
	if i.Size > size {
		return record{}, fmt.Errorf("is cut short: %d of %d bytes", size, i.Size)
	}
	root, err := parseRecord(primary[156:190])
	if err != nil {
		return record{}, fmt.Errorf("root directory: %w", err)
	}
	rock, err := i.hasRockRidge(root)
	switch {
	case err != nil:
		return record{}, fmt.Errorf("root directory: %w", err)
	case rock:
		i.Names = "rock-ridge"
	case joliet != nil:
		i.Names = "joliet"
		root, err = parseRecord(joliet[156:190])
	default:
		i.Names = "plain"
	}
	return root, err
}

// read returns a piece of the index. Size is bounded by the caller.
func (i *Image) read(at, size int64) ([]byte, error) {
	if i.taken += max(0, size); i.taken > maxIndex {
		return nil, fmt.Errorf("has an index of more than %d bytes", maxIndex)
	}
	if at < 0 || size < 0 || at > i.Size-size {
		return nil, fmt.Errorf("reaches to byte %d of %d", at+size, i.Size)
	}
	b := make([]byte, size)
	if n, err := i.r.ReadAt(b, at); n < len(b) {
		return nil, err
	}
	return b, nil
}

// Files returns all files, links too, in the order of the image. The slice is
// shared: do not change it.
func (i *Image) Files() []File { return i.files }

// Find returns the file at a path, whose links are followed. The error wraps
// fs.ErrNotExist where there is none.
func (i *Image) Find(name string) (File, error) {
	at := path.Clean("/" + name)
	for range maxLinks {
		f, rest, ok := i.longest(at)
		switch {
		case !ok:
			return File{}, &notExist{name}
		case f.Link == "" && rest == "":
			return f, nil
		case f.Link == "":
			return File{}, &notExist{name}
		}
		next, err := resolve(path.Dir("/"+f.Path), f.Link)
		if err != nil {
			return File{}, fmt.Errorf("%q is a link to %q, which %w", f.Path, f.Link, err)
		}
		at = path.Join(next, rest)
	}
	return File{}, fmt.Errorf("%q: more than %d links", name, maxLinks)
}

// longest returns the file that a path or its longest beginning names, and what
// is left of the path: a link to a directory is on the way to its files.
func (i *Image) longest(at string) (f File, rest string, ok bool) {
	for p := at; p != "/"; p = path.Dir(p) {
		if n, ok := i.index[p[1:]]; ok {
			return i.files[n], strings.TrimPrefix(at, p), true
		}
	}
	return File{}, "", false
}

// resolve returns where a link in dir leads. Absolute targets begin at the
// root of a system that the image is not, and so lead out of it.
func resolve(dir, target string) (string, error) {
	out := errors.New("leads out of the image")
	if strings.HasPrefix(target, "/") {
		return "", out
	}
	depth := strings.Count(strings.Trim(dir, "/"), "/")
	if dir != "/" {
		depth++
	}
	for elem := range strings.SplitSeq(target, "/") {
		switch elem {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return "", out
			}
		default:
			depth++
		}
	}
	return path.Join(dir, target), nil
}

// Open returns the content of a file, which is no link.
func (i *Image) Open(f File) io.Reader {
	var parts []io.Reader
	for _, e := range f.extents {
		parts = append(parts, io.NewSectionReader(i.r, e.at, e.size))
	}
	return io.MultiReader(parts...)
}

// ReadFile returns at most the first n bytes of a file.
func (i *Image) ReadFile(f File, n int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(i.Open(f), n))
}

// fromUCS2 decodes a name of Joliet: UTF-16 with the high byte first.
func fromUCS2(b []byte) string {
	units := make([]uint16, len(b)/2)
	for k := range units {
		units[k] = binary.BigEndian.Uint16(b[2*k:])
	}
	return string(utf16.Decode(units))
}
