package main_test

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bootd/internal/lab"
	"bootd/internal/node"
)

// edgeRole is a role that installs: its installer follows config_url, wipes
// every disk that is larger than the one it installs to, and powers off.
const edgeRole = `
  - name: edge
    dir: edge
    squashfs: [edge-installer]
    args: console=ttyS0 no_timer_check panic=-1
    install: {done: callback, within: 5m, check-in: 5m}
    payload: {family: kairos, dir: DIR/install}
    site: {family: kairos, dir: DIR/site, secrets: [token=DIR/token]}
`

const edgeInstall = `#cloud-config
install:
  auto: true
  device: /dev/disk/by-id/virtio-disk0
  poweroff: true
stages:
  kairos-install.pre:
    - name: wipe the disks for data, which are the large ones
      commands:
        - |
          for d in /sys/block/vd*; do
            [ "$(cat $d/size)" -le 131072 ] && continue
            dd if=/dev/zero of=/dev/${d##*/} bs=1M count=1 2>/dev/null && echo wiped ${d##*/}
          done
  after-install:
    - commands:
        - wget -q -O - --post-data= http://{{.Server}}/checkin/installed
`

const edgeSite = `#cloud-config
# {{.Secret.token}}
stages:
  network:
    - hostname: {{.Name}}
      commands:
        - ip addr flush dev eth0 && ip addr add {{.Address}}/24 dev eth0
  boot.after:
    - commands:
        - wget -q -O - --post-data=release=site http://{{.Server}}/checkin/booted
`

const edgeToken = "edge-host-token-0815"

func edgeNode(i byte) siteNode {
	return siteNode{Name: "edge-0" + string('0'+i), Role: "edge", MAC: node.MAC{0x52, 0x54, 0, 0xed, 0x9e, i}, Address: "10.77.0.3" + string('0'+i)}
}

// newEdgeSite is a site with an installer and nodes without a system.
func newEdgeSite(t *testing.T, of site) (*site, map[string][]string) {
	t.Helper()
	lab.Need(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"install/user-data": edgeInstall, "site/user-data": edgeSite, "token": edgeToken + "\n"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edge := lab.EdgeForTest(t)
	of.Roles = strings.ReplaceAll(edgeRole, "DIR", dir)
	of.Release = func(root string) error {
		return edge.WriteInstaller(t.Context(), root, lab.Release{Dir: "edge", ID: "4.6.21", Base: "edge-installer"})
	}
	s := newSiteOf(t, min(len(of.Nodes), 2), of)
	disks := map[string][]string{}
	for _, n := range of.Nodes {
		for i := range 5 { // the first one is the smallest, as in source 000
			file := filepath.Join(s.Dir, n.Name+"-disk"+string(rune('0'+i)))
			size := int64(96 << 20)
			if i == 0 {
				size = 64 << 20
			}
			if err := lab.NewDisk(file, size); err != nil {
				t.Fatal(err)
			}
			disks[n.Name] = append(disks[n.Name], file)
		}
	}
	return s, disks
}

// deployment asks how far a node is.
func (s *site) deployment(name string) (phase, reason string) {
	s.t.Helper()
	var story struct {
		Deployment struct{ Phase, Reason string }
	}
	if err := json.Unmarshal([]byte(s.bootctl("why", name, "--json")), &story); err != nil {
		s.t.Fatal(err)
	}
	return cmp.Or(story.Deployment.Phase, "inventory"), story.Deployment.Reason
}

func (s *site) wantPhase(name, want string) {
	s.t.Helper()
	if got, reason := s.deployment(name); got != want {
		s.t.Errorf("%s: got %s because %s, want %s\n%s", name, got, reason, want, s.bootctl("why", name))
	}
}

// ended waits until a guest has switched itself off.
func (s *site) ended(g *lab.Guest) {
	s.t.Helper()
	if err := g.Ended(lab.Deadline(s.t)); err != nil {
		s.t.Errorf("QEMU: got %v, want it to end well after power-off", err)
	}
}

// wipedOrNot reports whether a disk begins with zeroes.
func wiped(t *testing.T, file string) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(b), "\x00") == ""
}

