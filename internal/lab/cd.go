package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
