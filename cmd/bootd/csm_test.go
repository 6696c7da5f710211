package main_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bootd/bmc/bmctest"
	"bootd/internal/lab"
	"bootd/internal/node"
)

// A csmSite is the boot server of source 004 with real peers: dnsmasq leases,
// nginx serves, and BMCs are ipmi_sim. Nothing of it is bootd's but the one
// binary in the place of set-sqfs-links.sh.
type csmSite struct {
	*lab.Net
	t      *testing.T
	script string // set-sqfs-links.sh
	bmcs   []*lab.Namespace
}

type csmNode struct {
	name      string
	mac, bmc  node.MAC
	addr, ilo string // of the node and of its BMC
}

var csmNodes = []csmNode{
	{"ncn-m002", node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 1}, node.MAC{0x52, 0x54, 0, 0xb, 0xc, 1}, "10.77.0.11", "10.77.0.31"},
	{"ncn-s001", node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 2}, node.MAC{0x52, 0x54, 0, 0xb, 0xc, 2}, "10.77.0.21", "10.77.0.41"},
}

// nodeScript does in few words what the script of source 004 does.
const nodeScript = `#!ipxe
set base-url http://10.77.0.1/${hostname}
set live-sqfs-opts root=live:LABEL=SQFSRAID rd.live.squashimg=rootfs
kernel ${base-url}/kernel initrd=initrd.img.xz console=ttyS0 no_timer_check panic=-1 ip=dhcp BOOTIF=01-${netX/mac:hexhyp} metal.server=${base-url} rd.luks ${live-sqfs-opts}
initrd --name initrd.img.xz ${base-url}/initrd.img.xz
boot
`

func newCSMSite(t *testing.T) *csmSite {
	t.Helper()
	lab.Need(t)
	for _, program := range []string{"nginx", "ipmi_sim"} {
		if _, err := exec.LookPath(program); err != nil {
			if strings.Contains(os.Getenv("BOOT_REQUIRE"), "netns") {
				t.Fatalf("BOOT_REQUIRE=netns: %s is missing: run make deps", program)
			}
			t.Skipf("%s is missing: run make deps", program)
		}
	}
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	s := &csmSite{Net: lab.ForTest(t, netip.MustParsePrefix("10.77.0.1/24"), 1), t: t}
	s.script = filepath.Join(s.Dir, "set-sqfs-links.sh")
	if err := os.Symlink(bin+"/bootctl", s.script); err != nil {
		t.Fatal(err)
	}
	s.release(lab.Release{Dir: "k8s", ID: "1.2.3", Base: "kubernetes"}, lab.Release{Dir: "ceph", ID: "0.0.7", Base: "storage-ceph"})
	s.file("www/boot/script.ipxe", nodeScript)
	s.file("www/boot/start.ipxe", "#!ipxe\nchain http://10.77.0.1/${hostname}/script.ipxe\n")
	var statics, conman strings.Builder
	for _, n := range csmNodes {
		fmt.Fprintf(&statics, "dhcp-host=%s,%s,%s-mgmt,20m #HMN\ndhcp-host=%s,%s,%s,20m\nhost-record=%s-mgmt,%s-mgmt.hmn,%s\n",
			n.bmc, n.ilo, n.name, n.mac, n.addr, n.name, n.name, n.name, n.ilo)
		fmt.Fprintf(&conman, "console name=\"%s-mgmt\"  ipmiopts=\"U:root,P:x,W:solpayloadsize\"  dev=\"ipmi:%s\"\n", n.name, n.ilo)
	}
	conman.WriteString("console name=\"ncn-m001-mgmt\"  ipmiopts=\"U:root,P:x\"  dev=\"ipmi:10.77.0.99\"\n")
	s.file("etc/dnsmasq.d/statics.conf", statics.String())
	s.file("etc/conman.conf", conman.String())
	s.file("var/www/x", "")
	s.file("var/lib/misc/x", "")
	s.file("misc/x", "")
	s.startDnsmasq()
	s.startNginx()
	for _, n := range csmNodes {
		s.startBMC(n)
	}
	return s
}

