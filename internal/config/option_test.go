package config

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The encodings are those of the RFCs' own examples, or written by hand after
// the section named.
func TestOptionValues(t *testing.T) {
	for _, tt := range []struct {
		text string
		code byte
		want string // hexadecimal
	}{
		{"150 ip 10.17.0.1", 150, "0a110001"},
		{"150 ip 10.17.0.1, 10.17.0.2,10.17.0.3 10.17.0.4", 150, "0a110001" + "0a110002" + "0a110003" + "0a110004"},
		{"224 text  hello  world ", 224, "68656c6c6f2020776f726c64"},
		{"43 hex 0104deadbeef", 43, "0104deadbeef"},
		{"vendor 01:04:DE:AD", 43, "0104dead"},
		{"224 u8 255", 224, "ff"},
		{"26 u16 9000", 26, "2328"},
		{"mtu 1500", 26, "05dc"},
		{"224 u32 4294967295", 224, "ffffffff"},
		{"time-offset -25200", 2, "ffff9d90"},                                          // RFC 2132, section 3.4: two's complement
		{"search eng.apple.com", 119, "03656e67" + "056170706c65" + "03636f6d" + "00"}, // RFC 3397, section 2
		{"domain-search a B.c", 119, "0161" + "00" + "0162" + "0163" + "00"},
		// RFC 3442, "DHCP Client Behavior": destinations and their descriptors
		{"routes 0.0.0.0/0 via 192.0.2.1", 121, "00" + "c0000201"},
		{"routes 10.0.0.0/8 via 192.0.2.1", 121, "080a" + "c0000201"},
		{"routes 10.0.0.0/24 via 192.0.2.1", 121, "180a0000" + "c0000201"},
		{"routes 10.17.0.0/16 via 192.0.2.1", 121, "100a11" + "c0000201"},
		{"routes 10.27.129.0/24 via 192.0.2.1", 121, "180a1b81" + "c0000201"},
		{"routes 10.229.0.128/25 via 192.0.2.1", 121, "190ae50080" + "c0000201"},
		{"routes 10.198.122.47/32 via 192.0.2.1", 121, "200ac67a2f" + "c0000201"},
		{"249 routes 10.0.0.0/8 via 192.0.2.1, 10.17.0.0/16 via 192.0.2.2", 249, "080a" + "c0000201" + "100a11" + "c0000202"},
	} {
		o, err := parseOption(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
		} else if got := hex.EncodeToString(o.Value); got != tt.want || o.Code != tt.code || o.Always {
			t.Errorf("%q: got option %d %s, always %v, want option %d %s", tt.text, o.Code, got, o.Always, tt.code, tt.want)
		}
	}
	for text, code := range map[string]byte{"always  mtu  1500": 26, "router 10.1.0.1": 3, "6 ip 10.1.0.1": 6} {
		if o, err := parseOption(text); err != nil || !o.Always || o.Code != code {
			t.Errorf("%q: got %+v, %v, want option %d, always", text, o, err, code)
		}
	}
}

// Each name is of an option that can be set, and of a type that exists.
func TestKnownOptions(t *testing.T) {
	for _, k := range known {
		if notOurs[k.code] != "" || kinds[k.kind] == nil {
			t.Errorf("%s is option %d, which %s, of type %s", k.name, k.code, notOurs[k.code], k.kind)
		}
	}
}

// Node over role, and the router among the routes.
func TestTold(t *testing.T) {
	c, err := Parse("x.yaml", []byte(`
subnets:
  - {interface: e, subnet: 10.1.0.0/16, router: 10.1.0.1, mtu: 9000, search: [mtl], routes: [10.0.0.0/8 via 10.1.0.2], options: [150 ip 10.1.0.3]}
  - {interface: f, subnet: 10.2.0.0/16, routes: [10.0.0.0/8 via 10.2.0.2]}
  - {interface: g, subnet: 10.3.0.0/16, router: 10.3.0.1}
roles: [{name: kubernetes, options: [mtu 1500, 224 text role]}]
nodes:
  - {name: a, role: kubernetes, macs: [52:54:00:00:00:01], options: [always mtu 1400]}
  - {name: b, role: kubernetes, macs: [52:54:00:00:00:02]}
  - {name: c, role: storage-ceph, macs: [52:54:00:00:00:03]}
`))
	if err != nil {
		t.Fatal(err)
	}
	wantTold := [][]DHCPOption{
		{
			{150, []byte{10, 1, 0, 3}, false}, {26, []byte{0x23, 0x28}, false}, {119, []byte("\x03mtl\x00"), false},
			{121, []byte{8, 10, 10, 1, 0, 2, 0, 10, 1, 0, 1}, false},
		},
		{{121, []byte{8, 10, 10, 2, 0, 2}, false}},
		nil,
	}
	for i, want := range wantTold {
		if diff := cmp.Diff(want, c.Subnets[i].Told()); diff != "" {
			t.Errorf("subnets[%d]: want (-) got (+):\n%s", i, diff)
		}
	}
	wantNodes := map[string][]DHCPOption{
		"a": {{26, []byte{0x05, 0x78}, true}, {224, []byte("role"), false}},
		"b": {{26, []byte{0x05, 0xdc}, false}, {224, []byte("role"), false}},
	}
	if diff := cmp.Diff(wantNodes, c.NodeOptions); diff != "" {
		t.Errorf("nodes: want (-) got (+):\n%s", diff)
	}
}

// FuzzOption holds that no text makes parseOption panic, and that an option
// which it accepts can be sent.
func FuzzOption(f *testing.F) {
	for _, s := range []string{"", "always", "always 17 text x1000", "mtu 9000", "121 routes 10.0.0.0/8 via 10.1.0.1,", "search a..b", "150 ip ,", "43 hex 0", "255 hex 00", "2 i32 -1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := parseOption(s)
		if err == nil && (o.Code == 0 || o.Code == 255 || len(o.Value) == 0 || len(o.Value) > 255) {
			t.Errorf("%q: got %+v", s, o)
		}
	})
}
