package ipxe

import (
	"fmt"
	"slices"
	"strings"

	"bootd/deploy"
	"bootd/internal/node"
)

// console are the consoles of each firmware mode, after the installer images
// of Palette: the last one is /dev/console, a BIOS machine shows its text on
// the framebuffer of its VGA, and serial over LAN runs at 115200, where a port
// without a speed would run at 9600. A machine that does not say counts as
// UEFI: what it gets then harms neither.
var console = map[node.Firmware]string{
	node.BIOS: "console=tty1 console=ttyS0,115200n8",
	node.UEFI: "console=ttyS0,115200n8 console=tty0",
	"":        "console=ttyS0,115200n8 console=tty0",
}

// familyArgs are the kernel arguments of each family where the role has none
// of its own. Where the payload is, its own family says (deploy/payload); where
// the NIC is, words does.
var familyArgs = map[node.Family]string{
	// AuroraBoot, pkg/ops/netboot.go; CanvOS, overlay/files-iso/boot/grub2/grub.cfg.
	// netboot and rd.cos.disable make immucore take it for a live system,
	// selinux=0 is what Fedora's flavours hang without, and nodepair.enable is
	// what install-mode was called. Without install: it is a live system alone.
	// CanvOS has vga=795 too, for GRUB, which tries it; under iPXE the kernel
	// itself does, and where the VGA has no such mode it asks and waits 30 s
	// (seen in QEMU).
	// An image that is fetched under a name in .iso is mounted by dracut as the
	// CD would be, where the squashfs is at the top.
	node.FamilyKairos: `root=live:{{.Rootfs}}{{if .Whole}} rd.live.dir=/ rd.live.squashimg=rootfs.squashfs{{end}}
rd.live.overlay.overlayfs rd.neednet=1 rd.cos.disable rd.immucore.sysrootwait=600 netboot{{if .Install}} install-mode nodepair.enable{{end}}
net.ifnames=1 selinux=0 {{.Console}}{{if eq .Firmware "bios"}} nomodeset{{end}}`,
	// live-boot, components/9990-mount-http.sh: it goes by the ending of the name.
	node.FamilyDebianLive: `boot=live components fetch={{.Rootfs}} {{.Console}}`,
	// casper takes url= where it ends in .iso; cloud-init would take it for
	// its own, and fetch the image a second time.
	node.FamilyCasper: `url={{.Rootfs}} cloud-config-url=/dev/null {{.Console}}`,
	// netcfg takes the NIC of BOOTIF where it may choose.
	node.FamilyDebianInstaller: `netcfg/choose_interface=auto {{.Console}}`,
	// anaconda, dracut/anaconda-lib.sh: it adds images/install.img.
	node.FamilyAnaconda: `inst.stage2={{.Files}} {{.Console}}`,
	// dracut, dmsquash-live: the squashfs has the root file system in a file.
	node.FamilyDracutLive: `root=live:{{.Rootfs}}{{if .Whole}} rd.live.dir=LiveOS rd.live.squashimg=squashfs.img{{end}} rd.live.image rd.neednet=1 {{.Console}}`,
	// coreos-livepxe-rootfs.sh. The hash of the image is in the initrd.
	node.FamilyCoreOS: `coreos.live.rootfs_url={{.Rootfs}} rd.neednet=1 ignition.firstboot ignition.platform.id=metal {{.Console}}`,
}

// FamilyArgs returns the kernel arguments template of a family, for roles that
// have none of their own; empty: it needs none.
func FamilyArgs(f node.Family) string { return familyArgs[f] }

// Names by which the third member of a release is asked for, by what it is.
// dracut and live-boot go by the ending.
var rootfsNames = map[node.Rootfs]string{node.Squashfs: "rootfs.squashfs", node.ISO: "rootfs.iso", node.CPIO: "rootfs.img"}

// anacondaImage is where Anaconda looks for its image below inst.stage2.
const anacondaImage = "images/install.img"

// live is a word by which Kairos takes a system for a live one.
const live = "netboot"

// checkLive refuses what would make an installed Kairos a live system: it looks
// for the letters "netboot" anywhere on its command line, in a URL or a name
// too (Kairos, sdk/state/state.go). Where the word itself is there they say
// nothing new.
func checkLive(f node.Family, words []string) error {
	if f != node.FamilyKairos || slices.Contains(words, live) {
		return nil
	}
	i := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, live) })
	if i < 0 {
		return nil
	}
	return fmt.Errorf("args: %q has %q in it, by which Kairos takes an installed system for a live one: use another name, or the address", words[i], live)
}

// ShowArgs returns the kernel arguments of a family for people, with SERVER, NODE
// and RELEASE in the places of what is known only when a node boots.
func ShowArgs(f node.Family, kind node.Rootfs, fw node.Firmware) string {
	s := Script{Server: "SERVER", Pinned: true, Firmware: fw, Decision: deploy.Decision{
		Action: deploy.Boot, Node: "NODE", Release: "RELEASE", Args: FamilyArgs(f), Install: true, Family: f, Rootfs: kind,
	}}
	words, err := s.words()
	if err != nil {
		panic("ipxe: arguments of family " + string(f) + ": " + err.Error()) // they are ours
	}
	return strings.Join(words, " ")
}

// CheckCmdline reports why a node that is told d would have to wait instead:
// its kernel command line is too long, or has what it may not have. It assumes
// the longest address of a server and, where there is a payload, a ticket.
func CheckCmdline(d deploy.Decision) error {
	const server = "255.255.255.255:65535"
	for _, fw := range []node.Firmware{node.BIOS, node.UEFI} {
		s := Script{Server: server, MAC: node.MAC{2}, Pinned: true, Firmware: fw, Decision: d}
		if d.Payload != "" {
			s.sample = "http://" + server + "/t/bdt_" + strings.Repeat("0", 32)
		}
		if _, err := s.words(); err != nil {
			return err
		}
	}
	return nil
}
