package artifacts_test

import (
	gocmp "cmp"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bootd/artifacts"
	"bootd/internal/node"

	"github.com/google/go-cmp/cmp"
)

var k8s = node.Role{Name: "kubernetes", Dir: "k8s", Squashfs: []string{"kubernetes"}}

// A file's content that passes for a member, as short as it can be: the magic
// numbers of the Linux/x86 boot protocol, RFC 1952 and squashfs 4.0.
var (
	bzImage = strings.Repeat("\x00", 0x202) + "HdrS" + "end"
	gz      = "\x1f\x8b\x08\x00data"
	sqfs    = superblock(96)
)

// superblock returns a squashfs superblock that claims an image of size bytes.
func superblock(size uint64) string {
	b := make([]byte, 96)
	copy(b, "hsqs")
	binary.LittleEndian.PutUint64(b[40:], size)
	return string(b)
}

// tree writes files, named relative to ephemeral/data, and opens their root.
func tree(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, "ephemeral/data", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// release returns the three files of a complete release with the names of
// source 004.
func release(dir, id, base string) map[string]string {
	return map[string]string{
		dir + "/" + id + "/5.3.18-24.37-default-" + id + ".kernel": bzImage,
		dir + "/" + id + "/initrd.img-" + id + ".xz":               gz,
		dir + "/" + id + "/" + base + "-" + id + ".squashfs":       sqfs,
	}
}

func merge(ms ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range ms {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

func TestScanFindsSetsOfSource004(t *testing.T) {
	root := tree(t, map[string]string{
		"k8s/0.0.8/kubernetes-0.0.8.squashfs":                                                         sqfs,
		"k8s/0.0.8/initrd.img-0.0.8.xz":                                                               gz,
		"k8s/0.0.8/5.3.18-24.37-default-0.0.8.kernel":                                                 bzImage,
		"k8s/fe775c6-1659395320990/5.3.18-150300.59.76-default-fe775c6-1659395320990.kernel":          bzImage,
		"k8s/fe775c6-1659395320990/initrd.img-fe775c6-1659395320990.xz":                               gz,
		"k8s/fe775c6-1659395320990/secure-kubernetes-fe775c6-1659395320990.squashfs":                  sqfs,
		"k8s/fe775c6-1659395320990/kubernetes-fe775c6-1659395320990.squashfs":                         "not looked at",
		"k8s/fe775c6-1659395320990/initrd.img-fe775c6-1659395320990.xz.sha256sum.txt":                 "sum",
		"k8s/fe775c6-1659395320990/kubernetes-fe775c6-1659395320990.squashfs.part":                    "half",
		"k8s/fe775c6-1659395320990/.5.14.0-default-fe775c6-1659395320990.kernel":                      "half",
		"k8s/fe775c6-1659395320990/old/secure-kubernetes-fe775c6-1659395320990.squashfs":              "old",
		"k8s/old/5.3.18-old.kernel":                                                                   bzImage,
		"k8s/.incoming/5.3.18-incoming.kernel":                                                        bzImage,
		"k8s/README.txt":                                                                              "hello",
		"k8s/0.0.8/installed.packages-0.0.8.txt":                                                      "list",
		"k8s/1.5.0/5.14.21-150400.24.46-default-1.5.0-x86_64.kernel":                                  "MZ\x00\x00",
		"k8s/1.5.0/initrd.img-1.5.0-x86_64.xz":                                                        "\xfd7zXZ\x00",
		"k8s/1.5.0/kubernetes-1.5.0-x86_64.squashfs":                                                  sqfs,
		"k8s/1.5.0/5.14.21-150400.24.46-64kb-1.5.0-aarch64.kernel":                                    strings.Repeat("\x00", 56) + "ARM\x64",
		"k8s/1.5.0/initrd.img-1.5.0-aarch64.xz":                                                       "\x28\xb5\x2f\xfd",
		"k8s/1.5.0/kubernetes-1.5.0-aarch64.squashfs":                                                 sqfs,
		"ceph/0.0.7/storage-ceph-0.0.7.squashfs":                                                      sqfs,
		"ceph/0.0.7/this-directory-belongs-to-another-role-and-is-no-business-of-the-one-that-we-are": "",
	})
	got := artifacts.Scan(root, k8s)
	const unstable = "ephemeral/data/k8s/fe775c6-1659395320990/"
	want := []artifacts.Set{
		{Role: "kubernetes", Release: "1.5.0", Channel: "stable", Arch: "x86_64", KernelSize: 4, InitrdSize: 6, SquashfsSize: 96,
			Kernel:   "ephemeral/data/k8s/1.5.0/5.14.21-150400.24.46-default-1.5.0-x86_64.kernel",
			Initrd:   "ephemeral/data/k8s/1.5.0/initrd.img-1.5.0-x86_64.xz",
			Squashfs: "ephemeral/data/k8s/1.5.0/kubernetes-1.5.0-x86_64.squashfs"},
		{Role: "kubernetes", Release: "1.5.0", Channel: "stable", Arch: "aarch64", KernelSize: 60, InitrdSize: 4, SquashfsSize: 96,
			Kernel:   "ephemeral/data/k8s/1.5.0/5.14.21-150400.24.46-64kb-1.5.0-aarch64.kernel",
			Initrd:   "ephemeral/data/k8s/1.5.0/initrd.img-1.5.0-aarch64.xz",
			Squashfs: "ephemeral/data/k8s/1.5.0/kubernetes-1.5.0-aarch64.squashfs"},
		{Role: "kubernetes", Release: "0.0.8", Channel: "stable", KernelSize: 521, InitrdSize: 8, SquashfsSize: 96,
			Kernel:   "ephemeral/data/k8s/0.0.8/5.3.18-24.37-default-0.0.8.kernel",
			Initrd:   "ephemeral/data/k8s/0.0.8/initrd.img-0.0.8.xz",
			Squashfs: "ephemeral/data/k8s/0.0.8/kubernetes-0.0.8.squashfs"},
		{Role: "kubernetes", Release: "fe775c6-1659395320990", Channel: "unstable", KernelSize: 521, InitrdSize: 8, SquashfsSize: 96,
			Kernel:   unstable + "5.3.18-150300.59.76-default-fe775c6-1659395320990.kernel",
			Initrd:   unstable + "initrd.img-fe775c6-1659395320990.xz",
			Squashfs: unstable + "secure-kubernetes-fe775c6-1659395320990.squashfs"},
	}
	if diff := cmp.Diff(want, got.Sets); diff != "" {
		t.Errorf("sets (-want +got):\n%s", diff)
	}
	if len(got.Problems) != 0 {
		t.Errorf("problems: got %v, want none", got.Problems)
	}
}

func TestScanBadReleases(t *testing.T) {
	const (
		d      = "k8s/0.0.8/"
		kernel = d + "5.3.18-24.37-default-0.0.8.kernel"
		initrd = d + "initrd.img-0.0.8.xz"
		squash = d + "kubernetes-0.0.8.squashfs"
	)
	replace := func(name string, with func(string) error) func(string) error {
		return func(data string) error {
			name := filepath.Join(data, name)
			if err := os.RemoveAll(name); err != nil || with == nil {
				return err
			}
			return with(name)
		}
	}
	write := func(content string) func(string) error {
		return func(name string) error { return os.WriteFile(name, []byte(content), 0o644) }
	}
	link := func(to string) func(string) error {
		return func(name string) error { return os.Symlink(to, name) }
	}
	for _, tt := range []struct {
		name string
		harm func(data string) error
		want []string // errors of the problems
	}{
		{"initrd missing", replace(initrd, nil), []string{"initrd: initrd.img-0.0.8.xz is missing"}},
		{"kernel missing", replace(kernel, nil), []string{"kernel: *-0.0.8.kernel is missing"}},
		{"squashfs missing", replace(squash, nil), []string{"squashfs: kubernetes-0.0.8.squashfs is missing"}},
		{"squashfs is an XML error page", replace(squash, write("<?xml version=\"1.0\"?><Error>")), []string{`squashfs: kubernetes-0.0.8.squashfs is not a squashfs image (begins with "<?xml")`}},
		{"squashfs cut short", replace(squash, write(superblock(100000))), []string{"squashfs: kubernetes-0.0.8.squashfs is cut short: 96 of 100000 bytes"}},
		{"kernel is a boot loader", replace(kernel, write("\x7fELF\x02\x01\x01")), []string{`kernel: 5.3.18-24.37-default-0.0.8.kernel is not a Linux kernel (begins with "\x7fELF\x02\x01\x01")`}},
		{"initrd is a check sum", replace(initrd, write("d41d8cd98f00b204  initrd")), []string{`initrd: initrd.img-0.0.8.xz is not an initrd (xz, gzip, zstd, lz4 or cpio) (begins with "d41d8cd98f00")`}},
		{"initrd empty", replace(initrd, write("")), []string{"initrd: initrd.img-0.0.8.xz is empty"}},
		{"kernel a directory", replace(kernel, func(n string) error { return os.Mkdir(n, 0o755) }), []string{"kernel: 5.3.18-24.37-default-0.0.8.kernel is a directory, not a file"}},
		{"initrd a pipe nobody writes to", replace(initrd, func(n string) error { return syscall.Mkfifo(n, 0o644) }), []string{"initrd: initrd.img-0.0.8.xz is a named pipe, not a file"}},
		{"squashfs dangles", replace(squash, link("../0.0.7/gone")), []string{`squashfs: kubernetes-0.0.8.squashfs is a dangling link to "../0.0.7/gone"`}},
		{"squashfs leads outside", replace(squash, link("/etc/passwd")), []string{`squashfs: kubernetes-0.0.8.squashfs is a link to "/etc/passwd" that cannot be followed: path escapes from parent`}},
		{"bad secure squashfs hides no good plain one", replace(d+"secure-kubernetes-0.0.8.squashfs", write("<html>")), []string{`squashfs: secure-kubernetes-0.0.8.squashfs is not a squashfs image (begins with "<html>")`}},
		{"two kernels", replace(d+"5.14.21-default-0.0.8.kernel", write(bzImage)), []string{"kernel: 5.14.21-default-0.0.8.kernel and 5.3.18-24.37-default-0.0.8.kernel are both there: keep one"}},
		{"kernel with a blank", func(data string) error {
			return os.Rename(filepath.Join(data, kernel), filepath.Join(data, d, "5.3 18-0.0.8.kernel"))
		}, []string{"kernel: 5.3 18-0.0.8.kernel has a character in its name other than letters, digits and . _ + ~ -"}},
		{"files of another release", func(data string) error {
			return os.Rename(filepath.Join(data, "k8s/0.0.8"), filepath.Join(data, "k8s/0.0.9"))
		}, []string{"ephemeral/data/k8s/0.0.9 holds no kernel, initrd or squashfs of this release"}},
		{"release with a line break", func(data string) error {
			return os.Rename(filepath.Join(data, "k8s/0.0.8"), filepath.Join(data, "k8s/0.0\n8"))
		}, []string{"ephemeral/data/k8s/0.0\n8 has a character in its name other than letters, digits and . _ + ~ -"}},
		{"no directory of the role", replace("k8s", nil), []string{"ephemeral/data/k8s cannot be read: no such file or directory"}},
		{"everything wrong", func(data string) error {
			os.Remove(filepath.Join(data, kernel))
			os.Remove(filepath.Join(data, initrd))
			return os.WriteFile(filepath.Join(data, squash), nil, 0o644)
		}, []string{"kernel: *-0.0.8.kernel is missing", "initrd: initrd.img-0.0.8.xz is missing", "squashfs: kubernetes-0.0.8.squashfs is empty"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, release("k8s", "0.0.8", "kubernetes"))
			if err := tt.harm(filepath.Join(root.Name(), "ephemeral/data")); err != nil {
				t.Fatal(err)
			}
			c := artifacts.Scan(root, k8s)
			if len(c.Sets) != 0 {
				t.Errorf("sets: got %v, want none", c.Sets)
			}
			var got []string
			for _, p := range c.Problems {
				got = append(got, p.Error())
				if p.Role != "kubernetes" || !strings.HasPrefix(p.File, "ephemeral/data/k8s") {
					t.Errorf("problem names role %q and file %q, want kubernetes and ephemeral/data/k8s...", p.Role, p.File)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestScanUnreadableFile scans as a user who may not read one of the files:
// root may read everything.
func TestScanUnreadableFile(t *testing.T) {
	root := tree(t, release("k8s", "0.0.8", "kubernetes"))
	if err := root.Chmod("ephemeral/data/k8s/0.0.8/initrd.img-0.0.8.xz", 0); err != nil {
		t.Fatal(err)
	}
	var c artifacts.Catalog
	asNobody(func() { c = artifacts.Scan(root, k8s) })
	if len(c.Problems) != 1 || len(c.Sets) != 0 {
		t.Fatalf("got %+v, want one problem", c)
	}
	if got, want := c.Problems[0].Error(), "initrd: initrd.img-0.0.8.xz cannot be read: permission denied"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// asNobody runs f on a thread that opens files as nobody: setfsuid(2) also
// takes root's right to ignore modes away. The thread ends with its goroutine.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		f()
	}()
	<-done
}

func TestScanRealFiles(t *testing.T) {
	root := tree(t, release("k8s", "0.0.8", "kubernetes"))
	dir := filepath.Join(root.Name(), "ephemeral/data/k8s/0.0.8")
	tool(t, dir, "rm kubernetes-0.0.8.squashfs && mksquashfs /etc/passwd kubernetes-0.0.8.squashfs -quiet -no-progress")
	// lz4 is the kernel's ARCHIVE_MAGICNUMBER 0x184C2102 of decompress_unlz4.c.
	const lz4 = `{ printf '\002\041\114\030'; cat; }`
	for _, pack := range []string{"cat", "xz", "gzip", "zstd", lz4} {
		tool(t, dir, "echo initrd.img-0.0.8.xz | cpio -o -H newc --quiet | "+pack+" > new && mv new initrd.img-0.0.8.xz")
		if c := artifacts.Scan(root, k8s); len(c.Sets) != 1 {
			t.Errorf("%s: got %v, want one set", pack, c.Problems)
		}
	}
	tool(t, dir, "truncate -s 200 kubernetes-0.0.8.squashfs")
	c := artifacts.Scan(root, k8s)
	if len(c.Problems) != 1 || !strings.HasPrefix(c.Problems[0].What, "is cut short: 200 of ") {
		t.Errorf("truncated image: got %v, want it to be cut short", c.Problems)
	}
}

// tool runs a line of shell, and skips the test where a tool of it is missing.
func tool(t *testing.T, dir, line string) {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", line)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	if ee, ok := errors.AsType[*exec.ExitError](err); ok && ee.ExitCode() == 127 && os.Getenv("BOOT_REQUIRE") == "" {
		t.Skipf("missing: %s", out)
	}
	t.Fatalf("%s: %v\n%s", line, err, out)
}

func TestScanRefusesBadRoleDirectories(t *testing.T) {
	root := tree(t, release("k8s", "0.0.8", "kubernetes"))
	for _, dir := range []string{"", ".", "..", "../../../etc", "/etc", "k8s/../k8s"} {
		c := artifacts.Scan(root, node.Role{Name: "r", Dir: dir, Squashfs: []string{"kubernetes"}})
		if len(c.Sets) != 0 || len(c.Problems) != 1 || c.Problems[0].What != "is not a directory below ephemeral/data" {
			t.Errorf("dir %q: got %+v, want it refused", dir, c)
		}
	}
}

// ascending is the order wanted; each neighbour pair is a case.
var ascending = []string{
	"", "fe775c6", "v1.0.0", // no version, no build time
	"ffffff0-1659395320989", "fe775c6-1659395320990", "1234567-1659395320991", "abc-21659395320991",
	"0.0.7", "0.0.8", "0.0.10", "1.2", "1.2.3", "1.2.3-9", "1.2.3-23", "1.2.3-rc1", "1.2.3-rc2", "1.2.3-rc10",
	"1.2.3-abc-1659395320990", "1.2.3-1659395320991",
	"1.2.4", "1.9.0", "1.10.0", "01.10.1", "1.10.1", "1.10.1.1", "2.0.0-1",
	"99999999999999999999998.0.0", "99999999999999999999999.0.0",
}

func TestCompare(t *testing.T) {
	for i, a := range ascending {
		for j, b := range ascending {
			if got, want := artifacts.Compare(a, b), gocmp.Compare(i, j); got != want {
				t.Errorf("Compare(%q, %q): got %d, want %d", a, b, got, want)
			}
		}
	}
}

func FuzzCompare(f *testing.F) {
	f.Add("1.2.3", "1.2.3-23", "fe775c6-1659395320990")
	f.Add("a\nb", "0.0", "-0")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba := artifacts.Compare(a, b), artifacts.Compare(b, a)
		if ab != -ba || (ab == 0) != (a == b) {
			t.Errorf("%q, %q: got %d and %d, want opposites, zero only for the same", a, b, ab, ba)
		}
		if ab <= 0 && artifacts.Compare(b, c) <= 0 && artifacts.Compare(a, c) > 0 {
			t.Errorf("%q <= %q <= %q: got the first after the last", a, b, c)
		}
	})
}

func TestSelect(t *testing.T) {
	all := merge(
		release("k8s", "1.9.0", "kubernetes"), release("k8s", "1.10.0", "kubernetes"),
		release("k8s", "1.11.0-3", "kubernetes"),
		release("k8s", "fe775c6-1659395320990", "kubernetes"), release("k8s", "0a1b2c3-1659395320991", "kubernetes"),
		map[string]string{"k8s/2.0.0/initrd.img-2.0.0.xz": gz, "k8s/2.0.0/5.3-2.0.0.kernel": bzImage},
	)
	unstable := merge(release("k8s", "1.11.0-3", "kubernetes"), release("k8s", "fe775c6-1659395320990", "kubernetes"))
	for _, tt := range []struct {
		name    string
		files   map[string]string
		role    node.Role // pins and channel only
		pin     string
		want    string
		wantErr string
	}{
		{"newest stable", all, node.Role{}, "", "1.10.0", ""},
		{"newest stable by word", all, node.Role{Channel: "stable"}, "", "1.10.0", ""},
		{"newest unstable", all, node.Role{Channel: "unstable"}, "", "1.11.0-3", ""},
		{"role pin before channel", all, node.Role{Channel: "unstable", Release: "1.9.0"}, "", "1.9.0", ""},
		{"role pin to the other channel", all, node.Role{Release: "fe775c6-1659395320990"}, "", "fe775c6-1659395320990", ""},
		{"node pin before role pin", all, node.Role{Release: "1.9.0"}, "1.11.0-3", "1.11.0-3", ""},
		{"node pin to an incomplete release", all, node.Role{}, "2.0.0", "",
			`no release "2.0.0", to which the node is pinned: release 2.0.0: squashfs: kubernetes-2.0.0.squashfs is missing`},
		{"node pin to nothing", all, node.Role{}, "3.0.0", "",
			`no release "3.0.0", to which the node is pinned: ephemeral/data/k8s has 1.11.0-3, 1.10.0, 1.9.0, 0a1b2c3-1659395320991, fe775c6-1659395320990`},
		{"role pin to nothing", unstable, node.Role{Release: "3.0.0"}, "", "",
			`no release "3.0.0", to which the role is pinned: ephemeral/data/k8s has 1.11.0-3, fe775c6-1659395320990`},
		{"no stable release", unstable, node.Role{}, "", "", "no stable release: ephemeral/data/k8s has 1.11.0-3, fe775c6-1659395320990"},
		{"no release", map[string]string{"k8s/README.txt": ""}, node.Role{}, "", "", "no stable release: none in ephemeral/data/k8s"},
		{"no directory", nil, node.Role{}, "", "", "no stable release: ephemeral/data/k8s cannot be read: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			role := k8s
			role.Channel, role.Release = tt.role.Channel, tt.role.Release
			got, err := artifacts.Scan(tree(t, tt.files), role).Select(tt.pin)
			if got.Release != tt.want {
				t.Errorf("got release %q, want %q", got.Release, tt.want)
			}
			if msg := errorText(err); msg != tt.wantErr {
				t.Errorf("got error %q, want %q", msg, tt.wantErr)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Times are the reverse of the versions, which must not matter.
func TestSelectIgnoresModificationTimes(t *testing.T) {
	root := tree(t, merge(release("k8s", "1.0.0", "kubernetes"), release("k8s", "2.0.0", "kubernetes")))
	err := fs.WalkDir(root.FS(), "ephemeral/data/k8s/2.0.0", func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, root.Chtimes(name, time.Unix(0, 0), time.Unix(0, 0)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := artifacts.Scan(root, k8s).Select(""); got.Release != "2.0.0" || err != nil {
		t.Errorf("got %q, %v, want 2.0.0", got.Release, err)
	}
}

func TestPassedOver(t *testing.T) {
	root := tree(t, merge(
		release("k8s", "1.0.0", "kubernetes"),
		map[string]string{"k8s/0.9.0/README": "", "k8s/1.1.0/README": "", "k8s/1.1.0-1/README": ""},
	))
	for _, tt := range []struct {
		pin  string
		want []string
	}{{"", []string{"1.1.0"}}, {"1.0.0", nil}} {
		role := k8s
		role.Release = tt.pin
		c := artifacts.Scan(root, role)
		set, err := c.Select("")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range c.PassedOver(set) {
			got = append(got, p.Release)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("role pinned to %q: got %q, want %q", tt.pin, got, tt.want)
		}
	}
}

func TestResolve(t *testing.T) {
	root := tree(t, merge(release("k8s", "0.0.8", "kubernetes"), release("ceph", "0.0.7", "storage-ceph")))
	ceph := node.Role{Name: "storage-ceph", Dir: "ceph", Squashfs: []string{"storage-ceph"}}
	catalogs := map[string]artifacts.Catalog{"kubernetes": artifacts.Scan(root, k8s), "storage-ceph": artifacts.Scan(root, ceph)}
	got := artifacts.Resolve([]node.Node{
		{Name: "ncn-m001", Role: "kubernetes"},
		{Name: "ncn-s001", Role: "storage-ceph"},
		{Name: "ncn-s002", Role: "storage-ceph", Release: "9.9.9"},
		{Name: "x", Role: "other"},
	}, catalogs)
	want := []string{
		"ncn-m001 ephemeral/data/k8s/0.0.8/kubernetes-0.0.8.squashfs ",
		"ncn-s001 ephemeral/data/ceph/0.0.7/storage-ceph-0.0.7.squashfs ",
		`ncn-s002  no release "9.9.9", to which the node is pinned: ephemeral/data/ceph has 0.0.7`,
		"x  its releases were not looked for",
	}
	for i, c := range got {
		if line := c.Node.Name + " " + c.Set.Squashfs + " " + errorText(c.Err); line != want[i] {
			t.Errorf("got %q, want %q", line, want[i])
		}
	}
}

func TestKernelVersion(t *testing.T) {
	for _, tt := range []struct{ kernel, release, version, rule string }{
		{"5.3.18-24.37-default-0.0.8.kernel", "0.0.8", "5.3.18-24.37-default", "5.3.18-24.37"},
		{"5.3.18-150300.59.76-default-1.2.3-x86_64.kernel", "1.2.3", "5.3.18-150300.59.76-default", "5.3.18-150300.59.76"},
		{"6.1-fe775c6-1659395320990.kernel", "fe775c6-1659395320990", "6.1", "6.1"},
	} {
		s := artifacts.Set{Release: tt.release, Kernel: "ephemeral/data/k8s/" + tt.release + "/" + tt.kernel}
		if got := s.KernelVersion(); got != tt.version {
			t.Errorf("%s: version: got %s, want %s", tt.kernel, got, tt.version)
		}
		if got := s.KernelRule(); got != tt.rule {
			t.Errorf("%s: rule: got %s, want %s", tt.kernel, got, tt.rule)
		}
	}
}

func TestClosed(t *testing.T) {
	root := tree(t, release("k8s", "0.0.8", "kubernetes"))
	set, err := artifacts.Scan(root, k8s).Select("")
	if err != nil {
		t.Fatal(err)
	}
	if got := artifacts.Closed(root, set); got != nil {
		t.Errorf("open to all: got %q, want nothing", got)
	}
	for name, mode := range map[string]os.FileMode{set.Initrd: 0o640, "ephemeral/data/k8s": 0o750} {
		if err := root.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"ephemeral/data/k8s (mode 0750)", "ephemeral/data/k8s/0.0.8/initrd.img-0.0.8.xz (mode 0640)"}
	if got := artifacts.Closed(root, set); !slices.Equal(got, want) {
		t.Errorf("closed: got %q, want %q", got, want)
	}
}
