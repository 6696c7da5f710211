package node_test

import (
	"testing"

	"bootd/internal/node"
)

// A name that nobody has leads to the one that was meant, and never to a
// neighbour of it.
func TestNear(t *testing.T) {
	var nodes []node.Node
	for i, name := range []string{"ncn-m001", "ncn-m002", "ncn-m011", "ncn-w002", "ncn-w011", "uan01", "x3000c0s1b0n0", "x3000c0s11b0n0"} {
		nodes = append(nodes, node.Node{Name: name, Role: "r", MACs: []node.MAC{{2, 0, 0, 0, 0, byte(i)}}})
	}
	inv, err := node.NewInventory(nodes, []node.Role{{Name: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"NCN-M001": "ncn-m001", "ncn-m1": "ncn-m001", "ncnm001": "ncn-m001", "ncn-m0001": "ncn-m001", // the same, spelled otherwise
		"nc-m001": "ncn-m001", "ncnn-m001": "ncn-m001", "nnc-m001": "ncn-m001", "xcn-w011": "ncn-w011", // a slip
		"m001": "ncn-m001", "w2": "ncn-w002", "m11": "ncn-m011", "uan1": "uan01", // short
		"ncn-m003": "", "ncn-m010": "", "ncn-m": "", "x3000c0s2b0n0": "", "x3000c0s1b0n1": "", // another one
		"ncn-x002": "", "ncn-011": "", // two are as near
		"": "", "1": "", "001": "", "switch": "", "ncn-m*": "", "../m001": "",
	} {
		if got := node.Near(name, inv.Names()); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"m1": `there is no node "m1": did you mean "ncn-m001"?`, "m9": `there is no node "m9"`} {
		if got := inv.Unknown(name).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := (*node.Inventory)(nil).Names(); got != nil {
		t.Errorf("no inventory: got %q", got)
	}
}
