package main_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bootd/internal/lab"
)

const proxyMode = "    mode: proxy"

// A host has processes in a network namespace.
type host interface {
	Start(name string, args ...string) (*lab.Proc, error)
}

// dnsmasq starts a DHCP server that knows nothing of booting. It has the whole
// of UDP port 67, as it does unless it is told to bind to interfaces.
func (s *site) dnsmasq(h host, ifname string, more ...string) *lab.Proc {
	s.t.Helper()
	args := []string{
		"--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=",
		"--interface=" + ifname, "--dhcp-range=10.77.0.100,10.77.0.199", "--dhcp-leasefile=" + s.t.TempDir() + "/leases",
	}
	for _, n := range s.Nodes {
		args = append(args, "--dhcp-host="+n.MAC.String()+","+n.Address)
	}
	p, err := h.Start("dnsmasq", append(args, more...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.line(p, `DHCP, sockets bound exclusively|DHCP, IP range`)
	return p
}

// kea starts the same with the Kea of the distribution, which by default
// receives by packet sockets and holds port 67 of the address as well.
func (s *site) kea(h host, ifname string) *lab.Proc {
	s.t.Helper()
	dir := s.t.TempDir()
	var reserved []string
	for _, n := range s.Nodes {
		reserved = append(reserved, fmt.Sprintf(`{"hw-address": %q, "ip-address": %q}`, n.MAC, n.Address))
	}
	config := fmt.Sprintf(`{"Dhcp4": {
	"interfaces-config": {"interfaces": [%q]},
	"lease-database": {"type": "memfile", "persist": false},
	"loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
	"subnet4": [{"id": 1, "subnet": "10.77.0.0/24", "interface": %q, "pools": [{"pool": "10.77.0.100-10.77.0.199"}],
		"reservations": [%s]}]
}}`, ifname, ifname, strings.Join(reserved, ","))
	if err := os.WriteFile(dir+"/kea.json", []byte(config), 0o644); err != nil {
		s.t.Fatal(err)
	}
	p, err := h.Start("env", "KEA_LOCKFILE_DIR="+dir, "KEA_PIDFILE_DIR="+dir, "kea-dhcp4", "-c", dir+"/kea.json")
	if err != nil {
		s.t.Fatal(err)
	}
	s.line(p, `DHCP4_STARTED`)
	return p
}

// otherHost is a machine of the segment with an address of its own.
func (s *site) otherHost(addr string) *lab.Namespace {
	s.t.Helper()
	h, err := s.Client(s.t.Context())
	if err == nil {
		_, err = h.Run(s.t.Context(), "ip", "addr", "add", addr, "dev", "eth0")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

// C55. Real firmware boots by a proxy, whatever the DHCP server is and wherever
// it runs: its address comes from there, all else from us, and every step is
// on the timeline under its name.
func TestProxyBoots(t *testing.T) {
	elsewhere := func(s *site) { s.dnsmasq(s.otherHost("10.77.0.2/24"), "eth0") }
	beside := func(s *site) {
		s.dnsmasq(s.Net, lab.Bridge)
		s.daemon.Kill() // and it starts beside a server that has the port already
		s.start()
	}
	kea := func(s *site) { s.kea(s.Net, lab.Bridge) }
	for _, c := range []struct {
		name   string
		server func(*site)
		fw     lab.Firmware
	}{
		{"dnsmasq on another host", elsewhere, lab.UEFI},
		{"dnsmasq on another host", elsewhere, lab.UEFIHTTP},
		{"dnsmasq on this host", beside, lab.UEFI},
		{"dnsmasq on this host", beside, lab.BIOS},
		{"Kea on this host", kea, lab.UEFI},
	} {
		t.Run(c.name+"/"+c.fw.String(), func(t *testing.T) {
			t.Parallel()
			s := newSiteWith(t, proxyMode, 1, m001)
			c.server(s)
			g := s.Boot(t, machine(m001, c.fw))
			s.wantBooted(g, m001, "1.2.3")
			s.wantProxyStory(m001, c.fw)
		})
	}
}

// wantProxyStory checks that the steps over TFTP and HTTP, which come without
// a lease of ours, are known to be the node's.
func (s *site) wantProxyStory(n siteNode, fw lab.Firmware) {
	s.t.Helper()
	type event struct{ Step, Stage, File string }
	var story struct {
		Boot struct {
			Outcome string
			Events  []event
		}
	}
	if err := json.Unmarshal([]byte(s.bootctl("why", n.Name, "--json")), &story); err != nil {
		s.t.Fatal(err)
	}
	// iPXE may take the other server's offer before it has asked for ours: the
	// order of these two is its affair.
	if !slices.ContainsFunc(story.Boot.Events, func(e event) bool { return e.Step == "dhcp-offer" && e.Stage == "ipxe" }) {
		s.t.Errorf("story lacks our offer to iPXE\n%s", s.bootctl("why", n.Name))
	}
	want := []string{"dhcp-elsewhere ipxe", "script ipxe", "http kernel", "http initrd.img.xz", "dhcp-elsewhere os", "http rootfs", "check-in os"}
	switch fw {
	case lab.UEFI:
		want = append([]string{"dhcp-offer firmware", "dhcp-elsewhere firmware", "tftp snponly.efi"}, want...)
	case lab.UEFIHTTP:
		want = append([]string{"dhcp-offer uefi-http", "dhcp-elsewhere uefi-http", "http snponly.efi"}, want...)
	}
	for _, e := range story.Boot.Events {
		if len(want) > 0 && (e.Step+" "+e.Stage == want[0] || e.Step+" "+filepath.Base(e.File) == want[0]) {
			want = want[1:]
		}
	}
	if story.Boot.Outcome != "booted" || len(want) > 0 {
		s.t.Errorf("outcome %q, story lacks %q, in this order\n%s", story.Boot.Outcome, want, s.bootctl("why", n.Name))
	}
	if other := s.bootctl("status"); strings.Contains(other, "10.77.0.11 ") && strings.Count(other, "\n") > 2 {
		s.t.Errorf("status: got\n%swant the node alone: what it did is not a stranger's", other)
	}
}

// An ordinary host takes its address from the DHCP server, and hears nothing
// of us.
func TestProxyLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, proxyMode, 0, m001)
	s.dnsmasq(s.otherHost("10.77.0.2/24"), "eth0")
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// All that DHCP servers send to the client, and when it has begun to look.
	wire, err := c.Start("tcpdump", "-l", "-n", "-i", "eth0", "udp", "and", "src", "port", "67")
	if err != nil {
		t.Fatal(err)
	}
	s.line(wire, `listening on eth0`)
	p, err := c.Start("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	s.line(p, `lease of 10\.77\.0\.\d+ obtained from 10\.77\.0\.2`)
	s.line(wire, `IP 10\.77\.0\.2\.67 > `)
	wire.Stop()
	if strings.Contains(wire.String(), "10.77.0.1.67 >") {
		t.Errorf("on the wire: got\n%swant nothing from 10.77.0.1", wire)
	}
}

// probe asks for every DHCP offer, and returns what was said and the exit
// status.
func (s *site) probe() (string, int) {
	s.t.Helper()
	cmd := exec.Command(s.bin+"/bootctl", "--socket", s.socket, "dhcp", "probe", "--interface", lab.Bridge)
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		s.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (s *site) wantProbe(what string, status int, lines ...string) {
	s.t.Helper()
	out, got := s.probe()
	if got != status {
		s.t.Errorf("%s: exit status: got %d, want %d\n%s", what, got, status, out)
	}
	for _, line := range lines {
		if !regexp.MustCompile("(?m)" + line).MatchString(out) {
			s.t.Errorf("%s: got\n%swant a line like %s", what, out, line)
		}
	}
}

// A second DHCP server is found by a probe, and by the machines that choose it.
func TestRivalIsReported(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	s.wantProbe("alone", 0, `^br0 +authoritative +10\.77\.0\.1 +ours +\S+ +10\.77\.0\.1\d\d +10\.77\.0\.1 +snponly\.efi +- +- `)
	if out := s.bootctl("status"); strings.Count(out, "\n") != 2 {
		t.Errorf("status: got\n%swant nothing of the probe, which is no machine", out)
	}
	// The other one answers before us, who look first whether an address is free.
	rogue := s.dnsmasq(s.otherHost("10.77.0.2/24"), "eth0", "--no-ping", "--dhcp-boot=pxelinux.0")
	s.wantProbe("with another server", 3,
		`^br0 +authoritative +10\.77\.0\.1 +ours `, `^br0 +authoritative +10\.77\.0\.2 +- +\S+ +10\.77\.0\.1\d\d +10\.77\.0\.2 +pxelinux\.0 `,
		`^bootctl: br0: 10\.77\.0\.2 offers addresses too: stop it, or say mode: shared or proxy$`,
		`^bootctl: br0: 10\.77\.0\.2 says what to boot too`)

	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Start("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	s.line(p, `obtained from 10\.77\.0\.2`)
	s.line(rogue, `DHCPACK`)
	s.line(s.daemon, `level=WARN msg="another DHCP server answers in this subnet.* server=10\.77\.0\.2 subnet=10\.77\.0\.0/24`)
	if out := s.bootctl("status"); !regexp.MustCompile(`(?m)^  10\.77\.0\.2  in 10\.77\.0\.0/24, chosen 1 times, last by \S+ \ds ago$`).MatchString(out) {
		t.Errorf("status: got\n%swant the other server below", out)
	}
}

// A proxy's probe tells apart what it and a server on its own host answer, even
// one that takes packets past the network stack.
func TestProbeBesideServerOnThisHost(t *testing.T) {
	for name, start := range map[string]func(*site){
		"dnsmasq": func(s *site) { s.dnsmasq(s.Net, lab.Bridge) },
		"Kea":     func(s *site) { s.kea(s.Net, lab.Bridge) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSiteWith(t, proxyMode, 0, m001)
			s.wantProbe("nobody leases", 3, `^br0 +proxy +10\.77\.0\.1 +ours +\S+ +- +10\.77\.0\.1 +snponly\.efi +PXEClient +060108ff `,
				`^bootctl: br0: no server offers an address, and bootd is only a proxy here$`)
			start(s)
			s.wantProbe("beside", 0, `^br0 +proxy +10\.77\.0\.1 +ours `, `^br0 +proxy +10\.77\.0\.1 +- +\S+ +10\.77\.0\.1\d\d `)
		})
	}
}

// Another server may have port 4011 too. The proxy says so and does without.
func TestProxyWithoutPort4011(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, proxyMode, 0, m001)
	s.dnsmasq(s.otherHost("10.77.0.2/24"), "eth0", "--no-ping")
	s.daemon.Kill()
	var taken *net.UDPConn
	if err := s.Do(func() (err error) {
		taken, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 4011})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.start()
	s.line(s.daemon, `level=WARN msg="UDP port 4011 belongs to another server.*iface=br0`)
	s.wantProbe("without port 4011", 0, `^br0 +proxy +10\.77\.0\.1 +ours `)
}

// A server that says what to boot is the one that machines listen to, and not
// the proxy: the probe finds it. dnsmasq does so with any pxe-service.
func TestProbeFindsServerThatSaysWhatToBoot(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, proxyMode, 0, m001)
	s.dnsmasq(s.otherHost("10.77.0.2/24"), "eth0", "--no-ping", "--pxe-service=x86PC,nothing,nothing")
	s.wantProbe("beside a PXE server", 3, `^bootctl: br0: 10\.77\.0\.2 says what to boot too: machines may take that$`)
}

// A relay that forwards to the proxy is answered, from port 67, as it is by a
// DHCP server; and a machine of the segment that asks for autoexec.ipxe gets
// it, known by the neighbour table alone.
func TestProxyAnswersRelay(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, proxyMode, 0, m001)
	h := s.otherHost("10.77.0.2/24")
	discover, err := os.ReadFile("../../testdata/vectors/ovmf_pxe_discover.hex")
	if err != nil {
		t.Fatal(err)
	}
	packet, err := hex.DecodeString(strings.TrimSpace(string(discover)))
	if err != nil {
		t.Fatal(err)
	}
	packet[3], packet[10] = 1, 0 // hops; no broadcast flag
	copy(packet[24:], []byte{10, 77, 0, 2})
	var relay *net.UDPConn
	err = h.Do(func() (err error) {
		relay, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: 67})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	relay.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := relay.WriteToUDP(packet, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: 67}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, from, err := relay.ReadFromUDP(b)
	if err != nil {
		t.Fatal(err)
	}
	if from.String() != "10.77.0.1:67" || n < 300 || b[0] != 2 || string(b[24:28]) != string(packet[24:28]) || string(b[4:8]) != string(packet[4:8]) {
		t.Errorf("got %d bytes from %v: %x, want the offer from 10.77.0.1:67 with giaddr", n, from, b[:min(n, 44)])
	}
	out, err := h.Run(lab.Deadline(t), "curl", "-s", "-m", "5", "tftp://10.77.0.1/autoexec.ipxe")
	if err != nil || !strings.HasPrefix(out, "#!ipxe") {
		t.Errorf("autoexec.ipxe: got %q, %v, want a script", out, err)
	}
}

// Two flags are enough, and the two capabilities of the systemd unit; a server
// that has the port is no obstacle.
func TestRunProxyWithoutFile(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, proxyMode, 0, m001)
	s.daemon.Kill()
	s.dnsmasq(s.Net, lab.Bridge)
	p, err := s.Start("setpriv", "--bounding-set=-all,+net_bind_service,+net_raw", s.bin+"/bootd", "run", "--interface", lab.Bridge, "--proxy", "--root", s.root, "--state", s.Dir+"/other", "--socket", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.line(p, `msg=ready .*subnets=1`)
	s.wantProbe("beside dnsmasq", 0, `^br0 +proxy +10\.77\.0\.1 +ours `)
}
