package ipxe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"bootd/internal/node"
)

// loaderDir makes a directory with some loaders, laid out as Debian does:
// ipxe.efi is an absolute link to a file elsewhere.
func loaderDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "ipxe.efi")
	write(t, elsewhere, "MZ ipxe")
	if err := os.Symlink(elsewhere, filepath.Join(dir, "ipxe.efi")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"undionly.kpxe", "snponly.efi", "ipxe-arm64.efi", "secret.efi",
		"shimx64.efi", "grubx64.efi", "ipxe-shimx64.efi", "x86_64-sb/snponly-shim.efi", "x86_64-sb/snponly.efi", "x86_64-sb/secret.efi"} {
		write(t, filepath.Join(dir, name), "MZ "+name)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The numbers are from the IANA registry "Processor Architecture Types".
func TestLoadersFor(t *testing.T) {
	dir := loaderDir(t)
	tests := []struct {
		arch   uint16
		choice node.Loader
		name   string
		ok     bool
	}{
		{arch: 0, name: "undionly.kpxe", ok: true},                     // x86 BIOS
		{arch: 6, name: "ipxe-i386.efi"},                               // x86 UEFI; file is not there
		{arch: 15, name: "ipxe-i386.efi"},                              // x86 UEFI HTTP
		{arch: 7, name: "snponly.efi", ok: true},                       // x64 UEFI
		{arch: 9, name: "snponly.efi", ok: true},                       // EBC, sent for x64
		{arch: 16, name: "snponly.efi", ok: true},                      // x64 UEFI HTTP
		{arch: 17, name: "snponly.efi", ok: true},                      // EBC UEFI HTTP
		{arch: 7, choice: node.LoaderIPXE, name: "ipxe.efi", ok: true}, // a link out of the directory
		{arch: 16, choice: node.LoaderIPXE, name: "ipxe.efi", ok: true},
		{arch: 0, choice: node.LoaderIPXE, name: "ipxe.pxe"},
		{arch: 0, choice: node.LoaderGRUBShim, name: "undionly.kpxe", ok: true}, // a BIOS knows no shim
		{arch: 39, choice: node.LoaderIPXEShim, name: "ipxe-loong64.efi"},       // iPXE signs none
		{arch: 7, choice: node.LoaderSNPOnlyShim, name: "x86_64-sb/snponly-shim.efi", ok: true},
		{arch: 16, choice: node.LoaderIPXEShim, name: "ipxe-shimx64.efi", ok: true}, // the second name
		{arch: 19, choice: node.LoaderIPXEShim, name: "arm64-sb/ipxe-shim.efi"},
		{arch: 7, choice: node.LoaderGRUB, name: "grubx64.efi", ok: true}, // of the directory, or Debian's
		{arch: 7, choice: node.LoaderGRUBShim, name: "shimx64.efi", ok: true},
		{arch: 11, name: "ipxe-arm64.efi", ok: true},
		{arch: 19, name: "ipxe-arm64.efi", ok: true},
		{arch: 27, name: "ipxe-riscv64.efi"},
		{arch: 28, name: "ipxe-riscv64.efi"},
		{arch: 39, name: "ipxe-loong64.efi"},
		{arch: 40, name: "ipxe-loong64.efi"},
		{arch: 1}, {arch: 10}, {arch: 18}, {arch: 20}, {arch: 25}, {arch: 41}, {arch: 0xffff},
	}
	for _, tt := range tests {
		name, ok := Loaders{Dir: dir}.For(tt.arch, tt.choice)
		if name != tt.name || ok != tt.ok {
			t.Errorf("For(%d, %v): got %q %v, want %q %v", tt.arch, tt.choice, name, ok, tt.name, tt.ok)
		}
	}
}

func TestLoadersMissing(t *testing.T) {
	got := Loaders{Dir: loaderDir(t)}.Missing(node.LoaderSNPOnly)
	want := []string{"ipxe-i386.efi", "ipxe-riscv64.efi", "ipxe-loong64.efi"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLoadersOpen(t *testing.T) {
	dir := loaderDir(t)
	if err := os.Mkdir(filepath.Join(dir, "ipxe-i386.efi"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "ipxe-loong64.efi"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := Loaders{Dir: dir}
	for _, name := range []string{"undionly.kpxe", "snponly.efi", "ipxe.efi", "shimx64.efi", "x86_64-sb/snponly-shim.efi", "x86_64-sb/snponly.efi"} {
		f, err := l.Open(name)
		if err != nil {
			t.Errorf("Open(%q): got %v, want a file", name, err)
			continue
		}
		f.Close()
	}
	for _, name := range []string{
		"", ".", "..", "secret.efi", "../undionly.kpxe", "./snponly.efi", "snponly.efi\x00", "SNPONLY.EFI",
		"x86_64-sb/secret.efi", "x86_64-sb/../secret.efi", "x86_64-sb/mmx64.efi", "revocations_sku.efi",
		"ipxe-riscv64.efi", "ipxe-i386.efi", "ipxe-loong64.efi", // absent, a directory, a FIFO
	} {
		if _, err := l.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q): got %v, want fs.ErrNotExist", name, err)
		}
	}
}

func TestLoadersCheck(t *testing.T) {
	dir := loaderDir(t)
	tests := []struct {
		l    Loaders
		want string
	}{
		{Loaders{Dir: dir}, ""},
		{Loaders{Dir: dir + "/none"}, "stat " + dir + "/none: no such file or directory"},
		{Loaders{Dir: dir + "/undionly.kpxe"}, dir + "/undionly.kpxe: not a directory"},
	}
	for _, tt := range tests {
		got := ""
		if err := tt.l.Check(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.l, got, tt.want)
		}
	}
}

// The types are those of UEFI 2.10, section 24.7.
func TestMediaType(t *testing.T) {
	tests := map[string]string{
		"snponly.efi": "application/efi", "X.EFI": "application/efi",
		"a.iso": "application/vnd.efi-iso", "a.img": "application/vnd.efi-img",
		"kernel": "application/octet-stream", "initrd.img.xz": "application/octet-stream",
	}
	for name, want := range tests {
		if got := mediaType(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
