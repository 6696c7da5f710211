package artifacts_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bootd/artifacts"
	"bootd/internal/lab"
	"bootd/internal/node"
)

// real are files as they are in images: a kernel and an initrd of Debian, a
// squashfs, and a cpio archive.
type real struct {
	version                        string // of the kernel
	kernel, initrd, squashfs, cpio []byte
}

func realFiles(t testing.TB) real {
	t.Helper()
	im := lab.ImagesForTest(t)
	root := t.TempDir()
	if err := im.WriteRelease(t.Context(), root, lab.Release{Dir: "k8s", ID: "1.0.0", Base: "kubernetes"}); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	archive := exec.Command("sh", "-c", "echo rootfs >etc; echo etc | cpio --quiet -o -H newc")
	archive.Dir = t.TempDir()
	cpio, err := archive.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "ephemeral/data/k8s/1.0.0")
	return real{im.Version, read(im.Kernel), read(im.Initrd), read(filepath.Join(dir, "kubernetes-1.0.0.squashfs")), cpio}
}

// family is an image as a distribution lays it out.
type family struct {
	family node.Family
	files  map[string][]byte
	links  map[string]string
	from   map[string]string // member to path
	rootfs node.Rootfs
	notes  int
}

func families(r real) map[string]family {
	pxe := func(more string, b []byte) map[string][]byte {
		return map[string][]byte{"images/pxeboot/vmlinuz": r.kernel, "images/pxeboot/initrd.img": r.initrd, more: b, "EFI/BOOT/grub.cfg": []byte("menu"), ".treeinfo": []byte("[general]")}
	}
	from := func(k, i, third, path string) map[string]string {
		m := map[string]string{"kernel": k, "initrd": i}
		if third != "" {
			m[third] = path
		}
		return m
	}
	const pk, pi = "images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"
	return map[string]family{
		"kairos": {family: node.FamilyKairos, files: map[string][]byte{"boot/kernel": r.kernel, "boot/initrd": r.initrd, "rootfs.squashfs": r.squashfs, "boot/grub2/grub.cfg": []byte("menu"), "boot/uefi.img": {1}},
			from: from("boot/kernel", "boot/initrd", "squashfs", "rootfs.squashfs")},
		"coreos":      {family: node.FamilyCoreOS, files: pxe("images/pxeboot/rootfs.img", r.cpio), from: from(pk, pi, "cpio", "images/pxeboot/rootfs.img"), rootfs: node.CPIO},
		"anaconda":    {family: node.FamilyAnaconda, files: pxe("images/install.img", r.squashfs), from: from(pk, pi, "squashfs", "images/install.img")},
		"dracut-live": {family: node.FamilyDracutLive, files: pxe("LiveOS/squashfs.img", r.squashfs), from: from(pk, pi, "squashfs", "LiveOS/squashfs.img")},
		"debian-live, several kernels": {family: node.FamilyDebianLive, files: map[string][]byte{
			"live/vmlinuz-6.1.0-9-amd64": []byte("MZ old"), "live/initrd.img-6.1.0-9-amd64": []byte("070701old"),
			"live/vmlinuz-6.1.0-13-amd64": r.kernel, "live/initrd.img-6.1.0-13-amd64": r.initrd, "live/filesystem.squashfs": r.squashfs},
			from: from("live/vmlinuz-6.1.0-13-amd64", "live/initrd.img-6.1.0-13-amd64", "squashfs", "live/filesystem.squashfs")},
		"debian-live, links": {family: node.FamilyDebianLive, files: map[string][]byte{"live/vmlinuz-6": r.kernel, "live/initrd.img-6": r.initrd, "live/filesystem.squashfs": r.squashfs},
			links: map[string]string{"live/vmlinuz": "vmlinuz-6", "live/initrd.img": "initrd.img-6"}, from: from("live/vmlinuz-6", "live/initrd.img-6", "squashfs", "live/filesystem.squashfs")},
		"casper": {family: node.FamilyCasper, files: map[string][]byte{"casper/vmlinuz": r.kernel, "casper/initrd": r.initrd, "casper/minimal.squashfs": r.squashfs, "casper/minimal.standard.squashfs": r.squashfs},
			from: from("casper/vmlinuz", "casper/initrd", "iso", ""), rootfs: node.ISO, notes: 1},
		"debian-installer, mini.iso": {family: node.FamilyDebianInstaller, files: map[string][]byte{"linux": r.kernel, "initrd.gz": r.initrd}, from: from("linux", "initrd.gz", "", ""), rootfs: node.NoRootfs},
		"debian-installer, CD": {family: node.FamilyDebianInstaller, files: map[string][]byte{"install.amd/vmlinuz": r.kernel, "install.amd/initrd.gz": r.initrd, "install.amd/gtk/vmlinuz": r.kernel},
			from: from("install.amd/vmlinuz", "install.amd/initrd.gz", "", ""), rootfs: node.NoRootfs, notes: 1},
	}
}

