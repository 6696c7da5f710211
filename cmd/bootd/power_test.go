package main_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bootd/bmc/bmctest"
	"bootd/internal/lab"
)

// needIPMI skips a test where there is no ipmi_sim.
func needIPMI(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ipmi_sim"); err == nil {
		return
	}
	const missing = "ipmi_sim of the Debian package openipmi is missing: run make deps"
	if strings.Contains(os.Getenv("BOOT_REQUIRE"), "netns") {
		t.Fatal("BOOT_REQUIRE=netns: " + missing)
	}
	t.Skip(missing)
}

// An installer that ends by powering off: the daemon asks the BMC at the
// address that it leased to it, tells once why it does not answer, and takes
// "off" for the end of the installation, when the installer was seen running.
func TestPowerOffEndsInstallation(t *testing.T) {
	t.Parallel()
	needIPMI(t)
	const mac, secret = "52:54:00:bb:00:01", "hunter2-of-the-bmc"
	password := filepath.Join(t.TempDir(), "bmc")
	if err := os.WriteFile(password, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := m001
	m.Role, m.BMC = "edge", mac
	s := newSiteOf(t, 0, site{
		Subnet: leases, Extra: "log: {level: debug}\nbmc: {user: root, password-file: " + password + "}", Nodes: []siteNode{m},
		Roles: "\n  - {name: edge, dir: k8s, squashfs: [kubernetes], install: {done: power-off}}",
	})
	c, bmc := s.browser(m.MAC.String()), s.browser(mac)
	c.told("PXEClient:Arch:00007", "0007")
	s.bootctl("node", "arm", m.Name, "--yes")
	c.get("http://10.77.0.1/boot/script.ipxe?mac=" + m.MAC.Hyphen())
	c.must("curl", "-fsS", "-o", "/dev/null", "http://10.77.0.1/ncn-m001/rootfs")

	s.line(s.daemon, `its address is not known`)
	bmc.told("", "0000")
	if status, _, body := bmc.get("http://10.77.0.1/checkin/installed", "-X", "POST"); status != 404 {
		t.Errorf("check-in of a BMC: got %d %q, want 404", status, body)
	}
	sim := t.TempDir()
	addr := regexp.MustCompile(`inet ([0-9.]+)`).FindStringSubmatch(bmc.must("ip", "-4", "addr", "show", "dev", "eth0"))[1]
	args, err := bmctest.Sim{Name: m.Name, Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 623), User: "root", Password: secret}.Args(sim)
	if err != nil {
		t.Fatal(err)
	}
	power := func(to string) {
		t.Helper()
		if out, err := exec.Command(filepath.Join(sim, "chassis"), "set", "power", to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	power("1")
	p, err := bmc.Namespace.Start("ipmi_sim", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endMachine(t, sim, p) })
	s.line(s.daemon, `BMC answers again`)
	if got := s.statusOf(m.Name); !strings.Contains(got, `"phase":"installing"`) {
		t.Errorf("machine is on: got %s, want it installing", got)
	}
	power("0")
	s.line(s.daemon, `phase=installed was=installing reason="its BMC says that it is off"`)

	why := s.bootctl("why", m.Name)
	if got := strings.Count(why, "its address is not known"); got != 1 {
		t.Errorf("got\n%swant once that the address of the BMC is not known", why)
	}
	s.daemon.Stop()
	s.daemon.Ended(lab.Deadline(t))
	if all := s.daemon.String() + why + contents(t, filepath.Join(s.Dir, "state")); strings.Contains(all, secret) {
		t.Errorf("the password is told: %q", all)
	}
}
