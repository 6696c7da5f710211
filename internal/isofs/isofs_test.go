package isofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bootd/internal/isofs"
)

// makers are the ways to an image that distributions go.
var makers = map[string][]string{
	"genisoimage rock ridge": {"genisoimage", "-quiet", "-V", "COS_LIVE", "-r"},
	"genisoimage joliet":     {"genisoimage", "-quiet", "-V", "COS_LIVE", "-J", "-joliet-long"},
	"genisoimage both":       {"genisoimage", "-quiet", "-V", "COS_LIVE", "-r", "-J", "-joliet-long"},
	"xorriso rock ridge":     {"xorriso", "-as", "mkisofs", "-quiet", "-V", "COS_LIVE", "-r", "-iso-level", "3"},
	"xorriso both":           {"xorriso", "-as", "mkisofs", "-quiet", "-V", "COS_LIVE", "-r", "-J", "-joliet-long"},
}

// files are what the images of the tests hold, links as "-> target".
func files() map[string]string {
	long := strings.Repeat("a-long-name.", 16) + "yaml"
	random := make([]byte, 300_001)
	for i := range random {
		random[i] = byte(rand.N(256))
	}
	m := map[string]string{
		"boot/kernel": string(random), "boot/initrd": "initrd", "rootfs.squashfs": string(random[:4096]), "empty": "",
		".edge_custom_config.yaml": "a: b\n", ".disk/info": "info",
		"opt/spectrocloud/content/core.zst_part00": "zst", "a/b/c/d/e/f": "deep", "x/d/e/f": "not the same",
		"oem/name with blanks.yaml": "#cloud-config\n", long[:60]: "long",
		"live/vmlinuz": "-> vmlinuz-6.1.0-56", "live/vmlinuz-6.1.0-56": "kernel of Debian", "live/up": "-> ../boot/kernel", "casper": "-> ./live",
	}
	for i := range 300 { // more than a sector of records
		m[fmt.Sprintf("many/file-%03d", i)] = fmt.Sprint(i)
	}
	return m
}

