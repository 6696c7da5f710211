package ipxe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// PiDir is the directory in the loaders directory that holds the files of
// Raspberry Pis: the firmware for all, and what is one Pi's own in a directory
// named by its serial number or MAC.
const PiDir = "rpi"

// PiFirst is the file that a Pi 3 loads first. Later ones ask for what is in
// their flash memory to ask for, whatever they are told.
const PiFirst = "bootcode.bin"

// piOwner is the directory that a Pi asks for first: its serial number, or its
// MAC (TFTP_PREFIX of the boot loader).
var piOwner = regexp.MustCompile(`^([0-9a-f]{8}|[0-9a-f]{2}(-[0-9a-f]{2}){5})$`)

// splitPi splits the name of a file into the Pi whose own it is, if any, and the
// name for all.
func splitPi(name string) (owner, rest string) {
	owner, rest, ok := strings.Cut(name, "/")
	if !ok || !piOwner.MatchString(owner) {
		return "", name
	}
	return owner, rest
}

// HasPi reports whether there are files for Raspberry Pis.
func (l Loaders) HasPi() bool {
	fi, err := os.Stat(l.path(PiDir))
	return err == nil && fi.IsDir()
}

// openPi opens a file of a Raspberry Pi: its own, or else the one for all, as a
// Pi 4 does by itself. Links do not lead out of the directory.
func (l Loaders) openPi(name string) (*os.File, error) {
	none := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	if !filepath.IsLocal(name) {
		return nil, none
	}
	root, err := os.OpenRoot(l.path(PiDir))
	if err != nil {
		return nil, none
	}
	defer root.Close()
	_, rest := splitPi(name)
	for _, name := range []string{name, rest} {
		f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block the server
		if err == nil {
			return regular(f)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, none
		}
	}
	return nil, none
}
