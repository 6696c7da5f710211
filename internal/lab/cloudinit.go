package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// cloudInit is how the root file system with Debian's cloud-init is made:
// systemd as init, the network as the initrd leaves it, and nothing that a
// machine of a few minutes has no use for.
var cloudInit = struct {
	packages string
	mask     []string
	drop     []string // what takes space and is never looked at
}{
	packages: "systemd-sysv,udev,iproute2,cloud-init",
	mask: []string{"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "getty@tty1.service", "serial-getty@ttyS0.service",
		"systemd-networkd-wait-online.service", "proc-sys-fs-binfmt_misc.automount", "systemd-hwdb-update.service", "systemd-update-utmp.service"},
	drop: []string{"var/lib/apt/lists", "var/cache", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/i18n", "usr/lib/x86_64-linux-gnu/gconv"},
}

// BuildCloudInit makes a squashfs of Debian with its cloud-init, or finds it
// where an earlier call left it. It is started by an initrd of BuildDracut.
func BuildCloudInit(ctx context.Context) (squashfs string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "cloud-init.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	sum := sha256.Sum256(fmt.Appendf(nil, "%v", cloudInit))
	file := filepath.Join(cache, "cloud-init-"+hex.EncodeToString(sum[:8])+".squashfs")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if err := buildCloudInit(ctx, cache, file); err != nil {
			return "", fmt.Errorf("lab: cloud-init: %w", err)
		}
	}
	return file, nil
}

// buildCloudInit builds beside file and renames, so file is complete or not
// there.
func buildCloudInit(ctx context.Context, cache, file string) error {
	tmp, err := os.MkdirTemp(cache, "cloud-init")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root := filepath.Join(tmp, "root")
	args := []string{"--quiet", "--variant=minbase", "--mode=root", "--include=" + cloudInit.packages,
		"--aptopt=APT::Install-Recommends false", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", root}
	if _, err := run(exec.CommandContext(ctx, "mmdebstrap", append(args, aptSources()...)...)); err != nil {
		return err
	}
	_, err = run(exec.CommandContext(ctx, "systemctl", append([]string{"--root=" + root, "mask"}, cloudInit.mask...)...))
	errs := []error{err}
	for _, path := range cloudInit.drop {
		errs = append(errs, os.RemoveAll(filepath.Join(root, path)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	out := filepath.Join(tmp, "root.squashfs")
	if _, err := run(exec.CommandContext(ctx, "mksquashfs", root, out, "-noappend", "-quiet", "-no-progress", "-comp", "lz4")); err != nil {
		return err
	}
	return os.Rename(out, file)
}

// aptSources are the files that say where this machine gets its packages from;
// none: from Debian.
func aptSources() (files []string) {
	for _, file := range []string{"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"} {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			files = append(files, file)
		}
	}
	return files
}

// WriteCloudInit puts a release whose root file system is that of
// BuildCloudInit into the tree that root is the top of.
func (im *Images) WriteCloudInit(ctx context.Context, root string, r Release) error {
	squashfs, err := BuildCloudInit(ctx)
	if err != nil {
		return err
	}
	return im.writeSet(root, r, func(file string) error { return copyFile(squashfs, file) })
}
