package ipxe

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The names are those of the boot loader's TFTP_PREFIX 0, 1 and 2.
func TestPiFiles(t *testing.T) {
	s, _ := server(t)
	s.Loaders.Dir = t.TempDir()
	if s.Loaders.HasPi() {
		t.Error("HasPi without the directory: got true")
	}
	dir := filepath.Join(s.Loaders.Dir, "rpi")
	for _, name := range []string{"bootcode.bin", "start4.elf", "overlays/disable-bt.dtbo", "9a3f1c02/config.txt", "config.txt", "dc-a6-32-01-02-03/cmdline.txt"} {
		write(t, filepath.Join(dir, name), name)
	}
	write(t, filepath.Join(s.Loaders.Dir, "secret"), "secret")
	if err := errors.Join(os.Symlink("../secret", filepath.Join(dir, "out")), syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"bootcode.bin":                      "bootcode.bin",
		"9a3f1c02/start4.elf":               "start4.elf",
		"9a3f1c02/config.txt":               "9a3f1c02/config.txt",
		"00000001/config.txt":               "config.txt",
		"dc-a6-32-01-02-03/cmdline.txt":     "dc-a6-32-01-02-03/cmdline.txt",
		"dc-a6-32-01-02-03/config.txt":      "config.txt",
		"9a3f1c02/overlays/disable-bt.dtbo": "overlays/disable-bt.dtbo",
		"config.txt":                        "config.txt",
	} {
		f, err := s.Open(name)
		if err != nil {
			t.Errorf("%s: got %v, want a file", name, err)
			continue
		}
		b, _ := io.ReadAll(f)
		f.Close()
		if string(b) != want {
			t.Errorf("%s: got %q, want %q", name, b, want)
		}
	}
	for _, name := range []string{"", ".", "..", "out", "fifo", "overlays", "../secret", "secret", "9a3f1c02/", "9a3f1c02/../../secret", "9a3f1c02/none", "zzzzzzzz/config.txt", "/etc/passwd"} {
		if _, err := s.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: got %v, want fs.ErrNotExist", name, err)
		}
	}
	if !s.Loaders.HasPi() {
		t.Error("HasPi: got false, want true")
	}
}
