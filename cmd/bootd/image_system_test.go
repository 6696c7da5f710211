package main_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// baked is what is put into the image of the tests besides its system.
var baked = map[string]string{
	"config.yaml": "#cloud-config\ninstall: {auto: true}\n",
	"opt/spectrocloud/content/core.zst_part00": "a bundle\n",
}

// kairos makes an image laid out as Kairos and Palette have it, with a kernel of
// Debian, an initrd of its dracut and a squashfs of the lab.
func kairos(t *testing.T) string {
	t.Helper()
	im, dir := lab.DracutForTest(t), t.TempDir()
	if err := im.WriteRelease(t.Context(), dir+"/tree", lab.Release{Dir: "edge", ID: "1.0.0", Base: "edge"}); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{im.Kernel: "boot/kernel", im.Initrd: "boot/initrd", dir + "/tree/ephemeral/data/edge/1.0.0/edge-1.0.0.squashfs": "rootfs.squashfs"} {
		b, err := os.ReadFile(from)
		put(t, dir+"/cd/"+to, string(b), err)
	}
	for name, text := range baked {
		put(t, dir+"/cd/"+name, text, nil)
	}
	iso := dir + "/palette.iso"
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-V", "COS_LIVE", "-r", "-J", "-joliet-long", "-o", iso, dir+"/cd").CombinedOutput()
	if err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	return iso
}

func put(t *testing.T, name, text string, err error) {
	t.Helper()
	if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// edge1 boots what was imported. Its own arguments make the lab's console the
// last one, and a system that does not start reset.
var edge1 = siteNode{Name: "edge-1", Role: "edge", MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 9}, Address: "10.77.0.31",
	Args: "console=ttyS0 no_timer_check quiet panic=1 rd.shell=0 rd.emergency=reboot"}

// newImageSite is a site whose node boots an image that bootctl imported.
func newImageSite(t *testing.T, role string, flags ...string) *site {
	t.Helper()
	iso := kairos(t)
	return newSiteOf(t, 1, site{
		Subnet: leases, Roles: "\n  - {name: edge, dir: edge, squashfs: [edge]" + role + "}", Nodes: []siteNode{edge1},
		Release: func(root string) error {
			bin, err := binaries()
			if err != nil {
				return err
			}
			config := filepath.Join(t.TempDir(), "roles.yaml")
			put(t, config, "roles: [{name: edge, dir: edge, squashfs: [edge]}]\nnodes: []\n", nil)
			out, err := exec.Command(bin+"/bootctl", append([]string{"image", "import", iso, "--role", "edge", "--release", "1.0.0", "--config", config, "--root", root}, flags...)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("bootctl image import: %w\n%s", err, out)
			}
			return nil
		},
	})
}

// A node boots an imported image with the arguments of its family and nothing
// but them: of its squashfs, which has lost what was baked in, and of the whole
// image, which dracut mounts as a CD, with all that is on it.
func TestImageBoots(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fw    lab.Firmware
		flags []string
		args  []string
	}{
		{"bios", lab.BIOS, nil, []string{" root=live:http://10.77.0.1/edge-1/1.0.0/rootfs.squashfs ", " netboot ", " selinux=0 ", " console=tty1 console=ttyS0,115200n8 nomodeset "}},
		{"uefi, whole image", lab.UEFI, []string{"--as-iso"}, []string{" root=live:http://10.77.0.1/edge-1/1.0.0/rootfs.iso rd.live.dir=/ rd.live.squashimg=rootfs.squashfs ", " console=ttyS0,115200n8 console=tty0 "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newImageSite(t, "", tt.flags...)
			g := s.Boot(t, machine(edge1, tt.fw))
			line := s.line(g, `^BOOTD-LAB-BOOTED`)
			for _, want := range tt.args {
				if !strings.Contains(line, want) {
					t.Errorf("got %q, want it to contain %q", line, want)
				}
			}
			s.wantBooted(g, edge1, "1.0.0")
			for name, text := range baked {
				want := fmt.Sprintf("BOOTD-LAB-BAKED %x  /run/initramfs/live/%s", sha256.Sum256([]byte(text)), name)
				if got := strings.Contains(g.String(), want); got != (tt.flags != nil) {
					t.Errorf("%s: is there: got %v, want %v", name, got, tt.flags != nil)
				}
			}
		})
	}
}

// A node that starts in another mode than its role demands is told so on its
// screen, boots nothing, and bootctl says why; in the right mode it boots.
func TestFirmwareDemanded(t *testing.T) {
	t.Parallel()
	s := newImageSite(t, ", firmware: bios")
	g := s.Boot(t, machine(edge1, lab.UEFI))
	const reason = "started by UEFI, and role edge demands legacy BIOS: change its boot mode"
	s.line(g, `^because: started by UEFI, and role edge demands legacy BIOS: change its boot mode`)
	s.line(g, `asking http://10\.77\.0\.1 again in 5 s`)
	g.Kill()
	why := s.bootctl("why", edge1.Name)
	if !strings.Contains(why, "next boot: hold, because: "+reason) || strings.Contains(why, "/kernel") {
		t.Errorf("got\n%s\nwant that it is held because %s, and no kernel", why, reason)
	}
	s.wantBooted(s.Boot(t, machine(edge1, lab.BIOS)), edge1, "1.0.0")
	if why := s.bootctl("why", edge1.Name); !strings.Contains(why, "next boot: boot") {
		t.Errorf("got\n%s\nwant that it boots", why)
	}
}
