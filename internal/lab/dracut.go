package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// dracutModules are the kernel modules that Debian's dracut may choose from.
// Its own choice is for every machine there is, and takes a minute to unpack
// where a processor is emulated.
var dracutModules = append([]string{"dm_mod", "dm_snapshot", "isofs"}, modules...)

// dracutArgs make an initrd as CSM's are: for any machine, with root=live:URL.
// An initrd with systemd in it does the same, and takes three times as long.
var dracutArgs = []string{
	"--force", "--quiet", "--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode", "--reproducible", "--zstd",
	"--add", "livenet network-legacy overlayfs",
	"--omit", "systemd systemd-initrd dracut-systemd plymouth drm i18n crypt lvm mdraid multipath dmraid nvdimm qemu qemu-net ifcfg lunmask resume virtiofs",
}

// DracutArgs are the kernel arguments with which a machine boots the images of
// BuildDracut from a bootd: a template of a role. Where the root file system
// cannot be started, it resets.
const DracutArgs = "console=ttyS0 no_timer_check quiet panic=1 rd.shell=0 rd.emergency=reboot rd.neednet=1 rd.live.overlay.overlayfs=1" +
	" root=live:http://{{.Server}}/{{.Node}}/{{.Release}}/rootfs"

// BuildDracut makes images whose initrd is the work of Debian's dracut, with
// its modules livenet and dmsquash-live: what machines of a CSM site boot. It
// fetches its root file system from root=live:URL. Everything else is as for
// Build.
func BuildDracut(ctx context.Context) (*Images, error) {
	key := func(deb string) (string, error) {
		version, err := run(exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Package} ${Version}\n", "dracut-core", "dracut-network", "dracut-live"))
		sum := sha256.Sum256(fmt.Append(nil, filepath.Base(deb), version, dracutModules, dracutArgs))
		return hex.EncodeToString(sum[:8]), err
	}
	return buildOnce(ctx, "dracut", key, buildDracut)
}

// buildDracut builds beside dir and renames, so dir is complete or not there.
func buildDracut(ctx context.Context, deb, dir string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	kernel, version, tree, err := unpackKernel(ctx, deb, filepath.Join(tmp, "deb"))
	if err != nil {
		return err
	}
	few, out := filepath.Join(tmp, "few"), filepath.Join(tmp, "out")
	if err := errors.Join(os.Mkdir(out, 0o755), layModules(few, version, tree)); err != nil {
		return err
	}
	if _, err := run(exec.CommandContext(ctx, "depmod", "-b", few, version)); err != nil {
		return err
	}
	args := append([]string{"--kver", version, "--kmoddir", filepath.Join(few, "lib/modules", version), "--tmpdir", tmp}, dracutArgs...)
	cmd := exec.CommandContext(ctx, "dracut", append(args, filepath.Join(out, "initrd.xz"))...)
	if _, err := run(cmd); err != nil {
		return err
	}
	return errors.Join(
		os.Chmod(filepath.Join(out, "initrd.xz"), 0o644),
		copyFile(kernel, filepath.Join(out, "kernel")),
		os.WriteFile(filepath.Join(out, "version"), []byte(version), 0o644),
		os.Rename(out, dir),
	)
}

// layModules makes a tree of the modules that the machines need, with the
// lists that depmod reads.
func layModules(root, version, tree string) error {
	paths, err := findModules(tree)
	if err != nil {
		return err
	}
	var order []string
	for _, m := range dracutModules {
		if order, err = withDepends(order, m, paths); err != nil {
			return err
		}
	}
	from, to := filepath.Dir(tree), filepath.Join(root, "lib/modules", version)
	var errs []error
	for _, m := range order {
		name := filepath.Join(to, strings.TrimPrefix(paths[m], from))
		errs = append(errs, os.MkdirAll(filepath.Dir(name), 0o755), copyFile(paths[m], name))
	}
	for _, list := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		errs = append(errs, copyFile(filepath.Join(from, list), filepath.Join(to, list)))
	}
	return errors.Join(errs...)
}

// DracutForTest returns the images that dracut made.
func DracutForTest(t testing.TB) *Images {
	t.Helper()
	Need(t)
	im, err := BuildDracut(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return im
}
