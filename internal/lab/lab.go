// Package lab runs real machines on a private network: for tests and the
// demo, never for the product.
//
// A Net is a network namespace with a bridge, on which the server under test
// and its machines live; nothing in it reaches the outside. A Guest is a
// virtual machine in QEMU that has no disk and starts as its firmware does:
// SeaBIOS or OVMF, PXE or an iPXE ROM, at a Port of a switch. Images are what it
// boots: a Debian kernel, an initrd with busybox (Build) or made by dracut
// (BuildDracut), and a squashfs root per role. All that needs root and the packages of .ci/deps;
// Missing says what is lacking.
//
// The initrd with busybox does what dracut-metal-mdsquash does. It reads from the kernel
// command line
//
//	metal.server=http://S/NODE    fetch http://S/NODE/rootfs; S/NODE/RELEASE too
//	BOOTIF=01-52-54-00-aa-bb-07   NIC to use; without it the first one
//
// and prints to the serial console, one per line and in this order,
//
//	BOOTD-LAB-SECURE what the kernel says of Secure Boot (UEFI only)
//	BOOTD-LAB-NIC IFACE MAC
//	BOOTD-LAB-LEASED IP hostname=H router=R lease=SECONDS
//	BOOTD-LAB-FETCHED URL BYTES
//	BOOTD-LAB-BOOTED node=N release=R role=R ip=IP kernel=V cmdline=...
//	BOOTD-LAB-CHECKED-IN HTTP/1.1 200 OK
//
// of which the last two come from within the squashfs, whichever initrd started
// it, so its release and role tell which one was booted. It POSTs release=R to
// http://S/checkin/booted and powers off. Whatever goes wrong with busybox
// prints BOOTD-LAB-FAILED step=STEP WHY and powers off, so a test that waits
// for Ended never waits for its timeout; dracut resets the machine.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Files of the Debian packages ipxe and ovmf.
const (
	IPXEDir  = "/usr/lib/ipxe"                  // undionly.kpxe, ipxe.efi, snponly.efi
	nicROM   = IPXEDir + "/qemu/efi-virtio.rom" // QEMU's default; for BIOS and EFI
	lkrn     = IPXEDir + "/ipxe.lkrn"
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"

	ovmfSecure = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	ovmfVarsMS = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd" // Microsoft's keys, Secure Boot on
)

// Missing reports what this machine lacks to run the lab, with the remedy; nil
// means nothing.
func Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("lab: needs root to make network namespaces and taps")
	}
	var lack []string
	for _, tool := range []string{"ip", "qemu-system-x86_64", "mksquashfs", "busybox", "cpio", "xz", "dpkg-deb", "apt-get", "dracut", "ovs-vswitchd", "ovsdb-server", "ovs-vsctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			lack = append(lack, tool)
		}
	}
	for _, file := range []string{nicROM, lkrn, ovmfCode, ovmfVars, ovmfSecure, ovmfVarsMS, "/dev/net/tun"} {
		if _, err := os.Stat(file); err != nil {
			lack = append(lack, file)
		}
	}
	if lack != nil {
		return fmt.Errorf("lab: missing %s: run make deps", strings.Join(lack, ", "))
	}
	return probeNamespace()
}

// probeNamespace makes and removes a namespace: containers often have the ip
// command and root but may not do that.
func probeNamespace() error {
	ns, err := newNamespace("probe")
	if err != nil {
		return fmt.Errorf("lab: no network namespaces here: %w", err)
	}
	return ns.close()
}

// cacheDir returns build/lab of the module that the working directory is in.
func cacheDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("lab: not inside the source tree (no go.mod above the working directory)")
		}
	}
	dir = filepath.Join(dir, "build", "lab")
	return dir, os.MkdirAll(dir, 0o755)
}

// run runs a tool and returns its standard output; the error names the tool
// and holds the last lines it wrote.
func run(cmd *exec.Cmd) (string, error) {
	var errs strings.Builder
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, lastLines(errs.String(), 5))
	}
	return string(out), nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
