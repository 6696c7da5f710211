package artifacts

import (
	"encoding/binary"
	"strings"
	"testing"
)

// head is a kernel of the boot protocol 2.00 whose version is text.
func head(pointer uint16, text string) []byte {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], pointer)
	return append(b, text...)
}

func TestKernelVersion(t *testing.T) {
	for _, tt := range []struct {
		name string
		head []byte
		want string
	}{
		{"Debian", head(0x200, "6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP\x00rest"), "6.1.0-56-cloud-amd64"},
		{"at the end", head(0x200, "6.1.0"), "6.1.0"},
		{"none", head(0, "6.1.0"), ""},
		{"outside", head(0xffff, "6.1.0"), ""},
		{"empty", head(0x200, "\x00"), ""},
		{"no file name", head(0x200, "../../etc (x)"), ""},
		{"too long", head(0x200, strings.Repeat("6", 65)), ""},
		{"arm64", append([]byte("MZ"), head(0x200, "6.1.0")[2:0x202]...), ""},
		{"cut", head(0x200, "")[:0x20f], ""},
	} {
		if got := kernelVersion(tt.head); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// FuzzHead: whatever a file begins with, it is told what it is, and what
// becomes part of a name is fit for that.
func FuzzHead(f *testing.F) {
	f.Add(head(0x200, "6.1.0-56 (x)"), int64(1000))
	f.Add([]byte("hsqs"), int64(4))
	f.Add([]byte("#cloud-config\n"), int64(14))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if v := kernelVersion(b); v != "" && !safeName.MatchString(v) {
			t.Errorf("version %q", v)
		}
		for _, member := range []string{kernel, initrd, squashfs, iso, cpio} {
			if what := fault(member, b, size); what == "" && len(b) == 0 {
				t.Errorf("nothing is a %s", member)
			}
		}
		hasHeader(b)
		if sum, err := ParseSum(string(b), "x.iso"); err == nil && !sumRule.MatchString(sum) {
			t.Errorf("sum %q", sum)
		}
	})
}
