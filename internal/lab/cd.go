package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// cdLine is what the lab's initrd says of the CD in its drive.
var cdLine = regexp.MustCompile(`(?m)^BOOTD-LAB-CD (.*?)\r?$`)

// ReadCD returns what a kernel sees of the CD image, a line for its label and
// one per file and extension: "norock user-data SHA256" is as Joliet has it,
// "nojoliet user-data SHA256" as Rock Ridge has it. With firmware nil the lab's
// kernel is loaded by QEMU; else the firmware boots it from the CD, which must
// have the lab's kernel and initrd with the argument lab.cd=1.
func (im *Images) ReadCD(ctx context.Context, image string, firmware *Firmware) (lines []string, err error) {
	accel, err := Accelerator(ctx)
	if err != nil {
		return nil, err
	}
	release, err := Reserve(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer release()
	dir, err := tempDir("cd")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	args := append(base(accel), "-no-reboot",
		"-drive", "if=none,id=cd,media=cdrom,format=raw,readonly=on,file="+image,
		"-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=cd,bootindex=1")
	switch {
	case firmware == nil:
		args = append(args, "-kernel", im.Kernel, "-initrd", im.Initrd, "-append", "console=ttyS0 no_timer_check panic=-1 lab.cd=1")
	case *firmware == UEFI:
		if err := firmwareFiles(UEFI, dir); err != nil {
			return nil, err
		}
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,format=raw,file="+filepath.Join(dir, "vars.fd"))
	}
	ctx, cancel := context.WithTimeout(ctx, BootTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("lab: QEMU: %w: %s", err, &out)
	}
	for _, m := range cdLine.FindAllStringSubmatch(out.String(), -1) {
		lines = append(lines, m[1])
	}
	if len(lines) == 0 || lines[len(lines)-1] != "end" {
		return nil, fmt.Errorf("lab: the guest did not read its CD: %s", &out)
	}
	return lines[:len(lines)-1], nil
}

// installerMenu is that of the image: serial port, no questions.
const installerMenu = `serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
menuentry installer {
	linux /boot/kernel console=ttyS0 panic=-1 lab.cd=1
	initrd /boot/initrd
}
`

// installerFind is what GRUB begins with under UEFI, where it comes from a
// partition of its own.
const installerFind = "search --file --set=root /boot/grub/grub.cfg\nset prefix=($root)/boot/grub\n"

// WriteInstaller writes a CD image that boots under BIOS and UEFI, as AuroraBoot
// makes those of Kairos (pkg/ops/iso.go): El Torito of GRUB, the EFI system
// partition appended, a hybrid boot sector, Rock Ridge and Joliet, the label
// COS_LIVE, and a config.yaml of the vendor. What boots from it says what is on
// it, see ReadCD.
func (im *Images) WriteInstaller(ctx context.Context, file string) error {
	dir, err := tempDir("installer")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tree, early, efi, esp := filepath.Join(dir, "tree"), filepath.Join(dir, "early.cfg"), filepath.Join(dir, "bootx64.efi"), filepath.Join(dir, "uefi.img")
	err = errors.Join(os.MkdirAll(filepath.Join(tree, "boot/grub"), 0o755),
		os.WriteFile(filepath.Join(tree, "boot/grub/grub.cfg"), []byte(installerMenu), 0o644),
		os.WriteFile(filepath.Join(tree, "config.yaml"), []byte("#cloud-config\n# as the vendor ships it\n"), 0o644),
		os.WriteFile(early, []byte(installerFind), 0o644),
		copyFile(im.Kernel, filepath.Join(tree, "boot/kernel")), copyFile(im.Initrd, filepath.Join(tree, "boot/initrd")))
	if err != nil {
		return err
	}
	const modules = " iso9660 linux normal configfile search search_fs_file serial terminal test echo part_gpt part_msdos fat"
	for _, command := range []string{
		"grub-mkimage -O i386-pc-eltorito -p /boot/grub -o " + tree + "/boot/eltorito.img" + modules + " biosdisk",
		"grub-mkimage -O x86_64-efi -p /boot/grub -c " + early + " -o " + efi + modules,
		"mformat -C -i " + esp + " -f 2880 ::",
		"mmd -i " + esp + " ::EFI ::EFI/BOOT",
		"mcopy -i " + esp + " " + efi + " ::EFI/BOOT/BOOTX64.EFI",
		"xorriso -no_rc -volid COS_LIVE -joliet on -padding 0 -outdev " + file + " -map " + tree + " /" +
			" -boot_image grub bin_path=/boot/eltorito.img -boot_image grub grub2_mbr=/usr/lib/grub/i386-pc/boot_hybrid.img -boot_image grub grub2_boot_info=on" +
			" -boot_image any partition_offset=16 -boot_image any cat_path=/boot/boot.catalog -boot_image any cat_hidden=on" +
			" -boot_image any boot_info_table=on -boot_image any platform_id=0x00 -boot_image any emul_type=no_emulation -boot_image any load_size=2048" +
			" -append_partition 2 0xef " + esp + " -boot_image any next -boot_image any efi_path=--interval:appended_partition_2:all::" +
			" -boot_image any platform_id=0xef -boot_image any emul_type=no_emulation",
	} {
		words := strings.Fields(command)
		if _, err := run(exec.CommandContext(ctx, words[0], words[1:]...)); err != nil {
			return err
		}
	}
	return nil
}
