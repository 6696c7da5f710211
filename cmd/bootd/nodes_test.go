package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bootd/internal/lab"
)

const (
	oldMAC = "52:54:00:aa:bb:01"
	newMAC = "52:54:00:aa:bb:11"

	thirdMAC = "52:54:00:aa:bb:13"
)

// reservedSubnet has one node with an address of its own, and one with any.
const reservedSubnet = `
subnets:
  - {interface: br0, subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.199], probe: 50ms}
nodes:
  - name: ncn-w001
    role: kubernetes
    macs: [` + oldMAC + `]
    bmc: 52:54:00:cc:dd:01
    uuid: 11223344-5566-7788-99aa-bbccddeeff00
    address: 10.77.0.11
  - {name: ncn-w002, role: kubernetes, macs: [52:54:00:aa:bb:02]}
`

// as leases an address to a machine with this MAC, and returns it.
func (s *site) as(c *lab.Namespace, mac string) string {
	s.t.Helper()
	s.setMAC(c, mac)
	return s.udhcpc(c)
}

// Other hardware takes the place of a node over the wire: the new MAC gets the
// address, the old one another, and that stays so after kill -9 and after a
// reload of the configuration file that still has the old MAC.
func TestReplaceNode(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), reservedSubnet)
	c := s.client()
	if got := s.as(c, oldMAC); got != "10.77.0.11" {
		t.Fatalf("the node: got %s, want its address", got)
	}
	if got := s.as(c, newMAC); !strings.HasPrefix(got, "10.77.0.1") || got == "10.77.0.11" {
		t.Fatalf("a stranger: got %s, want an address of the pool", got)
	}
	args := []string{"node", "replace", "ncn-w001", "--mac", newMAC, "--bmc-mac", "52:54:00:cc:dd:11"}
	const want = `ncn-w001 WAS replaced
  macs   52:54:00:aa:bb:01 -> 52:54:00:aa:bb:11
  bmc    52:54:00:cc:dd:01 -> 52:54:00:cc:dd:11
  uuid   11223344-5566-7788-99aa-bbccddeeff00 -> none
  lease  10.77.0.11 of 52:54:00:aa:bb:01, ncn-w001 ends
`
	if got := s.bootctl(append(args, "--dry-run")...); got != strings.Replace(want, "WAS", "would be", 1) {
		t.Errorf("dry run: got\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "state", "nodes.yaml")); !os.IsNotExist(err) {
		t.Errorf("dry run: got %v, want no file", err)
	}
	if got := s.bootctl(args...); got != strings.Replace(want, " WAS", "", 1) {
		t.Errorf("got\n%s", got)
	}
	if got := s.bootctl(args...); got != "" {
		t.Errorf("again: got\n%s, want nothing", got)
	}
	check := func(when string) {
		t.Helper()
		if got := s.as(c, oldMAC); got == "10.77.0.11" {
			t.Errorf("%s: the old hardware got %s, which is the node's", when, got)
		}
		if got := s.as(c, newMAC); got != "10.77.0.11" {
			t.Errorf("%s: the new hardware got %s, want the node's address", when, got)
		}
	}
	check("at once")
	wantMatch(t, "status", s.bootctl("status"), `^`+oldMAC+` +\(unknown\)`)
	wantMatch(t, "show", s.bootctl("node", "show", "ncn-w001"), `macs +`+newMAC+` +\S+/state/nodes\.yaml:5$`)
	wantMatch(t, "show", s.bootctl("node", "show", "ncn-w001"), `address +10\.77\.0\.11 +\S+/bootd\.yaml:8$`)

	s.restart()
	check("after kill -9")
	if err := s.daemon.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.line(s.daemon, `configuration reloaded`)
	check("after a reload")
	wantMode(t, filepath.Join(s.Dir, "state", "nodes.yaml"), 0o640)

	// An address of the pool goes with the node, too.
	had := s.as(c, "52:54:00:aa:bb:02")
	s.as(c, "52:54:00:aa:bb:12")
	wantMatch(t, "replace", s.bootctl("node", "replace", "ncn-w002", "--mac", "52:54:00:aa:bb:12"), `lease  `+had+` of 52:54:00:aa:bb:12, ncn-w002 begins$`)
	if got := s.as(c, "52:54:00:aa:bb:12"); got != had {
		t.Errorf("the new hardware of ncn-w002: got %s, want %s", got, had)
	}
	if got := s.as(c, "52:54:00:aa:bb:02"); got == had {
		t.Errorf("the old hardware of ncn-w002: got %s, which is the node's", got)
	}
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got != want {
		t.Errorf("%s: mode %v, want %v", path, got, want)
	}
}

