// Package iso9660 writes a small ISO 9660 volume of a few files, in memory.
//
// The names are there three times: as ECMA-119 wants them (USER_DAT.;1), in
// Rock Ridge (RRIP 1.10 over SUSP 1.10) and in Joliet level 3, because plain
// names lose the hyphen, and each reader prefers another extension. All three
// lead to the same data.
//
// An image is the same, byte for byte, when files, label and time are. It
// consists of whole sectors, as does its directory, and it holds no boot
// record and no other directory than the root.
//
// go-diskfs v1.9.4 has such a writer and is not used: a last file of a multiple
// of 2048 bytes erases its Joliet directory, its images end within a sector, and
// the files, which hold secrets, must lie in a directory on disk.
package iso9660

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// sector is the unit of everything on a volume (ECMA-119, 6.1.2).
const sector = 2048

// The sectors of an image. Each table and each directory has one.
const (
	primaryAt      = 16 + iota // ECMA-119, 8.4
	jolietAt                   // ECMA-119, 8.5
	terminatorAt               // ECMA-119, 8.3
	pathLAt                    // least significant byte first
	pathMAt                    // most significant byte first
	jolietPathLAt              //
	jolietPathMAt              //
	rootAt                     // the directory with Rock Ridge
	jolietRootAt               //
	continuationAt             // what Rock Ridge says of itself
	dataAt                     // the first file
)

// A File is one file of an image.
type File struct {
	Name string // such as user-data
	Data []byte
}

// maxLabel is the longest label that the UCS-2 of Joliet leaves room for.
const maxLabel = 16

// The names and labels of an image.
var (
	nameRule  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	labelRule = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// Image returns a volume with that label and these files, all readable by
// everybody and of that time. It refuses names that are not plain, that are
// the same in the eight letters of ECMA-119, and more than a directory of one
// sector has room for.
func Image(label string, at time.Time, files []File) ([]byte, error) {
	if len(label) > maxLabel || !labelRule.MatchString(label) {
		return nil, fmt.Errorf("label: %q is not 1 to %d letters, digits, _ and -", label, maxLabel)
	}
	list, next, err := place(files)
	if err != nil {
		return nil, err
	}
	v := volume{label: label, at: at.UTC(), files: list, sectors: next}
	return v.image()
}

// placed is a file and where its data lies.
type placed struct {
	File
	short string // in ECMA-119
	at    uint32 // sector
}

// place sorts the files by their short names, as a directory has them
// (ECMA-119, 9.3), and gives each its sectors.
func place(files []File) (list []placed, next uint32, err error) {
	for _, f := range files {
		if !nameRule.MatchString(f.Name) {
			return nil, 0, fmt.Errorf("file: %q is not a plain name in lower case", f.Name)
		}
		list = append(list, placed{File: f, short: short(f.Name)})
	}
	slices.SortFunc(list, func(a, b placed) int { return cmp.Compare(a.short, b.short) })
	next = dataAt
	for i, f := range list {
		if i > 0 && list[i-1].short == f.short {
			return nil, 0, fmt.Errorf("files: %q and %q are both %s in ISO 9660", list[i-1].Name, f.Name, f.short)
		}
		list[i].at = next
		next += uint32((len(f.Data) + sector - 1) / sector)
	}
	return list, next, nil
}

// short is a name of level 1: up to eight letters, a dot, up to three, and the
// version (ECMA-119, 7.5 and 10.1).
func short(name string) string {
	base, ext, _ := strings.Cut(name, ".")
	plain := func(s string, most int) string {
		s = strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(s))
		return s[:min(len(s), most)]
	}
	return plain(base, 8) + "." + plain(ext, 3) + ";1"
}

// A volume is what an image is made of.
type volume struct {
	label   string
	at      time.Time
	files   []placed
	sectors uint32 // in all
}