func (s *csmSite) release(list ...lab.Release) {
	s.t.Helper()
	im := lab.ImagesForTest(s.t)
	for _, r := range list {
		if err := im.WriteRelease(s.t.Context(), filepath.Join(s.Dir, "www"), r); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *csmSite) file(name, text string) {
	s.t.Helper()
	name = filepath.Join(s.Dir, name)
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, []byte(text), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *csmSite) start(h host, name string, args ...string) *lab.Proc {
	s.t.Helper()
	p, err := h.Start(name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", name, p)
		}
	})
	return p
}

func (s *csmSite) startDnsmasq() {
	p := s.start(s.Net, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file="+s.Dir+"/etc/dnsmasq.d/statics.conf",
		"--port=0", "--user=root", "--pid-file=", "--interface="+lab.Bridge, "--dhcp-authoritative", "--dhcp-range=10.77.0.100,10.77.0.199,10m",
		"--dhcp-match=set:ipxe,175", "--dhcp-boot=tag:ipxe,http://10.77.0.1/boot/start.ipxe", "--dhcp-leasefile="+s.Dir+"/misc/dnsmasq.leases")
	(&site{t: s.t}).line(p, `DHCP, IP range`)
}

func (s *csmSite) startNginx() {
	s.file("nginx.conf", fmt.Sprintf(`daemon off;
master_process off;
user root;
pid %[1]s/nginx.pid;
events {}
http {
	access_log /dev/stdout;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen 10.77.0.1:80;
		root %[1]s/www;
	}
}
`, s.Dir))
	s.start(s.Net, "nginx", "-e", "stderr", "-c", s.Dir+"/nginx.conf")
	waitListening(s.t, s.Net, "-lnt", 80)
}