// Nodes come and go by commands; what the configuration's rules refuse changes
// nothing, and set-links, which asks no daemon, sees the same nodes.
func TestAddNode(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	c := s.client()
	args := []string{"node", "add", "ncn-w001", "--role", "kubernetes", "--mac", thirdMAC, "--address", "10.77.0.13", "--tag", "rack=r1"}
	if got := s.bootctl(append(args, "--dry-run")...); !strings.HasPrefix(got, "ncn-w001 would be added\n") {
		t.Errorf("dry run: got\n%s", got)
	}
	s.bootctl(args...)
	if got := s.bootctl(args...); got != "" {
		t.Errorf("again: got\n%s, want nothing", got)
	}
	if got := s.as(c, thirdMAC); got != "10.77.0.13" {
		t.Errorf("got %s, want the node's address", got)
	}
	wantMatch(t, "set-links", s.bootctl("set-links", "--config", s.config), `ncn-w001`)
	s.restart()
	wantMatch(t, "list", s.bootctl("node", "list"), `^ncn-w001 +kubernetes +10\.77\.0\.13 +`+thirdMAC+` +- +\S+/state/nodes\.yaml:5$`)
	wantMatch(t, "status", s.bootctl("status"), `^ncn-w001 .* boot 1\.2\.3$`)

	before, err := os.ReadFile(filepath.Join(s.Dir, "state", "nodes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"add", "ncn-w002", "--role", "kubernetes", "--mac", m001.MAC.String()},
			`^bootctl: \S+/nodes\.yaml: nodes\[1\] "ncn-w002": macs\[0\]: ` + m001.MAC.String() + ` belongs to node "ncn-m001" too \(\S+/bootd\.yaml:\d+\)$`},
		{[]string{"add", "ncn-w002", "--role", "gpu", "--mac", newMAC}, `role: "gpu" is not defined$`},
		{[]string{"add", "ncn-w001", "--role", "kubernetes", "--mac", newMAC}, `node "ncn-w001" is there already, and not the same`},
		{[]string{"add", "ncn-w002", "--role", "kubernetes", "--mac", newMAC, "--address", "10.99.0.1"}, `address: 10\.99\.0\.1 is not within any subnet`},
		{[]string{"replace", "ncn-w009", "--mac", newMAC}, `^bootctl: there is no node "ncn-w009"$`},
		{[]string{"remove", "ncn-m001"}, `^bootctl: node "ncn-m001" is written in \S+/bootd\.yaml, line \d+: remove it there$`},
		{[]string{"remove", "ncn-w009"}, `^bootctl: there is no node "ncn-w009"$`},
	} {
		wantMatch(t, strings.Join(tt.args, " "), s.bootctlStatus(1, append([]string{"node"}, tt.args...)...), tt.want)
	}
	if after, err := os.ReadFile(filepath.Join(s.Dir, "state", "nodes.yaml")); string(after) != string(before) || err != nil {
		t.Errorf("after what was refused: got %v\n%s\nwant\n%s", err, after, before)
	}

	wantMatch(t, "remove", s.bootctl("node", "remove", "ncn-w001"), `lease +10\.77\.0\.13 of `+thirdMAC+`, ncn-w001 ends$`)
	if got := s.as(c, thirdMAC); got == "10.77.0.13" {
		t.Errorf("after remove: got %s, want an address of the pool", got)
	}
	if _, err := os.Stat(filepath.Join(s.root, "ncn-w001", "kernel")); err != nil {
		t.Errorf("after remove: %v, want that the boot directory stays", err)
	}
	wantMatch(t, "prune", s.bootctl("links", "prune", "--config", s.config, "--yes"), `ncn-w001`)
}