func (v *volume) image() ([]byte, error) {
	root, joliet := v.rootDirectory(), v.jolietDirectory()
	if len(root) > sector || len(joliet) > sector {
		return nil, errors.New("files: more than a directory of one sector has room for")
	}
	image := make([]byte, int(v.sectors)*sector)
	put := func(at int, b []byte) { copy(image[at*sector:], b) }
	put(primaryAt, v.descriptor(false))
	put(jolietAt, v.descriptor(true))
	put(terminatorAt, []byte("\xffCD001\x01"))
	put(pathLAt, pathTable(binary.LittleEndian, rootAt))
	put(pathMAt, pathTable(binary.BigEndian, rootAt))
	put(jolietPathLAt, pathTable(binary.LittleEndian, jolietRootAt))
	put(jolietPathMAt, pathTable(binary.BigEndian, jolietRootAt))
	put(rootAt, root)
	put(jolietRootAt, joliet)
	put(continuationAt, extensionReference())
	for _, f := range v.files {
		put(int(f.at), f.Data)
	}
	return image, nil
}

// pathTableSize is that of a table with the root alone.
const pathTableSize = 10

// pathTable is a path table (ECMA-119, 9.4) of the root alone.
func pathTable(order binary.ByteOrder, root uint32) []byte {
	b := []byte{1, 0} // length of the name, no extended attributes
	b = appendOrder(b, order, root)
	if order == binary.ByteOrder(binary.LittleEndian) {
		return append(b, 1, 0, 0, 0) // the root is its own parent; its name is 0, and a pad
	}
	return append(b, 0, 1, 0, 0)
}

func appendOrder(b []byte, order binary.ByteOrder, n uint32) []byte {
	var four [4]byte
	order.PutUint32(four[:], n)
	return append(b, four[:]...)
}

// descriptor is the primary or the Joliet volume descriptor (ECMA-119, 8.4 and
// 8.5), which differ in their type, in the coding of texts and in what they
// lead to.
func (v *volume) descriptor(joliet bool) []byte {
	kind, root, pathL, pathM := byte(1), uint32(rootAt), uint32(pathLAt), uint32(pathMAt)
	text, escape := padded, ""
	if joliet {
		kind, root, pathL, pathM = 2, jolietRootAt, jolietPathLAt, jolietPathMAt
		text, escape = paddedUCS2, "%/E" // UCS-2 level 3
	}
	var b bytes.Buffer
	b.WriteByte(kind)
	b.WriteString("CD001\x01\x00")
	b.Write(text("", 32))      // system
	b.Write(text(v.label, 32)) // volume
	b.Write(make([]byte, 8))
	b.Write(both32(v.sectors))
	b.WriteString(escape + strings.Repeat("\x00", 32-len(escape)))
	b.Write(both16(1)) // volumes in the set
	b.Write(both16(1)) // this one
	b.Write(both16(sector))
	b.Write(both32(pathTableSize))
	b.Write(binary.LittleEndian.AppendUint32(nil, pathL))
	b.Write(make([]byte, 4)) // no second table
	b.Write(binary.BigEndian.AppendUint32(nil, pathM))
	b.Write(make([]byte, 4))
	b.Write(v.record("\x00", root, sector, isDirectory, nil))
	for _, length := range []int{128, 128, 128, 128, 37, 37, 37} { // set, publisher, preparer, application, three files
		b.Write(text("", length))
	}
	written := v.at.Format("20060102150405") + "00\x00" // in UTC (8.4.26.1)
	never := strings.Repeat("0", 16) + "\x00"
	b.WriteString(written + written + never + never) // created, modified, expires, effective
	b.WriteByte(1)                                   // version of the structure of files
	return b.Bytes()
}

// padded is a text filled up with blanks (ECMA-119, 7.4.3.2).
func padded(s string, length int) []byte { return []byte(s + strings.Repeat(" ", length-len(s))) }

// paddedUCS2 is the same in UCS-2, most significant byte first. An odd byte at
// the end is zero.
func paddedUCS2(s string, length int) []byte {
	b := ucs2(s + strings.Repeat(" ", length/2-len(s)))
	return append(b, make([]byte, length-len(b))...)
}

