package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed guest
var guestFiles embed.FS

// busybox is the static one of package busybox-static.
const busybox = "/bin/busybox"

// modules are what the initrd loads, before what they depend on is added. All
// else it needs is built into Debian's cloud kernel.
var modules = []string{"virtio_pci", "virtio_net", "squashfs", "loop", "overlay", "virtio_scsi", "sr_mod", "isofs", "virtio_blk"}

// bondModules are loaded by the initrd when lab.bond is on the kernel command
// line: a machine with a bond has one interface more.
var bondModules = []string{"veth", "bonding"}

// Images are the files a machine boots. They are built once per machine, below
// build/lab, and never change there.
type Images struct {
	Kernel  string // file, a bzImage with EFI stub
	Initrd  string // file, a cpio archive packed with xz
	Version string // of the kernel, as in uname -r
}

// A Release names one set of files in the tree of source 004.
type Release struct {
	Dir  string // directory below ephemeral/data, such as "k8s"
	ID   string // such as "1.2.3"
	Base string // base name of the squashfs, such as "kubernetes"
	Dead bool   // the squashfs has no init
}

// Build makes the images, or finds them where an earlier call, in whichever
// process, left them. It downloads a Debian kernel, and does not install it.
func Build(ctx context.Context) (*Images, error) {
	return buildOnce(ctx, "images", imageKey, buildImages)
}

// buildOnce returns the images of a kind that are made from a Debian kernel.
// key is a digest of all that they are made from.
func buildOnce(ctx context.Context, kind string, key func(deb string) (string, error), build func(ctx context.Context, deb, dir string) error) (*Images, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "images.lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	deb, err := kernelPackage(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("lab: kernel: %w", err)
	}
	digest, err := key(deb)
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", kind, err)
	}
	dir := filepath.Join(cache, kind+"-"+digest)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := build(ctx, deb, dir); err != nil {
			return nil, fmt.Errorf("lab: %s: %w", kind, err)
		}
	}
	return readImages(dir)
}

// readImages returns the images that a directory holds.
func readImages(dir string) (*Images, error) {
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	return &Images{
		Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd.xz"), Version: string(version),
	}, err
}

// kernelPackage returns the file of Debian's current cloud kernel, the one
// already there if any.
func kernelPackage(ctx context.Context, cache string) (string, error) {
	debs, err := filepath.Glob(filepath.Join(cache, "linux-image-*-cloud-*.deb"))
	if err != nil {
		return "", err
	}
	if len(debs) > 0 {
		return debs[0], nil
	}
	name, err := downloadKernel(ctx, cache)
	if err != nil {
		// The package lists may be missing or too old.
		if _, err := run(exec.CommandContext(ctx, "apt-get", "-qq", "update")); err != nil {
			return "", err
		}
		name, err = downloadKernel(ctx, cache)
	}
	return name, err
}

func downloadKernel(ctx context.Context, cache string) (string, error) {
	const meta = "linux-image-cloud-amd64"
	out, err := run(exec.CommandContext(ctx, "apt-cache", "depends", "--important", meta))
	if err != nil {
		return "", err
	}
	_, pkg, ok := strings.Cut(out, "Depends: ")
	if !ok {
		return "", fmt.Errorf("%s: apt-cache knows no such package", meta)
	}
	tmp, err := os.MkdirTemp(cache, "download")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(ctx, "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", strings.TrimSpace(pkg))
	cmd.Dir = tmp
	if _, err := run(cmd); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s: left %d packages, want 1", pkg, len(debs))
	}
	name := filepath.Join(cache, filepath.Base(debs[0]))
	return name, os.Rename(debs[0], name)
}

// imageKey is a digest of all that the images are made from.
func imageKey(deb string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, filepath.Base(deb), modules)
	err := fs.WalkDir(guestFiles, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := guestFiles.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	if err != nil {
		return "", err
	}
	f, err := os.Open(busybox)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}

// buildImages builds beside dir and renames, so dir is complete or not there.
func buildImages(ctx context.Context, deb, dir string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root, out := filepath.Join(tmp, "initrd"), filepath.Join(tmp, "out")
	kernel, version, tree, err := unpackKernel(ctx, deb, filepath.Join(tmp, "deb"))
	if err != nil {
		return err
	}
	err = errors.Join(
		layRoot(root, map[string]string{"init": "init", "udhcpc.script": "udhcpc.script"}),
		addModules(root, tree),
		os.Mkdir(out, 0o755),
		pack(ctx, root, filepath.Join(out, "initrd.xz")),
		copyFile(kernel, filepath.Join(out, "kernel")),
		os.WriteFile(filepath.Join(out, "version"), []byte(version), 0o644),
	)
	if err != nil {
		return err
	}
	return os.Rename(out, dir)
}

// unpackKernel unpacks Debian's package of a kernel into dir and returns the
// kernel, its version, and the directory that its modules are below.
func unpackKernel(ctx context.Context, deb, dir string) (kernel, version, tree string, err error) {
	if _, err := run(exec.CommandContext(ctx, "dpkg-deb", "-x", deb, dir)); err != nil {
		return "", "", "", err
	}
	kernels, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return "", "", "", fmt.Errorf("%s: holds %d kernels, want 1", deb, len(kernels))
	}
	version = strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	return kernels[0], version, filepath.Join(dir, "lib/modules", version, "kernel"), nil
}