func lay(t testing.TB, m map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range m {
		name = filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = errors.Join(err, os.Symlink(target, name))
		} else {
			err = errors.Join(err, os.WriteFile(name, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// build makes an image of a directory.
func build(t testing.TB, dir string, maker []string) string {
	t.Helper()
	iso := filepath.Join(t.TempDir(), "x.iso")
	run(t, maker[0], append(maker[1:len(maker):len(maker)], "-o", iso, dir)...)
	return iso
}

// run runs a tool of .ci/deps.
func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil && os.Getenv("BOOT_REQUIRE") == "" {
		t.Skipf("%v: run make deps", err)
	}
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.Bytes())
	}
	return out
}

func open(t testing.TB, iso string) (*isofs.Image, error) {
	t.Helper()
	f, err := os.Open(iso)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return isofs.Open(f, fi.Size())
}

// Every file of every kind of image reads as xorriso, which shares no code
// with us or with genisoimage, extracts it.
func TestReadsAsXorriso(t *testing.T) {
	m := files()
	src := lay(t, m)
	for name, maker := range makers {
		t.Run(name, func(t *testing.T) {
			iso := build(t, src, maker)
			image, err := open(t, iso)
			if err != nil {
				t.Fatal(err)
			}
			joliet := strings.HasSuffix(name, "joliet")
			if want := map[bool]string{true: "joliet", false: "rock-ridge"}[joliet]; image.Names != want || image.Label != "COS_LIVE" {
				t.Errorf("got names %q, label %q, want %q, COS_LIVE", image.Names, image.Label, want)
			}
			out := filepath.Join(t.TempDir(), "out")
			run(t, "xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", out)
			run(t, "chmod", "-R", "u+w", out) // or the directories cannot be removed
			seen := 0
			for _, f := range image.Files() {
				if f.Link != "" {
					if got, err := os.Readlink(filepath.Join(out, f.Path)); err != nil || got != strings.TrimPrefix(m[f.Path], "-> ") || got != f.Link {
						t.Errorf("%s: got link to %q, xorriso has %q, %v", f.Path, f.Link, got, err)
					}
					seen++
					continue
				}
				got, err := io.ReadAll(image.Open(f))
				if err != nil {
					t.Errorf("%s: %v", f.Path, err)
				}
				if want, err := os.ReadFile(filepath.Join(out, f.Path)); err != nil || !bytes.Equal(got, want) || int64(len(want)) != f.Size {
					t.Errorf("%s: got %d bytes, xorriso has %d, %v", f.Path, len(got), len(want), err)
				}
				if string(got) != m[f.Path] {
					t.Errorf("%s: is not what was put in", f.Path)
				}
				seen++
			}
			want := len(m)
			if joliet {
				want -= 3 // genisoimage has no links there
			}
			if seen != want {
				t.Errorf("got %d files, want %d", seen, want)
			}
		})
	}
}

// Plain names are read as Linux shows them, and their content as isoinfo, which
// is of genisoimage, has it.
func TestPlainNames(t *testing.T) {
	iso := build(t, lay(t, map[string]string{"boot/kernel": "k", "boot/x/initrd.img": "i", "noext": "n"}), []string{"genisoimage", "-quiet", "-V", "PLAIN"})
	image, err := open(t, iso)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range image.Files() {
		names = append(names, f.Path)
	}
	slices.Sort(names)
	if want := []string{"boot/kernel", "boot/x/initrd.img", "noext"}; !slices.Equal(names, want) || image.Names != "plain" {
		t.Fatalf("got %q of %s names, want %q", names, image.Names, want)
	}
	for ours, theirs := range map[string]string{"boot/kernel": "/BOOT/KERNEL.;1", "boot/x/initrd.img": "/BOOT/X/INITRD.IMG;1"} {
		f, err := image.Find(ours)
		if err != nil {
			t.Fatal(err)
		}
		got, err := image.ReadFile(f, 100)
		if want := run(t, "isoinfo", "-i", iso, "-x", theirs); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, %v, isoinfo has %q", ours, got, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	m := files()
	for from, to := range map[string]string{
		"out": "../../etc/passwd", "absolute": "/etc/passwd", "loop": "loop", "a/out": "../../x", "a/in": "../boot/kernel", "dangling": "nothing", "into": "boot/kernel/x",
	} {
		m[from] = "-> " + to
	}
	image, err := open(t, build(t, lay(t, m), makers["xorriso rock ridge"]))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"boot/kernel": "boot/kernel", "/boot//kernel": "boot/kernel", "live/vmlinuz": "live/vmlinuz-6.1.0-56", "casper/vmlinuz": "live/vmlinuz-6.1.0-56",
		"live/up": "boot/kernel", "a/in": "boot/kernel", "../../boot/kernel": "boot/kernel",
	} {
		if f, err := image.Find(name); err != nil || f.Path != want {
			t.Errorf("Find(%q): got %q, %v, want %q", name, f.Path, err, want)
		}
	}
	for name, want := range map[string]string{
		"out": `"out" is a link to "../../etc/passwd", which leads out of the image`, "absolute": `"absolute" is a link to "/etc/passwd", which leads out of the image`,
		"a/out": `"a/out" is a link to "../../x", which leads out of the image`, "loop": `"loop": more than 16 links`,
		"dangling": `"dangling" is not in the image`, "into": `"into" is not in the image`, "boot": `"boot" is not in the image`, "boot/kernel/x": `"boot/kernel/x" is not in the image`,
	} {
		if _, err := image.Find(name); err == nil || err.Error() != want || strings.HasSuffix(want, "not in the image") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Find(%q): got %v, want %s", name, err, want)
		}
	}
}

// A file of more than 4 GiB has several records of one name.
func TestSeveralExtents(t *testing.T) {
	first, second := strings.Repeat("1", 4096), strings.Repeat("2", 100)
	iso := build(t, lay(t, map[string]string{"big": first, "bih": second, "z": "z"}), []string{"genisoimage", "-quiet"})
	patch(t, iso, func(b []byte) {
		r := bytes.Index(b, []byte("BIG.;1")) - 33
		b[r+25] |= 0x80 // goes on
		copy(b[bytes.Index(b, []byte("BIH.;1")):], "BIG.;1")
	})
	image, err := open(t, iso)
	if err != nil {
		t.Fatal(err)
	}
	f, err := image.Find("big")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := image.ReadFile(f, 1<<20); err != nil || string(got) != first+second || f.Size != int64(len(got)) {
		t.Errorf("got %d bytes, size %d, %v, want %d", len(got), f.Size, err, len(first+second))
	}
	patch(t, iso, func(b []byte) { copy(b[bytes.LastIndex(b, []byte("BIG.;1")):], "BIH.;1") })
	if _, err := open(t, iso); err == nil || err.Error() != `directory "/": "big": its last extent is missing` {
		t.Errorf("got %v", err)
	}
}

