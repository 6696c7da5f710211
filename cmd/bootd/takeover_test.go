package main_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bootd/internal/lab"
)

// pitFiles is the configuration of dnsmasq on a boot server of source 004, as
// cray-site-init and the image of that server write it, with other networks:
// the machines' on br0, and on br0.hmn0 that of their BMCs, which the machines
// are in too.
var pitFiles = map[string]string{
	"dnsmasq.conf": `# base of the boot server
user=root
pid-file=
enable-tftp
tftp-root=DIR
except-interface=lan0
dhcp-authoritative
dhcp-sequential-ip
dhcp-fqdn
bind-dynamic
domain=local
address=/local,mtl,nmn,hmn,can/127.0.0.1
no-resolv
no-hosts
port=0
no-ping
dhcp-leasefile=DIR/dnsmasq.leases
dhcp-vendorclass=set:efi-x86_64-sb,PXEClient:Arch:00007
dhcp-vendorclass=set:efi-x86_64-sb,PXEClient:Arch:00009
dhcp-boot=tag:efi-x86_64-sb,ipxe.x86_64.efi,pit
conf-dir=DIR/dnsmasq.d,*.conf
`,
	"dnsmasq.d/MTL.conf": `domain=mtl,10.77.0.0,10.77.0.255,local
interface=br0
interface-name=pit.mtl,br0
cname=packages.mtl,pit.mtl
dhcp-option=interface:br0,option:domain-search,mtl
dhcp-option=interface:br0,option:ntp-server,10.77.0.1
dhcp-option=interface:br0,option:router,10.77.0.254
dhcp-range=interface:br0,10.77.0.50,10.77.0.200,10m
`,
	"dnsmasq.d/HMN.conf": `interface=br0.hmn0
dhcp-option=interface:br0.hmn0,option:router,10.94.0.254
dhcp-range=interface:br0.hmn0,10.94.1.10,10.94.1.200,10m
`,
	"dnsmasq.d/statics.conf": `dhcp-host=id:x3000c0s1b0n0,set:ncn-m002,52:54:00:00:01:02,52:54:00:00:02:02,10.77.0.12,ncn-m002,20m
dhcp-host=id:x3000c0s1b0n0,set:ncn-m002,52:54:00:00:01:02,52:54:00:00:02:02,10.94.0.12,ncn-m002,20m
dhcp-host=52:54:00:00:03:02,10.94.0.102,ncn-m002-mgmt,20m #HMN
host-record=ncn-m002,ncn-m002.mtl,10.77.0.12
host-record=ncn-m002-mgmt,ncn-m002-mgmt.hmn,10.94.0.102
dhcp-option-force=tag:ncn-m002,17,x3000c0s1b0n0
`,
}

// A pitClient is a machine, or a NIC of one, that dnsmasq leased an address to.
type pitClient struct {
	ns     *lab.Namespace
	iface  string
	mac    string
	addr   string // from dnsmasq
	runs   *lab.Proc
	script string
}

// lease has udhcpc lease an address and keep it.
func (c *pitClient) lease(s *site) {
	s.t.Helper()
	if c.iface != "eth0" {
		port := "h" + c.mac[12:14] + c.mac[15:]
		s.run(s.Namespace, "ip link add "+port+" type veth peer name "+c.iface+" netns "+c.ns.Name)
		s.run(s.Namespace, "ip link set "+port+" master br0.hmn0 up")
	}
	s.run(c.ns, "ip link set "+c.iface+" address "+c.mac)
	s.run(c.ns, "ip link set "+c.iface+" up")
	var err error
	if c.runs, err = c.ns.Start("busybox", "udhcpc", "-i", c.iface, "-f", "-s", c.script); err != nil {
		s.t.Fatal(err)
	}
	c.addr = strings.Fields(s.line(c.runs, `lease of \S+ obtained`))[3]
}

// discover has another udhcpc ask as if it had never had an address.
func (c *pitClient) discover(s *site) string {
	s.t.Helper()
	p, err := c.ns.Start("busybox", "udhcpc", "-i", c.iface, "-n", "-q", "-f", "-s", "/bin/true")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Fields(s.line(p, `lease of \S+ obtained`))[3]
}

// dhclient leases an address with the memory of a file, and returns it.
func (s *site) dhclient(c *lab.Namespace, file string) string {
	s.t.Helper()
	p, err := c.Start("dhclient", "-d", "-v", "-sf", "/bin/true", "-lf", file, "-pf", file+".pid", "eth0")
	if err != nil {
		s.t.Fatal(err)
	}
	bound := strings.Fields(s.line(p, `^bound to `))
	p.Kill() // without a RELEASE
	return bound[2]
}

