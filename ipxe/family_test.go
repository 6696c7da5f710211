package ipxe

import (
	"io/fs"
	"net/http"
	"path"
	"strings"
	"testing"

	"bootd/deploy"
	"bootd/internal/node"
)

// of is the script of a node that boots a release of a family.
func of(f node.Family, kind node.Rootfs, fw node.Firmware) Script {
	s := boot(FamilyArgs(f))
	s.Firmware, s.Pinned = fw, true
	s.Decision.Family, s.Decision.Rootfs = f, kind
	return s
}

// The arguments of each family by firmware mode. What is expected is what the
// sources that family.go names have on their command lines.
func TestFamilyArgs(t *testing.T) {
	const (
		nic    = "initrd=initrd.img.xz BOOTIF=01-52-54-00-aa-bb-07 ip=dhcp "
		files  = "http://10.1.1.1:8080/ncn-w001/6.2.0"
		bios   = " console=tty1 console=ttyS0,115200n8"
		uefi   = " console=ttyS0,115200n8 console=tty0"
		kairos = " rd.live.overlay.overlayfs rd.neednet=1 rd.cos.disable rd.immucore.sysrootwait=600 netboot install-mode nodepair.enable net.ifnames=1 selinux=0"
	)
	for _, tt := range []struct {
		name     string
		family   node.Family
		kind     node.Rootfs
		firmware node.Firmware
		install  bool
		want     string
	}{
		{"source 004", "", node.Squashfs, node.BIOS, false, "initrd=initrd.img.xz metal.server=" + files + " BOOTIF=01-52-54-00-aa-bb-07 ip=dhcp"},
		{"kairos, bios", node.FamilyKairos, node.Squashfs, node.BIOS, true, nic + "root=live:" + files + "/rootfs.squashfs" + kairos + bios + " nomodeset"},
		{"kairos, uefi", node.FamilyKairos, node.Squashfs, node.UEFI, true, nic + "root=live:" + files + "/rootfs.squashfs" + kairos + uefi},
		{"kairos, not known", node.FamilyKairos, node.Squashfs, "", true, nic + "root=live:" + files + "/rootfs.squashfs" + kairos + uefi},
		{"kairos, whole image", node.FamilyKairos, node.ISO, node.UEFI, true, nic + "root=live:" + files + "/rootfs.iso rd.live.dir=/ rd.live.squashimg=rootfs.squashfs" + kairos + uefi},
		{"kairos, no installer", node.FamilyKairos, node.Squashfs, node.UEFI, false, nic + "root=live:" + files + "/rootfs.squashfs" + strings.Replace(kairos, " install-mode nodepair.enable", "", 1) + uefi},
		{"debian-live", node.FamilyDebianLive, node.Squashfs, node.BIOS, false, nic + "boot=live components fetch=" + files + "/rootfs.squashfs" + bios},
		{"debian-live, whole image", node.FamilyDebianLive, node.ISO, node.UEFI, false, nic + "boot=live components fetch=" + files + "/rootfs.iso" + uefi},
		{"casper", node.FamilyCasper, node.ISO, node.UEFI, true, nic + "url=" + files + "/rootfs.iso cloud-config-url=/dev/null" + uefi},
		{"debian-installer", node.FamilyDebianInstaller, node.NoRootfs, node.BIOS, true, nic + "netcfg/choose_interface=auto" + bios},
		{"anaconda", node.FamilyAnaconda, node.Squashfs, node.UEFI, true, nic + "inst.stage2=" + files + uefi},
		{"dracut-live", node.FamilyDracutLive, node.Squashfs, node.UEFI, false, nic + "root=live:" + files + "/rootfs.squashfs rd.live.image rd.neednet=1" + uefi},
		{"dracut-live, whole image", node.FamilyDracutLive, node.ISO, node.UEFI, false, nic + "root=live:" + files + "/rootfs.iso rd.live.dir=LiveOS rd.live.squashimg=squashfs.img rd.live.image rd.neednet=1" + uefi},
		{"coreos", node.FamilyCoreOS, node.CPIO, node.BIOS, true, nic + "coreos.live.rootfs_url=" + files + "/rootfs.img rd.neednet=1 ignition.firstboot ignition.platform.id=metal" + bios},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := of(tt.family, tt.kind, tt.firmware)
			s.Decision.Install = tt.install
			got, err := s.cmdline()
			if err != nil || got != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
			words, err := s.words()
			if grub := strings.Join(words, " "); err != nil || "initrd=initrd.img.xz "+grub != tt.want {
				t.Errorf("GRUB: got %s, %v", grub, err)
			}
			b, err := s.Render()
			if err != nil {
				t.Fatal(err)
			}
			commands(t, b)
		})
	}
	for _, f := range node.Families() {
		if FamilyArgs(f) == "" {
			t.Errorf("family %s has no arguments", f)
		}
	}
}

