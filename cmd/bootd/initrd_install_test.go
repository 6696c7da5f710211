package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// miniISO makes a release of an image that has nothing but kernel and initrd, as
// Debian's mini.iso. Its initrd is larger than what sockets hold.
func miniISO(t *testing.T, root string) error {
	dir, im := t.TempDir(), lab.ImagesForTest(t)
	kernel, err := os.ReadFile(im.Kernel)
	put(t, dir+"/cd/linux", string(kernel), err)
	put(t, dir+"/cd/initrd.gz", "\x1f\x8b\x08\x00"+strings.Repeat("\x00", 32<<20), nil)
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-V", "ISOIMAGE", "-r", "-o", dir+"/mini.iso", dir+"/cd").CombinedOutput()
	if err != nil {
		return fmt.Errorf("xorriso: %w\n%s", err, out)
	}
	bin, err := binaries()
	if err != nil {
		return err
	}
	put(t, dir+"/roles.yaml", "roles: [{name: di, dir: di, squashfs: [di]}]\nnodes: []\n", nil)
	out, err = exec.Command(bin+"/bootctl", "image", "import", dir+"/mini.iso", "--role", "di", "--release", "1.0.0", "--config", dir+"/roles.yaml", "--root", root).CombinedOutput()
	if err != nil {
		return fmt.Errorf("bootctl image import: %w\n%s", err, out)
	}
	return nil
}

// An installer that is nothing but kernel and initrd, and has no payload, runs
// when it has its initrd as a whole, over HTTP or TFTP: then it is not given out
// again. One that was cut off, or that its loader does not start, is; one that
// was under way when the daemon was killed may run.
func TestInitrdOnlyInstaller(t *testing.T) {
	t.Parallel()
	m := siteNode{Name: "di-1", Role: "di", MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 0xd1}, Address: "10.77.0.41"}
	s := newSiteOf(t, 0, site{Subnet: leases, Nodes: []siteNode{m}, Roles: "\n  - {name: di, dir: di, squashfs: [di], install: {done: restart}}",
		Release: func(root string) error { return miniISO(t, root) }})
	c := s.browser(m.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	asks := func(want string) {
		t.Helper()
		if _, _, text := c.get("http://10.77.0.1/boot/script.ipxe?mac=" + m.MAC.Hyphen()); !strings.Contains(text, want) {
			t.Fatalf("got script\n%s\nwant %q in it", text, want)
		}
	}
	runs := func(want bool) {
		t.Helper()
		if got := s.statusOf(m.Name); strings.Contains(got, `"running":true`) != want {
			t.Fatalf("got %s, want running %v", got, want)
		}
	}
	const initrd = "10.77.0.1/di-1/1.0.0/initrd.img.xz"
	const installer, disk = "/initrd.img.xz", "sanboot"
	out := filepath.Join(s.Dir, "initrd")

	s.bootctl("node", "arm", m.Name, "--yes")
	asks(installer)
	c.must("sh", "-c", "curl -sS http://"+initrd+" | head -c 100 >"+out)
	s.settled(m.Name)
	runs(false)
	c.get("http://"+initrd, "--head")
	s.crash()
	runs(false)
	asks(installer)

	c.must("curl", "-fsS", "-o", out, "http://"+initrd)
	s.settled(m.Name)
	runs(true)
	c.get("http://10.77.0.1/report?step=start&err=2e008081")
	runs(false)
	asks(installer)

	c.must("curl", "-fsS", "--tftp-blksize", "1468", "-o", out, "tftp://"+initrd)
	s.settled(m.Name)
	runs(true)
	s.crash()
	runs(true)
	asks(disk)
	wantMatch(t, "phase", s.bootctl("status"), m.Name+` .*installed`)

	s.bootctl("node", "arm", m.Name, "--yes")
	asks(installer)
	slow, err := c.Start("curl", "-sS", "--limit-rate", "1M", "-o", out, "http://"+initrd)
	if err != nil {
		t.Fatal(err)
	}
	s.shows(m.Name, `"loads":1`)
	runs(false)
	s.crash()
	slow.Kill()
	runs(true)
	asks(disk)
}

// settled waits until no initrd is on its way to a node.
func (s *site) settled(name string) {
	s.t.Helper()
	ctx := lab.Deadline(s.t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for strings.Contains(s.statusOf(name), `"loads"`) {
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: an initrd is on its way for ever", name)
		case <-tick.C:
		}
	}
}

// One packet with the address of a node, which anybody can send, does not make
// its installer one that runs.
func TestRequestAloneRunsNothing(t *testing.T) {
	t.Parallel()
	m := siteNode{Name: "ncn-m001", Role: "edge", MAC: node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 0xd2}, Address: "10.77.0.42"}
	s := newSiteOf(t, 0, site{Subnet: leases, Nodes: []siteNode{m}, Roles: "\n  - {name: edge, dir: k8s, squashfs: [kubernetes], install: {done: restart}}"})
	c := s.browser(m.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	s.bootctl("node", "arm", m.Name, "--yes")
	c.get("http://10.77.0.1/boot/script.ipxe?mac=" + m.MAC.Hyphen())
	const rootfs = "ncn-m001/rootfs"
	request := `printf '\0\1` + rootfs + `\0octet\0' >/dev/udp/10.77.0.1/69; timeout 1 cat </dev/udp/10.77.0.1/69`
	c.must("bash", "-c", request+"; true")
	if got := s.statusOf(m.Name); strings.Contains(got, `"running":true`) || !strings.Contains(got, `"installing"`) {
		t.Errorf("after a request: got %s, want that the installer does not run yet", got)
	}
	c.must("curl", "-fsS", "-o", filepath.Join(s.Dir, "rootfs"), "tftp://10.77.0.1/"+rootfs)
	s.shows(m.Name, `"running":true`)
}
