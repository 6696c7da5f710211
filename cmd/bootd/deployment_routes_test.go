package main_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bootd/deploy"
	"bootd/internal/lab"
	"bootd/internal/node"
	"bootd/internal/store"
)

// writeRecords puts deployment records on the disk of a site whose daemon is
// stopped for it.
func (s *site) writeRecords(records map[string]deploy.Record) {
	s.t.Helper()
	s.daemon.Signal(syscall.SIGTERM)
	s.daemon.Ended(lab.Deadline(s.t))
	db, err := store.Open(filepath.Join(s.Dir, "state", "bootd.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		db.Close()
		s.start()
	}()
	table, err := db.Table("deployments")
	if err != nil {
		s.t.Fatal(err)
	}
	for name, r := range records {
		value, err := json.Marshal(r)
		if err == nil {
			err = table.Apply([]store.Change{{Key: []byte(name), Value: value}})
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// Every phase is told the same by every route: both scripts of iPXE, GRUB over
// HTTP and TFTP, and bootctl. No route has a policy of its own.
func TestEveryRouteTellsTheDecision(t *testing.T) {
	t.Parallel()
	cases := []struct {
		role   string
		record deploy.Record
		want   string
	}{
		{"edge", deploy.Record{}, "local"},
		{"edge", deploy.Record{Phase: deploy.Armed}, "boot"},
		{"edge", deploy.Record{Phase: deploy.Installing}, "boot"},
		{"edge", deploy.Record{Phase: deploy.Installing, Running: true}, "hold"},
		{"edge", deploy.Record{Phase: deploy.Installed}, "local"},
		{"edge", deploy.Record{Phase: deploy.Configuring}, "local"},
		{"edge", deploy.Record{Phase: deploy.CheckedIn}, "local"},
		{"edge", deploy.Record{Phase: deploy.Registered}, "local"},
		{"edge", deploy.Record{Phase: deploy.Ready}, "local"},
		{"edge", deploy.Record{Phase: deploy.Failed}, "hold"},
		{"edge", deploy.Record{Phase: deploy.Failed, From: deploy.Configuring}, "local"},
		{"edge", deploy.Record{Phase: deploy.Held, Reason: "rack is hot"}, "hold"},
		{"kubernetes", deploy.Record{}, "boot"},
		{"kubernetes", deploy.Record{Phase: deploy.Ready}, "boot"},
		{"kubernetes", deploy.Record{Phase: deploy.Failed}, "boot"},
		{"kubernetes", deploy.Record{Phase: deploy.Held, Reason: "rack is hot"}, "hold"},
	}
	var nodes []siteNode
	records := map[string]deploy.Record{}
	for i, c := range cases {
		n := siteNode{Name: fmt.Sprintf("n%02d", i), Role: c.role, MAC: node.MAC{0x52, 0x54, 0, 0, 1, byte(i)}, Address: fmt.Sprintf("10.77.0.%d", 30+i)}
		nodes = append(nodes, n)
		records[n.Name] = c.record
	}
	s := newSiteOf(t, 0, site{Subnet: leases, Nodes: nodes,
		Roles: "\n  - {name: edge, dir: edge, squashfs: [edge], install: {}}",
		Release: func(root string) error {
			return lab.ImagesForTest(t).WriteRelease(t.Context(), root, lab.Release{Dir: "edge", ID: "4.6.21", Base: "edge"})
		}})
	s.writeRecords(records)
	for i, n := range nodes {
		c := s.browser(n.MAC.String())
		c.told("PXEClient:Arch:00007", "0007")
		var story struct{ Next struct{ Action string } }
		if err := json.Unmarshal([]byte(s.bootctl("why", n.Name, "--json")), &story); err != nil {
			t.Fatal(err)
		}
		told := map[string]string{"bootctl why": "bootd 10.77.0.1: " + n.Name + ": " + story.Next.Action}
		for _, url := range []string{
			"http://10.77.0.1/boot/script.ipxe?mac=" + n.MAC.Hyphen() + "&platform=efi",
			"http://10.77.0.1/" + n.Name + "/script.ipxe?platform=efi",
			"http://10.77.0.1/grub/grub.cfg-01-" + n.MAC.Hyphen(),
			"tftp://10.77.0.1/grub/grub.cfg-01-" + n.MAC.Hyphen(),
		} {
			told[url] = c.must("curl", "-sS", "--max-time", "10", url)
		}
		for route, text := range told {
			// The word and what a machine would do next.
			want := "bootd 10.77.0.1: " + n.Name + ": " + cases[i].want
			if !strings.Contains(text, want) {
				t.Errorf("%s (%s, %v): %s: got %q, want it to say %q", n.Name, cases[i].role, cases[i].record.Phase, route, text, want)
			}
			if strings.Contains(text, "/kernel") && cases[i].want != "boot" {
				t.Errorf("%s: %s: got %q, which loads a kernel", n.Name, route, text)
			}
		}
	}
}

// An order for a machine is no order for the one that takes its place in the
// file, nor for a node whose role does something else from now on.
func TestOrdersEndWithTheMachine(t *testing.T) {
	t.Parallel()
	n := siteNode{Name: "n00", Role: "edge", MAC: node.MAC{0x52, 0x54, 0, 0, 2, 1}, Address: "10.77.0.40"}
	other := siteNode{Name: "n01", Role: "kubernetes", MAC: node.MAC{0x52, 0x54, 0, 0, 2, 2}, Address: "10.77.0.41"}
	s := newSiteOf(t, 0, site{Subnet: leases, Nodes: []siteNode{n, other}, Roles: "\n  - {name: edge, dir: edge, squashfs: [edge], install: {}}",
		Release: func(root string) error {
			return lab.ImagesForTest(t).WriteRelease(t.Context(), root, lab.Release{Dir: "edge", ID: "4.6.21", Base: "edge"})
		}})
	s.bootctl("node", "arm", n.Name, "--yes")
	s.bootctl("node", "arm", other.Name, "--wipe", "--yes")
	s.Nodes[0].MAC[5], s.Nodes[1].Role = 9, "edge"
	s.writeConfig()
	s.reload()
	s.line(s.daemon, `configuration reloaded`)
	s.wantPhase(n.Name, "inventory")
	s.wantPhase(other.Name, "inventory")

	s.bootctl("node", "arm", n.Name, "--yes")
	c := s.browser(s.Nodes[0].MAC.String())
	c.told("PXEClient:Arch:00007", "0007")
	c.get("http://10.77.0.1/grub/grub.cfg-01-"+s.Nodes[0].MAC.Hyphen(), "--head")
	s.wantPhase(n.Name, "armed") // who only looks moves nothing
}