func ucs2(s string) (b []byte) {
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	return b
}

// both32 is a number in both byte orders (ECMA-119, 7.3.3).
func both32(n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, n), n)
}

// both16 is a number in both byte orders (ECMA-119, 7.2.3).
func both16(n uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, n), n)
}

const isDirectory = 2 // file flag (ECMA-119, 9.1.6)

// record is a directory record (ECMA-119, 9.1) with what the extensions say in
// its end. Name and record both have an even end.
func (v *volume) record(name string, at, size uint32, flags byte, extensions []byte) []byte {
	var b bytes.Buffer
	b.Write([]byte{0, 0})
	b.Write(both32(at))
	b.Write(both32(size))
	b.Write(v.stamp())
	b.Write([]byte{flags, 0, 0})
	b.Write(both16(1))
	b.WriteByte(byte(len(name)))
	b.WriteString(name)
	pad(&b)
	b.Write(extensions)
	pad(&b)
	out := b.Bytes()
	out[0] = byte(len(out))
	return out
}

func pad(b *bytes.Buffer) {
	if b.Len()%2 != 0 {
		b.WriteByte(0)
	}
}

// stamp is the time of a directory record, in UTC (ECMA-119, 9.1.5).
func (v *volume) stamp() []byte {
	t := v.at
	return []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0}
}

// rootDirectory is the root with the names of ECMA-119 and Rock Ridge.
func (v *volume) rootDirectory() []byte {
	const directoryMode, fileMode = 0o040555, 0o100444
	own := slices.Concat(suspStart, v.attributes(directoryMode, 2), continuation(len(extensionReference())))
	b := v.record("\x00", rootAt, sector, isDirectory, own)
	b = append(b, v.record("\x01", rootAt, sector, isDirectory, v.attributes(directoryMode, 2))...)
	for _, f := range v.files {
		more := append(v.attributes(fileMode, 1), nameField(f.Name)...)
		b = append(b, v.record(f.short, f.at, uint32(len(f.Data)), 0, more)...)
	}
	return b
}

// jolietDirectory is the root with the names of Joliet.
func (v *volume) jolietDirectory() []byte {
	b := v.record("\x00", jolietRootAt, sector, isDirectory, nil)
	b = append(b, v.record("\x01", jolietRootAt, sector, isDirectory, nil)...)
	for _, f := range v.files {
		b = append(b, v.record(string(ucs2(f.Name)), f.at, uint32(len(f.Data)), 0, nil)...)
	}
	return b
}

// suspStart says that the system use fields are those of SUSP, and begin at
// once (SUSP 1.10, 5.3).
var suspStart = []byte("SP\x07\x01\xbe\xef\x00")

// attributes are mode, links, owner and time (RRIP 1.10, 4.1.1 and 4.1.6).
func (v *volume) attributes(mode, links uint32) []byte {
	b := slices.Concat([]byte("PX\x24\x01"), both32(mode), both32(links), both32(0), both32(0))
	const modified = 2
	return append(append(b, 'T', 'F', 12, 1, modified), v.stamp()...)
}

// nameField is a name as it is (RRIP 1.10, 4.1.4).
func nameField(name string) []byte {
	return append([]byte{'N', 'M', byte(5 + len(name)), 1, 0}, name...)
}

// continuation says where more fields are (SUSP 1.10, 5.1).
func continuation(length int) []byte {
	return slices.Concat([]byte("CE\x1c\x01"), both32(continuationAt), both32(0), both32(uint32(length)))
}

// extensionReference names Rock Ridge (SUSP 1.10, 5.5; RRIP 1.10, 4.3).
func extensionReference() []byte {
	const (
		id     = "RRIP_1991A"
		what   = "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
		source = "PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION."
	)
	head := []byte{'E', 'R', byte(8 + len(id) + len(what) + len(source)), 1, byte(len(id)), byte(len(what)), byte(len(source)), 1}
	return append(head, id+what+source...)
}
