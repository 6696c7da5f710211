package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"bootd/internal/admin"
	"bootd/internal/lease"
	"bootd/internal/node"
)

// A stable is the nodes that a daemon in this process has. Its rules are few;
// the daemon's own are tested with it.
type stable struct{ nodes []admin.Node }

// Nodes implements admin.Inventory.
func (s *stable) Nodes() []admin.Node { return s.nodes }

func (s *stable) find(name string) int {
	return slices.IndexFunc(s.nodes, func(n admin.Node) bool { return n.Name == name })
}

// SetNode implements admin.Inventory.
func (s *stable) SetNode(r admin.NodeRequest, dry bool) (c admin.NodeChange, err error) {
	if s.find(r.Name) >= 0 {
		return c, nil
	}
	n := admin.Node{Name: r.Name, Role: strings.Join(r.Keys["role"], ""), Boot: "release", Added: true}
	for i, m := range r.Keys["macs"] {
		mac, err := node.ParseMAC(m)
		if err != nil {
			return c, fmt.Errorf("nodes[0] %q: macs[%d]: %w", r.Name, i, err)
		}
		n.MACs = append(n.MACs, mac)
	}
	if !dry {
		s.nodes = append(s.nodes, n)
	}
	c.Node = r.Name
	for _, key := range slices.Sorted(maps.Keys(r.Keys)) {
		c.Keys = append(c.Keys, admin.KeyChange{Key: key, New: strings.Join(r.Keys[key], ", ")})
	}
	return c, nil
}

// ReplaceNode implements admin.Inventory.
func (s *stable) ReplaceNode(r admin.NodeRequest, dry bool) (c admin.NodeChange, err error) {
	i := s.find(r.Name)
	if i < 0 {
		return c, fmt.Errorf("there is no node %q", r.Name)
	}
	n := &s.nodes[i]
	mac, err := node.ParseMAC(r.Keys["macs"][0])
	if err != nil || mac == n.MACs[0] {
		return c, err
	}
	ended := lease.Lease{Addr: n.Addr, MAC: n.MACs[0], State: lease.Bound}
	c = admin.NodeChange{Node: r.Name, Ended: []lease.Lease{ended}, Given: []lease.Lease{{Addr: netip.MustParseAddr("10.1.1.7"), MAC: mac, Node: r.Name}}, Keys: []admin.KeyChange{
		{Key: "macs", Old: n.MACs[0].String(), New: mac.String()}, {Key: "bmc", Old: n.BMC.String()},
	}}
	if !dry {
		n.MACs, n.BMC = []node.MAC{mac}, node.MAC{}
	}
	return c, nil
}

// RemoveNode implements admin.Inventory.
func (s *stable) RemoveNode(name string, force, dry bool) (c admin.NodeChange, err error) {
	i := s.find(name)
	switch {
	case i < 0:
		return c, fmt.Errorf("there is no node %q", name)
	case !s.nodes[i].Added:
		return c, fmt.Errorf("node %q is written in /etc/bootd/bootd.yaml, line 14: remove it there", name)
	case !force:
		return c, fmt.Errorf("node %q is booting (the firmware asked for an address): wait, or use --force", name)
	}
	c = admin.NodeChange{Node: name, Keys: []admin.KeyChange{{Key: "role", Old: s.nodes[i].Role}}}
	if !dry {
		s.nodes = slices.Delete(s.nodes, i, i+1)
	}
	return c, nil
}

func someNodes() stable {
	return stable{[]admin.Node{{
		Name: "ncn-w001", Role: "kubernetes", MACs: []node.MAC{{0x52, 0x54, 0, 0xaa, 0xbb, 1}, {0x52, 0x54, 0, 0xaa, 0xbb, 2}},
		BMC: node.MAC{0x52, 0x54, 0, 0xcc, 0xdd, 1}, UUID: node.UUID{0x11, 0x22, 0x33, 0x44}, Serial: "00123456", Addr: netip.MustParseAddr("10.1.0.11"),
		Boot: "release", Tags: map[string]string{"site": "paris", "rack": "r\x1b12"}, From: "/etc/bootd/bootd.yaml:14, /var/lib/bootd/nodes.yaml:5",
		Keys: map[string]string{"role": "/etc/bootd/bootd.yaml:14", "macs": "/var/lib/bootd/nodes.yaml:5", "bmc": "/var/lib/bootd/nodes.yaml:5",
			"uuid": "/etc/bootd/bootd.yaml:14", "serial": "/etc/bootd/bootd.yaml:14", "address": "/etc/bootd/bootd.yaml:14", "tags": "/etc/bootd/bootd.yaml:14"},
	}}}
}
