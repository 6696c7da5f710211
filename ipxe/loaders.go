package ipxe

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// LoaderDir is where the package ipxe of Debian puts its loaders.
const LoaderDir = "/usr/lib/ipxe"

// The loaders for x64 UEFI. The first uses the network driver of the firmware
// and sees only the NIC that booted; the second brings its own drivers.
//
// The first is the default: it is a sixth of the size, boots as fast, and works
// on a NIC iPXE has no driver for. A firmware with a broken driver (iPXE issues
// 1545 and 1691: HTTP slow or hanging) needs the second.
const (
	SNPOnly = "snponly.efi"
	IPXEEFI = "ipxe.efi"
)

// family returns the loader for a client architecture, with SNPOnly standing
// for x64 UEFI, and "" where there is none. The numbers are the IANA registry
// "Processor Architecture Types"; RFC 4578 had 7 and 9 swapped, so some x64
// firmware sends 9 (EBC).
func family(arch uint16) string {
	switch arch {
	case 0:
		return "undionly.kpxe"
	case 6, 15:
		return "ipxe-i386.efi"
	case 7, 9, 16, 17:
		return SNPOnly
	case 11, 19:
		return "ipxe-arm64.efi"
	case 27, 28:
		return "ipxe-riscv64.efi"
	case 39, 40:
		return "ipxe-loong64.efi"
	}
	return ""
}

// loaderNames are the only names a Loaders opens.
var loaderNames = []string{
	"undionly.kpxe", "ipxe-i386.efi", SNPOnly, IPXEEFI,
	"ipxe-arm64.efi", "ipxe-riscv64.efi", "ipxe-loong64.efi",
}

// Loaders are the loader files in a directory. Its methods may be called from
// several goroutines, and notice files that come and go.
//
// A name from outside only selects from a table, so it never reaches the file
// system; links are followed wherever they lead, because the ipxe.efi of
// Debian is a link to /boot/ipxe.efi.
type Loaders struct {
	Dir string // empty: LoaderDir
	X64 string // loader for x64 UEFI, SNPOnly or IPXEEFI; empty: SNPOnly
}

// For returns the name of the loader for a client architecture (DHCP option
// 93). It reports false when there is none or its file is not there.
func (l Loaders) For(arch uint16) (name string, ok bool) {
	name = l.name(arch)
	if name == "" {
		return "", false
	}
	fi, err := os.Stat(l.path(name))
	return name, err == nil && fi.Mode().IsRegular()
}

// Missing returns the names of loaders that some architecture needs and that
// are not there, for one line in the log at start.
func (l Loaders) Missing() []string {
	var missing []string
	for _, arch := range []uint16{0, 6, 7, 11, 27, 39} {
		if name, ok := l.For(arch); !ok {
			missing = append(missing, name)
		}
	}
	return missing
}

// Check reports what is wrong with the fields, as a configuration would have
// set them.
func (l Loaders) Check() error {
	switch l.X64 {
	case "", SNPOnly, IPXEEFI:
	default:
		return fmt.Errorf("%q is not one of %s, %s", l.X64, SNPOnly, IPXEEFI)
	}
	fi, err := os.Stat(l.path("."))
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s: not a directory", l.path("."))
	}
	return err
}

// Open opens a loader by name. A name that is not a loader's, and a file that
// is not there or is not a regular one, is fs.ErrNotExist.
func (l Loaders) Open(name string) (*os.File, error) {
	if !slices.Contains(loaderNames, name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	// A FIFO must not block the server.
	f, err := os.OpenFile(l.path(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return regular(f)
}

func (l Loaders) name(arch uint16) string {
	name := family(arch)
	if name == SNPOnly && l.X64 != "" {
		return l.X64
	}
	return name
}

func (l Loaders) path(name string) string {
	if l.Dir == "" {
		return filepath.Join(LoaderDir, name)
	}
	return filepath.Join(l.Dir, name)
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