// burn makes an image of files.
func burn(t testing.TB, label string, files map[string][]byte, links map[string]string) string {
	t.Helper()
	if _, err := exec.LookPath("xorriso"); err != nil && os.Getenv("BOOT_REQUIRE") == "" {
		t.Skipf("%v: run make deps", err)
	}
	dir := t.TempDir()
	for name, b := range files {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	iso := filepath.Join(t.TempDir(), "image.iso")
	if out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-V", label, "-r", "-J", "-joliet-long", "-o", iso, dir).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	return iso
}

func openImage(t testing.TB, iso string) (*artifacts.Image, error) {
	t.Helper()
	f, err := os.Open(iso)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return artifacts.OpenImage(f)
}

var edge = node.Role{Name: "edge", Dir: "edge", Squashfs: []string{"edge"}, Channel: "stable"}

func importInto(t testing.TB, root *os.Root, image *artifacts.Image, id string) ([]artifacts.Set, error) {
	t.Helper()
	if err := errors.Join(image.Settle(), image.Sum(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	return artifacts.Import{Root: root, Role: edge}.ISO(t.Context(), image, id)
}

// Every family becomes a release of the files that xorriso extracts, with a
// manifest that says where it came from, and is found as that.
func TestImageFamilies(t *testing.T) {
	r := realFiles(t)
	for name, f := range families(r) {
		t.Run(name, func(t *testing.T) {
			iso := burn(t, "COS_LIVE", f.files, f.links)
			image, err := openImage(t, iso)
			if err != nil {
				t.Fatal(err)
			}
			root := tempRoot(t)
			sets, err := importInto(t, root, image, "4.5.8")
			if err != nil {
				t.Fatal(err)
			}
			if image.Family != f.family || image.Rootfs != f.rootfs || image.Kernel != r.version || image.Label != "COS_LIVE" || len(image.Notes) != f.notes {
				t.Errorf("got %+v, want family %s, rootfs %q, kernel %s, %d notes", image, f.family, f.rootfs, r.version, f.notes)
			}
			c := artifacts.Scan(root, edge)
			if len(c.Problems) > 0 || len(c.Sets) != 1 || !slices.Equal(c.Sets, sets) {
				t.Fatalf("got sets %+v, problems %v, want %+v", c.Sets, c.Problems, sets)
			}
			s := c.Sets[0]
			if s.Family != f.family || s.Rootfs != f.rootfs || s.KernelVersion() != r.version || filepath.Base(s.Kernel) != r.version+"-4.5.8.kernel" || filepath.Base(s.Initrd) != "initrd.img-4.5.8.xz" {
				t.Errorf("got set %+v", s)
			}
			if want := (map[node.Rootfs]string{node.Squashfs: "edge-4.5.8.squashfs", node.ISO: "edge-4.5.8.iso", node.CPIO: "edge-4.5.8.img"})[f.rootfs]; s.Squashfs != "" && filepath.Base(s.Squashfs) != want || s.Squashfs == "" && want != "" {
				t.Errorf("got third member %q, want %q", s.Squashfs, want)
			}
			for member, file := range map[string]string{"kernel": s.Kernel, "initrd": s.Initrd, "squashfs": s.Squashfs, "cpio": s.Squashfs, "iso": s.Squashfs} {
				from, ok := f.from[member]
				if !ok {
					continue
				}
				got, err := root.ReadFile(file)
				if want := extract(t, iso, from); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: got %d bytes, %v, xorriso has %d of %q", member, len(got), err, len(want), from)
				}
			}
			if err := artifacts.Verify(t.Context(), root, s, nil); err != nil || !artifacts.Verified(root, s) {
				t.Errorf("not verified: %v", err)
			}
			checkSource(t, root, s, iso)
			moveOn(t, root, s)
		})
	}
}

// extract returns a file as xorriso has it; an empty path is the image.
func extract(t testing.TB, iso, from string) []byte {
	t.Helper()
	to := iso
	if from != "" {
		to = filepath.Join(t.TempDir(), "file")
		if out, err := exec.Command("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/"+from, to).CombinedOutput(); err != nil {
			t.Fatalf("xorriso: %v\n%s", err, out)
		}
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// moveOn imports the release into another tree, as from another host: its
// manifest comes with it, and it stays what it is.
func moveOn(t testing.TB, root *os.Root, s artifacts.Set) {
	t.Helper()
	src, err := root.OpenRoot(filepath.Dir(s.Kernel))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	other := tempRoot(t)
	sets, err := artifacts.Import{Root: other, Role: edge}.Dir(t.Context(), src)
	if err != nil || len(sets) != 1 || sets[0] != s {
		t.Errorf("from another tree: got %+v, %v, want %+v", sets, err, s)
	}
}

func checkSource(t testing.TB, root *os.Root, s artifacts.Set, iso string) {
	t.Helper()
	b, err := root.ReadFile(filepath.Join(filepath.Dir(s.Kernel), artifacts.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	var m artifacts.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(iso)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(whole)
	want := artifacts.Source{Name: "image.iso", Label: "COS_LIVE", Size: int64(len(whole)), SHA256: hex.EncodeToString(sum[:])}
	if m.Source == nil || m.Source.Name != want.Name || m.Source.Label != want.Label || m.Source.Size != want.Size || m.Source.SHA256 != want.SHA256 || m.Family != s.Family || m.Rootfs != s.Rootfs {
		t.Errorf("manifest: got %+v of %+v, want %+v", m, m.Source, want)
	}
}

// What is baked in is listed by where it is and what, and the notes say that it
// gets lost, unless the whole image is kept.
func TestImageBaked(t *testing.T) {
	const cloud = "#cloud-config\nstylus:\n  site:\n    edgeHostToken: aaaa-secret\n"
	files := map[string][]byte{
		"boot/kernel": []byte("MZ kernel"), "boot/initrd": []byte("070701"), "rootfs.squashfs": append([]byte("hsqs"), make([]byte, 200)...),
		"config.yaml": []byte(cloud), "oem/95_more.yaml": []byte("a: b\n"), "deep/er/site.yml": []byte("# a comment\n\n#kairos-config \nx: y\n"),
		"late.yaml": []byte(strings.Repeat("#\n", 10) + cloud), "other.yaml": []byte("a: b\n"), "cloud.txt": []byte(cloud),
		"opt/spectrocloud/content/core.zst_part00": []byte("1"), "opt/spectrocloud/content/core.zst_part01": []byte("2"),
		"opt/spectrocloud/clusterconfig/spc.tgz": []byte("3"), ".edge_custom_config.yaml": []byte("content: {}\n"),
		"big.yaml": append([]byte(cloud), make([]byte, 1<<20)...),
	}
	want := []string{
		".edge_custom_config.yaml key", "config.yaml user-data", "deep/er/site.yml user-data", "oem/95_more.yaml user-data",
		"opt/spectrocloud/clusterconfig/spc.tgz cluster", "opt/spectrocloud/content/core.zst_part00 content", "opt/spectrocloud/content/core.zst_part01 content",
	}
	image, err := openImage(t, burn(t, "COS_LIVE", files, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range image.Baked {
		got = append(got, b.Path+" "+b.Kind)
		if b.Size != int64(len(files[b.Path])) {
			t.Errorf("%s: got %d bytes, want %d", b.Path, b.Size, len(files[b.Path]))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	root := tempRoot(t)
	if _, err := importInto(t, root, image, "1.0.0"); err != nil {
		t.Fatal(err)
	}
	const lost = "Nodes that boot this release do not get what is baked in: it is in the image, and not in its kernel, initrd and squashfs. Import with --as-iso to keep it, or give it to them in their payload."
	if !slices.Equal(image.Notes, []string{lost}) {
		t.Errorf("got notes %q", image.Notes)
	}
	manifest, err := root.ReadFile("ephemeral/data/edge/1.0.0/manifest.json")
	if err != nil || strings.Contains(string(manifest), "secret") || !strings.Contains(string(manifest), "core.zst_part01") {
		t.Errorf("manifest: %v\n%s", err, manifest)
	}

	whole, err := openImage(t, burn(t, "COS_LIVE", files, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.Whole(); err != nil {
		t.Fatal(err)
	}
	sets, err := importInto(t, root, whole, "1.0.1")
	if err != nil || len(sets) != 1 || sets[0].Rootfs != node.ISO || sets[0].SquashfsSize != whole.Size || len(whole.Notes) != 1 || !strings.HasPrefix(whole.Notes[0], "Every machine that reaches the server can fetch the image") {
		t.Errorf("whole: got %+v, notes %q, %v", sets, whole.Notes, err)
	}
}

// What cannot be a release is refused, with what is wrong, and leaves nothing.
func TestImageRefused(t *testing.T) {
	good := func() map[string][]byte {
		return map[string][]byte{"boot/kernel": []byte("MZ kernel"), "boot/initrd": []byte("070701"), "rootfs.squashfs": append([]byte("hsqs"), make([]byte, 200)...)}
	}
	xml := []byte("<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>\n")
	for name, x := range map[string]struct {
		change func(map[string][]byte)
		want   string
	}{
		"no family":       {func(m map[string][]byte) { delete(m, "boot/kernel") }, "holds no kernel and initrd where the images that are known have them"},
		"no squashfs":     {func(m map[string][]byte) { delete(m, "rootfs.squashfs") }, "has kernel and initrd as kairos has, but no rootfs.squashfs"},
		"kernel is XML":   {func(m map[string][]byte) { m["boot/kernel"] = xml }, `has "boot/kernel" as its kernel, which is not a Linux kernel (begins with "<?xml")`},
		"squashfs is XML": {func(m map[string][]byte) { m["rootfs.squashfs"] = xml }, `has "rootfs.squashfs" as its squashfs, which is not a squashfs image (begins with "<?xml")`},
		"initrd is empty": {func(m map[string][]byte) { m["boot/initrd"] = nil }, `has "boot/initrd" as its initrd, which is empty`},
		"squashfs is cut": {func(m map[string][]byte) { m["rootfs.squashfs"][41] = 9 }, `has "rootfs.squashfs" as its squashfs, which is cut short: 204 of 2304 bytes`},
		"some pxeboot": {func(m map[string][]byte) {
			clear(m)
			m["images/pxeboot/vmlinuz"], m["images/pxeboot/initrd.img"] = []byte("MZ"), []byte("070701")
		}, "has kernel and initrd as coreos or anaconda or dracut-live has, but no images/pxeboot/rootfs.img or images/install.img or LiveOS/squashfs.img"},
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			x.change(m)
			iso := burn(t, "X", m, nil)
			if _, err := openImage(t, iso); err == nil || err.Error() != iso+" "+x.want {
				t.Errorf("got  %v\nwant %s", err, x.want)
			}
		})
	}
	iso := burn(t, "X", good(), nil)
	image, err := openImage(t, iso)
	if err != nil {
		t.Fatal(err)
	}
	root := tempRoot(t)
	for _, id := range []string{"", "../x", "a/b", ".x", "a b", "-x"} {
		if _, err := (artifacts.Import{Root: root, Role: edge}).ISO(t.Context(), image, id); err == nil || !strings.Contains(err.Error(), "cannot be the id of a release") {
			t.Errorf("id %q: got %v", id, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (artifacts.Import{Root: root, Role: edge}).ISO(gone, image, "1.0.0"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if _, err := importInto(t, root, image, "1.0.0"); err != nil {
		t.Fatal(err)
	}
	if _, err := importInto(t, root, image, "1.0.0"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("again: got %v", err)
	}
	if entries, err := fs.ReadDir(root.FS(), "ephemeral/data/edge"); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the one release", entries, err)
	}
	if err := image.Whole(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]map[string][]byte{"anaconda": {"images/pxeboot/vmlinuz": []byte("MZ"), "images/pxeboot/initrd.img": []byte("070701"), "images/install.img": append([]byte("hsqs"), make([]byte, 200)...)}} {
		i, err := openImage(t, burn(t, "X", f, nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Whole(); err == nil || err.Error() != "image.iso is of the family "+name+", which does not boot from a whole image" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The kind of the third member is what the manifest says: without one it is a
// squashfs, and a hole is a hole.
func TestThirdMember(t *testing.T) {
	isoFile := func() []byte {
		b, err := os.ReadFile(burn(t, "X", map[string][]byte{"a": []byte("a")}, nil))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}()
	cut := isoFile[:len(isoFile)-4096]
	squash := append([]byte("hsqs"), make([]byte, 200)...)
	for name, x := range map[string]struct {
		manifest string
		third    string
		content  []byte
		problem  string // empty: complete
	}{
		"none said":               {`{"rootfs":"none"}`, "", nil, ""},
		"none, and one is there":  {`{"rootfs":"none"}`, "edge-1.0.0.squashfs", squash, ""},
		"no manifest":             {"", "", nil, "squashfs: edge-1.0.0.squashfs is missing"},
		"manifest without a word": {`{"family":"kairos"}`, "", nil, "squashfs: edge-1.0.0.squashfs is missing"},
		"iso":                     {`{"rootfs":"iso"}`, "edge-1.0.0.iso", isoFile, ""},
		"iso missing":             {`{"rootfs":"iso"}`, "edge-1.0.0.squashfs", squash, "iso: edge-1.0.0.iso is missing"},
		"iso cut short":           {`{"rootfs":"iso"}`, "edge-1.0.0.iso", cut, "iso: edge-1.0.0.iso is cut short: "},
		"iso is XML":              {`{"rootfs":"iso"}`, "edge-1.0.0.iso", []byte("<?xml version"), `iso: edge-1.0.0.iso is not an ISO 9660 image (begins with "<?xml")`},
		"iso without a manifest":  {"", "edge-1.0.0.iso", isoFile, "squashfs: edge-1.0.0.squashfs is missing"},
		"cpio":                    {`{"rootfs":"cpio"}`, "edge-1.0.0.img", []byte("070701"), ""},
		"cpio is XML":             {`{"rootfs":"cpio"}`, "edge-1.0.0.img", []byte("<?xml version"), `cpio: edge-1.0.0.img is not a cpio archive (begins with "<?xml")`},
		"a kind of tomorrow":      {`{"rootfs":"erofs"}`, "edge-1.0.0.squashfs", squash, `ephemeral/data/edge/1.0.0/manifest.json cannot be read: rootfs: "erofs" is not one of iso, cpio, none`},
		"a family of tomorrow":    {`{"family":"plan9"}`, "edge-1.0.0.squashfs", squash, `ephemeral/data/edge/1.0.0/manifest.json cannot be read: family "plan9" is not known`},
	} {
		t.Run(name, func(t *testing.T) {
			root := tempRoot(t)
			dir := "ephemeral/data/edge/1.0.0/"
			if err := root.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{"6.1-1.0.0.kernel": []byte("MZ"), "initrd.img-1.0.0.xz": []byte("070701")}
			if x.third != "" {
				files[x.third] = x.content
			}
			if x.manifest != "" {
				files["manifest.json"] = []byte(x.manifest)
			}
			for name, b := range files {
				if err := root.WriteFile(dir+name, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			c := artifacts.Scan(root, edge)
			switch {
			case x.problem == "" && (len(c.Sets) != 1 || len(c.Problems) != 0):
				t.Errorf("got %+v, %v, want one set", c.Sets, c.Problems)
			case x.problem != "" && (len(c.Sets) != 0 || len(c.Problems) != 1 || !strings.HasPrefix(c.Problems[0].Error(), x.problem)):
				t.Errorf("got %+v, %v, want %s", c.Sets, c.Problems, x.problem)
			}
		})
	}
}

func TestParseSum(t *testing.T) {
	const a, b = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
	for _, tt := range []struct{ text, want, err string }{
		{a, a, ""},
		{a + "\n", a, ""},
		{a + "  x.iso\n", a, ""},
		{b + " *x.iso\r\n", strings.ToLower(b), ""},
		{a + "  ./dir/x.iso\n", a, ""},
		{"SHA256 (x.iso) = " + a, a, ""},
		{a + "  renamed.iso\n", a, ""},
		{a + "  y.iso\n" + b + "  x.iso\n", strings.ToLower(b), ""},
		{"# sums\n" + a + "  x.iso\n", a, ""},
		{a + "  y.iso\n" + b + "  z.iso\n", "", `holds no SHA-256 of "x.iso", only of y.iso, z.iso`},
		{"", "", "holds no SHA-256"},
		{"<?xml version='1.0'?>", "", "holds no SHA-256"},
		{a[1:] + "  x.iso", "", "holds no SHA-256"},
	} {
		got, err := artifacts.ParseSum(tt.text, "x.iso")
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%q: got %q, %v, want %q, %s", tt.text, got, err, tt.want, tt.err)
		}
	}
}

func tempRoot(t testing.TB) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}
