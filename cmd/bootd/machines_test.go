package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bootd/internal/lab"
)

// An order is for the machine that an administrator saw. Other hardware that
// takes the name of a node, in either file, gets nothing of it, whether the
// daemon ran meanwhile or not; a node that stays what it was keeps it.
func TestOrdersEndWithTheirMachine(t *testing.T) {
	t.Parallel()
	m, o, h := m001, s001, m001
	h.Name, h.Address, h.MAC[5] = "ncn-m003", "10.77.0.13", 3
	m.Role, o.Role, h.Role = "edge", "edge", "edge"
	s := newSiteOf(t, 0, site{Subnet: leases, Roles: wireRole, Nodes: []siteNode{m, o, h}})
	phases := func(when string, want ...string) {
		t.Helper()
		for i, n := range []string{m.Name, o.Name, h.Name, "ncn-m009"} {
			if i == len(want) {
				break
			}
			got := s.statusOf(n)
			if !strings.Contains(got, `"phase":`) {
				got += `"phase":"inventory"` // which is said of a node of which nothing is kept by saying nothing
			}
			if !strings.Contains(got, `"phase":"`+want[i]+`"`) {
				t.Errorf("%s: got %s, want it %s", when, got, want[i])
			}
		}
	}
	// down changes files while no daemon runs.
	down := func(change func()) {
		t.Helper()
		s.daemon.Signal(syscall.SIGTERM)
		s.daemon.Ended(lab.Deadline(t))
		change()
		s.writeConfig()
		s.start()
	}
	order := func(what ...string) { s.bootctl(append(append([]string{"node"}, what...), "--yes")...) }

	s.bootctl("node", "add", "ncn-m009", "--role", "edge", "--mac", "52:54:00:aa:bb:09")
	order("arm", m.Name+","+o.Name+","+h.Name+",ncn-m009")
	s.bootctl("node", "hold", h.Name)
	c := s.browser(m.MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	c.get("http://10.77.0.1/checkin/report", "-X", "POST", "-d", "of the old hardware")
	down(func() {})
	phases("the same machines", "armed", "armed", "held", "armed")

	down(func() {
		s.Nodes[0].MAC[5], s.Nodes[2].MAC[5] = 0x11, 0x13
		file := filepath.Join(s.Dir, "state", "nodes.yaml")
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "aa:bb:09", "aa:bb:19")), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	phases("others while it was down", "inventory", "armed", "held", "inventory")
	other := s.browser(s.Nodes[0].MAC.String())
	other.told("PXEClient:Arch:00007", "0007")
	if _, _, text := other.get("http://10.77.0.1/boot/script.ipxe?mac=" + s.Nodes[0].MAC.Hyphen()); strings.Contains(text, "/kernel") {
		t.Errorf("other hardware: got script\n%s\nwant no installer", text)
	}
	if got := s.bootctl("node", "log", m.Name); strings.Contains(got, "of the old hardware") {
		t.Errorf("node log: got %q, want nothing of the old hardware", got)
	}
	s.bootctl("node", "resume", h.Name)
	phases("resumed", "inventory", "armed", "inventory")

	order("arm", m.Name+","+h.Name)
	s.bootctl("node", "hold", h.Name)
	s.Nodes[0].MAC[5], s.Nodes[2].MAC[5] = 0x21, 0x23
	s.writeConfig()
	s.line(s.daemon, `configuration reloaded`)
	phases("others while it ran", "inventory", "armed", "held")
	s.bootctl("node", "resume", h.Name)
	phases("resumed", "inventory", "armed", "inventory")
	s.crash()
	phases("after kill -9", "inventory", "armed", "inventory")

	nodes := s.Nodes
	down(func() { s.Nodes = nodes[:1] })
	down(func() { s.Nodes = nodes })
	phases("away and back", "inventory", "inventory")
}

// A daemon that was started without any nodes, as for a trial, forgets nothing
// of those that another configuration has.
func TestTrialForgetsNothing(t *testing.T) {
	t.Parallel()
	m := m001
	m.Role = "edge"
	s := newSiteOf(t, 0, site{Subnet: leases, Roles: wireRole, Nodes: []siteNode{m}})
	s.bootctl("node", "arm", m.Name, "--yes")
	for _, s.Nodes = range [][]siteNode{nil, {m}} {
		s.daemon.Signal(syscall.SIGTERM)
		s.daemon.Ended(lab.Deadline(t))
		s.writeConfig()
		s.start()
	}
	if got := s.statusOf(m.Name); !strings.Contains(got, `"phase":"armed"`) {
		t.Errorf("got %s, want it armed", got)
	}
}
