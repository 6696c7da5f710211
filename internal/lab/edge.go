package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// An Edge is an installer, and the system that it puts on a disk: what the edge
// machines of source 000 are, in small. See the command in edge/.
type Edge struct {
	*Images
	tool string // file, the command in edge/
	disk string // file, the image of a disk with the system on it, for BIOS
}

// The layout of the disk image: the master boot record and GRUB, then one
// partition, in which everything is.
const (
	diskSize       = 64 << 20 // bytes
	partitionStart = 1 << 20
	sectorSize     = 512
)

// systemArgs are the kernel arguments of the system on disk.
const systemArgs = "console=ttyS0 no_timer_check panic=-1 net.ifnames=0 lab.system=/dev/vda1"

// grubConfig starts the system. It is built into GRUB, which finds the
// partition by its number.
const grubConfig = "set root=(hd0,msdos1)\nlinux /kernel " + systemArgs + "\ninitrd /initrd.xz\nboot\n"

// BuildEdge makes the images. It is built once per machine, as those of Build.
func BuildEdge(ctx context.Context) (*Edge, error) {
	im, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	cache := filepath.Dir(filepath.Dir(im.Kernel))
	tmp, err := os.MkdirTemp(cache, "edge")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	tool := filepath.Join(tmp, "edge")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", tool, "bootd/internal/lab/edge")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := run(build); err != nil {
		return nil, err
	}
	key, err := edgeKey(tool, im)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "images.lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	dir := filepath.Join(cache, "edge-"+key)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := buildEdge(ctx, im, tool, filepath.Join(tmp, "out")); err != nil {
			return nil, fmt.Errorf("lab: edge: %w", err)
		}
		if err := os.Rename(filepath.Join(tmp, "out"), dir); err != nil {
			return nil, err
		}
	}
	return &Edge{Images: im, tool: filepath.Join(dir, "edge"), disk: filepath.Join(dir, "disk.img")}, nil
}

func edgeKey(tool string, im *Images) (string, error) {
	h := sha256.New()
	fmt.Fprint(h, filepath.Base(filepath.Dir(im.Kernel)), grubConfig, diskSize)
	f, err := os.Open(tool)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}

// buildEdge makes the disk image in a directory of its own.
func buildEdge(ctx context.Context, im *Images, tool, out string) error {
	initrd, system := filepath.Join(out, "initrd"), filepath.Join(out, "system")
	err := errors.Join(
		os.MkdirAll(filepath.Join(system, "oem"), 0o755),
		copyFile(tool, filepath.Join(out, "edge")),
		copyFile(im.Kernel, filepath.Join(system, "kernel")),
		unpackInitrd(ctx, im.Initrd, initrd),
		layRoot(initrd, map[string]string{"init": "edgesystem", "udhcpc.script": "udhcpc.script"}),
	)
	if err != nil {
		return err
	}
	if err := copyFile(tool, filepath.Join(initrd, "bin/edge")); err != nil {
		return err
	}
	if err := pack(ctx, initrd, filepath.Join(system, "initrd.xz")); err != nil {
		return err
	}
	if err := writeDisk(ctx, system, filepath.Join(out, "disk.img")); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(initrd), os.RemoveAll(system))
}

// unpackInitrd unpacks an initrd made by pack.
func unpackInitrd(ctx context.Context, file, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", `xz -dc "$0" | cpio --quiet -idm`, file)
	cmd.Dir = dir
	_, err := run(cmd)
	return err
}

// writeDisk makes the image of a disk whose only partition has the files of a
// directory. GRUB's core follows the master boot record, and finds itself there
// (its own default), so nothing has to be installed.
func writeDisk(ctx context.Context, files, image string) error {
	const grub = "/usr/lib/grub/i386-pc"
	part, core, config := image+".part", image+".core", image+".cfg"
	defer func() { os.Remove(part); os.Remove(core); os.Remove(config) }()
	if err := os.WriteFile(config, []byte(grubConfig), 0o644); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum,^64bit", "-d", files, part, fmt.Sprint((diskSize-partitionStart)>>10) + "k"},
		{"grub-mkimage", "-O", "i386-pc", "-p", "/", "-c", config, "-o", core, "biosdisk", "part_msdos", "ext2", "linux", "boot", "echo"},
	} {
		if _, err := run(exec.CommandContext(ctx, command[0], command[1:]...)); err != nil {
			return err
		}
	}
	disk, err := os.Create(image)
	if err != nil {
		return err
	}
	defer disk.Close()
	return errors.Join(
		disk.Truncate(diskSize),
		putFile(disk, grub+"/boot.img", 0),
		putFile(disk, core, sectorSize),
		putFile(disk, part, partitionStart),
		putTable(disk),
	)
}

func putFile(disk *os.File, file string, at int64) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = disk.WriteAt(b, at)
	return err
}

// putTable writes the partition table of a master boot record: one entry of
// type Linux, without cylinders.
func putTable(disk *os.File) error {
	const start, sectors = partitionStart / sectorSize, (diskSize - partitionStart) / sectorSize
	entry := []byte{0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff,
		byte(start & 0xff), byte(start >> 8 & 0xff), 0, 0,
		byte(sectors & 0xff), byte(sectors >> 8 & 0xff), byte(sectors >> 16 & 0xff), 0}
	table := make([]byte, 66)
	copy(table, entry)
	table[64], table[65] = 0x55, 0xaa
	_, err := disk.WriteAt(table, 446)
	return err
}

// WriteInstaller puts a release into the tree that root is the top of, whose
// system is the installer.
func (e *Edge) WriteInstaller(ctx context.Context, root string, r Release) error {
	dir := filepath.Join(root, "ephemeral", "data", r.Dir, r.ID)
	tree, err := tempDir("installer")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	err = errors.Join(
		os.MkdirAll(dir, 0o755),
		layUserland(ctx, tree, map[string]string{"sbin/init": "edgeinit"}),
		copyFile(e.tool, filepath.Join(tree, "bin/edge")),
		copyFile(e.disk, filepath.Join(tree, "os.img")),
		copyFile(e.Kernel, filepath.Join(dir, e.Version+"-"+r.ID+".kernel")),
		copyFile(e.Initrd, filepath.Join(dir, "initrd.img-"+r.ID+".xz")),
	)
	if err != nil {
		return err
	}
	return makeSquashfs(ctx, tree, filepath.Join(dir, r.Base+"-"+r.ID+".squashfs"))
}

// EdgeForTest returns the images.
func EdgeForTest(t testing.TB) *Edge {
	t.Helper()
	e, err := BuildEdge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// NewDisk makes the file of a disk of that many bytes, filled with a pattern:
// it was in use.
func NewDisk(file string, size int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	old := make([]byte, 1<<20)
	for i := range old {
		old[i] = 0xdb
	}
	_, err = f.WriteAt(old, 0)
	return errors.Join(err, f.Truncate(size), f.Close())
}
