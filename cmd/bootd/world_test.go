package main

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"bootd/dhcp"
	"bootd/internal/config"
	"bootd/internal/node"
)

// everything sets each key of a class, and in one subnet or the other each key
// of a subnet, to what is not its default.
const everything = `
subnets:
  - interface: eth1
    relayed: true
    subnet: 10.2.0.0/16
    server: 10.1.0.1
    pools: [10.2.1.0-10.2.1.9 for ilo, 10.2.2.0-10.2.2.9 for unknown]
    exclude: [10.2.1.5]
    router: 10.2.0.1
    dns: [10.2.0.2]
    ntp: [10.2.0.3]
    domain: mtl
    search: [mtl]
    mtu: 9000
    routes: [10.0.0.0/8 via 10.2.0.4]
    options: [always 224 text hello]
    lease: 2h
    min-lease: 1h
    max-lease: 3h
    boot-lease: 10m
    renew: 20m
    rebind: 50m
    unknown: quarantine
    identity: client-id
    rapid-commit: true
    subnet-selection: true
    ipv6-only: 30m
  - {interface: eth2, mode: proxy}
classes:
  - {name: ilo, vendor-class: CPQRIB, user-class: corp, circuit-id: p1, remote-id: s1, arch: [7], mac: [94], uuid: [4c], lease: 1h, loader: ipxe, options: [mtu 1500]}
roles: [{name: kubernetes, options: [mtu 1400]}]
nodes: [{name: a, role: kubernetes, macs: [52:54:00:00:00:01], bmc: 52:54:00:00:00:02}]
`