// A site moves from a real dnsmasq to bootd: clients that hold leases renew
// them, clients that ask anew get the same address, nodes and BMCs on each of
// their networks.
func TestTakeDnsmasq(t *testing.T) {
	t.Parallel()
	lab.Need(t)
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	n := lab.ForTest(t, netip.MustParsePrefix("10.77.0.1/24"), 0)
	s := &site{Net: n, t: t, bin: bin, root: filepath.Join(n.Dir, "www"), config: filepath.Join(n.Dir, "bootd.yaml"), socket: filepath.Join(n.Dir, "bootd.sock")}
	for _, dir := range []string{s.root, filepath.Join(n.Dir, "dnsmasq.d")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range pitFiles {
		s.write(name, strings.ReplaceAll(text, "DIR", n.Dir))
	}
	for _, command := range []string{"ip link add br0.hmn0 type bridge", "ip addr add 10.94.0.1/17 dev br0.hmn0", "ip link set br0.hmn0 up"} {
		s.run(s.Namespace, command)
	}
	old, err := s.Start("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file="+n.Dir+"/dnsmasq.conf")
	if err != nil {
		t.Fatal(err)
	}
	s.line(old, `DHCP, IP range 10\.94\.1\.10`)

	script := s.write("udhcpc", configure)
	node, mgmt, bmc, guest, late := s.client(), s.client(), s.client(), s.client(), s.client()
	clients := []*pitClient{
		{ns: node, iface: "eth0", mac: "52:54:00:00:01:02", script: script},
		{ns: node, iface: "eth1", mac: "52:54:00:00:01:02", script: script},
		{ns: mgmt, iface: "eth1", mac: "52:54:00:00:03:02", script: script},
		{ns: bmc, iface: "eth1", mac: "52:54:00:00:03:09", script: script},
		{ns: guest, iface: "eth0", mac: "52:54:00:00:09:01", script: script},
	}
	for _, c := range clients {
		c.lease(s)
	}
	for i, want := range []string{"10.77.0.12", "10.94.0.12", "10.94.0.102"} {
		if clients[i].addr != want {
			t.Fatalf("%s on %s: dnsmasq leased %s, want %s", clients[i].mac, clients[i].iface, clients[i].addr, want)
		}
	}
	s.setMAC(late, "52:54:00:00:09:02")
	s.run(late, "ip link set eth0 up")
	memory := filepath.Join(n.Dir, "dhclient.leases")
	s.write("dhclient.leases", "")
	had := s.dhclient(late, memory)

	before := s.texts("dnsmasq.conf", "dnsmasq.d/MTL.conf", "dnsmasq.d/HMN.conf", "dnsmasq.d/statics.conf", "dnsmasq.leases")
	out, err := s.Run(lab.Deadline(t), s.bin+"/bootctl", "import", "dnsmasq", "--conf", n.Dir+"/dnsmasq.conf", "--leases", n.Dir+"/dnsmasq.leases",
		"--output", s.config, "--root", s.root, "--state", n.Dir+"/state", "--socket", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	wantMatch(t, "import", out, `bootd\.yaml: 2 subnets, 1 nodes$`)
	// dnsmasq knows a machine by its client identifier, which is the same in both
	// networks, and has forgotten the first of the node's two leases.
	wantMatch(t, "import", out, `leases\.import: 5 leases$`)
	if after := s.texts("dnsmasq.conf", "dnsmasq.d/MTL.conf", "dnsmasq.d/HMN.conf", "dnsmasq.d/statics.conf", "dnsmasq.leases"); after != before {
		t.Errorf("dnsmasq's files: got\n%s\nwant them as before\n%s", after, before)
	}
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`^  - interface: br0$`, `^  - interface: br0\.hmn0$`, `^    subnet: 10\.94\.0\.0/17 `, `^      - 10\.94\.0\.12 `, `^    bmc-address: 10\.94\.0\.102 `, `^      - always 17 text x3000c0s1b0n0 `} {
		wantMatch(t, "configuration", string(text), want)
	}
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}
	s.write("bootd.yaml", string(text)+"\nadmin: {socket: "+s.socket+"}\n")
	s.start()
	s.line(s.daemon, `leases taken in that were imported.* taken=5 refused=0`)
	if _, err := os.Stat(filepath.Join(n.Dir, "state", "leases.import")); !os.IsNotExist(err) {
		t.Errorf("got %v, want that the file is gone", err)
	}

	for _, c := range clients {
		if err := c.runs.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		s.line(c.runs, `^RENEWED `+strings.ReplaceAll(c.addr, ".", `\.`)+`$`)
	}
	for _, c := range clients {
		if err := c.runs.Stop(); err != nil {
			t.Fatal(err)
		}
		if got := c.discover(s); got != c.addr {
			t.Errorf("%s on %s: got %s, want %s as from dnsmasq", c.mac, c.iface, got, c.addr)
		}
	}
	if got := s.dhclient(late, memory); got != had {
		t.Errorf("dhclient that remembers: got %s, want %s", got, had)
	}
	if got := s.dhclient(late, s.write("new.leases", "")); got != had {
		t.Errorf("dhclient that does not: got %s, want %s", got, had)
	}
	s.setMAC(late, "52:54:00:00:09:03")
	if got := s.udhcpc(late); !netip.MustParsePrefix("10.77.0.0/24").Contains(netip.MustParseAddr(got)) || got == had {
		t.Errorf("another machine: got %s, want an address of the pool that nobody has", got)
	}
}

// texts is the content of files of the segment.
func (s *site) texts(names ...string) string {
	s.t.Helper()
	var all strings.Builder
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