// The configuration file is read again when it changes, however an editor
// writes it; a file that is wrong is told of, and the last good one stays in
// force.
func TestConfigurationIsWatched(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), reservedSubnet)
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(text string) {
		t.Helper()
		s.write("bootd.yaml.new", text)
		if err := os.Rename(s.config+".new", s.config); err != nil {
			t.Fatal(err)
		}
	}
	more := func(names ...string) string {
		all := string(text)
		for i, name := range names {
			all += fmt.Sprintf("  - {name: %s, role: kubernetes, macs: [52:54:00:aa:cc:%02x]}\n", name, i)
		}
		return all
	}
	s.write("bootd.yaml", more("ncn-w007"))
	s.line(s.daemon, `configuration reloaded.* nodes=3`)
	wantMatch(t, "list", s.bootctl("node", "list"), `^ncn-w007 `)
	edit(more("ncn-w007", "NCN"))
	s.line(s.daemon, `configuration not reloaded: .*NCN`)
	wantMatch(t, "list", s.bootctl("node", "list"), `^ncn-w007 `)
	add := []string{"node", "add", "ncn-w003", "--role", "kubernetes", "--mac", newMAC}
	wantMatch(t, "a node meanwhile", s.bootctlStatus(1, add...), `"NCN" is not a host name`)
	edit(more("ncn-w007", "ncn-w008"))
	s.line(s.daemon, `configuration reloaded.* nodes=4`)
	s.bootctl(add...)
	edit(more("ncn-w010", "ncn-w011", "ncn-w012"))
	s.line(s.daemon, `configuration reloaded.* nodes=6`) // ncn-w003 is one
	if list := s.bootctl("node", "list"); !strings.Contains(list, "ncn-w003 ") || strings.Contains(list, "ncn-w007 ") {
		t.Errorf("after the last edit: got\n%s", list)
	}
}

// A daemon that has only flags has nodes all the same.
func TestAddNodeWithFlags(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), reservedSubnet)
	if err := s.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	start := func() {
		t.Helper()
		d, err := s.Namespace.Start(s.bin+"/bootd", "run", "--interface", lab.Bridge, "--range", "10.77.0.100-10.77.0.199",
			"--root", s.root, "--state", filepath.Join(s.Dir, "state"), "--socket", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		s.daemon = d
		s.line(d, `msg=ready`)
	}
	start()
	s.bootctl("node", "add", "ncn-w001", "--role", "kubernetes", "--mac", oldMAC, "--address", "10.77.0.11")
	c := s.client()
	if got := s.as(c, oldMAC); got != "10.77.0.11" {
		t.Errorf("got %s, want the node's address", got)
	}
	if err := s.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	start()
	wantMatch(t, "after a restart", s.bootctl("node", "list"), `^ncn-w001 `)
}

const twoSubnets = `
subnets:
  - {interface: br0, subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.199], probe: off}
  - {interface: br0, subnet: 10.88.0.0/24, relayed: true, pools: [10.88.0.100-10.88.0.199], router: 10.88.0.1, probe: off}
nodes:
  - name: ncn-w001
    role: kubernetes
    macs: [` + oldMAC + `]
    bmc: 52:54:00:cc:dd:01
    bmc-address: 10.77.0.111
    address: 10.77.0.11
    addresses: [10.88.0.11]
`

