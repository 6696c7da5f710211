package xorriso_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bootd/internal/lab"
	"bootd/internal/xorriso"
)

// menu is that of the image: serial port, no questions.
const menu = `serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
menuentry installer {
	linux /boot/kernel console=ttyS0 no_timer_check panic=-1 lab.cd=1
	initrd /boot/initrd
}
`

// find is what GRUB begins with under UEFI, where it comes from a partition of
// its own.
const find = "search --file --set=root /boot/grub/grub.cfg\nset prefix=($root)/boot/grub\n"

// installer makes an image that boots from CD under BIOS and UEFI, as
// AuroraBoot makes those of Kairos (pkg/ops/iso.go): El Torito of GRUB, the EFI
// system partition appended, a hybrid boot sector, Rock Ridge and Joliet. Its
// kernel and initrd are the lab's, which say what is on the CD.
func installer(t *testing.T, images *lab.Images) string {
	t.Helper()
	dir := t.TempDir()
	tree, early, efi := filepath.Join(dir, "tree"), filepath.Join(dir, "early.cfg"), filepath.Join(dir, "bootx64.efi")
	err := errors.Join(os.MkdirAll(filepath.Join(tree, "boot/grub"), 0o755),
		os.WriteFile(filepath.Join(tree, "boot/grub/grub.cfg"), []byte(menu), 0o644),
		os.WriteFile(filepath.Join(tree, "config.yaml"), []byte("#cloud-config\n# as the vendor ships it\n"), 0o644),
		os.WriteFile(early, []byte(find), 0o644),
		link(images.Kernel, filepath.Join(tree, "boot/kernel")), link(images.Initrd, filepath.Join(tree, "boot/initrd")))
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields("iso9660 linux normal configfile search search_fs_file serial terminal test echo part_gpt part_msdos fat")
	command(t, "grub-mkimage", append(strings.Fields("-O i386-pc-eltorito -p /boot/grub -o "+filepath.Join(tree, "boot/eltorito.img")), append(modules, "biosdisk")...)...)
	command(t, "grub-mkimage", append(strings.Fields("-O x86_64-efi -p /boot/grub -c "+early+" -o "+efi), modules...)...)
	esp := filepath.Join(dir, "uefi.img")
	command(t, "mformat", "-C", "-i", esp, "-f", "2880", "::")
	command(t, "mmd", "-i", esp, "::EFI", "::EFI/BOOT")
	command(t, "mcopy", "-i", esp, efi, "::EFI/BOOT/BOOTX64.EFI")
	image := filepath.Join(dir, "installer.iso")
	command(t, "xorriso", append([]string{"-volid", "COS_LIVE", "-joliet", "on", "-padding", "0", "-outdev", image, "-map", tree, "/"}, strings.Fields(
		"-boot_image grub bin_path=/boot/eltorito.img -boot_image grub grub2_mbr=/usr/lib/grub/i386-pc/boot_hybrid.img -boot_image grub grub2_boot_info=on "+
			"-boot_image any partition_offset=16 -boot_image any cat_path=/boot/boot.catalog -boot_image any cat_hidden=on "+
			"-boot_image any boot_info_table=on -boot_image any platform_id=0x00 -boot_image any emul_type=no_emulation -boot_image any load_size=2048 "+
			"-append_partition 2 0xef "+esp+" -boot_image any next -boot_image any efi_path=--interval:appended_partition_2:all:: "+
			"-boot_image any platform_id=0xef -boot_image any emul_type=no_emulation")...)...)
	return image
}

func link(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, &errs)
	}
	return out.String()
}

// TestAdd boots the image before and after from CD under both firmwares. The
// guest sees the user-data that was put in, the label as it was, and every
// other file unchanged.
func TestAdd(t *testing.T) {
	images := lab.ImagesForTest(t)
	before := installer(t, images)
	const userData = "#cloud-config\ninstall: {device: /dev/sda, poweroff: true}\n"
	after := filepath.Join(t.TempDir(), "after.iso")
	if err := os.WriteFile(after, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := xorriso.Add(t.Context(), before, after, map[string][]byte{"config.yaml": []byte(userData)}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(after), "*")); len(left) != 1 {
		t.Errorf("got %q beside the image, want nothing", left)
	}
	if got, want := catalogue(t, after), catalogue(t, before); got != want || !strings.Contains(got, "eltorito.img") {
		t.Errorf("boot catalogue: got\n%s\nwant\n%s", got, want)
	}
	for _, firmware := range []lab.Firmware{lab.BIOS, lab.UEFI} {
		t.Run(firmware.String(), func(t *testing.T) {
			was, err := images.ReadCD(t.Context(), before, &firmware)
			if err != nil {
				t.Fatalf("the image does not boot before anything is added: %v", err)
			}
			got, err := images.ReadCD(t.Context(), after, &firmware)
			if err != nil {
				t.Fatal(err)
			}
			for _, how := range []string{"nojoliet", "norock"} {
				baked := fmt.Sprintf("%s config.yaml %x", how, sha256.Sum256([]byte(userData)))
				if !slices.Contains(got, baked) || slices.Contains(was, baked) || !slices.Contains(got, "label COS_LIVE") {
					t.Errorf("got %q\nwant %q and label COS_LIVE in it", got, baked)
				}
			}
			if got, was := others(got), others(was); !slices.Equal(got, was) || len(was) < 3 {
				t.Errorf("other files: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(was, "\n"))
			}
		})
	}
}

// catalogue is what xorriso says of how an image boots, without where on it
// things lie and what it is called.
func catalogue(t *testing.T, image string) string {
	t.Helper()
	var kept []string
	for line := range strings.Lines(command(t, "xorriso", "-indev", image, "-report_el_torito", "plain")) {
		if f := strings.Fields(line); len(f) > 3 && (f[2] == "path" || f[2] == "img") {
			kept = append(kept, strings.Join(f[2:], " "))
		}
	}
	return strings.Join(kept, "\n")
}

// others are the lines of files that stay what they are: GRUB's boot image says
// where on the image things lie.
func others(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(s string) bool {
		f := strings.Fields(s)
		return f[0] != "nojoliet" || f[1] == "config.yaml" || strings.HasSuffix(f[1], "eltorito.img")
	})
}

func TestAddRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.iso")
	if err := os.WriteFile(text, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, name, want string }{
		{filepath.Join(dir, "none.iso"), "config.yaml", "no such file or directory"},
		{text, "config.yaml", text + ": not a CD image (ISO 9660)"},
	} {
		err := xorriso.Add(t.Context(), tt.from, filepath.Join(dir, "out.iso"), map[string][]byte{tt.name: nil})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.from, err, tt.want)
		}
	}
	t.Setenv("PATH", dir)
	if err := xorriso.Add(context.Background(), text, text, nil); !errors.Is(err, xorriso.ErrMissing) {
		t.Errorf("without the program: got %v, want %v", err, xorriso.ErrMissing)
	}
}

// A path in the image is no option of xorriso, and leads nowhere else.
func TestAddPaths(t *testing.T) {
	image := filepath.Join(t.TempDir(), "small.iso")
	tree := t.TempDir()
	command(t, "xorriso", "-outdev", image, "-map", tree, "/")
	for _, name := range []string{"", "/", "--", "-rm_r", "../config.yaml", "a/../b", "a//b", "a b", "*", "a\nb"} {
		err := xorriso.Add(t.Context(), image, image+".out", map[string][]byte{name: nil})
		if err == nil || !strings.Contains(err.Error(), "is not a path in an image") {
			t.Errorf("%q: got %v, want that it is no path", name, err)
		}
	}
}
