package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bootd/internal/lab"
)

// A node reports what it is with the script that we serve, run by busybox and by
// dash, with curl and with busybox' wget. What is wrong with it is in the table.
func TestValidation(t *testing.T) {
	for _, shell := range []string{"busybox sh", "dash"} {
		t.Run(strings.Fields(shell)[0], func(t *testing.T) {
			t.Parallel()
			hostname, err := os.Hostname() // a network namespace has none of its own
			if err != nil {
				t.Fatal(err)
			}
			n := m001
			n.Role = "checked"
			n.Name = strings.ToLower(strings.SplitN(hostname, ".", 2)[0])
			s := newSiteOf(t, 0, site{Subnet: leases, Nodes: []siteNode{n, s001}, Roles: `
  - {name: checked, dir: k8s, squashfs: [kubernetes], validate: {os: "Debian GNU/Linux 12*", bond: bond0, bond-mode: active-backup, bond-members: 2}}`})
			host, other := s.browser(n.MAC.String()), s.browser(s001.MAC.String())
			for _, c := range []browser{host, other} {
				c.told("PXEClient:Arch:00007", "0007")
			}
			if status, _, _ := other.get("http://10.77.0.1/validate.sh"); status != 404 {
				t.Errorf("a node of which nothing is expected: got %d, want 404", status)
			}
			wantMatch(t, "before", s.bootctlStatus(3, "validate", n.Name), `^`+n.Name+` +hostname +FAILED +- +`+n.Name+` +not reported$`)

			// Without curl the script takes busybox' wget.
			path := filepath.Join(t.TempDir(), "bin")
			link := "ln -s /bin/busybox " + path + "/"
			if shell == "busybox sh" {
				host.must("busybox", "sh", "-c", "mkdir "+path+"; for a in sh cat sed uname ip head tr wc dd grep mktemp rm wget sleep; do "+link+"$a; done")
			} else {
				path = os.Getenv("PATH")
			}
			report := func() {
				t.Helper()
				_, _, script := host.get("http://10.77.0.1/validate.sh")
				if out := host.must("env", "PATH="+path, "/bin/busybox", "sh", "-c", "printf %s \"$1\" >"+s.Dir+"/v.sh; exec "+map[string]string{"busybox sh": "/bin/busybox sh", "dash": "/bin/dash"}[shell]+" "+s.Dir+"/v.sh", "-", script); out != "ok\n" {
					t.Errorf("the script said %q, want the server's ok", out)
				}
			}
			report()
			out := s.bootctlStatus(3, "validate", n.Name)
			for _, want := range []string{
				`^` + n.Name + ` +hostname +ok .* ` + n.Name + ` +` + n.Name + `$`, ` address +ok .* 10\.77\.0\.11 +10\.77\.0\.11/24$`,
				` bond bond0 +FAILED .* 2 members up, active-backup +no such bond$`, ` os +ok .* Debian GNU/Linux 12\* +Debian GNU/Linux 12 \(bookworm\)$`,
			} {
				wantMatch(t, "without a bond", out, want)
			}
			wantMatch(t, "phase", s.bootctl("status"), n.Name+` .*inventory`) // it has not checked in, so it is not given up
			host.must("curl", "-sS", "-f", "-X", "POST", "http://10.77.0.1/checkin/booted")
			report()
			wantMatch(t, "phase", s.bootctl("status"), n.Name+` .*failed`)

			s.restart()
			wantMatch(t, "after a restart", s.bootctlStatus(3, "validate", "--all"), ` FAILED .* no such bond$`)
		})
	}
}

// A machine makes a bond that speaks LACP, and reports before it has one, when
// it is up, and when a member is down: the node fails, is ready, and fails.
func TestValidationOfBond(t *testing.T) {
	t.Parallel()
	n := m001
	n.Role = "checked"
	s := newSiteOf(t, 1, site{Subnet: leases, Nodes: []siteNode{n}, Roles: `
  - {name: checked, dir: k8s, squashfs: [kubernetes], args: "` + labArgs + ` lab.bond=1", validate: {bond: bond0, bond-mode: 802.3ad, bond-members: 2}}`})
	m := machine(n, lab.BIOS)
	g := s.Boot(t, m)
	for _, want := range []string{"without-bond", "bond", "member-down"} {
		s.line(g, `^BOOTD-LAB-REPORTED `+want+`$`)
	}
	var phases []string
	for _, m := range regexp.MustCompile(`(?s)"step": "deployment",.*?"action": "(failed|ready)",\s+"detail": "([^"]*)"`).FindAllStringSubmatch(s.bootctl("why", n.Name, "--json"), -1) {
		phases = append(phases, m[1]+": "+m[2])
	}
	want := []string{
		"failed: validation: bond bond0: expected 2 members up, 802.3ad, found no such bond", "ready: all checks passed",
		"failed: validation: bond bond0: expected 2 members up, 802.3ad, found 1 of 2 members up, 802.3ad: veth2 down",
	}
	if !slices.Equal(phases, want) {
		t.Errorf("phases: got\n%s\nwant\n%s", strings.Join(phases, "\n"), strings.Join(want, "\n"))
	}
	wantMatch(t, "validate", s.bootctlStatus(3, "validate", n.Name), ` bond bond0 +FAILED .* 2 members up, 802\.3ad +1 of 2 members up, 802\.3ad: veth2 down$`)
}

// What is on the drives of a machine, as the kernel shows them: one that was
// wiped, one that was in use, one with a partition, and one that is too small to
// be meant.
func TestValidationOfDrives(t *testing.T) {
	t.Parallel()
	n := m001
	n.Role = "checked"
	s := newSiteOf(t, 1, site{Subnet: leases, Nodes: []siteNode{n}, Roles: `
  - {name: checked, dir: k8s, squashfs: [kubernetes], args: "` + labArgs + ` lab.bond=1", validate: {wiped: 1GB}}`})
	const size = 1_000_000_000 / 512 * 512
	mbr := make([]byte, 512)
	copy(mbr[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 16, 0}) // from sector 2048 on
	mbr[510], mbr[511] = 0x55, 0xaa
	m := machine(n, lab.BIOS)
	for i, d := range []struct {
		size    int64
		content []byte
	}{{size + 512, nil}, {size + 512, append(make([]byte, 70_000), 1)}, {size + 512, mbr}, {size - 512, mbr}} {
		file := filepath.Join(s.Dir, "disk"+string(rune('0'+i)))
		if err := errors.Join(os.WriteFile(file, d.content, 0o600), os.Truncate(file, d.size)); err != nil {
			t.Fatal(err)
		}
		m.Disks = append(m.Disks, file)
	}
	g := s.Boot(t, m)
	s.line(g, `^BOOTD-LAB-REPORTED without-bond$`)
	wantMatch(t, "validate", s.bootctlStatus(3, "validate", n.Name), ` drives wiped +FAILED .* those of 1 GB and more clean +vdb: has data, vdc: 1 partitions$`)
}
