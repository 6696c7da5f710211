package artifacts_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"aead.dev/minisign"

	"bootd/artifacts"
	"bootd/internal/node"
)

// source makes a directory with the files of one release.
func source(t *testing.T, id string, more map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for name, content := range release("x", id, "kubernetes") {
		files[filepath.Base(name)] = content
	}
	for name, content := range more {
		files[name] = content
		if content == "" {
			delete(files, name)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
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

// visible lists what is in a role's directory, and fails on what an import
// should have cleared away.
func visible(t *testing.T, root *os.Root) (names []string) {
	t.Helper()
	entries, err := fs.ReadDir(root.FS(), "ephemeral/data/k8s")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestImportDir(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	root := tree(t, nil)
	var copied int64
	i := artifacts.Import{Root: root, Role: k8s, Progress: func(n int64) { copied += n }}
	sets, err := i.Dir(t.Context(), source(t, "1.2.3", map[string]string{"notes.txt": "no"}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := artifacts.Scan(root, k8s).Select("")
	if err != nil || len(sets) != 1 || sets[0] != got {
		t.Errorf("imported %+v, found %+v, %v", sets, got, err)
	}
	if copied != got.Size() {
		t.Errorf("progress: got %d bytes, want %d", copied, got.Size())
	}
	if closed := artifacts.Closed(root, got); closed != nil {
		t.Errorf("not open to all: %q", closed)
	}
	if !artifacts.Verified(root, got) {
		t.Error("verified: got no, want that the import read it")
	}
	if got := visible(t, root); !slices.Equal(got, []string{"1.2.3"}) {
		t.Errorf("role directory: got %q, want only the release", got)
	}
	if _, err := root.Stat("ephemeral/data/k8s/1.2.3/notes.txt"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("notes.txt: got %v, want that it was left out", err)
	}
	_, err = i.Dir(t.Context(), source(t, "1.2.3", nil))
	if want := "release 1.2.3 is there already: file already exists"; err == nil || err.Error() != want {
		t.Errorf("again: got %v, want %s", err, want)
	}

	// What changed is noticed without a manifest of somebody else.
	if err := artifacts.Verify(t.Context(), root, got, nil); err != nil {
		t.Errorf("verify: %v", err)
	}
	alter(t, root, got.Squashfs)
	if artifacts.Verified(root, got) {
		t.Error("verified after a change: got yes, want no")
	}
	if err := artifacts.Verify(t.Context(), root, got, nil); err == nil || !strings.HasPrefix(err.Error(), "kubernetes-1.2.3.squashfs was altered: SHA-256 is ") {
		t.Errorf("verify after a change: got %v, want that it was altered", err)
	}
}

// alter changes the last byte of a file and nothing that ls shows.
func alter(t *testing.T, root *os.Root, name string) {
	t.Helper()
	fi, err := root.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0xff}, fi.Size()-1)
		err = errors.Join(err, f.Close(), root.Chtimes(name, fi.ModTime(), fi.ModTime()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportRefuses(t *testing.T) {
	const squash = "kubernetes-1.2.3.squashfs"
	manifest := `{"role":"kubernetes","release":"1.2.3","files":[]}`
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no initrd":          {map[string]string{"initrd.img-1.2.3.xz": ""}, "no file is called initrd.img-ID.xz, so nothing says which release this is"},
		"no squashfs":        {map[string]string{squash: ""}, "release 1.2.3: squashfs: kubernetes-1.2.3.squashfs is missing"},
		"error page":         {map[string]string{squash: "<?xml version"}, `release 1.2.3: squashfs: kubernetes-1.2.3.squashfs is not a squashfs image (begins with "<?xml")`},
		"cut short":          {map[string]string{squash: superblock(4096)}, "release 1.2.3: squashfs: kubernetes-1.2.3.squashfs is cut short: 96 of 4096 bytes"},
		"two releases":       {map[string]string{"initrd.img-1.2.4.xz": gz}, "initrds of two releases are there, 1.2.3 and 1.2.4"},
		"other manifest":     {map[string]string{"manifest.json": `{"role":"storage-ceph","release":"1.2.3"}`}, `manifest.json is of release "1.2.3" of role "storage-ceph", the files are of release "1.2.3" of role "kubernetes"`},
		"not in manifest":    {map[string]string{"manifest.json": manifest}, "5.3.18-24.37-default-1.2.3.kernel is not in manifest.json"},
		"manifest of no use": {map[string]string{"manifest.json": "<html>"}, "manifest.json: invalid character '<' looking for beginning of value"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, nil)
			_, err := artifacts.Import{Root: root, Role: k8s}.Dir(t.Context(), source(t, "1.2.3", tt.files))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if left := visible(t, root); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func tarOf(t *testing.T, files map[string]string, z bool) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = struct {
		io.Writer
		io.Closer
	}{&b, io.NopCloser(nil)}
	if z {
		w = gzip.NewWriter(&b)
	}
	tw := tar.NewWriter(w)
	for name, content := range files {
		if err := errors.Join(tw.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))})); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, content)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if z {
		w.Close()
	}
	return b.Bytes()
}

func TestImportTar(t *testing.T) {
	for name, z := range map[string]bool{"plain": false, "gzip": true} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, nil)
			files := release("../../k8s", "1.2.3", "kubernetes") // names that climb lead nowhere
			if _, err := (artifacts.Import{Root: root, Role: k8s}).Tar(t.Context(), bytes.NewReader(tarOf(t, files, z))); err != nil {
				t.Fatal(err)
			}
			if _, err := artifacts.Scan(root, k8s).Select("1.2.3"); err != nil {
				t.Error(err)
			}
		})
	}
	// Cut off in the middle, at every length: nothing is left.
	whole := tarOf(t, release("k8s", "1.2.3", "kubernetes"), false)
	for n := 0; n < len(whole)-1024; n += 100 { // the end is 1024 zeroes, which tar can do without
		root := tree(t, nil)
		_, err := (artifacts.Import{Root: root, Role: k8s}).Tar(t.Context(), bytes.NewReader(whole[:n]))
		if err == nil && n < len(whole)-2048 {
			t.Errorf("cut at %d of %d: got no error", n, len(whole))
		}
		if left := visible(t, root); err != nil && left != nil {
			t.Fatalf("cut at %d: left behind %q", n, left)
		}
	}
}

