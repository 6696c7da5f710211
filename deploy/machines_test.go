package deploy_test

import (
	"errors"
	"slices"
	"testing"

	"bootd/deploy"
	"bootd/internal/node"
)

// What makes a node another machine than it was, whether or not the server was
// restarted between the two inventories.
func TestMachinesMoved(t *testing.T) {
	was := node.Node{Name: "n1", Role: "edge", MACs: []node.MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}, BMC: node.MAC{2, 0, 0, 0, 1, 1}, UUID: node.UUID{15: 1}, Serial: "S1"}
	inventory := func(n node.Node, role *node.Install) *node.Inventory {
		t.Helper()
		inv, err := node.NewInventory([]node.Node{n}, []node.Role{{Name: "edge", Install: role}, {Name: "other", Install: role}})
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	for _, tt := range []struct {
		what    string
		change  func(n *node.Node)
		install *node.Install
		want    []string // names that are left behind, with a ! when they stay a node
	}{
		{"nothing", func(n *node.Node) {}, &node.Install{}, nil},
		{"what is no hardware", func(n *node.Node) {
			n.Release, n.Args, n.Want, n.Tags = "1", "x", node.WantHold, map[string]string{"rack": "r1"}
		}, &node.Install{Within: 1}, nil},
		{"one MAC", func(n *node.Node) { n.MACs = []node.MAC{n.MACs[0], {2, 0, 0, 0, 0, 3}} }, &node.Install{}, []string{"n1!"}},
		{"one MAC less", func(n *node.Node) { n.MACs = n.MACs[:1] }, &node.Install{}, []string{"n1!"}},
		{"BMC", func(n *node.Node) { n.BMC = node.MAC{} }, &node.Install{}, []string{"n1!"}},
		{"UUID", func(n *node.Node) { n.UUID[0] = 1 }, &node.Install{}, []string{"n1!"}},
		{"serial number", func(n *node.Node) { n.Serial = "S2" }, &node.Install{}, []string{"n1!"}},
		{"role", func(n *node.Node) { n.Role = "other" }, &node.Install{}, []string{"n1!"}},
		{"its role installs no more", func(n *node.Node) {}, nil, []string{"n1!"}},
		{"gone", func(n *node.Node) { n.Name = "n2" }, &node.Install{}, []string{"n1"}},
	} {
		for _, restarted := range []bool{false, true} {
			d := &disk{records: map[string]string{}}
			s, err := deploy.OpenMachines(d)
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			leave := func(name string, stays bool) error {
				if stays {
					name += "!"
				}
				left = append(left, name)
				return nil
			}
			old, is := was, was
			is.MACs = slices.Clone(was.MACs)
			tt.change(&is)
			inv := inventory(is, tt.install)
			if err := s.Keep(inventory(old, &node.Install{}), leave); err != nil || left != nil {
				t.Fatalf("%s: the first inventory: got %q, %v, want nothing left behind", tt.what, left, err)
			}
			if restarted {
				if s, err = deploy.OpenMachines(d); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.Moved(inv, "n1"); got != (tt.want != nil) {
				t.Errorf("%s: moved: got %v", tt.what, got)
			}
			for range 2 { // the second time it is what it was
				if err := s.Keep(inv, leave); err != nil || !slices.Equal(left, tt.want) {
					t.Errorf("%s, restarted %v: got %q, %v, want %q", tt.what, restarted, left, err, tt.want)
				}
			}
		}
	}
}

// While the disk is full no node becomes another machine: that is tried anew.
func TestMachinesFullDisk(t *testing.T) {
	d := &disk{records: map[string]string{}}
	s, err := deploy.OpenMachines(d)
	if err != nil {
		t.Fatal(err)
	}
	inventory := func(last byte) *node.Inventory {
		inv, err := node.NewInventory([]node.Node{{Name: "n1", Role: "edge", MACs: []node.MAC{{2, 0, 0, 0, 0, last}}}}, []node.Role{edge})
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	full := errors.New("no space left on device")
	left := 0
	var cannot error
	leave := func(string, bool) error { left++; return cannot }
	if err := s.Keep(inventory(1), leave); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ disk, leave error }{{full, nil}, {nil, full}} {
		d.fail, cannot = tt.disk, tt.leave
		if err := s.Keep(inventory(2), leave); !errors.Is(err, full) || !s.Moved(inventory(2), "n1") {
			t.Errorf("got %v, moved %v, want that the disk is full and it is still to be left", err, s.Moved(inventory(2), "n1"))
		}
	}
	d.fail, cannot = nil, nil
	if err := s.Keep(inventory(2), leave); err != nil || s.Moved(inventory(2), "n1") || left != 3 {
		t.Errorf("disk with room: got %v after %d times, want it left the third time", err, left)
	}
}

// Who is held stays held as another machine, and goes back to nothing that was
// of the one before it.
func TestHoldOutlivesMachine(t *testing.T) {
	d := &disk{records: map[string]string{}}
	s := openRecords(t, d)
	for _, kind := range []deploy.SignKind{deploy.ToArm, deploy.ToHold} {
		if _, _, err := s.Observe(t0, "n1", deploy.RulesOf(edge), deploy.Sign{Kind: kind, Detail: "rack is hot", Wipe: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Forget("n1", true); err != nil {
		t.Fatal(err)
	}
	s = openRecords(t, d)
	if want := (deploy.Record{Phase: deploy.Held, Since: t0, Reason: "rack is hot"}); s.Get("n1") != want {
		t.Errorf("other hardware: got %+v, want %+v", s.Get("n1"), want)
	}
	if _, is, err := s.Observe(t0, "n1", deploy.RulesOf(edge), deploy.Sign{Kind: deploy.ToResume}); err != nil || is.Phase != deploy.Inventory || is.Wipe {
		t.Errorf("resumed: got %+v, %v, want that nothing is asked of it", is, err)
	}
	if err := s.Forget("n1", false); err != nil || s.Get("n1") != (deploy.Record{}) {
		t.Errorf("gone: got %+v, %v, want nothing", s.Get("n1"), err)
	}
}
