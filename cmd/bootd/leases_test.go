package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bootd/internal/lab"
)

// bootctlStatus runs a command of bootctl that has to end with a status.
func (s *site) bootctlStatus(want int, args ...string) string {
	s.t.Helper()
	out, err := exec.Command(s.bin+"/bootctl", append([]string{"--socket", s.socket}, args...)...).CombinedOutput()
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	if got != want {
		s.t.Errorf("bootctl %s: got status %d, want %d\n%s", strings.Join(args, " "), got, want, out)
	}
	return string(out)
}

func wantMatch(t *testing.T, what, got, pattern string) {
	t.Helper()
	if !regexp.MustCompile(`(?m)` + pattern).MatchString(got) {
		t.Errorf("%s: got\n%swant %q", what, got, pattern)
	}
}

// udhcpc leases an address as a machine does, and returns it.
func (s *site) udhcpc(c *lab.Namespace, args ...string) string {
	s.t.Helper()
	if _, err := c.Run(lab.Deadline(s.t), "ip", "link", "set", "eth0", "up"); err != nil {
		s.t.Fatal(err)
	}
	p, err := c.Start("busybox", append([]string{"udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true"}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return regexp.MustCompile(`lease of (\S+) obtained`).FindStringSubmatch(s.line(p, `lease of \S+ obtained`))[1]
}

func (s *site) setMAC(c *lab.Namespace, mac string) {
	s.t.Helper()
	if _, err := c.Run(lab.Deadline(s.t), "ip", "link", "set", "eth0", "address", mac); err != nil {
		s.t.Fatal(err)
	}
}

// restart kills the daemon as a power failure would, and starts it again.
func (s *site) restart() {
	s.t.Helper()
	s.daemon.Kill()
	s.start()
}

// A lease of a real client is listed, ended and given by hand, and every
// change that bootctl reports survives kill -9.
func TestLeasesByHand(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.setMAC(c, "52:54:00:ee:00:01")
	addr := s.udhcpc(c, "-x", "hostname:guest.example.com")
	wantMatch(t, "list", s.bootctl("leases", "list"),
		`^`+addr+` +52:54:00:ee:00:01 +guest +bound +in \d+m +MAC +guest\.example\.com$`)
	if out := s.bootctl("leases", "list", "--node", "ncn-m001"); strings.Count(out, "\n") != 1 {
		t.Errorf("list of another node: got\n%swant only the heading", out)
	}
	for _, which := range []string{addr, "52:54:00:ee:00:01"} {
		wantMatch(t, "show", s.bootctl("leases", "show", which), `^  client-id  01:52:54:00:ee:00:01$`)
	}
	wantMatch(t, "show of nothing", s.bootctlStatus(1, "leases", "show", "10.77.0.199"), `^bootctl: 10\.77\.0\.199: no lease$`)

	if got, want := s.bootctl("leases", "release", "52:54:00:EE:00:01"), "released "+addr+" of 52:54:00:ee:00:01\n"; got != want {
		t.Errorf("release: got %q, want %q", got, want)
	}
	if got := s.bootctl("leases", "release", addr); got != "" {
		t.Errorf("release once more: got %q, want nothing", got)
	}
	wantMatch(t, "why", s.bootctl("why", "52:54:00:ee:00:01"), `lease-freed`)
	wantMatch(t, "add", s.bootctl("leases", "add", "52:54:00:ee:00:02", "10.77.0.150", "--duration", "2h"), `^leased 10\.77\.0\.150 of 52:54:00:ee:00:02 until .* \(in 1h\)$`)
	s.restart()
	wantMatch(t, "list --expired", s.bootctl("leases", "list", "--expired"), `^`+addr+` +52:54:00:ee:00:01 +guest +released`)
	wantMatch(t, "list", s.bootctl("leases", "list"), `^10\.77\.0\.150 +52:54:00:ee:00:02 +- +bound`)

	for _, bad := range []struct{ mac, addr, want string }{
		{"52:54:00:ee:00:03", "10.77.0.150", `^bootctl: leased to 52:54:00:ee:00:02 until `},
		{"52:54:00:ee:00:03", m001.Address, `^bootctl: reserved for another machine$`},
		{m001.MAC.String(), "10.77.0.151", `^bootctl: the address reserved for its machine is 10\.77\.0\.11$`},
		{"52:54:00:ee:00:03", "10.78.0.1", `^bootctl: in no subnet of the configuration$`},
		{"ff:ff:ff:ff:ff:ff", "10.77.0.151", `^bootctl: mac: ff:ff:ff:ff:ff:ff is a multicast address, which no machine has$`},
	} {
		wantMatch(t, "add "+bad.addr, s.bootctlStatus(1, "leases", "add", bad.mac, bad.addr), bad.want)
	}

	// The client that was given 10.77.0.150 by hand gets it from DHCP.
	s.setMAC(c, "52:54:00:ee:00:02")
	if got := s.udhcpc(c); got != "10.77.0.150" {
		t.Errorf("lease after add: got %s, want 10.77.0.150", got)
	}
}

// The lease file of a dnsmasq that served the segment is taken over: its
// clients keep their addresses. What bootd could not have leased is named.
func TestImportFromDnsmasq(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0, m001)
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.Dir, "dnsmasq.leases")
	s.daemon.Kill()
	peer := s.leaser(file, "--dhcp-range=10.77.0.100,10.77.0.199,1h", "--dhcp-host=52:54:00:ee:00:03,infinite", "--dhcp-host=52:54:00:ee:00:04,10.77.0.50")
	want := map[string]string{}
	for i, args := range [][]string{{"-x", "hostname:guest"}, {"-C"}, {"-x", "hostname:ever"}, {}} {
		mac := fmt.Sprintf("52:54:00:ee:00:%02x", i+1)
		s.setMAC(c, mac)
		want[mac] = s.udhcpc(c, args...)
	}
	if err := peer.Stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	refused := `^bootctl: .*dnsmasq\.leases:\d: 10\.77\.0\.50: in no pool of subnet 10\.77\.0\.0/24$`
	out := s.bootctlStatus(3, "leases", "import", file, "--format", "dnsmasq", "--dry-run")
	wantMatch(t, "dry run", out, `^would be 3 added$`)
	wantMatch(t, "dry run", out, refused)
	if out := s.bootctl("leases", "list"); strings.Count(out, "\n") != 1 {
		t.Errorf("list after a dry run: got\n%swant only the heading", out)
	}
	out = s.bootctlStatus(3, "leases", "import", file, "--format", "dnsmasq")
	wantMatch(t, "import", out, `^3 added$`)
	wantMatch(t, "import", out, refused)
	wantMatch(t, "import", out, `^bootctl: 1 of 4 lines refused$`)
	if out = s.bootctlStatus(3, "leases", "import", file, "--format", "dnsmasq"); strings.Contains(out, "added") || strings.Contains(out, "updated") {
		t.Errorf("import once more: got\n%swant no change", out)
	}
	s.restart()

	// What dnsmasq wrote is what we write, the refused line aside.
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	for line := range strings.Lines(s.bootctl("leases", "export", "--format", "dnsmasq")) {
		written[line] = true
	}
	for line := range strings.Lines(string(before)) {
		if written[line] == strings.Contains(line, "10.77.0.50") {
			t.Errorf("export: dnsmasq wrote %q, got %v", line, written)
		}
	}
	delete(want, "52:54:00:ee:00:04")
	for mac, addr := range want {
		s.setMAC(c, mac)
		if got := s.udhcpc(c); got != addr {
			t.Errorf("%s: got %s, want %s as from dnsmasq", mac, got, addr)
		}
	}
}

