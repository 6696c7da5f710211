package node_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"bootd/internal/node"
)

func mac(last byte) node.MAC { return node.MAC{0x52, 0x54, 0, 0xaa, 0xbb, last} }

func TestParseMAC(t *testing.T) {
	want := node.MAC{0x52, 0x54, 0x00, 0xaa, 0xbb, 0x07}
	for _, s := range []string{
		"52:54:00:aa:bb:07", "52-54-00-aa-bb-07", "5254.00aa.bb07", "525400aabb07",
		"52:54:00:AA:BB:07", "52-54-00-AA-BB-07", "5254.00AA.BB07", "525400AABB07",
	} {
		if got, err := node.ParseMAC(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "52:54:00:aa:bb", "52:54:00:aa:bb:07:08", "52:54:00:aa:bb:0g", "52:54-00:aa:bb:07", "52:54:0:0aa:bb:07",
		"5254:00aa:bb07", "52.54.00.aa.bb.07", " 525400aabb07", "525400aabb0", "52:54:00:aa:bb:07\n", "5254.00aabb07.",
		":::::525400aabb07", "10.1.0.1",
	} {
		_, err := node.ParseMAC(s)
		if err == nil || !strings.HasSuffix(err.Error(), "is not a MAC address such as 52:54:00:aa:bb:07") {
			t.Errorf("%q: got %v, want that it is not a MAC address", s, err)
		}
	}
}

func TestMAC(t *testing.T) {
	m := node.MAC{0x52, 0x54, 0x00, 0xaa, 0xbb, 0x07}
	if got, want := m.String(), "52:54:00:aa:bb:07"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := m.Hyphen(), "52-54-00-aa-bb-07"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for s, group := range map[string]bool{
		"ff:ff:ff:ff:ff:ff": true, "01:00:5e:00:00:fb": true, "33:33:00:00:00:01": true, "52:54:00:aa:bb:07": false,
		"00:00:00:00:00:00": false, "02:00:00:00:00:00": false,
	} {
		m, err := node.ParseMAC(s)
		if err != nil || m.IsGroup() != group {
			t.Errorf("%s: group is %v, %v, want %v", s, m.IsGroup(), err, group)
		}
	}
	var back node.MAC
	for _, m := range []node.MAC{m, {}} {
		text, err := m.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := back.UnmarshalText(text); err != nil || back != m {
			t.Errorf("%q: got %v, %v, want %v", text, back, err, m)
		}
	}
	if err := back.UnmarshalText([]byte("x")); err == nil {
		t.Error("x: got no error")
	}
}

func TestUUID(t *testing.T) {
	want := node.UUID{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00}
	const text = "11223344-5566-7788-99aa-bbccddeeff00"
	for _, s := range []string{text, strings.ToUpper(text), strings.ReplaceAll(text, "-", "")} {
		if got, err := node.ParseUUID(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	if got := want.String(); got != text {
		t.Errorf("got %s, want %s", got, text)
	}
	for _, s := range []string{"", "1122", text + "00", "g" + text[1:], "{" + text + "}"} {
		_, err := node.ParseUUID(s)
		if err == nil || !strings.HasSuffix(err.Error(), "is not a UUID such as "+text) {
			t.Errorf("%q: got %v, want that it is not a UUID", s, err)
		}
	}
	for s, plausible := range map[string]bool{ // protocol.md 2.1
		text:                                   true,
		"00000000-0000-0000-0000-000000000000": false,
		"ffffffff-ffff-ffff-ffff-ffffffffffff": false,
		"03000200-0400-0500-0006-000700080009": false,
		"03000200-0400-0500-0006-00070008000a": true,
	} {
		u, err := node.ParseUUID(s)
		if err != nil || u.Plausible() != plausible {
			t.Errorf("%s: plausible is %v, %v, want %v", s, u.Plausible(), err, plausible)
		}
		back := node.UUID{1}
		if b, err := u.MarshalText(); err != nil || back.UnmarshalText(b) != nil || back != u {
			t.Errorf("%s: got %v from its text", s, back)
		}
	}
}

func TestWant(t *testing.T) {
	for s, want := range map[string]node.Want{
		"": node.WantRelease, "release": node.WantRelease, "local": node.WantLocal, "hold": node.WantHold,
	} {
		got, err := node.ParseWant(s)
		if err != nil || got != want || s != "" && got.String() != s {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
	if _, err := node.ParseWant("disk"); err == nil || err.Error() != `"disk" is not one of release, local, hold` {
		t.Errorf("disk: got %v", err)
	}
}

func TestValidName(t *testing.T) {
	for s, want := range map[string]bool{ // RFC 1123, 2.1; RFC 1035, 2.3.4
		"ncn-m001": true, "a": true, "0": true, "a-b": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, "a/b": false, "..": false, "a\n": false,
		strings.Repeat("a", 64): false, "\u00e9": false,
	} {
		if got := node.ValidName(s); got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	}
}

var roles = []node.Role{{Name: "r"}}

func TestNewInventoryFaults(t *testing.T) {
	a := node.Node{
		Name: "a", Role: "r", MACs: []node.MAC{mac(1), mac(2)}, BMC: mac(3),
		UUID: node.UUID{1, 2}, Serial: "s", Addr: netip.MustParseAddr("10.1.0.1"),
	}
	with := func(change func(*node.Node)) []node.Node {
		b := node.Node{Name: "b", Role: "r", MACs: []node.MAC{mac(9)}}
		change(&b)
		return []node.Node{a, b}
	}
	for _, tt := range []struct {
		nodes []node.Node
		want  string
	}{
		{with(func(b *node.Node) {}), ""},
		{with(func(b *node.Node) { b.Name = "a" }), `node "a": name: used twice`},
		{with(func(b *node.Node) { b.Name = "B" }), `node "B": name: "B" is not a host name in lower case (letters, digits, hyphens)`},
		{with(func(b *node.Node) { b.Role = "x" }), `node "b": role: "x" is not defined`},
		{with(func(b *node.Node) { b.MACs = nil }), `node "b": macs: a node needs at least one MAC address to be known by`},
		{with(func(b *node.Node) { b.MACs = append(b.MACs, mac(2)) }), `node "b": macs[1]: 52:54:00:aa:bb:02 belongs to node "a" too`},
		{with(func(b *node.Node) { b.MACs = append(b.MACs, mac(9)) }), `node "b": macs[1]: 52:54:00:aa:bb:09 is in the list twice`},
		{with(func(b *node.Node) { b.MACs = []node.MAC{{}} }), `node "b": macs[0]: 00:00:00:00:00:00 is the zero address, which no NIC has`},
		{with(func(b *node.Node) { b.MACs = []node.MAC{{1}} }), `node "b": macs[0]: 01:00:00:00:00:00 is a multicast address, which no NIC has`},
		{with(func(b *node.Node) { b.BMC = mac(3) }), `node "b": bmc: 52:54:00:aa:bb:03 belongs to node "a" too`},
		{with(func(b *node.Node) { b.BMC = mac(2) }), `node "b": bmc: 52:54:00:aa:bb:02 is a boot MAC of node "a"`},
		{with(func(b *node.Node) { b.BMC = mac(9) }), `node "b": bmc: 52:54:00:aa:bb:09 is a boot MAC of node "b"`},
		{with(func(b *node.Node) { b.MACs[0] = mac(3) }), `node "a": bmc: 52:54:00:aa:bb:03 is a boot MAC of node "b"`},
		{with(func(b *node.Node) { b.BMC = node.MAC{1} }), `node "b": bmc: 01:00:00:00:00:00 is a multicast address, which no NIC has`},
		{with(func(b *node.Node) { b.UUID = a.UUID }), `node "b": uuid: 01020000-0000-0000-0000-000000000000 belongs to node "a" too`},
		{with(func(b *node.Node) { b.Serial = "s" }), `node "b": serial: "s" belongs to node "a" too`},
		{with(func(b *node.Node) { b.Addr = a.Addr }), `node "b": address: 10.1.0.1 is reserved for node "a" too`},
		{with(func(b *node.Node) { b.Role, b.MACs = "x", nil }),
			"node \"b\": role: \"x\" is not defined\nnode \"b\": macs: a node needs at least one MAC address to be known by"},
	} {
		_, err := node.NewInventory(tt.nodes, roles)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}

	_, err := node.NewInventory(nil, []node.Role{{Name: "r"}, {Name: "r"}})
	var f *node.Fault
	if !errors.As(err, &f) {
		t.Fatalf("got %T, want a *node.Fault", err)
	}
	if want := (node.Fault{List: "roles", Index: 1, Name: "r", Field: "name", Item: -1, Problem: "defined twice"}); *f != want {
		t.Errorf("got %+v, want %+v", *f, want)
	}
	if got, want := f.Error(), `role "r": name: defined twice`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestInventory(t *testing.T) {
	uuid, other := node.UUID{1, 2}, node.UUID{3, 4}
	inv, err := node.NewInventory([]node.Node{
		{Name: "b", Role: "r", MACs: []node.MAC{mac(1), mac(2)}, BMC: mac(3), UUID: uuid, Serial: "S1"},
		{Name: "a", Role: "r", MACs: []node.MAC{mac(4)}, UUID: other},
	}, roles)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why    string
		m      node.MAC
		u      node.UUID
		serial string
		want   string
	}{
		{"first MAC", mac(1), node.UUID{}, "", "b"},
		{"second MAC", mac(2), node.UUID{}, "", "b"},
		{"MAC is trusted over UUID", mac(4), uuid, "S1", "a"},
		{"UUID", mac(9), other, "", "a"},
		{"UUID is trusted over serial", mac(9), other, "S1", "a"},
		{"serial", node.MAC{}, node.UUID{}, "S1", "b"},
		{"a BMC is not its node", mac(3), node.UUID{}, "", ""},
		{"nothing", node.MAC{}, node.UUID{}, "", ""},
		{"unknown", mac(9), node.UUID{9}, "S9", ""},
	} {
		got := ""
		if n, ok := inv.Find(tt.m, tt.u, tt.serial); ok {
			got = n.Name
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
	if n, ok := inv.ByBMC(mac(3)); !ok || n.Name != "b" {
		t.Errorf("by BMC: got %v, %v", n, ok)
	}
	if n, ok := inv.ByName("a"); !ok || n.MACs[0] != mac(4) {
		t.Errorf("by name: got %v, %v", n, ok)
	}
	if _, ok := inv.ByMAC(mac(3)); ok {
		t.Error("by MAC of a BMC: found a node")
	}
	if _, ok := inv.Role("r"); !ok || len(inv.Roles()) != 1 {
		t.Errorf("roles: got %v", inv.Roles())
	}
	if list := inv.Nodes(); len(list) != 2 || list[0].Name != "b" {
		t.Errorf("nodes: got %v, want them in the order given", list)
	}
	var zero node.Inventory
	if _, ok := zero.Find(mac(1), uuid, "S1"); ok || len(zero.Nodes()) != 0 {
		t.Error("the zero inventory has a node")
	}
}

// What ParseMAC accepts, its text means the same.
func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"52:54:00:aa:bb:07", "5254.00aa.bb07", "525400aabb07", "52-54-00-aa-bb-07", "x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := node.ParseMAC(s)
		if err != nil {
			return
		}
		for _, text := range []string{m.String(), m.Hyphen()} {
			if back, err := node.ParseMAC(text); err != nil || back != m {
				t.Errorf("%q: %s reads as %v, %v", s, text, back, err)
			}
		}
	})
}
