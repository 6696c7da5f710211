package ipxe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"bootd/internal/node"
	"bootd/internal/timeline"
)

// debianLoaders is where the package ipxe of Debian puts its loaders.
const debianLoaders = "/usr/lib/ipxe"

// A platform is what loaders are built for: the processor, and whether its firmware
// is a BIOS or UEFI. It is what shim and GRUB end their file names with.
type platform string

// platformOf returns for what a client architecture needs its loader, and "" where
// there is none. The numbers are the IANA registry "Processor Architecture
// Types"; RFC 4578 had 7 and 9 swapped, so some x64 firmware sends 9 (EBC).
func platformOf(arch uint16) platform {
	switch arch {
	case 0:
		return "bios"
	case 6, 15:
		return "ia32"
	case 7, 9, 16, 17:
		return "x64"
	case 11, 19:
		return "aa64"
	case 27, 28:
		return "riscv64"
	case 39, 40:
		return "loongarch64"
	}
	return ""
}

// first names the files that a machine may load first. Of several the one that
// is there is taken, or else the first named: "snponly.efi" is how the packages
// of distributions lay out iPXE, "x86_64/snponly.efi" how its own
// ipxeboot.tar.gz does, where "-sb" is what is signed, and
// "snponly-shimx64.efi" how its shim is released (docs/booting.md, "Secure
// Boot").
//
// The default is snponly: a sixth of the size of ipxe, it boots as fast, and
// works on a NIC iPXE has no driver for.
var first = map[platform]map[node.Loader][]string{
	"bios": {
		node.LoaderSNPOnly: {"undionly.kpxe"}, // the same idea: the network driver of the ROM
		node.LoaderIPXE:    {"ipxe.pxe"},
	},
	"ia32": {
		node.LoaderSNPOnly:  {"ipxe-i386.efi", "i386/snponly.efi"},
		node.LoaderIPXE:     {"ipxe-i386.efi", "i386/ipxe.efi"},
		node.LoaderGRUB:     {"grubia32.efi"},
		node.LoaderGRUBShim: {"shimia32.efi"},
	},
	"x64": {
		node.LoaderSNPOnly:     {"snponly.efi", "x86_64/snponly.efi"},
		node.LoaderIPXE:        {"ipxe.efi", "x86_64/ipxe.efi"},
		node.LoaderGRUB:        {"grubx64.efi"},
		node.LoaderSNPOnlyShim: {"x86_64-sb/snponly-shim.efi", "snponly-shimx64.efi"},
		node.LoaderIPXEShim:    {"x86_64-sb/ipxe-shim.efi", "ipxe-shimx64.efi"},
		node.LoaderGRUBShim:    {"shimx64.efi"},
	},
	"aa64": {
		node.LoaderSNPOnly:     {"ipxe-arm64.efi", "arm64/snponly.efi"},
		node.LoaderIPXE:        {"ipxe-arm64.efi", "arm64/ipxe.efi"},
		node.LoaderGRUB:        {"grubaa64.efi"},
		node.LoaderSNPOnlyShim: {"arm64-sb/snponly-shim.efi", "snponly-shimaa64.efi"},
		node.LoaderIPXEShim:    {"arm64-sb/ipxe-shim.efi", "ipxe-shimaa64.efi"},
		node.LoaderGRUBShim:    {"shimaa64.efi"},
	},
	"riscv64": {
		node.LoaderSNPOnly: {"ipxe-riscv64.efi", "riscv64/snponly.efi"},
		node.LoaderIPXE:    {"ipxe-riscv64.efi", "riscv64/ipxe.efi"},
		node.LoaderGRUB:    {"grubriscv64.efi"},
	},
	"loongarch64": {
		node.LoaderSNPOnly: {"ipxe-loong64.efi", "loong64/snponly.efi"},
		node.LoaderIPXE:    {"ipxe-loong64.efi", "loong64/ipxe.efi"},
		node.LoaderGRUB:    {"grubloongarch64.efi"},
	},
}

// second names the files that those of first look for beside themselves: shim
// its GRUB or iPXE, and MokManager where a key is to be enrolled.
var second = []string{
	"mmia32.efi", "mmx64.efi", "mmaa64.efi",
	"x86_64-sb/snponly.efi", "x86_64-sb/ipxe.efi", "x86_64-sb/shimx64.efi", "x86_64-sb/mmx64.efi",
	"arm64-sb/snponly.efi", "arm64-sb/ipxe.efi", "arm64-sb/shimaa64.efi", "arm64-sb/mmaa64.efi",
}

// packaged says where Debian's packages shim-signed, shim-helpers-*-signed and
// grub-efi-*-signed put files that are not in the loaders directory.
var packaged = map[string]string{
	"shimia32.efi": "/usr/lib/shim/shimia32.efi.signed",
	"shimx64.efi":  "/usr/lib/shim/shimx64.efi.signed",
	"shimaa64.efi": "/usr/lib/shim/shimaa64.efi.signed",
	"mmia32.efi":   "/usr/lib/shim/mmia32.efi.signed",
	"mmx64.efi":    "/usr/lib/shim/mmx64.efi.signed",
	"mmaa64.efi":   "/usr/lib/shim/mmaa64.efi.signed",
	"grubia32.efi": "/usr/lib/grub/i386-efi-signed/grubnetia32.efi.signed",
	"grubx64.efi":  "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
	"grubaa64.efi": "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed",
}