// leaser starts a dnsmasq that keeps its leases in file.
func (s *site) leaser(file string, args ...string) *lab.Proc {
	s.t.Helper()
	p, err := s.Start("dnsmasq", append([]string{
		"--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--interface=br0", "--pid-file=", "--dhcp-authoritative", "--no-ping", "--dhcp-leasefile=" + file,
	}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.line(p, `DHCP, (IP range|static leases)`)
	return p
}

// configure changes the text of the configuration and starts the daemon anew.
func (s *site) configure(change func(string) string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	if err == nil {
		err = os.WriteFile(s.config, []byte(change(string(text))), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.daemon.Stop(); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

// wantFile waits until a file matches.
func (s *site) wantFile(path, pattern string) string {
	s.t.Helper()
	re := regexp.MustCompile(`(?m)` + pattern)
	for ctx := lab.Deadline(s.t); ; {
		text, err := os.ReadFile(path)
		if err == nil && re.Match(text) {
			return string(text)
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: got %q, %v, want %q", path, text, err, pattern)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// The programs of a site that had dnsmasq work on: its lease file is kept, with
// the names that set-sqfs-links.sh looks for, and a dnsmasq that starts with it
// gives every machine the address it had; a --dhcp-script is run.
func TestLeaseFollowers(t *testing.T) {
	t.Parallel()
	node := m001
	s := newSite(t, 0, node)
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const bmc, guest = "52:54:00:ee:00:01", "52:54:00:ee:00:02"
	file, told := filepath.Join(s.Dir, "dnsmasq.leases"), filepath.Join(s.Dir, "told")
	script := filepath.Join(s.Dir, "hook.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$*\" $(env | grep -E '^(DNSMASQ|BOOTD)_' | grep -v -E 'EXPIRES|REMAINING' | sort) >> "+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("1900000000 52:54:00:ee:00:09 10.77.0.109 theirs *\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.configure(func(text string) string {
		text = strings.Replace(text, "    address: "+node.Address, "    address: "+node.Address+"\n    bmc: "+bmc, 1)
		return fmt.Sprintf("leases: {file: %s, hooks: [%s]}\n%s", file, script, text)
	})
	s.wantFile(file+".before-bootd", `^1900000000 52:54:00:ee:00:09 10\.77\.0\.109 theirs \*$`)

	want := map[string]string{}
	for mac, args := range map[string][]string{node.MAC.String(): {"-x", "hostname:localhost"}, bmc: {"-C"}, guest: {"-x", "hostname:guest.example.com"}} {
		s.setMAC(c, mac)
		want[mac] = s.udhcpc(c, args...)
	}
	s.wantFile(file, `^\d{10} `+node.MAC.String()+` 10\.77\.0\.11 ncn-m001 01:`+node.MAC.String()+`$`)
	s.wantFile(file, `^\d{10} `+bmc+` `+want[bmc]+` ncn-m001-mgmt \*$`)
	s.wantFile(file, `^\d{10} `+guest+` `+want[guest]+` guest 01:`+guest+`$`)
	// As source 004 finds its nodes and counts their BMCs.
	out, err := exec.Command("sh", "-c", `grep -Eo '(ncn-[mw][0-9]+|fmn[0-9]+)' `+file+` | sort -u; grep -c mgmt `+file).Output()
	if err != nil || string(out) != "ncn-m001\n1\n" {
		t.Errorf("grep: got %q, %v, want ncn-m001 and 1", out, err)
	}

	s.setMAC(c, guest)
	s.udhcpc(c, "-x", "hostname:other")
	s.bootctl("leases", "release", bmc)
	s.bootctl("leases", "add", bmc, want[bmc])
	log := s.wantFile(told, `(?s)del `+bmc+`.*add `+bmc)
	for _, line := range []string{
		`^add ` + node.MAC.String() + ` 10\.77\.0\.11 ncn-m001 BOOTD_NODE=ncn-m001 DNSMASQ_CLIENT_ID=01:` + node.MAC.String() + ` DNSMASQ_DATA_MISSING=1 DNSMASQ_INTERFACE=br0 DNSMASQ_SUPPLIED_HOSTNAME=localhost$`,
		`^add ` + bmc + ` \S+ ncn-m001-mgmt BOOTD_NODE=ncn-m001-mgmt DNSMASQ_DATA_MISSING=1 DNSMASQ_INTERFACE=br0$`,
		`^add ` + guest + ` \S+ guest DNSMASQ_CLIENT_ID=01:` + guest + ` .*=guest\.example\.com$`,
		`^old ` + guest + ` \S+ other `,
		`^del ` + bmc + ` \S+ ncn-m001-mgmt `,
	} {
		wantMatch(t, "hooks", log, line)
	}
	if n := strings.Count(log, "\n"); n != 6 {
		t.Errorf("hooks: got %d events, want 6\n%s", n, log)
	}

	// dnsmasq takes over, with our file as its own.
	s.wantFile(file, ` `+bmc+` `)
	if err := s.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	peer := s.leaser(file, "--dhcp-range=10.77.0.100,10.77.0.199,1h", "--dhcp-host="+node.MAC.String()+","+node.Address)
	for mac, addr := range want {
		s.setMAC(c, mac)
		if got := s.udhcpc(c); got != addr {
			t.Errorf("%s: got %s from dnsmasq, want %s as from bootd", mac, got, addr)
		}
	}
	if out := peer.String(); strings.Contains(out, "ignoring") || strings.Contains(out, "failed") {
		t.Errorf("dnsmasq: got\n%s", out)
	}
}