// A crash leaves a hidden directory, which is no release, and the next import
// clears it away; one at work is left alone.
func TestImportAfterACrash(t *testing.T) {
	root := tree(t, map[string]string{"k8s/.import-1-1/5.3.18-1.2.3.kernel": bzImage, "k8s/.import-2-2/x": "", "k8s/0.0.8/old/x": ""})
	at, err := os.Open(filepath.Join(root.Name(), "ephemeral/data/k8s/.import-2-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if err := syscall.Flock(int(at.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if c := artifacts.Scan(root, k8s); len(c.Sets) != 0 || len(c.Problems) != 1 {
		t.Errorf("got %+v, want nothing but that 0.0.8 is empty", c)
	}
	if _, err := (artifacts.Import{Root: root, Role: k8s}).Dir(t.Context(), source(t, "1.2.3", nil)); err != nil {
		t.Fatal(err)
	}
	if got := visible(t, root); !slices.Equal(got, []string{".import-2-2", "0.0.8", "1.2.3"}) {
		t.Errorf("got %q, want the import at work and the releases", got)
	}
}

// A disk that fills up is told as that, and nothing of the release stays.
func TestImportOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("BOOT_REQUIRE") != "" {
			t.Fatal("needs root, to mount a small file system")
		}
		t.Skip("needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("BOOT_REQUIRE") != "" {
			t.Fatalf("cannot mount: %v", err)
		}
		t.Skipf("cannot mount: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	files := release("k8s", "1.2.3", "kubernetes")
	files["k8s/1.2.3/initrd.img-1.2.3.xz"] = gz + strings.Repeat("x", 256<<10)
	_, err = (artifacts.Import{Root: root, Role: k8s}).Tar(t.Context(), bytes.NewReader(tarOf(t, files, false)))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("tar: got %v, want that there is no space left", err)
	}
	_, err = (artifacts.Import{Root: root, Role: k8s}).Dir(t.Context(), source(t, "1.2.3", map[string]string{"initrd.img-1.2.3.xz": gz + strings.Repeat("x", 256<<10)}))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "bytes are free, the release has ") {
		t.Errorf("directory: got %v, want that it does not fit, before anything is copied", err)
	}
	if left := visible(t, root); left != nil {
		t.Errorf("left behind: %q", left)
	}
	for _, role := range []node.Role{k8s, {Dir: "not/there/yet"}} {
		if free, known := (artifacts.Import{Root: root, Role: role}).Free(); !known || free > 64<<10 {
			t.Errorf("%s: got %d bytes free, %v, want those of the small file system", role.Dir, free, known)
		}
	}
}