// isLoader reports whether name is one that a Loaders opens.
func isLoader(name string) bool {
	for _, choices := range first {
		for _, files := range choices {
			if slices.Contains(files, name) {
				return true
			}
		}
	}
	return slices.Contains(second, name)
}

// Optional reports whether a loader does without the file of this name, by TFTP
// or HTTP: shim without revocations and certificates of its own, a signed GRUB
// without modules and translations, iPXE without a script beside itself, and a
// Raspberry Pi without most of what it asks for.
func Optional(name string) bool {
	if pi, _ := splitPi(name); pi != "" {
		return true
	}
	dir, base := path.Split(name)
	switch path.Ext(base) {
	case ".lst", ".mod", ".mo", ".gmo":
		return strings.Contains(dir, "grub")
	}
	_, grub := strings.CutPrefix(base, "grub.cfg")
	return grub || base == "autoexec.ipxe" || base == "SkuSiPolicy.p7b" ||
		strings.HasPrefix(base, "revocations") && strings.HasSuffix(base, ".efi") ||
		strings.HasPrefix(base, "shim_certificate") && strings.HasSuffix(base, ".efi")
}

// StageOf returns which program asks for the file of this name by TFTP. A shim
// counts as firmware.
func StageOf(name string) timeline.Stage {
	if _, ok := ParseGRUBFile(name); ok || match(strings.Split(name, "/")).kind == nodeFile {
		return timeline.GRUB
	}
	if path.Base(name) == "autoexec.ipxe" {
		return timeline.IPXE
	}
	return timeline.Firmware
}

// Loaders are the loader files in a directory. Its methods may be called from
// several goroutines, and notice files that come and go.
//
// A name from outside only selects from a table, so it never reaches the file
// system; links are followed wherever they lead, because the ipxe.efi of
// Debian is a link to /boot/ipxe.efi.
type Loaders struct {
	Dir string // empty: /usr/lib/ipxe
}

// For returns the name of the file that a machine with a client architecture
// (DHCP option 93) loads first. A choice that does not exist for the
// architecture, as a shim for a BIOS, is LoaderSNPOnly. It reports false when
// there is no name, or its file is not there.
func (l Loaders) For(arch uint16, choice node.Loader) (name string, ok bool) {
	choices := first[platformOf(arch)]
	files := choices[choice]
	if files == nil {
		files = choices[node.LoaderSNPOnly]
	}
	for _, name := range files {
		if l.stat(name) == nil {
			return name, true
		}
	}
	if files == nil {
		return "", false
	}
	return files[0], false
}

// Missing returns the names of loaders that some architecture needs and that
// are not there, for one line in the log at start.
func (l Loaders) Missing(choice node.Loader) []string {
	var missing []string
	for _, arch := range []uint16{0, 6, 7, 11, 27, 39} {
		if name, ok := l.For(arch, choice); !ok {
			missing = append(missing, name)
		}
	}
	return missing
}

// Check reports what is wrong with the directory.
func (l Loaders) Check() error {
	fi, err := os.Stat(l.path("."))
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s: not a directory", l.path("."))
	}
	return err
}

// Open opens a loader by name. A name that is not a loader's, and a file that
// is not there or is not a regular one, is fs.ErrNotExist.
func (l Loaders) Open(name string) (*os.File, error) {
	if !isLoader(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := openRegular(l.path(name))
	if other := packaged[name]; other != "" && errors.Is(err, fs.ErrNotExist) {
		return openRegular(other)
	}
	return f, err
}

// stat reports why Open would fail.
func (l Loaders) stat(name string) error {
	for _, file := range []string{l.path(name), packaged[name]} {
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
			return nil
		}
	}
	return fs.ErrNotExist
}

func (l Loaders) path(name string) string {
	if l.Dir == "" {
		return filepath.Join(debianLoaders, name)
	}
	return filepath.Join(l.Dir, name)
}

// openRegular opens a file that a FIFO in its place must not block.
func openRegular(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return regular(f)
}

// regular returns f, or closes it and returns fs.ErrNotExist when it is a
// directory, a device or a FIFO.
func regular(f *os.File) (*os.File, error) {
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: fs.ErrNotExist}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mediaType returns the Content-Type of a file. UEFI HTTP Boot takes a boot
// image for what its type says, or else its suffix (UEFI 2.10, section 24.7).
func mediaType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".efi":
		return "application/efi"
	case ".iso":
		return "application/vnd.efi-iso"
	case ".img":
		return "application/vnd.efi-img"
	}
	return "application/octet-stream"
}
