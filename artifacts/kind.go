package artifacts

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"bootd/internal/node"
)

// The members of a set.
const (
	kernel   = "kernel"
	initrd   = "initrd"
	squashfs = "squashfs"
	iso      = "iso"
	cpio     = "cpio"
)

// third is what the third member is called in a Problem.
func third(r node.Rootfs) string { return cmp.Or(string(r), squashfs) }

// headSize covers the last magic number looked at, the one of bzImage; that of
// an ISO image comes much later.
const headSize = 0x206

const isoHeadSize = isoVolume + 2048

// isoVolume is where the primary volume descriptor of an ISO image is
// (ECMA-119, 6.2.1 and 8.4).
const isoVolume = 16 * 2048

// check reports the size of the file name, or what is wrong with it as a
// member of that kind. It never blocks on a named pipe.
func check(root *os.Root, name, member string) (size int64, what string) {
	fi, err := root.Stat(name)
	if err != nil {
		return 0, statFault(root, name, err)
	}
	if !fi.Mode().IsRegular() {
		return 0, "is " + kindOf(fi.Mode()) + ", not a file"
	}
	if fi.Size() == 0 {
		return 0, "is empty"
	}
	n := headSize
	if member == iso {
		n = isoHeadSize
	}
	head, err := readHead(root, name, n)
	if err != nil {
		return 0, "cannot be read: " + reason(err)
	}
	return fi.Size(), fault(member, head, fi.Size())
}

func readHead(root *os.Root, name string, size int) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, size)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// statFault says why the file behind name, which a directory lists, is not
// there.
func statFault(root *os.Root, name string, err error) string {
	target, linkErr := root.Readlink(name)
	switch {
	case linkErr != nil:
		return "cannot be read: " + reason(err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("is a dangling link to %q", target)
	default:
		return fmt.Sprintf("is a link to %q that cannot be followed: %s", target, reason(err))
	}
}

// reason strips the file name from an error, for messages that begin with it.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return err.Error()
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// fault says why a file of this size that begins with head is no such member;
// empty: it is one.
func fault(member string, head []byte, size int64) string {
	switch member {
	case kernel:
		return unless(isKernel(head), "Linux kernel", head)
	case initrd:
		return unless(isInitrd(head), "initrd (xz, gzip, zstd, lz4 or cpio)", head)
	case cpio:
		return unless(isInitrd(head), "cpio archive", head)
	case iso:
		return isoFault(head, size)
	}
	if !bytes.HasPrefix(head, []byte("hsqs")) {
		return unless(false, "squashfs image", head)
	}
	if want := squashfsSize(head); want > uint64(size) {
		return fmt.Sprintf("is cut short: %d of %d bytes", size, want)
	}
	return ""
}

func isoFault(head []byte, size int64) string {
	if !at(head, isoVolume, "\x01CD001") || len(head) < isoHeadSize {
		return unless(false, "ISO 9660 image", head)
	}
	const volumeSize, sector = 80, 2048
	if want := int64(binary.LittleEndian.Uint32(head[isoVolume+volumeSize:])) * sector; want > size {
		return fmt.Sprintf("is cut short: %d of %d bytes", size, want)
	}
	return ""
}

func unless(ok bool, kind string, head []byte) string {
	if ok {
		return ""
	}
	article := "a"
	if strings.HasPrefix(strings.ToLower(kind), "i") {
		article = "an"
	}
	return fmt.Sprintf("is not %s %s (begins with %q)", article, kind, firstWord(head))
}

// isKernel knows an x86 kernel by the header of the Linux/x86 boot protocol
// (2.00 and later), one with an EFI stub as a PE image, and an arm64 Image
// without one by the magic number of its header.
func isKernel(head []byte) bool {
	return at(head, 0x202, "HdrS") || at(head, 0, "MZ") || at(head, 56, "ARM\x64")
}

// isInitrd knows what the kernel unpacks: cpio in the new ASCII format, bare
// or compressed. The lz4 is its legacy format, the only one the kernel reads.
func isInitrd(head []byte) bool {
	for _, magic := range []string{"\xfd7zXZ\x00", "\x1f\x8b", "\x28\xb5\x2f\xfd", "\x02\x21\x4c\x18", "070701", "070702"} {
		if at(head, 0, magic) {
			return true
		}
	}
	return false
}

func at(b []byte, off int, magic string) bool {
	return len(b) >= off && bytes.HasPrefix(b[off:], []byte(magic))
}

// squashfsSize returns the length that the superblock (squashfs 4.0) claims
// for the image, and zero where head is too short to tell.
func squashfsSize(head []byte) uint64 {
	const bytesUsed = 40
	if len(head) < bytesUsed+8 {
		return 0
	}
	return binary.LittleEndian.Uint64(head[bytesUsed:])
}

// firstWord is as much of a file's beginning as tells a person what it is.
func firstWord(head []byte) []byte {
	head = head[:min(len(head), 12)]
	if i := bytes.IndexAny(head, " \t\r\n"); i > 0 {
		head = head[:i]
	}
	return head
}

// kernelVersion returns the version in the header of an x86 kernel (Linux/x86
// boot protocol 2.00, kernel_version), as uname -r shows it; empty: it has none
// there.
func kernelVersion(head []byte) string {
	const pointer, base = 0x20e, 0x200
	if !at(head, 0x202, "HdrS") || len(head) < pointer+2 {
		return ""
	}
	begin := base + int(binary.LittleEndian.Uint16(head[pointer:]))
	if begin == base || begin >= len(head) {
		return ""
	}
	text, _, _ := bytes.Cut(head[begin:], []byte{0})
	version, _, _ := bytes.Cut(text, []byte(" "))
	if len(version) > 64 || !safeName.Match(version) {
		return ""
	}
	return string(version)
}