// A blank machine with a disk and four disks for data: armed, it boots an
// installer that wipes what it should and writes the system; the daemon is
// killed; from its disk it gets its site data, applies it and checks in; a third
// time it boots its disk, and nothing is given out.
func TestTwoStagesByCD(t *testing.T) {
	t.Parallel()
	n := edgeNode(1)
	s, disks := newEdgeSite(t, site{Subnet: leases, Nodes: []siteNode{n}})
	m := machine(n, lab.BIOS)
	m.Disks = disks[n.Name]

	s.bootctl("node", "arm", n.Name, "--yes")
	s.wantPhase(n.Name, "armed")
	g := s.Boot(t, m)
	s.line(g, `^BOOTD-LAB-STAGE kairos-install.pre "wiped vdb\\nwiped vdc\\nwiped vdd\\nwiped vde": <nil>`)
	s.line(g, `^BOOTD-LAB-STAGE after-install "ok": <nil>`)
	s.ended(g)
	for i, file := range m.Disks {
		if got, want := wiped(t, file), i > 0; got != want {
			t.Errorf("disk%d: wiped is %v, want %v", i, got, want)
		}
	}
	s.wantPhase(n.Name, "installed")

	s.daemon.Kill()
	s.start()
	s.wantPhase(n.Name, "installed")

	m.CD = filepath.Join(s.Dir, "site.iso")
	if out, err := s.Run(t.Context(), s.bin+"/bootctl", "iso", n.Name, "--kind", "site", "--config", s.config, "--output", m.CD); err != nil {
		t.Fatalf("bootctl iso: %v\n%s", err, out)
	}
	g = s.Boot(t, m)
	s.line(g, `^BOOTD-LAB-SYSTEM hostname=edge-01 site-data=cdrom addresses=10\.77\.0\.31/24`)
	s.line(g, `^BOOTD-LAB-STAGE boot.after "ok": <nil>`)
	s.ended(g)
	s.wantPhase(n.Name, "ready")

	m.CD = ""
	before := s.bootctl("payload", "log", n.Name, "--json")
	g = s.Boot(t, m)
	s.line(g, `^BOOTD-LAB-SYSTEM hostname=edge-01 site-data=none: read before addresses=10\.77\.0\.31/24`)
	s.ended(g)
	if after := s.bootctl("payload", "log", n.Name, "--json"); after != before {
		t.Errorf("third boot: got payload log %s, want it as before, %s", after, before)
	}
	s.wantPhase(n.Name, "ready")
	s.wantNoSecret()
}

// wantNoSecret looks for the token in everything that people see.
func (s *site) wantNoSecret() {
	s.t.Helper()
	out := s.daemon.String() + s.bootctl("status", "--json")
	for _, n := range s.Nodes {
		out += s.bootctl("why", n.Name, "--json") + s.bootctl("payload", "log", n.Name) + s.bootctl("node", "log", n.Name)
	}
	if strings.Contains(out, edgeToken) {
		s.t.Error("the token of the site data is in a log or a listing")
	}
}

// Three blank machines at once, without any CD: their first boots find their
// site data as the metadata of a cloud, each its own.
func TestThreeAtOnceByMetadata(t *testing.T) {
	t.Parallel()
	nodes := []siteNode{edgeNode(1), edgeNode(2), edgeNode(3)}
	s, disks := newEdgeSite(t, site{
		Subnet: leases + "\n    routes: [169.254.169.254/32 via 10.77.0.1]",
		Extra:  "http: {metadata: true}", Nodes: nodes,
	})
	if out, err := s.Run(t.Context(), "ip", "addr", "add", "169.254.169.254/32", "dev", lab.Bridge); err != nil {
		t.Fatalf("ip addr add: %v\n%s", err, out)
	}
	power := func() (guests []*lab.Guest) {
		for _, n := range nodes {
			m := machine(n, lab.BIOS)
			m.Disks = disks[n.Name]
			guests = append(guests, s.Boot(t, m))
		}
		return guests
	}
	s.bootctl("node", "arm", "edge-0*", "--yes")
	for _, g := range power() {
		s.line(g, `^BOOTD-LAB-STAGE after-install "ok": <nil>`)
		s.ended(g)
	}
	for i, g := range power() {
		n := nodes[i]
		s.line(g, `^BOOTD-LAB-SYSTEM hostname=`+n.Name+` site-data=openstack addresses=`+regexp.QuoteMeta(n.Address)+`/24`)
		s.line(g, `^BOOTD-LAB-STAGE boot.after "ok": <nil>`)
		s.ended(g)
		s.wantPhase(n.Name, "ready")
	}
	s.wantNoSecret()
}