// A command line that the kernel would cut off is not given out: the node waits
// with the reason on its screen.
func TestCmdlineLimit(t *testing.T) {
	s := of(node.FamilyKairos, node.Squashfs, node.BIOS)
	used, err := s.cmdline()
	if err != nil {
		t.Fatal(err)
	}
	room := maxCmdline - len(used) - len(" ")
	s.Decision.Args += " " + strings.Repeat("x", room)
	if got, err := s.cmdline(); err != nil || len(got) != 2047 {
		t.Errorf("longest: got %d bytes, %v, want 2047", len(got), err)
	}
	s.Decision.Args += "x"
	_, err = s.Render()
	if err == nil || err.Error() != "args: kernel command line has 2048 bytes, more than 2047" {
		t.Errorf("too long: got %v", err)
	}
	if screen := string(trouble(s.Server, err.Error())); strings.Contains(screen, "kernel --timeout") || !strings.Contains(screen, "kernel command line has 2048 bytes, more than 2047") {
		t.Errorf("too long: got the script\n%s", screen)
	}
}

// Kairos looks for "netboot" anywhere on the command line of a system that is
// installed too.
func TestNetbootInOtherWords(t *testing.T) {
	for _, tt := range []struct {
		name, args, node string
		family           node.Family
		want             string // empty: fine
	}{
		{"live by itself", FamilyArgs(node.FamilyKairos), "netboot-1", node.FamilyKairos, ""},
		{"no such word", "kairos.ram root=live:{{.Rootfs}}", "edge-1", node.FamilyKairos, ""},
		{"name of the node", "kairos.ram root=live:{{.Rootfs}}", "netboot-1", node.FamilyKairos, `"root=live:http://10.1.1.1:8080/netboot-1/6.2.0/rootfs.squashfs"`},
		{"name in a URL", "kairos.ram kairos.config_url=http://netboot/x", "edge-1", node.FamilyKairos, `"kairos.config_url=http://netboot/x"`},
		{"another family", "url=http://netboot/x.iso", "netboot-1", node.FamilyCasper, ""},
		{"source 004", "x=http://netboot/x", "netboot-1", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := of(tt.family, node.Squashfs, node.UEFI)
			s.Decision.Args, s.Decision.Node = tt.args, tt.node
			_, err := s.Render()
			if tt.want == "" && err != nil {
				t.Errorf("got %v", err)
			}
			if want := "args: " + tt.want + ` has "netboot" in it, by which Kairos takes an installed system for a live one: use another name, or the address`; tt.want != "" && (err == nil || err.Error() != want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// A template that wants a root file system, where the release has none, is
// told at once.
func TestNoRootfs(t *testing.T) {
	s := of(node.FamilyDebianInstaller, node.NoRootfs, node.BIOS)
	s.Decision.Args = "root=live:{{.Rootfs}}"
	if _, err := s.Render(); err == nil || !strings.HasSuffix(err.Error(), "the release has no root file system of its own") {
		t.Errorf("got %v", err)
	}
}

// What starts a machine is what iPXE says, and for GRUB always UEFI.
func TestFirmware(t *testing.T) {
	for query, want := range map[string]node.Firmware{"fw=pcbios": node.BIOS, "fw=efi": node.UEFI, "fw=": "", "": "", "fw=sbi": "", "fw=uefi": ""} {
		var seen Machine
		s, _ := server(t)
		s.Decide = func(m Machine) deploy.Decision { seen = m; return deploy.Decision{} }
		ask(s.Handler(), leased, http.MethodGet, "/boot/script.ipxe?"+query, nil)
		if seen.Firmware != want {
			t.Errorf("%q: got %q, want %q", query, seen.Firmware, want)
		}
	}
	s, _ := server(t)
	var seen Machine
	s.Decide = func(m Machine) deploy.Decision { seen = m; return deploy.Decision{} }
	ask(s.Handler(), leased, http.MethodGet, "/grub/grub.cfg", nil)
	if seen.Firmware != node.UEFI {
		t.Errorf("GRUB: got %q, want uefi", seen.Firmware)
	}
}

// The names that scripts give a root file system lead to it, and only those.
func TestRootfsNames(t *testing.T) {
	s, _ := server(t)
	for kind, name := range rootfsNames {
		if base := path.Ext(name); kind != node.Squashfs && base != kind.Ext() {
			t.Errorf("%s is asked for as %s", kind, name)
		}
	}
	s.Pinned = func(name, release, kind string) (string, error) {
		if name != "ncn-w001" || release != "6.2.0" || kind != "rootfs" {
			return "", fs.ErrNotExist
		}
		return "ephemeral/data/k8s/6.2.0/initrd.img-6.2.0.xz", nil
	}
	for path, want := range map[string]int{
		"/ncn-w001/6.2.0/rootfs.squashfs": 200, "/ncn-w001/6.2.0/rootfs.iso": 200, "/ncn-w001/6.2.0/rootfs.img": 200,
		"/ncn-w001/6.2.0/images/install.img": 200, "/ncn-w001/6.2.0/rootfs": 200,
		"/ncn-w001/6.2.0/images/updates.img": 404, "/ncn-w001/6.2.0/.treeinfo": 404, "/ncn-w001/6.3.0/images/install.img": 404,
		"/ncn-w002/6.2.0/rootfs.iso": 404, "/boot/6.2.0/images/install.img": 404, "/ncn-w001/6.2.0/other.iso": 404,
	} {
		if got := ask(s.Handler(), leased, http.MethodGet, path, nil); got.Code != want {
			t.Errorf("%s: got %d, want %d", path, got.Code, want)
		}
	}
}