// layRoot makes a directory with busybox and files of guest/ in it.
func layRoot(root string, files map[string]string) error {
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return err
	}
	errs := []error{copyFile(busybox, filepath.Join(root, "bin", "busybox"))}
	for to, from := range files {
		b, err := guestFiles.ReadFile("guest/" + from)
		name := filepath.Join(root, to)
		errs = append(errs, err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o755))
	}
	return errors.Join(errs...)
}

// addModules puts the modules and what they depend on into /modules, and the
// order to load them in into /modules/order and /modules/bond.
func addModules(root, tree string) error {
	paths, err := findModules(tree)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "modules")
	errs := []error{os.Mkdir(dir, 0o755)}
	for file, list := range map[string][]string{"order": modules, "bond": bondModules} {
		var order []string
		for _, m := range list {
			if order, err = withDepends(order, m, paths); err != nil {
				return err
			}
		}
		for i, m := range order {
			order[i] = m + ".ko"
			errs = append(errs, copyFile(paths[m], filepath.Join(dir, order[i])))
		}
		errs = append(errs, os.WriteFile(filepath.Join(dir, file), []byte(strings.Join(order, "\n")+"\n"), 0o644))
	}
	return errors.Join(errs...)
}

// findModules returns the files of the modules below tree, by module.
func findModules(tree string) (map[string]string, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			paths[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	return paths, err
}

// withDepends appends a module to order, after those it depends on. The
// package has no modules.dep, depmod makes that at installation, but a module
// names what it needs in its .modinfo section.
func withDepends(order []string, name string, paths map[string]string) ([]string, error) {
	for _, have := range order {
		if have == name {
			return order, nil
		}
	}
	f, err := elf.Open(paths[name])
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s: no .modinfo", name)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		list, ok := bytes.CutPrefix(field, []byte("depends="))
		if !ok || len(list) == 0 {
			continue
		}
		for dep := range strings.SplitSeq(string(list), ",") {
			if order, err = withDepends(order, strings.ReplaceAll(dep, "-", "_"), paths); err != nil {
				return nil, err
			}
		}
	}
	return append(order, name), nil
}

// pack writes a directory as a cpio archive packed with xz. The kernel's own
// decoder knows only the check crc32.
func pack(ctx context.Context, root, file string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", `find . | cpio --quiet -o -H newc -R 0:0 | xz -6 --check=crc32 >"$0"`, file)
	cmd.Dir = root
	_, err := run(cmd)
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Close())
}

// WriteRelease puts a complete release into the tree that root is the top of,
// under the file names of source 004: kernel, initrd, and a squashfs of its own
// that says which release and role (its Base) it is.
func (im *Images) WriteRelease(ctx context.Context, root string, r Release) error {
	return im.writeSet(root, r, func(file string) error { return writeSquashfs(ctx, r, file) })
}

// writeSet writes a release whose squashfs is made by a function.
func (im *Images) writeSet(root string, r Release, squashfs func(file string) error) error {
	dir := filepath.Join(root, "ephemeral", "data", r.Dir, r.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		copyFile(im.Kernel, filepath.Join(dir, im.Version+"-"+r.ID+".kernel")),
		copyFile(im.Initrd, filepath.Join(dir, "initrd.img-"+r.ID+".xz")),
		squashfs(filepath.Join(dir, r.Base+"-"+r.ID+".squashfs")),
	)
}

func writeSquashfs(ctx context.Context, r Release, file string) error {
	root, err := tempDir("root")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	files := map[string]string{"sbin/init": "rootinit"}
	if r.Dead {
		files = nil
	}
	err = errors.Join(
		layUserland(ctx, root, files),
		os.WriteFile(filepath.Join(root, "etc/bootd-lab-release"), []byte(r.ID+"\n"), 0o644),
		os.WriteFile(filepath.Join(root, "etc/bootd-lab-role"), []byte(r.Base+"\n"), 0o644))
	if err != nil {
		return err
	}
	return makeSquashfs(ctx, root, file)
}

// layUserland makes a root file system of busybox and files of guest/.
func layUserland(ctx context.Context, root string, files map[string]string) error {
	if err := layRoot(root, files); err != nil {
		return err
	}
	applets, err := run(exec.CommandContext(ctx, busybox, "--list"))
	if err != nil {
		return err
	}
	var errs []error
	for applet := range strings.FieldsSeq(applets) {
		if applet != "busybox" {
			errs = append(errs, os.Symlink("busybox", filepath.Join(root, "bin", applet)))
		}
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "etc"} {
		errs = append(errs, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	return errors.Join(errs...)
}

func makeSquashfs(ctx context.Context, root, file string) error {
	_, err := run(exec.CommandContext(ctx, "mksquashfs", root, file, "-noappend", "-all-root", "-quiet", "-no-progress"))
	return err
}