func TestImportStops(t *testing.T) {
	root := tree(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	i := artifacts.Import{Root: root, Role: k8s, Progress: func(int64) { cancel() }}
	if _, err := i.Dir(ctx, source(t, "1.2.3", nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if left := visible(t, root); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

func TestSignatures(t *testing.T) {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := artifacts.ParseKeys("untrusted comment: minisign public key\n" + public.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	role := node.Role{Name: "kubernetes", Dir: "k8s", Squashfs: []string{"kubernetes"}, Signed: true}
	// An import without the rule makes the manifest to sign.
	maker := tree(t, nil)
	if _, err := (artifacts.Import{Root: maker, Role: k8s}).Dir(t.Context(), source(t, "1.2.3", nil)); err != nil {
		t.Fatal(err)
	}
	manifest, err := maker.ReadFile("ephemeral/data/k8s/1.2.3/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	with := func(sig []byte) map[string]string {
		return map[string]string{"manifest.json": string(manifest), "manifest.json.minisig": string(sig)}
	}
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"signed":      {with(minisign.Sign(private, manifest)), ""},
		"unsigned":    {nil, "release 1.2.3 is not signed: manifest.json.minisig: no such file or directory"},
		"by stranger": {with(minisign.Sign(stranger, manifest)), "release 1.2.3 is not signed: manifest.json.minisig is not a signature of manifest.json by any of the signers"},
		"altered manifest": {map[string]string{"manifest.json": string(manifest) + " ", "manifest.json.minisig": string(minisign.Sign(private, manifest))},
			"release 1.2.3 is not signed: manifest.json.minisig is not a signature of manifest.json by any of the signers"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, nil)
			_, err := artifacts.Import{Root: root, Role: role, Keys: keys}.Dir(t.Context(), source(t, "1.2.3", tt.files))
			if got := errorText(err); got != tt.want {
				t.Errorf("import: got %q, want %q", got, tt.want)
			}
			if tt.want != "" {
				return
			}
			c := artifacts.Scan(root, role)
			c.OnlySigned(root, keys)
			set, err := c.Select("")
			if err != nil {
				t.Fatal(err)
			}
			alter(t, root, set.Kernel)
			if err := artifacts.Verify(t.Context(), root, set, nil); err == nil || !strings.Contains(err.Error(), "was altered") {
				t.Errorf("altered: got %v, want that it was", err)
			}
			if err := root.Remove("ephemeral/data/k8s/1.2.3/manifest.json.minisig"); err != nil {
				t.Fatal(err)
			}
			c = artifacts.Scan(root, role)
			c.OnlySigned(root, keys)
			_, err = c.Select("")
			want := "no stable release: release 1.2.3: ephemeral/data/k8s/1.2.3 is not signed: manifest.json.minisig: no such file or directory"
			if errorText(err) != want {
				t.Errorf("unsigned: got %v, want %s", err, want)
			}
		})
	}
	for text, want := range map[string]string{"": "holds no minisign public key", "rubbish": `"rubbish" is not a minisign public key`} {
		if _, err := artifacts.ParseKeys(text); errorText(err) != want {
			t.Errorf("keys %q: got %v, want %s", text, err, want)
		}
	}
}

func TestRemove(t *testing.T) {
	root := tree(t, merge(release("k8s", "0.0.8", "kubernetes"), release("k8s", "0.0.9", "kubernetes")))
	if err := artifacts.Remove(root, k8s, "0.0.8"); err != nil {
		t.Fatal(err)
	}
	if got := visible(t, root); !slices.Equal(got, []string{"0.0.9"}) {
		t.Errorf("got %q, want 0.0.9 only", got)
	}
	for id, want := range map[string]string{
		"0.0.8":    `release "0.0.8": ephemeral/data/k8s/0.0.8: no such file or directory`,
		"../ceph":  `release "../ceph": file does not exist`,
		".import-": `release ".import-": file does not exist`,
	} {
		if err := artifacts.Remove(root, k8s, id); errorText(err) != want || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want %s", id, err, want)
		}
	}
}

func TestManifestSize(t *testing.T) {
	root := tree(t, nil)
	sets, err := artifacts.Import{Root: root, Role: k8s}.Dir(t.Context(), source(t, "1.2.3", nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile(sets[0].Initrd, []byte(gz+"more"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = artifacts.Scan(root, k8s).Select("")
	want := "no stable release: release 1.2.3: initrd: initrd.img-1.2.3.xz has 12 bytes, its manifest says 8"
	if errorText(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