// No key is lost on its way to the DHCP server: every field has a value.
func TestEveryKeyReachesDHCP(t *testing.T) {
	cfg, err := config.Parse("x.yaml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	class, list := classes(cfg)[0], subnets(cfg)
	hasValues(t, list[0], list[1])
	hasValues(t, list[0].Pools[0])
	hasValues(t, class)
	hasValues(t, class.Match)
	if got := list[0].Options; len(got) != 4 || !got[0].Always || string(got[0].Value) != "hello" {
		t.Errorf("options of the subnet: got %+v, want the one that is written, mtu, search and routes", got)
	}
	w := &world{inv: cfg.Inventory, options: nodeOptions(cfg)}
	for _, tt := range []struct {
		mac  node.MAC
		want dhcp.Machine
	}{
		{node.MAC{0x52, 0x54, 0, 0, 0, 1}, dhcp.Machine{Name: "a", Options: []dhcp.Option{{Code: 26, Value: []byte{0x05, 0x78}}}}},
		{node.MAC{0x52, 0x54, 0, 0, 0, 2}, dhcp.Machine{Name: "a-mgmt", BMC: true}},
		{node.MAC{0x52, 0x54, 0, 0, 0, 3}, dhcp.Machine{}},
	} {
		if got := w.Find(dhcp.Client{MAC: tt.mac}); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: got %+v, want %+v", tt.mac, got, tt.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { w.Find(dhcp.Client{MAC: node.MAC{0x52, 0x54, 0, 0, 0, 1}}) }); n != 0 {
		t.Errorf("got %v allocations for a node with options, want none: it is done for every packet", n)
	}
}

// A node's own loader comes before that of the classes a machine is of, and
// that before its role's and the site's; and what it was told is known when it
// asks for its script, by when nobody knows its classes.
func TestLoaderOfClass(t *testing.T) {
	cfg, err := config.Parse("x.yaml", []byte(`
loader: grub
classes: [{name: old, mac: ["52"], loader: ipxe-shim}]
roles: [{name: kubernetes, loader: ipxe}]
nodes:
  - {name: a, role: kubernetes, macs: [52:54:00:00:00:01]}
  - {name: b, role: kubernetes, macs: [52:54:00:00:00:02], loader: snponly}
  - {name: c, role: storage-ceph, macs: [52:54:00:00:00:03]}
`))
	if err != nil {
		t.Fatal(err)
	}
	class := classes(cfg)[0].Loader
	w := &world{cfg: cfg, inv: cfg.Inventory, wanted: new(wanted)}
	for _, tt := range []struct {
		last  byte // of the MAC address
		class node.Loader
		want  node.Loader
	}{
		{1, node.LoaderAny, node.LoaderIPXE},
		{1, class, node.LoaderIPXEShim},
		{2, class, node.LoaderSNPOnly},
		{3, class, node.LoaderIPXEShim},
		{3, node.LoaderAny, node.LoaderGRUB}, // of the class no more
		{4, class, node.LoaderIPXEShim},
		{5, node.LoaderAny, node.LoaderGRUB},
	} {
		mac := node.MAC{0x52, 0x54, 0, 0, 0, tt.last}
		if got := w.choice(dhcp.Client{MAC: mac, Loader: tt.class}); got != tt.want {
			t.Errorf("%v, class wants %q: got %q, want %q", mac, tt.class, got, tt.want)
		}
		n, _ := cfg.Inventory.Find(mac, node.UUID{}, "")
		if got := w.toldLoader(n, mac); got != tt.want {
			t.Errorf("%v asks for its script: got %q, want %q", mac, got, tt.want)
		}
	}
}

// A configuration that is reloaded while a machine loads its loader does not
// make it another: a kernel that is started without its shim would be refused.
func TestLoaderOutlivesReload(t *testing.T) {
	cfg, d, mac := config.Default(), new(daemon), node.MAC{0x52, 0x54, 0, 0, 0, 1}
	d.newWorld(cfg).choice(dhcp.Client{MAC: mac, Loader: node.LoaderIPXEShim})
	if got := d.newWorld(cfg).toldLoader(nil, mac); got != node.LoaderIPXEShim {
		t.Errorf("after a reload: got %q, want %q", got, node.LoaderIPXEShim)
	}
}

// hasValues checks that each field of a struct has a value in one of several.
func hasValues(t *testing.T, several ...any) {
	t.Helper()
	for _, f := range reflect.VisibleFields(reflect.TypeOf(several[0])) {
		if !slices.ContainsFunc(several, func(v any) bool { return !reflect.ValueOf(v).FieldByIndex(f.Index).IsZero() }) {
			t.Errorf("%T: %s has no value", several[0], f.Name)
		}
	}
}

// What config and dhcp must agree on, because neither imports the other.
func TestConfigAgreesWithDHCP(t *testing.T) {
	if config.MaxClasses != dhcp.MaxClasses {
		t.Errorf("classes: config allows %d, dhcp %d", config.MaxClasses, dhcp.MaxClasses)
	}
	for _, pair := range [][2]string{{config.ClassKnown, dhcp.ClassKnown}, {config.ClassBMC, dhcp.ClassBMC}, {config.ClassUnknown, dhcp.ClassUnknown}} {
		if pair[0] != pair[1] {
			t.Errorf("class: config has %q, dhcp %q", pair[0], pair[1])
		}
	}
}

// A relayed subnet more on the same address needs no other socket, and so no
// restart.
func TestSockets(t *testing.T) {
	on := func(iface, server string) config.Subnet {
		return config.Subnet{Interface: iface, Server: netip.MustParseAddr(server)}
	}
	one, two := on("eth1", "10.1.0.1"), on("eth2", "10.1.0.1")
	for _, tt := range []struct {
		old, new []config.Subnet
		same     bool
	}{
		{[]config.Subnet{one}, []config.Subnet{one, one}, true},
		{[]config.Subnet{one, two}, []config.Subnet{two, one}, true},
		{[]config.Subnet{one}, []config.Subnet{one, two}, false},
		{[]config.Subnet{one}, []config.Subnet{on("eth1", "10.1.0.2")}, false},
	} {
		old, new := sockets(&config.Config{Subnets: tt.old}), sockets(&config.Config{Subnets: tt.new})
		if same := reflect.DeepEqual(old, new); same != tt.same {
			t.Errorf("sockets %v and %v: same %v, want %v", old, new, same, tt.same)
		}
	}
}