func patch(t testing.TB, file string, change func([]byte)) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// What is damaged is told, with what is wrong and where.
func TestDamaged(t *testing.T) {
	m := map[string]string{"boot/kernel": "kernel", "boot/initrd": "initrd", "many/a": "a", "link": "-> boot/kernel"}
	good := build(t, lay(t, m), makers["genisoimage rock ridge"])
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	// record returns where the record of a Rock Ridge name begins.
	record := func(b []byte, plain string) int { return bytes.LastIndex(b, []byte(plain)) - 33 }
	for name, x := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":           {func(b []byte) []byte { return nil }, "is not an ISO 9660 image"},
		"html":            {func(b []byte) []byte { return bytes.Repeat([]byte("<html>"), 20_000) }, "is not an ISO 9660 image"},
		"cut short":       {func(b []byte) []byte { return b[:len(b)-400_000+300_000] }, fmt.Sprintf("is cut short: %d of %d bytes", len(whole)-100_000, len(whole))},
		"no root":         {func(b []byte) []byte { return b[:17*2048] }, "has no end of its volume descriptors: EOF"},
		"block size":      {func(b []byte) []byte { b[16*2048+129], b[16*2048+128] = 2, 0; return b }, "has blocks of 512 bytes, not of 2048"},
		"slash in name":   {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("kernel"), []byte("../../")) }, `directory "/boot": "../../" cannot be the name of a file`},
		"dots as name":    {func(b []byte) []byte { return rename(b, "kernel", "..") }, `directory "/boot": ".." cannot be the name of a file`},
		"same name twice": {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("kernel"), []byte("initrd")) }, `directory "/boot": "boot/initrd" is there twice`},
		"outside":         {func(b []byte) []byte { b[record(b, "KERNEL.;1")+4] = 0x7f; return b }, `directory "/boot": "boot/kernel" reaches to byte 17`},
		"record too long": {func(b []byte) []byte { b[record(b, "KERNEL.;1")] = 20; return b }, `directory "/boot": record of 20 bytes does not fit`},
		"name too long":   {func(b []byte) []byte { b[record(b, "KERNEL.;1")+32] = 250; return b }, `directory "/boot": record has a name of 250 bytes`},
		"interleaved":     {func(b []byte) []byte { b[record(b, "KERNEL.;1")+27] = 1; return b }, `directory "/boot": "KERNEL.;1" is interleaved, which no system reads`},
		"endless":         {func(b []byte) []byte { b[record(b, "KERNEL.;1")+25] |= 0x80; return b }, `directory "/boot": "boot/kernel": its last extent is missing`},
		"huge directory":  {func(b []byte) []byte { b[record(b, "BOOT")+13] = 0x7f; return b }, `directory "/boot": has 213`},
		"directory loop":  {func(b []byte) []byte { copy(b[record(b, "MANY")+2:][:4], b[16*2048+156+2:]); return b }, `directory "/many": is there twice, or inside itself`},
		"field too long":  {func(b []byte) []byte { b[bytes.Index(b, []byte("NM\x0b"))+2] = 200; return b }, `a field of Rock Ridge does not fit`},
		"field continues": {func(b []byte) []byte { return loopField(b) }, `more than 65536 bytes of Rock Ridge`},
	} {
		t.Run(name, func(t *testing.T) {
			b := x.change(slices.Clone(whole))
			_, err := isofs.Open(bytes.NewReader(b), int64(len(b)))
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %s", err, x.want)
			}
		})
	}
}

// rename gives a Rock Ridge name another one, of fewer bytes.
func rename(b []byte, from, to string) []byte {
	nm := bytes.Index(b, append([]byte{'N', 'M', byte(5 + len(from)), 1, 0}, from...))
	rest := slices.Clone(b[nm+5+len(from) : nm+5+len(from)+80])
	b[nm+2] = byte(5 + len(to))
	copy(b[nm+5:], to)
	copy(b[nm+5+len(to):], rest)
	return b
}

// loopField makes the fields of the root continue in themselves.
func loopField(b []byte) []byte {
	ce := bytes.Index(b, []byte("CE\x1c\x01"))
	at := ce / 2048
	for i, v := range []int{at, ce % 2048, 28} {
		b[ce+4+8*i], b[ce+5+8*i], b[ce+6+8*i], b[ce+7+8*i] = byte(v), byte(v>>8), byte(v>>16), 0
	}
	return b
}

// FuzzOpen: whatever an image holds, it is read or refused, and what is read
// stays within it.
func FuzzOpen(f *testing.F) {
	src := lay(f, map[string]string{"boot/kernel": "kernel", "live/initrd.img": "initrd", "link": "-> boot/kernel", "dir": "-> live", "out": "-> ../../x"})
	for _, maker := range makers {
		b, err := os.ReadFile(build(f, src, maker))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[16*2048 : min(len(b), 64*2048)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(make([]byte, 16*2048), b...)
		image, err := isofs.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		var total int64
		for _, f := range image.Files() {
			if !fs.ValidPath(f.Path) || len(f.Path) == 0 {
				t.Errorf("%q is no path", f.Path)
			}
			if n, err := io.Copy(io.Discard, image.Open(f)); err != nil || n != f.Size {
				t.Errorf("%q: read %d of %d bytes, %v", f.Path, n, f.Size, err)
			}
			if total += f.Size; total > 64<<20 {
				return // files may share their bytes
			}
			if found, err := image.Find(f.Path); err == nil && found.Link != "" {
				t.Errorf("%q: found the link %q", f.Path, found.Path)
			}
		}
	})
}