// startBMC starts a BMC that has the address of an earlier installation and no
// lease.
func (s *csmSite) startBMC(n csmNode) {
	s.t.Helper()
	c, err := s.Client(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.bmcs = append(s.bmcs, c)
	for _, args := range []string{"link set eth0 address " + n.bmc.String(), "addr add " + n.ilo + "/24 dev eth0"} {
		if _, err := c.Run(s.t.Context(), "ip", strings.Fields(args)...); err != nil {
			s.t.Fatal(err)
		}
	}
	args, err := bmctest.Sim{Name: n.name, Addr: netip.AddrPortFrom(netip.MustParseAddr(n.ilo), 623), User: "root", Password: "initial0"}.Args(s.t.TempDir())
	if err != nil {
		s.t.Fatal(err)
	}
	s.start(c, "ipmi_sim", args...)
}

// setLinks runs the binary as the script is run on that site: from wherever,
// without arguments, with that site's files where they are there.
func (s *csmSite) setLinks(env ...string) *lab.Proc {
	s.t.Helper()
	const inside = `hostname surtur-ncn-m001-pit
mount -t overlay overlay -o lowerdir="$0/etc:/etc" /etc
mount -t overlay overlay -o lowerdir="$0/var:/var" /var
mount --bind "$0/www" /var/www
mount --bind "$0/misc" /var/lib/misc
cd /tmp
exec "$0/set-sqfs-links.sh"`
	args := append([]string{"-u", "IPMI_PASSWORD", "-u", "CSM_RELEASE"}, env...)
	return s.start(s.Net, "env", append(args, "unshare", "--mount", "--uts", "sh", "-ec", inside, s.Dir)...)
}

// fetched is what nginx has at a path for a machine of the segment.
func (s *csmSite) fetched(path string) []byte {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "fetched")
	if _, err := s.bmcs[0].Run(lab.Deadline(s.t), "curl", "-sSf", "-o", file, "http://10.77.0.1/"+path); err != nil {
		s.t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// On Monday the binary is put in place of the script, and nothing else.
func TestSetLinksBesideDnsmasqAndNginx(t *testing.T) {
	t.Parallel()
	s := newCSMSite(t)
	p := s.setLinks("IPMI_PASSWORD=initial0")
	see := (&site{t: t}).line
	see(p, `^Attempting to set all known BMCs \(from /etc/conman\.conf\) to DHCP mode$`)
	see(p, `^current BMC count: 0$`)
	see(p, `^ncn-s001: set to dhcp$`)
	see(p, `^Waiting on 2 to request DHCP \.\.\.`)
	for _, c := range s.bmcs { // as their firmware does now
		dhcp := s.start(c, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true")
		see(dhcp, `lease of 10\.77\.0\.[34]1 obtained from 10\.77\.0\.1`)
	}
	see(p, `All \[2\] expected BMCs have requested DHCP\.`)
	see(p, `^/tmp/.*/set-sqfs-links\.sh is creating boot directories for each NCN with a BMC that has a lease in /var/lib/misc/dnsmasq\.leases$`)
	see(p, `^/var/www is ready\.$`)
	if err := p.Ended(lab.Deadline(t)); err != nil {
		t.Fatalf("set-links: %v", err)
	}
	if strings.Contains(p.String(), "initial0") {
		t.Error("the password is in the output")
	}

	// A machine gets through nginx what the release has.
	release := filepath.Join(s.Dir, "www/ephemeral/data/k8s/1.2.3")
	for link, pattern := range map[string]string{"kernel": "*.kernel", "initrd.img.xz": "initrd*", "rootfs": "*.squashfs"} {
		names, err := filepath.Glob(filepath.Join(release, pattern))
		if err != nil || len(names) != 1 {
			t.Fatalf("%s: got %q, %v, want one file", pattern, names, err)
		}
		want, err := os.ReadFile(names[0])
		if got := s.fetched("ncn-m002/" + link); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, %v, want the %d of %s", link, len(got), err, len(want), names[0])
		}
	}
	s.wantBooted(csmNodes[0], "release=1.2.3 role=kubernetes")

	// A new release, and no password this time.
	s.release(lab.Release{Dir: "ceph", ID: "0.0.8", Base: "storage-ceph"})
	p = s.setLinks("CSM_RELEASE=csm-1.5.0")
	if err := p.Ended(lab.Deadline(t)); err != nil {
		t.Fatalf("set-links: %v", err)
	}
	see(p, `^no BMC password set, using existing dnsmasq\.leases$`)
	see(p, `^changed ncn-s001: 0\.0\.7 -> 0\.0\.8$`)
	if got := string(s.fetched("ncn-s001/script.ipxe")); !strings.Contains(got, "set live-sqfs-opts rd.live.dir=csm-1.5.0 root=live") {
		t.Errorf("script.ipxe: got %s, want rd.live.dir in it", got)
	}
	s.wantBooted(csmNodes[1], "release=0.0.8 role=storage-ceph")
	if found, err := exec.Command(s.script, "--help").Output(); err != nil || !strings.Contains(string(found), "set-links") {
		t.Errorf("--help: got %s, %v, want that of set-links", found, err)
	}
}

// wantBooted boots a node by dnsmasq, nginx and the links.
func (s *csmSite) wantBooted(n csmNode, what string) {
	s.t.Helper()
	g := s.Boot(s.t, lab.Machine{Name: n.name, Firmware: lab.BIOS, MAC: n.mac})
	line := (&site{t: s.t}).line(g, `^BOOTD-LAB-BOOTED`)
	s.t.Logf("%s booted in %v", n.name, time.Since(g.Started))
	if want := "node=" + n.name + " " + what + " ip=" + n.addr + " "; !strings.Contains(line, want) {
		s.t.Errorf("got %q, want %q", line, want)
	}
	g.Kill()
}