// A node has an address in each of two subnets, and its BMC one of its own:
// nobody else gets them, and other hardware does.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), twoSubnets)
	router, c := s.client(), s.client()
	for _, command := range []string{
		"ip addr add 10.77.0.2/24 dev eth0",
		"ip link add eth1 type veth peer name eth1 netns " + c.Name,
		"ip addr add 10.88.0.1/24 dev eth1",
		"ip link set eth1 up",
		"busybox sysctl -w net.ipv4.ip_forward=1",
	} {
		s.run(router, command)
	}
	s.run(c, "ip link set eth1 up")
	s.run(s.Namespace, "ip route add 10.88.0.0/24 via 10.77.0.2")
	agent, err := router.Start("dnsmasq", "-d", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--dhcp-relay=10.88.0.1,10.77.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s.line(agent, `DHCP relay from 10\.88\.0\.1`)
	behind := func(mac string) string {
		t.Helper()
		s.run(c, "ip link set eth1 address "+mac)
		p, err := c.Start("busybox", "udhcpc", "-i", "eth1", "-n", "-q", "-f", "-s", "/bin/true")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(s.line(p, `lease of \S+ obtained`))[3]
	}
	check := func(mac, bmc string) {
		t.Helper()
		for got, want := range map[string]string{s.as(c, mac): "10.77.0.11", behind(mac): "10.88.0.11", s.as(c, bmc): "10.77.0.111"} {
			if got != want {
				t.Errorf("%s and its BMC: got %s, want %s", mac, got, want)
			}
		}
	}
	check(oldMAC, "52:54:00:cc:dd:01")
	out := s.bootctl("node", "replace", "ncn-w001", "--mac", newMAC, "--bmc-mac", "52:54:00:cc:dd:11")
	for _, a := range []string{"10.77.0.11", "10.88.0.11", "10.77.0.111"} {
		wantMatch(t, "replace", out, `lease +`+a+` of .* ends$`)
	}
	check(newMAC, "52:54:00:cc:dd:11")
	for got, not := range map[string]string{s.as(c, oldMAC): "10.77.0.11", behind(oldMAC): "10.88.0.11", s.as(c, "52:54:00:cc:dd:01"): "10.77.0.111"} {
		if got == not {
			t.Errorf("the old hardware got %s, which is the node's", got)
		}
	}
}

// Other hardware boots what the node booted, under its name and address; the
// old one is a machine that nobody knows.
func TestReplacedNodeBoots(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, m001)
	other := m001
	other.MAC[4], other.MAC[5] = 0xcc, 0x77
	s.bootctl("node", "replace", m001.Name, "--mac", other.MAC.String())
	g := s.Boot(t, machine(other, lab.BIOS))
	s.wantBooted(g, other, "1.2.3")
	wantMatch(t, "status", s.bootctl("status"), `^`+m001.Name+` +kubernetes +10\.77\.0\.11 +\S+ +booted +1\.2\.3`)
	old := s.client()
	if got := s.as(old, m001.MAC.String()); got == m001.Address {
		t.Errorf("the old hardware: got %s, which is the node's", got)
	}
	wantMatch(t, "status", s.bootctl("status"), `^`+m001.MAC.String()+` +\(unknown\)`)
}

// A name that no node has leads to the one that was meant, whichever command it
// was said to.
func TestNameThatNobodyHas(t *testing.T) {
	t.Parallel()
	s := newSegment(t, netip.MustParsePrefix("10.77.0.1/24"), reservedSubnet)
	for _, command := range []string{
		"why W1", "watch ncn-w002 W1", "payload log W1", "node log W1", "validate W1",
		"node show W1", "node hold w1", "node arm w1 --yes", "node replace W1 --mac " + newMAC, "node remove w1", "upgrade --role kubernetes --release 1 w1 --yes",
		"bmc status w1 --config " + s.config, "set-links --node w1 --config " + s.config, "payload render w1 --config " + s.config,
	} {
		got := s.bootctlStatus(1, strings.Fields(command)...)
		if !strings.HasPrefix(strings.ToLower(got), `bootctl: "w1": no such node, and nothing was ever seen of it: did you mean "ncn-w001"?`+"\n") &&
			!strings.HasPrefix(strings.ToLower(got), `bootctl: there is no node "w1": did you mean "ncn-w001"?`+"\n") {
			t.Errorf("%s: got %q, want it to lead to ncn-w001", command, got)
		}
	}
	wantMatch(t, "a neighbour", s.bootctlStatus(1, "why", "ncn-w003"), `^bootctl: "ncn-w003": no such node, and nothing was ever seen of it$`)
}
